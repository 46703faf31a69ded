"""The purge machine: after it has said *done*, nothing that was begun before it can be served.

Theory. The URL's epoch is part of every object's key, so a new epoch makes all that stands or is still to
arrive under the old one unreachable, at once and without comparing clocks. The order carries the proof: the
epoch is written before the entry is dropped, and whoever copies or backfills takes the entry before it reads
the epoch. So it either sees the new epoch, or loses its entry to the drop.

Rules.
 1. Epoch, drop, sweep, drop; each only after the one before it has succeeded.
 2. Where cache or store cannot be asked, the purge says so and may be sent again; what it did so far stands.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from cloud_mirror.actions import DropEverything, PurgeAction, Sweep, WriteEpoch
from cloud_mirror.events import CacheFailed, EntryWritten, EpochWritten, PurgeAsked, PurgeEvent, StoreFailed, Swept
from cloud_mirror.reason import Reason


class Phase(enum.Enum):
    """What the machine is waiting for."""

    START = "start"
    WRITING_EPOCH = "writing epoch"
    DROPPING = "dropping"
    SWEEPING = "sweeping"
    DROPPING_AGAIN = "dropping again"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class State:
    """One purge. `epoch` is the new one, once the store has it; `reason` says why it failed."""

    phase: Phase = Phase.START
    epoch: str = ""
    reason: Reason | None = None
    detail: str = ""

    @property
    def done(self) -> bool:
        """Whether the purge holds; else, once nothing more is to be done, `reason` says why not."""
        return self.phase is Phase.DONE


def step(state: State, event: PurgeEvent) -> tuple[State, tuple[PurgeAction, ...]]:
    """The next state, and what must be done."""
    match state.phase, event:
        case Phase.START, PurgeAsked(epoch):
            return replace(state, phase=Phase.WRITING_EPOCH), (WriteEpoch(epoch),)
        case Phase.WRITING_EPOCH, EpochWritten(epoch):
            return replace(state, phase=Phase.DROPPING, epoch=epoch), (DropEverything(),)
        case Phase.DROPPING, EntryWritten():
            return replace(state, phase=Phase.SWEEPING), (Sweep(state.epoch),)
        case Phase.SWEEPING, Swept():
            return replace(state, phase=Phase.DROPPING_AGAIN), (DropEverything(keep_epoch=state.epoch),)
        case Phase.DROPPING_AGAIN, EntryWritten():
            return replace(state, phase=Phase.DONE), ()
        case ((Phase.WRITING_EPOCH | Phase.SWEEPING), StoreFailed(reason, detail)):
            return replace(state, phase=Phase.FAILED, reason=reason, detail=detail), ()
        case ((Phase.DROPPING | Phase.DROPPING_AGAIN), CacheFailed()):
            return replace(state, phase=Phase.FAILED, reason=Reason.CACHE_UNAVAILABLE), ()
        case _:
            return state, ()
