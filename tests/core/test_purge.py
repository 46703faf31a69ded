"""The purge machine: its order carries the proof, so there is one order."""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from cloud_mirror.actions import DropEverything, PurgeAction, Sweep, WriteEpoch
from cloud_mirror.events import CacheFailed, EntryWritten, EpochWritten, PurgeAsked, PurgeEvent, StoreFailed, Swept
from cloud_mirror.purge import Phase, State, step
from cloud_mirror.reason import Reason
from tests.core.scripts import Script, play, to

WRITING: Script = (to(PurgeAsked("e2"), WriteEpoch("e2")),)
DROPPING: Script = (*WRITING, to(EpochWritten("e2"), DropEverything()))
SWEEPING: Script = (*DROPPING, to(EntryWritten(), Sweep("e2")))
DROPPING_AGAIN: Script = (*SWEEPING, to(Swept(), DropEverything(keep_epoch="e2")))
DENIED = StoreFailed(Reason.STORE_DENIED, "403")

EDGES: tuple[tuple[str, Script], ...] = (
    ("asked", WRITING),
    ("written", DROPPING),
    ("dropped", SWEEPING),
    ("swept", DROPPING_AGAIN),
    ("dropped", (*DROPPING_AGAIN, to(EntryWritten()))),
    ("store failed", (*WRITING, to(DENIED))),
    ("cache unavailable", (*DROPPING, to(CacheFailed()))),
    ("store failed", (*SWEEPING, to(DENIED))),
    ("cache unavailable", (*DROPPING_AGAIN, to(CacheFailed()))),
)
"""Every line of the machine's table, as the end of a script; the diagram is drawn from these."""


@pytest.mark.parametrize(("name", "script"), EDGES)
def test_edge(name: str, script: Script) -> None:
    state = play(step, State(), script)
    assert (state.phase in (Phase.DONE, Phase.FAILED)) == (not script[-1].actions)
    assert state.done == (state.phase is Phase.DONE)
    if state.phase is Phase.FAILED:
        assert state.reason in (Reason.STORE_DENIED, Reason.CACHE_UNAVAILABLE)
        assert state.reason.status == 503


def test_what_the_store_says_is_kept_for_the_log() -> None:
    assert play(step, State(), (*WRITING, to(DENIED))).detail == "403"
    assert play(step, State(), (*DROPPING, to(CacheFailed()))).detail == ""


def test_an_epoch_of_another_name_is_the_one_that_is_kept() -> None:
    """Where a first try's reply was lost, what the store has is made of the name that was asked for."""
    play(
        step,
        State(),
        (
            *WRITING,
            to(EpochWritten("e2-2"), DropEverything()),
            to(EntryWritten(), Sweep("e2-2")),
            to(Swept(), DropEverything(keep_epoch="e2-2")),
        ),
    )


EVENTS: tuple[PurgeEvent, ...] = (
    PurgeAsked("e3"),
    EpochWritten("e2"),
    EntryWritten(),
    CacheFailed(),
    Swept(),
    DENIED,
)


def answers(asked: PurgeAction | None) -> tuple[PurgeEvent, ...]:
    match asked:
        case WriteEpoch(epoch):
            return (EpochWritten(epoch), DENIED)
        case DropEverything():
            return (EntryWritten(), CacheFailed())
        case Sweep():
            return (Swept(), DENIED)
        case None:
            return ()


def test_an_event_is_ignored_exactly_when_nothing_asked_for_it() -> None:
    phases = set()
    for script in ((), *(script for _, script in EDGES)):
        state = play(step, State(), script)
        phases.add(state.phase)
        asked = script[-1].actions if script else ()
        legal = {type(event) for action in asked for event in answers(action)} if script else {PurgeAsked}  # type: ignore[arg-type]  # a script's actions are the purge's own
        for event in EVENTS:
            assert (step(state, event) == (state, ())) == (type(event) not in legal), (state, event)
    assert phases == set(Phase)


class Purges(RuleBasedStateMachine):
    """Any purges, one after another, answered in any way: each does its four things in order, or says why not."""

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count(1)
        self.state = State()
        self.asked: PurgeAction | None = None
        self.done: list[type[PurgeAction]] = []

    @precondition(lambda self: self.asked is None)
    @rule()
    def purge(self) -> None:
        self.state, self.done = State(), []
        self.feed(PurgeAsked(f"e{next(self.names)}"))

    @precondition(lambda self: self.asked is not None)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.feed(data.draw(st.sampled_from(answers(self.asked))))

    def feed(self, event: PurgeEvent) -> None:
        good = not isinstance(event, StoreFailed | CacheFailed)
        if self.asked is not None and good:
            self.done.append(type(self.asked))
        self.state, actions = step(self.state, event)
        self.asked = actions[0] if actions else None
        assert len(actions) <= 1
        order = [WriteEpoch, DropEverything, Sweep, DropEverything]
        assert self.done == order[: len(self.done)]
        assert (self.state.phase in (Phase.DONE, Phase.FAILED)) == (self.asked is None)
        assert (self.state.phase is Phase.DONE) == (self.done == order)
        assert (self.state.phase is Phase.FAILED) == (not good) == (self.state.reason is not None)


TestPurges = Purges.TestCase
TestPurges.settings = settings(max_examples=40, stateful_step_count=20)
