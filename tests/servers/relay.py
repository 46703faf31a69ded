"""A relay before Redis that puts faults where a test wants them, and can lose published messages, which Redis promises
at most once.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.servers.proxy import Hold, Point
from tests.servers.streams import GONE, Head, ThreadServer

PUSHED: Final = b"$7\r\nmessage\r\n"
"""What every published message holds (RESP2 and RESP3), and no other reply to the mirror does."""

Words = tuple[str, ...]
"""A command, word by word."""


@dataclass(slots=True)
class _Fault:
    point: Point
    when: Callable[[Words], bool]
    times: int | None
    hold: Hold | None

    def strikes(self, words: Words) -> bool:
        """Whether it strikes this command, which is counted if so."""
        if self.times == 0 or not self.when(words):
            return False
        self.times = None if self.times is None else self.times - 1
        return True


class RedisRelay(ThreadServer):
    """Passes commands and replies on between clients and a Redis server.

    While `deaf`, published messages get lost; each piece of a reply takes `delay_s`. A fault strikes the commands that
    meet its condition: at the request, before Redis sees the command, or at the reply, once Redis has acted on it.
    """

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.deaf = False
        self.delay_s = 0.0
        self.lost = 0
        self._down = False
        self._faults: list[_Fault] = []
        self._subscriptions: set[asyncio.StreamWriter] = set()
        self._upstream_port = port

    @property
    def listeners(self) -> int:
        """How many subscriptions pass here."""
        return len(self._subscriptions)

    def cut_subscriptions(self) -> int:
        """End every connection that subscribes; how many they were."""
        cut = tuple(self._subscriptions)
        for upstream in cut:
            self.loop.call_soon_threadsafe(upstream.close)
        return len(cut)

    def hold(self, point: Point, when: Callable[[Words], bool]) -> Hold:
        """Hold the first such command, or its reply, until the result's `release`; with it what follows it there."""
        hold = Hold(self.loop)
        self._faults = [*self._faults, _Fault(point, when, 1, hold)]
        return hold

    def cut(self, point: Point, when: Callable[[Words], bool], times: int | None = None) -> None:
        """End the connection on which such a command comes (None: each time)."""
        self._faults = [*self._faults, _Fault(point, when, times, None)]

    def stop(self) -> None:
        """Be as a Redis that is away: end every connection, and take none."""
        self._down = True
        self.loop.call_soon_threadsafe(self.drop)

    def drop(self) -> None:
        """End every connection; called on the loop."""
        for task in self._connections:
            task.cancel()

    def clear(self) -> None:
        """Have no more faults, and be there."""
        self._down = self.deaf = False
        faults, self._faults = self._faults, []
        for fault in faults:
            if fault.hold is not None:
                fault.hold.release()

    def __exit__(self, *exception: object) -> None:
        self.clear()
        super().__exit__(*exception)

    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Not reached: what comes here is no HTTP."""
        raise NotImplementedError

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            if self._down:
                return
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            struck: list[_Fault] = []  # at whose reply something is to happen
            passing = [
                asyncio.ensure_future(way)
                for way in (self._commands(reader, upstream, struck), self._replies(answers, writer, struck))
            ]
            try:
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in passing:
                    way.cancel()
        except GONE:
            pass
        except asyncio.CancelledError:
            if not (self.closing or self._down):
                raise
        finally:
            self._connections.discard(task)
            for side in (writer, upstream):
                if side is not None:
                    side.close()

    async def _commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, struck: list[_Fault]) -> None:
        try:
            while True:
                raw, words = await _read_command(reader)
                if words[0].upper() == "SUBSCRIBE":
                    self._subscriptions.add(writer)
                faults = [fault for fault in self._faults if fault.strikes(words)]
                for fault in faults:
                    if fault.point is Point.REPLY:
                        struck.append(fault)
                    elif fault.hold is not None:
                        await fault.hold.pass_by()
                    else:
                        return
                writer.write(raw)
                await writer.drain()
        except GONE:
            pass
        finally:
            self._subscriptions.discard(writer)

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, struck: list[_Fault]) -> None:
        with contextlib.suppress(*GONE):
            while data := await reader.read(65_536):
                if self.deaf and PUSHED in data:
                    self.lost += data.count(PUSHED)
                    continue
                while struck:
                    fault = struck.pop(0)
                    if fault.hold is None:
                        return
                    await fault.hold.pass_by()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()


async def _read_command(reader: asyncio.StreamReader) -> tuple[bytes, Words]:
    """The next command, as it came and word by word (RESP, an array of bulk strings)."""
    raw = await reader.readuntil(b"\r\n")
    words = []
    for _ in range(int(raw[1:])):
        size = await reader.readuntil(b"\r\n")
        word = await reader.readexactly(int(size[1:]) + 2)
        raw += size + word
        words.append(word[:-2].decode("utf-8", "replace"))
    return raw, tuple(words)
