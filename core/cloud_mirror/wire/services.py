"""What the procedures of one pool speak with."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_mirror.manager import CacheManager
from cloud_mirror.policy import Policy, PoolPolicy
from cloud_mirror.source import SourceRules
from cloud_mirror.wire.queue import JobQueue
from cloud_mirror.wire.storage import StorageProvider


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
