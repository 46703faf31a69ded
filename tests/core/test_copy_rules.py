"""The copy machine under Hypothesis: any legal answers, any order, any sizes, against a plain model."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cloud_mirror.actions import CopyAction, FetchPart, KeepLease, OpenOrigin, ProbeCopy
from cloud_mirror.copy_table import Phase
from cloud_mirror.events import CopyFound, CopyOverdue, DrainBegun, JobReceived, LeaseLost, OriginOpened, PartFetched
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason
from tests.core.copy_world import COPY, RULES, START, URL, Copying, answers


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

    @precondition(lambda self: bool([each for each in self.due() if isinstance(each, OpenOrigin)]))
    @rule(length=st.none() | st.integers(0, 1 << 36))
    def open(self, length: int | None) -> None:
        self.copying.feed(OriginOpened(length, "", delimited=True), OpenOrigin())

    @precondition(lambda self: bool([each for each in self.due() if isinstance(each, FetchPart)]))
    @rule(ended=st.booleans(), data=st.data())
    def fetch(self, ended: bool, data: st.DataObject) -> None:
        action = next(each for each in self.due() if isinstance(each, FetchPart))
        size = data.draw(st.integers(0, action.at_most_bytes)) if ended else action.at_most_bytes
        total = self.copying.state.size + size
        fault = data.draw(st.none() | st.just(Reason.LENGTH_MISMATCH)) if ended else None
        self.copying.feed(PartFetched(action.number, size, total, ended, fault, "5a" if ended else ""), action)

    @precondition(lambda self: ProbeCopy() in self.copying.asked)
    @rule(life_s=st.floats(-10.0, 9_000.0), epoch=st.sampled_from(["e1", "e2"]))
    def probe(self, life_s: float, epoch: str) -> None:
        self.copying.feed(CopyFound(epoch, replace(COPY, life_left_s=life_s)), ProbeCopy())

    @precondition(lambda self: bool([each for each in self.copying.asked if isinstance(each, KeepLease)]))
    @rule()
    def lose(self) -> None:
        self.copying.feed(LeaseLost(), next(each for each in self.copying.asked if isinstance(each, KeepLease)))

    @precondition(lambda self: bool([each for each in self.copying.asked if isinstance(each, KeepLease)]))
    @rule()
    def take_too_long(self) -> None:
        self.copying.feed(CopyOverdue())

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
            assert steps < 30
        assert self.copying.state.phase is Phase.DONE
        assert all(number > 0 for number in self.copying.uploaded)
        assert self.copying.state.size < 1 << 40 + MIB


TestCopies = Copies.TestCase
TestCopies.settings = settings(max_examples=100, stateful_step_count=40)
