"""Driving a procedure without a shell: replies made by hand, or real servers asked in the plainest way."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from cloud_mirror.wire.calls import (
    Backoff,
    Call,
    Done,
    GetSigningMaterial,
    HttpExchange,
    Procedure,
    RedisCommand,
    Reply,
    SigningMaterial,
)
from tests.wire.exchange import KEYS, send

T = TypeVar("T")
Performer: TypeAlias = Callable[[Call], Reply]


def drive(procedure: Procedure[T], perform: Performer) -> T:
    """What the procedure returns, where `perform` answers each of its calls."""
    reply: Any = None
    try:
        while True:
            reply = perform(procedure.send(reply))
    except StopIteration as stop:
        value: T = stop.value
        return value


def label(call: Call) -> str:
    """A call in words: `signed GET /bucket?policy`, `signed POST / GetQueueUrl`, `anonymous GET /a`, `redis PING`."""
    match call:
        case HttpExchange(request=request):
            headers = {name.lower(): value for name, value in request.headers}
            signed = "signed" if "authorization" in headers else "anonymous"
            operation = headers.get("x-amz-target", "").rpartition(".")[2]
            return f"{signed} {request.method} {request.target} {operation}".strip()
        case RedisCommand(words=words):
            return " ".join(["redis", *map(str, words)])
        case _:
            return type(call).__name__


def by_hand(*rules: tuple[str, Reply | Sequence[Reply]]) -> Performer:
    """Answers by the first rule whose text the call's label holds; a sequence is used up, its last one stays."""
    left = [(text, [replies] if not isinstance(replies, Sequence) else list(replies)) for text, replies in rules]

    def perform(call: Call) -> Reply:
        for text, replies in left:
            if text in label(call):
                return replies.pop(0) if len(replies) > 1 else replies[0]
        match call:
            case GetSigningMaterial():
                return KEYS
            case Backoff():
                return Done()
        raise AssertionError(f"no rule for {label(call)}")

    return perform


def for_real(access_key: str, secret_key: str, redis: Performer | None = None) -> Performer:
    """Sends requests as they stand; what is not HTTP goes to `redis`."""

    def perform(call: Call) -> Reply:
        match call:
            case HttpExchange(request=request):
                return send(request)
            case GetSigningMaterial():
                return SigningMaterial(access_key, secret_key, None, datetime.now(UTC))
            case Backoff():
                return Done()
        assert redis is not None
        return redis(call)

    return perform
