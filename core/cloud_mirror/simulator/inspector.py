"""Who looks on at what the network carries out."""

from __future__ import annotations

from typing import Protocol

from cloud_mirror.simulator.engine import Task
from cloud_mirror.simulator.models import Executed
from cloud_mirror.wire.calls import HttpReply, HttpRequest


class Inspector(Protocol):
    """What it is told, before and after."""

    def opening(self, task: Task, request: HttpRequest) -> None:
        """An origin is contacted."""
        ...

    def scripting(self, words: tuple[str | bytes, ...]) -> None:
        """Redis is about to carry a command out."""
        ...

    def script(self, task: Task, words: tuple[str | bytes, ...], executed: Executed) -> None:
        """Redis carried a command out."""
        ...

    def stored(self, task: Task, pool: str, request: HttpRequest, reply: HttpReply) -> None:
        """A store answered, and did what it answered."""
        ...

    def queueing(self, request: HttpRequest) -> None:
        """The queue is about to carry a request out."""
        ...

    def queued(self, task: Task, request: HttpRequest, reply: HttpReply) -> None:
        """The queue did."""
        ...
