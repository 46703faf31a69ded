"""Shells beside each other on the same Redis, queue and store: each with each, and all three under many clients."""

from __future__ import annotations

import http.client
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.maker import Maker, Settings
from tests.conformance.site import Site
from tests.fleet import MIXED, SHELLS, Reply, at_once
from tests.looking import fetch

CLIENTS = 500
NEW, THERE, MISSING = 20, 20, 10
"""Of so many URLs each client asks for one: what is new, what has a copy, what the origin does not have."""


@pytest.fixture
def mixture(maker_of: Callable[[str], Maker]) -> Iterator[Maker]:
    """Processes that take turns at the shells."""
    maker = maker_of(MIXED)
    with maker.watching():
        yield maker


def test_each_shell_has_its_copies_made_by_each(mixture: Maker) -> None:
    """One back end at a time, so that it is known who copied."""
    short = {"queue": {"visibility_timeout_s": 3}}  # moto gives jobs to polls whose process has ended
    site = mixture.own(short, fronts=len(SHELLS), backs=0)
    for number in range(len(SHELLS)):
        back = site.start_back()
        for front in site.fronts:
            assert front.ask(site.put("pair.bin", b"pair")).said == (302, "copied", "just-copied")
        back.wait_for_metric("cloud_mirror_copies_total", len(SHELLS), result="done")
        back.signal(signal.SIGTERM)
        assert back.wait_ended() == 0, number


def test_five_hundred_clients_of_all_shells_lose_no_request(mixture: Maker) -> None:
    """While they wait, one front end is told to end and one back end, in the middle of its copies, is killed."""
    short: Settings = {
        "worker": {"lease_s": 3.0},
        "queue": {"visibility_timeout_s": 3},
    }
    site = mixture.own(short, fronts=len(SHELLS), backs=len(SHELLS))
    leaving, doomed = site.fronts[0], site.backs[1]
    there = [site.put("there.bin", f"there {number}".encode()) for number in range(THERE)]
    at_once(THERE, lambda number: site.copied(there[number], site.fronts[number % 3]))
    new = [site.put("new.bin", f"new {number}".encode(), get_delay_s=2.0) for number in range(NEW)]
    missing = [site.origin.url + site.path("missing.bin") for _ in range(MISSING)]
    urls = random.Random(4).choices([*new, *there, *missing], k=CLIENTS)

    with ThreadPoolExecutor(1) as pool:
        clients = pool.submit(at_once, CLIENTS, lambda number: insist(site, number, urls[number]))
        site.wait(lambda: leaving.metric("cloud_mirror_waiters") > 0 and doomed.metric("cloud_mirror_copying") > 0)
        leaving.signal(signal.SIGTERM)
        doomed.signal(signal.SIGKILL)
        replies = clients.result(120)
    assert leaving.wait_ended() == 0
    bodies: dict[str, str] = {}
    assert [wrong for url, reply in zip(urls, replies, strict=True) if (wrong := fault(site, url, reply, bodies))] == []
    outcomes = {reply.said for reply in replies}
    assert {(302, "hit", "present"), (302, "copied", "just-copied"), (404, "error", "origin-not-found")} <= outcomes
    asked = set(urls)
    assert {site.gets(url) for url in new if url in asked} <= {1, 2}  # the second where the first died with its worker
    assert {site.gets(url) for url in there} == {1}
    assert {site.heads(url) for url in missing if url in asked} == {1}


def insist(site: Site, number: int, url: str) -> Reply:
    """Ask a front end; where it takes no connection any more, the next one, as a balancer of load would."""
    for turn in range(len(site.fronts)):
        try:
            return site.fronts[(number + turn) % len(site.fronts)].ask(url)
        except ConnectionRefusedError:
            continue
    raise http.client.NotConnected(f"no front end takes a connection for {url}")


def fault(site: Site, url: str, reply: Reply | Exception, bodies: dict[str, str]) -> str:
    """What is wrong with what a client got; "" for nothing. `bodies` keeps what was fetched."""
    if isinstance(reply, Exception):
        return f"{url}: {reply!r}"
    if reply.said == (302, "origin", "draining") and reply.location == url:
        return ""
    if "missing" in url:
        return "" if reply.said == (404, "error", "origin-not-found") else f"{url}: {reply}"
    if reply.outcome not in ("hit", "backfill", "copied"):
        return f"{url}: {reply}"
    if reply.location not in bodies:
        bodies[reply.location] = fetch(reply.location).sha256
    return "" if bodies[reply.location] == site.origin.sha256(site.path_of(url)) else f"{url}: other bytes"
