"""Credentials: found once, refreshed before they expire, and never looked for without need."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from cloud_mirror.wire.calls import FailureKind, TransportFailure
from cloud_mirror.wire.credentials import REMEDY, RETRY_S, AccessKeys, CredentialSource
from tests.wire.exchange import AT

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE_S = 60.0


@dataclass
class World:
    """A clock, and a source of credentials that last an hour while it works."""

    now_s: float = 0.0
    works: bool = True
    issued: int = 0
    searches: int = 0
    credentials: Any = None
    failure: Exception = field(default_factory=lambda: OSError("no answer"))

    def clock(self) -> float:
        return self.now_s

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    def issue(self) -> dict[str, str]:
        if not self.works:
            raise self.failure
        self.issued += 1
        expiry = (self.wall() + timedelta(hours=1)).isoformat()
        return {"access_key": f"key{self.issued}", "secret_key": "s", "token": "t", "expiry_time": expiry}

    def get_credentials(self) -> Any:
        """As botocore's session does."""
        self.searches += 1
        if not self.works:
            raise self.failure
        return self.credentials

    def expiring(self) -> None:
        first = self.issue()
        self.credentials = RefreshableCredentials(
            first["access_key"], "s", "t", START + timedelta(hours=1), self.issue, "test", time_fetcher=self.wall
        )


@pytest.fixture
def world() -> World:
    return World()


def test_keys_that_do_not_expire_are_looked_for_once(world: World) -> None:
    world.credentials = Credentials("key", "secret", None)
    source = CredentialSource(world.clock, world)
    assert source.current() is None
    assert source.load() == AccessKeys("key", "secret", None)
    world.now_s += 1e6
    assert source.current() == source.load() == AccessKeys("key", "secret", None)
    assert source.problem == ""
    assert world.searches == 1


def test_keys_sign_with_the_time_that_is_passed_in() -> None:
    material = AccessKeys("key", "secret", "token").at(AT)
    assert (material.access_key, material.secret_key, material.session_token, material.now) == (
        *("key", "secret", "token"),
        AT,
    )
    assert "secret" not in repr(AccessKeys("key", "secret"))


def test_a_procedure_is_told_why_there_are_none(world: World) -> None:
    source = CredentialSource(world.clock, world)
    assert source.reply(source.load(), AT) == TransportFailure(FailureKind.CREDENTIALS, REMEDY)
    keys = AccessKeys("key", "secret")
    assert source.reply(keys, AT) == keys.at(AT)


def test_keys_are_refreshed_before_they_expire(world: World) -> None:
    world.expiring()
    source = CredentialSource(world.clock, world)
    loaded = source.load()
    assert loaded == source.current() == AccessKeys("key1", "s", "t")
    world.now_s = 44 * MINUTE_S
    assert source.current() == loaded
    world.now_s = 46 * MINUTE_S
    assert source.current() is None
    assert source.load() == source.current() == AccessKeys("key2", "s", "t")


def test_while_a_refresh_fails_the_old_keys_serve_to_their_end(world: World) -> None:
    world.expiring()
    source = CredentialSource(world.clock, world)
    source.load()
    world.works = False
    for minute in (46, 55, 59):  # botocore says nothing of a failure until ten minutes before the end
        world.now_s = minute * MINUTE_S
        assert source.current() is None
        assert source.load() == AccessKeys("key1", "s", "t")
        assert source.current() == AccessKeys("key1", "s", "t")  # no attempt for each request
        world.now_s += RETRY_S
        assert source.current() is None
    assert "no answer" in source.problem
    world.now_s = 61 * MINUTE_S
    assert source.load() is None
    assert source.current() is None
    world.works = True
    assert source.load() is None  # an attempt in RETRY_S
    world.now_s += RETRY_S
    assert source.load() == AccessKeys("key2", "s", "t")
    assert source.problem == ""


def test_where_there_are_none_it_says_so_and_does_not_ask_again_at_once(world: World) -> None:
    source = CredentialSource(world.clock, world)
    for _ in range(3):
        assert source.current() is None
        assert source.load() is None
    assert world.searches == 1
    assert "AWS_ACCESS_KEY_ID" in source.problem
    world.credentials = Credentials("key", "secret", None)
    world.now_s += RETRY_S
    assert source.load() == AccessKeys("key", "secret", None)


def test_a_source_that_breaks_is_told_and_not_raised(world: World) -> None:
    world.works = False
    source = CredentialSource(world.clock, world)
    assert source.load() is None
    assert source.problem == "AWS credentials cannot be loaded (OSError): no answer"


def test_the_usual_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert CredentialSource(lambda: 0.0).load() == AccessKeys("from-env", "secret", "token")
