"""The origins' hosts of one process: a host machine for each, who waits for it in which order, which bodies it sends.

A shell adds what waiting is in its runtime, and the lock where it has threads: it *joins*, *looks*, waits until it is
woken or until the time that the look gave, and looks again. Nothing here waits, and nothing reads a clock.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from cloud_mirror import host as machine
from cloud_mirror.host import HostRefused, Outcome, Permit, Wait
from cloud_mirror.origin import retry_after_s
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import BodyOpened, EnterHost, FailureKind, HostEntered, OpenBody, TransportFailure

log = logging.getLogger("cloud_mirror.hosts")

REMEMBERED: Final = 4_096
"""Of how many hosts something is known at most, beside those that are being asked."""

_GATEWAY: Final = frozenset({502, 503, 504})
_UNREACHED: Final = frozenset(
    {
        FailureKind.NAME,
        FailureKind.CONNECT,
        FailureKind.TLS,
        FailureKind.TIMEOUT,
        FailureKind.BROKEN,
        FailureKind.MALFORMED,
    }
)


class Waiter:
    """Somebody who wants to send a request; `reply` is there once that is decided. `wake` is called when to look."""

    __slots__ = ("by_s", "host", "reply", "since_s", "wake")

    def __init__(self, host: str, since_s: float, by_s: float) -> None:
        self.host = host
        self.since_s = since_s
        self.by_s = by_s
        self.reply: HostEntered | HostRefused | None = None
        self.wake: Callable[[], object] = lambda: None


class _Host:
    """One host's state, and who waits for it, in order."""

    __slots__ = ("queue", "state")

    def __init__(self, state: machine.State) -> None:
        self.state = state
        self.queue: OrderedDict[int, Waiter] = OrderedDict()


class HostBook:
    """One process's. `chance` gives numbers from 0 to 1. Times are those of the process's monotonic clock.

    `refused` counts by reason, `throttled` how often a host asked for less, `opened` how often a circuit was
    opened; `waiting` and `under_way` are how many requests (and bodies) there are now.
    """

    def __init__(self, policy: SourcePolicy, chance: Callable[[], float]) -> None:
        self.refused: Counter[Reason] = Counter()
        self.throttled = 0
        self.opened = 0
        self.waiting = 0
        self.under_way = 0
        self._rules = machine.Rules(policy.per_host_connections, policy.per_host_bytes_per_s)
        self._fair_s = min(policy.connect_timeout_s, policy.read_timeout_s)
        self._chance = chance
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._bodies: dict[int, Permit] = {}

    def __len__(self) -> int:
        """Of how many hosts something is known."""
        return len(self._hosts)

    def join(self, call: EnterHost, now_s: float) -> Waiter:
        """Somebody comes; who is neither let in nor refused at once stands in line."""
        host = self._find(call.host)
        waiter = Waiter(call.host, now_s, now_s + call.at_most_s)
        host.queue[id(waiter)] = waiter
        self.waiting += 1
        self._look(host, waiter, now_s)
        return waiter

    def look(self, waiter: Waiter, now_s: float) -> float:
        """Whether anything has come of it; else, when to look again at the latest."""
        if waiter.reply is not None:
            return now_s
        host = self._hosts[waiter.host]
        self._look(host, waiter, now_s)
        quiet_until_s = host.state.quiet_until_s
        return min(waiter.by_s, quiet_until_s) if quiet_until_s > now_s else waiter.by_s

    def leave(self, waiter: Waiter, now_s: float) -> None:
        """Nobody wants it any more, whether or not anything has come of it."""
        match waiter.reply:
            case None:
                del self._hosts[waiter.host].queue[id(waiter)]
                self.waiting -= 1
            case HostEntered(permit):
                self.give_back(permit, now_s)

    def give_back(self, permit: Permit, now_s: float) -> None:
        """The permit was not used."""
        self._answered(permit, Outcome.UNKNOWN, None, now_s, ended=True)

    def answered(self, call: OpenBody, reply: BodyOpened | TransportFailure | None, now_s: float) -> None:
        """What came of a request; None: it was cut off."""
        if call.permit is None:
            return
        outcome, retry_s = self._outcome(call, reply)
        if isinstance(reply, BodyOpened):
            self._bodies[reply.body] = call.permit
        self._answered(call.permit, outcome, retry_s, now_s, ended=not isinstance(reply, BodyOpened))

    def closed(self, body: int, now_s: float) -> None:
        """A body is closed; that may be said again."""
        permit = self._bodies.pop(body, None)
        if permit is not None:
            host = self._hosts[permit.host]
            host.state = machine.ended(host.state)
            self.under_way -= 1
            self._move_up(host, now_s)

    def spend(self, body: int, size: int, now_s: float) -> float:
        """So many bytes of a body have come: how long to wait before more are read."""
        permit = self._bodies.get(body)
        if permit is None:
            return 0.0
        host = self._hosts[permit.host]
        host.state, wait_s = machine.spend(host.state, size, now_s)
        return wait_s

    def say_opened(self, host: str, for_s: float) -> None:
        """A host's circuit was opened."""
        log.warning(
            "an origin fails time after time, and is left alone", extra={"host": host, "for_s": round(for_s, 1)}
        )

    def say_closed(self, host: str) -> None:
        """It was closed."""
        log.info("an origin answers again", extra={"host": host})

    def _find(self, name: str) -> _Host:
        """The host, now the one that was asked for last; of too many, those that rest are forgotten, oldest first."""
        host = self._hosts.get(name)
        if host is not None:
            self._hosts.move_to_end(name)
            return host
        while len(self._hosts) >= REMEMBERED:
            resting = next(
                (key for key, each in self._hosts.items() if not each.state.under_way | len(each.queue)), None
            )
            if resting is None:
                break
            del self._hosts[resting]
        host = self._hosts[name] = _Host(machine.new(name, self._rules))
        return host

    def _outcome(self, call: OpenBody, reply: BodyOpened | TransportFailure | None) -> tuple[Outcome, float | None]:
        """What a reply says of the host. One cut short by the mirror's own hurry says nothing."""
        match reply:
            case BodyOpened(status=status, headers=headers):
                retry_s = retry_after_s(headers)
                if status == 429 or (status == 503 and retry_s is not None):
                    return Outcome.THROTTLED, retry_s
                if status in _GATEWAY:
                    return Outcome.OVERLOADED if status == 503 else Outcome.FAILED, None
                return Outcome.ANSWERED, None
            case TransportFailure(FailureKind.TIMEOUT) if call.timeout_s < self._fair_s:
                return Outcome.UNKNOWN, None
            case TransportFailure(kind) if kind in _UNREACHED:
                return Outcome.FAILED, None
            case _:
                return Outcome.UNKNOWN, None

    def _answered(self, permit: Permit, outcome: Outcome, retry_s: float | None, now_s: float, *, ended: bool) -> None:
        host = self._hosts[permit.host]
        before = host.state
        state = machine.answered(before, permit, outcome, retry_s, now_s, self._chance())
        host.state = machine.ended(state) if ended else state
        self.under_way -= ended
        if outcome in (Outcome.THROTTLED, Outcome.OVERLOADED):
            self.throttled += 1
        if state.openings > before.openings:
            self.opened += 1
            self.say_opened(permit.host, state.open_until_s - now_s)
        elif before.openings > state.openings:
            self.say_closed(permit.host)
        if (state.round, state.quiet_until_s) != (before.round, before.quiet_until_s):
            self._tell_all(host, now_s)
        else:
            self._move_up(host, now_s)

    def _look(self, host: _Host, waiter: Waiter, now_s: float) -> None:
        """Let in whose turn it is; then it may be that this one is refused, although it is not."""
        self._move_up(host, now_s)
        if waiter.reply is None:
            self._decide(host, waiter, now_s)

    def _move_up(self, host: _Host, now_s: float) -> None:
        """Whoever is first in line, as long as there is something to tell."""
        while host.queue and self._decide(host, next(iter(host.queue.values())), now_s):
            pass

    def _tell_all(self, host: _Host, now_s: float) -> None:
        """All has changed: tell each what there is to tell, and have the others look when it is time now."""
        for waiter in tuple(host.queue.values()):
            if not self._decide(host, waiter, now_s):
                waiter.wake()

    def _decide(self, host: _Host, waiter: Waiter, now_s: float) -> bool:
        """Whether there is something to tell it."""
        host.state, verdict = machine.admit(host.state, now_s, waiter.by_s)
        match verdict:
            case Wait():
                return False
            case Permit():
                self.under_way += 1
                waiter.reply = HostEntered(verdict, max(0.0, now_s - waiter.since_s))
            case _:
                waiter.reply = verdict
                self.refused[verdict.reason] += 1
        del host.queue[id(waiter)]
        self.waiting -= 1
        waiter.wake()
        return True
