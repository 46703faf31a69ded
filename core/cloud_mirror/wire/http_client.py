"""One HTTP/1.1 connection, seen from the client: bytes in, events out, no I/O (RFC 9112).

    data = connection.begin(request)              # send it, and the request's body behind it
    match connection.next_event():
        case NeedData():                          # read, and tell what came: receive(data), b"" at the end
        case ReplyHead(status, headers): ...
        case Piece(data): ...                     # of the body
        case EndOfBody(): ...                     # `reusable` says whether another request may follow

h11 reads heads, and bodies in chunks or without a length. Those that have one, as all that is large does, need no
reading: so many bytes as `plain_bytes` says may go from the socket to whoever wants them, and are told with `passed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

import h11

from cloud_mirror.wire.calls import Headers, HttpRequest

HEAD_BYTES: Final = 128 * 1024
"""The longest head of a reply: a Location holds the longest URL that can be configured, and some more."""


_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class BrokeOffError(Exception):
    """The connection ended before the reply did."""


class MalformedError(Exception):
    """What came is no HTTP, or what was to be sent is none."""


@dataclass(frozen=True, slots=True)
class NeedData:
    """Nothing to say before more bytes come."""


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """A reply's head. Header names are lower-case."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndOfBody:
    """The body has ended as its framing says that it should."""


Event: TypeAlias = NeedData | ReplyHead | Piece | EndOfBody


class ClientConnection:
    """One connection, one exchange after the other: `begin` starts the next one."""

    def __init__(self) -> None:
        self._closed = False  # by the server

    def begin(self, request: HttpRequest) -> bytes:
        """The request's head. Raises `MalformedError` where it cannot be sent."""
        self._reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._in_body = self._ended = self._keeps = self._until_close = False
        self._left: int | None = None  # bytes of a body that needs no reading
        self._ahead = b""  # what came of it already
        self._method = request.method
        try:
            sent = h11.Request(method=request.method, target=request.target, headers=_framed(request))
            head = self._reader.send(sent)
        except (h11.LocalProtocolError, UnicodeError) as error:
            raise MalformedError(str(error)) from error
        assert head is not None, "a request has a head"
        return head

    def receive(self, data: bytes) -> None:
        """Bytes came from the server; b"" where it ended its side."""
        if not data:
            self._closed = True
        elif self._left is None:
            self._reader.receive_data(data)
        else:
            self._ahead += data

    @property
    def plain_bytes(self) -> int:
        """How many bytes come next that are nothing but the body's."""
        return 0 if self._left is None or self._ahead else self._left

    def passed(self, count: int) -> None:
        """So many of them were read past this connection."""
        assert self._left is not None, "the body has a length"
        self._left -= count

    @property
    def reusable(self) -> bool:
        """Whether the reply has ended, and the server will read another request on this connection."""
        surplus = self._ahead or self._reader.trailing_data[0]
        return self._ended and self._keeps and not self._closed and not surplus

    def next_event(self) -> Event:
        """What comes next. Raises `BrokeOffError` and `MalformedError`."""
        if self._ended:
            return EndOfBody()
        if self._left is not None:
            return self._next_plain(self._left)
        try:
            event = self._reader.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._reader.next_event()
            if event is h11.NEED_DATA and self._closed and self._until_close:
                self._reader.receive_data(b"")
                event = self._reader.next_event()
        except h11.RemoteProtocolError as error:
            raise MalformedError(str(error)) from error
        match event:
            case h11.Response():
                return self._begin_body(event)
            case h11.Data(data=data):
                return Piece(bytes(data))
            case h11.EndOfMessage():
                self._ended = True
                return EndOfBody()
            case _:
                return self._wait()

    def _begin_body(self, response: h11.Response) -> ReplyHead:
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers)
        words = {word.strip().lower() for name, value in headers if name == "connection" for word in value.split(",")}
        self._keeps = response.http_version >= b"1.1" and "close" not in words
        lengths = [int(value) for name, value in headers if name == "content-length"]  # h11 leaves one, of digits
        coded = any(name == "transfer-encoding" for name, _ in headers)
        empty = self._method == "HEAD" or response.status_code in _WITHOUT_BODY
        if lengths and not coded and not empty:
            self._left, self._ahead = lengths[0], self._reader.trailing_data[0]
            self._reader = h11.Connection(h11.CLIENT)  # what it holds is counted here
        else:
            self._until_close = not coded and not lengths
        return ReplyHead(response.status_code, headers)

    def _next_plain(self, left: int) -> Event:
        if left == 0:
            self._ended = True
            return EndOfBody()
        if self._ahead:
            piece, self._ahead = self._ahead[:left], self._ahead[left:]
            self._left = left - len(piece)
            return Piece(piece)
        return self._wait()

    def _wait(self) -> NeedData:
        if self._closed:
            raise BrokeOffError("the server closed the connection before its reply was over")
        return NeedData()


def _framed(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """The headers as h11 takes them, with the body's length."""
    headers = [(name.encode("latin-1"), value.strip(" \t").encode("latin-1")) for name, value in request.headers]
    named = any(name.lower() == b"content-length" for name, _ in headers)
    if not named and (len(request.body) or request.method in ("PUT", "POST")):
        headers.append((b"Content-Length", b"%d" % len(request.body)))
    return headers
