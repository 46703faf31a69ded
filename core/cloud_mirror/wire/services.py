"""What the procedures of one pool speak with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from cloud_mirror.manager import CacheManager
from cloud_mirror.policy import Policy, PoolPolicy
from cloud_mirror.source import SourceRules
from cloud_mirror.wire.asking import Failed, ask
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.providers import provider_for
from cloud_mirror.wire.queue import JobQueue
from cloud_mirror.wire.storage import StorageProvider

FIND_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class PoolServices:
    """One pool: its machines' wiring, its store, and its queues, named by their URLs ("" until they are found)."""

    manager: CacheManager
    provider: StorageProvider
    queue: JobQueue
    rules: SourceRules
    queue_url: str = ""
    dead_url: str = ""

    @property
    def policy(self) -> Policy:
        """The process's settings."""
        return self.manager.policy

    @property
    def pool(self) -> PoolPolicy:
        """The pool's own settings."""
        return self.manager.pool


def connect(policy: Policy, pools: tuple[str, ...] | None, queue: JobQueue) -> dict[str, PoolServices]:
    """The services of the named pools (None: of all), their queues still to be found; raises `ValueError`."""
    rules = SourceRules(policy.source)
    services = {}
    for pool in policy.pools:
        if pools is None or pool.name in pools:
            provider = provider_for(pool)
            manager = CacheManager(policy, pool, provider.location)
            services[pool.name] = PoolServices(manager, provider, queue, rules)
    return services


def find_queues(services: PoolServices) -> Procedure[PoolServices | str]:
    """The same services with their queues' URLs, or why these could not be found."""
    urls = []
    queue, policy = services.queue, services.policy.queue
    for name in (policy.name(services.pool.name), policy.dead_name(services.pool.name)):
        outcome = yield from ask(queue, queue.find_request(name), queue.read_find, timeout_s=FIND_TIMEOUT_S, attempts=2)
        if isinstance(outcome, Failed):
            return f"queue {name} cannot be asked for: {outcome.code}: {outcome.detail}"
        if outcome.value is None:
            return f"there is no queue {name}: run `cloud-mirror setup`"
        urls.append(outcome.value)
    return replace(services, queue_url=urls[0], dead_url=urls[1])
