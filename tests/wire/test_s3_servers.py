"""The S3 provider against real servers: SeaweedFS, which checks signatures and checksums, and moto."""

import functools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_mirror.policy import MIB, PoolPolicy
from cloud_mirror.wire.aws import AwsService
from cloud_mirror.wire.calls import HttpReply, HttpRequest
from cloud_mirror.wire.checksums import combine_parts, crc64nvme
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.storage import BucketObject, FaultKind, ObjectAttributes, PartReceipt, ServiceFault
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


def test_the_parts_of_an_upload_are_listed_page_by_page(store: Store) -> None:
    s3, ask = store.s3, store.ask
    key = KEYS[1]
    upload_id, parts = upload(store, key, (b"one", b"two!", b"three"))
    listed = tuple(replace(part, crc="") for part in parts)  # neither server lists it
    request = s3.list_parts_request(key, upload_id)
    assert ask(request, s3.read_list_parts).parts == listed
    first = ask(replace(request, target=request.target.replace("max-parts=1000", "max-parts=2")), s3.read_list_parts)
    assert (first.parts, first.next_marker) == (listed[:2], "2")
    last = ask(s3.list_parts_request(key, upload_id, first.next_marker), s3.read_list_parts)
    assert (last.parts, last.next_marker) == (listed[2:], "")
    ask(s3.abort_upload_request(key, upload_id), s3.read_abort_upload)
    with pytest.raises(ServiceFault) as caught:
        ask(request, s3.read_list_parts)
    assert (caught.value.kind, caught.value.code) == (FaultKind.NOT_FOUND, "NoSuchUpload")


def test_an_upload_is_completed_by_what_the_store_lists(store: Store) -> None:
    """As somebody does who takes it over, and knows of its parts only that."""
    s3, ask = store.s3, store.ask
    bodies = (b"a" * (5 * MIB), b"tail")
    upload_id, _ = upload(store, KEYS[0], bodies)
    listed = ask(s3.list_parts_request(KEYS[0], upload_id), s3.read_list_parts).parts
    whole = b"".join(bodies)
    request = s3.complete_upload_request(KEYS[0], upload_id, listed, len(whole), crc64nvme(whole))
    etag = ask(request, s3.read_complete_upload)
    found = ask(s3.head_request(KEYS[0]), s3.read_head)
    assert found is not None
    assert (found.size, found.etag, found.crc64nvme) == (len(whole), etag, crc64nvme(whole))


def test_an_upload_is_listed_with_its_beginning_by_the_store_s_clock(store: Store) -> None:
    s3, ask = store.s3, store.ask
    upload_id, _ = upload(store, KEYS[0], ())
    page = ask(s3.list_uploads_request(""), s3.read_list_uploads)
    (listed,) = page.uploads
    assert listed.upload_id == upload_id
    assert listed.initiated is not None
    assert page.now is not None
    age = page.now - listed.initiated
    assert (
        age < timedelta(minutes=1) if store.checks else age > timedelta(days=365)
    )  # moto: always the same day of 2010


def source_in(store: Store, body: bytes) -> BucketObject:
    """An object in another bucket of the same server, with attributes of its own."""
    other = S3Provider(replace(store.pool, bucket=f"source-{secrets.token_hex(8)}"))
    bucket = other.setup_steps()[0]
    store.ask(bucket.request, functools.partial(other.read_setup, bucket))
    own = ObjectAttributes("text/source", metadata=(("owner", "somebody"),))
    etag = store.ask(other.put_request(KEYS[1], body, own, crc64nvme(body)), other.read_put)
    return BucketObject(other.location(KEYS[1]).split("/")[3], KEYS[1], etag)


def test_a_copy_within_the_store_keeps_what_it_is_given(store: Store) -> None:
    s3, ask = store.s3, store.ask
    body = b"body of the source"
    source = source_in(store, body)
    etag = ask(s3.copy_object_request(KEYS[2], source, KEPT), s3.read_copy_object)
    found = ask(s3.head_request(KEYS[2]), s3.read_head)
    assert found is not None
    assert (found.size, found.etag, found.crc64nvme) == (len(body), etag, crc64nvme(body))
    assert sorted(found.metadata) == sorted(KEPT.metadata)
    answer = send(s3.get_request(KEYS[2]))
    assert (answer.body, answer.header("content-type")) == (body, "text/x")


def test_an_upload_is_made_of_ranges_within_the_store(store: Store) -> None:
    s3, ask = store.s3, store.ask
    body = b"x" * (5 * MIB) + b"y" * (MIB + 1)
    source = source_in(store, body)
    upload_id, _ = upload(store, KEYS[1], ())
    parts = []
    for number, (first, last) in enumerate(((0, 5 * MIB - 1), (5 * MIB, len(body) - 1)), 1):
        request = s3.copy_part_request(KEYS[1], upload_id, number, source, first, last)
        parts.append(ask(request, functools.partial(s3.read_copy_part, number, last - first + 1)))
    listed = ask(s3.list_parts_request(KEYS[1], upload_id), s3.read_list_parts).parts
    assert listed == tuple(replace(part, crc="") for part in parts)
    crcs = [crc64nvme(body[: 5 * MIB]), crc64nvme(body[5 * MIB :])] if store.checks else ["", ""]
    assert [part.crc for part in parts] == crcs
    ask(s3.complete_upload_request(KEYS[1], upload_id, parts, len(body), ""), s3.read_complete_upload)
    found = ask(s3.head_request(KEYS[1]), s3.read_head)
    assert found is not None
    assert (found.size, found.crc64nvme if store.checks else crc64nvme(body)) == (len(body), crc64nvme(body))


def test_another_object_than_the_one_that_was_looked_at_is_not_copied(store: Store) -> None:
    s3, ask = store.s3, store.ask
    source = source_in(store, b"body")
    upload_id, _ = upload(store, KEYS[0], ())
    asking: tuple[tuple[Callable[[BucketObject], HttpRequest], Callable[[HttpReply], Any]], ...] = (
        (lambda source: s3.copy_object_request(KEYS[0], source, KEPT), s3.read_copy_object),
        (
            lambda source: s3.copy_part_request(KEYS[0], upload_id, 1, source, 0, 3),
            functools.partial(s3.read_copy_part, 1, 4),
        ),
    )
    for made_from, read in asking:
        with pytest.raises(ServiceFault) as caught:
            ask(made_from(replace(source, key="none")), read)
        assert caught.value.kind is FaultKind.NOT_FOUND
        if store.checks:  # moto does not look at the condition
            with pytest.raises(ServiceFault) as caught:
                ask(made_from(replace(source, etag='"other"')), read)
            assert (caught.value.kind, caught.value.code) == (FaultKind.CONFLICT, "PreconditionFailed")
    assert ask(s3.head_request(KEYS[0]), s3.read_head) is None


def test_tags_take_the_place_of_others(store: Store) -> None:
    s3, ask = store.s3, store.ask
    aws = AwsService("s3", store.pool.region, store.pool.endpoint_url, store.pool.bucket)
    ask(s3.put_request(KEYS[1], b"body", ObjectAttributes(tags=(("team", "a"),))), s3.read_put)
    for tags in ((("team", "a"),), (("sha256", "a b+-=._:/@"), ("x", ""))):
        if tags[0][0] != "team":
            ask(s3.put_tags_request(KEYS[1], tags), s3.read_put_tags)
        told = ask(aws.build("GetObjectTagging", {"Key": KEYS[1]}), functools.partial(aws.parse, "GetObjectTagging"))
        assert tuple((tag["Key"], tag["Value"]) for tag in told["TagSet"]) == tags
    for key, value, kind in (("00/none", "a", FaultKind.NOT_FOUND), (KEYS[1], "é&", FaultKind.REJECTED)):
        with pytest.raises(ServiceFault) as caught:
            ask(s3.put_tags_request(key, (("sha256", value),)), s3.read_put_tags)
        assert caught.value.kind is kind


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
