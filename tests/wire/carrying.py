"""Copies on their way, carried by hand: an origin whose bodies come in given pieces, and cargo that came out of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from cloud_mirror.actions import Slot
from cloud_mirror.copy_actions import CopyAction, FetchPart, OpenOrigin, ReservePart
from cloud_mirror.copy_events import CopyEvent, OriginOpened, PartFetched
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    Call,
    CloseBody,
    DigestBytes,
    OpenBody,
    ReadBody,
    Reply,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Cargo, Lease, Part
from cloud_mirror.wire.procedures.copy import perform
from tests.wire.pools import SERVICES, URL, Script

STREAM: Final = 9
ETAG: Final = '"v1"'
RANGED: Final = (("accept-ranges", "bytes"), ("etag", ETAG))
Piece: TypeAlias = bytes | TransportFailure | Callable[[], object]


class Origin(Script):
    """Feeds pieces to whoever reads a body: the stream's, and those of other `bodies`.

    A failure is what the reading ends with there; what can be called is, between two pieces.
    """

    def __init__(
        self, *replies: Reply, pieces: Sequence[Piece] = (), bodies: Mapping[int, Sequence[Piece]] | None = None
    ) -> None:
        super().__init__(*replies)
        self._bodies = {body: list(left) for body, left in {STREAM: pieces, **(bodies or {})}.items()}

    def perform(self, call: Call) -> Reply:
        """The next reply; a body's next pieces."""
        if not isinstance(call, ReadBody):
            return super().perform(call)
        assert call.idle_timeout_s == 10.0
        left = self._bodies[call.body]
        while left:
            piece = left.pop(0)
            if isinstance(piece, TransportFailure):
                return piece
            if not isinstance(piece, bytes):
                piece()
            elif call.collector.feed(piece):
                return BodyRead(ended=False)
        return BodyRead(ended=True)

    @property
    def left_open(self) -> set[int]:
        """What was opened and not closed."""
        closed = {call.body for call in self.calls if isinstance(call, CloseBody)}
        return self._opened - closed

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Range and If-Match of every request."""
        sent = [dict(call.request.headers) for call in self.calls if isinstance(call, OpenBody)]
        return [(headers.get("Range", ""), headers.get("If-Match", "")) for headers in sent]

    @property
    def _opened(self) -> set[int]:
        return {reply.body for reply in self.given if isinstance(reply, BodyOpened)}


def opened(length: int | None = None, *headers: tuple[str, str]) -> BodyOpened:
    """The stream."""
    given = (("content-length", str(length)),) if length is not None else ()
    return BodyOpened(STREAM, 200, (*given, *headers), delimited=True)


def part_of(body: int, first: int, last: int, length: int, etag: str = ETAG, status: int = 206) -> BodyOpened:
    """A part."""
    span, size = f"bytes {first}-{last}/{length}", str(last - first + 1)
    return BodyOpened(body, status, (("content-range", span), ("etag", etag), ("content-length", size)))


def end_part(cargo: Cargo, part: Part, *, streamed: bool = True) -> None:
    """It is at its end, and the digests take what they can."""
    check(part)
    cargo.end_part(part, streamed=streamed)
    while digest_one(cargo):
        pass


def check(part: Part) -> None:
    """Its checksum takes what it holds."""
    DigestBytes((part.crc,), part.held).carry_out()


def digest_one(cargo: Cargo) -> bool:
    """Let the digests take the part whose turn it is, if it is here."""
    part = cargo.part_in_turn
    if part is not None:
        DigestBytes(cargo.digests, part.data).carry_out()
        cargo.end_turn(part)
    return part is not None


def run(script: Script, cargo: Cargo, action: CopyAction) -> CopyEvent:
    """The event that answers the action."""
    return script.run(perform(SERVICES, cargo, action))


def begun(origin: Origin) -> Cargo:
    """A copy whose origin was just opened, under a lease."""
    cargo = Cargo(URL, "receipt")
    assert isinstance(drive_one(origin, cargo, OpenOrigin()), OriginOpened)
    cargo.lease = Lease(Slot.RENEWAL, "w", 60.0)
    return cargo


def drive_one(origin: Script, cargo: Cargo, action: CopyAction) -> CopyEvent:
    """The same, while the script has more replies for later."""
    return origin.drive(perform(SERVICES, cargo, action))


def carrying(
    *pieces: bytes,
    part_bytes: int = 5,
    length: int | None = None,
    parts: int = 0,
    headers: tuple[tuple[str, str], ...] = (),
) -> Cargo:
    """A copy whose parts have been fetched, all of them or as many as said."""
    origin = Origin(opened(length, *headers), pieces=pieces)
    cargo = begun(origin)
    number, ended = 0, False
    while not ended and (not parts or number < parts):
        run(origin, cargo, ReservePart(number + 1, part_bytes))
        event = run(origin, cargo, FetchPart(number + 1, part_bytes, number * part_bytes))
        assert isinstance(event, PartFetched)
        number, ended = event.number, event.ended
    return cargo
