"""The cache's part in the procedures: reading, claiming, writing and dropping a URL's entry."""

from __future__ import annotations

from cloud_mirror import keys
from cloud_mirror.actions import Claim, Draft, DropEverything, Slot
from cloud_mirror.copy_events import LeaseAcquired, LeaseDenied
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import CacheFailed, ClaimLost, ClaimUnknown, ClaimWon, EntryRead, EntryRefused, EntryWritten
from cloud_mirror.lease import LeaseRenewed
from cloud_mirror.wire import redis
from cloud_mirror.wire.calls import GetMonotonicTime, GetNoticeSequence, Procedure
from cloud_mirror.wire.redis import Change, Unavailable
from cloud_mirror.wire.services import PoolServices


def entry_key(services: PoolServices, url: str, slot: Slot) -> str:
    """The Redis key of that slot of the URL."""
    if slot is Slot.RENEWAL:
        return keys.renewal_key(services.pool.name, url)
    return keys.entry_key(services.pool.name, url)


def told(services: PoolServices, url: str, condition: str, token: str = "", status: str = "") -> Change:
    """A change that the pool's channel hears of."""
    return Change(condition, token, status, services.manager.channel, keys.entry_key(services.pool.name, url))


def read_entry(services: PoolServices, url: str) -> Procedure[EntryRead | CacheFailed]:
    """Read the entry. What is there and is no entry is removed, so that it can be claimed.

    What somebody has written since that garbage was read stays, and is what was read.
    """
    key = entry_key(services, url, Slot.ENTRY)
    sequence = (yield GetNoticeSequence(key)).sequence
    found = yield from redis.read(key)
    if isinstance(found, redis.Found) and found.garbage:
        found = yield from redis.drop_garbage(key, found.garbage)
    if isinstance(found, Unavailable):
        return CacheFailed(found.detail)
    now_s = (yield GetMonotonicTime()).now_s
    life_left_s = 0.0 if found.entry is None else found.life_left_s
    return EntryRead(found.entry, found.redis_time_s, life_left_s, sequence, now_s)


def claim(services: PoolServices, url: str, action: Claim) -> Procedure[ClaimWon | ClaimLost | ClaimUnknown]:
    """Set *pending asking*, if nothing has changed since the read."""
    key = entry_key(services, url, Slot.ENTRY)
    asking = Entry(Status.PENDING, action.token, url, holder=Holder.ASKING)
    expected = action.expected
    condition = told(services, url, "vacant")
    if expected is not None:
        condition = told(services, url, "same", expected.token, expected.status.value)
    asked_at_s = (yield GetMonotonicTime()).now_s
    found = yield from redis.write(key, key, condition, Draft(asking, action.life_s))
    if isinstance(found, Unavailable):
        return ClaimUnknown()
    return ClaimWon(asked_at_s) if found.done else ClaimLost()


def write_entry(
    services: PoolServices, url: str, draft: Draft, token: str, slot: Slot
) -> Procedure[EntryWritten | EntryRefused | CacheFailed]:
    """Write the entry under the slot's token. A renewed copy is written to the entry; what fails stays in the slot."""
    key = entry_key(services, url, slot)
    target = entry_key(services, url, Slot.ENTRY) if draft.entry.status is Status.PRESENT else key
    found = yield from redis.write(key, target, told(services, url, "held", token), draft)
    return _written(found)


def drop_entry(
    services: PoolServices, url: str, token: str, slot: Slot
) -> Procedure[EntryWritten | EntryRefused | CacheFailed]:
    """Delete what `token` holds."""
    found = yield from redis.drop(entry_key(services, url, slot), told(services, url, "held", token))
    return _written(found)


def drop_served(services: PoolServices, url: str, epoch: str) -> Procedure[EntryWritten | EntryRefused | CacheFailed]:
    """Delete an entry by which clients are sent to the copy under that epoch."""
    found = yield from redis.drop(entry_key(services, url, Slot.ENTRY), told(services, url, "served", epoch))
    return _written(found)


def acquire(
    services: PoolServices, url: str, draft: Draft, slot: Slot
) -> Procedure[LeaseAcquired | LeaseDenied | CacheFailed]:
    """Become the holder of a slot, copying."""
    key = entry_key(services, url, slot)
    condition = "takeable" if slot is Slot.ENTRY else "renewable"
    found = yield from redis.write(key, key, told(services, url, condition), draft)
    if isinstance(found, Unavailable):
        return CacheFailed(found.detail)
    return LeaseAcquired() if found.done else LeaseDenied()


def renew(
    services: PoolServices, url: str, token: str, slot: Slot, life_s: float, fields: tuple[tuple[str, str], ...] = ()
) -> Procedure[LeaseRenewed | EntryRefused | CacheFailed]:
    """Give a lease its whole life again. Not published: nobody waits for it."""
    asked_at_s = (yield GetMonotonicTime()).now_s
    found = yield from redis.touch(entry_key(services, url, slot), Change("held", token), life_s, fields)
    if isinstance(found, Unavailable):
        return CacheFailed(found.detail)
    return LeaseRenewed(asked_at_s) if found.done else EntryRefused()


def drop_everything(services: PoolServices, url: str, action: DropEverything) -> Procedure[EntryWritten | CacheFailed]:
    """Drop the renewal first: what it publishes before its end is then dropped with the entry, and after it refused."""
    condition = "other-epoch" if action.keep_epoch else "any"
    for slot in (Slot.RENEWAL, Slot.ENTRY):
        change = told(services, url, condition, action.keep_epoch)
        found = yield from redis.drop(entry_key(services, url, slot), change)
        if isinstance(found, Unavailable):
            return CacheFailed(found.detail)
    return EntryWritten()


def record_error(
    services: PoolServices, url: str, draft: Draft
) -> Procedure[EntryWritten | EntryRefused | CacheFailed]:
    """Write an error over what nobody is at work on: absent, *queued*, or another error."""
    key = entry_key(services, url, Slot.ENTRY)
    found = yield from redis.write(key, key, told(services, url, "idle"), draft)
    return _written(found)


def _written(found: redis.Found | Unavailable) -> EntryWritten | EntryRefused | CacheFailed:
    if isinstance(found, Unavailable):
        return CacheFailed(found.detail)
    return EntryWritten() if found.done else EntryRefused()
