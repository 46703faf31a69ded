"""Processes that are killed, stopped for a while, or told to end: nothing has to be done by hand."""

import contextlib
import hashlib
import http.client
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import MakeFleet
from tests.fleet import Process, Reply, at_once, request, sends_message
from tests.servers import FaultProxy, Origin, Point
from tests.servers.processes import wait_until

MIB: Final = 1024 * 1024
LEASE_S: Final = 3
POLL_S: Final = 1.0
MARGIN_S: Final = 4.0
"""For rounding up to whole seconds, which is all that the queue knows, and for the copying itself."""

SHORT: Final = {
    "server": {"max_wait_s": 1.0, "claim_lease_s": float(LEASE_S), "poll_s": POLL_S},
    "worker": {"lease_s": float(LEASE_S), "part_size": "5MiB", "concurrency": 1},
    "queue": {"visibility_timeout_s": LEASE_S},
}
"""One job at a time: a worker that is busy has no poll under way, which moto would go on with after its death."""

SIZES: Final = {"single": 2 * MIB, "multipart": 30 * MIB}
ENDS: Final = [signal.SIGTERM, signal.SIGINT]


def ask_until_copied(front: Process, url: str, within_s: float) -> Reply:
    """Ask again and again, as a client does; every answer on the way is a redirect to the origin."""
    replies: list[Reply] = []

    def copied() -> bool:
        replies.append(front.ask(url))
        if replies[-1].outcome == "origin":
            assert (replies[-1].status, replies[-1].location) == (302, url)
            return False
        return True

    wait_until(copied, within_s, lambda: f"not copied within {within_s} s; the last answer was {replies[-1]}")
    return replies[-1]


def served_sha256(reply: Reply) -> str:
    """The SHA-256 of what stands where a reply redirects to."""
    return hashlib.sha256(request(reply.location).body).hexdigest()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_another_worker_takes_over_from_one_that_is_killed(make_fleet: MakeFleet, origin: Origin, size: int) -> None:
    url = origin.put("/a.bin", size=size, seed=1, rate_bytes_per_s=size / 8)
    fleet = make_fleet(settings=SHORT)
    front, doomed = fleet.start("serve"), fleet.start("work")
    front.ask(url)
    origin.wait_for("GET", "/a.bin")
    if size == SIZES["multipart"]:
        wait_until(lambda: fleet.uploads() != [], 10, lambda: "no upload was begun")
    fleet.start("work")
    origin.put("/a.bin", size=size, seed=1)
    doomed.signal(signal.SIGKILL)
    reply = ask_until_copied(front, url, LEASE_S + POLL_S + MARGIN_S)
    assert served_sha256(reply) == origin.sha256("/a.bin")
    assert origin.count("GET", "/a.bin") == 2


def test_a_worker_that_was_paused_past_its_lease_changes_nothing(make_fleet: MakeFleet, origin: Origin) -> None:
    url = origin.put("/a.bin", size=SIZES["multipart"], seed=1, rate_bytes_per_s=4 * MIB)
    fleet = make_fleet(settings=SHORT)
    front, late = fleet.start("serve"), fleet.start("work")
    front.ask(url)
    wait_until(lambda: fleet.uploads() != [], 10, lambda: "no upload was begun")
    late.signal(signal.SIGSTOP)
    try:
        fleet.start("work")
        origin.put("/a.bin", size=SIZES["multipart"], seed=1)
        reply = ask_until_copied(front, url, LEASE_S + POLL_S + MARGIN_S)
        entry = fleet.entry(url)
    finally:
        late.signal(signal.SIGCONT)
    late.wait_for_metric("cloud_mirror_copies_total", 1, result="left")
    assert fleet.entry(url) == entry
    assert front.ask(url).location == reply.location
    assert served_sha256(reply) == origin.sha256("/a.bin")


def test_a_late_write_of_a_paused_worker_does_no_harm(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy
) -> None:
    url = origin.put("/a.bin", b"a" * 1_000)
    fleet = make_fleet(store_url=store_proxy.url, settings=SHORT)
    front, late = fleet.start("serve"), fleet.start("work")
    hold = store_proxy.hold(Point.REQUEST, "PUT")
    front.ask(url)
    hold.wait_reached()
    late.signal(signal.SIGSTOP)
    try:
        fleet.start("work")
        reply = ask_until_copied(front, url, LEASE_S + POLL_S + MARGIN_S)
        entry = fleet.entry(url)
    finally:
        late.signal(signal.SIGCONT)
    hold.release()
    late.wait_for_metric("cloud_mirror_copies_total", 1, result="left")
    assert fleet.entry(url) == entry
    assert front.ask(url).location == reply.location
    assert served_sha256(reply) == origin.sha256("/a.bin")
    assert len(fleet.keys()) == 1


@pytest.mark.parametrize("where", ["asking the origin", "sending the job"])
def test_a_front_end_killed_under_its_claim_is_replaced(
    make_fleet: MakeFleet, origin: Origin, queue_proxy: FaultProxy, where: str
) -> None:
    asking = where == "asking the origin"
    url = origin.put("/a.bin", b"a", head_delay_s=60 if asking else 0)
    fleet = make_fleet(queue_url=queue_proxy.url, settings=SHORT)
    doomed, other, _ = fleet.start("serve"), fleet.start("serve"), fleet.start("work")
    hold = queue_proxy.hold(Point.REQUEST, when=sends_message)
    queue_proxy.cut(Point.REQUEST, nth=1, when=sends_message)  # what was held never comes to the queue
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(doomed.ask, url)
        if asking:
            hold.release()
            queue_proxy.clear()
            origin.wait_for("HEAD", "/a.bin")
        else:
            hold.wait_reached()
        assert fleet.entry(url)["holder"] == "asking"
        doomed.signal(signal.SIGKILL)
        assert isinstance(asked.exception(), OSError | http.client.HTTPException)
    origin.put("/a.bin", b"a")
    reply = ask_until_copied(other, url, LEASE_S + POLL_S + MARGIN_S)
    assert request(reply.location).body == b"a"
    assert origin.count("GET", "/a.bin") == 1


def test_without_a_back_end_a_client_is_sent_to_the_origin(make_fleet: MakeFleet, origin: Origin) -> None:
    url = origin.put("/a.bin", b"a")
    front = make_fleet().start("serve")
    begun = time.monotonic()
    reply = front.ask(url)
    assert time.monotonic() - begun < 5.0  # 2 of `start_wait_s`, and what a busy machine adds
    assert (reply.status, reply.outcome, reply.reason, reply.location) == (302, "origin", "not-started", url)
    assert origin.count("GET", "/a.bin") == 0


@contextlib.contextmanager
def waiters(front: Process, url: str, count: int) -> Iterator[list[Any]]:
    """So many requests that are being held; their replies are in the list once the block is left."""
    replies: list[Any] = []
    thread = threading.Thread(target=lambda: replies.extend(at_once(count, lambda _: front.ask(url))))
    thread.start()
    try:
        front.wait_for_metric("cloud_mirror_waiters", count)
        yield replies
    finally:
        thread.join()


@pytest.mark.parametrize("end", ENDS)
def test_a_front_end_that_is_told_to_end_answers_its_waiters_first(
    make_fleet: MakeFleet, origin: Origin, end: signal.Signals
) -> None:
    url = origin.put("/a.bin", b"a")
    front = make_fleet(settings={"server": {"start_wait_s": 28.0}}).start("serve")
    with waiters(front, url, 100) as replies:
        begun = time.monotonic()
        front.signal(end)
    assert time.monotonic() - begun < 10  # of the 28 s that they would have waited
    assert {(reply.status, reply.reason, reply.location) for reply in replies} == {(302, "draining", url)}
    assert front.wait_ended() == 0


def test_a_front_end_that_drains_is_not_ready_and_takes_no_connections(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy
) -> None:
    """What holds the drain up here is a question to the store, whose answer a claim depends on."""
    url = origin.put("/a.bin", b"a")
    front = make_fleet(store_url=store_proxy.url).start("serve")
    kept = http.client.HTTPConnection("127.0.0.1", urlsplit(front.base_url).port, timeout=10)
    with contextlib.closing(kept), ThreadPoolExecutor() as pool:
        kept.request("GET", "/readyz")
        ready = kept.getresponse()
        assert (ready.status, bool(ready.read())) == (200, True)
        hold = store_proxy.hold(Point.REQUEST, "HEAD")
        asked = pool.submit(front.ask, url)
        hold.wait_reached()
        front.signal(signal.SIGTERM)
        assert asked.result(10).reason == "draining"
        with pytest.raises(ConnectionRefusedError):
            front.ask(url)
        kept.request("GET", "/readyz")
        drained = kept.getresponse()
        assert (drained.status, b"false" in drained.read()) == (503, True)
        hold.release()
        assert front.wait_ended() == 0


@pytest.mark.parametrize("end", ENDS)
def test_a_worker_that_is_told_to_end_gives_its_job_back_at_once(
    make_fleet: MakeFleet, origin: Origin, end: signal.Signals
) -> None:
    size = SIZES["multipart"]
    rate = size / 12  # not so slow that the waiter is sent to the origin in time
    url = origin.put("/a.bin", size=size, seed=1, rate_bytes_per_s=rate)
    long = {"server": {"start_wait_s": 20.0}, "worker": {"lease_s": 60.0}, "queue": {"visibility_timeout_s": 60}}
    fleet = make_fleet(settings=long)
    front, ending = fleet.start("serve"), fleet.start("work")
    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(front.ask, url)
        wait_until(lambda: fleet.uploads() != [], 20, lambda: "no upload was begun")
        fleet.start("work")
        origin.put("/a.bin", size=size, seed=1)
        ending.signal(end)
        assert ending.wait_ended() == 0
        reply = waiter.result(20)  # long before its deadline, let alone the lease's
    assert reply.outcome == "copied"
    assert served_sha256(reply) == origin.sha256("/a.bin")
    assert fleet.uploads() == []
