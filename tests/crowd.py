"""A crowd of clients that ask for one new URL at the same moment, and what that made the mirror do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fleet import Fleet, Process, at_once, queue_calls
from tests.servers import FaultProxy, Origin
from tests.servers.processes import wait_until


@dataclass(frozen=True)
class Tally:
    """What came of one round: what each client got (or the exception), and what origin and queue saw."""

    replies: list[Any]
    heads: int
    gets: int
    jobs: int
    seconds: float


@dataclass
class Crowd:
    """A fleet of which every part is watched: front ends that are asked in turn, and one back end."""

    fleet: Fleet
    fronts: Sequence[Process]
    back: Process
    origin: Origin
    queue_proxy: FaultProxy

    def ask(self, path: str, head_delay_s: float, requests: int = 200) -> Tally:
        """Put a new object at the origin, empty the cache, and have all ask at once. Returns when all work is over."""
        url = self.origin.put(path, path.encode(), head_delay_s=head_delay_s)
        ended = self.back.metric("cloud_mirror_copies_total")
        self.fleet.valkey.flush()
        self.origin.forget()
        self.queue_proxy.forget()
        begun = time.monotonic()
        replies = at_once(requests, lambda number: self.fronts[number % len(self.fronts)].ask(url))
        seconds = time.monotonic() - begun
        wait_until(
            lambda: (
                self.back.metric("cloud_mirror_copies_total") - ended >= queue_calls(self.queue_proxy, "SendMessage")
            ),
            60,
            lambda: "a job that was sent was not brought to its end",
        )
        return Tally(
            replies,
            self.origin.count("HEAD", path),
            self.origin.count("GET", path),
            queue_calls(self.queue_proxy, "SendMessage"),
            seconds,
        )
