"""Every shell in turn, for what all of them must do alike."""

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from tests.servers import Moto, Origin, Valkey
from tests.shells.drivers import ASYNC_SHELLS, SHELLS, AsyncShell, Client, Shell
from tests.shells.world import World, open_world


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.name)
def shell(request: pytest.FixtureRequest) -> Shell:
    """One shell after another."""
    assert hasattr(request.param, "guard")
    return request.param  # type: ignore[no-any-return]  # pytest has no type for it


@pytest.fixture
def async_shell(anyio_backend_name: str) -> AsyncShell:
    """The shell that runs on the test's backend."""
    return ASYNC_SHELLS[anyio_backend_name]


@pytest.fixture(autouse=True)
def nothing_goes_on(request: pytest.FixtureRequest) -> None:
    """A test that anyio runs leaves no task behind."""
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("no_task_left")


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Every task that began has ended, or does so now."""
    before = len(anyio.get_running_tasks())  # anyio's own, which are others at the end but as many
    yield
    with anyio.move_on_after(5):
        while len(anyio.get_running_tasks()) > before:  # noqa: ASYNC110  # they have no common end to wait for
            await anyio.sleep(0.005)
    left = anyio.get_running_tasks()
    assert len(left) <= before, f"tasks are left behind: {left}"


@pytest.fixture
def client(shell: Shell) -> Iterator[Client]:
    """The shell's HTTP client, to which private addresses are allowed; no body may be left open in it."""
    with shell.http() as made:
        yield made
        assert made.open_bodies() == 0, "a body was left open"


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
def cache(valkey: Valkey) -> Valkey:
    """A cache that holds nothing."""
    valkey.flush()
    return valkey


@pytest.fixture
def world(cache: Valkey, moto: Moto, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> World:
    """What a mirror runs on; no process has credentials but these."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mirror")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mirror-secret")
    return open_world(moto, origin, cache.url)
