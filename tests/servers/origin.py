"""An origin that does as a test tells it, also what no good origin would."""

import asyncio
import gzip
import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from tests.servers.streams import PIECE_BYTES, Head, ThreadServer, body_pieces

BLOCK_BYTES: Final = 1024 * 1024


class Content:
    """The bytes of an object: as given, or made from a seed as they are asked for, so that 300 MiB take no memory."""

    def __init__(self, body: bytes | None, size: int, seed: int) -> None:
        self._body = body
        self.size = size if body is None else len(body)
        self._block = b"" if body is not None else random.Random(seed).randbytes(BLOCK_BYTES)

    def pieces(self, start: int, stop: int, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`. Made ones: each block begins with its number."""
        while start < stop:
            number, offset = divmod(start, BLOCK_BYTES)
            end = min(stop, start - offset + BLOCK_BYTES, start + min(piece_bytes, PIECE_BYTES))
            if self._body is not None:
                yield self._body[start:end]
            else:
                block = number.to_bytes(8) + self._block[8:] if offset < 8 else self._block
                yield block[offset : offset + end - start]
            start = end

    def sha256(self) -> str:
        """The SHA-256 of all of them, in hex."""
        digest = hashlib.sha256()
        for piece in self.pieces(0, self.size):
            digest.update(piece)
        return digest.hexdigest()


@dataclass(slots=True)
class OriginObject:
    """What the origin has at a path, and how it behaves when asked for it. See `Origin.put`."""

    content: Content
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    head_status: int | None = None
    redirect_to: str = ""
    etag: str = ""
    accept_ranges: bool = False
    chunked: bool = False
    close_delimited: bool = False
    content_length: int | None = None
    break_after_bytes: int | None = None
    break_times: int | None = None
    head_delay_s: float = 0.0
    get_delay_s: float = 0.0
    rate_bytes_per_s: float | None = None


class Origin(ThreadServer):
    """The origin. Objects are found by the raw target, or by what stands before its `?`; others are 404."""

    def __init__(self) -> None:
        super().__init__("localhost")
        self._objects: dict[str, OriginObject] = {}
        self._digests: dict[str, str] = {}

    def put(
        self,
        path: str,
        body: bytes | None = None,
        *,
        size: int = 0,
        seed: int = 0,
        headers: dict[str, str] | None = None,
        compress: bool = False,
        status: int = 200,
        head_status: int | None = None,
        redirect_to: str = "",
        etag: str = "",
        accept_ranges: bool = False,
        chunked: bool = False,
        close_delimited: bool = False,
        content_length: int | None = None,
        break_after_bytes: int | None = None,
        break_times: int | None = None,
        head_delay_s: float = 0.0,
        get_delay_s: float = 0.0,
        rate_bytes_per_s: float | None = None,
    ) -> str:
        """Put an object at a path (a raw target) and give its URL. What it is asked for next is as it says here.

        The object is `body`, or `size` bytes made from `seed`. `compress`: the body goes out in gzip, and says so.
        `head_status`: HEAD gets this status, whatever GET gets. `redirect_to`: answer with a Location, status 302 if
        none is given. `etag`: with its quotes. `accept_ranges`: serve `Range`, under `If-Match` and `If-Range`.
        `chunked`: say no length. `close_delimited`: nothing but the connection's end delimits the body.
        `content_length`: say this length, right or wrong. `break_after_bytes`: break off after so many bytes of a
        body, `break_times` times in all (None: always). Delays come before the reply's head.
        """
        headers = dict(headers or {})
        if compress:
            body = gzip.compress(body or b"", mtime=0)
            headers["Content-Encoding"] = "gzip"
        if redirect_to and status == HTTPStatus.OK:
            status = HTTPStatus.FOUND
        self._digests.pop(path, None)
        self._objects[path] = OriginObject(
            content=Content(body if body is not None or size else b"", size, seed),
            headers=headers,
            status=status,
            head_status=head_status,
            redirect_to=redirect_to,
            etag=etag,
            accept_ranges=accept_ranges,
            chunked=chunked,
            close_delimited=close_delimited,
            content_length=content_length,
            break_after_bytes=break_after_bytes,
            break_times=break_times,
            head_delay_s=head_delay_s,
            get_delay_s=get_delay_s,
            rate_bytes_per_s=rate_bytes_per_s,
        )
        return self.url + path

    def remove(self, path: str) -> None:
        """Have nothing at that path any more."""
        del self._objects[path]

    def sha256(self, path: str) -> str:
        """The SHA-256, in hex, of the bytes that a client should get: compressed, if they go out so."""
        if path not in self._digests:
            self._digests[path] = self._objects[path].content.sha256()
        return self._digests[path]

    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request as the object at its target would have it."""
        async for _ in body_pieces(reader, head):
            pass
        method, target, _ = head.words
        found = self._objects.get(target) or self._objects.get(target.partition("?")[0])
        if found is None:
            found = OriginObject(Content(b"not here\n", 0, 0), status=HTTPStatus.NOT_FOUND)
        await asyncio.sleep(found.head_delay_s if method == "HEAD" else found.get_delay_s)
        status, start, stop, headers = self._answer(found, head)
        writer.write(Head(("HTTP/1.1", str(int(status)), HTTPStatus(status).phrase), tuple(headers.items())).encode())
        if method != "HEAD" and not await self._send(found, start, stop, writer):
            return False
        await writer.drain()
        return not found.close_delimited and found.content_length is None and head.header("connection") != "close"

    @staticmethod
    def _answer(found: OriginObject, head: Head) -> tuple[int, int, int, dict[str, str]]:
        """Status, the bytes to send (from, to before), and headers."""
        status, start, stop, headers = found.status, 0, found.content.size, dict(found.headers)
        if found.redirect_to:
            headers["Location"] = found.redirect_to
        if found.etag:
            headers["ETag"] = found.etag
        if head.words[0] == "HEAD" and found.head_status is not None:
            status = found.head_status
        elif found.accept_ranges and status == HTTPStatus.OK:
            headers["Accept-Ranges"] = "bytes"
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", head.header("range"))
            if head.header("if-match") not in ("", "*", found.etag):
                status, stop = HTTPStatus.PRECONDITION_FAILED, 0
            elif span and head.header("if-range") in ("", found.etag):
                start, size = int(span[1]), found.content.size
                if start >= size:
                    status, start, stop = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
                    headers["Content-Range"] = f"bytes */{size}"
                else:
                    status, stop = HTTPStatus.PARTIAL_CONTENT, min(size, int(span[2] or size) + 1)
                    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if found.close_delimited:
            headers["Connection"] = "close"
        elif found.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            length = stop - start if found.content_length is None else found.content_length
            headers["Content-Length"] = str(length)
        return status, start, stop, headers

    @staticmethod
    async def _send(found: OriginObject, start: int, stop: int, writer: asyncio.StreamWriter) -> bool:
        """Send the body; False where it is to break off."""
        breaks = (
            found.break_after_bytes is not None and found.break_times != 0 and stop - start > found.break_after_bytes
        )
        if breaks and found.break_after_bytes is not None:
            stop = start + found.break_after_bytes
            found.break_times = None if found.break_times is None else found.break_times - 1
        rate, clock = found.rate_bytes_per_s, asyncio.get_running_loop().time
        begun, sent = clock(), 0
        for piece in found.content.pieces(start, stop, PIECE_BYTES if rate is None else max(1, int(rate / 50))):
            sent += len(piece)
            if rate is not None:
                await asyncio.sleep(begun + sent / rate - clock())
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if found.chunked else piece)
            await writer.drain()
        if found.chunked and not breaks:
            writer.write(b"0\r\n\r\n")
        return not breaks
