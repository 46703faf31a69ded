"""How a request comes to have no reply: each kind of failure, and the guard that lets no connection out."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud_mirror.wire.calls import (
    BodyOpened,
    CloseBody,
    FailureKind,
    HttpExchange,
    HttpReply,
    HttpRequest,
    OpenBody,
    ReadBody,
    Route,
    TransportFailure,
)
from cloud_mirror_trio import network as module
from cloud_mirror_trio.nursery import open_background
from tests.servers.processes import free_port
from tests.shells.trio_shell.running import (
    Answer,
    Peer,
    RawServer,
    http_client,
    in_trio,
    raw_server,
    saying,
    silent,
    until,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Taking:
    """A collector that never has enough."""

    def __init__(self) -> None:
        self.data = b""

    def feed(self, piece: bytes) -> bool:
        self.data += piece
        return False


def get(port: int, host: str = "127.0.0.1", scheme: str = "http") -> HttpRequest:
    return HttpRequest("GET", scheme, host, port, "/", (("Host", host),))


async def kind_of(client: Any, sent: HttpRequest, route: Route = Route.ORIGIN, **limits: Any) -> FailureKind:
    """The kind of failure, which is the same for a whole exchange and for a head alone."""
    timeout_s = limits.pop("timeout_s", 20.0)
    failure = await client.exchange(HttpExchange(sent, route, timeout_s, **limits))
    assert isinstance(failure, TransportFailure), failure
    assert failure.detail
    limits.pop("max_body_bytes", None)
    same = await client.open_body(OpenBody(sent, route, timeout_s, **limits))
    assert isinstance(same, TransportFailure), same
    assert same.kind is failure.kind
    return failure.kind


@pytest.mark.parametrize("route", list(Route))
@in_trio
async def test_a_name_without_an_address(route: Route) -> None:
    async with http_client() as client:
        assert await kind_of(client, get(80, "nowhere.invalid"), route) is FailureKind.NAME


@pytest.mark.parametrize("route", list(Route))
@in_trio
async def test_a_port_where_nobody_listens(route: Route) -> None:
    async with http_client() as client:
        assert await kind_of(client, get(free_port()), route) is FailureKind.CONNECT
        assert await kind_of(client, get(free_port(), "localhost"), route) is FailureKind.CONNECT


def self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    path = directory / "self-signed.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("route", list(Route))
@in_trio
async def test_a_certificate_that_nobody_vouches_for(route: Route, tmp_path: Path) -> None:
    async with raw_server(saying(OK), tls=self_signed(tmp_path)) as server, http_client() as client:
        assert await kind_of(client, get(server.port, "localhost", "https"), route) is FailureKind.TLS
        assert server.heads == []


@in_trio
async def test_a_server_that_speaks_no_tls() -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-x\r\n")

    async with open_background() as nursery, http_client() as client:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, greet, [listener])
        port = listener.socket.getsockname()[1]
        assert await kind_of(client, get(port, "localhost", "https")) is FailureKind.TLS


@in_trio
async def test_a_connection_that_is_not_made_in_time() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        filling = []
        for _ in range(4):  # the backlog takes one or two; the others' SYNs are dropped
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            filling.append(one)
        async with http_client() as client:
            began_s = time.monotonic()
            assert await kind_of(client, get(port), connect_timeout_s=0.2) is FailureKind.TIMEOUT
            assert time.monotonic() - began_s < 5
        for one in filling:
            one.close()


@in_trio
async def test_a_head_that_does_not_come_in_time() -> None:
    async with raw_server(silent) as server, http_client() as client:
        assert await kind_of(client, get(server.port), timeout_s=0.1) is FailureKind.TIMEOUT
        server.go_on.set()
        await until(lambda: server.connections == 0)


@in_trio
async def test_a_piece_that_does_not_come_in_time() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    async with raw_server(saying(text)) as server, http_client() as client:
        body = await client.open_body(OpenBody(get(server.port), Route.ORIGIN, 20.0))
        assert isinstance(body, BodyOpened)
        taking = Taking()
        failure = await client.read_body(ReadBody(body.body, taking, 0.1))
        assert (failure.kind, taking.data) == (FailureKind.TIMEOUT, b"abc")
        await client.close_body(CloseBody(body.body))
        whole = await client.exchange(HttpExchange(get(server.port), Route.ORIGIN, 0.1))
        assert whole.kind is FailureKind.TIMEOUT
        await until(lambda: server.connections == 0)


@in_trio
async def test_an_upload_that_nobody_reads_ends_in_time() -> None:
    async with raw_server(silent) as server, http_client() as client:
        sent = HttpRequest("PUT", "http", "127.0.0.1", server.port, "/", (("Host", "a"),), bytes(30_000_000))
        began_s = time.monotonic()
        failure = await client.exchange(HttpExchange(sent, Route.SERVICE, 0.3))
        assert failure.kind is FailureKind.TIMEOUT
        assert time.monotonic() - began_s < 5
        server.go_on.set()
        await until(lambda: server.connections == 0)


async def refusing_early(_: RawServer, peer: Peer, __: bytes) -> bool:
    await peer.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    await trio.sleep(0.05)  # so that the reply is there before the upload is over
    return False


@in_trio
async def test_a_reply_that_comes_before_the_upload_is_over() -> None:
    async with raw_server(refusing_early) as server, http_client() as client:
        sent = HttpRequest("PUT", "http", "127.0.0.1", server.port, "/", (("Host", "a"),), bytes(30_000_000))
        reply = await client.exchange(HttpExchange(sent, Route.SERVICE, 20.0))
        assert isinstance(reply, HttpReply), reply
        assert (reply.status, reply.body) == (403, b"no")
        await until(lambda: server.connections == 0)


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
@in_trio
async def test_a_body_that_is_cut_short(text: bytes) -> None:
    async with raw_server(saying(text, then_close=True)) as server, http_client() as client:
        failure = await client.exchange(HttpExchange(get(server.port), Route.ORIGIN, 20.0))
        assert isinstance(failure, TransportFailure), failure
        assert failure.kind is FailureKind.BROKEN
        body = await client.open_body(OpenBody(get(server.port), Route.ORIGIN, 20.0))
        assert isinstance(body, BodyOpened)
        failure = await client.read_body(ReadBody(body.body, Taking(), 20.0))
        assert isinstance(failure, TransportFailure), failure
        assert failure.kind is FailureKind.BROKEN
        await client.close_body(CloseBody(body.body))
        await until(lambda: server.connections == 0)


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le"])
@in_trio
async def test_a_connection_that_ends_before_the_head_does(text: bytes) -> None:
    async with raw_server(saying(text, then_close=True)) as server, http_client() as client:
        assert await kind_of(client, get(server.port)) is FailureKind.BROKEN


@pytest.mark.parametrize(
    "text",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ],
)
@in_trio
async def test_a_reply_that_is_no_http(text: bytes) -> None:
    async with raw_server(saying(text, then_close=True)) as server, http_client() as client:
        assert await kind_of(client, get(server.port)) is FailureKind.MALFORMED


@in_trio
async def test_a_chunk_that_is_no_chunk() -> None:
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n"
    async with raw_server(saying(text)) as server, http_client() as client:
        failure = await client.exchange(HttpExchange(get(server.port), Route.ORIGIN, 20.0))
        assert failure.kind is FailureKind.MALFORMED
        await until(lambda: server.connections == 0)


@in_trio
async def test_a_reply_that_is_too_large() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101
    async with raw_server(saying(text)) as server, http_client() as client:
        whole = await client.exchange(HttpExchange(get(server.port), Route.ORIGIN, 20.0, max_body_bytes=101))
        assert len(whole.body) == 101
        server.answer = saying(text.replace(b"101\r", b"999\r"))
        failure = await client.exchange(HttpExchange(get(server.port), Route.ORIGIN, 20.0, max_body_bytes=100))
        assert failure.kind is FailureKind.TOO_LARGE
        await until(lambda: server.connections == 0)


@pytest.mark.parametrize("host", ["", "a b", "a\x00b", "[::1"])
@in_trio
async def test_a_url_that_no_client_takes_is_a_failure_too(host: str) -> None:
    async with http_client() as client:
        failure = await client.exchange(HttpExchange(get(80, host), Route.ORIGIN, 5.0))
        assert isinstance(failure, TransportFailure)


# The address guard. Addresses in 127.0.0.0/8 stand for those that are refused or allowed: nothing leaves the machine.


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names resolve to: each look-up takes the next answer, the last one stays."""
    answers: dict[str, list[list[str]]] = {}
    lookup = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **named: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in answers:
            return list(lookup(host, port, *args, **named))
        given = answers[name][0] if len(answers[name]) == 1 else answers[name].pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in given]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers


@pytest.fixture
def only_127_0_0_9(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The guard lets 127.0.0.9 pass and no other; gives the addresses that it was asked about."""
    asked: list[str] = []

    def allowed(address: str, allow_private: bool) -> bool:
        asked.append(address)
        return address == "127.0.0.9"

    monkeypatch.setattr(module, "is_allowed_address", allowed)
    return asked


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::1]", "0"])
@in_trio
async def test_a_private_address_is_refused_however_it_is_written(host: str) -> None:
    async with raw_server(saying(OK)) as server, http_client(allow_private=False) as client:
        kind = await kind_of(client, get(server.port, host))
        assert kind is (FailureKind.NAME if host == "[::1]" else FailureKind.ADDRESS_NOT_ALLOWED)
        assert server.opened == 0


@in_trio
async def test_services_are_asked_wherever_the_operator_says() -> None:
    async with raw_server(saying(OK)) as server, http_client(allow_private=False) as client:
        reply = await client.exchange(HttpExchange(get(server.port), Route.SERVICE, 20.0))
        assert reply.body == b"ok"


@in_trio
async def test_of_several_addresses_only_those_that_pass_are_contacted(
    resolving: dict[str, list[list[str]]], only_127_0_0_9: list[str]
) -> None:
    resolving["several.example"] = [["127.0.0.7", "127.0.0.9", "127.0.0.8"]]
    async with raw_server(saying(OK), host="0.0.0.0") as server, http_client() as client:  # noqa: S104  # all of 127/8
        reply = await client.exchange(HttpExchange(get(server.port, "several.example"), Route.ORIGIN, 20.0))
        assert reply.body == b"ok"
        assert server.reached == ["127.0.0.9"]


@in_trio
async def test_a_host_none_of_whose_addresses_passes_is_refused(
    resolving: dict[str, list[list[str]]], only_127_0_0_9: list[str]
) -> None:
    resolving["none.example"] = [["127.0.0.7", "127.0.0.8"]]
    async with raw_server(saying(OK), host="0.0.0.0") as server, http_client() as client:  # noqa: S104  # all of 127/8
        assert await kind_of(client, get(server.port, "none.example")) is FailureKind.ADDRESS_NOT_ALLOWED
        assert server.opened == 0


@in_trio
async def test_an_answer_of_the_resolver_that_changes_is_judged_anew(
    resolving: dict[str, list[list[str]]], only_127_0_0_9: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving["rebinding.example"] = [["127.0.0.9"], ["127.0.0.7"]]
    then_close: Answer = saying(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    async with raw_server(then_close, host="0.0.0.0") as server, http_client() as client:  # noqa: S104  # all of 127/8
        sent = HttpExchange(get(server.port, "rebinding.example"), Route.ORIGIN, 20.0)
        assert isinstance(await client.exchange(sent), HttpReply)
        failure = await client.exchange(sent)
        assert failure.kind is FailureKind.ADDRESS_NOT_ALLOWED
        assert server.reached == ["127.0.0.9"]


# Names that take long


@in_trio
async def test_names_that_nobody_answers_for_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither store and queue, nor credentials, nor the end of the process; and one by one the others have a turn."""
    lookup, asked, answered = socket.getaddrinfo, threading.Semaphore(0), threading.Event()

    def getaddrinfo(host: Any, *args: Any, **named: Any) -> list[Any]:
        if "slow" not in str(host):
            return list(lookup(host, *args, **named))
        asked.release()
        answered.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")

    kinds: list[FailureKind] = []

    async def slow(client: Any, number: int) -> None:
        failure = await client.exchange(HttpExchange(get(80, f"slow-{number}.example"), Route.ORIGIN, 20.0, 20.0))
        kinds.append(failure.kind)

    crowd = int(trio.to_thread.current_default_thread_limiter().total_tokens) + 10
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        async with http_client() as client, raw_server(saying(OK)) as server, trio.open_nursery() as nursery:
            for number in range(crowd):
                nursery.start_soon(slow, client, number)
            await trio.to_thread.run_sync(asked.acquire, limiter=trio.CapacityLimiter(1))
            with trio.fail_after(5):
                reply = await client.exchange(HttpExchange(get(server.port, "localhost"), Route.SERVICE, 5.0))
                assert isinstance(reply, HttpReply), reply
                assert await trio.to_thread.run_sync(lambda: "credentials") == "credentials"
            answered.set()
            await until(lambda: len(kinds) == crowd)
            assert set(kinds) == {FailureKind.NAME}
            answered.clear()
            nursery.start_soon(slow, client, -1)
            for _ in range(crowd):  # the first round's others, and this one
                await until(lambda: asked.acquire(blocking=False))
            nursery.cancel_scope.cancel()
        assert not answered.is_set(), "nobody waits for them"
    finally:
        answered.set()
