"""How a request comes to have no reply, in every shell: each kind of failure, and the guard."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
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
from tests.servers.processes import free_port
from tests.shells.drivers import Client, Shell
from tests.shells.raw_server import (
    OK,
    Answer,
    Peer,
    RawServer,
    Taking,
    get,
    greeting,
    raw_server,
    saying,
    silent,
    until,
)


def kind_of(client: Client, sent: HttpRequest, route: Route = Route.ORIGIN, **limits: Any) -> FailureKind:
    """The kind of failure, which is the same for a whole exchange and for a head alone."""
    timeout_s = limits.pop("timeout_s", 20.0)
    failure = client.perform(HttpExchange(sent, route, timeout_s, **limits))
    assert isinstance(failure, TransportFailure), failure
    assert failure.detail
    limits.pop("max_body_bytes", None)
    same = client.perform(OpenBody(sent, route, timeout_s, **limits))
    assert isinstance(same, TransportFailure), same
    assert same.kind is failure.kind
    return failure.kind


@pytest.mark.parametrize("route", list(Route))
def test_a_name_without_an_address(client: Client, route: Route) -> None:
    assert kind_of(client, get(80, "nowhere.invalid"), route) is FailureKind.NAME
    assert kind_of(client, get(80, "a" * 70 + ".invalid"), route) is FailureKind.NAME


@pytest.mark.parametrize("route", list(Route))
def test_a_port_where_nobody_listens(client: Client, route: Route) -> None:
    assert kind_of(client, get(free_port()), route) is FailureKind.CONNECT
    assert kind_of(client, get(free_port(), "localhost"), route) is FailureKind.CONNECT


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
def test_a_certificate_that_nobody_vouches_for(client: Client, route: Route, tmp_path: Path) -> None:
    with raw_server(saying(OK), tls=self_signed(tmp_path)) as server:
        assert kind_of(client, get(server.port, "localhost", "https"), route) is FailureKind.TLS
        assert server.heads == []


@pytest.mark.parametrize("text", [b"SSH-2.0-x\r\n", b"no TLS here\r\n" * 10])
def test_a_server_that_speaks_no_tls(client: Client, text: bytes) -> None:
    with greeting(text) as port:
        assert kind_of(client, get(port, "localhost", "https")) is FailureKind.TLS
        assert kind_of(client, get(port, scheme="https")) is FailureKind.TLS


def test_a_connection_that_is_not_made_in_time(client: Client) -> None:
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
        began_s = time.monotonic()
        assert kind_of(client, get(port), connect_timeout_s=0.2) is FailureKind.TIMEOUT
        assert time.monotonic() - began_s < 5
        for one in filling:
            one.close()


def test_a_head_that_does_not_come_in_time(client: Client) -> None:
    with raw_server(silent) as server:
        assert kind_of(client, get(server.port), timeout_s=0.1) is FailureKind.TIMEOUT
        server.go_on.set()
        until(lambda: server.connections == 0)


def trickling(server: RawServer, peer: Peer, _: bytes) -> bool:
    peer.say(b"HTTP/1.1 200 OK\r\nX: ")
    while not server.go_on.wait(0.02):
        peer.say(b"a")
    return False


def test_time_is_limited_however_the_bytes_trickle(client: Client) -> None:
    with raw_server(trickling) as server:
        began_s = time.monotonic()
        assert kind_of(client, get(server.port), timeout_s=0.2) is FailureKind.TIMEOUT
        assert time.monotonic() - began_s < 5
        until(lambda: server.connections == 0)


def test_a_piece_that_does_not_come_in_time(client: Client) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    with raw_server(saying(text)) as server:
        body = client.perform(OpenBody(get(server.port), Route.ORIGIN, 20.0))
        assert isinstance(body, BodyOpened)
        taking = Taking()
        failure = client.perform(ReadBody(body.body, taking, 0.1))
        assert (failure.kind, taking.data) == (FailureKind.TIMEOUT, b"abc")
        client.perform(CloseBody(body.body))
        whole = client.perform(HttpExchange(get(server.port), Route.ORIGIN, 0.1))
        assert whole.kind is FailureKind.TIMEOUT
        until(lambda: server.connections == 0)


def test_an_upload_that_nobody_reads_ends_in_time(client: Client) -> None:
    with raw_server(silent) as server:
        sent = HttpRequest("PUT", "http", "127.0.0.1", server.port, "/", (("Host", "a"),), bytes(30_000_000))
        began_s = time.monotonic()
        failure = client.perform(HttpExchange(sent, Route.SERVICE, 0.3))
        assert failure.kind is FailureKind.TIMEOUT
        assert time.monotonic() - began_s < 5
        server.go_on.set()
        until(lambda: server.connections == 0)


def refusing_early(_: RawServer, peer: Peer, __: bytes) -> bool:
    peer.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    time.sleep(0.05)  # so that the reply is there before the upload is over
    return False


def test_a_reply_that_comes_before_the_upload_is_over(client: Client) -> None:
    with raw_server(refusing_early) as server:
        sent = HttpRequest("PUT", "http", "127.0.0.1", server.port, "/", (("Host", "a"),), bytes(30_000_000))
        reply = client.perform(HttpExchange(sent, Route.SERVICE, 20.0))
        assert isinstance(reply, HttpReply), reply
        assert (reply.status, reply.body) == (403, b"no")
        until(lambda: server.connections == 0)


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
def test_a_body_that_is_cut_short(client: Client, text: bytes) -> None:
    with raw_server(saying(text, then_close=True)) as server:
        failure = client.perform(HttpExchange(get(server.port), Route.ORIGIN, 20.0))
        assert isinstance(failure, TransportFailure), failure
        assert failure.kind is FailureKind.BROKEN
        body = client.perform(OpenBody(get(server.port), Route.ORIGIN, 20.0))
        assert isinstance(body, BodyOpened)
        failure = client.perform(ReadBody(body.body, Taking(), 20.0))
        assert isinstance(failure, TransportFailure), failure
        assert failure.kind is FailureKind.BROKEN
        client.perform(CloseBody(body.body))
        until(lambda: server.connections == 0)


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_a_connection_that_ends_before_the_head_does(client: Client, text: bytes) -> None:
    with raw_server(saying(text, then_close=True)) as server:
        assert kind_of(client, get(server.port)) is FailureKind.BROKEN


@pytest.mark.parametrize(
    "text",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
)
def test_a_reply_that_is_no_http(client: Client, text: bytes) -> None:
    with raw_server(saying(text, then_close=True)) as server:
        assert kind_of(client, get(server.port)) is FailureKind.MALFORMED


def test_a_chunk_that_is_no_chunk(client: Client) -> None:
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n"
    with raw_server(saying(text)) as server:
        failure = client.perform(HttpExchange(get(server.port), Route.ORIGIN, 20.0))
        assert failure.kind is FailureKind.MALFORMED
        until(lambda: server.connections == 0)


def test_a_reply_that_is_too_large(client: Client) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101
    with raw_server(saying(text)) as server:
        whole = client.perform(HttpExchange(get(server.port), Route.ORIGIN, 20.0, max_body_bytes=101))
        assert len(whole.body) == 101
        server.answer = saying(text.replace(b"101\r", b"999\r"))
        failure = client.perform(HttpExchange(get(server.port), Route.ORIGIN, 20.0, max_body_bytes=100))
        assert failure.kind is FailureKind.TOO_LARGE
        until(lambda: server.connections == 0)


@pytest.mark.parametrize("host", ["", "a b", "a\x00b", "[::1"])
def test_a_url_that_no_client_takes_is_a_failure_too(client: Client, host: str) -> None:
    failure = client.perform(HttpExchange(get(80, host), Route.ORIGIN, 5.0))
    assert isinstance(failure, TransportFailure)


# The address guard. Addresses in 127.0.0.0/8 stand for those that are refused or allowed: nothing leaves the machine.


@pytest.fixture
def only_127_0_0_9(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The guard lets 127.0.0.9 pass and no other; gives the addresses that it was asked about."""
    asked: list[str] = []

    def allowed(address: str, allow_private: bool) -> bool:
        asked.append(address)
        return address == "127.0.0.9"

    monkeypatch.setattr(shell.guard, "is_allowed_address", allowed)
    return asked


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::1]", "0"])
def test_a_private_address_is_refused_however_it_is_written(shell: Shell, host: str) -> None:
    with raw_server(saying(OK)) as server, shell.http(allow_private=False) as guarded:
        kind = kind_of(guarded, get(server.port, host))
        if shell.name == "asyncio":  # aiohttp takes none of the odd ones
            assert kind in (FailureKind.ADDRESS_NOT_ALLOWED, FailureKind.MALFORMED)
        elif shell.name == "trio" and host == "[::1]":  # the brackets belong to a URL, and urllib3 takes them off
            assert kind is FailureKind.NAME
        else:
            assert kind is FailureKind.ADDRESS_NOT_ALLOWED
        assert server.opened == 0


def test_services_are_asked_wherever_the_operator_says(shell: Shell) -> None:
    with raw_server(saying(OK)) as server, shell.http(allow_private=False) as guarded:
        reply = guarded.perform(HttpExchange(get(server.port), Route.SERVICE, 20.0))
        assert reply.body == b"ok"


def test_of_several_addresses_only_those_that_pass_are_contacted(
    client: Client, resolving: dict[str, list[list[str]]], only_127_0_0_9: list[str]
) -> None:
    resolving["several.example"] = [["127.0.0.7", "127.0.0.9", "127.0.0.8"]]
    with raw_server(saying(OK), host="0.0.0.0") as server:  # noqa: S104  # all of 127/8
        reply = client.perform(HttpExchange(get(server.port, "several.example"), Route.ORIGIN, 20.0))
        assert reply.body == b"ok"
        assert server.reached == ["127.0.0.9"]


def test_a_host_none_of_whose_addresses_passes_is_refused(
    client: Client, resolving: dict[str, list[list[str]]], only_127_0_0_9: list[str]
) -> None:
    resolving["none.example"] = [["127.0.0.7", "127.0.0.8"]]
    with raw_server(saying(OK), host="0.0.0.0") as server:  # noqa: S104  # all of 127/8
        assert kind_of(client, get(server.port, "none.example")) is FailureKind.ADDRESS_NOT_ALLOWED
        assert server.opened == 0


def test_an_answer_of_the_resolver_that_changes_is_judged_anew(
    client: Client, resolving: dict[str, list[list[str]]], only_127_0_0_9: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving["rebinding.example"] = [["127.0.0.9"], ["127.0.0.7"]]
    then_close: Answer = saying(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    with raw_server(then_close, host="0.0.0.0") as server:  # noqa: S104  # all of 127/8
        sent = HttpExchange(get(server.port, "rebinding.example"), Route.ORIGIN, 20.0)
        assert isinstance(client.perform(sent), HttpReply)
        client.forget_names()
        failure = client.perform(sent)
        assert failure.kind is FailureKind.ADDRESS_NOT_ALLOWED
        assert server.reached == ["127.0.0.9"]
