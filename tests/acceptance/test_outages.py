"""What a client gets while cache, store, queue or subscription are away, and once they are back."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import redis

from tests.acceptance.conftest import MakeFleet
from tests.fleet import Process, Reply, queue_calls, request, sends_message
from tests.servers import DeafRelay, FaultProxy, Origin, Point, Valkey
from tests.servers.processes import wait_until

PATIENT = {"start_wait_s": 20.0}
"""A back end that has found a part missing rests for some seconds: requests wait for it here, not go to the origin."""


def ask_until(front: Process, url: str, wanted: Callable[[Reply], bool], timeout_s: float = 30.0) -> Reply:
    """Ask again and again until the answer is as wanted."""
    replies: list[Reply] = []

    def asked() -> bool:
        replies.append(front.ask(url))
        return wanted(replies[-1])

    wait_until(asked, timeout_s, lambda: f"the last answer was {replies[-1]}")
    return replies[-1]


def test_a_flushed_cache_is_filled_from_the_store(make_fleet: MakeFleet, origin: Origin, valkey: Valkey) -> None:
    url = origin.put("/a.bin", b"a")
    fleet = make_fleet()
    front, _ = fleet.start("serve"), fleet.start("work")
    copied = front.ask(url)
    origin.forget()
    valkey.flush()
    again = front.ask(url)
    assert (again.status, again.outcome, again.reason) == (302, "backfill", "found-in-store")
    assert again.location == copied.location
    assert front.ask(url).outcome == "hit"
    assert origin.requests == ()


def test_without_a_cache_the_store_is_asked(make_fleet: MakeFleet, origin: Origin, valkey: Valkey) -> None:
    url, other = origin.put("/a.bin", b"a"), origin.put("/b.bin", b"b", get_delay_s=0.5)
    fleet = make_fleet(settings={"server": {**PATIENT, "poll_s": 25.0}})
    front, _ = fleet.start("serve"), fleet.start("work")
    location = front.ask(url).location
    origin.forget()
    valkey.stop()
    try:
        begun = time.monotonic()
        found, unknown, missing = front.ask(url), front.ask(other), front.ask(origin.url + "/missing.bin")
        assert time.monotonic() - begun < 3  # one Redis timeout is 2 s, and a refused connection none
    finally:
        valkey.start()
    assert (found.status, found.outcome, found.location) == (302, "backfill", location)
    assert (unknown.status, unknown.outcome, unknown.reason) == (302, "origin", "cache-unavailable")
    assert unknown.location == other
    assert (missing.status, missing.reason) == (404, "origin-not-found")
    assert origin.count_matching("GET", "") == 0

    fleet.wait_for_listeners(2)
    assert ask_until(front, url, lambda reply: reply.outcome == "hit").location == location
    begun = time.monotonic()
    assert front.ask(other).outcome == "copied"
    assert time.monotonic() - begun < 20  # woken by what is published: the next look by itself was 25 s away


def test_a_store_that_fails_sends_clients_to_the_origin(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy, queue_proxy: FaultProxy
) -> None:
    fleet = make_fleet(store_url=store_proxy.url, queue_url=queue_proxy.url, settings={"server": PATIENT})
    front, _ = fleet.start("serve"), fleet.start("work")
    for number, (status, reason) in enumerate([(503, "store-unavailable"), (403, "store-denied")]):
        url = origin.put(f"/{number}.bin", b"a")
        store_proxy.answer(status)
        for _ in range(2):
            reply = front.ask(url)
            assert (reply.status, reply.outcome, reply.reason, reply.location) == (302, "origin", reason, url)
        assert (origin.requests, queue_calls(queue_proxy, "SendMessage")) == ((), 0)
        store_proxy.clear()
        assert ask_until(front, url, lambda reply: reply.outcome == "copied").status == 302
        origin.forget()
        queue_proxy.forget()


def test_a_queue_that_fails_sends_clients_to_the_origin(
    make_fleet: MakeFleet, origin: Origin, queue_proxy: FaultProxy
) -> None:
    url = origin.put("/a.bin", b"a")
    fleet = make_fleet(queue_url=queue_proxy.url)
    front, _ = fleet.start("serve"), fleet.start("work")
    queue_proxy.answer(503, when=sends_message)
    reply = front.ask(url)
    assert (reply.status, reply.outcome, reply.reason, reply.location) == (302, "origin", "queue-unavailable", url)
    assert origin.count("GET", "/a.bin") == 0
    queue_proxy.clear()
    assert ask_until(front, url, lambda reply: reply.outcome == "copied").status == 302


def test_a_message_that_is_lost_is_made_up_for_by_polling(
    make_fleet: MakeFleet, origin: Origin, valkey: Valkey
) -> None:
    url = origin.put("/a.bin", b"a")
    with DeafRelay(valkey.port) as relay:
        fleet = make_fleet(settings={"redis": {"url": relay.url}, "server": {"poll_s": 0.5}})
        front, _ = fleet.start("serve"), fleet.start("work")
        fleet.wait_for_listeners(2)
        relay.deaf = True
        assert front.ask(url).outcome == "copied"
        assert relay.lost >= 3  # the claim, its marking or the worker's lease, and the copy
        fleet.stop()


def test_a_subscription_that_is_cut_comes_back(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy, valkey: Valkey
) -> None:
    """Polling is so far away here that only messages can wake a waiter in time."""
    first, second = origin.put("/a.bin", b"a"), origin.put("/b.bin", b"b")
    fleet = make_fleet(store_url=store_proxy.url, settings={"server": {**PATIENT, "poll_s": 25.0}})
    front, _ = fleet.start("serve"), fleet.start("work")
    fleet.wait_for_listeners(2)
    with redis.Redis.from_url(valkey.url) as client, ThreadPoolExecutor() as pool:
        hold = store_proxy.hold(Point.REQUEST, "PUT")
        waiter = pool.submit(front.ask, first)
        hold.wait_reached()
        assert client.client_kill_filter(_type="pubsub") == 2
        fleet.wait_for_listeners(2)
        hold.release()
        assert waiter.result(20).outcome == "copied"
    begun = time.monotonic()
    assert front.ask(second).outcome == "copied"
    assert time.monotonic() - begun < 20
    assert request(front.ask(first).location).body == b"a"
