"""What is the threaded client's own: being called off, names that take long, and that a name is looked up once."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud_mirror.policy import SourcePolicy
from cloud_mirror.wire.calls import FailureKind, HttpExchange, HttpReply, Route, TransportFailure
from cloud_mirror.wire.limits import LOOK_UPS
from cloud_mirror_sync.http_client import HttpClient
from cloud_mirror_sync.network import Line
from cloud_mirror_sync.stop import Stop, StoppedError
from tests.shells.drivers import PATIENCE_S
from tests.shells.raw_server import OK, get, raw_server, saying, silent, until


@pytest.fixture
def client() -> Iterator[HttpClient]:
    made = HttpClient(SourcePolicy(allow_private_addresses=True))
    yield made
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "alarm"]


def test_the_name_is_looked_up_once_and_its_addresses_are_connected_to(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's own address stands for a public one."""
    found = socket.getaddrinfo
    seen: list[str] = []

    def two(host: str, port: int, *args: int, **more: int) -> list[object]:
        seen.append(host)
        if host != "both.test":
            return list(found(host, port, *args, **more))
        kinds = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kinds, ("169.254.169.254", port)), (*kinds, ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with raw_server(saying(OK)) as server:
        call = HttpExchange(get(server.port, "both.test"), Route.ORIGIN, PATIENCE_S)
        assert isinstance(client.exchange(call, Stop()), HttpReply)
    assert seen == ["both.test", "127.0.0.1"]


def test_a_request_that_is_called_off_returns_at_once(client: HttpClient) -> None:
    stop = Stop()
    with raw_server(silent) as server, ThreadPoolExecutor(1) as threads:
        call = HttpExchange(get(server.port), Route.ORIGIN, 2 * PATIENCE_S)
        asking = threads.submit(client.exchange, call, stop)
        until(lambda: len(server.heads) == 1)
        stop.set()
        assert isinstance(asking.result(PATIENCE_S), TransportFailure)
        with pytest.raises(StoppedError):
            client.exchange(call, stop)


def test_a_connection_that_has_ended_is_forgotten(client: HttpClient) -> None:
    def kept() -> int:
        gc.collect()
        return sum(isinstance(each, Line) for each in gc.get_objects())

    with raw_server(saying(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))) as server:
        call = HttpExchange(get(server.port), Route.SERVICE, PATIENCE_S)
        assert isinstance(client.exchange(call, Stop()), HttpReply)
        before = kept()
        for _ in range(10):
            assert isinstance(client.exchange(call, Stop()), HttpReply)
        assert kept() == before


def test_names_that_nobody_answers_for_hold_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread waits for one longer than for a connection, and no more than some are looked up at once."""
    found, asked, answered = socket.getaddrinfo, threading.Semaphore(0), threading.Event()

    def getaddrinfo(host: str, *args: int, **more: int) -> list[object]:
        if "slow" not in host:
            return list(found(host, *args, **more))
        asked.release()
        answered.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")

    def slow(number: int, connect_timeout_s: float) -> FailureKind:
        call = HttpExchange(get(80, f"slow-{number}.example"), Route.ORIGIN, 20.0, connect_timeout_s)
        failure = made.exchange(call, Stop())
        assert isinstance(failure, TransportFailure)
        return failure.kind

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    made = HttpClient(SourcePolicy(allow_private_addresses=True))
    try:
        with ThreadPoolExecutor(40) as threads, raw_server(saying(OK)) as server:
            began_s = time.monotonic()
            assert set(threads.map(slow, range(40), [0.2] * 40)) == {FailureKind.TIMEOUT}
            assert time.monotonic() - began_s < 10
            looking = [thread for thread in threading.enumerate() if thread.name == "look-up"]
            assert len(looking) == LOOK_UPS
            assert all(thread.daemon for thread in looking)
            service = HttpExchange(get(server.port, "localhost"), Route.SERVICE, PATIENCE_S)
            assert isinstance(made.exchange(service, Stop()), HttpReply)
            answered.set()
            assert set(threads.map(slow, range(40), [PATIENCE_S] * 40)) == {FailureKind.NAME}
    finally:
        answered.set()
        made.close()
