"""The doctor: of each part, whether it can be reached and is configured rightly, and what to do where not.

Each check is a procedure of its own. A check that writes cleans up after itself: an entry of a few seconds' life in
Redis, two small objects in a bucket, under keys that no source URL can have. Nothing is written to a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlsplit

from cloud_mirror.keys import epoch_key, object_key
from cloud_mirror.policy import Policy, PoolPolicy, QueuePolicy, SourcePolicy
from cloud_mirror.source import PatternError, SourceRules
from cloud_mirror.wire.asking import Answered, Failed, ask
from cloud_mirror.wire.calls import (
    GetSigningMaterial,
    HttpExchange,
    HttpReply,
    HttpRequest,
    Procedure,
    Route,
    TransportFailure,
)
from cloud_mirror.wire.doctor_redis import check_eviction, check_ping, check_script, check_version
from cloud_mirror.wire.finding import Check, Finding, told
from cloud_mirror.wire.queue import JobQueue
from cloud_mirror.wire.setup import QueueState, find_queue, is_done, redrive_of, remedy_for
from cloud_mirror.wire.storage import ObjectAttributes, SetupStep, StorageProvider

__all__ = ["Check", "Finding", "checks"]

T = TypeVar("T")

TIMEOUT_S: Final = 10.0
ATTEMPTS: Final = 2
"""Fewer than elsewhere: somebody is waiting, and wants to hear of what fails now and then."""

PROBE: Final = b"cloud-mirror doctor: this object may be deleted\n"
PROBE_HOST: Final = "https://cloud-mirror.invalid/"
"""RFC 6761, 6.4: no host is ever called so, hence no copy shares a key with a probe."""


def checks(
    policy: Policy, providers: Mapping[str, StorageProvider], queue: JobQueue, *, nonce: str = "doctor"
) -> tuple[Check, ...]:
    """All checks. `nonce` names the probes (letters, digits, `-`, `_`), so that two doctors do not meet."""
    return (
        Check("source: what may be copied", partial(_check_source, policy.source)),
        Check("redis: reachable", check_ping),
        Check("redis: version", check_version),
        Check("redis: memory", check_eviction),
        Check("redis: scripts", partial(check_script, nonce)),
        Check("credentials", _check_credentials),
        *(check for pool in policy.pools for check in _pool_checks(policy, pool, providers[pool.name], queue, nonce)),
    )


def _pool_checks(
    policy: Policy, pool: PoolPolicy, store: StorageProvider, queue: JobQueue, nonce: str
) -> Iterator[Check]:
    name, key = pool.name, object_key(f"{PROBE_HOST}doctor", nonce)
    yield Check(f"{name}: margins", partial(_check_margins, pool))
    yield Check(f"{name}: bucket", partial(_check_bucket, pool, store, key))
    for step in store.setup_steps():
        if step.check is not None:
            yield Check(f"{name}: {step.title}", partial(_check_step, pool, store, step))
    yield Check(f"{name}: a missing object", partial(_check_missing, pool, store, key))
    yield Check(f"{name}: put, get, delete", partial(_check_objects, pool, store, key))
    if pool.redirect == "public":
        yield Check(f"{name}: public reading", partial(_check_public, pool, store, key))
    yield Check(f"{name}: private objects", partial(_check_private, pool, store, epoch_key(PROBE_HOST + nonce)))
    yield Check(f"{name}: queue", partial(_check_queue, policy.queue, name, queue))
    yield Check(f"{name}: dead-letter queue", partial(_check_dead, policy.queue, name, queue))


# The source and the margins: settings only, nothing is asked.


def _check_source(policy: SourcePolicy) -> Procedure[Finding]:
    yield from ()
    try:
        SourceRules(policy)
    except PatternError as error:
        return Finding(False, str(error), "correct source.allowed_patterns")
    if not policy.allowed_patterns:
        return Finding(False, "no pattern: every URL is refused", "add patterns to source.allowed_patterns")
    what = f"{len(policy.allowed_patterns)} patterns" if len(policy.allowed_patterns) > 1 else "1 pattern"
    if policy.allow_private_addresses:
        return Finding(
            True,
            f"{what}; PRIVATE ADDRESSES ARE ALLOWED",
            "set source.allow_private_addresses = false: whoever may ask this mirror can make it fetch from your "
            "own network and publish what is there",
        )
    if not policy.require_tls:
        return Finding(True, f"{what}; http:// is allowed", "set source.require_tls = true, unless the path is trusted")
    return Finding(True, what)


def _check_margins(pool: PoolPolicy) -> Procedure[Finding]:
    yield from ()
    life_s = pool.lifespan_days * 86_400
    if pool.expiry_margin_s >= life_s:
        return Finding(
            False,
            f"no copy would be served: expiry_margin_s is as long as the {pool.lifespan_days} days of a copy's life",
            "make expiry_margin_s smaller, or lifespan_days larger",
        )
    if pool.refresh_margin_s >= life_s:
        return Finding(
            True,
            "every copy would be made anew at once: refresh_margin_s is as long as a copy's life",
            "make refresh_margin_s smaller, or lifespan_days larger",
        )
    return Finding(True, f"a copy lives for {pool.lifespan_days} d")


# The store.


def _ask(
    store: StorageProvider, request: HttpRequest, read: Callable[[HttpReply], T]
) -> Procedure[Answered[T] | Failed]:
    return (yield from ask(store, request, read, timeout_s=TIMEOUT_S, attempts=ATTEMPTS))


def _check_credentials() -> Procedure[Finding]:
    material = yield GetSigningMaterial()
    if isinstance(material, TransportFailure):
        remedy = remedy_for(Failed(material.kind, "", material.detail, 1), "")
        return Finding(False, told(material), remedy)
    passing = ", temporary" if material.session_token else ""
    return Finding(True, f"found (they end in {material.access_key[-4:]}{passing})")


def _trouble(pool: PoolPolicy, failed: Failed, right: str = "") -> Finding:
    what = f"{failed.code}: {failed.detail}" if failed.detail else failed.code
    if failed.denied and right:
        return Finding(False, what, f"give these credentials {right} on the bucket {pool.bucket}")
    return Finding(False, what, remedy_for(failed, f"the bucket {pool.bucket}"))


def _check_bucket(pool: PoolPolicy, store: StorageProvider, key: str) -> Procedure[Finding]:
    page = yield from _ask(store, store.list_objects_request(key), store.read_list_objects)
    if isinstance(page, Failed):
        return _trouble(pool, page, "the right s3:ListBucket")
    return Finding(True, f"{pool.bucket} is there and can be listed")


def _check_step(pool: PoolPolicy, store: StorageProvider, step: SetupStep) -> Procedure[Finding]:
    done = yield from is_done(store, step, ATTEMPTS)
    if isinstance(done, Failed):
        return _trouble(pool, done, "the right to read the bucket's settings")
    if not done.value:
        return Finding(False, "not as it should be", "run `cloud-mirror setup`")
    return Finding(True, "as `cloud-mirror setup` leaves it")


def _check_missing(pool: PoolPolicy, store: StorageProvider, key: str) -> Procedure[Finding]:
    """Without s3:ListBucket, S3 says 403 for a key that is not there (S3 API, HeadObject): unknown, not absent."""
    head = yield from _ask(store, store.head_request(f"{key}-missing"), store.read_head)
    if isinstance(head, Failed):
        return _trouble(pool, head, "the right s3:ListBucket (without it S3 hides which objects are missing)")
    if head.value is not None:
        return Finding(False, "an object that is not there is found", "check endpoint_url: is it an object store?")
    return Finding(True, "404, as it should be")


def _with_probe(
    pool: PoolPolicy, store: StorageProvider, key: str, use: Callable[[], Procedure[Finding]]
) -> Procedure[Finding]:
    """Put a probe, `use` it, delete it whatever came of that."""
    attributes = ObjectAttributes("text/plain")
    put = yield from _ask(store, store.put_request(key, PROBE, attributes), store.read_put)
    if isinstance(put, Failed):
        return _trouble(pool, put, "the right s3:PutObject")
    finding = yield from use()
    deleted = yield from _ask(store, store.delete_request(key), store.read_delete)
    if isinstance(deleted, Failed) and finding.ok:
        return _trouble(pool, deleted, "the right s3:DeleteObject")
    return finding


def _check_objects(pool: PoolPolicy, store: StorageProvider, key: str) -> Procedure[Finding]:
    def use() -> Procedure[Finding]:
        got = yield from _ask(store, store.get_request(key), store.read_get)
        if isinstance(got, Failed):
            return _trouble(pool, got, "the right s3:GetObject")
        if got.value != PROBE:
            return Finding(False, "the probe did not come back as it went", "check endpoint_url, and what is before it")
        return Finding(True, "a probe came back as it went")

    return (yield from _with_probe(pool, store, key, use))


def _check_public(pool: PoolPolicy, store: StorageProvider, key: str) -> Procedure[Finding]:
    return (yield from _with_probe(pool, store, key, lambda: _fetch_public(store.location(key))))


def _fetch_public(url: str) -> Procedure[Finding]:
    reply = yield from _anonymous(url)
    match reply:
        case TransportFailure():
            return Finding(False, told(reply), "check public_url: clients cannot reach it from here")
        case HttpReply(status=200, body=body) if body == PROBE:
            return Finding(True, "anyone can read a copy")
        case HttpReply(status=401 | 403 as status):
            return Finding(
                False,
                f"an anonymous reader is answered {status}",
                "run `cloud-mirror setup`, and see that neither the bucket nor the account blocks public policies",
            )
        case HttpReply(status=200 | 404 as status):
            return Finding(
                False, f"public_url leads elsewhere ({status})", "set public_url to where this bucket's keys are served"
            )
    return Finding(False, f"an anonymous reader is answered {reply.status}", "check public_url, and its region")


def _check_private(pool: PoolPolicy, store: StorageProvider, key: str) -> Procedure[Finding]:
    return (yield from _with_probe(pool, store, key, lambda: _fetch_private(store.location(key), pool)))


def _fetch_private(url: str, pool: PoolPolicy) -> Procedure[Finding]:
    """At AWS itself this is a fault; of other stores many know no policy that leaves something out."""
    reply = yield from _anonymous(url)
    match reply:
        case TransportFailure():
            return Finding(False, told(reply), "check public_url: it cannot be reached from here")
        case HttpReply(status=status) if 200 <= status < 300:
            remedy = "take purged/ and dead/ out of what the bucket's policy, its ACL or its CDN lets the public read"
            return Finding(pool.endpoint_url is not None, "anyone can read the mirror's own objects", remedy)
    return Finding(True, f"kept from anonymous readers ({reply.status})")


def _anonymous(url: str) -> Procedure[HttpReply | TransportFailure]:
    """A plain GET, unsigned, as any client would send it."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = (("Host", parts.netloc), ("Accept-Encoding", "identity"))
    request = HttpRequest("GET", parts.scheme, parts.hostname or "", port, target, headers)
    reply: HttpReply | TransportFailure = yield HttpExchange(request, Route.SERVICE, TIMEOUT_S)
    return reply


# The queues.


def _find(queue: JobQueue, name: str) -> Procedure[QueueState | Finding]:
    found = yield from find_queue(queue, name, ATTEMPTS)
    if isinstance(found, Failed):
        what = f"{found.code}: {found.detail}" if found.detail else found.code
        return Finding(False, what, remedy_for(found, f"the queue {name}"))
    return found.value or Finding(False, f"{name} is not there", "run `cloud-mirror setup`")


def _check_queue(policy: QueuePolicy, pool: str, queue: JobQueue) -> Procedure[Finding]:
    state = yield from _find(queue, policy.name(pool))
    if isinstance(state, Finding):
        return state
    arn, count = redrive_of(state.attributes)
    if not arn.endswith(f":{policy.dead_name(pool)}"):
        return Finding(False, "no redrive policy to its dead-letter queue", "run `cloud-mirror setup`")
    if count != policy.max_receive_count:
        return Finding(
            False,
            f"its maxReceiveCount is {count}, not {policy.max_receive_count}",
            "run `cloud-mirror setup`, or set queue.max_receive_count",
        )
    return Finding(True, f"{policy.name(pool)}, dead letters after {count} deliveries")


def _check_dead(policy: QueuePolicy, pool: str, queue: JobQueue) -> Procedure[Finding]:
    """A message keeps its first enqueue time when it is moved, so it needs the longer retention there."""
    dead = yield from _find(queue, policy.dead_name(pool))
    if isinstance(dead, Finding):
        return dead
    live = yield from _find(queue, policy.name(pool))
    if isinstance(live, Finding):
        return live
    dead_s, live_s = _seconds(dead), _seconds(live)
    if dead_s <= live_s:
        return Finding(
            False, f"its retention ({dead_s} s) is not longer than its queue's ({live_s} s)", "run `cloud-mirror setup`"
        )
    waiting = dead.attributes.get("ApproximateNumberOfMessages", "0")
    return Finding(True, f"{policy.dead_name(pool)}, {waiting} waiting")


def _seconds(state: QueueState) -> int:
    text = state.attributes.get("MessageRetentionPeriod", "")
    return int(text) if text.isdigit() else 0
