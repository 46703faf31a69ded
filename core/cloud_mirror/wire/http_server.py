"""One client's connection as an HTTP/1.1 server sees it (RFC 9112), without I/O and without a clock.

Shared by the shells whose server is their own. h11 reads the requests; the answers are written here, to the letter as
every other shell writes them. A shell moves bytes and keeps the time:

    connection = ServerConnection(policy.server, now_s, head_bytes(policy.source))
    while True:
        match connection.next_event(now_s):
            case NeedData():              # read some, by `deadline_s` at the latest: connection.receive(data, now_s)
            case RequestHead() as head:   # find its answer, then send connection.respond(answer, now_s, wall_s)
            case RequestRefused(answer):  # send connection.respond(answer, now_s, wall_s)
            case EndOutput():             # shut the sending side, and go on reading
            case Close():                 # close the socket

Rules.
 1. Requests are answered one after another, in the order in which they came, also when a client sends several at once.
    What comes while one is being answered is kept up to `PIPELINED_BYTES`: then `wants_data` says to read no more.
 2. A head has to be whole within `head_timeout_s` of its first byte, however its bytes trickle in, and may have
    `head_bytes`. A connection without a request is kept for `keep_alive_s`, one that does not take its answer for
    `SEND_S`. `deadline_s` is the next of these moments; `next_event`, at that time or later, says `Close`, but for a
    request that has come whole by then: what a busy process reads late was not late. So a shell reads once more, what
    is there already, before it asks.
 3. Nobody reads request bodies: a small one is read and thrown away before the request counts as come; after the answer
    to any other (too large, or announced by `Expect: 100-continue`) the connection ends.
 4. What is no request is refused with 400, and the connection ends: nobody knows where a next request would begin.
    Its version is not known either, so that answer speaks HTTP/1.0.
 5. A client that ends its side has left; nobody awaits the answer to what it asked for.
 6. Before a connection is closed, its input is read for `LINGER_S`, or until the client closes: an answer that was sent
    is lost to a client whose unread bytes are met with a reset (RFC 9112, 9.6).
"""

from __future__ import annotations

import enum
import math
import re
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, TypeAlias

import h11

from cloud_mirror.http_api import Answer, Headers
from cloud_mirror.policy import ServerPolicy
from cloud_mirror.wire.desk import BODY_BYTES, HEAD_BYTES, MALFORMED, SERVER
from cloud_mirror.wire.limits import FIRST_REQUEST_S, LINGER_S, SEND_S

PIPELINED_BYTES: Final = 64 * 1024

_VERSIONS: Final = (b"1.0", b"1.1")
_TARGET: Final = re.compile(rb"/|\*\Z|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
"""The forms of RFC 9112, 3.2, but for CONNECT's."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request has come, whole. `target` is as it was sent; header names are lower-case, bytes taken as Latin-1."""

    method: str
    target: str
    headers: Headers


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """What came is no request, or too large a one: this is the answer to it, and the last one."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class NeedData:
    """Nothing to do before more bytes come, the request is answered, or `deadline_s` passes."""


@dataclass(frozen=True, slots=True)
class EndOutput:
    """The last answer is sent: say so to the client by ending this side (a "half-close")."""


@dataclass(frozen=True, slots=True)
class Close:
    """The connection has come to its end. A request that is still being answered is nobody's any more."""


Event: TypeAlias = RequestHead | RequestRefused | NeedData | EndOutput | Close


class _Phase(enum.Enum):
    READING = "reading"  # a request, or waiting for one
    ASKED = "asked"  # a request is out and has no answer yet
    ANSWERED = "answered"  # the answer is being sent
    ENDING = "ending"  # nothing more is to be sent
    CLOSED = "closed"


class ServerConnection:
    """One connection. Times are of one monotonic clock, in seconds, but for `wall_s`: seconds since 1970."""

    def __init__(self, policy: ServerPolicy, now_s: float, head_bytes: int = HEAD_BYTES) -> None:
        self._policy = policy
        self._head_bytes = head_bytes
        self._phase = _Phase.READING
        self._deadline_s: float | None = now_s + policy.keep_alive_s
        self._finishing = False
        self._asks_by_s = now_s + FIRST_REQUEST_S  # the first request, where the process ends
        self._kept = b""  # what came before it could be read
        self._left = False  # the client
        self._ends = False  # the connection, with the answer to this request
        self._begin()

    @property
    def deadline_s(self) -> float | None:
        """When `next_event` is to be asked again even though nothing came; None: not before there is an answer."""
        if self._finishing and self.idle and self._deadline_s is not None:
            return min(self._deadline_s, self._asks_by_s)
        return self._deadline_s

    @property
    def wants_data(self) -> bool:
        """Whether to read on: a client that sends without waiting for answers is held back by its own system."""
        return len(self._kept) < PIPELINED_BYTES

    @property
    def idle(self) -> bool:
        """Whether the client owes no request and is owed no answer, so that closing now takes nothing from it."""
        return self._phase is _Phase.READING and self._taken == 0

    def finish(self) -> None:
        """The process ends: so does this connection, once nothing is under way on it.

        A client that has only just connected is about to ask: its first request is waited for, `FIRST_REQUEST_S` long.
        """
        self._finishing = True

    def receive(self, data: bytes, now_s: float) -> None:
        """Bytes came from the client; b"" where it ended its side."""
        if not data:
            self._left = True
        elif self._phase is _Phase.READING:
            self._feed(data, now_s)
        elif self._phase in (_Phase.ASKED, _Phase.ANSWERED):
            self._kept += data

    def next_event(self, now_s: float) -> Event:
        """What is to be done now. After an answer, to be asked once all of it is sent."""
        if self._left or self._phase is _Phase.CLOSED:
            return self._close()
        if self._phase is _Phase.READING and not isinstance(event := self._read(), NeedData):
            return event  # however late this process got round to it
        if self.deadline_s is not None and now_s >= self.deadline_s:
            return self._close()
        if self._phase is _Phase.ANSWERED and self._ends:
            self._phase, self._deadline_s, self._kept = _Phase.ENDING, now_s + LINGER_S, b""
            return EndOutput()
        if self._phase is _Phase.ANSWERED:
            self._next_request(now_s)
            return self.next_event(now_s)
        return NeedData()

    def respond(self, answer: Answer, now_s: float, wall_s: float, last: bool = False) -> bytes:
        """The bytes of the answer to the request that came; `last` ends the connection with it."""
        assert self._phase is _Phase.ASKED, "an answer needs a request"
        self._ends = self._ends or last or self._finishing
        self._phase, self._deadline_s = _Phase.ANSWERED, now_s + SEND_S
        return _response(answer, self._version, self._method == "HEAD", self._ends, wall_s)

    def _close(self) -> Close:
        self._phase, self._deadline_s = _Phase.CLOSED, None
        return Close()

    def _begin(self) -> None:
        """Forget the request before."""
        self._reader = h11.Connection(h11.SERVER, max_incomplete_event_size=self._head_bytes)
        self._taken = 0  # bytes of this request so far, and of what follows it
        self._body_bytes = 0
        self._head: RequestHead | None = None
        self._method, self._version = "", b"1.0"
        self._ends = False

    def _next_request(self, now_s: float) -> None:
        rest = self._reader.trailing_data[0] + self._kept
        self._phase, self._deadline_s, self._kept = _Phase.READING, now_s + self._policy.keep_alive_s, b""
        self._begin()
        self._feed(rest, now_s)

    def _feed(self, data: bytes, now_s: float) -> None:
        """Empty lines before a request are passed over (RFC 9112, 2.2); its first byte starts its time."""
        if self._taken == 0:
            data = data.lstrip(b"\r\n")
            if not data:
                return
            self._deadline_s = now_s + self._policy.head_timeout_s
        self._taken += len(data)
        self._reader.receive_data(data)

    def _read(self) -> Event:
        """The request, once there is enough of it."""
        while True:
            try:
                event = self._reader.next_event()
            except h11.RemoteProtocolError:
                return self._refuse()
            match event:
                case h11.Request():
                    if not self._acceptable(event):
                        return self._refuse()
                    self._take(event)
                    if self._reader.they_are_waiting_for_100_continue or _announced(request=event) > BODY_BYTES:
                        return self._ask(ends=True)
                case h11.Data(data=data):
                    self._body_bytes += len(data)
                    if self._body_bytes > BODY_BYTES:
                        return self._ask(ends=True)
                case h11.EndOfMessage():
                    return self._ask(ends=self._ends)
                case _:
                    return NeedData()

    def _acceptable(self, request: h11.Request) -> bool:
        """What h11 leaves to its user: the head's size, its version, the target's form, and one framing only."""
        names = {name for name, _ in request.headers}
        return (
            self._taken - len(self._reader.trailing_data[0]) <= self._head_bytes
            and request.http_version in _VERSIONS
            and (request.method == b"CONNECT" or _TARGET.match(request.target) is not None)
            and not {b"content-length", b"transfer-encoding"} <= names
        )

    def _take(self, request: h11.Request) -> None:
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
        self._method, self._version = request.method.decode("ascii"), request.http_version
        self._asks_by_s = -math.inf  # whatever follows is not the first
        self._head = RequestHead(self._method, request.target.decode("ascii"), headers)
        words = {word.strip().lower() for name, value in headers if name == "connection" for word in value.split(",")}
        self._ends = "close" in words or (self._version == b"1.0" and "keep-alive" not in words)

    def _ask(self, ends: bool) -> RequestHead:
        assert self._head is not None, "a body follows its head"
        self._phase, self._deadline_s, self._ends = _Phase.ASKED, None, ends
        return self._head

    def _refuse(self) -> RequestRefused:
        self._phase, self._deadline_s, self._ends = _Phase.ASKED, None, True
        self._method, self._version = "", b"1.0"
        return RequestRefused(MALFORMED)


def _announced(request: h11.Request) -> int:
    """How long the request says that its body is; h11 has seen to it that it is a number."""
    return int(next((value for name, value in request.headers if name == b"content-length"), b"0"))


def _response(answer: Answer, version: bytes, head_only: bool, ends: bool, wall_s: float) -> bytes:
    """The answer as it goes over the wire. The order of the headers is the same in every shell."""
    phrase = HTTPStatus(answer.status).phrase if answer.status in _STATUSES else ""
    headers = [*answer.headers, ("Server", SERVER)]
    if answer.status not in _WITHOUT_BODY:
        headers.append(("Content-Length", str(len(answer.body))))
    headers.append(("Date", formatdate(wall_s, usegmt=True)))
    if ends is (version == b"1.1"):  # whatever is not that version's custom has to be said
        headers.append(("Connection", "close" if ends else "keep-alive"))
    lines = [f"HTTP/{version.decode()} {answer.status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    body = b"" if head_only or answer.status in _WITHOUT_BODY else answer.body
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


_STATUSES: Final = frozenset(HTTPStatus)
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
