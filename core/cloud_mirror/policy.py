"""The settings, as plain values: what an operator chooses, in the core's own words.

Lengths of time are in seconds (`_s`), sizes in bytes (`_bytes`). The command reads them from
`cloud-mirror.toml`; who embeds the core makes them by hand. The defaults are the product's defaults, here and
nowhere else.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

MIB = 1024 * 1024
GIB = 1024 * MIB


class OnDeadline(enum.Enum):
    """What a request gets when its copy is not there in time: the origin's URL, or a clear failure."""

    ORIGIN = "origin"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class ServerPolicy:
    """How requests are answered."""

    host: str = "127.0.0.1"
    port: int = 8080
    max_wait_s: float = 28.0  # the longest that a request is held
    start_wait_s: float = 2.0  # how long a job may lie untaken before requests go to the origin
    poll_s: float = 1.0  # how often a waiter looks by itself, beneath the notices
    claim_lease_s: float = 20.0  # a front end's claim, between winning it and sending the job
    max_waiters: int = 20_000
    max_claims: int = 64  # new URLs that are looked into at once; the others wait their turn before their claims
    threads: int = 256  # of the threaded shell, where each waiter holds one; more requests than that are turned away
    max_connections: int = 20_000  # beyond it, new ones wait in the system's own queue
    head_timeout_s: float = 10.0  # for a request's head, from its first byte to its last
    keep_alive_s: float = 75.0  # how long a connection without a request is kept
    on_deadline: OnDeadline = OnDeadline.ORIGIN
    negative_s: float = 30.0  # how long an origin's "no" is remembered
    verify_s: float = 300.0  # how long a present entry is believed without asking the store
    drain_s: float = 20.0  # how long a stopping process may take


@dataclass(frozen=True, slots=True)
class RedisPolicy:
    """Where the cache is. The URL may hold a password: it is never logged."""

    url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    timeout_s: float = 2.0  # for one command


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Where jobs go: queues `{prefix}-{pool}` and `{prefix}-{pool}-dead`."""

    prefix: str = "cloud-mirror"
    region: str = "us-west-2"
    endpoint_url: str | None = None  # None: AWS itself
    visibility_timeout_s: int = 60
    max_receive_count: int = 5
    patience_s: float = 600.0  # how long a queued job is believed to be still there

    def name(self, pool: str) -> str:
        """The name of the pool's queue."""
        return f"{self.prefix}-{pool}"

    def dead_name(self, pool: str) -> str:
        """The name of the pool's dead-letter queue."""
        return f"{self.prefix}-{pool}-dead"


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """Which URLs may be copied, and how their origins are asked."""

    allowed_patterns: tuple[str, ...] = ()
    require_tls: bool = True
    redirect_limit: int = 20
    allow_private_addresses: bool = False
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0  # for a reply's head, and between two pieces of a body
    max_object_bytes: int = 100 * GIB
    max_url_bytes: int = 2048
    allow_close_delimited: bool = False
    per_host_connections: int = 64  # requests and bodies under way to one host at once, in each process by itself
    per_host_bytes_per_s: int = 0  # of all bodies of one host together, in each process by itself; 0: no limit


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """How copies are made."""

    concurrency: int = 16
    part_bytes: int = 16 * MIB
    memory_budget_bytes: int = 512 * MIB
    lease_s: float = 60.0
    max_copy_s: float = 21_600.0  # an origin that trickles holds a slot no longer
    first_backoff_s: float = 5.0  # how long a job rests after its first failure; after each further one twice as long
    longest_backoff_s: float = 300.0  # ... and never longer than this
    store_timeout_s: float = 60.0  # for one request that carries a part
    host: str = "127.0.0.1"
    port: int | None = None  # where a process that only copies shows its health and metrics; None: nowhere


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """One destination store."""

    service: str
    region: str
    bucket: str
    endpoint_url: str | None = None  # None: AWS itself
    addressing: str = "auto"  # "path", "virtual", or "auto": virtual at AWS itself, path at any endpoint_url
    public_url: str | None = None  # None: the bucket's own address
    lifespan_days: int = 1
    refresh_margin_s: float = 3600.0  # a copy with less life than this is made anew while it still serves
    expiry_margin_s: float = 600.0  # a copy with less life than this is not served any more
    acl: str = ""
    redirect: str = "public"

    @property
    def name(self) -> str:
        """The pool's name, `{service}_{region}`."""
        return f"{self.service}_{self.region}"


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it: what a process of the mirror is started with."""

    server: ServerPolicy = field(default_factory=ServerPolicy)
    redis: RedisPolicy = field(default_factory=RedisPolicy)
    queue: QueuePolicy = field(default_factory=QueuePolicy)
    source: SourcePolicy = field(default_factory=SourcePolicy)
    worker: WorkerPolicy = field(default_factory=WorkerPolicy)
    pools: tuple[PoolPolicy, ...] = ()
    admin_token: str = field(default="", repr=False)  # "": purging is refused
