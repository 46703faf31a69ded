"""What is answered without a flight, and what an answer looks like."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import Refuse, ToCopy, ToOrigin
from cloud_mirror.http_api import Outcome, PurgeRoute, RedirectRoute
from cloud_mirror.policy import OnDeadline
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import BROKEN, MALFORMED, Desk, Roles, base_url
from cloud_mirror.wire.metrics import CONTENT_TYPE, Metrics
from tests.wire.pools import POLICY, SERVICES, URL, services

POOL = SERVICES.pool.name
REDIRECT = f"/v1/redirect/s3/us-west-1/{quote(URL, safe='')}"
PURGE = f"/v1/purge/s3/us-west-1/{quote(URL, safe='')}"


def desk(roles: Roles | None = None, queue_url: str = "http://q") -> Desk:
    policy = replace(POLICY, admin_token="secret")
    pools = {POOL: replace(SERVICES, queue_url=queue_url)}
    return Desk(policy, roles if roles is not None else Roles(), pools, Metrics())


def read(at: Desk, target: str, method: str = "GET", draining: bool = False, token: str = "") -> Any:
    headers = [("Authorization", f"Bearer {token}")] if token else []
    return at.read(method, target, headers, draining)


def test_a_redirect_and_a_purge_are_for_a_flight_to_answer() -> None:
    route = read(desk(), REDIRECT)
    assert (type(route), route.pool, route.url.text) == (RedirectRoute, POOL, URL)
    route = read(desk(), PURGE, "DELETE", token="secret")
    assert (type(route), route.pool, route.url.text) == (PurgeRoute, POOL, URL)


@pytest.mark.parametrize(("target", "method"), [(REDIRECT, "GET"), (PURGE, "DELETE")])
def test_a_process_that_only_copies_has_no_such_routes(target: str, method: str) -> None:
    answer = read(desk(Roles(front_end=False, back_end=True)), target, method, token="secret")
    assert answer.status == 404


def test_what_is_wrong_is_answered_at_once() -> None:
    assert read(desk(), "/v1/nothing").status == 404
    assert read(desk(), PURGE, "DELETE").status == 401
    assert read(desk(), "/v1/redirect/s3/nowhere/x").status == 404


@pytest.mark.parametrize(
    ("target", "method", "token", "reason"),
    [
        ("/v1/nothing", "GET", "", "route-unknown"),
        (REDIRECT, "POST", "", "method-not-allowed"),
        ("/v1/redirect/s3/nowhere/x", "GET", "", "pool-unknown"),
        ("/v1/redirect/s3/us-west-1/https%3A%2F%2Felsewhere%2F", "GET", "", "url-not-allowed"),
        (PURGE, "DELETE", "", "purge-unauthorized"),
        (PURGE, "DELETE", "wrong", "purge-forbidden"),
    ],
)
def test_what_is_refused_at_once_is_counted_by_its_reason(target: str, method: str, token: str, reason: str) -> None:
    at = desk()
    read(at, target, method, token=token)
    text = read(at, "/metrics").body.decode()
    assert f'cloud_mirror_requests_total{{outcome="refused",pool="",reason="{reason}"}} 1.0' in text


def test_what_is_answered_or_for_a_flight_is_not_counted_as_refused() -> None:
    at = desk()
    for target in (REDIRECT, "/v1/ping", "/healthz", "/readyz", "/metrics"):
        read(at, target, draining=True)
    assert 'outcome="refused"' not in read(at, "/metrics").body.decode()


@pytest.mark.parametrize("path", ["/v1/ping", "/healthz"])
def test_a_process_that_lives_says_so_even_while_it_drains(path: str) -> None:
    assert read(desk(), path, draining=True).status == 200


@pytest.mark.parametrize(
    ("queue_url", "draining", "status", "parts"),
    [
        ("http://q", False, 200, {"accepting": True, "queues": True}),
        ("", False, 503, {"accepting": True, "queues": False}),
        ("http://q", True, 503, {"accepting": False, "queues": True}),
    ],
)
def test_a_process_is_ready_with_its_queues_and_until_it_drains(
    queue_url: str, draining: bool, status: int, parts: dict[str, bool]
) -> None:
    answer = read(desk(queue_url=queue_url), "/readyz", draining=draining)
    assert answer.status == status
    assert parts.items() <= {**json.loads(answer.body), **json.loads(answer.body).get("parts", {})}.items()


def test_the_metrics_are_given_as_text() -> None:
    answer = read(desk(), "/metrics")
    assert (answer.status, answer.header("content-type")) == (200, CONTENT_TYPE)
    assert b"cloud_mirror_waiters 0.0" in answer.body


def test_a_flights_response_becomes_an_answer() -> None:
    route = read(desk(), REDIRECT)
    copied = desk().redirected(route, ToCopy("0", Outcome.HIT, Reason.PRESENT))
    assert (copied.status, copied.header("location")) == (302, SERVICES.provider.location(keys.object_key(URL, "0")))
    away = desk().redirected(route, ToOrigin(Reason.DEADLINE))
    assert (away.status, away.header("location")) == (302, URL)
    assert desk().redirected(route, Refuse(Reason.ORIGIN_GONE, 410)).status == 410


def test_who_is_without_a_copy_gets_what_the_policy_says() -> None:
    route = read(desk(), REDIRECT)
    assert desk().redirected(route, SERVICES.manager.break_off()).header("location") == URL
    failing = services(replace(POLICY, server=replace(POLICY.server, on_deadline=OnDeadline.FAIL)))
    assert failing.manager.break_off() == Refuse(Reason.INTERNAL, 500)


def test_a_purge_that_failed_may_be_sent_again() -> None:
    assert desk().purged(PurgeState()).status == 204
    failed = desk().purged(PurgeState(reason=Reason.STORE_DENIED, detail="secret detail"))
    assert (failed.status, failed.header("retry-after")) == (503, "2")
    assert b"secret detail" not in failed.body


def test_who_cannot_be_answered_learns_only_that() -> None:
    assert (BROKEN.status, MALFORMED.status) == (500, 400)


def test_a_process_listens_where_its_role_says() -> None:
    policy = replace(POLICY, server=replace(POLICY.server, port=80))
    assert Roles().address(policy) == ("127.0.0.1", 80)
    copying = Roles(front_end=False, back_end=True)
    assert copying.address(policy) is None
    shown = replace(policy, worker=replace(policy.worker, host="::1", port=81))
    assert copying.address(shown) == ("::1", 81)
    assert Roles(back_end=True).address(shown) == ("127.0.0.1", 80)


def test_a_base_url_shows_what_is_an_ipv6_address() -> None:
    assert (base_url("127.0.0.1", 80), base_url("::1", 81)) == ("http://127.0.0.1:80", "http://[::1]:81")


@pytest.mark.parametrize(
    ("roles", "needed", "copied"),
    [
        (Roles(), None, []),
        (Roles(front_end=False, back_end=True), None, ["a", "b"]),
        (Roles(front_end=False, back_end=True, pools=("a",)), ("a",), ["a"]),
        (Roles(front_end=True, back_end=True, pools=("a",)), None, ["a"]),
    ],
)
def test_a_role_says_which_pools_it_needs_and_which_it_copies_for(
    roles: Roles, needed: tuple[str, ...] | None, copied: list[str]
) -> None:
    assert roles.needed == needed
    assert [pool for pool in ("a", "b") if roles.copies_for(pool)] == copied
