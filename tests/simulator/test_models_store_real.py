"""The model of a store side by side with SeaweedFS and moto."""

import hashlib
import itertools
import secrets
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cloud_mirror.policy import MIB, PoolPolicy
from cloud_mirror.wire.aws import AwsService
from cloud_mirror.wire.checksums import combine_parts, crc64nvme
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.storage import (
    BucketObject,
    FaultKind,
    ObjectAttributes,
    PartPage,
    PartReceipt,
    StorageProvider,
)
from tests.servers import Moto, SeaweedFS
from tests.simulator.store_pair import PAGE, Ask, StorePair
from tests.wire.exchange import Asker

NUMBERS = itertools.count()
NAMES = st.sampled_from(["0/a", "0/b é", "1/a"])
BODIES = st.sampled_from([b"", b"body", b"other"])
LARGE = b"L" * (5 * MIB)
PARTS = st.sampled_from([b"part", b"tail"])
ATTRIBUTES = st.sampled_from(
    [
        ObjectAttributes(),
        ObjectAttributes(content_type="text/x", metadata=(("copy-id", "c"), ("url", "https://a/b"))),
        ObjectAttributes(tags=(("team", "a"),)),
    ]
)
TAGS = st.sampled_from([(("sha256", "a b+-=._:/@"),), (("sha256", "c"), ("x", ""))])
WRONG = crc64nvme(b"something else")
MOTO_BREAKS = (FaultKind.UNAVAILABLE, FaultKind.NOT_FOUND)
"""What moto makes of an upload that is not there (any more), and what S3 makes of it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A real store's bucket."""

    s3: S3Provider
    asker: Asker
    aws: AwsService
    checks: bool  # whether it compares checksums, and a copy's condition


@dataclass
class Begun:
    """An upload: its ids at the server and in the model, and its parts."""

    key: str
    real_id: str
    model_id: str
    parts: dict[int, bytes] = field(default_factory=dict)


@pytest.fixture(params=["seaweedfs", "moto"], scope="module")
def server(request: pytest.FixtureRequest) -> Server:
    checks = request.param == "seaweedfs"
    found: SeaweedFS | Moto = request.getfixturevalue(request.param)
    endpoint_url = found.endpoint_url if isinstance(found, SeaweedFS) else found.url
    keys = (found.access_key, found.secret_key) if isinstance(found, SeaweedFS) else ("test", "test")
    pool = PoolPolicy("s3", "us-west-1", f"models-{secrets.token_hex(8)}", endpoint_url=endpoint_url)
    s3 = S3Provider(pool)
    asker = Asker(s3, *keys)
    step = s3.setup_steps()[0]
    asker(step.request, lambda reply: s3.read_setup(step, reply))
    return Server(s3, asker, AwsService("s3", pool.region, endpoint_url, pool.bucket), checks)


def pair_of(server: Server) -> StorePair:
    """The server and a new model, under a prefix of their own."""
    return StorePair(server.s3, server.asker, server.aws, f"00/{next(NUMBERS)}/")


class Machine(RuleBasedStateMachine):
    """Does the same to both, under a prefix of its own."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.checks, self.bucket = server.checks, server.aws.bucket
        self.known = () if server.checks else (MOTO_BREAKS,)
        self.pair = pair_of(server)
        self.begun: list[Begun] = []
        self.changed: set[str] = set()

    def key(self, name: str) -> str:
        self.changed.add(self.pair.prefix + name)
        return self.pair.prefix + name

    @rule(name=NAMES, body=BODIES, attributes=ATTRIBUTES, right=st.booleans())
    def put(self, name: str, body: bytes, attributes: ObjectAttributes, right: bool) -> None:
        key, crc = self.key(name), crc64nvme(body) if right or not self.checks else WRONG
        self.pair.agree(lambda provider: (provider.put_request(key, body, attributes, crc), provider.read_put))

    @rule(name=NAMES)
    def get(self, name: str) -> None:
        key = self.key(name)
        self.pair.agree(lambda provider: (provider.get_request(key), provider.read_get))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        key = self.key(name)
        self.pair.agree(lambda provider: (provider.delete_request(key), provider.read_delete))

    @rule(name=NAMES, tags=TAGS)
    def tag(self, name: str, tags: tuple[tuple[str, str], ...]) -> None:
        key = self.key(name)
        self.pair.agree(lambda provider: (provider.put_tags_request(key, tags), provider.read_put_tags))

    @rule(name=NAMES, source=NAMES, body=BODIES, attributes=ATTRIBUTES)
    def copy(self, name: str, source: str, body: bytes, attributes: ObjectAttributes) -> None:
        if not self.checks:  # moto copies whatever is there now
            return
        key = self.key(name)
        found = BucketObject(self.bucket, self.pair.prefix + source, etag_of(body))
        self.pair.agree(
            lambda provider: (provider.copy_object_request(key, found, attributes), provider.read_copy_object)
        )

    @rule(name=NAMES, attributes=ATTRIBUTES)
    def begin(self, name: str, attributes: ObjectAttributes) -> None:
        key = self.key(name)
        real, model = self.pair.both(
            lambda provider: (provider.create_upload_request(key, attributes), provider.read_create_upload)
        )
        assert isinstance(real, str)
        assert isinstance(model, str)
        assert not isinstance(real, FaultKind)
        assert not isinstance(model, FaultKind)
        self.begun.append(Begun(key, real, model))

    def id_of(self, upload: Begun, provider: StorageProvider) -> str:
        return upload.real_id if provider is self.pair.s3 else upload.model_id

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), number=st.integers(1, 3), body=PARTS, right=st.booleans())
    def upload_part(self, data: st.DataObject, number: int, body: bytes, right: bool) -> None:
        upload = data.draw(st.sampled_from(self.begun))
        crc = crc64nvme(body) if right or not self.checks else WRONG

        def asking(provider: StorageProvider) -> Ask[str]:
            upload_id = self.id_of(upload, provider)
            return (
                provider.upload_part_request(upload.key, upload_id, number, body, crc),
                provider.read_upload_part,
            )

        if isinstance(self.pair.agree(asking, *self.known), str):
            upload.parts[number] = body

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def list_parts(self, data: st.DataObject) -> None:
        upload = data.draw(st.sampled_from(self.begun))
        pages = self.pair.parts(upload.key, lambda provider: self.id_of(upload, provider))
        if isinstance(pages, list):
            listed = [(part.number, part.etag) for page in pages for part in page]
            assert listed == [(number, etag_of(body)) for number, body in sorted(upload.parts.items())]

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), wrong=st.sampled_from(["", "", "etag", "crc", "missing"]))
    def complete(self, data: st.DataObject, wrong: str) -> None:
        upload = data.draw(st.sampled_from(self.begun))
        if not upload.parts:  # SeaweedFS then says that there is no such upload
            return
        self.changed.add(upload.key)
        parts = dict(sorted(upload.parts.items()))
        if wrong == "missing":
            parts[4] = b"never sent"
        listed = tuple(
            PartReceipt(number, etag_of(b"x" if wrong == "etag" else body), len(body), crc64nvme(body))
            for number, body in parts.items()
        )
        size = sum(part.size for part in listed)
        crc = combine_parts((part.crc, part.size) for part in listed)
        if wrong == "crc" and self.checks:
            crc = WRONG

        def asking(provider: StorageProvider) -> Ask[str]:
            upload_id = self.id_of(upload, provider)
            return (
                provider.complete_upload_request(upload.key, upload_id, listed, size, crc),
                provider.read_complete_upload,
            )

        self.pair.agree(asking, *self.known)

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        upload = data.draw(st.sampled_from(self.begun))
        self.pair.agree(
            lambda provider: (
                provider.abort_upload_request(upload.key, self.id_of(upload, provider)),
                provider.read_abort_upload,
            )
        )

    @rule()
    def list_all(self) -> None:
        real, modelled = self.pair.listed()
        assert [key for page in real for key in page] == [key for page in modelled for key in page]
        assert max(map(len, (*real, *modelled))) <= PAGE
        uploads, modelled_uploads = self.pair.uploads()
        ids = {each.real_id: each.model_id for each in self.begun}
        assert {(each.key, ids[each.upload_id]) for each in uploads} == {
            (each.key, each.upload_id) for each in modelled_uploads
        }

    @invariant()
    def what_was_touched_is_the_same(self) -> None:
        while self.changed:
            key = self.changed.pop()
            self.pair.head(key)
            self.pair.tags(key)


def etag_of(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def test_the_model_does_as_the_store(server: Server) -> None:
    class Bound(Machine):
        def __init__(self) -> None:
            super().__init__(server)

    run_state_machine_as_test(Bound, settings=settings(max_examples=15, stateful_step_count=20))


def test_parts_of_the_least_size_become_an_object_and_smaller_ones_do_not(server: Server) -> None:
    pair = pair_of(server)
    key = f"{pair.prefix}k"
    begun = pair.both(lambda s: (s.create_upload_request(key, ObjectAttributes()), s.read_create_upload))
    ids = dict(zip((pair.s3, pair.simulated), map(str, begun), strict=True))

    def made_of(*bodies: bytes) -> str | FaultKind:
        parts = tuple(PartReceipt(n, etag_of(body), len(body), crc64nvme(body)) for n, body in enumerate(bodies, 1))
        for part, body in zip(parts, bodies, strict=True):
            send_part(part, body)
        size, crc = sum(part.size for part in parts), combine_parts((part.crc, part.size) for part in parts)
        return pair.agree(lambda s: (s.complete_upload_request(key, ids[s], parts, size, crc), s.read_complete_upload))

    def send_part(part: PartReceipt, body: bytes) -> None:
        pair.agree(lambda s: (s.upload_part_request(key, ids[s], part.number, body, part.crc), s.read_upload_part))

    assert made_of(LARGE[1:], b"tail") is FaultKind.REJECTED
    assert isinstance(made_of(LARGE, b"tail"), str)
    pair.head(key)


def test_what_the_servers_leave_out_and_s3_does(server: Server) -> None:
    """The differences that docs/simulator.md names: where one of these ends, that page has a line too many."""
    pair = pair_of(server)
    key, body = f"{pair.prefix}k", b"body"
    part = PartReceipt(1, etag_of(body), 4, crc64nvme(body))

    def begin() -> dict[StorageProvider, str]:
        begun = pair.both(lambda s: (s.create_upload_request(key, ObjectAttributes()), s.read_create_upload))
        ids = dict(zip((pair.s3, pair.simulated), map(str, begun), strict=True))
        pair.agree(lambda s: (s.upload_part_request(key, ids[s], 1, body, part.crc), s.read_upload_part))
        return ids

    def complete(
        ids: dict[StorageProvider, str], parts: tuple[PartReceipt, ...] = (part,), size: int = 4, crc: str = part.crc
    ) -> tuple[str | FaultKind, str | FaultKind]:
        return pair.both(lambda s: (s.complete_upload_request(key, ids[s], parts, size, crc), s.read_complete_upload))

    real, modelled = complete(begin(), size=5)
    assert isinstance(real, str)
    assert modelled is FaultKind.REJECTED

    expected = FaultKind.NOT_FOUND if server.checks else FaultKind.REJECTED
    assert complete(begin(), parts=(), size=0, crc="") == (expected, FaultKind.REJECTED)

    gone = begin()
    pair.agree(lambda s: (s.abort_upload_request(key, gone[s]), s.read_abort_upload))
    assert complete(gone) == (FaultKind.NOT_FOUND if server.checks else FaultKind.UNAVAILABLE, FaultKind.NOT_FOUND)

    real, modelled = pair.both(lambda s: (s.put_request(key, body, ObjectAttributes(), WRONG), s.read_put))
    assert real == (FaultKind.REJECTED if server.checks else etag_of(body))
    assert modelled is FaultKind.REJECTED


def test_where_servers_take_a_copy_or_a_listing_for_less_than_s3_does(server: Server) -> None:
    """As the test before."""
    pair = pair_of(server)
    key, other, body = f"{pair.prefix}k", f"{pair.prefix}other", b"body"
    etag = pair.agree(lambda s: (s.put_request(other, body, ObjectAttributes(), crc64nvme(body)), s.read_put))
    assert etag == etag_of(body)
    emptied = pair.both(lambda s: (s.put_tags_request(other, ()), s.read_put_tags))
    assert emptied == (None if server.checks else FaultKind.UNAVAILABLE, None)

    stale = BucketObject(server.aws.bucket, other, etag_of(b"what it was"))
    copied = pair.both(lambda s: (s.copy_object_request(key, stale, ObjectAttributes()), s.read_copy_object))
    assert copied == (FaultKind.CONFLICT if server.checks else etag, FaultKind.CONFLICT)

    begun = pair.both(lambda s: (s.create_upload_request(key, ObjectAttributes()), s.read_create_upload))
    ids = dict(zip((pair.s3, pair.simulated), map(str, begun), strict=True))
    listed = pair.both(lambda s: (s.list_parts_request(other, ids[s]), s.read_list_parts))
    assert listed == (FaultKind.NOT_FOUND if server.checks else PartPage(()), FaultKind.NOT_FOUND)

    def copy_part(size: int) -> tuple[PartReceipt | FaultKind, PartReceipt | FaultKind]:
        source = BucketObject(server.aws.bucket, other, etag_of(body))
        read = {s: partial(s.read_copy_part, 1, size) for s in ids}
        return pair.both(lambda s: (s.copy_part_request(key, ids[s], 1, source, 0, size - 1), read[s]))

    part = PartReceipt(1, etag_of(body), 4, crc64nvme(body))
    assert copy_part(4) == (part if server.checks else replace(part, crc=""), part)
    beyond, modelled = copy_part(5)
    assert (beyond is FaultKind.REJECTED) == server.checks
    assert modelled is FaultKind.REJECTED
