"""Performs wire calls: the one place where a procedure meets sockets, clocks and chance."""

from __future__ import annotations

import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, TypeVar

import trio

from cloud_mirror.changing import CHANGING
from cloud_mirror.policy import Policy
from cloud_mirror.wire.calls import (
    AwaitNotice,
    Backoff,
    Call,
    CloseBody,
    DigestBytes,
    Done,
    EnterHost,
    GetMonotonicTime,
    GetNoticeSequence,
    GetSigningMaterial,
    HttpExchange,
    MonotonicTime,
    NoticeSequence,
    OpenBody,
    PaceBody,
    Pause,
    Procedure,
    ReadBody,
    RedisCommand,
    ReleaseMemory,
    Reply,
    ReserveMemory,
    SigningMaterial,
    TransportFailure,
)
from cloud_mirror.wire.credentials import CredentialSource
from cloud_mirror.wire.memory import Memory
from cloud_mirror_trio.http_client import HttpClient
from cloud_mirror_trio.nursery import open_background
from cloud_mirror_trio.redis_client import Notices, RedisClient

T = TypeVar("T")

LAST_S: Final = 2.0
"""How long what must not be cut off may still take once its owner leaves without draining."""


class Runtime:
    """The clients of one process; see `open_runtime`. Its clock is trio's."""

    def __init__(self, policy: Policy, channels: tuple[str, ...], nursery: trio.Nursery) -> None:
        self.http = HttpClient(policy.source)
        self.redis = RedisClient(policy.redis, nursery)
        self.notices = Notices(policy.redis, channels)
        self.memory = Memory(policy.worker.memory_budget_bytes)
        self._credentials = CredentialSource(time.monotonic)  # it is asked in a thread, where trio has no clock
        self._loading = trio.Lock()
        self._finishing: set[trio.CancelScope] = set()
        self._ends_s = math.inf

    async def close(self) -> None:
        """Close every connection."""
        self.redis.close()
        await self.http.close()

    async def perform(self, procedure: Procedure[T]) -> T:
        """Drive a procedure to its end."""
        try:
            call = next(procedure)
            while True:
                call = procedure.send(await self._reply(call))
        except StopIteration as end:
            result: T = end.value
            return result

    async def carry_out(self, action: object, procedure: Procedure[T]) -> T:
        """Drive an action's procedure: one that changes something is not cancelled half-way."""
        return await (self.finish(procedure) if isinstance(action, CHANGING) else self.perform(procedure))

    async def finish(self, procedure: Procedure[T]) -> T:
        """Drive a procedure that changes something: who is cancelled meanwhile waits for its end."""
        with trio.CancelScope(shield=True, deadline=self._ends_s) as scope:
            self._finishing.add(scope)
            try:
                return await self.perform(procedure)
            finally:
                self._finishing.discard(scope)
        await trio.lowlevel.checkpoint()  # here waits the cancellation that was held off
        raise RuntimeError("the mirror was left before this was finished: leave it after what uses it")

    def hurry(self) -> None:
        """All is being cancelled: give what changes something `LAST_S` more."""
        self._ends_s = trio.current_time() + LAST_S
        for scope in self._finishing:
            scope.deadline = self._ends_s

    async def _reply(self, call: Call) -> Reply:
        match call:
            case HttpExchange():
                return await self.http.exchange(call)
            case EnterHost():
                return await self.http.hosts.enter(call)
            case OpenBody():
                return await self.http.open_body(call)
            case ReadBody():
                return await self.http.read_body(call)
            case CloseBody():
                return await self.http.close_body(call)
            case PaceBody():
                return self.http.hosts.pace(call)
            case RedisCommand():
                return await self.redis.command(call)
            case GetSigningMaterial():
                return await self._signing_material()
            case Backoff(at_most_s):
                await trio.sleep(random.uniform(0, at_most_s))  # noqa: S311  # jitter is no secret
                return Done()
            case Pause(for_s):
                await trio.sleep(for_s)
                return Done()
            case GetMonotonicTime():
                return MonotonicTime(trio.current_time())
            case GetNoticeSequence():
                return NoticeSequence(self.notices.board.sequence)
            case AwaitNotice(entry_key, sequence, timeout_s):
                await self.notices.wait(entry_key, sequence, timeout_s)
                return Done()
            case ReserveMemory():
                return await self._reserve(call)
            case ReleaseMemory():
                self.memory.give_back(call)
                return Done()
            case DigestBytes():
                return await trio.to_thread.run_sync(call.carry_out) if call.is_much else call.carry_out()

    async def _reserve(self, call: ReserveMemory) -> Done:
        granted = trio.Event()
        with self.memory.asking(call, granted.set):
            await granted.wait()
        return Done()

    async def _signing_material(self) -> SigningMaterial | TransportFailure:
        """Credentials from memory; in a thread where they have to be found or refreshed."""
        keys = self._credentials.current()
        if keys is None:
            async with self._loading:
                keys = self._credentials.current() or await trio.to_thread.run_sync(self._credentials.load)
        return self._credentials.reply(keys, datetime.now(UTC))


@asynccontextmanager
async def open_runtime(policy: Policy, channels: tuple[str, ...] = ()) -> AsyncIterator[Runtime]:
    """The clients of a process, closed at the end."""
    async with open_background() as nursery:
        runtime = Runtime(policy, channels, nursery)
        try:
            yield runtime
        finally:
            with trio.CancelScope(shield=True):
                await runtime.close()
