"""The runtime of the async shells: credentials are found once, in a thread, and what is said where there are none."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from cloud_mirror.policy import Policy
from cloud_mirror.wire.calls import Backoff, Done, FailureKind, GetSigningMaterial, Procedure, SigningMaterial
from cloud_mirror.wire.credentials import REMEDY, CredentialSource
from tests.shells.awaiting import ON_ANYIO
from tests.shells.drivers import AsyncShell

pytestmark = ON_ANYIO


def signing() -> Procedure[Any]:
    """Ask for what a signature needs."""
    return (yield GetSigningMaterial())


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """In which threads credentials were looked for; where there are none to be found."""
    threads: list[int] = []
    load = CredentialSource.load

    def counted(self: CredentialSource) -> Any:
        threads.append(threading.get_ident())
        return load(self)

    monkeypatch.setattr(CredentialSource, "load", counted)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    return threads


async def test_credentials_are_loaded_once_and_not_on_the_loop(
    async_shell: AsyncShell, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with async_shell.open_runtime(Policy()) as made:
        found: list[SigningMaterial] = []

        async def find() -> None:
            found.append(await made.perform(signing()))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(find)
        assert {(material.access_key, material.secret_key) for material in found} == {("key", "secret")}
        assert found[0].now.utcoffset() == timedelta(0)
        assert len(loads) == 1
        assert loads[0] != threading.get_ident()


async def test_credentials_that_run_out_are_loaded_anew(
    async_shell: AsyncShell, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with async_shell.open_runtime(Policy()) as made:
        assert isinstance(await made.perform(signing()), SigningMaterial)
        with monkeypatch.context() as patch:
            patch.setattr(CredentialSource, "current", lambda _: None)
            await made.perform(signing())
        assert len(loads) == 2
        assert isinstance(await made.perform(signing()), SigningMaterial)
        assert len(loads) == 2


async def test_where_there_are_no_credentials_that_is_told(async_shell: AsyncShell, loads: list[int]) -> None:
    async with async_shell.open_runtime(Policy()) as made:
        failure = await made.perform(signing())
        assert (failure.kind, failure.detail) == (FailureKind.CREDENTIALS, REMEDY)


async def test_a_procedure_that_raises_is_not_swallowed(async_shell: AsyncShell) -> None:
    def broken() -> Procedure[None]:
        assert (yield Backoff(0.0)) == Done()
        raise LookupError("broken on purpose")

    async with async_shell.open_runtime(Policy()) as made:
        with pytest.raises(LookupError, match="on purpose"):
            await made.perform(broken())
