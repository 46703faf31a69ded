"""The redirect machine under Hypothesis: any requests, any legal answers, in any order, against a plain model."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cloud_mirror.actions import ReadEntry
from cloud_mirror.entry import Entry, Holder
from cloud_mirror.events import DrainBegun, EntryRead, RedirectEvent, RequestAbandoned, RequestDeadlinePassed
from cloud_mirror.policy import OnDeadline
from cloud_mirror.reason import NEGATIVE, PERMANENT, Reason
from tests.core.redirect_world import NOW_S, RULES, START, Flight, answers, error, pending, present

AGES_S = st.floats(-10.0, 700.0)
ENTRIES = st.one_of(
    st.none(),
    st.builds(
        present, life_s=st.floats(-100.0, 9_000.0), verified_s=st.floats(-100.0, 400.0), attempt=st.none() | st.just(1)
    ),
    st.builds(
        pending,
        st.sampled_from(Holder),
        AGES_S,
        done=st.none() | st.integers(0, 50),
        total=st.none() | st.integers(0, 100),
        adopted=st.none() | st.integers(0, 60),
    ),
    st.builds(error, st.sampled_from(sorted(NEGATIVE | PERMANENT | {Reason.STORE_UNAVAILABLE}, key=str)), AGES_S),
)


class Flights(RuleBasedStateMachine):
    """`Flight` holds the model and checks each step; here is only who does what next."""

    flight: Flight

    @initialize(on_deadline=st.sampled_from(OnDeadline))
    def begin(self, on_deadline: OnDeadline) -> None:
        self.flight = Flight(replace(START, rules=replace(RULES, on_deadline=on_deadline)))

    @rule(deadline_s=st.floats(0.5, 60.0))
    def join(self, deadline_s: float) -> None:
        self.flight.join(deadline_s)

    @precondition(lambda self: self.flight.joined)
    @rule(data=st.data())
    def deadline(self, data: st.DataObject) -> None:
        self.flight.feed(RequestDeadlinePassed(data.draw(st.integers(0, self.flight.joined - 1))))

    @precondition(lambda self: self.flight.joined)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        self.flight.feed(RequestAbandoned(data.draw(st.integers(0, self.flight.joined - 1))))

    @rule()
    def drain(self) -> None:
        self.flight.feed(DrainBegun())

    @precondition(lambda self: self.flight.asked is not None)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.flight.feed(data.draw(st.sampled_from(self.legal())))

    @precondition(lambda self: isinstance(self.flight.asked, ReadEntry))
    @rule(entry=ENTRIES, sequence=st.integers(0, 9), life_s=st.floats(0.0, 600.0))
    def read(self, entry: Entry | None, sequence: int, life_s: float) -> None:
        self.flight.feed(EntryRead(entry, NOW_S, life_s, sequence, now_s=0.0))

    def legal(self) -> tuple[RedirectEvent, ...]:
        assert self.flight.asked is not None
        return answers(self.flight.state, self.flight.asked)

    def teardown(self) -> None:
        """Whatever went before, deadlines and answers bring the flight to its end."""
        for request in tuple(self.flight.waiting):
            self.flight.feed(RequestDeadlinePassed(request))
        steps = 0
        while self.flight.asked is not None:
            self.flight.feed(self.legal()[0])
            steps += 1
        assert steps < 10


TestFlights = Flights.TestCase
TestFlights.settings = settings(max_examples=150, stateful_step_count=40)
