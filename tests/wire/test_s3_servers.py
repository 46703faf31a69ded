"""The S3 provider against real servers: SeaweedFS, which checks signatures and checksums, and moto."""

import functools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from cloud_mirror.policy import MIB, PoolPolicy
from cloud_mirror.wire.checksums import combine_parts, crc64nvme
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.storage import FaultKind, ObjectAttributes, PartReceipt, ServiceFault
from tests.servers import Moto, SeaweedFS
from tests.wire.exchange import Asker, send

KEPT = ObjectAttributes(
    content_type="text/x",
    content_encoding="gzip",
    content_disposition='attachment;  filename="a  b"',
    content_language="de",
    metadata=(("copy-id", "c"), ("url", "https://a/b?c")),
)
KEYS = ("00/abc/0/plain", "00/abc/0/é +%20()!'*;:@&=$,?#[]~ a.txt", "00/abc/0/ü/..hidden...")


@dataclass(frozen=True, slots=True)
class Store:
    """A server with a bucket of its own."""

    pool: PoolPolicy
    s3: S3Provider
    ask: Asker
    checks: bool  # whether it compares checksums


def run_setup(s3: S3Provider, ask: Asker) -> list[bool]:
    return [ask(step.request, functools.partial(s3.read_setup, step)) for step in s3.setup_steps()]


def made(endpoint_url: str, access_key: str, secret_key: str, checks: bool) -> Store:
    pool = PoolPolicy("s3", "us-west-1", f"bucket-{secrets.token_hex(8)}", endpoint_url=endpoint_url)
    s3 = S3Provider(pool)
    ask = Asker(s3, access_key, secret_key)
    run_setup(s3, ask)
    return Store(pool, s3, ask, checks)


@pytest.fixture(params=["seaweedfs", "moto"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "moto":
        moto: Moto = request.getfixturevalue("moto")
        return made(moto.url, "test", "test", checks=False)
    seaweedfs: SeaweedFS = request.getfixturevalue("seaweedfs")
    return made(seaweedfs.endpoint_url, seaweedfs.access_key, seaweedfs.secret_key, checks=True)


def upload(store: Store, key: str, bodies: tuple[bytes, ...]) -> tuple[str, tuple[PartReceipt, ...]]:
    s3, ask = store.s3, store.ask
    upload_id = ask(s3.create_upload_request(key, KEPT), s3.read_create_upload)
    parts = []
    for number, body in enumerate(bodies, 1):
        crc = crc64nvme(body)
        etag = ask(s3.upload_part_request(key, upload_id, number, memoryview(body), crc), s3.read_upload_part)
        parts.append(PartReceipt(number, etag, len(body), crc))
    return upload_id, tuple(parts)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("body", [b"", b"\x00\xff body"])
def test_an_object_is_found_as_it_was_put(store: Store, key: str, body: bytes) -> None:
    s3, ask = store.s3, store.ask
    assert ask(s3.head_request(key), s3.read_head) is None
    assert ask(s3.get_request(key), s3.read_get) is None
    etag = ask(s3.put_request(key, memoryview(body), KEPT, crc64nvme(body)), s3.read_put)
    found = ask(s3.head_request(key), s3.read_head)
    assert found is not None
    assert (found.size, found.etag, found.crc64nvme) == (len(body), etag, crc64nvme(body))
    assert sorted(found.metadata) == sorted(KEPT.metadata)
    assert 86_390 < found.life_left_s <= 86_400
    assert ask(s3.get_request(key), s3.read_get) == body
    assert ask(s3.list_objects_request("00/abc/"), s3.read_list_objects).keys == (key,)
    assert ask(s3.list_objects_request("00/ab/"), s3.read_list_objects).keys == ()
    for _ in range(2):  # there or not
        ask(s3.delete_request(key), s3.read_delete)
    assert ask(s3.head_request(key), s3.read_head) is None


@pytest.mark.parametrize("key", KEYS)
def test_a_client_without_credentials_gets_the_copy_from_its_location(store: Store, key: str) -> None:
    s3, ask = store.s3, store.ask
    ask(s3.put_request(key, b"body", KEPT), s3.read_put)
    request = s3.get_request(key)
    assert s3.location(key) == request.url
    answer = send(request)
    assert (answer.status, answer.body) == (200, b"body")
    kept = ("content-type", "content-encoding", "content-disposition", "content-language")
    assert [answer.header(name) for name in kept] == ["text/x", "gzip", 'attachment;  filename="a  b"', "de"]


def test_parts_become_an_object_with_the_checksum_of_the_whole(store: Store) -> None:
    s3, ask = store.s3, store.ask
    key, bodies = KEYS[1], (b"a" * (5 * MIB), b"tail")
    upload_id, parts = upload(store, key, bodies)
    page = ask(s3.list_uploads_request("00/abc/"), s3.read_list_uploads)
    assert [(each.key, each.upload_id) for each in page.uploads] == [(key, upload_id)]
    assert ask(s3.list_uploads_request("01/"), s3.read_list_uploads).uploads == ()
    size, crc = sum(map(len, bodies)), combine_parts((part.crc, part.size) for part in parts)
    request = s3.complete_upload_request(key, upload_id, parts[::-1], size, crc)
    etag = ask(request, s3.read_complete_upload)
    found = ask(s3.head_request(key), s3.read_head)
    assert found is not None
    assert (found.size, found.etag, found.crc64nvme) == (size, etag, crc64nvme(b"".join(bodies)))
    assert sorted(found.metadata) == sorted(KEPT.metadata)
    assert ask(s3.get_request(key), s3.read_get) == b"".join(bodies)
    assert ask(s3.list_uploads_request("00/abc/"), s3.read_list_uploads).uploads == ()


def test_an_upload_that_is_given_up_leaves_nothing(store: Store) -> None:
    s3, ask = store.s3, store.ask
    upload_id, parts = upload(store, "00/abc/0/x", (b"part",))
    for _ in range(2):  # there or not
        ask(s3.abort_upload_request("00/abc/0/x", upload_id), s3.read_abort_upload)
    assert ask(s3.list_uploads_request("00/"), s3.read_list_uploads).uploads == ()
    with pytest.raises(ServiceFault) as caught:
        ask(s3.complete_upload_request("00/abc/0/x", upload_id, parts, 4, parts[0].crc), s3.read_complete_upload)
    expected = "NoSuchUpload" if store.checks else "500"  # moto breaks there
    assert caught.value.code == expected
    assert ask(s3.head_request("00/abc/0/x"), s3.read_head) is None


def test_a_wrong_checksum_makes_no_object(seaweedfs: SeaweedFS) -> None:
    store = made(seaweedfs.endpoint_url, seaweedfs.access_key, seaweedfs.secret_key, checks=True)
    s3, ask = store.s3, store.ask
    upload_id, parts = upload(store, "00/m", (b"part",))
    wrong = crc64nvme(b"other")
    for request, read in (
        (s3.put_request("00/p", b"body", KEPT, wrong), s3.read_put),
        (s3.upload_part_request("00/m", upload_id, 2, b"body", wrong), s3.read_upload_part),
        (s3.complete_upload_request("00/m", upload_id, parts, 4, wrong), s3.read_complete_upload),
    ):
        with pytest.raises(ServiceFault) as caught:
            ask(request, read)
        assert caught.value.kind is FaultKind.REJECTED
    assert ask(s3.list_objects_request("00/"), s3.read_list_objects).keys == ()


def test_wrong_credentials_are_denied_and_not_taken_for_absence(seaweedfs: SeaweedFS) -> None:
    store = made(seaweedfs.endpoint_url, seaweedfs.access_key, seaweedfs.secret_key, checks=True)
    stranger = Asker(store.s3, seaweedfs.access_key, "wrong")
    for request, read in (
        (store.s3.head_request("00/k"), store.s3.read_head),
        (store.s3.get_request("00/k"), store.s3.read_get),
    ):
        with pytest.raises(ServiceFault) as caught:
            stranger(request, read)
        assert caught.value.kind is FaultKind.DENIED


def test_setup_may_be_run_again(store: Store) -> None:
    again = run_setup(store.s3, store.ask)
    assert again == [False, True, not store.checks, True]  # SeaweedFS has no public access block


def test_what_setup_did_is_seen_and_what_it_did_not(store: Store) -> None:
    def checked(s3: S3Provider) -> list[bool]:
        return [
            store.ask(step.check, functools.partial(s3.read_setup_check, step))
            for step in s3.setup_steps()
            if step.check is not None
        ]

    assert checked(store.s3) == [True, True, True, True]
    longer = S3Provider(replace(store.pool, lifespan_days=7))
    assert checked(longer) == [True, False, True, True]
    nowhere = S3Provider(replace(store.pool, bucket="bucket-nowhere"))
    assert checked(nowhere)[:2] == [False, False]


def test_listings_are_read_page_by_page(store: Store) -> None:
    s3, ask = store.s3, store.ask
    keys = [f"00/abc/0/é {number}" for number in range(5)]
    for key in keys:
        ask(s3.put_request(key, b"", ObjectAttributes()), s3.read_put)
    pages: list[tuple[str, ...]] = []
    marker = ""
    while not pages or marker:
        request = s3.list_objects_request("00/", marker)
        page = ask(replace(request, target=f"{request.target}&max-keys=2"), s3.read_list_objects)
        pages.append(page.keys)
        marker = page.next_marker
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [key for page in pages for key in page] == keys


@pytest.fixture
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A SeaweedFS that nobody may read but by a bucket's policy."""
    directory = tmp_path_factory.mktemp("closed")
    server = SeaweedFS(directory)
    config = directory / "s3.json"
    opened = config.read_text()
    config.write_text(opened.replace('"anonymous"', '"nobody"'))
    server.start()
    yield made(server.endpoint_url, server.access_key, server.secret_key, checks=True)
    server.stop()


def test_setup_opens_the_copies_and_nothing_else(closed: Store) -> None:
    s3, ask = closed.s3, closed.ask
    statuses = {}
    for key in ("00/abc/0/x", "ff/abc/0/x", "purged/abc", "dead/abc"):
        ask(s3.put_request(key, b"body", KEPT), s3.read_put)
        assert ask(s3.get_request(key), s3.read_get) == b"body"  # the mirror itself reads all
        statuses[key] = send(s3.get_request(key)).status
    assert statuses == {"00/abc/0/x": 200, "ff/abc/0/x": 200, "purged/abc": 403, "dead/abc": 403}
    for request in (s3.list_objects_request("00/"), s3.put_request("00/y", b"", KEPT), s3.delete_request("00/abc/0/x")):
        with pytest.raises(ServiceFault) as caught:
            s3.read_delete(send(request))
        assert caught.value.kind is FaultKind.DENIED
