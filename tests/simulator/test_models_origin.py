"""The model of origins, judged by the procedures that ask them."""

from typing import Any

import pytest

from cloud_mirror.events import OriginApproved, OriginDeclined
from cloud_mirror.host import Permit
from cloud_mirror.reason import Reason
from cloud_mirror.simulator.models import Digest, Flaw, Framing, OriginModel, Resource
from cloud_mirror.wire.calls import (
    BodyRead,
    Call,
    CloseBody,
    Done,
    EnterHost,
    FailureKind,
    GetMonotonicTime,
    HostEntered,
    HttpRequest,
    MonotonicTime,
    OpenBody,
    ReadBody,
    Reply,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Cargo, promised_digests
from cloud_mirror.wire.procedures import origin as procedures
from tests.wire.carrying import end_part
from tests.wire.driving import drive
from tests.wire.pools import SERVICES, URL

BODY = b"some bytes of a body"
FLAWLESS = Resource(BODY)
DEAF = Resource(BODY, heeds_if_match=False)
MISMATCH = Reason.CHECKSUM_MISMATCH


class World:
    """Origins that procedures ask, at `now_s`."""

    def __init__(self, resource: Resource | None = FLAWLESS, piece_bytes: int = 0) -> None:
        self.model = OriginModel(piece_bytes)
        self.now_s = 0.0
        if resource is not None:
            self.model.put(URL, resource)

    def perform(self, call: Call) -> Reply:
        match call:
            case EnterHost(host):
                return HostEntered(Permit(host, 0), 0.0)
            case GetMonotonicTime():
                return MonotonicTime(self.now_s)
            case OpenBody(request=request):
                return self.model.open(request, self.now_s)
            case ReadBody(body, collector):
                return self.model.read(body, collector)
            case CloseBody(body):
                self.model.close(body)
                return Done()
        raise AssertionError(call)

    def check(self) -> OriginApproved | OriginDeclined:
        found = drive(procedures.check_origin(SERVICES, URL), self.perform)
        assert self.model.open_bodies == ()
        return found

    def fetch(self, part_bytes: int = 1_000) -> tuple[bytes, Reason | str | None]:
        """The bytes that a worker has in the end, and what is wrong with them."""
        opened = drive(procedures.open_origin(SERVICES, URL), self.perform)
        assert isinstance(opened, procedures.OpenedObject), opened
        cargo = Cargo(URL, "receipt")
        cargo.load(opened.body, opened.headers, opened.opened)
        body = b""
        for number in range(1, 100):
            part = cargo.begin_part(number, part_bytes)
            reply = BodyRead(ended=False) if part.full else self.perform(ReadBody(opened.body, part, 1.0))
            end_part(cargo, part)
            body += part.data
            if isinstance(reply, TransportFailure):
                return body, reply.kind.value
            assert isinstance(reply, BodyRead)
            if reply.ended:
                break
        return body, cargo.fault()


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("digests", [(), tuple(Digest)])
@pytest.mark.parametrize(("piece_bytes", "part_bytes"), [(0, 1_000), (3, 7), (7, 3), (5, 5)])
def test_a_sound_body_comes_whole(
    framing: Framing, digests: tuple[Digest, ...], piece_bytes: int, part_bytes: int
) -> None:
    world = World(Resource(BODY, framing=framing, digests=digests), piece_bytes)
    assert isinstance(world.check(), OriginApproved)
    assert world.fetch(part_bytes) == (BODY, None)
    assert world.model.complete_bodies(URL) == ((1, BODY),)
    assert world.model.asked == {URL}


@pytest.mark.parametrize(
    ("resource", "expected", "known"),
    [
        (Resource(BODY, flaw=Flaw(reset_after=5)), (BODY[:5], "broken"), ()),
        (Resource(BODY, flaw=Flaw(reset_after=0)), (b"", "broken"), ()),
        (Resource(BODY, flaw=Flaw(reset_after=len(BODY))), (BODY, None), ()),
        (Resource(BODY, flaw=Flaw(reset_after=5), framing=Framing.CLOSE), (BODY[:5], "broken"), ()),
        (Resource(BODY, flaw=Flaw(ends_after=5)), (BODY[:5], "broken"), ()),
        (Resource(BODY, flaw=Flaw(ends_after=5), framing=Framing.CHUNKED), (BODY[:5], "broken"), ()),
        (Resource(BODY, flaw=Flaw(ends_after=5), framing=Framing.CLOSE), (BODY[:5], None), (BODY[:5],)),
        (
            Resource(BODY, flaw=Flaw(ends_after=5), framing=Framing.CLOSE, digests=(Digest.CONTENT_MD5,)),
            (BODY[:5], MISMATCH),
            (),
        ),
        (Resource(BODY, flaw=Flaw(length_off=1)), (BODY, "broken"), ()),
        (Resource(BODY, flaw=Flaw(length_off=-1)), (BODY[:-1], None), (BODY[:-1],)),
        (Resource(BODY, flaw=Flaw(length_off=-100)), (b"", None), (b"",)),
        (Resource(BODY, flaw=Flaw(length_off=-1), digests=(Digest.X_GOOG_HASH,)), (BODY[:-1], MISMATCH), ()),
        (Resource(b"\x00", flaw=Flaw(garbled=True)), (b"\xff", None), (b"\xff",)),
        (Resource(b"\x00", flaw=Flaw(garbled=True), digests=(Digest.REPR_DIGEST,)), (b"\xff", MISMATCH), ()),
    ],
)
def test_a_flaw_is_noticed_or_what_came_is_known_for_a_body(
    resource: Resource, expected: tuple[bytes, Reason | str | None], known: tuple[bytes, ...]
) -> None:
    world = World(resource, piece_bytes=2)
    assert world.fetch() == expected
    assert world.model.complete_bodies(URL) == ((1, resource.body), *((1, body) for body in known))


@pytest.mark.parametrize("digest", Digest)
def test_a_body_that_its_digest_contradicts_is_none(digest: Digest) -> None:
    world = World(Resource(BODY, digests=(digest,), digests_wrong=True))
    assert world.fetch() == (BODY, MISMATCH)
    assert world.model.complete_bodies(URL) == ()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, Reason.ORIGIN_REFUSED),
        (404, Reason.ORIGIN_NOT_FOUND),
        (410, Reason.ORIGIN_GONE),
        (429, Reason.ORIGIN_BUSY),
        (500, Reason.ORIGIN_ERROR),
        (302, Reason.ORIGIN_REDIRECTS),
    ],
)
def test_a_status_is_all_that_is_said_until_it_passes(status: int, reason: Reason) -> None:
    wait = 60 if status == 429 else None
    world = World(Resource(BODY, status=status, status_until_s=5.0, retry_after_s=wait))
    found = world.check()
    assert isinstance(found, OriginDeclined)
    assert (found.reason, found.retry_after_s) == (reason, wait)
    world.now_s = 5.0
    assert isinstance(world.check(), OriginApproved)


def test_there_is_nothing_where_nothing_was_put() -> None:
    world = World(None)
    found = world.check()
    assert isinstance(found, OriginDeclined)
    assert found.reason is Reason.ORIGIN_NOT_FOUND
    assert world.model.find(URL) is None
    assert world.model.complete_bodies(URL) == ()


def test_every_hop_is_remembered() -> None:
    target = "https://b.example:8443/b/x"
    world = World(Resource(status=302, location=target))
    world.model.put(target, FLAWLESS)
    assert isinstance(world.check(), OriginApproved)
    assert world.model.asked == {URL, target}


@pytest.mark.parametrize("status", [403, 405, 500])
@pytest.mark.parametrize("resource", [FLAWLESS, Resource(), Resource(BODY, ranges=False)])
def test_where_head_is_refused_the_first_byte_tells(status: int, resource: Resource) -> None:
    world = World(Resource(resource.body, head_status=status, ranges=resource.ranges))
    assert isinstance(world.check(), OriginApproved)
    assert world.fetch() == (resource.body, None)


def test_an_object_that_changes_has_another_version() -> None:
    world = World()
    opened = drive(procedures.open_origin(SERVICES, URL), world.perform)
    assert isinstance(opened, procedures.OpenedObject)
    changed = world.model.change(URL)
    assert (changed.version, len(changed.body)) == (2, len(BODY))
    assert world.fetch() == (changed.body, None)
    assert world.model.complete_bodies(URL) == ((1, BODY), (2, changed.body))
    part = Cargo(URL, "").begin_part(1, 1_000)
    assert world.model.read(opened.body, part) == BodyRead(ended=True)
    part.seal()
    assert part.data == BODY
    empty = World(Resource(headers=(("content-type", "text/x"),), strong_etag=False))
    assert empty.model.change(URL).body == b"\x00"


def test_a_body_that_was_closed_is_broken() -> None:
    world = World()
    request = HttpRequest("GET", "https", "a.example", 443, "/some/file.bin")
    opened: Any = world.model.open(request, 0.0)
    assert dict(opened.headers) == {"content-length": str(len(BODY)), "etag": '"v1"', "accept-ranges": "bytes"}
    world.model.close(opened.body)
    world.model.close(opened.body)
    found = world.model.read(opened.body, Cargo(URL, "").begin_part(1, 10))
    assert isinstance(found, TransportFailure)
    assert found.kind is FailureKind.BROKEN


@pytest.mark.parametrize("digest", Digest)
def test_a_digest_is_of_the_body(digest: Digest) -> None:
    world = World(Resource(BODY, digests=(digest,)))
    opened: Any = world.model.open(HttpRequest("HEAD", "https", "a.example", 443, "/some/file.bin"), 0.0)
    assert len(promised_digests(opened.headers)) == 1
    assert world.fetch() == (BODY, None)


def ask(world: World, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes | str]:
    """A reply: its status, its head, and its body or why that broke off."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    request = HttpRequest(method, "https", "a.example", 443, "/some/file.bin", named)
    opened = world.model.open(request, world.now_s)
    part = Cargo(URL, "").begin_part(1, 1_000)
    reply = world.model.read(opened.body, part)
    part.seal()
    body = bytes(part.data) if isinstance(reply, BodyRead) else reply.kind.value
    return opened.status, dict(opened.headers), body


@pytest.mark.parametrize(
    ("resource", "asked", "expected"),
    [
        (FLAWLESS, {"Range": "bytes=0-0"}, (206, f"bytes 0-0/{len(BODY)}", BODY[:1])),
        (FLAWLESS, {"Range": "bytes=5-9"}, (206, f"bytes 5-9/{len(BODY)}", BODY[5:10])),
        (FLAWLESS, {"Range": "bytes=18-99"}, (206, f"bytes 18-19/{len(BODY)}", BODY[18:])),
        (FLAWLESS, {"Range": "bytes=20-29"}, (416, f"bytes */{len(BODY)}", b"")),
        (Resource(), {"Range": "bytes=0-0"}, (416, "bytes */0", b"")),
        (FLAWLESS, {"Range": "bytes=5-9", "If_Match": '"v1"'}, (206, f"bytes 5-9/{len(BODY)}", BODY[5:10])),
        (FLAWLESS, {"Range": "bytes=5-9", "If_Match": '"v0"'}, (412, None, b"")),
        (DEAF, {"Range": "bytes=5-9", "If_Match": '"v0"'}, (206, "bytes 5-9/20", BODY[5:10])),
        (Resource(BODY, strong_etag=False), {"Range": "bytes=5-9", "If_Match": 'W/"v"'}, (412, None, b"")),
        (Resource(BODY, ranges=False), {"Range": "bytes=5-9"}, (200, None, BODY)),
        (Resource(BODY, flaw=Flaw(garbled=True)), {"Range": "bytes=5-9", "If_Match": '"v1"'}, (412, None, b"")),
        (Resource(BODY, flaw=Flaw(reset_after=7)), {"Range": "bytes=5-6"}, (206, "bytes 5-6/20", BODY[5:7])),
        (Resource(BODY, flaw=Flaw(reset_after=7)), {"Range": "bytes=5-9"}, (206, "bytes 5-9/20", "broken")),
        (Resource(BODY, flaw=Flaw(reset_after=7)), {"Range": "bytes=9-9"}, (206, "bytes 9-9/20", "broken")),
        (Resource(BODY, flaw=Flaw(length_off=1)), {"Range": "bytes=18-20"}, (206, "bytes 18-20/21", "broken")),
        (Resource(BODY, flaw=Flaw(length_off=-1)), {"Range": "bytes=18-20"}, (206, "bytes 18-18/19", BODY[18:19])),
    ],
)  # fmt: skip
def test_a_range(resource: Resource, asked: dict[str, str], expected: tuple[int, str | None, bytes | str]) -> None:
    """As RFC 9110 has it: 13.1.1, 14.2, 14.4, 15.3.7, 15.5.13, 15.5.17."""
    status, head, body = ask(World(resource, piece_bytes=2), **asked)
    assert (status, head.get("content-range"), body) == expected
    if isinstance(body, bytes):
        assert int(head["content-length"]) == len(body)


def test_what_a_part_tells_of_its_object() -> None:
    """What the whole tells (RFC 9110, 15.3.7), but for digests of the whole."""
    resource = Resource(BODY, digests=tuple(Digest), headers=(("content-type", "text/x"),))
    status, head, _ = ask(World(resource), Range="bytes=0-1")
    about = {"etag": '"v1"', "accept-ranges": "bytes", "content-type": "text/x"}
    assert (status, head) == (206, about | {"content-length": "2", "content-range": "bytes 0-1/20"})
    assert ask(World(resource), "HEAD", Range="bytes=0-1")[0] == 200


def test_what_is_heeded_and_what_is_announced_are_two_things() -> None:
    silent = World(Resource(BODY, announces_ranges=False))
    assert "accept-ranges" not in ask(silent)[1]
    assert ask(silent, Range="bytes=0-1")[0] == 206
    boasting = World(Resource(BODY, ranges=False))
    assert ask(boasting)[1]["accept-ranges"] == "bytes"
    assert ask(boasting, Range="bytes=0-1")[0] == 200


def test_a_weak_validator_stays_when_the_bytes_change() -> None:
    world = World(Resource(BODY, strong_etag=False))
    before = ask(world)[1]["etag"]
    world.model.change(URL)
    assert ask(world)[1]["etag"] == before == 'W/"v"'


def test_a_twin_goes_its_own_way() -> None:
    world = World()
    request = HttpRequest("GET", "https", "a.example", 443, "/some/file.bin")
    opened: Any = world.model.open(request, 0.0)
    twin = world.model.copy()
    assert twin.key() == world.model.key()
    twin.change(URL)
    twin.close(opened.body)
    assert twin.key() != world.model.key()
    assert world.model.find(URL) == FLAWLESS
    assert world.model.open_bodies == (opened.body,)
    assert world.model.opened == 1
