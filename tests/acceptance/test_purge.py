"""Purge: after the 204 nothing that was begun before it is served, whatever was under way."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from cloud_mirror import keys
from tests.acceptance.conftest import MakeFleet
from tests.acceptance.looking import PATIENCE_S
from tests.fleet import POOL, REGION, Fleet, Process, Reply, at_once, fleet_of, request
from tests.purge_race import Arena, Plan, arena_of, plans
from tests.servers import FaultProxy, Moto, Origin, Point, SeaweedFS, Valkey
from tests.servers.processes import wait_until


@pytest.fixture(scope="module")
def arena(
    tmp_path_factory: pytest.TempPathFactory, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, shell: str
) -> Iterator[Arena]:
    with arena_of(tmp_path_factory.mktemp("arena"), valkey, seaweedfs, moto, shell) as made:
        yield made


@pytest.mark.parametrize("plan", tuple(plans(seed=7, runs=30)), ids=str)
def test_a_purge_holds_at_every_point_of_a_copy(arena: Arena, plan: Plan) -> None:
    outcome = arena.run(plan)
    assert outcome.violations == ()
    assert len(outcome.new) == 2


def test_what_is_asked_for_after_a_purge_is_copied_anew(arena: Arena) -> None:
    """Were most sent to the origin, the runs above would show little."""
    for plan in plans(seed=8, runs=3):
        assert arena.run(plan).violations == ()
    assert arena.told["copied"] > arena.told.total() / 2, arena.told


@pytest.fixture(scope="module")
def idle(
    tmp_path_factory: pytest.TempPathFactory, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, shell: str
) -> Iterator[Fleet]:
    """A front end that has nothing to do."""
    fleet = Fleet(tmp_path_factory.mktemp("idle"), valkey, seaweedfs, moto, "http://localhost:1", shell=shell)
    with fleet_of(fleet):
        fleet.start("serve")
        yield fleet


def copies(fleet: Fleet, url: str) -> list[str]:
    """The epochs under which the store holds a copy of a URL."""
    return [key.split("/")[2] for key in fleet.keys(keys.object_prefix(url))]


def wait_idle(worker: Process) -> None:
    worker.wait_for_metric("cloud_mirror_copying", 0.0)


def problem(reply: Reply) -> tuple[int, str, str]:
    """Status, reason and title of a problem document."""
    said = json.loads(reply.body)
    return reply.status, said["reason"], said["title"]


def test_a_purge_of_what_was_never_copied_is_done_at_once(make_fleet: MakeFleet, origin: Origin) -> None:
    fleet = make_fleet()
    front = fleet.start("serve")
    url = origin.url + "/never.bin"
    for _ in range(2):
        reply = front.purge(url)
        assert (reply.status, reply.body) == (204, b"")
    assert fleet.keys() == [keys.epoch_key(url)]
    assert origin.requests == ()


def test_purges_at_once_leave_one_good_copy_to_be_made(make_fleet: MakeFleet, origin: Origin) -> None:
    fleet = make_fleet()
    fronts, worker = [fleet.start("serve"), fleet.start("serve")], fleet.start("work")
    url = origin.put("/many.bin", b"A")
    assert request(fronts[0].ask(url).location).body == b"A"
    for version in (b"B", b"C", b"D", b"E"):
        origin.put("/many.bin", version)
        purges = at_once(4, lambda number: fronts[number % 2].purge(url))
        assert [reply.status for reply in purges] == [204] * 4
        for front in fronts:
            reply = front.ask(url)
            assert reply.status == 302
            assert request(reply.location).body == version
        wait_idle(worker)
        assert len(copies(fleet, url)) == 1
    assert fleet.uploads() == []


def test_a_purge_while_a_copy_is_being_renewed(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy, valkey: Valkey
) -> None:
    fleet = make_fleet(store_url=store_proxy.url)
    front, worker = fleet.start("serve"), fleet.start("work")
    url = origin.put("/renewed.bin", b"A")
    store_proxy.lifespan_s = 2_000.0  # within the refresh margin, beyond the expiry margin
    hold = store_proxy.hold(Point.REQUEST, "PUT", f"/{keys.url_sha256(url)}/", nth=2)
    old = front.ask(url)
    assert request(front.ask(url).location).body == b"A"
    hold.wait_reached()
    store_proxy.lifespan_s = None
    origin.put("/renewed.bin", b"B")
    assert front.purge(url).status == 204
    assert valkey.command("EXISTS", keys.renewal_key(POOL, url)) == b":0"
    new = front.ask(url)
    assert new.outcome == "copied"
    hold.release()
    wait_idle(worker)
    assert request(new.location).body == b"B"
    assert request(old.location).status == 404
    assert front.ask(url).location == new.location
    assert copies(fleet, url) == [fleet.entry(url)["epoch"]]


def test_without_the_cache_a_purge_says_that_it_may_be_sent_again(
    tmp_path: Path, seaweedfs: SeaweedFS, moto: Moto, origin: Origin, shell: str
) -> None:
    own = Valkey(tmp_path)
    own.start()
    try:
        with fleet_of(Fleet(tmp_path, own, seaweedfs, moto, origin.url, shell=shell)) as fleet:
            front, _ = fleet.start("serve"), fleet.start("work")
            url = origin.put("/no-cache.bin", b"A")
            assert request(front.ask(url).location).body == b"A"
            own.stop()
            refused = front.purge(url)
            status, reason, title = problem(refused)
            assert (status, reason, refused.headers["retry-after"]) == (503, "cache-unavailable", "2")
            assert "may be sent again" in title
            own.start()
            origin.put("/no-cache.bin", b"B")
            wait_until(lambda: front.purge(url).status == 204, PATIENCE_S, lambda: "the purge is refused still")
            assert copies(fleet, url) == []
            assert request(front.ask(url).location).body == b"B"
    finally:
        own.stop()


def test_without_the_store_a_purge_is_refused_and_can_be_sent_again(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy
) -> None:
    fleet = make_fleet(store_url=store_proxy.url)
    front, _ = fleet.start("serve"), fleet.start("work")
    url = origin.put("/no-store.bin", b"A")
    location = front.ask(url).location
    for method in (".*", "DELETE"):  # all of it; then only the sweep, when the new epoch stands already
        store_proxy.cut(Point.REQUEST, method)
        refused = front.purge(url)
        assert problem(refused)[:2] == (503, "store-unavailable")
        assert refused.headers["retry-after"] == "2"
        store_proxy.clear()
        assert request(location).body == b"A"
    origin.put("/no-store.bin", b"B")
    assert request(front.ask(url).location).body == b"B"
    assert front.purge(url).status == 204
    assert copies(fleet, url) == []


@contextmanager
def paused(process: Process) -> Iterator[None]:
    """The process does not run meanwhile."""
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("size", "method", "target"),
    [(200 * 1024, "PUT", "/paused.bin$"), (11 * 1024 * 1024, "POST", "/paused.bin[?]uploads")],
    ids=["single", "multipart"],
)
def test_a_worker_that_slept_through_a_purge_writes_where_nobody_looks_and_cleans_up(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy, size: int, method: str, target: str
) -> None:
    one_at_a_time = {"worker": {"concurrency": 1, "part_size": "5MiB", "memory_budget": "256MiB"}}
    fleet = make_fleet(store_url=store_proxy.url, settings=one_at_a_time)  # who sleeps must not take the next job too
    front, sleeper = fleet.start("serve"), fleet.start("work")
    url = origin.put("/paused.bin", b"A" * size)
    dead = f"/{keys.url_sha256(url)}/{keys.FIRST_EPOCH}/"
    hold = store_proxy.hold(Point.REQUEST, method, target)
    with ThreadPoolExecutor() as clients:
        waiter = clients.submit(front.ask, url)
        hold.wait_reached()
        other = fleet.start("work")
        with paused(sleeper):
            origin.put("/paused.bin", b"B" * size)
            assert front.purge(url).status == 204
            new = front.ask(url)
            assert new.outcome == "copied"
            assert waiter.result().location == new.location
            wait_idle(other)
            store_proxy.forget()
            hold.release()
    wait_until(
        lambda: store_proxy.count_matching("DELETE", dead) == 1, PATIENCE_S, lambda: "the late copy was not deleted"
    )
    wait_idle(sleeper)
    written = [seen.method for seen in store_proxy.requests if dead in seen.target]
    assert written.index("HEAD") < written.index("DELETE")  # it stood there, and was seen
    for _ in range(2):
        assert front.ask(url).location == new.location
    assert request(new.location).body == b"B" * size
    assert copies(fleet, url) == [fleet.entry(url)["epoch"]]
    assert fleet.uploads() == []


def test_the_command_purges_through_a_mirror_and_by_itself(make_fleet: MakeFleet, origin: Origin) -> None:
    fleet = make_fleet()
    front, _ = fleet.start("serve"), fleet.start("work")
    url = origin.put("/by-command.bin", b"A")
    for version, words in ((b"B", ("--server", front.base_url)), (b"C", ())):
        front.ask(url)
        assert len(copies(fleet, url)) == 1
        done = fleet.run("purge", url, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"purged from {POOL}" in done.stdout
        assert copies(fleet, url) == []
        origin.put("/by-command.bin", version)
        assert request(front.ask(url).location).body == version


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://user:secret@localhost/x", "url-userinfo"),
        ("ftp://localhost/x", "url-scheme"),
        ("http://127.0.0.1/x", "url-host"),
        ("http://localhost/a b", "url-malformed"),
        ("http://localhost/" + "x" * 3_000, "url-too-long"),
    ],
)
def test_a_bad_url_is_not_purged(idle: Fleet, url: str, reason: str) -> None:
    (front,) = idle.processes
    reply = front.purge(url)
    assert problem(reply)[:2] == (400, reason)
    done = idle.run("purge", url)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "secret" not in done.stdout + done.stderr
    assert idle.keys() == []


def test_only_who_holds_the_token_may_purge(idle: Fleet, origin: Origin) -> None:
    (front,) = idle.processes
    url = origin.url + "/x"
    bare = request(front.base_url, f"/v1/purge/s3/{REGION}/{quote(url, safe='')}", "DELETE")
    assert problem(bare)[:2] == (401, "purge-unauthorized")
    assert problem(front.purge(url, token="another"))[:2] == (403, "purge-forbidden")
    assert idle.keys() == []
