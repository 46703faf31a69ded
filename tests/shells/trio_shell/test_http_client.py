"""HTTP as it goes over the wire: what is sent, what is read, and that nothing is left behind."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
    FailureKind,
    Headers,
    HttpExchange,
    HttpReply,
    HttpRequest,
    OpenBody,
    ReadBody,
    Route,
    TransportFailure,
)
from cloud_mirror_trio.http_client import HttpClient
from tests.shells.trio_shell.running import (
    RawServer,
    http_client,
    in_trio,
    raw_server,
    saying,
    taking_body,
    until,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Taking:
    """A collector that has enough after so many bytes."""

    def __init__(self, enough: int = 2**40) -> None:
        self.data = b""
        self._enough = enough

    def feed(self, piece: bytes) -> bool:
        self.data += piece
        return len(self.data) >= self._enough


def request(
    server: RawServer,
    target: str = "/",
    method: str = "GET",
    headers: Headers = (("Host", "a.example"),),
    body: bytes | memoryview = b"",
) -> HttpRequest:
    return HttpRequest(method, "http", "127.0.0.1", server.port, target, headers, body)


def exchange(
    sent: HttpRequest, route: Route = Route.ORIGIN, timeout_s: float = 20.0, at_most: int = 100
) -> HttpExchange:
    return HttpExchange(sent, route, timeout_s, max_body_bytes=at_most)


async def opened(client: HttpClient, sent: HttpRequest) -> BodyOpened:
    body = await client.open_body(OpenBody(sent, Route.ORIGIN, 20.0))
    assert isinstance(body, BodyOpened), body
    return body


# What is sent


@pytest.mark.parametrize(
    "target",
    ["//a//b/../c/./d", "/a%2Fb%20c;p=1;q?x=1;y=%7C&&z", "/a|b^c[d]", "/a?", "/?", "/a?b=c?d=%zz", "/a%2e%2e/b'()!*"],
)
@pytest.mark.parametrize("route", list(Route))
@in_trio
async def test_a_target_goes_out_as_it_stands(target: str, route: Route) -> None:
    async with raw_server(saying(OK)) as server, http_client() as client:
        reply = await client.exchange(exchange(request(server, target), route))
        assert reply == HttpReply(200, (("content-length", "2"),), b"ok")
        assert server.heads == [b"GET " + target.encode() + b" HTTP/1.1\r\nHost: a.example\r\n\r\n"]


@pytest.mark.parametrize("route", list(Route))
@in_trio
async def test_headers_go_out_as_they_stand_and_nothing_is_added(route: Route) -> None:
    headers = (("Host", "b.example:8443"), ("x-LOWER", "a  b, c"), ("X-Twice", "1"), ("X-Twice", "2"), ("X-Empty", ""))
    async with raw_server(saying(OK)) as server, http_client() as client:
        await client.exchange(exchange(request(server, headers=headers), route))
        lines = server.heads[0].decode().split("\r\n")[1:-2]
        assert lines == [f"{name}: {value}" for name, value in headers]


@pytest.mark.parametrize("method", ["PUT", "POST"])
@in_trio
async def test_an_empty_upload_says_that_it_is_empty(method: str) -> None:
    async with raw_server(saying(OK)) as server, http_client() as client:
        await client.exchange(exchange(request(server, method=method), Route.SERVICE))
        assert server.heads[0].lower().count(b"content-length: 0\r\n") == 1
        assert b"transfer-encoding" not in server.heads[0].lower()


@pytest.mark.parametrize("size", [1, 256 * 1024, 256 * 1024 + 1, 3_000_001])
@pytest.mark.parametrize("named", [True, False])
@in_trio
async def test_a_body_arrives_whole_with_its_length(size: int, named: bool) -> None:
    body = memoryview(bytes(range(256)) * (size // 256 + 1))[:size]
    headers = (("Host", "a.example"), *((("content-length", str(size)),) if named else ()))
    async with raw_server(taking_body) as server, http_client() as client:
        sent = request(server, "/o", "PUT", headers, body)
        assert (await client.exchange(exchange(sent, Route.SERVICE))).status == 200
        assert server.bodies == [bytes(body)]
        head = server.heads[0].lower()
        assert head.count(b"content-length: %d\r\n" % size) == 1
        assert b"transfer-encoding" not in head
        assert b"content-type" not in head


@in_trio
async def test_no_cookie_is_kept_and_no_redirect_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(saying(moved)) as server, http_client() as client:
        for _ in range(2):
            reply = await client.exchange(exchange(request(server)))
            assert (reply.status, reply.header("location")) == (302, "/there")
        assert len(server.heads) == 2
        assert b"cookie" not in server.heads[1].lower()


@in_trio
async def test_proxies_that_the_environment_names_are_not_used() -> None:
    with pytest.MonkeyPatch.context() as patch:
        async with raw_server(saying(OK)) as proxy, raw_server(saying(OK)) as server:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                patch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            for name in ("NO_PROXY", "no_proxy"):
                patch.delenv(name, raising=False)
            async with http_client() as client:
                for route in Route:
                    assert (await client.exchange(exchange(request(server), route))).body == b"ok"
            assert (proxy.heads, len(server.heads)) == ([], 2)


# What is read


@in_trio
async def test_a_compressed_body_is_not_decoded() -> None:
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b?"
    async with raw_server(saying(packed)) as server, http_client() as client:
        reply = await client.exchange(exchange(request(server)))
        assert reply.body == b"\x1f\x8b?"


@in_trio
async def test_a_header_that_comes_twice_is_told_twice_and_long_ones_are_read() -> None:
    location = "/" + "x" * 40_000
    text = f"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: \xe9\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(saying(text.encode("latin-1"))) as server, http_client() as client:
        reply = await client.exchange(exchange(request(server)))
        assert reply.headers == (("x-a", "1"), ("x-a", "\xe9"), ("location", location), ("content-length", "0"))


@pytest.mark.parametrize(
    ("method", "head", "delimited"),
    [
        ("GET", "200 OK\r\nContent-Length: 0", True),
        ("GET", "200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0", True),
        ("GET", "200 OK\r\nX: y", False),
        ("GET", "204 No Content\r\nX: y", True),
        ("GET", "304 Not Modified\r\nX: y", True),
        ("HEAD", "200 OK\r\nX: y", True),
        ("HEAD", "200 OK\r\nContent-Length: 10", True),
    ],
)
@in_trio
async def test_what_delimits_a_body_is_told(method: str, head: str, delimited: bool) -> None:
    text = f"HTTP/1.1 {head}\r\n\r\n".encode()
    async with raw_server(saying(text, then_close=True)) as server, http_client() as client:
        body = await opened(client, request(server, method=method))
        assert body.delimited is delimited
        taking = Taking()
        assert await client.read_body(ReadBody(body.body, taking, 20.0)) == BodyRead(ended=True)
        assert taking.data == b""
        await client.close_body(CloseBody(body.body))


@in_trio
async def test_a_body_is_read_until_the_collector_is_full_and_then_on() -> None:
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    async with raw_server(saying(text)) as server, http_client() as client:
        for _ in range(3):
            body = await opened(client, request(server))
            whole = b""
            while True:
                taking = Taking(enough=1)
                read = await client.read_body(ReadBody(body.body, taking, 20.0))
                whole += taking.data
                if read.ended:
                    break
            assert whole == b"abcdef"
            await client.close_body(CloseBody(body.body))
        assert server.opened == 1  # a body that was read to its end leaves its connection to the next


@in_trio
async def test_a_body_given_up_closes_its_connection() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"
    async with raw_server(saying(text)) as server, http_client() as client:
        body = await opened(client, request(server))
        assert server.connections == 1
        await client.close_body(CloseBody(body.body))
        await until(lambda: server.connections == 0)
        broken = await client.read_body(ReadBody(body.body, Taking(), 20.0))
        assert broken.kind is FailureKind.BROKEN
        await client.close_body(CloseBody(body.body))  # once more does no harm


@in_trio
async def test_a_body_closed_under_its_reader_is_broken() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with raw_server(saying(text)) as server, http_client() as client:
        body = await opened(client, request(server))
        read: list[BodyRead | TransportFailure] = []

        async def reading() -> None:
            read.append(await client.read_body(ReadBody(body.body, Taking(), 20.0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reading)
            await trio.testing.wait_all_tasks_blocked()
            await client.close_body(CloseBody(body.body))
        (broken,) = read
        assert isinstance(broken, TransportFailure)
        assert broken.kind is FailureKind.BROKEN
        await until(lambda: server.connections == 0)


@in_trio
async def test_a_reader_that_is_cancelled_leaves_nothing() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with raw_server(saying(text)) as server, http_client() as client:
        body = await opened(client, request(server))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.read_body, ReadBody(body.body, Taking(), 20.0))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await client.close_body(CloseBody(body.body))
        await until(lambda: server.connections == 0)


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
@in_trio
async def test_an_exchange_that_is_cancelled_leaves_nothing(text: bytes, method: str) -> None:
    async with raw_server(saying(text, then_wait=True)) as server, http_client() as client:
        body = bytes(30_000_000) if method == "PUT" else b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.exchange, exchange(request(server, method=method, body=body)))
            await until(lambda: len(server.heads) == 1)
            nursery.cancel_scope.cancel()
        server.go_on.set()
        await until(lambda: server.connections == 0)


# Kept connections


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@in_trio
async def test_a_kept_connection_that_went_stale_is_no_failure(method: str) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(saying(text)) as server, http_client() as client:
        for _ in range(3):
            reply = await client.exchange(exchange(request(server, method=method)))
            assert isinstance(reply, HttpReply), reply
            await server.close_connections()
        assert len(server.heads) == 3


@in_trio
async def test_closing_the_client_closes_its_connections() -> None:
    async with raw_server(saying(OK)) as server:
        client = HttpClient(True)
        await client.exchange(exchange(request(server), Route.SERVICE))
        await opened(client, request(server))
        assert server.connections == 2
        await client.close()
        assert client.open_bodies == 0
        await until(lambda: server.connections == 0)
