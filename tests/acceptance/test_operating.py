"""What an operator sees: whether a process is well, what it counts, what it logs, and what the commands say."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.acceptance.conftest import MakeFleet, Site
from tests.fleet import POOL, REGION, Fleet, Process, request
from tests.looking import PATIENCE_S, Queues, fetch
from tests.servers import Valkey
from tests.servers.processes import free_port, wait_until


class Living(Process):
    """A process that need only be alive to count as started."""

    def _ready_now(self) -> bool:
        try:
            return request(self.base_url, "/healthz", timeout_s=5).status == 200
        except OSError:
            return False


def test_a_process_without_its_queues_is_alive_and_becomes_ready_once_they_are_there(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    with Queues(fleet) as queues:
        queues.delete()
    port = free_port()
    log = fleet.directory / "living.log"
    process = Living(fleet.command("serve", "--port", str(port)), port, log, fleet.environment)
    fleet.processes.append(process)
    process.start()
    reply = request(process.base_url, "/readyz")
    assert reply.status == 503
    assert json.loads(reply.body) == {"ready": False, "parts": {"accepting": True, "queues": False}}
    fleet.setup()
    wait_until(lambda: request(process.base_url, "/readyz").status == 200, PATIENCE_S, lambda: "It never became ready")
    assert "cloud-mirror setup" in log.read_text()


def test_setup_may_be_run_again(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    again = fleet.run("setup")
    assert again.returncode == 0, again.stdout + again.stderr
    steps = again.stdout.splitlines()[:-1]
    assert len(steps) >= 3
    assert [line for line in steps if not line.startswith("already there")] == []


def test_the_doctor_finds_nothing_wrong_with_a_good_fleet(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    done = fleet.run("doctor")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "FAILED" not in done.stdout
    assert re.search(r"All \d+ checks passed\.", done.stdout)
    assert fleet.keys() == []


@contextmanager
def without_bucket(fleet: Fleet) -> Iterator[None]:
    client = fleet.seaweedfs.client()
    try:
        client.delete_bucket(Bucket=fleet.bucket)
    finally:
        client.close()
    yield


@contextmanager
def without_queues(fleet: Fleet) -> Iterator[None]:
    with Queues(fleet) as queues:
        queues.delete()
    yield


@contextmanager
def without_redis(fleet: Fleet) -> Iterator[None]:
    fleet.valkey.stop()
    try:
        yield
    finally:
        fleet.valkey.start()


@pytest.mark.parametrize(
    ("without", "part", "remedy"),
    [
        (without_bucket, f"{POOL}: bucket", "run `cloud-mirror setup`"),
        (without_queues, f"{POOL}: queue", "run `cloud-mirror setup`"),
        (without_queues, f"{POOL}: dead-letter queue", "run `cloud-mirror setup`"),
        (without_redis, "redis: reachable", "check redis.url"),
    ],
    ids=["no bucket", "no queue", "no dead-letter queue", "no redis"],
)
def test_the_doctor_names_what_is_missing_and_the_remedy(
    make_fleet: MakeFleet, without: type, part: str, remedy: str
) -> None:
    fleet = make_fleet()
    with without(fleet):
        done = fleet.run("doctor")
    assert done.returncode == 1, done.stdout
    (line,) = (line for line in done.stdout.splitlines() if re.match(rf"FAILED\s+{part}\s\s", line))
    assert remedy in line
    assert done.stderr == ""  # neither a traceback nor a log line: the table says it all
    assert fleet.seaweedfs.secret_key not in done.stdout


def test_the_commands_of_one_who_asks(site: Site, tmp_path: Path, valkey: Valkey) -> None:
    body = b"what the command fetches"
    url = site.origin.put("/by/command.bin", body)
    server = ("--server", site.front.base_url)

    rewritten = site.fleet.run("rewrite", url, *server)
    expected = f"{site.front.base_url}/v1/redirect/s3/{REGION}/{quote(url, safe='')}"
    assert (rewritten.returncode, rewritten.stdout.strip()) == (0, expected)

    file = tmp_path / "fetched.bin"
    got = site.fleet.run("get", url, "-o", str(file), *server)
    assert got.returncode == 0, got.stderr
    assert file.read_bytes() == body
    assert got.stdout == f"{site.origin.sha256('/by/command.bin')}  {file}\n"
    assert "copied; reason=just-copied" in got.stderr
    assert "hit; reason=present" in site.fleet.run("get", url, "-o", str(file), *server).stderr

    location = site.front.ask(url).location
    assert site.fleet.run("purge", url, *server).returncode == 0
    assert fetch(location).status == 404
    assert site.front.ask(url).outcome == "copied"
    purged = site.fleet.run("purge", url)  # past every front end
    assert (purged.returncode, purged.stdout) == (0, f"purged from {POOL}\n")
    assert site.front.ask(url).outcome == "copied"
    assert site.origin.count("GET", "/by/command.bin") == 3

    refused = site.fleet.run("get", "http://other.example/x", "-o", str(tmp_path / "none"), *server)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "url-not-allowed" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_a_slip_in_the_configuration_ends_the_command_with_one_line(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    good = fleet.config.read_text()
    slips = {
        "max_wait_s = ": ("max_wait_seconds = ", f"{fleet.config}: server.max_wait_seconds", '"max_wait_s"'),
        "['^http": ("['http", f"{fleet.config}: source.allowed_patterns", "must start with ^"),
        "bucket = ": ("bukkit = ", f"{fleet.config}: pool[0].b", "bu"),
        "service = 's3'": ("service = 'gcs'", "pool gcs_us-west-1", "choose s3"),
    }
    for right, (wrong, where, remedy) in slips.items():
        fleet.config.write_text(good.replace(right, wrong))
        for command in (("serve",), ("purge", "http://localhost/x")):
            done = fleet.run(*command)
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            (line,) = done.stderr.splitlines()
            assert where in line
            assert remedy in line
