"""What a run is set in: how many processes, which URLs, which policy, and what goes wrong. Drawn, or given by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from cloud_mirror.host import LONGEST_OPEN_S
from cloud_mirror.plan import Plan
from cloud_mirror.policy import (
    OnDeadline,
    Policy,
    PoolPolicy,
    QueuePolicy,
    RedisPolicy,
    ServerPolicy,
    SourcePolicy,
    WorkerPolicy,
)
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.faults import Swarm, draw_swarm
from cloud_mirror.simulator.models import Digest, Framing, Resource
from cloud_mirror.wire.procedures.jobs import QUEUE_TIMEOUT_S
from cloud_mirror.wire.procedures.store import PROBE_TIMEOUT_S

ORIGIN: Final = "origin.simulated"
CDN: Final = "cdn.simulated"
OUTSIDE: Final = "outside.hidden-detail.example"
HOSTS: Final = frozenset({ORIGIN, CDN})
PATTERNS: Final = (r"^https://origin\.simulated/", r"^https://cdn\.simulated/")
LARGEST_BYTES: Final = 3_000
LONGEST_WAIT_S: Final = 30
"""The longest Retry-After of an origin."""


@dataclass(frozen=True, slots=True)
class Source:
    """A URL that clients ask for, what is behind it at first, and whether it can be copied at all."""

    url: str
    resource: Resource
    copyable: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """One run's."""

    policy: Policy
    plan: Plan
    sources: tuple[Source, ...]
    swarm: Swarm = field(default_factory=Swarm)
    fronts: int = 1
    backs: int = 1
    both: int = 0
    lifespan_s: float = 86_400.0
    min_part_bytes: int = 1
    duration_s: float = 600.0
    asks: int = 40
    purges: float = 1.0
    late_most_s: float = 200.0
    reading_s: float = 0.3

    @property
    def calm_s(self) -> float:
        """How long it may take, once faults have stopped, until all is well: what every wait may take, one by one.

        A lease or what is queued runs out; a job rests and is hidden once more; a "no" is remembered; a claim runs out;
        an origin that failed is left alone, and tried.
        """
        policy = self.policy
        server, queue, worker = policy.server, policy.queue, policy.worker
        rest_s = max(worker.longest_backoff_s, LONGEST_WAIT_S, worker.lease_s + 1.0, 15.0)
        copy_s = 2 * worker.lease_s + worker.store_timeout_s + 10.0
        return (
            queue.patience_s
            + 2 * (rest_s + queue.visibility_timeout_s)
            + max(server.negative_s, LONGEST_WAIT_S, worker.longest_backoff_s + worker.lease_s)
            + server.claim_lease_s
            + copy_s
            + 2 * LONGEST_OPEN_S
            + 60.0
        )


def draw_settings(chance: Chance) -> Settings:
    """A world for one run."""
    duration_s = chance.between(400.0, 1_200.0)
    lifespan_s = chance.pick((150.0, 300.0, 86_400.0))
    allow_close = chance.happens(0.3)
    regions = ("one", "two") if chance.happens(0.15) else ("one",)
    margins = [(chance.pick((3, 5)), chance.between(0.0, 15.0)) for _ in regions]
    policy = Policy(
        server=ServerPolicy(
            max_wait_s=chance.between(5.0, 30.0),
            start_wait_s=chance.pick((1.0, 2.0, 4.0)),
            poll_s=chance.pick((1.0, 2.0, 3.0)),
            claim_lease_s=chance.between(6.0, 20.0),
            max_waiters=chance.pick((20_000, 20_000, 20_000, 2)),
            on_deadline=chance.pick((OnDeadline.ORIGIN, OnDeadline.ORIGIN, OnDeadline.FAIL)),
            negative_s=chance.between(3.0, 30.0),
            verify_s=chance.between(15.0, 120.0),
        ),
        redis=RedisPolicy(timeout_s=chance.pick((0.5, 2.0))),
        queue=QueuePolicy(
            visibility_timeout_s=chance.pick((8, 15, 30)),
            max_receive_count=chance.pick((2, 3, 5)),
            patience_s=chance.between(20.0, 90.0),
        ),
        source=SourcePolicy(
            PATTERNS,
            redirect_limit=3,
            read_timeout_s=chance.pick((2.0, 5.0)),
            max_object_bytes=LARGEST_BYTES,
            allow_close_delimited=allow_close,
            per_host_connections=chance.split("connections").pick((1, 2, 4, 64)),
            per_host_bytes_per_s=chance.split("pace").pick((0, 0, 0, 4_000)),
        ),
        worker=WorkerPolicy(
            concurrency=chance.pick((1, 2, 4)),
            memory_budget_bytes=chance.split("memory").pick((200, 300, 800, 2_000)),  # some parts, or not even one
            lease_s=chance.pick((6.0, 10.0, 20.0)),
            max_copy_s=chance.pick((20.0, 60.0, 600.0)),
            first_backoff_s=chance.pick((1.0, 4.0)),
            longest_backoff_s=chance.pick((8.0, 20.0)),
            store_timeout_s=chance.pick((4.0, 10.0)),
        ),
    )
    policy = replace(
        policy,
        pools=tuple(
            draw_pool(region, lifespan_s, seen_before_s(policy) + more_s, share)
            for region, (share, more_s) in zip(regions, margins, strict=True)
        ),
    )
    part_bytes = chance.pick((64, 256))
    return Settings(
        policy=policy,
        plan=Plan(part_bytes, chance.pick((1, 2, 4)), chance.pick((1, 2, 4))),
        sources=tuple(draw_source(chance, number, part_bytes, allow_close) for number in range(1 + chance.below(4))),
        swarm=draw_swarm(chance, duration_s),
        fronts=chance.below(3),
        backs=chance.below(3),
        both=1 + chance.below(2) if chance.happens(0.3) else 0,
        lifespan_s=lifespan_s,
        min_part_bytes=part_bytes,
        duration_s=duration_s,
        asks=20 + chance.below(40),
        purges=chance.pick((0.0, 2.0, 6.0)),
        reading_s=chance.pick((0.1, 0.1, 2.0, 8.0)),
    )


def seen_before_s(policy: Policy) -> float:
    """How long before a client is sent to a copy the life that it has left may have been seen in the store, at most.

    A worker looks, and publishes in vain; what it wrote arrives late, but under its lease, which is renewed until the
    queue was told. (A front end's own find arrives under its claim.) A front end reads that, and asks for the copy to
    be made anew before it answers.
    """
    command_s = 2 * policy.redis.timeout_s  # with one that finds the script forgotten
    lease_s = PROBE_TIMEOUT_S + command_s + 3 * QUEUE_TIMEOUT_S + policy.worker.lease_s
    refresh_s = 2 * command_s + 2 * QUEUE_TIMEOUT_S
    backoffs_s = 1.0
    return max(policy.server.claim_lease_s, lease_s) + policy.redis.timeout_s + refresh_s + backoffs_s


def draw_pool(region: str, lifespan_s: float, expiry_margin_s: float, share: int) -> PoolPolicy:
    """A pool whose copies are made anew in that share of the life for which they serve."""
    refresh_margin_s = expiry_margin_s + (lifespan_s - expiry_margin_s) / share
    return PoolPolicy(
        "simulated", region, f"bucket-{region}", refresh_margin_s=refresh_margin_s, expiry_margin_s=expiry_margin_s
    )


def draw_source(chance: Chance, number: int, part_bytes: int, allow_close: bool) -> Source:
    """A URL, and its object: none, one or some parts long, in whatever framing, with or without digests. Every third
    one has all that it takes for its copy to be gone on with by another worker.
    """
    sizes = (0, 1, part_bytes - 1, part_bytes, 3 * part_bytes - 1, 5 * part_bytes, 9 * part_bytes + 1)
    lasting = chance.happens(0.35)
    size = chance.pick(sizes[-3:] if lasting else sizes)
    framing = chance.pick((Framing.LENGTH, Framing.LENGTH, Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE))
    copyable = True
    if lasting:
        framing = Framing.LENGTH
    if framing is Framing.CLOSE and not allow_close:
        copyable = False
    if chance.happens(0.04):
        size, copyable = LARGEST_BYTES + 1, False
    body = bytes((number * 31 + index * 7 + index // 251) % 251 for index in range(size))
    digests = tuple(each for each in Digest if chance.happens(0.3))
    ranges = lasting or chance.happens(0.8)
    resource = Resource(
        body,
        strong_etag=chance.happens(0.7) or lasting,
        framing=framing,
        digests=tuple(each for each in digests if each is Digest.X_AMZ_CHECKSUM or not lasting),
        head_status=chance.pick((None, None, None, 403, 405)),
        ranges=ranges,
        announces_ranges=ranges != (chance.happens(0.1) and not lasting),
        heeds_if_match=chance.happens(0.7),
        headers=(("content-type", "application/x-simulated"), ("server", "hidden-detail")),
    )
    query = "?key=hidden-query" if number == 1 else ""
    return Source(f"https://{ORIGIN}/objects/{number}.bin{query}", resource, copyable)
