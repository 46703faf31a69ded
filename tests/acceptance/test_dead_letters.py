"""What an operator does about jobs that were given up: `cloud-mirror dead`."""

import json
import subprocess

import pytest

from cloud_mirror.message import Job, to_body
from tests.acceptance.conftest import MakeFleet
from tests.fleet import POOL, SHELLS, Fleet
from tests.servers import Origin
from tests.servers.processes import wait_until


def dead(fleet: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    return fleet.run("dead", *words)


def lose(fleet: Fleet, *bodies: str) -> None:
    """Put messages into the dead-letter queue, as the queue itself does with what failed too often."""
    client = fleet.moto.client("sqs")
    url = client.get_queue_url(QueueName=f"{fleet.name}-{POOL}-dead")["QueueUrl"]
    for body in bodies:
        client.send_message(QueueUrl=url, MessageBody=body)
    client.close()
    wait_until(lambda: len(fleet.keys("dead/")) == len(bodies), 30, lambda: f"kept: {fleet.keys('dead/')}")


@pytest.mark.parametrize("shell", SHELLS)
def test_dead_letters_are_listed_shown_sent_again_and_dropped(
    make_fleet: MakeFleet, origin: Origin, shell: str
) -> None:
    fleet = make_fleet()
    front = fleet.start("serve")
    back = fleet.start("work")
    url = origin.put("/lost.bin", b"copied at last").replace("127.0.0.1", "localhost")
    lose(fleet, to_body(Job(POOL, url, "0")), "no job")
    listed = dead(fleet, "list", "--shell", shell)
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert listed.returncode == 0, listed.stderr
    assert lines[-1] == ["2", "dead", "letters."]
    (job,) = (line for line in lines if "copy-failed" in line)
    (malformed,) = (line for line in lines if "job-malformed" in line)
    shown = json.loads(dead(fleet, "show", job[0], "--shell", shell).stdout)
    assert (shown["url"], shown["reason"], shown["pool"]) == (url, "copy-failed", POOL)
    assert json.loads(shown["message"])["url"] == url

    refused = dead(fleet, "redrive", malformed[0], "--shell", shell)
    assert (refused.returncode, "there is no job in it" in refused.stdout) == (1, True)
    sent = dead(fleet, "redrive", job[0], "--shell", shell)
    assert (sent.returncode, "1 of 1 letters sent again." in sent.stdout) == (0, True), sent.stdout + sent.stderr
    back.wait_for_metric("cloud_mirror_copies_total", 1, result="done")
    assert front.ask(url).outcome == "hit"

    dropped = dead(fleet, "drop", "--all", "--shell", shell)
    assert (dropped.returncode, "1 of 1 letters dropped." in dropped.stdout) == (0, True)
    assert fleet.keys("dead/") == []
    assert dead(fleet, "list", "--shell", shell).stdout == "0 dead letters.\n"


def test_a_letter_that_is_none_is_refused(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    for words in (("show", "abc"), ("drop", "abc"), ("redrive",), ("drop", "abc", "--all")):
        done = dead(fleet, *words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done
