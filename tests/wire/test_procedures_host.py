"""Asking an origin when its host may be asked, and reading no faster than it may send."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cloud_mirror.events import OriginDeclined
from cloud_mirror.host import HostRefused, Permit
from cloud_mirror.reason import NOT_ASKED, Reason
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyPaced,
    BodyRead,
    Call,
    Done,
    EnterHost,
    FailureKind,
    GetMonotonicTime,
    HostEntered,
    HttpRequest,
    MonotonicTime,
    OpenBody,
    PaceBody,
    Pause,
    ReadBody,
    Reply,
    TransportFailure,
)
from cloud_mirror.wire.procedures import host, origin
from tests.wire.driving import drive
from tests.wire.pools import SERVICES, SOURCE, URL

PERMIT = Permit("a.example:443", 3)
OPENED = BodyOpened(1, 200, ())
REQUEST = HttpRequest("GET", "https", "a.example", 443, "/x")


class Gate:
    """Lets in after a while, or not at all; opens what is to be opened."""

    def __init__(self, reply: HostEntered | HostRefused) -> None:
        self.reply = reply
        self.calls: list[Call] = []

    def perform(self, call: Call) -> Reply:
        self.calls.append(call)
        match call:
            case EnterHost():
                return self.reply
            case GetMonotonicTime():
                return MonotonicTime(100.0)
        assert isinstance(call, OpenBody)
        return OPENED


@pytest.mark.parametrize(
    ("left_s", "wait_s", "at_most_s", "timeouts"),
    [
        (math.inf, None, 10.0, (10.0, 5.0)),
        (8.0, None, 8.0, (5.0, 5.0)),
        (5.0, None, 5.0, (2.0, 2.0)),
        (1.0, None, 1.0, (0.0, 0.0)),
        (20.0, 0.0, 0.0, (10.0, 5.0)),
    ],
)
def test_a_requests_time_begins_when_it_is_sent(
    left_s: float, wait_s: float | None, at_most_s: float, timeouts: tuple[float, float]
) -> None:
    """It had to wait for 3 s."""
    gate = Gate(HostEntered(PERMIT, 3.0))
    assert drive(host.open_body(SOURCE, REQUEST, left_s, wait_s), gate.perform) is OPENED
    entering, opening = gate.calls
    assert entering == EnterHost("a.example:443", at_most_s)
    assert isinstance(opening, OpenBody)
    assert (opening.permit, (opening.timeout_s, opening.connect_timeout_s)) == (PERMIT, timeouts)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason in NOT_ASKED])
def test_a_host_that_may_not_be_asked_is_asked_nothing(reason: Reason) -> None:
    gate = Gate(HostRefused(reason, 7.0))
    declined = OriginDeclined(reason, None, "a.example was not asked", 7.0)
    assert drive(origin.check_origin(SERVICES, URL, 104.0), gate.perform) == declined
    assert gate.calls == [GetMonotonicTime(), EnterHost("a.example:443", 4.0)]
    assert drive(origin.open_origin(SERVICES, URL), gate.perform) == declined


class Collected:
    """Is full after so many bytes."""

    def __init__(self, at_most_bytes: int) -> None:
        self.left = at_most_bytes

    def feed(self, piece: bytes | memoryview) -> bool:
        self.left -= len(piece)
        return self.left <= 0


class River:
    """A body of so many bytes, in pieces of ten, and how long it is to be left alone after each slice."""

    def __init__(self, size: int, waits_s: tuple[float, ...], end: BodyRead | TransportFailure) -> None:
        self.left = size
        self.said: list[object] = []
        self._waits_s = list(waits_s)
        self._end = end

    def perform(self, call: Call) -> Reply:
        match call:
            case ReadBody(5, collector, 3.0):
                while self.left:
                    self.left -= 10
                    if collector.feed(bytes(10)):
                        return BodyRead(ended=False)
                return self._end
            case PaceBody(5, size):
                self.said.append(size)
                return BodyPaced(self._waits_s.pop(0) if self._waits_s else 0.0)
            case Pause(for_s):
                self.said.append(f"{for_s} s")
                return Done()
        raise AssertionError(call)


ENDED = BodyRead(ended=True)
BROKEN = TransportFailure(FailureKind.BROKEN, "reset")


@pytest.mark.parametrize(
    ("room", "reply", "said"),
    [
        (1_000, ENDED, [20, "0.5 s", 0, "0.2 s", 0, 20, 10]),
        (1_000, BROKEN, [20, "0.5 s", 0, "0.2 s", 0, 20, 10]),
        (40, BodyRead(ended=False), [20, "0.5 s", 0, "0.2 s", 0, 20]),
        (10, BodyRead(ended=False), [10, "0.5 s", 0, "0.2 s", 0]),
    ],
)
def test_a_body_is_read_in_slices_with_rests(room: int, reply: BodyRead | TransportFailure, said: list[object]) -> None:
    limited = replace(SOURCE, per_host_bytes_per_s=200)
    river = River(50, (1.7, 0.2), reply if reply is not BodyRead(ended=False) else ENDED)
    assert drive(host.read_paced(limited, 5, Collected(room), 3.0), river.perform) == reply
    assert river.said == said


def test_a_body_without_a_rate_is_read_as_it_comes() -> None:
    river = River(50, (), ENDED)
    assert drive(host.read_paced(SOURCE, 5, Collected(1_000), 3.0), river.perform) == ENDED
    assert river.said == []
