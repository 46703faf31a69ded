"""The mirror inside somebody else's server: ASGI (version 3) and WSGI (PEP 3333) to what the desk reads, and back.

Rules.
 1. The request target is taken as it came: ASGI's `raw_path`, WSGI's `RAW_URI` or `REQUEST_URI`. A server that gives
    none has decoded the path, and a percent-encoded URL with it, beyond repair: then only base64url is taken.
 2. An application that is mounted under a prefix (`root_path`, `SCRIPT_NAME`) takes that off, where the target has it.
 3. A client that leaves (`http.disconnect`) abandons its request. WSGI has no word for that.

Nothing here knows of an event loop: `AsgiApp` awaits only what its server and its shell hand it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import quote, unquote

from cloud_mirror.actions import Response
from cloud_mirror.http_api import Answer, Headers, RedirectRoute, origin_form
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.wire.desk import Desk

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

NOT_STARTED: Final = (
    "The mirror is not started: run the server with ASGI's lifespan on, and where this application is mounted in"
    " another, enter `lifespan()` in that one's own."
)


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head, as `Desk.read` takes it. `decoded`: the target is not as it was sent."""

    method: str
    target: str
    headers: Headers
    decoded: bool


def read_scope(scope: Mapping[str, Any]) -> Head:
    """The head of a request that came by ASGI."""
    raw = scope.get("raw_path")
    path = quote(scope["path"], safe="/=") if raw is None else raw.decode("utf-8", "surrogateescape")
    query = scope.get("query_string", b"").decode("utf-8", "surrogateescape")
    target = _below(scope.get("root_path", ""), path) + (f"?{query}" if query else "")
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return Head(scope["method"], target, headers, decoded=raw is None)


def read_environ(environ: Mapping[str, Any]) -> Head:
    """The head of a request that came by WSGI, whose strings are bytes in Latin-1's clothes."""
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if raw:
        target = _below(_text(environ.get("SCRIPT_NAME", "")), origin_form(_text(raw)))
    else:  # PATH_INFO is what lies below the prefix already
        path, query = environ.get("PATH_INFO", "").encode("latin-1"), _text(environ.get("QUERY_STRING", ""))
        target = quote(path, safe="/=") + (f"?{query}" if query else "")
    headers = tuple(
        (name.removeprefix("HTTP_").replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    )
    return Head(environ["REQUEST_METHOD"], target, headers, decoded=not raw)


def asgi_messages(answer: Answer, method: str) -> tuple[Message, Message]:
    """What is sent by ASGI: the response's start, and its body."""
    headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in _headers(answer)]
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    return start, {"type": "http.response.body", "body": _body(answer, method)}


def wsgi_response(answer: Answer, method: str) -> tuple[str, list[tuple[str, str]], list[bytes]]:
    """What is given by WSGI: the status with its phrase and the headers for `start_response`, and the body."""
    known = answer.status in frozenset(HTTPStatus)
    phrase = HTTPStatus(answer.status).phrase if known else "Unknown"
    return f"{answer.status} {phrase}", _headers(answer), [_body(answer, method)]


async def client_left(receive: Receive) -> None:
    """Come back when the client is gone; a body that it sends until then is thrown away."""
    while (await receive())["type"] != "http.disconnect":
        pass


class AsyncMirror(Protocol):
    """What `AsgiApp` needs of a shell's `Mirror`."""

    desk: Desk

    @property
    def draining(self) -> bool:
        """Whether this process is to stop."""

    async def redirect(self, pool: str, url: str) -> Response:
        """Where to send a request."""

    async def purge(self, pool: str, url: str) -> PurgeState:
        """How a purge ended."""


class AsgiApp(ABC):
    """A mirror's front end as an ASGI application. A shell adds how it lives, and how to await two things at once."""

    @abstractmethod
    def lifespan(self, app: object = None) -> AbstractAsyncContextManager[None]:
        """Start the mirror, and drain and stop it at the end. `app` counts for nothing: frameworks give themselves."""

    @abstractmethod
    async def answer(self, head: Head, receive: Receive) -> Answer | None:
        """What `find` gives, never an exception; None where `client_left` comes back before."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what the server has: a request, or its own start and end."""
        match scope["type"]:
            case "http":
                head = read_scope(scope)
                answer = await self.answer(head, receive)
                if answer is not None:
                    for message in asgi_messages(answer, head.method):
                        await send(message)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close"})  # before it was accepted: the client gets 403
            case other:
                raise ValueError(f"This application speaks HTTP, and no {other}.")

    async def find(self, mirror: AsyncMirror, head: Head) -> Answer:
        """The answer to a request, however long it takes."""
        desk = mirror.desk
        route = desk.read(head.method, head.target, head.headers, mirror.draining, head.decoded)
        match route:
            case Answer():
                return route
            case RedirectRoute(pool, url):
                return desk.redirected(route, await mirror.redirect(pool, url.text))
            case _:
                return desk.purged(await mirror.purge(route.pool, route.url.text))

    async def _live(self, receive: Receive, send: Send) -> None:
        """ASGI's lifespan protocol: one message begins it, the next one ends it."""
        await receive()
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.lifespan())
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": f"the mirror cannot start: {error}"})
                raise
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _below(prefix: str, path: str) -> str:
    """What of a raw path, or target, lies below the decoded prefix; all of it where the server has cut it already."""
    prefix = prefix.rstrip("/")
    pieces = path.split("/", prefix.count("/") + 1)
    if not prefix or unquote("/".join(pieces[:-1]), errors="surrogateescape") != prefix:
        return path
    return f"/{pieces[-1]}"


def _text(wsgi: str) -> str:
    return wsgi.encode("latin-1").decode("utf-8", "surrogateescape")


def _headers(answer: Answer) -> list[tuple[str, str]]:
    """The answer's headers, and its length where it may have a body; what else a response needs the server adds."""
    if answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return list(answer.headers)
    return [*answer.headers, ("Content-Length", str(len(answer.body)))]


def _body(answer: Answer, method: str) -> bytes:
    return b"" if method == "HEAD" else answer.body
