"""Tests on an event loop of their own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from cloud_mirror_asyncio.http_client import HttpClient
from tests.shells.drivers import PATIENCE_S as PATIENCE_S

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in a loop of its own; it may leave no task behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def whole() -> None:
            before = asyncio.all_tasks()
            await test(*args, **kwargs)
            _, left = await asyncio.wait({*asyncio.all_tasks(), asyncio.create_task(_nothing())} - before, timeout=5)
            assert not left, f"tasks are left behind: {left}"

        asyncio.run(whole())

    return run


async def _nothing() -> None:
    """A task, so that there is one to wait for."""


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event to wait on
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def http_client(allow_private: bool = True) -> Any:
    """An `HttpClient`, closed at the end; no body may be left open in it."""
    client = HttpClient(allow_private)
    try:
        yield client
        assert client.open_bodies == 0, "a body was left open"
    finally:
        await client.close()
