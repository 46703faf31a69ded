"""Every situation that a job and every legal answer can lead to, in worlds small enough to be walked through."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cloud_mirror.actions import ProbeCopy, ReadEntry
from cloud_mirror.copy_actions import Acquire, CopyAction, FetchPart, KeepLease, OpenOrigin, ReservePart
from cloud_mirror.copy_events import CopyEvent, CopyOverdue, FetchFailed, HandOverDue, LeaseAcquired, PartReserved
from cloud_mirror.copy_table import MAX_SETBACKS, Phase, Row, State
from cloud_mirror.events import CopyNotFound, DrainBegun
from tests.core.copy_model import Copying
from tests.core.copy_world import JOB, LARGE, OPENED, SMALL, START, answers, read, the_origin_gives

CUT_SHORT = (
    Phase.OPENING,
    Phase.FINDING,
    Phase.TRANSFERRING,
    Phase.CREATING,
    Phase.ABORTING,
    Phase.STORE_COPYING,
    Phase.VERIFYING,
)


@dataclass(frozen=True)
class World:
    """What a walk meets. `opened`: what the origin says at first; `anew`: what it says once a copy begins anew.

    In a world that is `hurried` nothing is there, and the lease is got at once.
    """

    opened: tuple[CopyEvent, ...]
    anew: tuple[CopyEvent, ...] = ()
    hurried: bool = True
    setbacks: int = 0  # how many the copy has had already

    def answers(self, copying: Copying, action: CopyAction) -> tuple[CopyEvent, ...]:
        """The answers that an action may get here."""
        match action:
            case OpenOrigin():
                return self.opened if copying.openings == 1 else self.anew
            case ReadEntry() if self.hurried:
                return (read(None),)
            case Acquire() if self.hurried:
                return (LeaseAcquired(),)
            case ProbeCopy() if self.hurried and copying.openings == 0:
                return (CopyNotFound("e1"),)
            case FetchPart():
                return tuple(each for each in answers(copying.state, action) if self._tells(copying.state, each))
        return answers(copying.state, action)

    def _tells(self, state: State, event: CopyEvent) -> bool:
        """Whether the event shows anything that others do not; a row of setbacks is seen at its ends only."""
        if not isinstance(event, FetchFailed):
            return True
        if state.phase is Phase.STOPPING:
            return not event.advanced and not event.apart
        return event.advanced or event.apart or not state.ranges or state.setbacks in (0, MAX_SETBACKS)


def gives(length: int | None, **said: bool) -> tuple[CopyEvent, ...]:
    """The one answer of an origin."""
    return (the_origin_gives(length, **said),)


WORLDS: dict[str, World] = {
    "whatever was there before": World(gives(SMALL), hurried=False),
    "an object of unknown length, or none": World(OPENED),
    "an object of known length": World((*gives(LARGE), *gives(SMALL))),
    "parts by themselves, in their order": World(gives(LARGE, ranges=True, ordered=True), gives(LARGE, ranges=True)),
    "an upload that others can go on with": World(
        (*gives(LARGE, ranges=True), *gives(SMALL, ranges=True)), gives(SMALL, ranges=True), setbacks=MAX_SETBACKS
    ),
    "the store copies by itself": World(
        (*gives(LARGE, ranges=True, store_can=True), *gives(SMALL, ranges=True, store_can=True)),
        gives(SMALL, ranges=True, store_can=True),
    ),
}


@dataclass(frozen=True)
class Survey:
    """What all walks have seen: every edge of the diagram, and one situation of each kind."""

    edges: frozenset[tuple[Phase, Row, Phase]]
    situations: tuple[Copying, ...]


@functools.cache
def survey() -> Survey:
    """Walk through all of it, once for all who want to know."""
    edges, situations = set(), {}
    for world in WORLDS.values():
        for before, _, after in walk(world):
            assert after.took is not None
            edges.add((before.state.phase, after.took.row, after.state.phase))
            state, kinds = after.state, frozenset(type(action) for action in after.asked)
            alike = (state.phase, state.slot, state.stop, bool(state.upload_id), state.written, state.ended, kinds)
            situations[alike] = after
    return Survey(frozenset(edges), tuple(situations.values()))


def walk(world: World) -> Iterator[tuple[Copying, CopyEvent, Copying]]:
    """Every situation that a job and every legal answer can lead to, breadth first, each edge once."""
    start = Copying(replace(START, setbacks=world.setbacks))
    seen = {start.key()}
    front = [start]
    while front:
        behind, front = front, []
        for before in behind:
            for event, action in happenings(world, before):
                after = before.clone()
                after.feed(event, action)
                yield before, event, after
                if (key := after.key()) not in seen:
                    seen.add(key)
                    front.append(after)


def happenings(world: World, copying: Copying) -> Iterator[tuple[CopyEvent, CopyAction | None]]:
    """What may happen next, with the action that it answers."""
    phase = copying.state.phase
    if phase is Phase.START:
        yield JOB, None
    if not (copying.drained or copying.overdue or copying.handed_over):  # two at once: the rules under Hypothesis
        yield DrainBegun(), None
        if phase in CUT_SHORT:
            yield CopyOverdue(), None
            yield HandOverDue(), None
    if copying.stale:
        yield PartReserved(0), None
    for action in copying.asked:
        if isinstance(action, KeepLease | ReservePart) and phase is Phase.DONE:
            continue  # the shell ends what goes on beside a copy with it
        for event in world.answers(copying, action):
            yield event, action
