"""The asyncio runtime's own: a task that is cancelled although what it waited for has come."""

import asyncio

import pytest

from cloud_mirror.policy import Policy, WorkerPolicy
from cloud_mirror.wire.calls import Procedure, ReserveMemory
from tests.shells.awaiting import ON_ANYIO, until
from tests.shells.drivers import ASYNC_SHELLS

pytestmark = ON_ANYIO


def reserve(holder: str) -> Procedure[None]:
    yield ReserveMemory(holder, 60)


async def test_who_is_cancelled_in_the_moment_of_the_grant_holds_nothing() -> None:
    policy = Policy(worker=WorkerPolicy(memory_budget_bytes=100))
    async with ASYNC_SHELLS["asyncio"].open_runtime(policy) as runtime:
        await runtime.perform(reserve("a"))
        second = asyncio.create_task(runtime.perform(reserve("b")))
        await until(lambda: bool(runtime.memory.state.waiting))
        runtime.memory.forget("a")
        assert runtime.memory.state.holdings == (("b", 60),)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert runtime.memory.state.holdings == ()
