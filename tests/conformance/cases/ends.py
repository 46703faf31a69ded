"""Processes that are told to end, killed, or stopped for a while: nothing has to be done by hand."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.entry import Holder
from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.maker import Maker, Settings
from tests.conformance.site import PATIENCE_S, Site, at
from tests.fleet import Process, Reply, at_once, request, sends_message
from tests.servers import Point

MIB: Final = 1024 * 1024
SHORT: Final[Settings] = {
    "server": {"claim_lease_s": 3.0},
    "worker": {"lease_s": 3.0, "concurrency": 1},
    "queue": {"visibility_timeout_s": 3},
}
"""One job at a time: a worker that is busy has no poll under way, which moto would go on with after its death."""

SIZES: Final = {"single": 2 * MIB, "multipart": 30 * MIB}
ENDS: Final = (signal.SIGTERM, signal.SIGINT)


def sha256_of(reply: Reply) -> str:
    """The SHA-256 of what stands where a reply redirects to."""
    return hashlib.sha256(request(reply.location).body).hexdigest()


@contextlib.contextmanager
def kept(process: Process) -> Iterator[http.client.HTTPConnection]:
    """A connection to a process that is kept alive, by which it can be asked while it drains."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(process.base_url).port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        assert get(connection, "/readyz")[0] == 200
        yield connection


def get(connection: http.client.HTTPConnection, target: str) -> tuple[int, bytes]:
    """Status and body."""
    connection.request("GET", target)
    response = connection.getresponse()
    return response.status, response.read()


@contextlib.contextmanager
def paused(process: Process) -> Iterator[None]:
    """The process does not run meanwhile."""
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


@case(Redirect.DRAINED)
def a_front_end_that_is_told_to_end_answers_everybody_and_takes_nobody(make: Maker) -> None:
    """What holds its end up here is a question to the store, whose answer a claim depends on."""
    site = make.own(fronts=len(ENDS))
    for front, end in zip(site.fronts, ENDS, strict=True):
        drains(site, front, end)


def drains(site: Site, front: Process, end: signal.Signals) -> None:
    """Told to end, it answers everybody, takes nobody, and ends."""
    waited, claimed = site.put("slow.bin", b"slow", get_delay_s=30.0), site.put("claimed.bin", b"claimed")
    with kept(front) as one, kept(front) as other, ThreadPoolExecutor() as clients:
        waiters = clients.submit(at_once, 100, lambda _: front.ask(waited))
        site.wait_for_get(waited)
        hold = site.store.hold(Point.REQUEST, "HEAD", at(claimed))
        asked = clients.submit(front.ask, claimed)
        hold.wait_reached()
        front.wait_for_metric("cloud_mirror_waiters", 101)
        front.signal(end)
        replies: list[Reply] = waiters.result(20)
        assert {(*reply.said, reply.location) for reply in replies} == {(302, "origin", "draining", waited)}
        last = asked.result(20)
        assert (last.said, last.location) == ((302, "origin", "draining"), claimed)
        assert refuses(front, waited)
        status, body = get(one, "/readyz")
        assert (status, b"false" in body) == (503, True)
        site.note(get(other, "/metrics")[1])
        hold.release()
        assert front.wait_ended() == 0


def refuses(front: Process, url: str) -> bool:
    """Whether it takes no connection any more."""
    try:
        front.ask(url)
    except ConnectionRefusedError:
        return True
    return False


@case(Copy.DRAINED, Copy.STOPPED, Copy.CLEANED, Copy.REQUEUED)
def a_back_end_that_is_told_to_end_gives_its_job_back_at_once(make: Maker) -> None:
    site = make.own({"worker": {"concurrency": 1}})  # without a poll, see SHORT
    for number, end in enumerate(ENDS):
        gives_back(site, site.backs[number], end)


def gives_back(site: Site, ending: Process, end: signal.Signals) -> None:
    """Told to end in the middle of a copy, it gives the job back, and another one makes the copy."""
    size = SIZES["multipart"]
    url = site.put("long.bin", size=size, seed=1, rate_bytes_per_s=size / 12)  # in time for a waiter
    with kept(ending) as one, ThreadPoolExecutor() as clients:
        waiter = clients.submit(site.front.ask, url)
        site.wait(lambda: site.uploads(url) != [])
        site.start_back()
        site.change(url, size=size, seed=1)
        hold = site.queue.hold(Point.REQUEST, when=sends_message)
        ending.signal(end)
        hold.wait_reached()
        site.note(get(one, "/metrics")[1])
        hold.release()
        assert ending.wait_ended() == 0
        reply = waiter.result(20)  # long before its deadline, let alone the lease's
    assert reply.outcome == "copied"
    assert sha256_of(reply) == site.origin.sha256(site.path_of(url))
    assert (site.gets(url), site.uploads(url)) == (2, [])


@case(Copy.READ_VACANT, Copy.PUBLISHED)
def another_back_end_takes_over_from_one_that_is_killed(make: Maker) -> None:
    site = make.own(SHORT)
    for number, (kind, size) in enumerate(SIZES.items()):
        taken_over(site, site.backs[number], kind, size)


def taken_over(site: Site, doomed: Process, kind: str, size: int) -> None:
    """Killed in the middle of a copy, it is replaced by another one."""
    url = site.put("a.bin", size=size, seed=1, rate_bytes_per_s=size / 12)
    with ThreadPoolExecutor() as clients:
        waiter = clients.submit(site.front.ask, url)
        site.wait_for_get(url)
        site.wait(lambda: kind == "single" or site.uploads(url) != [])
        site.start_back()
        site.change(url, size=size, seed=1)
        doomed.signal(signal.SIGKILL)
        doomed.wait_ended()
        waiter.result()
    reply = site.copied(url)
    assert sha256_of(reply) == site.origin.sha256(site.path_of(url))
    assert site.gets(url) == 2


@case(Redirect.READ_ABSENT, Redirect.CLAIM_WON, Redirect.JOB_SENT)
def a_front_end_that_is_killed_under_its_claim_is_replaced(make: Maker) -> None:
    """While it asks the origin, and while it sends the job."""
    site = make.own(SHORT, fronts=3)
    for asking, doomed in zip((True, False), site.fronts, strict=False):
        url = site.put("a.bin", b"a", head_delay_s=60 if asking else 0)
        hold = site.queue.hold(Point.REQUEST, when=sends_message)
        site.queue.cut(Point.REQUEST, nth=1, when=sends_message)  # what was held never comes to the queue
        with ThreadPoolExecutor() as clients:
            asked = clients.submit(doomed.ask, url)
            if asking:
                site.queue.clear()
                site.origin.wait_for("HEAD", site.path_of(url))
            else:
                hold.wait_reached()
            entry = site.entry(url)
            assert entry is not None
            assert entry.pending(Holder.ASKING)
            doomed.signal(signal.SIGKILL)
            doomed.wait_ended()
            assert isinstance(asked.exception(), OSError | http.client.HTTPException)
        site.change(url, b"a")
        hold.release()
        assert site.body(site.copied(url, site.fronts[2])) == b"a"
        assert site.gets(url) == 1


@contextlib.contextmanager
def one_asleep(site: Site) -> Iterator[Process]:
    """The one back end that copies does not run meanwhile. After that, its copy comes to an end."""
    (late,) = (back for back in site.backs if back.metric("cloud_mirror_copying") == 1)
    ended = late.metric("cloud_mirror_copies_total")
    with paused(late):
        yield late
    late.wait_for_metric("cloud_mirror_copies_total", ended + 1)


@case(Copy.EPOCH_ALIVE, Copy.PUBLISHED)
def a_back_end_that_was_paused_past_its_lease_changes_nothing(make: Maker) -> None:
    site = make.site(SHORT, backs=2)
    size = SIZES["multipart"]
    url = site.put("a.bin", size=size, seed=1, rate_bytes_per_s=4 * MIB)
    site.send_job(url)
    site.wait(lambda: site.uploads(url) != [])
    with one_asleep(site):
        site.change(url, size=size, seed=1)
        reply = site.copied(url)
        entry = site.entry(url)
    assert site.entry(url) == entry
    assert site.front.ask(url).location == reply.location
    assert sha256_of(reply) == site.origin.sha256(site.path_of(url))


@case(Copy.WRITTEN, Copy.PUBLISHED)
def a_late_write_of_a_paused_back_end_does_no_harm(make: Maker) -> None:
    site = make.site(SHORT, backs=2)
    url = site.put("a.bin", b"a" * 1_000)
    hold = site.store.hold(Point.REQUEST, "PUT", at(url))
    site.send_job(url)
    hold.wait_reached()
    with one_asleep(site):
        reply = site.copied(url)
        entry = site.entry(url)
        hold.release()
    assert site.entry(url) == entry
    assert site.front.ask(url).location == reply.location
    assert site.body(reply) == b"a" * 1_000
    assert len(site.copies(url)) == 1


@case(Copy.EPOCH_DEAD, Copy.CLEANED, Copy.PUBLISHED, each=SIZES)
def a_back_end_that_slept_through_a_purge_writes_where_nobody_looks_and_cleans_up(make: Maker, word: str) -> None:
    site = make.site(SHORT, backs=2)
    size, method, ending = (200 * 1024, "PUT", "$") if word == "single" else (11 * MIB, "POST", "[?]uploads")
    url = site.put("paused.bin", b"A" * size)
    hold = site.store.hold(Point.REQUEST, method, at(url, ending))
    site.send_job(url)
    hold.wait_reached()
    with one_asleep(site):
        site.change(url, b"B" * size)
        assert site.front.purge(url).status == 204
        new = site.copied(url)
        hold.release()
    for _ in range(2):
        assert site.front.ask(url).location == new.location
    assert site.body(new) == b"B" * size
    assert (len(site.copies(url)), site.uploads(url)) == (1, [])


@case()
def a_burst_of_connections_waits_for_a_busy_process(make: Maker) -> None:
    """The process is stopped here: only the system takes connections, as many as the process has asked it to."""
    site = make.site(fronts=2)
    address = ("127.0.0.1", urlsplit(site.front.base_url).port or 0)
    with paused(site.front), ExitStack() as clients:
        for _ in range(500):
            clients.enter_context(socket.create_connection(address, timeout=5))
    assert request(site.front.base_url, "/v1/ping").status == 200
