"""How large a small world is, and the services that it runs on: a few seconds are long there, a few bytes a body."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, cast

from cloud_mirror.manager import CacheManager
from cloud_mirror.plan import Plan
from cloud_mirror.policy import Policy, PoolPolicy, QueuePolicy, ServerPolicy, SourcePolicy, WorkerPolicy
from cloud_mirror.simulator.explorer.wording import counted
from cloud_mirror.simulator.models import (
    QueueModel,
    SimulatedProvider,
    SimulatedQueue,
)
from cloud_mirror.source import SourceRules
from cloud_mirror.wire.services import PoolServices
from cloud_mirror.wire.sqs import main_attributes

URL: Final = "https://origin.example/a"
BODY: Final = b"body"
START_S: Final = 1000.0
LONG_S: Final = 60.0
"""What lasts longer lasts for the whole of a small world."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is: its processes, how many purges, how many faults at most, and in how many parts a copy goes.

    `lasting`: the origin gives the parts by themselves, so that another worker can go on with a copy in parts.
    `lies`: Redis may also lose its newest write to a failover, and so bring back what was there before.
    """

    fronts: int = 1
    backs: int = 1
    purges: int = 0
    faults: int = 0
    parts: int = 1
    lasting: bool = False
    lies: bool = False

    def __str__(self) -> str:
        counts = {"front end": self.fronts, "back end": self.backs, "purge": self.purges, "fault": self.faults}
        words = [counted(count, thing) for thing, count in counts.items() if count]
        parts = f"copies in {self.parts} parts{' that can be taken over' if self.lasting else ''}"
        words += [parts] * (self.parts > 1) + ["Redis lies"] * self.lies
        return ", ".join(words)


def small_policy() -> Policy:
    """Short times, so that what takes long in the field is but a few steps here."""
    return Policy(
        server=ServerPolicy(max_wait_s=3.0, start_wait_s=1.0, poll_s=1.0, claim_lease_s=4.0, negative_s=2.0),
        queue=QueuePolicy(visibility_timeout_s=6, max_receive_count=2, patience_s=8.0),
        source=SourcePolicy(allowed_patterns=(r"^https://origin\.example/",)),
        worker=WorkerPolicy(concurrency=1, lease_s=6.0, first_backoff_s=2.0, longest_backoff_s=2.0),
        pools=(PoolPolicy("s3", "small", "small"),),
    )


def small_services(size: Size) -> PoolServices:
    """The services of a small world."""
    policy = small_policy()
    provider = SimulatedProvider()
    manager = CacheManager(policy, policy.pools[0], provider.location)
    part_bytes = -(-len(BODY) // size.parts)
    manager.copy_rules = replace(manager.copy_rules, plan=Plan(part_bytes, 2))
    queue = SimulatedQueue()
    model = queue_of(policy)
    names = policy.queue.name(policy.pools[0].name), policy.queue.dead_name(policy.pools[0].name)
    main, dead = (cast(str, model.url_of(name)) for name in names)
    return PoolServices(manager, provider, queue, SourceRules(policy.source), main, dead)


def queue_of(policy: Policy) -> QueueModel:
    """The pool's two queues, with nothing in them."""
    queue, model, pool = SimulatedQueue(), QueueModel(), policy.pools[0].name
    dead = policy.queue.dead_name(pool)
    model.handle(queue.create_request(dead, ()), START_S)
    arn = dict(queue.read_attributes(model.handle(queue.attributes_request(cast(str, model.url_of(dead))), START_S)))
    attributes = main_attributes(policy.queue, arn["QueueArn"])
    model.handle(queue.create_request(policy.queue.name(pool), attributes), START_S)
    return model
