"""Tests in a trio run of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

import trio

from cloud_mirror_trio.http_client import HttpClient
from tests.shells.drivers import PATIENCE_S as PATIENCE_S

P = ParamSpec("P")


def in_trio(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in a run of its own. No task can outlive it: trio sees to that."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def whole() -> None:
            with trio.fail_after(2 * PATIENCE_S):
                await test(*args, **kwargs)

        trio.run(whole)

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event to wait on
            await trio.sleep(0.005)


@asynccontextmanager
async def http_client(allow_private: bool = True) -> Any:
    """An `HttpClient`, closed at the end; no body may be left open in it."""
    client = HttpClient(allow_private)
    try:
        yield client
        assert client.open_bodies == 0, "a body was left open"
    finally:
        with trio.CancelScope(shield=True):
            await client.close()
