"""A connection seen from the client: the same events wherever the bytes are cut, and what ends it in which way."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.wire.calls import HttpRequest
from cloud_mirror.wire.http_client import (
    BrokeOffError,
    ClientConnection,
    EndOfBody,
    MalformedError,
    NeedData,
    Piece,
    ReplyHead,
)

BODY = bytes(range(256)) * 3
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX: Y\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n300\r\n" + BODY + b"\r\n0\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
WARNED = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN
EMPTY = b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"
OF_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


def begun(method: str = "GET", body: bytes = b"") -> ClientConnection:
    connection = ClientConnection()
    connection.begin(HttpRequest(method, "http", "a", 80, "/", (("Host", "a"),), body))
    return connection


def converse(connection: ClientConnection, data: bytes, cuts: Iterable[int], *, ends: bool, past: bool) -> bytes:
    """Read a reply whose bytes come in such pieces; its body. `past`: what may be read past the connection is."""
    sizes, body, heads = iter(cuts), b"", 0
    while True:
        match connection.next_event():
            case ReplyHead():
                heads += 1
            case Piece(piece):
                body += piece
            case EndOfBody():
                assert heads == 1
                assert connection.next_event() == EndOfBody()
                if data:
                    connection.receive(data)
                return body
            case NeedData():
                size = next(sizes, 1_000)
                if past and connection.plain_bytes and data:
                    size = min(size, connection.plain_bytes)
                    body += data[:size]
                    connection.passed(len(data[:size]))
                else:
                    assert data or ends, "it waits for more than the reply"
                    connection.receive(data[:size])
                data = data[size:]


@pytest.mark.parametrize(
    ("reply", "method", "body", "reusable"),
    [
        (PLAIN, "GET", BODY, True),
        (WARNED, "GET", BODY, True),
        (CHUNKED, "GET", BODY, True),
        (ENDLESS, "GET", BODY, False),
        (EMPTY, "GET", b"", True),
        (OF_HEAD, "HEAD", b"", True),
        (PLAIN.replace(b"X: Y", b"Connection: x, Close"), "GET", BODY, False),
        (PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), "GET", BODY, False),
        (PLAIN + b"unasked", "GET", BODY, False),
        (EMPTY + b"unasked", "GET", b"", False),
    ],
)
@pytest.mark.parametrize("past", [False, True])
@given(cuts=st.lists(st.integers(1, 300), max_size=30))
def test_a_reply_is_the_same_wherever_its_bytes_are_cut(
    reply: bytes, method: str, body: bytes, reusable: bool, past: bool, cuts: list[int]
) -> None:
    connection = begun(method)
    assert converse(connection, reply, cuts, ends=reply == ENDLESS, past=past) == body
    assert connection.reusable is reusable
    if reusable:
        connection.begin(HttpRequest("GET", "http", "a", 80, "/", (("Host", "a"),)))
        assert converse(connection, CHUNKED, cuts, ends=False, past=past) == BODY
        connection.receive(b"")
        assert not connection.reusable


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("reply", [PLAIN, CHUNKED])
def test_a_reply_that_is_cut_off_anywhere_breaks_off(reply: bytes, past: bool) -> None:
    for size in [*range(60), len(reply) - 1]:
        with pytest.raises(BrokeOffError):
            converse(begun(), reply[:size], [], ends=True, past=past)


@pytest.mark.parametrize(
    "reply",
    [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", CHUNKED.replace(b"300", b"xyz")],
)
def test_what_is_no_http_is_malformed(reply: bytes) -> None:
    with pytest.raises(MalformedError):
        converse(begun(), reply, [], ends=False, past=False)


@pytest.mark.parametrize(("target", "header"), [("/a b", "x"), ("/\N{EURO SIGN}", "x"), ("/", "a\nb"), ("/", "\u20ac")])
def test_what_cannot_be_sent_is_malformed(target: str, header: str) -> None:
    with pytest.raises(MalformedError):
        ClientConnection().begin(HttpRequest("GET", "http", "a", 80, target, (("Host", "a"), ("X", header))))


def test_a_body_that_is_announced_is_not_read_before_its_head() -> None:
    connection = begun("PUT", b"abc")
    assert connection.next_event() == NeedData()
    assert connection.plain_bytes == 0
    connection.receive(PLAIN)
    assert connection.next_event() == ReplyHead(200, (("content-length", str(len(BODY))), ("x", "Y")))
    assert connection.plain_bytes == 0, "what came with the head goes first"
    assert connection.next_event() == Piece(BODY)
    assert connection.next_event() == EndOfBody()
