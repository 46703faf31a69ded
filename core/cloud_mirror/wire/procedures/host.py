"""Being fair to an origin's host: it is asked when it may be, and read from no faster than it may be."""

from __future__ import annotations

import math
from typing import Final

from cloud_mirror.host import HostRefused
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    Collector,
    EnterHost,
    HttpRequest,
    OpenBody,
    PaceBody,
    Pause,
    Procedure,
    ReadBody,
    Route,
    TransportFailure,
)

SLICE_S: Final = 0.1
"""For how long a slice of a body lasts that is read at a limited rate."""

LONGEST_PAUSE_S: Final = 0.5
"""How soon a reading that rests finds out that its body was closed."""


def open_body(
    policy: SourcePolicy, request: HttpRequest, left_s: float = math.inf, wait_s: float | None = None
) -> Procedure[BodyOpened | TransportFailure | HostRefused]:
    """Ask an origin once its host may be asked: that, and the reply's head, take `left_s` together at most.

    The request's own time begins only when it is sent. `wait_s` is how long to wait for that at most: as long as is
    left, or as a reply may take where no end is set; 0: send it at once or not at all.
    """
    if wait_s is None:
        wait_s = policy.read_timeout_s if left_s == math.inf else left_s
    entered = yield EnterHost(f"{request.host}:{request.port}", wait_s)
    if isinstance(entered, HostRefused):
        return entered
    left_s = max(0.0, left_s - entered.waited_s)
    timeout_s, connect_timeout_s = min(policy.read_timeout_s, left_s), min(policy.connect_timeout_s, left_s)
    reply = yield OpenBody(request, Route.ORIGIN, timeout_s, connect_timeout_s, entered.permit)
    opened: BodyOpened | TransportFailure = reply
    return opened


class _Slice:
    """Passes a body on to its collector, and is full after some of it."""

    def __init__(self, collector: Collector, at_most_bytes: float) -> None:
        self._collector = collector
        self._at_most_bytes = at_most_bytes
        self.size = 0
        self.collected = False

    def feed(self, piece: bytes | memoryview) -> bool:
        """Take a piece; True once it is time to rest, or the collector has had enough."""
        self.size += len(piece)
        self.collected = self._collector.feed(piece)
        return self.collected or self.size >= self._at_most_bytes


def read_paced(
    policy: SourcePolicy, body: int, collector: Collector, idle_timeout_s: float
) -> Procedure[BodyRead | TransportFailure]:
    """`ReadBody`, no faster than the body's host may send: a slice, a rest, and so on."""
    reply: BodyRead | TransportFailure
    if not policy.per_host_bytes_per_s:
        reply = yield ReadBody(body, collector, idle_timeout_s)
        return reply
    while True:
        part = _Slice(collector, policy.per_host_bytes_per_s * SLICE_S)
        reply = yield ReadBody(body, part, idle_timeout_s)
        size = part.size
        while (wait_s := (yield PaceBody(body, size)).wait_s) > 0:
            yield Pause(min(wait_s, LONGEST_PAUSE_S))
            size = 0
        if isinstance(reply, TransportFailure) or reply.ended or part.collected:
            return reply
