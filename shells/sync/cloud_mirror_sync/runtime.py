"""Performs wire calls: the one place where a procedure meets sockets, clocks and chance."""

from __future__ import annotations

import random
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Final, TypeVar

from cloud_mirror.policy import Policy
from cloud_mirror.wire.calls import (
    AwaitNotice,
    Backoff,
    BodyOpened,
    Call,
    CloseBody,
    DigestBytes,
    Done,
    EnterHost,
    GetMonotonicTime,
    GetNoticeSequence,
    GetSigningMaterial,
    HostEntered,
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
from cloud_mirror_sync.http_client import HttpClient
from cloud_mirror_sync.redis_client import Notices, RedisClient
from cloud_mirror_sync.stop import Stop, StoppedError

T = TypeVar("T")

ANYTIME: Final = nullcontext()


class Runtime:
    """The clients of one process, for any number of threads."""

    def __init__(self, policy: Policy, channels: tuple[str, ...] = ()) -> None:
        self.http = HttpClient(policy.source)
        self.redis = RedisClient(policy.redis)
        self.notices = Notices(policy.redis, channels)
        self.memory = Memory(policy.worker.memory_budget_bytes, threading.Lock())
        self._credentials = CredentialSource(time.monotonic)
        self._loading = threading.Lock()

    def close(self) -> None:
        """Close every connection."""
        self.http.close()
        self.redis.close()

    def perform(
        self, procedure: Procedure[T], stop: Stop | None = None, turn: AbstractContextManager[object] = ANYTIME
    ) -> T:
        """Drive a procedure to its end; raises `StoppedError` where that is called off.

        `turn` is held during its steps, not during its calls: for procedures that share something.
        """
        stop = stop or Stop()
        try:
            with turn:
                call = next(procedure)
            while True:
                reply = self._reply(call, stop)
                if stop.is_set:
                    self._forget(reply)
                    raise StoppedError
                with turn:
                    call = procedure.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            procedure.close()

    def _forget(self, reply: Reply) -> None:
        """A body that was opened for nobody is closed, and a permit that nobody wants given back."""
        match reply:
            case BodyOpened(body):
                self.http.close_body(CloseBody(body))
            case HostEntered():
                self.http.hosts.forget(reply)

    def _reply(self, call: Call, stop: Stop) -> Reply:
        match call:
            case HttpExchange():
                return self.http.exchange(call, stop)
            case EnterHost():
                return self.http.hosts.enter(call, stop)
            case OpenBody():
                return self.http.open_body(call, stop)
            case ReadBody():
                return self.http.read_body(call, stop)
            case CloseBody():
                return self.http.close_body(call)
            case PaceBody():
                return self.http.hosts.pace(call)
            case RedisCommand():
                return self.redis.command(call)
            case GetSigningMaterial():
                return self._signing_material()
            case Backoff(at_most_s):
                stop.sleep(random.uniform(0, at_most_s))  # noqa: S311  # jitter is no secret
                return Done()
            case Pause(for_s):
                stop.sleep(for_s)
                return Done()
            case GetMonotonicTime():
                return MonotonicTime(time.monotonic())
            case GetNoticeSequence():
                return NoticeSequence(self.notices.sequence)
            case AwaitNotice(entry_key, sequence, timeout_s):
                self.notices.wait(entry_key, sequence, timeout_s, stop)
                return Done()
            case ReserveMemory():
                return self._reserve(call, stop)
            case ReleaseMemory():
                self.memory.give_back(call)
                return Done()
            case DigestBytes():
                return call.carry_out()

    def _reserve(self, call: ReserveMemory, stop: Stop) -> Done:
        granted = threading.Event()
        with self.memory.asking(call, granted.set), stop.interrupting(granted.set):
            granted.wait()
            stop.check()
        return Done()

    def _signing_material(self) -> SigningMaterial | TransportFailure:
        """Credentials from memory; one thread finds or refreshes them, the others wait for it."""
        keys = self._credentials.current()
        if keys is None:
            with self._loading:
                keys = self._credentials.current() or self._credentials.load()
        return self._credentials.reply(keys, datetime.now(UTC))
