"""A proxy before a store or a queue: it adds what the store does not say, and puts faults where a test wants them."""

import asyncio
import contextlib
import enum
import re
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from tests.servers.streams import PIECE_BYTES, Head, ThreadServer, body_pieces, read_head

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Point(enum.Enum):
    """Where a fault strikes: before the store sees the request, or after it has acted on it."""

    REQUEST = "request"
    REPLY = "reply"


class Hold:
    """A hold on the requests that a fault strikes: they stop at its point until it is released."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reached = threading.Event()
        self._released = asyncio.Event()

    def wait_reached(self, timeout_s: float = 30.0) -> None:
        """Return as soon as a request is held."""
        if not self._reached.wait(timeout_s):
            raise TimeoutError(f"No request came to be held within {timeout_s} s")

    @property
    def reached(self) -> bool:
        """Whether a request was held yet."""
        return self._reached.is_set()

    def release(self) -> None:
        """Let go on what is held, and hold nothing more."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def pass_by(self) -> None:
        """Stop here until released."""
        self._reached.set()
        await self._released.wait()


@dataclass(slots=True)
class Fault:
    """What happens to the requests that it matches: `nth` says to which of them, from 1, or None to each."""

    point: Point
    method: re.Pattern[str]
    target: re.Pattern[str]
    nth: int | None
    when: Callable[[Head], bool]
    hold: Hold | None = None
    delay_s: float = 0.0
    cut_after_bytes: int | None = None
    canned: bytes | None = None
    struck: int = field(default=0)

    def strikes(self, head: Head) -> bool:
        """Whether it strikes this request, which is counted if it matches."""
        method, target, _ = head.words
        if not (self.method.fullmatch(method) and self.target.search(target) and self.when(head)):
            return False
        self.struck += 1
        return self.nth is None or self.struck == self.nth


class _CutError(ConnectionError):
    """A connection is to be cut here."""


class FaultProxy(ThreadServer):
    """An HTTP/1.1 proxy with faults. It forwards Host as it came, so that what a client signed for it stays valid.

    `lifespan_s`: GET and HEAD of an object say in `x-amz-expiration` that it expires that long after Last-Modified.
    `expires_at`: they say this moment instead, whatever the object. Both None: the header is not added.
    `host`: the name that it goes by.
    Faults are tried in the order in which they were set; every one that strikes has its effect.
    """

    def __init__(self, upstream_url: str, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        upstream = urlsplit(upstream_url)
        self._upstream = (upstream.hostname or "", upstream.port or 80)
        self._faults: list[Fault] = []
        self.lifespan_s: float | None = None
        self.expires_at: datetime | None = None

    def expire_in(self, seconds: float) -> None:
        """Say of every object that it expires so many seconds from now (to the second: the header has no more)."""
        self.expires_at = datetime.now(UTC) + timedelta(seconds=seconds)

    def hold(
        self, point: Point, method: str = ".*", target: str = "", nth: int | None = 1, when: "When" = None
    ) -> Hold:
        """Hold matching requests at that point until the result's `release`."""
        hold = Hold(self.loop)
        self._set(Fault(point, *self._match(method, target), nth, when or _always, hold=hold))
        return hold

    def delay(
        self,
        point: Point,
        seconds: float,
        method: str = ".*",
        target: str = "",
        nth: int | None = None,
        when: "When" = None,
    ) -> Fault:
        """Let matching requests wait at that point."""
        return self._set(Fault(point, *self._match(method, target), nth, when or _always, delay_s=seconds))

    def cut(
        self,
        point: Point,
        method: str = ".*",
        target: str = "",
        nth: int | None = None,
        after_bytes: int = 0,
        when: "When" = None,
    ) -> Fault:
        """Cut matching requests, or their replies, after so many bytes of the body (0: before the head)."""
        return self._set(Fault(point, *self._match(method, target), nth, when or _always, cut_after_bytes=after_bytes))

    def answer(
        self,
        status: int,
        method: str = ".*",
        target: str = "",
        nth: int | None = None,
        code: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        when: "When" = None,
    ) -> Fault:
        """Answer matching requests in the store's stead: with an S3 error of that code, unless a body is given."""
        if body is None:
            body = f"<Error><Code>{code}</Code><Message>made up</Message></Error>".encode() if code else b""
        head = Head(("HTTP/1.1", str(status), HTTPStatus(status).phrase), (*headers, ("Connection", "close")))
        if status != HTTPStatus.NO_CONTENT:
            head = head.adding(("Content-Length", str(len(body))))
        canned = head.encode() + body
        return self._set(Fault(Point.REQUEST, *self._match(method, target), nth, when or _always, canned=canned))

    def clear(self) -> None:
        """Have no more faults, and release what is held."""
        faults, self._faults = self._faults, []
        for fault in faults:
            if fault.hold is not None:
                fault.hold.release()

    def __exit__(self, *exception: object) -> None:
        self.clear()
        super().__exit__(*exception)

    @staticmethod
    def _match(method: str, target: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return re.compile(method), re.compile(target)

    def _set(self, fault: Fault) -> Fault:
        self._faults = [*self._faults, fault]  # a new list: the loop's thread may be reading the old one
        return fault

    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry one request to the store and its reply back, each on a connection that then ends."""
        struck = [fault for fault in self._faults if fault.strikes(head)]
        with contextlib.suppress(_CutError):
            cut_request = await self._pass(Point.REQUEST, struck)
            if canned := next((fault.canned for fault in struck if fault.canned is not None), None):
                await self._answer_canned(canned, head, reader, writer)
                return False
            upstream_reader, upstream = await asyncio.open_connection(*self._upstream, limit=4 * PIECE_BYTES)
            try:
                sending = asyncio.ensure_future(self._send(head, reader, writer, upstream, cut_request))
                try:
                    return await self._reply(head, upstream_reader, writer, struck, sending)
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
            finally:
                upstream.close()
        return False

    @staticmethod
    async def _pass(point: Point, struck: list[Fault]) -> int | None:
        """Suffer the waits at a point; give after how many bytes of the body to cut; where that is 0, cut at once."""
        cuts = []
        for fault in struck:
            if fault.point is point:
                if fault.hold is not None:
                    await fault.hold.pass_by()
                await asyncio.sleep(fault.delay_s)
                if fault.cut_after_bytes is not None:
                    cuts.append(fault.cut_after_bytes)
        if 0 in cuts:
            raise _CutError
        return min(cuts, default=None)

    @staticmethod
    async def _answer_canned(
        canned: bytes, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if head.header("expect"):
            writer.write(CONTINUE)
        async for _ in body_pieces(reader, head):
            pass  # read first: a reply before the end of a request may be lost with the connection
        writer.write(canned.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head.words[0] == "HEAD" else canned)
        await writer.drain()

    async def _send(
        self,
        head: Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: asyncio.StreamWriter,
        cut: int | None,
    ) -> None:
        """Send the request on. An expected 100 is given here, so that the body can be sent without a turn."""
        if head.header("expect"):
            writer.write(CONTINUE)
        upstream.write(head.without("expect", "connection").adding(("Connection", "close")).encode())
        await _copy(body_pieces(reader, head), upstream, cut)

    async def _reply(
        self,
        request: Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        struck: list[Fault],
        sending: "asyncio.Future[None]",
    ) -> bool:
        """Pass the reply back. True where the client may send its next request on the same connection."""
        receiving = asyncio.ensure_future(read_head(reader))
        either: tuple[asyncio.Future[Any], ...] = (receiving, sending)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()  # a cut, or a client that went away
            head = await receiving
        finally:
            receiving.cancel()
        if head is None:
            raise _CutError  # as the store did
        cut = await self._pass(Point.REPLY, struck)
        keep = sending.done() and request.header("connection").lower() != "close"
        head = head.without("connection").adding(*self._expiration(request, head))
        bodiless = request.words[0] == "HEAD" or head.words[1] in ("204", "304")
        delimited = bodiless or bool(head.header("content-length") or head.header("transfer-encoding"))
        keep = keep and delimited
        writer.write(head.adding(*(() if keep else (("Connection", "close"),))).encode())
        if not bodiless:
            await _copy(body_pieces(reader, head, until_end=True), writer, cut)
        await writer.drain()
        return keep

    def _expiration(self, request: Head, reply: Head) -> tuple[tuple[str, str], ...]:
        """`x-amz-expiration` as S3 writes it, where it belongs and a test asked for it."""
        method, target, _ = request.words
        names_object = re.fullmatch(r"/[^/?]+/[^?]+(\?.*)?", target) is not None
        if method not in ("GET", "HEAD") or reply.words[1] not in ("200", "206") or not names_object:
            return ()
        moment, modified = self.expires_at, reply.header("last-modified")
        if moment is None and self.lifespan_s is not None and modified:
            moment = parsedate_to_datetime(modified) + timedelta(seconds=self.lifespan_s)
        if moment is None:
            return ()
        return (("x-amz-expiration", f'expiry-date="{format_datetime(moment, usegmt=True)}", rule-id="expire"'),)


When = Callable[[Head], bool] | None
"""A further condition on the request's head, for what method and target do not tell."""


def _always(_: Head) -> bool:
    return True


async def _copy(pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter, cut: int | None) -> None:
    """Copy a body, a piece at a time; `cut`: break off after so many bytes."""
    copied = 0
    async for piece in pieces:
        part = piece if cut is None else piece[: cut - copied]
        writer.write(part)
        await writer.drain()
        copied += len(part)
        if copied == cut:
            raise _CutError
