"""Asking a service: what is tried again and how often, and that nothing is raised."""

import pytest

from cloud_mirror.wire.asking import ATTEMPTS, Answered, Failed, ask
from cloud_mirror.wire.calls import (
    Backoff,
    FailureKind,
    GetSigningMaterial,
    Headers,
    HttpExchange,
    HttpReply,
    HttpRequest,
    Route,
    SigningMaterial,
    TransportFailure,
)
from cloud_mirror.wire.storage import FaultKind, ServiceFault
from tests.wire.driving import drive
from tests.wire.exchange import KEYS, reply
from tests.wire.pools import Script

REQUEST = HttpRequest("PUT", "http", "127.0.0.1", 1, "/a", (("Host", "h"),), b"body")
FAULTS = {
    FaultKind.THROTTLED: True,
    FaultKind.UNAVAILABLE: True,
    FaultKind.DENIED: False,
    FaultKind.NOT_FOUND: False,
    FaultKind.CONFLICT: False,
    FaultKind.REJECTED: False,
}
FAILURES = {
    FailureKind.NAME: True,
    FailureKind.ADDRESS_NOT_ALLOWED: False,
    FailureKind.CONNECT: True,
    FailureKind.TLS: False,
    FailureKind.TIMEOUT: True,
    FailureKind.BROKEN: True,
    FailureKind.MALFORMED: True,
    FailureKind.TOO_LARGE: False,
    FailureKind.CREDENTIALS: False,
}


class Numbering:
    """Signs each request with a number of its own."""

    def __init__(self) -> None:
        self.signed = 0

    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:
        assert material == KEYS
        self.signed += 1
        headers: Headers = (*request.headers, ("Authorization", str(self.signed)))
        return HttpRequest(request.method, request.scheme, request.host, request.port, "/a", headers, request.body)


def read(answer: HttpReply) -> str:
    """200 is the answer; any other status is the number of a fault."""
    if answer.status == 200:
        return "read"
    raise ServiceFault(list(FaultKind)[answer.status], f"Code{answer.status}", "said the service")


def fault(kind: FaultKind) -> HttpReply:
    return reply(list(FaultKind).index(kind))


def test_every_kind_of_failure_is_decided_on() -> None:
    assert set(FAULTS) == set(FaultKind)
    assert set(FAILURES) == set(FailureKind)


def test_an_answer_at_once() -> None:
    script = Script(reply(200))
    assert script.run(ask(Numbering(), REQUEST, read, timeout_s=3.0)) == Answered("read")
    [exchange] = script.calls
    assert isinstance(exchange, HttpExchange)
    assert (exchange.route, exchange.timeout_s) == (Route.SERVICE, 3.0)
    assert script.waits == []


@pytest.mark.parametrize("kind", FaultKind)
def test_faults(kind: FaultKind) -> None:
    tries = ATTEMPTS if FAULTS[kind] else 1
    script = Script(*[fault(kind)] * tries)
    code = f"Code{list(FaultKind).index(kind)}"
    failed = Failed(kind, code, "said the service", tries)
    assert script.run(ask(Numbering(), REQUEST, read, timeout_s=3.0)) == failed
    assert failed.denied is (kind is FaultKind.DENIED)


@pytest.mark.parametrize("kind", FailureKind)
def test_transport_failures(kind: FailureKind) -> None:
    tries = ATTEMPTS if FAILURES[kind] else 1
    script = Script(*[TransportFailure(kind, "why")] * tries)
    failed = Failed(kind, kind.value, "why", tries)
    assert script.run(ask(Numbering(), REQUEST, read, timeout_s=3.0)) == failed
    assert failed.denied is (kind is FailureKind.CREDENTIALS)


def test_each_try_is_signed_anew_and_waits_longer() -> None:
    signer = Numbering()
    script = Script(*[fault(FaultKind.THROTTLED)] * 8, reply(200))
    assert script.run(ask(signer, REQUEST, read, timeout_s=3.0, attempts=9)) == Answered("read")
    assert script.waits == [Backoff(wait_s) for wait_s in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)]
    numbers = [
        dict(call.request.headers).get("Authorization") for call in script.calls if isinstance(call, HttpExchange)
    ]
    assert numbers == [str(number) for number in range(1, 10)]


def test_the_last_failure_counts() -> None:
    script = Script(TransportFailure(FailureKind.TIMEOUT), fault(FaultKind.CONFLICT))
    assert script.run(ask(Numbering(), REQUEST, read, timeout_s=3.0)) == Failed(
        FaultKind.CONFLICT, "Code4", "said the service", 2
    )


def test_one_try_is_one_try() -> None:
    script = Script(fault(FaultKind.THROTTLED))
    outcome = script.run(ask(Numbering(), REQUEST, read, timeout_s=3.0, attempts=1))
    assert isinstance(outcome, Failed)
    assert script.waits == []


def test_without_credentials_nothing_is_sent() -> None:
    missing = TransportFailure(FailureKind.CREDENTIALS, "none were found")
    sent: list[object] = []

    def perform(call: object) -> TransportFailure:
        sent.append(call)
        return missing

    failed = drive(ask(Numbering(), REQUEST, read, timeout_s=3.0), perform)
    assert failed == Failed(FailureKind.CREDENTIALS, "credentials", "none were found", 1)
    assert sent == [GetSigningMaterial()]


def test_headers_are_found_by_name() -> None:
    assert reply(200, etag="x").header("etag") == "x"
    assert reply(200).header("etag") is None
    assert REQUEST.url == "http://127.0.0.1:1/a"
