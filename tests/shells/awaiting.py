"""Waiting in tests that anyio runs, on asyncio or on trio."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from tests.shells.drivers import PATIENCE_S

ON_ANYIO = [pytest.mark.anyio, pytest.mark.timeout(2 * PATIENCE_S)]
"""Marks of a module whose coroutine functions are tests."""


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event to wait on
            await anyio.sleep(0.005)


async def turns(count: int) -> None:
    """Let the others have so many turns."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()
