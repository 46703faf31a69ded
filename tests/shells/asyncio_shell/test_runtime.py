"""Credentials: found once, in a thread, and what is said where there are none."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_mirror.policy import Policy
from cloud_mirror.wire.calls import Backoff, Done, FailureKind, GetSigningMaterial, Procedure, SigningMaterial
from cloud_mirror.wire.credentials import REMEDY, CredentialSource
from cloud_mirror_asyncio.runtime import Runtime
from tests.shells.asyncio_shell.looping import in_loop


@asynccontextmanager
async def runtime() -> Any:
    made = Runtime(Policy())
    try:
        yield made
    finally:
        await made.close()


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


@in_loop
async def test_credentials_are_loaded_once_and_not_on_the_loop(
    loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with runtime() as made:
        found = await asyncio.gather(*(made.perform(signing()) for _ in range(20)))
        assert {(material.access_key, material.secret_key) for material in found} == {("key", "secret")}
        assert found[0].now.utcoffset().total_seconds() == 0
        assert len(loads) == 1
        assert loads[0] != threading.get_ident()


@in_loop
async def test_credentials_that_run_out_are_loaded_anew(loads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with runtime() as made:
        assert isinstance(await made.perform(signing()), SigningMaterial)
        with monkeypatch.context() as patch:
            patch.setattr(CredentialSource, "current", lambda _: None)
            await made.perform(signing())
        assert len(loads) == 2
        assert isinstance(await made.perform(signing()), SigningMaterial)
        assert len(loads) == 2


@in_loop
async def test_where_there_are_no_credentials_that_is_told(loads: list[int]) -> None:
    async with runtime() as made:
        failure = await made.perform(signing())
        assert (failure.kind, failure.detail) == (FailureKind.CREDENTIALS, REMEDY)


@in_loop
async def test_a_procedure_that_raises_is_not_swallowed() -> None:
    def broken() -> Procedure[None]:
        assert (yield Backoff(0.0)) == Done()
        raise LookupError("broken on purpose")

    async with runtime() as made:
        with pytest.raises(LookupError, match="on purpose"):
            await made.perform(broken())
