"""What a setting may be, beyond its type: ranges, words, and what two settings must be to each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from cloud_mirror.policy import GIB, MIB, Policy, PoolPolicy, WorkerPolicy
from cloud_mirror.source import PatternError, SourceRules

Key = tuple[str | int, ...]

DAY_S: Final = 86_400

LONGEST_VISIBILITY_S: Final = 43_200
"""SQS, "Amazon SQS message quotas": a message is hidden for 12 hours at most. A lease may not outlast it, because a
job that finds its lease held is deferred for the rest of that lease."""

SMALLEST_PART_BYTES: Final = 5 * MIB
LARGEST_PART_BYTES: Final = 5 * GIB
"""S3, "Amazon S3 multipart upload limits"."""

LONGEST_QUEUE_NAME: Final = 80
"""SQS, "Amazon SQS standard queue quotas": letters, digits, `-` and `_`."""

CANNED_ACLS: Final = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
"""S3, "Canned ACL"."""

_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "port": (0, 65_535),
    "max_wait_s": (0.1, 1e15),
    "patience_s": (1, 1e15),  # shorter, and jobs would be sent again that nobody could have taken yet
    "visibility_timeout_s": (1, LONGEST_VISIBILITY_S),
    "lease_s": (0.1, LONGEST_VISIBILITY_S),
    "claim_lease_s": (0.1, LONGEST_VISIBILITY_S),
    "first_backoff_s": (0, LONGEST_VISIBILITY_S),
    "longest_backoff_s": (0, LONGEST_VISIBILITY_S),
    "max_receive_count": (1, 1_000),  # SQS, "SetQueueAttributes", RedrivePolicy
    "max_claims": (1, 100_000),
    "max_waiters": (1, 10_000_000),
    "threads": (1, 10_000),
    "max_connections": (1, 10_000_000),
    "head_timeout_s": (0.001, 3_600),
    "keep_alive_s": (0.001, 86_400),
    "concurrency": (1, 10_000),
    "lifespan_days": (1, 36_500),
    "part_bytes": (SMALLEST_PART_BYTES, LARGEST_PART_BYTES),
    "max_object_bytes": (1, 48_828_125 * MIB),  # S3: 10,000 parts of 5 GiB, 48.8 TiB
    "max_url_bytes": (1, 65_536),
    "per_host_connections": (1, 10_000),
    "timeout_s": (0.001, 3_600),
    "connect_timeout_s": (0.001, 3_600),
    "read_timeout_s": (0.001, 3_600),
    "store_timeout_s": (0.001, 3_600),
    "poll_s": (0.001, 3_600),
    "max_copy_s": (1, 43_200),  # SQS hides a message for 12 hours in all
}
_ANY: Final = (0.0, 1e15)
_DATABASE: Final = re.compile(r"/?|/[0-9]{1,5}")


def no_boolean(value: object) -> object:
    """`port = true` is a slip, not the number 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def number(name: str) -> Callable[[float], float]:
    """The check of a number's range; none is ever negative."""
    least, most = _RANGES.get(name, _ANY)

    def check(value: float) -> float:
        if value < least:
            raise ValueError(f"must be at least {_plain(name, least)}")
        if value > most:
            raise ValueError(f"must be at most {_plain(name, most)}")
        return value

    return check


def _plain(name: str, value: float) -> str:
    if name.endswith("_bytes") and value >= MIB and value % MIB == 0:
        return f"{value / GIB:.0f}GiB" if value % GIB == 0 else f"{value / MIB:.0f}MiB"
    return f"{value:g}" if value < 1_000_000 else f"{value:.0f}"


def _matching(pattern: str, remedy: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(remedy)
        return value

    return check


def _one_of(*words: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(repr(word) for word in words)}")
        return value

    return check


def _web_address(value: str | None) -> str | None:
    """An `http(s)://host[:port][/path]` without user, query or fragment; None stays None."""
    if value is None:
        return None
    remedy = "must be a URL such as https://host or http://host:port/path, without user, query or fragment"
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise ValueError(remedy) from None
    if not sound or not value.isascii() or not value.isprintable() or any(mark in value for mark in ' ?#@\\"<>'):
        raise ValueError(remedy)
    return value.rstrip("/")


def _redis_address(value: str) -> str:
    """A `redis://` or `rediss://` URL. The complaint never shows it: it may hold a password."""
    try:
        parts = urlsplit(value)
        named = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
        sound = bool(named and _DATABASE.fullmatch(parts.path))  # clients take any other path for database 0
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("must be a URL such as redis://host:6379/0 or rediss://user:password@host:6379/0")
    return value


WORDS: Final[Mapping[str, Callable[..., object]]] = {
    "service": _matching(r"[a-z][a-z0-9-]*", 'must be lower-case letters, digits and "-", such as "s3"'),
    "region": _matching(r"[a-z0-9][a-z0-9-]*", 'must be lower-case letters, digits and "-", such as "us-west-1"'),
    "bucket": _matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]",
        'must be a bucket\'s name: 3 or more letters, digits, "-" and ".", beginning and ending in a letter or digit',
    ),
    "prefix": _matching(r"[A-Za-z0-9_-]+", 'must be letters, digits, "-" and "_"'),
    "host": _matching(r"[A-Za-z0-9.:%_-]+", 'must be a host name or an address, such as "127.0.0.1" or "::"'),
    "endpoint_url": _web_address,
    "public_url": _web_address,
    "url": _redis_address,
    "acl": _one_of("", *CANNED_ACLS),
    "addressing": _one_of("auto", "path", "virtual"),
    "redirect": _one_of("public"),
}
"""The check of a text setting, by its name."""


def complaints(policy: Policy) -> Iterator[tuple[Key, str]]:
    """What is wrong with settings that are each right by themselves: the key in the file, and what to do."""
    if policy.worker.memory_budget_bytes < policy.worker.part_bytes:
        yield ("worker", "memory_budget"), "must be at least as much as worker.part_size: one part has to fit"
    if (lack := lack_of_memory(policy.worker, 1)) is not None:  # how many pools a process copies for, its role says
        yield ("worker", "memory_budget"), lack
    try:
        SourceRules(policy.source)
    except PatternError as error:
        yield ("source", "allowed_patterns"), _one_line(str(error))
    if not policy.pools:
        yield ("pool",), "there is no pool; add a [[pool]] with service, region and bucket"
    seen: set[str] = set()
    for index, pool in enumerate(policy.pools):
        if pool.name in seen:
            yield ("pool", index), f"there are two pools of the name {pool.name}; remove one"
        seen.add(pool.name)
        for setting, complaint in _margins(pool):
            yield ("pool", index, setting), complaint
        longest = policy.queue.dead_name(pool.name)
        if len(longest) > LONGEST_QUEUE_NAME:
            yield ("queue", "prefix"), f"too long: the queue {longest} has more than {LONGEST_QUEUE_NAME} characters"


def lack_of_memory(worker: WorkerPolicy, pools: int) -> str | None:
    """What is wrong with the memory budget of a process that copies for so many pools; None where it suffices.

    A copy holds the part being read and one being sent, and S3 takes none below `SMALLEST_PART_BYTES`.
    """
    least = worker.concurrency * pools * 2 * SMALLEST_PART_BYTES
    if worker.memory_budget_bytes >= least:
        return None
    each = f", for each of {pools} pools" if pools > 1 else ""
    return (
        f"must be at least {least // MIB}MiB, for two parts of {SMALLEST_PART_BYTES // MIB}MiB for each copy: "
        f"worker.concurrency is {worker.concurrency}{each}; lower that, or raise this"
    )


def _margins(pool: PoolPolicy) -> Iterator[tuple[str, str]]:
    """What is wrong with a pool's margins."""
    life_s = pool.lifespan_days * DAY_S
    for name, margin_s in (("refresh_margin_s", pool.refresh_margin_s), ("expiry_margin_s", pool.expiry_margin_s)):
        if margin_s >= life_s:
            yield name, f"must be less than lifespan_days, which is {life_s} s: every copy would be made anew at once"
    if pool.expiry_margin_s > pool.refresh_margin_s:
        yield (
            "expiry_margin_s",
            "must be at most refresh_margin_s: a copy is made anew while it still serves, and not after",
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())
