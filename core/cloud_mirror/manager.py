"""`CacheManager`: one pool's policy, and the machines that it starts.

It is what an embedder holds: it turns the settings into each machine's rules, names the pool's keys, and turns a
machine's `Response` into the HTTP answer, where the Location is computed from pool, URL and epoch alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cloud_mirror import copy_table, keys, lease, redirect_table
from cloud_mirror.actions import Response, Slot, ToCopy, ToOrigin
from cloud_mirror.http_api import Answer, Outcome, problem, redirect_answer
from cloud_mirror.plan import plan_for
from cloud_mirror.policy import Policy, PoolPolicy
from cloud_mirror.reason import Reason
from cloud_mirror.redirect import OUTAGE_RETRY_S
from cloud_mirror.responses import without_copy


class CacheManager:
    """One pool. `locate` gives the public URL of an object key, as the pool's `StorageProvider` says."""

    def __init__(self, policy: Policy, pool: PoolPolicy, locate: Callable[[str], str]) -> None:
        self.policy = policy
        self.pool = pool
        self.channel = keys.channel(pool.name)
        self._locate = locate
        server, queue = policy.server, policy.queue
        self.redirect_rules = redirect_table.Rules(
            on_deadline=server.on_deadline,
            start_wait_s=server.start_wait_s,
            poll_s=server.poll_s,
            claim_lease_s=server.claim_lease_s,
            negative_s=server.negative_s,
            verify_s=server.verify_s,
            patience_s=queue.patience_s,
            refresh_margin_s=pool.refresh_margin_s,
            expiry_margin_s=pool.expiry_margin_s,
        )
        self.copy_rules = copy_table.Rules(
            plan=plan_for(policy.worker, policy.worker.concurrency * len(policy.pools), policy.source.max_object_bytes),
            lease_s=policy.worker.lease_s,
            patience_s=queue.patience_s,
            negative_s=server.negative_s,
            verify_s=server.verify_s,
            refresh_margin_s=pool.refresh_margin_s,
            expiry_margin_s=pool.expiry_margin_s,
            max_object_bytes=policy.source.max_object_bytes,
            allow_close_delimited=policy.source.allow_close_delimited,
            first_backoff_s=policy.worker.first_backoff_s,
            longest_backoff_s=policy.worker.longest_backoff_s,
        )

    def flight(self, url: str, token: str) -> redirect_table.State:
        """A new flight for a canonical URL; `token` is a fresh random name."""
        return redirect_table.State(self.redirect_rules, url, token)

    def copy(self, token: str, copy_id: str) -> copy_table.State:
        """A new copy; `token` and `copy_id` are fresh random names."""
        return copy_table.State(self.copy_rules, token, copy_id)

    def lease(self, slot: Slot, token: str) -> lease.State:
        """The keeping of a lease that a copy has just acquired."""
        worker, queue = self.policy.worker, self.policy.queue
        return lease.State(slot, token, worker.lease_s, queue.visibility_timeout_s, worker.max_copy_s)

    def entry_key(self, url: str) -> str:
        """The Redis key of the URL's entry; notices of it carry the same."""
        return keys.entry_key(self.pool.name, url)

    def turn_away(self, held: int, draining: bool, room: int | None = None) -> Response | None:
        """What a new request gets at once where it cannot be taken on: this process holds `held`, or is to stop.

        `room` is how many requests a shell can hold, where it cannot hold any number (None).
        """
        most = self.policy.server.max_waiters
        if not draining and held < (most if room is None else min(most, room)):
            return None
        return self._without_copy(Reason.DRAINING if draining else Reason.TOO_MANY_WAITERS)

    def break_off(self) -> Response:
        """What requests get whose flight broke off, for a reason that only the log knows."""
        return self._without_copy(Reason.INTERNAL)

    def location(self, url: str, epoch: str) -> str:
        """Where the copy of a URL stands, under `epoch`."""
        return self._locate(keys.object_key(url, epoch))

    def answer(self, url: str, response: Response) -> Answer:
        """The HTTP answer to a request for `url`."""
        match response:
            case ToCopy(epoch, outcome, reason):
                return redirect_answer(self.location(url, epoch), outcome, reason)
            case ToOrigin(reason):
                return redirect_answer(url, Outcome.ORIGIN, reason)
            case _:
                again_in_s = response.again_in_s
                if again_in_s is None and response.reason.status == Reason.CACHE_UNAVAILABLE.status:
                    again_in_s = OUTAGE_RETRY_S
                headers = () if again_in_s is None else (("Retry-After", str(math.ceil(again_in_s))),)
                return problem(response.reason, status=response.status, headers=headers)

    def _without_copy(self, reason: Reason) -> Response:
        return without_copy(self.policy.server.on_deadline, reason)
