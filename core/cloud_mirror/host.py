"""The host machine: whether one more request may be sent to an origin's host now, must wait, or is not sent at all.

Theory. Many URLs have one host, and none of their flights and copies knows of the others. What is fair to the host is
therefore decided here, in each process by itself. How much it bears is found out as TCP does it: the limit grows by
one for a whole window of answers, and is halved as soon as the host says that it was too much ("additive increase,
multiplicative decrease"). A host that fails time after time is not asked at all for a while (a "circuit breaker"), so
that nobody waits for what is known from the start.

Rules.
 1. No more requests are under way than the limit allows. One counts from when it is let in until its reply's body is
    closed; what is asked, and by whom, makes no difference.
 2. A 429 or 503 halves the limit, never below one, and nothing is sent for as long as Retry-After says, or for a
    moment. For as many answers as the limit then is it grows by one, up to what the policy allows.
 3. `FAILURES` in a row open the circuit. A failure is a host that cannot be reached, that does not answer in time or
    not in HTTP, or whose gateway says so (502, 504, and 503 without Retry-After). Any other reply is an answer, a 500
    and a 404 too: they are about a URL, and clients are told them.
 4. While the circuit is open all are refused. Then it is half-open: one request at a time is let in to try. If that is
    answered the circuit is closed; if it fails, the circuit is open again, for twice as long up to a limit.
 5. Requests that were under way together are told the same thing by the host, and it counts once: each belongs to the
    *round* in which it was let in, and what is heard of one after its round changes nothing, but for a Retry-After.
 6. Bytes are counted as they come, and paid for in time before more of them are read: so the rate holds for all bodies
    of the host together, however large the pieces are that they come in.

Whoever must wait is let in in order; that is the affair of who holds the queue (`cloud_mirror.wire.hosts`).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from cloud_mirror.reason import Reason

FAILURES: Final = 5
"""How many requests must fail in a row until the circuit is opened."""

OPEN_S: Final = 5.0
LONGEST_OPEN_S: Final = 60.0
"""How long the circuit is open: at first, and at most. Up to half of it is left out, by chance, so that not all the
processes of a fleet try at once."""

PROBE_AGAIN_S: Final = 2.0
"""When to ask again while another request tries whether the host answers."""

MOMENT_S: Final = 1.0
"""How long nothing is sent to a host that asked for less, and did not say for how long."""

LONGEST_QUIET_S: Final = 600.0
"""How long nothing is sent to a host at most, whatever it says: what one URL is told holds for all."""

SATURATED_AGAIN_S: Final = 2.0
"""When to ask again where all that may be under way was under way for as long as one could wait."""

BURST_S: Final = 1.0
"""How much of its rate a host that was left alone may send at once."""


LEAST_WAIT_S: Final = 0.001
"""A rest that is shorter is not worth a rest, and may be nothing but what a clock cannot tell; it stays owed."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the machine needs of the policy. `bytes_per_s`: 0 is no limit."""

    connections: int
    bytes_per_s: float = 0.0


class Outcome(enum.Enum):
    """What came of a request, as far as it says something of the host."""

    ANSWERED = "answered"
    THROTTLED = "throttled"  # 429, or 503 with Retry-After: it lives, and wants less
    OVERLOADED = "overloaded"  # 503 that says no more: that is a failure besides
    FAILED = "failed"
    UNKNOWN = "unknown"  # nothing was sent, or the request was called off


@dataclass(frozen=True, slots=True)
class Permit:
    """One request may be sent to the host. `probe`: it is the one that tries whether the host answers again."""

    host: str
    round: int
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """It may not be sent yet: look again when a request has ended, and not later than `until_s`."""

    until_s: float


@dataclass(frozen=True, slots=True)
class HostRefused:
    """It is not sent: why, and when to ask again."""

    reason: Reason
    again_in_s: float


Verdict: TypeAlias = Permit | Wait | HostRefused


@dataclass(frozen=True, slots=True)
class State:
    """One host. Times are those of the process's monotonic clock."""

    host: str
    rules: Rules
    limit: int
    under_way: int = 0
    round: int = 0
    answers: int = 0  # since the limit last changed
    failures: int = 0  # in a row
    quiet_until_s: float = -math.inf  # the host asked for so much time
    openings: int = 0  # how often the circuit was opened since the host last answered; 0: it is closed
    open_until_s: float = -math.inf
    probing: bool = False
    owed_bytes: float = 0.0  # read, and not yet paid for; below 0: what may be read at once
    owed_at_s: float = -math.inf


def new(host: str, rules: Rules) -> State:
    """A host of which nothing is known."""
    return State(host, rules, rules.connections)


def admit(state: State, now_s: float, by_s: float) -> tuple[State, Verdict]:
    """May one more be sent, for whoever would wait until `by_s`?"""
    room = state.under_way < state.limit
    if state.openings:
        if now_s < state.open_until_s:
            return state, HostRefused(Reason.ORIGIN_CIRCUIT_OPEN, state.open_until_s - now_s)
        if state.probing or not room:
            return state, HostRefused(Reason.ORIGIN_CIRCUIT_OPEN, PROBE_AGAIN_S)
    if now_s < state.quiet_until_s:
        if by_s <= state.quiet_until_s:
            return state, HostRefused(Reason.ORIGIN_THROTTLED, state.quiet_until_s - now_s)
        return state, Wait(state.quiet_until_s)
    if not room:
        if by_s <= now_s:
            return state, HostRefused(Reason.ORIGIN_SATURATED, SATURATED_AGAIN_S)
        return state, Wait(by_s)
    probe = state.openings > 0
    return replace(state, under_way=state.under_way + 1, probing=probe), Permit(state.host, state.round, probe)


def answered(
    state: State, permit: Permit, outcome: Outcome, retry_after_s: float | None, now_s: float, jitter: float
) -> State:
    """What the host said to a request, once for each permit; `jitter` is a number by chance from 0 to 1."""
    if outcome in (Outcome.THROTTLED, Outcome.OVERLOADED):
        quiet_s = MOMENT_S if retry_after_s is None else min(retry_after_s, LONGEST_QUIET_S)
        state = replace(state, quiet_until_s=max(state.quiet_until_s, now_s + quiet_s))
    if permit.round != state.round:
        return state
    match outcome:
        case Outcome.ANSWERED:
            return _grown(_closed_circuit(state))
        case Outcome.THROTTLED:
            return _halved(_closed_circuit(state))
        case Outcome.OVERLOADED:
            return _halved(_failed(state, permit, now_s, jitter))
        case Outcome.FAILED:
            return _failed(state, permit, now_s, jitter)
        case _:
            return replace(state, probing=False) if permit.probe else state


def ended(state: State) -> State:
    """A request is over, and its body closed."""
    return replace(state, under_way=state.under_way - 1)


def spend(state: State, size: int, now_s: float) -> tuple[State, float]:
    """So many bytes have come: how long to wait before more are read."""
    rate = state.rules.bytes_per_s
    if not rate:
        return state, 0.0
    left_bytes = state.owed_bytes - (now_s - state.owed_at_s) * rate
    owed_bytes = max(left_bytes, -BURST_S * rate) + size
    wait_s = owed_bytes / rate
    state = replace(state, owed_bytes=owed_bytes, owed_at_s=now_s)
    return state, wait_s if wait_s > LEAST_WAIT_S else 0.0


def _grown(state: State) -> State:
    """One answer more."""
    answers = state.answers + 1
    if state.limit >= state.rules.connections or answers < state.limit:
        return replace(state, answers=answers)
    return replace(state, limit=state.limit + 1, answers=0)


def _halved(state: State) -> State:
    return replace(state, limit=max(1, state.limit // 2), answers=0, round=state.round + 1)


def _closed_circuit(state: State) -> State:
    """The host lives."""
    if not state.openings:
        return replace(state, failures=0) if state.failures else state
    return replace(state, openings=0, probing=False, failures=0, round=state.round + 1)


def _failed(state: State, permit: Permit, now_s: float, jitter: float) -> State:
    failures = state.failures + 1
    if failures < FAILURES and not permit.probe:
        return replace(state, failures=failures)
    open_s: float = min(LONGEST_OPEN_S, OPEN_S * 2 ** min(state.openings, 16)) * (1 - jitter / 2)
    return replace(
        state,
        openings=state.openings + 1,
        open_until_s=now_s + open_s,
        probing=False,
        failures=0,
        round=state.round + 1,
    )
