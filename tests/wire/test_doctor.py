"""The doctor: what is right it calls right, and for each thing that is wrong it has its own words."""

import json
import secrets
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cloud_mirror.policy import Policy, PoolPolicy, QueuePolicy, SourcePolicy
from cloud_mirror.wire.asking import Answered, ask
from cloud_mirror.wire.calls import (
    Call,
    FailureKind,
    HttpReply,
    RedisCommand,
    RedisRefusal,
    RedisReply,
    Reply,
    SigningMaterial,
    TransportFailure,
)
from cloud_mirror.wire.doctor import PROBE, Check, Finding, checks
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.setup import setup_plan
from cloud_mirror.wire.sqs import SqsQueue, dead_attributes, main_attributes
from cloud_mirror.wire.storage import SetupStep, StorageProvider
from tests.servers import Moto, Valkey
from tests.wire.driving import Performer, by_hand, drive, for_real
from tests.wire.exchange import AT, reply

SOURCE = SourcePolicy(("^https://origin[.]example/",))
POOL = PoolPolicy("s3", "us-west-1", "bucket-one", endpoint_url="http://127.0.0.1:1", public_url="http://127.0.0.1:2/b")
POLICY = Policy(source=SOURCE, pools=(POOL,))
BROKEN = TransportFailure(FailureKind.TIMEOUT, "no answer")
DENIED = reply(403, "<Error><Code>AccessDenied</Code></Error>")
OK = reply(200, ETag='"e"')
NO_QUEUE = reply(400, json.dumps({"__type": "com.amazonaws.sqs#QueueDoesNotExist"}))
NO_RIGHT = reply(403, json.dumps({"__type": "com.amazonaws.sqs#AccessDeniedException"}))
URL = reply(200, json.dumps({"QueueUrl": "http://127.0.0.1:1/1/q"}))
ARN = "arn:aws:sqs:us-west-2:1:cloud-mirror-s3_us-west-1-dead"


def plan(policy: Policy = POLICY) -> tuple[Check, ...]:
    return checks(policy, {pool.name: S3Provider(pool) for pool in policy.pools}, SqsQueue(policy.queue))


def find(title: str, *rules: tuple[str, Reply | Sequence[Reply]], policy: Policy = POLICY) -> Finding:
    [check] = [check for check in plan(policy) if check.title.endswith(title)]
    return drive(check.run(), by_hand(*rules))


def attributes(*pairs: tuple[str, str]) -> HttpReply:
    return reply(200, json.dumps({"Attributes": dict(pairs)}))


def asking(valkey: Valkey) -> Performer:
    """Redis commands over a connection of their own each, with RESP read by hand."""

    def perform(call: Call) -> Reply:
        assert isinstance(call, RedisCommand)
        with socket.create_connection(("127.0.0.1", valkey.port), timeout=5) as connection:
            words = [word.encode() if isinstance(word, str) else word for word in call.words]
            connection.sendall(
                b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            )
            with connection.makefile("rb") as stream:
                return read(stream)

    def read(stream: Any) -> Reply:
        line = stream.readline().rstrip()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"-":
                return RedisRefusal(rest.decode())
            case b"$":
                return RedisReply(stream.read(int(rest) + 2)[:-2])
            case b"*":
                return RedisReply([read(stream).value for _ in range(int(rest))])  # type: ignore[union-attr]  # no error is in a list
            case b":":
                return RedisReply(int(rest))
        return RedisReply(rest)

    return perform


def test_after_setup_all_is_well_and_before_it_the_remedy_is_setup(moto: Moto, valkey: Valkey) -> None:
    valkey.flush()
    name = secrets.token_hex(6)
    bucket = f"bucket-{name}"
    pool = replace(POOL, bucket=bucket, endpoint_url=moto.url, public_url=f"{moto.url}/{bucket}")
    policy = Policy(queue=QueuePolicy(prefix=name, endpoint_url=moto.url), source=SOURCE, pools=(pool,))
    perform = for_real("AKIDEXAMPLE", "secret", asking(valkey))
    before = {check.title: drive(check.run(), perform) for check in plan(policy)}
    wrong = {title for title, finding in before.items() if not finding.ok}
    assert {finding.remedy for finding in before.values() if not finding.ok} == {"run `cloud-mirror setup`"}
    assert "s3_us-west-1: bucket" in wrong
    assert "s3_us-west-1: queue" in wrong
    for step in setup_plan(policy, {pool.name: S3Provider(pool)}, SqsQueue(policy.queue)):
        drive(step.run(), perform)
    after = {check.title: drive(check.run(), perform) for check in plan(policy)}
    assert [(title, finding) for title, finding in after.items() if not finding.ok] == []
    assert set(after) == set(before)
    assert after["s3_us-west-1: public reading"] == Finding(True, "anyone can read a copy")
    assert after["redis: scripts"] == Finding(True, "run, with time and publish")
    assert valkey.command("DBSIZE") == b":0"
    left = for_real("AKIDEXAMPLE", "secret")
    page = drive(_list(S3Provider(pool)), left)
    assert page == ()


def _list(store: S3Provider) -> Any:
    answer = yield from ask(store, store.list_objects_request(""), store.read_list_objects, timeout_s=5)
    assert isinstance(answer, Answered)
    return answer.value.keys


@pytest.mark.parametrize(
    ("source", "ok", "what", "remedy"),
    [
        (SOURCE, True, "1 pattern", ""),
        (SourcePolicy(("^https://a/", "^https://b/")), True, "2 patterns", ""),
        (SourcePolicy(), False, "every URL is refused", "add patterns"),
        (SourcePolicy(("https://a/",)), False, "", "correct source.allowed_patterns"),
        (replace(SOURCE, allow_private_addresses=True), True, "PRIVATE ADDRESSES ARE ALLOWED", "whoever may ask"),
        (replace(SOURCE, require_tls=False), True, "http:// is allowed", "require_tls = true"),
    ],
)
def test_the_source(source: SourcePolicy, ok: bool, what: str, remedy: str) -> None:
    finding = find("source: what may be copied", policy=replace(POLICY, source=source))
    assert finding.ok is ok
    assert what in finding.what
    assert remedy in finding.remedy
    assert bool(finding.remedy) is bool(remedy)


@pytest.mark.parametrize(
    ("margins", "ok", "words"),
    [
        ({}, True, ""),
        ({"expiry_margin_s": 86_400.0}, False, "make expiry_margin_s smaller"),
        ({"refresh_margin_s": 86_400.0}, True, "make refresh_margin_s smaller"),
    ],
)
def test_the_margins(margins: dict[str, float], ok: bool, words: str) -> None:
    pool = replace(POOL, **margins)  # type: ignore[arg-type]  # only floats are replaced here
    finding = find("margins", policy=replace(POLICY, pools=(pool,)))
    assert (finding.ok, words in finding.remedy, bool(finding.remedy)) == (ok, True, bool(words))


INFO = b"# Server\r\nredis_version:%s\r\nos:x\r\n"


@pytest.mark.parametrize(
    ("title", "answer", "ok", "words"),
    [
        ("reachable", RedisReply(b"PONG"), True, "it answers"),
        ("reachable", BROKEN, False, "timeout: no answer"),
        ("reachable", RedisRefusal("NOAUTH"), False, "PING is refused: NOAUTH"),
        ("version", RedisReply(INFO % b"7.2.4"), True, "7.2.4"),
        ("version", RedisReply(INFO % b"5.0.14"), False, "upgrade to Redis 6.0"),
        ("version", RedisReply(INFO % b"next"), True, "unknown"),
        ("version", RedisReply(b""), True, "unknown"),
        ("version", RedisRefusal("NOPERM"), True, "INFO is refused: NOPERM"),
        ("memory", RedisReply([b"maxmemory-policy", b"volatile-lru", b"maxmemory", b"1"]), True, "volatile-lru"),
        ("memory", RedisReply([b"maxmemory-policy", b"noeviction", b"maxmemory", b"0"]), True, "it has no limit"),
        ("memory", RedisReply([b"maxmemory-policy", b"noeviction", b"maxmemory", b"9"]), True, "set maxmemory-policy"),
        ("memory", RedisReply([]), True, "its settings are not told"),
        ("memory", RedisReply(None), True, "its settings are not told"),
        ("memory", RedisRefusal("NOPERM"), True, "its settings may not be read"),
        ("scripts", RedisReply([b"hash", b"1"]), True, "run, with time"),
        ("scripts", RedisReply([b"none", b"1"]), False, "answered nonsense"),
        ("scripts", RedisReply(None), False, "answered nonsense"),
        ("scripts", RedisRefusal("NOPERM"), False, "EVAL is refused"),
    ],
)
def test_redis(title: str, answer: Reply, ok: bool, words: str) -> None:
    finding = find(f"redis: {title}", ("redis", answer))
    assert finding.ok is ok
    assert words in f"{finding.what} {finding.remedy}"


@pytest.mark.parametrize(
    ("answer", "ok", "words"),
    [
        (SigningMaterial("AKIDEXAMPLE", "s", None, AT), True, "found (they end in MPLE)"),
        (SigningMaterial("AKIDEXAMPLE", "s", "t", AT), True, "found (they end in MPLE, temporary)"),
        (TransportFailure(FailureKind.CREDENTIALS), False, "give AWS credentials"),
    ],
)
def test_credentials(answer: Reply, ok: bool, words: str) -> None:
    finding = find("credentials", ("GetSigningMaterial", answer))
    assert finding.ok is ok
    assert words in f"{finding.what} {finding.remedy}"
    assert "AKID" not in finding.what


LISTED = reply(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
NO_BUCKET = reply(404, "<Error><Code>NoSuchBucket</Code></Error>")
SINCE = "Tue, 03 Feb 2026 04:05:06 GMT"
THERE = reply(200, content_length="1", etag='"e"', last_modified=SINCE, date=SINCE)


@pytest.mark.parametrize(
    ("title", "rules", "ok", "words"),
    [
        ("bucket", [("list-type", LISTED)], True, "bucket-one is there"),
        ("bucket", [("list-type", DENIED)], False, "s3:ListBucket on the bucket bucket-one"),
        ("bucket", [("list-type", NO_BUCKET)], False, "run `cloud-mirror setup`"),
        ("bucket", [("list-type", BROKEN)], False, "timeout: no answer"),
        ("bucket", [("list-type", TransportFailure(FailureKind.CONNECT))], False, "connect check that"),
        ("a missing object", [("HEAD", reply(404))], True, "404, as it should be"),
        ("a missing object", [("HEAD", reply(403))], False, "s3:ListBucket (without it S3 hides"),
        ("a missing object", [("HEAD", THERE)], False, "is it an object store?"),
        ("put, get, delete", [("PUT", DENIED)], False, "s3:PutObject"),
        ("put, get, delete", [("PUT", OK), ("GET", DENIED), ("DELETE", OK)], False, "s3:GetObject"),
        ("put, get, delete", [("PUT", OK), ("GET", reply(200, "?")), ("DELETE", OK)], False, "did not come back"),
        ("put, get, delete", [("PUT", OK), ("GET", reply(200, PROBE)), ("DELETE", DENIED)], False, "s3:DeleteObject"),
        ("put, get, delete", [("PUT", OK), ("GET", DENIED), ("DELETE", DENIED)], False, "s3:GetObject"),
        ("put, get, delete", [("PUT", OK), ("GET", reply(200, PROBE)), ("DELETE", OK)], True, "as it went"),
        ("let the public read the copies", [("GET", DENIED)], False, "the right to read the bucket's settings"),
    ],
)
def test_the_bucket(title: str, rules: list[tuple[str, Reply]], ok: bool, words: str) -> None:
    finding = find(f": {title}", *rules)
    assert finding.ok is ok
    assert words in f"{finding.what} {finding.remedy}"


@pytest.mark.parametrize(
    ("title", "answer", "ok", "words"),
    [
        ("public reading", reply(200, PROBE), True, "anyone can read a copy"),
        ("public reading", reply(403), False, "blocks public policies"),
        ("public reading", reply(200, "a page"), False, "leads elsewhere (200)"),
        ("public reading", reply(404), False, "leads elsewhere (404)"),
        ("public reading", reply(301), False, "check public_url, and its region"),
        ("public reading", BROKEN, False, "clients cannot reach it"),
        ("private objects", reply(403), True, "kept from anonymous readers (403)"),
        ("private objects", BROKEN, False, "it cannot be reached"),
        ("private objects", reply(200, PROBE), True, "take purged/ and dead/ out"),
    ],
)
def test_what_an_anonymous_reader_gets(title: str, answer: Reply, ok: bool, words: str) -> None:
    rules = (("signed PUT", OK), ("anonymous GET /b/", answer), ("signed DELETE", OK))
    finding = find(title, *rules)
    assert finding.ok is ok
    assert words in f"{finding.what} {finding.remedy}"


def test_at_aws_itself_private_objects_that_anyone_can_read_are_a_fault() -> None:
    pool = replace(POOL, endpoint_url=None, public_url="https://cdn.example/x")
    rules = (("signed PUT", OK), ("anonymous GET /x", reply(200, PROBE)), ("signed DELETE", OK))
    assert find("private objects", *rules, policy=replace(POLICY, pools=(pool,))).ok is False


def test_a_pool_that_is_not_public_is_not_read_anonymously() -> None:
    titles = [check.title for check in plan(replace(POLICY, pools=(replace(POOL, redirect="presigned"),)))]
    assert "s3_us-west-1: private objects" in titles
    assert "s3_us-west-1: public reading" not in titles


def test_a_step_that_the_store_cannot_be_asked_about_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    step = SetupStep("made up", S3Provider(POOL).setup_steps()[0].request)
    assert StorageProvider.read_setup_check(S3Provider(POOL), step, reply(200)) is False
    monkeypatch.setattr(S3Provider, "setup_steps", lambda _: (step,))
    assert [check.title for check in plan() if "made up" in check.title] == []


def pairs(*more: tuple[str, str]) -> HttpReply:
    return attributes(*{**dict(main_attributes(POLICY.queue, ARN)), **dict(more)}.items())


DEAD = attributes(*dead_attributes(POLICY.queue), ("ApproximateNumberOfMessages", "3"))


@pytest.mark.parametrize(
    ("title", "rules", "ok", "words"),
    [
        ("queue", [("GetQueueUrl", URL), ("GetQueueAttributes", pairs())], True, "dead letters after 5 deliveries"),
        ("queue", [("GetQueueUrl", NO_QUEUE)], False, "is not there run `cloud-mirror setup`"),
        ("queue", [("GetQueueUrl", NO_RIGHT)], False, "give these credentials the right"),
        ("queue", [("GetQueueUrl", BROKEN)], False, "timeout: no answer check that"),
        ("queue", [("GetQueueUrl", URL), ("GetQueueAttributes", attributes())], False, "no redrive policy"),
        (
            "queue",
            [
                ("GetQueueUrl", URL),
                (
                    "GetQueueAttributes",
                    pairs(("RedrivePolicy", json.dumps({"deadLetterTargetArn": ARN, "maxReceiveCount": 2}))),
                ),
            ],
            False,
            "its maxReceiveCount is 2, not 5",
        ),
        ("dead-letter queue", [("GetQueueUrl", NO_QUEUE)], False, "is not there"),
        ("dead-letter queue", [("GetQueueUrl", [URL, NO_QUEUE]), ("GetQueueAttributes", DEAD)], False, "is not there"),
        ("dead-letter queue", [("GetQueueUrl", URL), ("GetQueueAttributes", [DEAD, pairs()])], True, "3 waiting"),
        ("dead-letter queue", [("GetQueueUrl", URL), ("GetQueueAttributes", pairs())], False, "is not longer"),
        ("dead-letter queue", [("GetQueueUrl", URL), ("GetQueueAttributes", attributes())], False, "(0 s)"),
    ],
)
def test_the_queues(title: str, rules: list[tuple[str, Reply | list[Reply]]], ok: bool, words: str) -> None:
    finding = find(f"s3_us-west-1: {title}", *rules)
    assert finding.ok is ok
    assert words in f"{finding.what} {finding.remedy}"
