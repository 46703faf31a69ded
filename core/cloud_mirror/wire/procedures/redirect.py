"""The redirect machine's actions as procedures."""

from __future__ import annotations

from cloud_mirror import keys
from cloud_mirror.actions import (
    AwaitChange,
    CheckOrigin,
    Claim,
    Draft,
    ProbeCopy,
    ReadEntry,
    RedirectAction,
    RequestRefresh,
    SendJob,
    Slot,
    WriteEntry,
)
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import ChangeDue, ClaimLost, JobSent, RedirectEvent, RefreshRequested
from cloud_mirror.wire import redis
from cloud_mirror.wire.calls import AwaitNotice, Procedure
from cloud_mirror.wire.procedures import cache, jobs, origin, store
from cloud_mirror.wire.services import PoolServices


def perform(
    services: PoolServices, url: str, action: RedirectAction, *, wanted: bool = True
) -> Procedure[RedirectEvent]:
    """The procedure that carries an action out and gives the event that answers it.

    `wanted`: whether its flight still has a use for a claim, which may have waited for its turn (`State.wanted`).
    """
    match action:
        case ReadEntry():
            return (yield from cache.read_entry(services, url))
        case Claim() if not wanted:
            return ClaimLost()
        case Claim():
            return (yield from cache.claim(services, url, action))
        case RequestRefresh():
            return (yield from _request_refresh(services, url, action))
        case ProbeCopy():
            return (yield from store.probe_copy(services, url))
        case WriteEntry(draft, token, slot):
            return (yield from cache.write_entry(services, url, draft, token, slot))
        case CheckOrigin(by_s):
            return (yield from origin.check_origin(services, url, by_s))
        case SendJob(epoch):
            return (yield from jobs.send_job(services, url, epoch))
        case AwaitChange(sequence, for_s):
            yield AwaitNotice(services.manager.entry_key(url), sequence, for_s)
            return ChangeDue()
        case _:
            raise AssertionError("a response is the shell's to give")


def _request_refresh(services: PoolServices, url: str, action: RequestRefresh) -> Procedure[RefreshRequested]:
    """Send a job for a copy that still serves, unless somebody has done so. What fails is left to the next one."""
    key = keys.renewal_key(services.pool.name, url)
    asking = Entry(Status.PENDING, action.token, url, holder=Holder.ASKING, epoch=action.epoch)
    lease_s = services.policy.server.claim_lease_s
    found = yield from redis.write(key, key, redis.Change("vacant"), Draft(asking, lease_s))
    if not isinstance(found, redis.Found) or not found.done:
        return RefreshRequested()
    sent = yield from jobs.send_job(services, url, action.epoch)
    if isinstance(sent, JobSent):
        queued = Entry(Status.PENDING, action.token, url, holder=Holder.QUEUED, epoch=action.epoch)
        yield from cache.write_entry(services, url, Draft(queued, action.life_s), action.token, Slot.RENEWAL)
    return RefreshRequested()
