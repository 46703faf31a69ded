"""What is not as the mirror wrote it: in the cache it counts as absent, in the queue it is put aside with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import redis

from cloud_mirror import keys
from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.entry import Entry, Holder, Status, to_fields
from cloud_mirror.message import Job, to_body
from cloud_mirror.reason import Reason
from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.maker import Maker
from tests.conformance.site import Site
from tests.fleet import POOL, Fleet
from tests.looking import Queues
from tests.servers import Origin

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


@case(Redirect.READ_ABSENT, Redirect.BACKFILL_WRITTEN, Copy.READ_VACANT)
def garbage_in_the_cache_counts_as_absent(make: Maker) -> None:
    site = make.site(fronts=2)
    for name, put in GARBAGE.items():
        url = site.put("garbage", name.encode())
        spoil(site, url, put)
        first = site.front.ask(url)
        assert first.said == (302, "copied", "just-copied"), name
        assert site.body(first) == name.encode()
        spoil(site, url, put)
        again = site.front.ask(url)
        assert (again.outcome, again.location) == ("backfill", first.location), name
        assert (site.front.ask(url).outcome, site.gets(url)) == ("hit", 1)


def spoil(site: Site, url: str, put: Put) -> None:
    """Have that in the cache, in the entry's place."""
    with site.redis() as client:
        key = keys.entry_key(POOL, url)
        client.delete(key)
        put(client, key, url)


def letters(fleet: Fleet) -> list[dict[str, Any]]:
    """The dead letters that are kept in the store."""
    client = fleet.seaweedfs.client()
    try:
        kept = fleet.keys("dead/")
        return [json.loads(client.get_object(Bucket=fleet.bucket, Key=key)["Body"].read()) for key in kept]
    finally:
        client.close()


@case(Copy.RECEIVED)
def what_is_no_job_becomes_a_dead_letter_and_the_worker_goes_on(make: Maker) -> None:
    site = make.site(fronts=2)
    buried = site.back.metric("cloud_mirror_jobs_total", event="buried")
    site.origin.forget()
    url = site.put("never", b"asked for by nobody who may")
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
    assert letters(site.fleet) == []
    with Queues(site.fleet) as queues:
        for body in malformed:
            queues.send(body)
        site.wait(lambda: len(letters(site.fleet)) == len(malformed))
        site.wait(lambda: queues.depth(dead=True) == 0)
    for letter in letters(site.fleet):
        assert letter["reason"] == "job-malformed"
        assert malformed.pop(letter["body"]) in letter["detail"]
    assert malformed == {}
    assert site.origin.requests == ()
    assert site.body(site.copied(site.put("still-copied", b"the worker goes on"))) == b"the worker goes on"
    assert site.back.metric("cloud_mirror_jobs_total", event="buried") == buried + 11


@case(Copy.DECLINED, Copy.RECORDED)
def a_job_for_what_no_pattern_allows_fetches_nothing(make: Maker) -> None:
    """It may have been sent by a stranger, or before the patterns were changed."""
    site = make.site(fronts=2)
    with Origin() as stranger:
        url = stranger.put("/forbidden", b"not for the world")
        site.send_job(url)
        site.wait(lambda: (entry := site.entry(url)) is not None and entry.reason is Reason.URL_NOT_ALLOWED)
        site.wait_for_row(Copy.SETTLED)
        assert stranger.requests == ()
    assert site.copies(url) == []


@case(Copy.FETCH_FAILED, Copy.RECORDED, Redirect.READ_ERROR)
def a_job_that_keeps_failing_is_given_up(make: Maker) -> None:
    worker = {"first_backoff_s": 0.0, "lease_s": 10.0}
    site = make.site({"queue": {"visibility_timeout_s": 5, "max_receive_count": 2}, "worker": worker})
    url = site.put("breaks-off", b"never whole", break_after_bytes=5)
    assert site.front.ask(url).status == 302
    site.wait(lambda: (entry := site.entry(url)) is not None and entry.reason is Reason.COPY_FAILED)
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "origin", "copy-failed"), url)
    (letter,) = letters(site.fleet)
    assert (letter["reason"], letter["body"]) == ("copy-failed", to_body(Job(POOL, url, "0")))
    assert site.gets(url) == 2
    assert site.back.metric("cloud_mirror_jobs_total", event="given-up") == 1
    assert (site.copies(url), site.uploads(url)) == ([], [])
    with Queues(site.fleet) as queues:
        site.wait(lambda: queues.depth() == queues.depth(dead=True) == 0)
    site.change(url, b"whole at last")
    site.forget(url)  # as if its short life had ended
    assert site.front.ask(url).outcome == "copied"
