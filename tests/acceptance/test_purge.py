"""Purge: after the 204 nothing that was begun before it is served, whatever was under way."""

import json
from collections.abc import Iterator

import pytest

from cloud_mirror import keys
from tests.acceptance.conftest import MakeFleet
from tests.fleet import POOL, Fleet, Reply, fleet_of, request
from tests.purge_race import Arena, Plan, arena_of, plans
from tests.servers import Moto, Origin, SeaweedFS, Valkey


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


def problem(reply: Reply) -> tuple[int, str, str]:
    """Status, reason and title of a problem document."""
    said = json.loads(reply.body)
    return reply.status, said["reason"], said["title"]


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
