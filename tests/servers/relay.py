"""A relay before Redis that can lose published messages, which Redis promises at most once."""

import asyncio
import contextlib
from typing import Final

from tests.servers.streams import GONE, Head, ThreadServer

PUSHED: Final = b"$7\r\nmessage\r\n"
"""What every published message holds (RESP2), and no other reply to the mirror does."""


class DeafRelay(ThreadServer):
    """Passes bytes on between clients and a Redis server; while `deaf`, published messages get lost."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.deaf = False
        self.lost = 0
        self._upstream_port = port

    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Not reached: what comes here is no HTTP."""
        raise NotImplementedError

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            ways = self._pass(reader, upstream, False), self._pass(answers, writer, True)
            passing = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task_of_way in passing:
                    task_of_way.cancel()
        except GONE:
            pass
        except asyncio.CancelledError:
            if not self.closing:
                raise
        finally:
            self._connections.discard(task)
            for side in (writer, upstream):
                if side is not None:
                    side.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        with contextlib.suppress(*GONE):
            while data := await reader.read(65_536):
                if answers and self.deaf and PUSHED in data:
                    self.lost += data.count(PUSHED)
                    continue
                writer.write(data)
                await writer.drain()
