"""The purge machine's actions as procedures."""

from __future__ import annotations

from cloud_mirror.actions import DropEverything, PurgeAction, WriteEpoch
from cloud_mirror.events import PurgeAsked, PurgeEvent
from cloud_mirror.purge import State, step
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.procedures import cache, store
from cloud_mirror.wire.services import PoolServices


def perform(services: PoolServices, url: str, action: PurgeAction) -> Procedure[PurgeEvent]:
    """The procedure that carries an action out and gives the event that answers it."""
    match action:
        case WriteEpoch(epoch):
            return (yield from store.write_epoch(services, url, epoch))
        case DropEverything():
            return (yield from cache.drop_everything(services, url, action))
        case _:
            return (yield from store.sweep(services, url, action.keep_epoch))


def purge(services: PoolServices, url: str, epoch: str) -> Procedure[State]:
    """A whole purge: no action of it runs beside another. `epoch` is a fresh random name."""
    state, actions = step(State(), PurgeAsked(epoch))
    while actions:
        (action,) = actions
        event = yield from perform(services, url, action)
        state, actions = step(state, event)
    return state
