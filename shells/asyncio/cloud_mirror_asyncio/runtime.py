"""Performs wire calls: the one place where a procedure meets sockets, clocks and chance."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import TypeVar

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
from cloud_mirror_asyncio.http_client import HttpClient
from cloud_mirror_asyncio.redis_client import Notices, RedisClient

T = TypeVar("T")


class Runtime:
    """The clients of one process. Made inside a running event loop."""

    def __init__(self, policy: Policy, channels: tuple[str, ...] = ()) -> None:
        self.http = HttpClient(policy.source)
        self.redis = RedisClient(policy.redis)
        self.notices = Notices(policy.redis, channels)
        self.memory = Memory(policy.worker.memory_budget_bytes)
        self._credentials = CredentialSource(time.monotonic)
        self._loading = asyncio.Lock()

    async def close(self) -> None:
        """Close every connection."""
        await self.http.close()
        await self.redis.close()

    async def perform(self, procedure: Procedure[T]) -> T:
        """Drive a procedure to its end."""
        try:
            call = next(procedure)
            while True:
                call = procedure.send(await self._reply(call))
        except StopIteration as end:
            result: T = end.value
            return result

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
                await asyncio.sleep(random.uniform(0, at_most_s))  # noqa: S311  # jitter is no secret
                return Done()
            case Pause(for_s):
                await asyncio.sleep(for_s)
                return Done()
            case GetMonotonicTime():
                return MonotonicTime(time.monotonic())
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
                return await asyncio.to_thread(call.carry_out) if call.is_much else call.carry_out()

    async def _reserve(self, call: ReserveMemory) -> Done:
        granted = asyncio.Event()
        with self.memory.asking(call, granted.set):
            await granted.wait()
        return Done()

    async def _signing_material(self) -> SigningMaterial | TransportFailure:
        """Credentials from memory; off the event loop where they have to be found or refreshed."""
        keys = self._credentials.current()
        if keys is None:
            async with self._loading:
                keys = self._credentials.current() or await asyncio.to_thread(self._credentials.load)
        return self._credentials.reply(keys, datetime.now(UTC))
