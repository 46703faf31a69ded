"""The origin's bytes: opening the object, and reading its parts, out of the one stream or each by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cloud_mirror.copy_actions import FetchPart
from cloud_mirror.copy_events import FetchFailed, OriginClosed, OriginOpened, PartFetched, PartReserved
from cloud_mirror.events import OriginDeclined
from cloud_mirror.origin import Asking
from cloud_mirror.reason import Reason
from cloud_mirror.source import parse_source
from cloud_mirror.wire.calls import (
    Backoff,
    BodyRead,
    CloseBody,
    DigestBytes,
    FailureKind,
    Procedure,
    ReleaseMemory,
    ReserveMemory,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Cargo, Part
from cloud_mirror.wire.procedures import host, origin
from cloud_mirror.wire.services import PoolServices

FIRST_REST_S: Final = 0.5
LONGEST_REST_S: Final = 8.0
"""How long a fetch waits at most before it is tried again, after the first setback and after many."""


def open_object(services: PoolServices, cargo: Cargo, begun_before: bool) -> Procedure[OriginOpened | OriginDeclined]:
    """Ask the origin for the object; what was open of it before is closed."""
    yield from close(cargo)
    cargo.forget_parts()
    yield from give_back(cargo)
    looked = yield from _look(services, cargo, begun_before)
    if looked is not None:
        return looked
    outcome = yield from origin.open_origin(services, cargo.url)
    if isinstance(outcome, OriginDeclined):
        return outcome
    return _load(services, cargo, outcome, outcome.body)


def _look(services: PoolServices, cargo: Cargo, begun_before: bool) -> Procedure[OriginOpened | None]:
    """What HEAD says of an object whose beginning need not come: the store may copy it by itself, or has it already.

    None where that is not so, or was found not to work: then the object is to be opened.
    """
    if cargo.beginnings > 1:
        return None
    if not begun_before and services.provider.bucket_object(parse_source(cargo.url, len(cargo.url))) is None:
        return None
    outcome = yield from origin.open_origin(services, cargo.url, Asking.HEAD)
    if isinstance(outcome, OriginDeclined):
        return None
    yield CloseBody(outcome.body)
    opened = _load(services, cargo, outcome, None)
    return opened if opened.store_can or (begun_before and opened.ranges) else None


def _load(services: PoolServices, cargo: Cargo, found: origin.OpenedObject, stream: int | None) -> OriginOpened:
    """Begin with what the origin said, and say what can be done with it."""
    cargo.load(stream, found.headers, found.opened)
    cargo.source = services.provider.bucket_object(found.url)
    if cargo.source is not None:
        cargo.source = replace(cargo.source, etag=found.opened.etag)
    store_can = cargo.source is not None and found.opened.ranges and cargo.combinable
    return replace(found.opened, ordered=not cargo.combinable, store_can=store_can)


def close(cargo: Cargo) -> Procedure[OriginClosed]:
    """Give up every body that is open now: while they are closed, the copy may have begun anew with another.

    Until a body is closed, it is the cargo's: a copy may end before.
    """
    cargo.closing = True
    for body in tuple(cargo.bodies):
        yield CloseBody(body)
        cargo.bodies.discard(body)
    return OriginClosed()


def fetch_part(services: PoolServices, cargo: Cargo, action: FetchPart) -> Procedure[PartFetched | FetchFailed]:
    """Read one part into memory, and have it digested in its turn.

    The end of the body is told, and all of it judged (length, and every digest that the origin gave), once all is
    digested: with the part that was last to come, or with the one whose fetch was at the digests then.
    """
    number = action.number
    if action.setbacks:
        yield Backoff(min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** (action.setbacks - 1)))
        if cargo.closing:
            return FetchFailed(Reason.ORIGIN_BROKE_OFF, "the origin's bodies were closed", number=number)
    by_itself = not cargo.streams(number)
    to_its_end = by_itself or action.first_byte + action.at_most_bytes == cargo.length
    part = cargo.begin_part(number, action.at_most_bytes, to_its_end=to_its_end)
    if by_itself:
        yield from close_overtaken(cargo)
    else:
        cargo.streaming = True
    had, ended = part.size, False
    if not part.full:
        if by_itself:
            outcome = yield from _read_by_itself(services, cargo, part, action)
        else:
            outcome = yield from _read_stream(services, cargo, part)
        if isinstance(outcome, FetchFailed):
            cargo.streaming = cargo.streaming and by_itself
            return replace(outcome, number=number, advanced=part.size > had)
        ended = outcome.ended and not by_itself
    yield DigestBytes((part.crc,), part.held)
    cargo.end_part(part, streamed=not by_itself)
    yield from _digest(cargo)
    ended = (ended or cargo.whole) and cargo.digested
    fault = cargo.fault() if ended else None
    fetched = PartFetched(number, part.size, cargo.total_bytes, ended, fault, cargo.sha256 if ended else "")
    yield from give_back(cargo)
    yield from close_overtaken(cargo)
    return fetched


def _digest(cargo: Cargo) -> Procedure[None]:
    """Let the digests of the whole take what has come, in its order: one part's fetch does so for all others."""
    if cargo.digesting:
        return
    cargo.digesting = True
    while (part := cargo.part_in_turn) is not None:
        yield DigestBytes(cargo.digests, part.data)
        cargo.end_turn(part)
    cargo.digesting = False


def reserve_part(cargo: Cargo, number: int, at_most_bytes: int) -> Procedure[PartReserved]:
    """Wait for the part's memory. What comes once the copy has begun anew is for a part of before: it goes back."""
    beginnings = cargo.beginnings
    yield ReserveMemory(cargo.receipt, at_most_bytes)
    if beginnings != cargo.beginnings:
        yield ReleaseMemory(cargo.receipt, at_most_bytes)
        return PartReserved(0)
    cargo.hold(number, at_most_bytes)
    return PartReserved(number)


def give_back(cargo: Cargo) -> Procedure[None]:
    """Give back the memory of parts whose bytes are not needed any more."""
    freed_bytes, cargo.freed_bytes = cargo.freed_bytes, 0
    if freed_bytes:
        yield ReleaseMemory(cargo.receipt, freed_bytes)


def close_overtaken(cargo: Cargo) -> Procedure[None]:
    """Leave a stream that nothing more is wanted of to others: a host may give out few bodies at once."""
    if cargo.stream_is_overtaken:
        yield from _close_stream(cargo)


def _read_stream(services: PoolServices, cargo: Cargo, part: Part) -> Procedure[BodyRead | FetchFailed]:
    """The part's turn in the stream, which is closed where it ends."""
    source = services.policy.source
    reply = yield from host.read_paced(source, cargo.open_stream, part, source.read_timeout_s)
    if isinstance(reply, TransportFailure):
        yield from _close_stream(cargo)
        return _broke_off(cargo, reply)
    if reply.ended:
        yield from _close_stream(cargo)
    return BodyRead(reply.ended)


def _read_by_itself(
    services: PoolServices, cargo: Cargo, part: Part, action: FetchPart
) -> Procedure[BodyRead | FetchFailed]:
    """What is missing of the part, by its range."""
    first_byte, last_byte = action.first_byte + part.size, action.first_byte + action.at_most_bytes - 1
    if first_byte > last_byte:
        return BodyRead(ended=True)
    assert cargo.length is not None, "only an object whose length is known is read in ranges"
    opened = yield from origin.open_part(services, cargo.url, cargo.etag, (first_byte, last_byte), cargo.length)
    if opened is None:
        return FetchFailed(Reason.ORIGIN_REPLY, f"bytes {first_byte} to {last_byte} were not given", apart=True)
    if isinstance(opened, OriginDeclined):
        return FetchFailed(opened.reason, opened.detail, retry_after_s=opened.retry_after_s)
    cargo.bodies.add(opened)
    if not cargo.closing:
        source = services.policy.source
        reply = yield from host.read_paced(source, opened, part, source.read_timeout_s)
    else:
        reply = TransportFailure(FailureKind.BROKEN, "the origin's bodies were closed")
    yield CloseBody(opened)
    cargo.bodies.discard(opened)
    if isinstance(reply, TransportFailure):
        return _broke_off(cargo, reply)
    if part.size > action.at_most_bytes:
        return FetchFailed(Reason.ORIGIN_REPLY, f"more than bytes {first_byte} to {last_byte} came", apart=True)
    if part.size < action.at_most_bytes:
        return FetchFailed(Reason.ORIGIN_BROKE_OFF, f"less than bytes {first_byte} to {last_byte} came")
    return BodyRead(ended=True)


def _close_stream(cargo: Cargo) -> Procedure[None]:
    body, cargo.stream = cargo.open_stream, None
    yield CloseBody(body)
    cargo.bodies.discard(body)


def _broke_off(cargo: Cargo, failure: TransportFailure) -> FetchFailed:
    reason = Reason.ORIGIN_TIMEOUT if failure.kind is FailureKind.TIMEOUT else Reason.ORIGIN_BROKE_OFF
    return FetchFailed(reason, f"{failure.kind.value} after {cargo.total_bytes} bytes: {failure.detail}")
