"""The copy machine under Hypothesis: any legal answers, any order, any sizes, against a plain model."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cloud_mirror.actions import ProbeCopy
from cloud_mirror.copy_actions import CopyAction, FetchPart, KeepLease, OpenOrigin, ReservePart
from cloud_mirror.copy_events import (
    CopyEvent,
    CopyOverdue,
    HandOverDue,
    JobReceived,
    LeaseLost,
    PartFetched,
    PartReserved,
)
from cloud_mirror.copy_table import Phase
from cloud_mirror.events import CopyFound, DrainBegun
from cloud_mirror.reason import Reason
from tests.core.copy_model import Copying
from tests.core.copy_world import COPY, PART, RULES, START, URL, answers, the_origin_gives


class Copies(RuleBasedStateMachine):
    """`Copying` holds the model and checks each step; here is only who does what next."""

    copying: Copying

    @initialize(epoch=st.sampled_from(["", "e1", "e2"]), attempt=st.integers(1, 6), large=st.booleans())
    def begin(self, epoch: str, attempt: int, large: bool) -> None:
        limit = 1 << 40 if large else RULES.max_object_bytes
        self.copying = Copying(replace(START, rules=replace(RULES, max_object_bytes=limit)))
        self.copying.feed(JobReceived(URL, epoch, attempt))

    def due(self) -> tuple[CopyAction, ...]:
        return tuple(action for action in self.copying.asked if not isinstance(action, KeepLease))

    def feed_first(self, data: st.DataObject) -> None:
        action = data.draw(st.sampled_from(self.due()))
        self.copying.feed(data.draw(st.sampled_from(answers(self.copying.state, action))), action)

    @precondition(lambda self: bool(self.due()))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.feed_first(data)

    @precondition(lambda self: bool(self.copying.out(OpenOrigin)))
    @rule(length=st.integers(0, 1 << 36) | st.integers(0, 6 * PART), ways=st.integers(0, 3), ordered=st.booleans())
    def open(self, length: int, ways: int, ordered: bool) -> None:
        """An object whose length is known, its parts by themselves, and what the store may copy."""
        opened = the_origin_gives(length, ranges=ways > 0, ordered=ordered, store_can=ways > 1 and not ordered)
        self.copying.feed(opened, *self.copying.out(OpenOrigin))

    @precondition(lambda self: bool(self.copying.out(OpenOrigin)))
    @rule()
    def open_without_length(self) -> None:
        self.copying.feed(the_origin_gives(None), *self.copying.out(OpenOrigin))

    @precondition(lambda self: self.copying.state.length is None and bool(self.copying.out(FetchPart)))
    @rule(ended=st.booleans(), data=st.data())
    def fetch(self, ended: bool, data: st.DataObject) -> None:
        action = next(each for each in self.due() if isinstance(each, FetchPart))
        size = data.draw(st.integers(0, action.at_most_bytes)) if ended else action.at_most_bytes
        total = self.copying.state.size + size
        fault = data.draw(st.none() | st.just(Reason.LENGTH_MISMATCH)) if ended else None
        self.copying.feed(PartFetched(action.number, size, total, ended, fault, "5a" if ended else ""), action)

    @precondition(lambda self: bool(self.copying.out(ReservePart)))
    @rule()
    def have_memory(self) -> None:
        (action,) = self.copying.out(ReservePart)
        assert isinstance(action, ReservePart)
        self.copying.feed(PartReserved(action.number), action)

    @precondition(lambda self: self.copying.stale)
    @rule()
    def have_memory_too_late(self) -> None:
        self.copying.feed(PartReserved(0))

    @precondition(lambda self: ProbeCopy() in self.copying.asked)
    @rule(life_s=st.floats(-10.0, 9_000.0), epoch=st.sampled_from(["e1", "e2"]))
    def probe(self, life_s: float, epoch: str) -> None:
        self.copying.feed(CopyFound(epoch, replace(COPY, life_left_s=life_s)), ProbeCopy())

    @precondition(lambda self: bool(self.copying.out(KeepLease)))
    @rule()
    def lose(self) -> None:
        self.copying.feed(LeaseLost(), self.copying.out(KeepLease)[0])

    @precondition(lambda self: bool(self.copying.out(KeepLease)))
    @rule(event=st.sampled_from((CopyOverdue(), HandOverDue())))
    def take_too_long(self, event: CopyEvent) -> None:
        self.copying.feed(event)

    @rule()
    def drain(self) -> None:
        self.copying.feed(DrainBegun())

    def teardown(self) -> None:
        """Whatever went before, the machine ends once the body does: after so few answers as there are actions left."""
        if not hasattr(self, "copying"):
            return
        steps = 0
        while due := self.due():
            answer = answers(self.copying.state, due[0])[-1]
            self.copying.feed(answer, due[0])
            steps += 1
            assert steps < 60
        assert self.copying.state.phase is Phase.DONE


TestCopies = Copies.TestCase
TestCopies.settings = settings(max_examples=100, stateful_step_count=40)
