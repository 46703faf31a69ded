"""HTTP as it goes over the wire, for every shell: what is sent, what is read, and that nothing is left behind."""

from __future__ import annotations

import pytest

from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
    FailureKind,
    HttpReply,
    HttpRequest,
    OpenBody,
    ReadBody,
    Route,
    TransportFailure,
)
from tests.shells.drivers import PATIENCE_S, Client, Shell
from tests.shells.raw_server import (
    OK,
    Peer,
    RawServer,
    Taking,
    exchange,
    raw_server,
    request,
    saying,
    taking_body,
    until,
)


def opened(client: Client, sent: HttpRequest) -> BodyOpened:
    body = client.perform(OpenBody(sent, Route.ORIGIN, 20.0))
    assert isinstance(body, BodyOpened), body
    return body


# What is sent


@pytest.mark.parametrize(
    "target",
    [
        "//a//b/../c/./d",
        "/a%2Fb%20c;p=1;q?x=1;y=%7C&&z",
        "/a|b^c[d]",
        "/a?",
        "/?",
        "/a?b=c?d=%zz",
        "/a%2e%2e/b'()!*",
        "/a/../%2f%c3//|[x]?q=%zz&;p",
    ],
)
@pytest.mark.parametrize("route", list(Route))
def test_a_target_goes_out_as_it_stands(client: Client, target: str, route: Route) -> None:
    with raw_server(saying(OK)) as server:
        reply = client.perform(exchange(request(server, target), route))
        assert reply == HttpReply(200, (("content-length", "2"),), b"ok")
        assert server.heads == [b"GET " + target.encode() + b" HTTP/1.1\r\nHost: a.example\r\n\r\n"]


@pytest.mark.parametrize("route", list(Route))
def test_headers_go_out_as_they_stand_and_nothing_is_added(client: Client, route: Route) -> None:
    headers = (("Host", "b.example:8443"), ("x-LOWER", "a  b, c"), ("X-Twice", "1"), ("X-Twice", "2"), ("X-Empty", ""))
    with raw_server(saying(OK)) as server:
        client.perform(exchange(request(server, headers=headers), route))
        lines = server.heads[0].decode().split("\r\n")[1:-2]
        assert lines == [f"{name}: {value}" for name, value in headers]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_empty_upload_says_that_it_is_empty(client: Client, method: str) -> None:
    with raw_server(saying(OK)) as server:
        client.perform(exchange(request(server, method=method), Route.SERVICE))
        assert server.heads[0].lower().count(b"content-length: 0\r\n") == 1
        assert b"transfer-encoding" not in server.heads[0].lower()


@pytest.mark.parametrize("size", [1, 512 * 1024, 512 * 1024 + 1, 3_000_001])
@pytest.mark.parametrize("named", [True, False])
def test_a_body_arrives_whole_with_its_length(client: Client, size: int, named: bool) -> None:
    body = memoryview(bytes(range(256)) * (size // 256 + 1))[:size]
    headers = (("Host", "a.example"), *((("content-length", str(size)),) if named else ()))
    with raw_server(taking_body) as server:
        sent = request(server, "/o", "PUT", headers, body)
        assert (client.perform(exchange(sent, Route.SERVICE))).status == 200
        assert server.bodies == [bytes(body)]
        head = server.heads[0].lower()
        assert head.count(b"content-length: %d\r\n" % size) == 1
        assert b"transfer-encoding" not in head
        assert b"content-type" not in head


def test_no_cookie_is_kept_and_no_redirect_followed(client: Client) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    with raw_server(saying(moved)) as server:
        for _ in range(2):
            reply = client.perform(exchange(request(server)))
            assert (reply.status, reply.header("location")) == (302, "/there")
        assert len(server.heads) == 2
        assert b"cookie" not in server.heads[1].lower()


def test_proxies_that_the_environment_names_are_not_used(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(saying(OK)) as proxy, raw_server(saying(OK)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        with shell.http() as client:
            for route in Route:
                assert client.perform(exchange(request(server), route)).body == b"ok"
        assert (proxy.heads, len(server.heads)) == ([], 2)


# What is read


def test_a_compressed_body_is_not_decoded(client: Client) -> None:
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b?"
    with raw_server(saying(packed)) as server:
        reply = client.perform(exchange(request(server)))
        assert reply.body == b"\x1f\x8b?"


def test_a_header_that_comes_twice_is_told_twice_and_long_ones_are_read(client: Client) -> None:
    location = "/" + "x" * 40_000
    text = f"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: \xe9\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    with raw_server(saying(text.encode("latin-1"))) as server:
        reply = client.perform(exchange(request(server)))
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
def test_what_delimits_a_body_is_told(client: Client, method: str, head: str, delimited: bool) -> None:
    text = f"HTTP/1.1 {head}\r\n\r\n".encode()
    with raw_server(saying(text, then_close=True)) as server:
        body = opened(client, request(server, method=method))
        assert body.delimited is delimited
        taking = Taking()
        assert client.perform(ReadBody(body.body, taking, 20.0)) == BodyRead(ended=True)
        assert taking.data == b""
        client.perform(CloseBody(body.body))


def test_a_body_is_read_until_the_collector_is_full_and_then_on(client: Client) -> None:
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    with raw_server(saying(text)) as server:
        for _ in range(3):
            body = opened(client, request(server))
            whole = b""
            while True:
                taking = Taking(enough=1)
                read = client.perform(ReadBody(body.body, taking, 20.0))
                whole += taking.data
                if read.ended:
                    break
            assert whole == b"abcdef"
            client.perform(CloseBody(body.body))
        assert server.opened == 1  # a body that was read to its end leaves its connection to the next


def test_a_body_is_read_in_turns_and_leaves_its_connection(client: Client) -> None:
    def answer(server: RawServer, peer: Peer, _: bytes) -> bool:
        if len(server.heads) == 2:
            peer.say(OK)
            return True
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        server.go_on.wait()
        peer.say(b"def")
        return True

    with raw_server(answer) as server:
        body = opened(client, request(server))
        assert body.delimited
        taking = Taking(enough=3)
        assert client.perform(ReadBody(body.body, taking, 20.0)) == BodyRead(ended=False)
        server.go_on.set()
        taking.enough = 100
        assert client.perform(ReadBody(body.body, taking, 20.0)) == BodyRead(ended=True)
        assert taking.data == b"abcdef"
        client.perform(CloseBody(body.body))
        for _ in range(2):
            reply = client.perform(exchange(request(server)))
            assert isinstance(reply, HttpReply), reply
            server.answer = saying(OK)
        assert server.opened == 1


@pytest.mark.parametrize("how", ["closed", "idle"])
def test_a_body_that_is_given_up_is_not_taken_for_one_that_ended(client: Client, how: str) -> None:
    text = b"HTTP/1.1 200 OK\r\n\r\nabc"  # ended by nothing but the connection's end
    with raw_server(saying(text)) as server:
        body = opened(client, request(server))
        assert not body.delimited
        taking = Taking()
        reading = client.begin(ReadBody(body.body, taking, 20.0 if how == "closed" else 0.1))
        until(lambda: taking.data == b"abc")
        if how == "closed":
            client.perform(CloseBody(body.body))
        failure = reading.result(PATIENCE_S)
        assert isinstance(failure, TransportFailure)
        assert failure.kind is (FailureKind.BROKEN if how == "closed" else FailureKind.TIMEOUT)
        client.perform(CloseBody(body.body))
        gone = client.perform(ReadBody(body.body, taking, 20.0))
        assert gone == TransportFailure(FailureKind.BROKEN, "the body was closed")
        until(lambda: server.connections == 0)


def test_a_body_given_up_closes_its_connection(client: Client) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"
    with raw_server(saying(text)) as server:
        body = opened(client, request(server))
        assert server.connections == 1
        client.perform(CloseBody(body.body))
        until(lambda: server.connections == 0)
        broken = client.perform(ReadBody(body.body, Taking(), 20.0))
        assert broken.kind is FailureKind.BROKEN
        client.perform(CloseBody(body.body))  # once more does no harm


def test_a_body_closed_under_its_reader_is_broken(client: Client) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"
    with raw_server(saying(text)) as server:
        body = opened(client, request(server))
        taking = Taking()
        reading = client.begin(ReadBody(body.body, taking, 20.0))
        until(lambda: taking.data == b"abc")  # and it waits for more
        client.perform(CloseBody(body.body))
        broken = reading.result(PATIENCE_S)
        assert isinstance(broken, TransportFailure)
        assert broken.kind is FailureKind.BROKEN
        until(lambda: server.connections == 0)


# Kept connections


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_a_kept_connection_that_went_stale_is_no_failure(client: Client, method: str) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with raw_server(saying(text)) as server:
        for _ in range(3):
            reply = client.perform(exchange(request(server, method=method)))
            assert isinstance(reply, HttpReply), reply
            server.close_connections()
        assert len(server.heads) == 3


def test_closing_the_client_closes_its_connections(shell: Shell) -> None:
    with raw_server(saying(OK)) as server:
        with shell.http() as client:
            client.perform(exchange(request(server), Route.SERVICE))
            opened(client, request(server))
            assert (server.connections, client.open_bodies()) == (2, 1)
        assert client.open_bodies() == 0
        until(lambda: server.connections == 0)
