"""What is not as the mirror wrote it: in the cache it counts as absent, in the queue it is put aside with a reason."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from cloud_mirror import keys
from cloud_mirror.entry import Entry, Holder, Status, to_fields
from cloud_mirror.message import Job, to_body
from cloud_mirror.reason import Reason
from tests.acceptance.conftest import MakeFleet
from tests.acceptance.looking import PATIENCE_S, Queues, Site, entry_of, fetch, mirrored
from tests.fleet import POOL, Fleet
from tests.servers import Origin
from tests.servers.processes import wait_until

Put = Callable[[redis.Redis, str, str], None]

LIFE_S = 3_600
FAR_S = 9_999_999_999.0


def fields(url: str, **changed: str) -> dict[str, str]:
    """A present entry, as good as any, but for what is changed."""
    entry = Entry(Status.PRESENT, "token", url, since_s=1.0, epoch="0", size=3, expires_at_s=FAR_S, verified_at_s=FAR_S)
    return dict(to_fields(entry)) | changed


def held(url: str, **changed: str) -> dict[str, str]:
    """A pending entry, held by a worker."""
    return dict(to_fields(Entry(Status.PENDING, "token", url, holder=Holder.COPYING, since_s=1.0))) | changed


def hashed(make: Callable[..., dict[str, str]], life_s: int | None = LIFE_S, **changed: str) -> Put:
    """Write a hash; a field that is changed to "-" is left out."""

    def put(client: redis.Redis, key: str, url: str) -> None:
        client.hset(key, mapping={name: value for name, value in make(url, **changed).items() if value != "-"})
        if life_s is not None:
            client.expire(key, life_s)

    return put


def written(command: str, *words: str) -> Put:
    """Send a command, the key behind its first word."""

    def put(client: redis.Redis, key: str, _: str) -> None:
        client.execute_command(command, key, *words)  # type: ignore[no-untyped-call]  # redis-py's own

    return put


GARBAGE: dict[str, Put] = {
    "a string": written("SET", "garbage", "EX", str(LIFE_S)),
    "a string without end": written("SET", "\x00\xff"),
    "a list": written("RPUSH", "v", "1"),
    "a set": written("SADD", "present"),
    "a hash of other things": written("HSET", "colour", "blue"),
    "present, of another version": hashed(fields, v="2"),
    "present, of no version": hashed(fields, v="-"),
    "present, without end": hashed(fields, None),
    "present, with no epoch": hashed(fields, epoch="-"),
    "present, with an epoch that leads elsewhere": hashed(fields, epoch="../../elsewhere"),
    "present, with nonsense for a time": hashed(fields, expires_at="tomorrow"),
    "present, with no number for a size": hashed(fields, size="-3"),
    "pending, without end": hashed(held, None),
    "pending, held by nobody": hashed(held, holder="-"),
    "pending, held by a stranger": hashed(held, holder="stranger"),
    "of a status that there is not": hashed(held, status="perhaps"),
    "of no status": hashed(held, status="-"),
    "with no token": hashed(held, token="-"),
    "with a token that is none": hashed(held, token="a b"),
    "an error without a reason": hashed(held, status="error", retry_at=str(FAR_S)),
    "an error for no known reason": hashed(held, status="error", retry_at=str(FAR_S), reason="whim"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_in_the_cache_counts_as_absent(site: Site, name: str) -> None:
    path = f"/garbage-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    url = site.origin.put(path, b"the object itself")

    def spoil() -> None:
        with redis.Redis.from_url(site.fleet.valkey.url, decode_responses=True) as client:
            key = keys.entry_key(POOL, url)
            client.delete(key)
            GARBAGE[name](client, key, url)

    spoil()
    first = site.front.ask(url)
    assert (first.outcome, first.reason) == ("copied", "just-copied")
    assert fetch(first.location).sha256 == site.origin.sha256(path)
    spoil()
    again = site.front.ask(url)
    assert (again.outcome, again.location) == ("backfill", first.location)
    assert site.front.ask(url).outcome == "hit"
    assert site.origin.count("GET", path) == 1


def letters(fleet: Fleet) -> list[dict[str, Any]]:
    """The dead letters that are kept in the store."""
    client = fleet.seaweedfs.client()
    try:
        kept = fleet.keys("dead/")
        return [json.loads(client.get_object(Bucket=fleet.bucket, Key=key)["Body"].read()) for key in kept]
    finally:
        client.close()


def test_what_is_no_job_becomes_a_dead_letter_and_the_worker_goes_on(make_fleet: MakeFleet, origin: Origin) -> None:
    fleet = make_fleet()
    url = origin.put("/never", b"asked for by nobody who may")
    job = json.loads(to_body(Job(POOL, url, "0")))
    malformed = {
        "hello": "the message is not JSON",
        "[]": "the message is not a JSON object",
        json.dumps(job | {"v": 2}): "not of version 1",
        json.dumps(job | {"v": True}): "not of version 1",
        json.dumps(job | {"extra": 1}): "exactly the members",
        json.dumps(job | {"epoch": "../"}): "epoch",
        json.dumps(job | {"pool": "s3_elsewhere"}): "for another pool",
        json.dumps(job | {"url": "file:///etc/hosts"}): "neither https nor http",
        json.dumps(job | {"url": "http://127.0.0.1/x"}): "domain name",
        json.dumps(job | {"url": url.replace("http", "HTTP")}): "canonical",
        "\u00e9\U0001f600" * 100: "the message is not JSON",
    }
    front, worker = fleet.start("serve"), fleet.start("work")
    with Queues(fleet) as queues:
        for body in malformed:
            queues.send(body)
        wait_until(lambda: len(letters(fleet)) == len(malformed), PATIENCE_S, lambda: f"Letters: {letters(fleet)}")
        wait_until(lambda: queues.depth() == queues.depth(dead=True) == 0, PATIENCE_S, lambda: "Some are queued still")
    for letter in letters(fleet):
        assert letter["reason"] == "job-malformed"
        assert malformed.pop(letter["body"]) in letter["detail"]
    assert malformed == {}
    assert origin.requests == ()
    other = origin.put("/still-copied", b"the worker goes on")
    assert fetch(mirrored(front, other).location).sha256 == origin.sha256("/still-copied")
    assert worker.metric("cloud_mirror_jobs_total", event="buried") == 11


def test_a_job_for_what_no_pattern_allows_fetches_nothing(site: Site) -> None:
    """It may have been sent by a stranger, or before the patterns were changed."""
    with Origin() as stranger, Queues(site.fleet) as queues:
        url = stranger.put("/inside", b"not for the world")
        queues.send(to_body(Job(POOL, url, "0")))
        wait_until(lambda: entry_of(site.fleet, url) is not None, PATIENCE_S, lambda: "The job came to no end")

        def refused() -> bool:
            entry = entry_of(site.fleet, url)
            return entry is not None and entry.status is Status.ERROR

        wait_until(refused, PATIENCE_S, lambda: f"Not refused: {entry_of(site.fleet, url)}")
        entry = entry_of(site.fleet, url)
        assert entry is not None
        assert entry.reason is Reason.URL_NOT_ALLOWED
        wait_until(lambda: queues.depth() == 0, PATIENCE_S, lambda: "The job comes back")
        assert stranger.requests == ()
    assert site.fleet.keys(keys.object_prefix(url)) == []


def test_a_job_that_keeps_failing_is_given_up(make_fleet: MakeFleet, origin: Origin) -> None:
    worker = {"first_backoff_s": 0.0, "lease_s": 10.0}
    fleet = make_fleet(settings={"queue": {"visibility_timeout_s": 5, "max_receive_count": 2}, "worker": worker})
    front, back = fleet.start("serve"), fleet.start("work")
    url = origin.put("/breaks-off", b"never whole", break_after_bytes=5)
    assert front.ask(url).status == 302

    def given_up() -> bool:
        entry = entry_of(fleet, url)
        return entry is not None and entry.reason is Reason.COPY_FAILED

    wait_until(given_up, PATIENCE_S, lambda: f"Not given up: {entry_of(fleet, url)}")
    reply = front.ask(url)
    assert (reply.status, reply.outcome, reply.reason, reply.location) == (302, "origin", "copy-failed", url)
    (letter,) = letters(fleet)
    assert (letter["reason"], letter["body"]) == ("copy-failed", to_body(Job(POOL, url, "0")))
    assert origin.count("GET", "/breaks-off") == 2
    assert back.metric("cloud_mirror_jobs_total", event="given-up") == 1
    assert (fleet.keys(keys.object_prefix(url)), fleet.uploads()) == ([], [])
    with Queues(fleet) as queues:
        wait_until(lambda: queues.depth() == queues.depth(dead=True) == 0, PATIENCE_S, lambda: "Some are queued still")

    origin.put("/breaks-off", b"whole at last")
    with redis.Redis.from_url(fleet.valkey.url) as client:
        client.delete(keys.entry_key(POOL, url))  # as if its short life had ended
    assert front.ask(url).outcome == "copied"
