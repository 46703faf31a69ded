"""The applications themselves: how they start and end, and what they say where that was forgotten."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
import trio

import cloud_mirror_asyncio
import cloud_mirror_trio
from cloud_mirror.policy import Policy, SourcePolicy
from cloud_mirror.wire.embedding import Message
from cloud_mirror_command import config
from cloud_mirror_sync import WsgiApp, wsgi_app
from tests.fleet import REGION, Fleet, fleet_of
from tests.servers import Moto, Origin, SeaweedFS, Valkey
from tests.servers.processes import wait_until

BROKEN = Policy(source=SourcePolicy(allowed_patterns=("no pattern",)))


@pytest.fixture
def fleet(
    tmp_path: Path,
    valkey: Valkey,
    seaweedfs: SeaweedFS,
    moto: Moto,
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_key)
    settings = {"server": {"start_wait_s": 0.1}}
    with fleet_of(Fleet(tmp_path, valkey, seaweedfs, moto, origin.url, settings=settings)) as made:
        yield made


def get(app: WsgiApp, path: str) -> tuple[str, dict[str, str], bytes]:
    """What a server that gives no raw target, as Python's own, gets for a path; checked against PEP 3333."""
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": "", "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    written: list[bytes] = []
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        started.append((status, headers))
        return written.append

    pieces = validator(app)(environ, start_response)
    try:
        body = b"".join(pieces)
    finally:
        pieces.close()  # type: ignore[attr-defined]  # the validator's own, and it insists
    ((status, headers),) = started
    assert not written
    return status, dict(headers), body


def test_a_wsgi_application_lives_from_its_first_request_until_it_is_closed(fleet: Fleet, origin: Origin) -> None:
    app = wsgi_app(config.load(fleet.config))
    url = origin.put("/a%20b?c", b"a")
    prefix = f"/v1/redirect/s3/{REGION}/"
    encoded = base64.urlsafe_b64encode(url.encode()).decode()
    try:
        wait_until(lambda: get(app, "/readyz")[0] == "200 OK", 30, lambda: "the queues are not found")
        status, headers, _ = get(app, prefix + encoded)
        assert (status, headers["Location"]) == ("302 Found", url)
        assert headers["Cloud-Mirror"] == "origin; reason=not-started"
        status, _, body = get(app, prefix + url)
        assert (status, b"write the URL in base64url" in body) == ("400 Bad Request", True)
    finally:
        app.close()
    status, headers, _ = get(app, prefix + encoded)
    assert (status, headers["Cloud-Mirror"]) == ("302 Found", "origin; reason=draining")


def test_a_wsgi_application_that_is_closed_before_it_was_asked_starts_nothing(fleet: Fleet, origin: Origin) -> None:
    app = wsgi_app(config.load(fleet.config))
    app.close()
    before = threading.active_count()
    encoded = base64.urlsafe_b64encode(origin.put("/a", b"a").encode()).decode()
    status, headers, _ = get(app, f"/v1/redirect/s3/{REGION}/{encoded}")
    assert (status, headers["Cloud-Mirror"]) == ("302 Found", "origin; reason=draining")
    assert threading.active_count() == before


def start(library: str, policy: Policy) -> list[Message]:
    """What an application says to a server that starts it."""
    app = {"asyncio": cloud_mirror_asyncio.asgi_app, "trio": cloud_mirror_trio.asgi_app}[library](policy)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="run the server with ASGI's lifespan on"):
            await app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
        await app({"type": "lifespan"}, receive, send)

    with pytest.raises(ValueError, match="no pattern"):
        asyncio.run(main()) if library == "asyncio" else trio.run(main)
    return sent


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_an_asgi_application_that_is_not_started_says_how_to_start_it(library: str) -> None:
    (message,) = start(library, BROKEN)
    assert message["type"] == "lifespan.startup.failed"
    assert "no pattern" in message["message"]
