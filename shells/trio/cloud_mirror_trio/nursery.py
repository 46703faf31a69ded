"""Two things that trio leaves to its users: a nursery for what runs behind the scenes, and waiting for an end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVarTuple, Unpack

import trio

Arguments = TypeVarTuple("Arguments")


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are ended when the body is left.

    What the body raises comes out as it is, not in a group: that there is a nursery is nobody else's business.
    """
    manager = trio.open_nursery()
    nursery = await manager.__aenter__()
    try:
        yield nursery
    finally:
        nursery.cancel_scope.cancel()
        await manager.__aexit__(None, None, None)


class Tally:
    """Counts what is under way: each in a `with tally:` of its own, or started by it."""

    def __init__(self) -> None:
        self._count = 0
        self._nothing = trio.Event()

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._nothing.set()
            self._nothing = trio.Event()

    def start(
        self, nursery: trio.Nursery, work: Callable[[Unpack[Arguments]], Awaitable[None]], *arguments: *Arguments
    ) -> None:
        """Start a task that counts from now on, not only from its first turn."""
        self.__enter__()
        nursery.start_soon(self._run, work, arguments)

    async def _run(self, work: Callable[[Unpack[Arguments]], Awaitable[None]], arguments: tuple[*Arguments]) -> None:
        try:
            await work(*arguments)
        finally:
            self.__exit__()

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        while self._count:
            await self._nothing.wait()
