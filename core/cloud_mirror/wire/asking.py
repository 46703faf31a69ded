"""Asking a store or a queue: sign, send, read, and retry what is worth retrying. Once, for every shell.

`ask` is the one way in which a procedure speaks with a service. It never raises: what did not work comes back
as `Failed`. Throttling, 5xx and broken connections are retried with full jitter (Marc Brooker, "Exponential
Backoff And Jitter"); a wrong request or a denied one is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from cloud_mirror.wire.calls import (
    Backoff,
    FailureKind,
    GetSigningMaterial,
    HttpExchange,
    HttpReply,
    HttpRequest,
    Procedure,
    Route,
    SigningMaterial,
    TransportFailure,
)
from cloud_mirror.wire.storage import FaultKind, ServiceFault

T = TypeVar("T")

ATTEMPTS: Final = 4
FIRST_BACKOFF_S: Final = 0.1
LONGEST_BACKOFF_S: Final = 5.0

_WORTH_RETRYING: Final = frozenset(
    {
        FaultKind.THROTTLED,
        FaultKind.UNAVAILABLE,
        FailureKind.NAME,
        FailureKind.CONNECT,
        FailureKind.TIMEOUT,
        FailureKind.BROKEN,
        FailureKind.MALFORMED,
    }
)


class Signer(Protocol):
    """What `ask` needs of a store or a queue."""

    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:
        """The request, signed for now."""
        ...


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """The service did as it was asked; `value` is what the reader made of its reply."""

    value: T


@dataclass(frozen=True, slots=True)
class Failed:
    """The service did not, after `attempts` tries. `detail` is for the log, never for a client."""

    kind: FaultKind | FailureKind
    code: str
    detail: str
    attempts: int

    @property
    def denied(self) -> bool:
        """Whether the service answered, and refused these credentials."""
        return self.kind in (FaultKind.DENIED, FailureKind.CREDENTIALS)


def ask(
    service: Signer,
    request: HttpRequest,
    read: Callable[[HttpReply], T],
    *,
    timeout_s: float,
    attempts: int = ATTEMPTS,
) -> Procedure[Answered[T] | Failed]:
    """Send `request`, signed anew for each try; `read` turns the reply into the answer or raises `ServiceFault`."""
    backoff_s = FIRST_BACKOFF_S
    attempt = 1
    while True:
        outcome = yield from _try_once(service, request, read, timeout_s, attempt)
        if isinstance(outcome, Answered) or outcome.kind not in _WORTH_RETRYING or attempt >= attempts:
            return outcome
        yield Backoff(backoff_s)
        attempt += 1
        backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)


def _try_once(
    service: Signer, request: HttpRequest, read: Callable[[HttpReply], T], timeout_s: float, attempt: int
) -> Procedure[Answered[T] | Failed]:
    material = yield GetSigningMaterial()
    if isinstance(material, TransportFailure):
        return Failed(material.kind, material.kind.value, material.detail, attempt)
    reply = yield HttpExchange(service.sign(request, material), Route.SERVICE, timeout_s)
    if isinstance(reply, TransportFailure):
        return Failed(reply.kind, reply.kind.value, reply.detail, attempt)
    try:
        return Answered(read(reply))
    except ServiceFault as fault:
        return Failed(fault.kind, fault.code, fault.message, attempt)
