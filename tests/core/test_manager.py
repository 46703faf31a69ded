"""`CacheManager`: the settings become each machine's rules, and a machine's word becomes an HTTP answer."""

from dataclasses import replace

import pytest

from cloud_mirror import copy_table, lease, redirect_table
from cloud_mirror.actions import Refuse, Response, Slot, ToCopy, ToOrigin
from cloud_mirror.http_api import Outcome
from cloud_mirror.keys import entry_key, object_key
from cloud_mirror.manager import CacheManager
from cloud_mirror.plan import plan_for
from cloud_mirror.policy import (
    OnDeadline,
    Policy,
    PoolPolicy,
    QueuePolicy,
    ServerPolicy,
    SourcePolicy,
    WorkerPolicy,
)
from cloud_mirror.reason import Reason

URL = "https://origin.example/a/b.tar.gz"
POOL = PoolPolicy("s3", "us-west-1", "bucket", refresh_margin_s=11.0, expiry_margin_s=12.0)
POLICY = Policy(
    server=ServerPolicy(start_wait_s=1.0, poll_s=2.0, claim_lease_s=3.0, negative_s=4.0, verify_s=5.0, max_waiters=2),
    queue=QueuePolicy(patience_s=6.0, visibility_timeout_s=7),
    source=SourcePolicy(max_object_bytes=8, allow_close_delimited=True),
    worker=WorkerPolicy(lease_s=9.0, max_copy_s=13.0, concurrency=10, first_backoff_s=14.0, longest_backoff_s=15.0),
    pools=(POOL,),
)
MANAGER = CacheManager(POLICY, POOL, lambda key: f"https://store.example/{key}")
COPY_AT = f"https://store.example/{object_key(URL, 'e1')}"


def test_the_machines_have_the_settings() -> None:
    assert MANAGER.flight(URL, "t") == redirect_table.State(
        redirect_table.Rules(OnDeadline.ORIGIN, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 11.0, 12.0), URL, "t"
    )
    plan = plan_for(POLICY.worker, 10, 8)
    assert MANAGER.copy("w", "c") == copy_table.State(
        copy_table.Rules(
            plan,
            9.0,
            6.0,
            4.0,
            5.0,
            11.0,
            12.0,
            8,
            allow_close_delimited=True,
            first_backoff_s=14.0,
            longest_backoff_s=15.0,
        ),
        "w",
        "c",
    )
    assert MANAGER.lease(Slot.RENEWAL, "w") == lease.State(Slot.RENEWAL, "w", 9.0, 7, 13.0)


def test_the_memory_is_shared_by_the_copies_of_all_pools() -> None:
    both = replace(POLICY, pools=(POOL, replace(POOL, region="eu-west-1")))
    rules = CacheManager(both, POOL, str).copy_rules
    assert rules.plan == plan_for(POLICY.worker, 20, 8)
    assert rules.plan != MANAGER.copy_rules.plan


def test_the_pool_has_its_names() -> None:
    assert MANAGER.entry_key(URL) == entry_key("s3_us-west-1", URL)
    assert MANAGER.channel == "cloud-mirror:1:s3_us-west-1:changes"
    assert MANAGER.location(URL, "e1") == COPY_AT


@pytest.mark.parametrize(
    ("response", "status", "location", "mark"),
    [
        (ToCopy("e1", Outcome.HIT, Reason.PRESENT), 302, COPY_AT, "hit; reason=present"),
        (ToCopy("e1", Outcome.COPIED, Reason.JUST_COPIED), 302, COPY_AT, "copied; reason=just-copied"),
        (ToOrigin(Reason.DEADLINE), 302, URL, "origin; reason=deadline"),
    ],
)
def test_redirects(response: Response, status: int, location: str, mark: str) -> None:
    answer = MANAGER.answer(URL, response)
    assert answer.status == status
    assert answer.header("Location") == location
    assert answer.header("Cloud-Mirror") == mark
    assert answer.header("Cache-Control") == "no-store"


@pytest.mark.parametrize(
    ("response", "retry_after"),
    [
        (Refuse(Reason.HOP_NOT_ALLOWED, 403), None),
        (Refuse(Reason.ORIGIN_ERROR, 503), None),
        (Refuse(Reason.ORIGIN_BUSY, 429, 119.5), "120"),
        (Refuse(Reason.ORIGIN_ERROR, 503, 0.2), "1"),
        (Refuse(Reason.STORE_UNAVAILABLE, 503), "2"),
        (Refuse(Reason.STORE_UNAVAILABLE, 503, 7.0), "7"),
    ],
)
def test_refusals(response: Refuse, retry_after: str | None) -> None:
    answer = MANAGER.answer(URL, response)
    assert answer.status == response.status
    assert answer.header("Location") is None
    assert answer.header("Retry-After") == retry_after
    assert response.reason.code.encode() in answer.body


def test_what_breaks_off_sends_clients_to_the_origin() -> None:
    assert MANAGER.break_off() == ToOrigin(Reason.INTERNAL)


def test_a_manager_has_what_it_was_made_of() -> None:
    assert (MANAGER.policy, MANAGER.pool) == (POLICY, POOL)


@pytest.mark.parametrize(
    ("held", "draining", "reason"),
    [
        (0, False, None),
        (1, False, None),
        (2, False, Reason.TOO_MANY_WAITERS),
        (0, True, Reason.DRAINING),
        (2, True, Reason.DRAINING),
    ],
)
def test_who_is_turned_away(held: int, reason: Reason | None, *, draining: bool) -> None:
    assert MANAGER.turn_away(held, draining) == (None if reason is None else ToOrigin(reason))
    failing = replace(POLICY, server=replace(POLICY.server, on_deadline=OnDeadline.FAIL))
    strict = CacheManager(failing, POOL, str)
    assert strict.turn_away(held, draining) == (None if reason is None else Refuse(reason, reason.status))
