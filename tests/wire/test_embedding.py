"""What comes by ASGI and WSGI, as the desk reads it, and what goes back."""

import base64
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import pytest

from cloud_mirror.actions import Response, ToOrigin
from cloud_mirror.http_api import Answer, alive_answer, purged_answer, redirect_answer
from cloud_mirror.http_api import Outcome as Led
from cloud_mirror.purge import Phase
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import Desk, Roles
from cloud_mirror.wire.embedding import (
    AsgiApp,
    Head,
    Message,
    Receive,
    Scope,
    asgi_messages,
    client_left,
    read_environ,
    read_scope,
    wsgi_response,
)
from cloud_mirror.wire.metrics import Metrics
from tests.wire.pools import POLICY, SERVICES, URL

BELOW = f"/v1/redirect/s3/us-west-1/{quote(URL, safe='')}"
PURGE = f"/v1/purge/s3/us-west-1/{quote(URL, safe='')}"
FOUND = redirect_answer("https://bucket.example/a", Led.HIT, Reason.PRESENT)


def scope(path: str, **more: Any) -> Scope:
    return {"type": "http", "method": "GET", "path": path, "headers": [], **more}


@pytest.mark.parametrize(
    ("root_path", "raw_path", "target"),
    [
        ("", BELOW, BELOW),
        ("/mirror", "/mirror" + BELOW, BELOW),
        ("/mirror/", "/mirror" + BELOW, BELOW),
        ("/a/b", "/a/b" + BELOW, BELOW),
        ("/a b/é", "/a%20b/%C3%A9" + BELOW, BELOW),
        ("/mirror", "/m%69rror" + BELOW, BELOW),
        ("/mirror", BELOW, BELOW),  # the server has cut it
        ("/mirror", "/mirrored" + BELOW, "/mirrored" + BELOW),
        ("/mirror", "/mirror", "/mirror"),
        ("/mirror", "/mirror/", "/"),
        ("", "/\xff", "/\udcc3\udcbf".encode("utf-8", "surrogateescape").decode()),
    ],
)
def test_a_target_is_what_was_sent_below_the_prefix(root_path: str, raw_path: str, target: str) -> None:
    asked = scope("/decoded", root_path=root_path, raw_path=raw_path.encode(), query_string=b"")
    assert read_scope(asked) == Head("GET", target, (), decoded=False)
    wsgi = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": root_path.encode().decode("latin-1"), "PATH_INFO": "/decoded"}
    for name in ("RAW_URI", "REQUEST_URI"):
        for sent in (raw_path, "http://mirror.example" + raw_path):
            environ = {**wsgi, name: sent.encode().decode("latin-1")}
            assert read_environ(environ) == Head("GET", target, (), decoded=False)


def test_a_query_and_the_headers_are_passed_on() -> None:
    asked = scope("/a", raw_path=b"/a", query_string=b"b=%2F", headers=[(b"authorization", b"Bearer \xe9")])
    assert read_scope(asked) == Head("GET", "/a?b=%2F", (("authorization", "Bearer \xe9"),), decoded=False)
    environ = {"REQUEST_METHOD": "DELETE", "RAW_URI": "/a?b=%2F", "HTTP_AUTHORIZATION": "Bearer \xe9", "wsgi.input": 1}
    assert read_environ(environ) == Head("DELETE", "/a?b=%2F", (("authorization", "Bearer \xe9"),), decoded=False)


@pytest.mark.parametrize(("path", "target"), [("/a=/b?c%/é", "/a=/b%3Fc%25/%C3%A9"), ("/v1/ping", "/v1/ping")])
def test_a_path_that_was_decoded_is_known_as_one(path: str, target: str) -> None:
    for root_path in ("", "/mirror"):
        asked = scope(root_path + path, root_path=root_path, query_string=b"d=e")
        assert read_scope(asked) == Head("GET", f"{target}?d=e", (), decoded=True)
    text = path.encode().decode("latin-1")
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/mirror", "PATH_INFO": text, "QUERY_STRING": "d=e"}
    assert read_environ(environ) == Head("GET", f"{target}?d=e", (), decoded=True)
    assert read_environ({"REQUEST_METHOD": "GET", "PATH_INFO": text}) == Head("GET", target, (), decoded=True)


@pytest.mark.parametrize(
    ("answer", "method", "status", "length", "body"),
    [
        (FOUND, "GET", "302 Found", str(len(FOUND.body)), FOUND.body),
        (FOUND, "HEAD", "302 Found", str(len(FOUND.body)), b""),
        (purged_answer(), "DELETE", "204 No Content", None, b""),
        (Answer(599, (), b"x"), "GET", "599 Unknown", "1", b"x"),
    ],
)
def test_an_answer_goes_back(answer: Answer, method: str, status: str, length: str | None, body: bytes) -> None:
    headers = [*answer.headers, *([("Content-Length", length)] if length is not None else [])]
    assert wsgi_response(answer, method) == (status, headers, [body])
    start, rest = asgi_messages(answer, method)
    lower = [(name.lower().encode(), value.encode()) for name, value in headers]
    assert start == {"type": "http.response.start", "status": answer.status, "headers": lower}
    assert rest == {"type": "http.response.body", "body": body}


@dataclass
class Mirror:
    """A mirror that knows its answers."""

    desk: Desk
    draining: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def redirect(self, pool: str, url: str) -> Response:
        self.asked.append((pool, url))
        return ToOrigin(Reason.DEADLINE)

    async def purge(self, pool: str, url: str) -> PurgeState:
        self.asked.append((pool, url))
        return PurgeState(Phase.DONE)


class App(AsgiApp):
    """An application without an event loop: nothing of it ever waits."""

    def __init__(self, fails: bool = False, leaves: bool = False) -> None:
        policy = replace(POLICY, admin_token="secret")
        self.mirror = Mirror(Desk(policy, Roles(), {SERVICES.pool.name: SERVICES}, Metrics()))
        self.said: list[str] = []
        self._fails, self._leaves = fails, leaves

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002  # as the shells have it
        if self._fails:
            raise ValueError("no such thing")
        self.said.append("started")
        yield
        self.said.append("stopped")

    async def answer(self, head: Head, receive: Receive) -> Answer | None:
        if self._leaves:
            await client_left(receive)
            return None
        return await self.find(self.mirror, head)


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run what never waits to its end."""
    with pytest.raises(StopIteration):
        work.send(None)


def serve(app: App, asked: Scope, *received: str) -> list[Message]:
    """What an application sends, for messages of these types received."""
    messages = iter(received)

    async def receive() -> Message:
        return {"type": next(messages)}

    async def send(message: Message) -> None:
        app.said.append(message["type"])
        sent.append(message)

    sent: list[Message] = []
    finish(app(asked, receive, send))
    assert list(messages) == []
    return sent


def test_a_request_is_answered_by_desk_or_mirror() -> None:
    app = App()
    assert serve(app, scope("/v1/ping", raw_path=b"/v1/ping")) == list(asgi_messages(alive_answer(), "GET"))
    start, _ = serve(app, scope("", raw_path=BELOW.encode()))
    assert (start["status"], dict(start["headers"])[b"location"]) == (302, URL.encode())
    token = [(b"authorization", b"Bearer secret")]
    start, _ = serve(app, scope("", raw_path=PURGE.encode(), headers=token, method="DELETE"))
    assert start["status"] == 204
    assert app.mirror.asked == [(SERVICES.pool.name, URL)] * 2


def test_who_has_left_is_told_nothing() -> None:
    assert serve(App(leaves=True), scope("/v1/ping"), "http.request", "http.request", "http.disconnect") == []


def test_a_decoded_path_takes_base64url_alone() -> None:
    app, prefix = App(), "/v1/redirect/s3/us-west-1/"
    url = f"{URL}?>>>???~~~"
    start, _ = serve(app, scope(prefix + base64.urlsafe_b64encode(url.encode()).decode()))
    assert start["status"] == 302
    for wrong in (url, base64.b64encode(url.encode()).decode()):
        start, rest = serve(app, scope(prefix + wrong))
        assert (start["status"], b"write the URL in base64url" in rest["body"]) == (400, True)
    assert len(app.mirror.asked) == 1


def test_it_lives_as_long_as_its_server() -> None:
    app = App()
    serve(app, {"type": "lifespan"}, "lifespan.startup", "lifespan.shutdown")
    assert app.said == ["started", "lifespan.startup.complete", "stopped", "lifespan.shutdown.complete"]


def test_a_server_is_told_why_a_mirror_cannot_start() -> None:
    app, sent = App(fails=True), []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ValueError, match="no such thing"):
        app({"type": "lifespan"}, receive, send).send(None)
    assert sent == [{"type": "lifespan.startup.failed", "message": "the mirror cannot start: no such thing"}]


def test_nothing_but_http_is_spoken() -> None:
    assert serve(App(), {"type": "websocket"}) == [{"type": "websocket.close"}]
    with pytest.raises(ValueError, match="no telegraph"):
        serve(App(), {"type": "telegraph"})
