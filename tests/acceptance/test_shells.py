"""The same from every shell, and from a mixture: a short selection of what the other tests here show of one.

`pytest tests/acceptance --shell trio` runs all of them over another shell.
"""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.acceptance.conftest import MakeFleet
from tests.acceptance.looking import ask_raw, base64_of, fetch, mirrored, say
from tests.crowd import Crowd
from tests.fleet import ADMIN_TOKEN, MIXED, POOL, REGION, SHELLS, Fleet, Process, at_once, fleet_of, request
from tests.servers import FaultProxy, Moto, Origin, SeaweedFS, Valkey

MIB = 1024 * 1024
EVERY = (*SHELLS, MIXED)
ROUTE = f"/v1/redirect/s3/{REGION}/"


@dataclass(frozen=True)
class Site:
    """Two front ends and a back end; of a mixture, each in a shell of its own."""

    fleet: Fleet
    origin: Origin
    queue_proxy: FaultProxy
    fronts: tuple[Process, Process]
    back: Process


@pytest.fixture(scope="module", params=EVERY)
def site_of(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    valkey: Valkey,
    seaweedfs: SeaweedFS,
    moto: Moto,
) -> Iterator[Site]:
    """The site of each shell in turn."""
    with ExitStack() as stack:
        origin, queue_proxy = stack.enter_context(Origin()), stack.enter_context(FaultProxy(moto.url))
        directory = tmp_path_factory.mktemp(request.param)
        fleet = Fleet(directory, valkey, seaweedfs, moto, origin.url, queue_url=queue_proxy.url, shell=request.param)
        stack.enter_context(fleet_of(fleet))
        fronts = fleet.start("serve"), fleet.start("serve")
        yield Site(fleet, origin, queue_proxy, fronts, fleet.start("work"))


@pytest.mark.parametrize("size", [0, 1_000, 11 * MIB + 1])
def test_an_object_is_copied_and_then_a_hit(site_of: Site, size: int) -> None:
    path = f"/{size}.bin"
    url = site_of.origin.put(path, size=size, seed=size)
    first, other = site_of.fronts
    kept = mirrored(first, url)
    assert (kept.status, kept.outcome, kept.reason) == (302, "copied", "just-copied")
    assert fetch(kept.location).sha256 == site_of.origin.sha256(path)
    again, head = other.ask(url), other.ask(url, "HEAD")
    assert (again.status, again.outcome, again.location) == (302, "hit", kept.location)
    assert (head.status, head.body) == (302, b"")
    assert {**head.headers, "date": ""} == {**again.headers, "date": ""}
    assert site_of.origin.count("GET", path) == 1
    assert site_of.fleet.uploads() == []


def test_a_flushed_cache_is_filled_from_the_store(site_of: Site, valkey: Valkey) -> None:
    url = site_of.origin.put("/flushed.bin", b"flushed")
    location = mirrored(site_of.fronts[0], url).location
    site_of.origin.forget()
    valkey.flush()
    for front, outcome in zip(site_of.fronts, ("backfill", "hit"), strict=True):
        reply = front.ask(url)
        assert (reply.status, reply.outcome, reply.location) == (302, outcome, location)
    assert site_of.origin.requests == ()


def test_a_purge_holds_at_every_front_end(site_of: Site) -> None:
    url = site_of.origin.put("/purged.bin", b"A")
    old = mirrored(site_of.fronts[0], url).location
    site_of.origin.put("/purged.bin", b"B")
    assert site_of.fronts[1].purge(url, "another").status == 403
    assert site_of.fronts[1].purge(url).status == 204
    assert fetch(old).status == 404
    new = mirrored(site_of.fronts[0], url)
    assert request(new.location).body == b"B"
    assert site_of.fronts[1].ask(url).location == new.location


def test_bad_input_reaches_no_origin(site_of: Site) -> None:
    site_of.origin.forget()
    for front in site_of.fronts:
        for path, status in (
            ("http://raw.example/x", 400),
            ("%", 400),
            ("http%3A%2F%2Fu%40a.example%2F", 400),
            ("http%3A%2F%2Fother.example%2Fx", 403),
        ):
            assert ask_raw(front, path).status == status, path
    assert site_of.origin.requests == ()
    missing = site_of.origin.url + "/missing.bin"
    assert {(reply.status, reply.body) for reply in [front.ask(missing) for front in site_of.fronts]} == {
        (404, site_of.fronts[0].ask(missing).body)
    }
    assert site_of.origin.count("HEAD", "/missing.bin") == 1


def test_a_hundred_clients_of_two_front_ends_make_one_copy(site_of: Site) -> None:
    crowd = Crowd(site_of.fleet, site_of.fronts, site_of.back, site_of.origin, site_of.queue_proxy)
    tally = crowd.ask("/crowd.bin", head_delay_s=0.1, requests=100)
    assert (tally.heads, tally.gets, tally.jobs) == (1, 1, 1)
    assert {(reply.status, reply.outcome) for reply in tally.replies} <= {(302, "copied"), (302, "hit")}
    (location,) = {reply.location for reply in tally.replies}
    assert request(location).body == b"/crowd.bin"


@pytest.mark.parametrize("shell", EVERY)
def test_what_ends_answers_its_waiters_and_gives_its_jobs_back(
    make_fleet: MakeFleet, origin: Origin, shell: str
) -> None:
    url = origin.put("/slow.bin", size=2 * MIB, seed=1, rate_bytes_per_s=MIB / 30)
    fleet = make_fleet(shell=shell, settings={"server": {"start_wait_s": 25.0}})
    leaving, staying, ending = fleet.start("serve"), fleet.start("serve"), fleet.start("work")
    with ThreadPoolExecutor() as pool:
        waiters = pool.submit(at_once, 10, lambda _: leaving.ask(url))
        leaving.wait_for_metric("cloud_mirror_waiters", 10)
        origin.wait_for("GET", "/slow.bin")
        leaving.signal(signal.SIGTERM)
        replies = waiters.result(10)
    assert {(reply.status, reply.reason, reply.location) for reply in replies} == {(302, "draining", url)}
    assert leaving.wait_ended() == 0
    ending.signal(signal.SIGTERM)
    assert ending.wait_ended() == 0
    origin.put("/slow.bin", size=2 * MIB, seed=1)
    fleet.start("work")
    assert fetch(mirrored(staying, url).location).sha256 == origin.sha256("/slow.bin")
    assert origin.count("GET", "/slow.bin") == 2


def requests_of(origin: Origin) -> dict[str, bytes]:
    """Requests that are answered without a copy, each the last on its connection, but for what is pipelined."""
    missing = base64_of(origin.url + "/missing.bin")

    def head(line: str, *fields: str) -> bytes:
        return "\r\n".join([f"{line} HTTP/1.1", "Host: m", "Connection: close", *fields, "", ""]).encode()

    purge = f"DELETE /v1/purge/s3/{REGION}/{missing}"
    return {
        "alive": head("GET /v1/ping"),
        "pipelined": b"GET /healthz HTTP/1.1\r\nHost: m\r\n\r\n" + head(f"GET {ROUTE}raw"),
        "raw URL": head(f"GET {ROUTE}https://a.example/b?c=d"),
        "raw URL by HEAD": head(f"HEAD {ROUTE}https://a.example/b?c=d"),
        "undecodable": head(f"GET {ROUTE}%zz"),
        "user in URL": head(f"GET {ROUTE}http%3A%2F%2Fa%40b.example%2F"),
        "not allowed": head(f"GET {ROUTE}http%3A%2F%2Fother.example%2F"),
        "too long": head(f"GET {ROUTE}http%3A%2F%2Fa.example%2F{'x' * 3_000}"),
        "no such object": head(f"GET {ROUTE}{missing}"),
        "no such object by HEAD": head(f"HEAD {ROUTE}{missing}"),
        "no such pool": head("GET /v1/redirect/gcs/nowhere/x"),
        "no such route": head("GET /nowhere"),
        "no such method": head(f"POST {ROUTE}x"),
        "purge without a token": head(purge),
        "purge with a wrong token": head(purge, "Authorization: Bearer wrong"),
        "purge": head(purge, f"Authorization: Bearer {ADMIN_TOKEN}"),
        "no HTTP": b"hello, is anybody there?\r\n\r\n",
    }


def test_what_is_said_is_the_same_to_the_letter(make_fleet: MakeFleet, origin: Origin) -> None:
    fleet = make_fleet()
    fronts = {shell: fleet.start("serve", shell=shell) for shell in SHELLS}
    for what, sent in requests_of(origin).items():
        said = {shell: re.sub(rb"(?m)^Date: .*\r\n", b"", say(front, sent)) for shell, front in fronts.items()}
        assert said == dict.fromkeys(SHELLS, said[SHELLS[0]]), what
        assert said[SHELLS[0]].startswith(b"HTTP/1."), what
    for front in fronts.values():
        assert front.metric("cloud_mirror_purges_total", pool=POOL, result="done") == 1
