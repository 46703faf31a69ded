"""The host machine: how much is under way to a host at once, how long it is left alone, how fast it is read from."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloud_mirror import host
from cloud_mirror.host import HostRefused, Outcome, Permit, Rules, State, Wait
from cloud_mirror.reason import Reason

NEW = host.new("a.example:443", Rules(8))
LATER_S = 1_000.0
THROTTLING = (Outcome.THROTTLED, Outcome.OVERLOADED)


def enter(state: State, now_s: float = 0.0) -> tuple[State, Permit]:
    state, verdict = host.admit(state, now_s, now_s + LATER_S)
    assert isinstance(verdict, Permit)
    return state, verdict


def entered(state: State, times: int, now_s: float = 0.0) -> tuple[State, list[Permit]]:
    permits = []
    for _ in range(times):
        state, permit = enter(state, now_s)
        permits.append(permit)
    return state, permits


def done(
    state: State, permit: Permit, outcome: Outcome, now_s: float = 0.0, retry_s: float | None = None, jitter: float = 0
) -> State:
    return host.ended(host.answered(state, permit, outcome, retry_s, now_s, jitter))


def once(
    state: State, outcome: Outcome, now_s: float = 0.0, retry_s: float | None = None, jitter: float = 0.0
) -> State:
    state, permit = enter(state, now_s)
    return done(state, permit, outcome, now_s, retry_s, jitter)


def failed(state: State, times: int, now_s: float = 0.0, jitter: float = 0.0) -> State:
    for _ in range(times):
        state = once(state, Outcome.FAILED, now_s, jitter=jitter)
    return state


def asked(state: State, now_s: float, by_s: float | None = None) -> host.Verdict:
    return host.admit(state, now_s, now_s + LATER_S if by_s is None else by_s)[1]


OPEN = failed(NEW, host.FAILURES)


def test_what_is_over_the_limit_waits_until_one_has_ended() -> None:
    state, permits = entered(NEW, 8)
    assert asked(state, 1.0, 3.0) == Wait(3.0)
    assert asked(state, 3.0, 3.0) == HostRefused(Reason.ORIGIN_SATURATED, host.SATURATED_AGAIN_S)
    state = host.answered(state, permits[0], Outcome.ANSWERED, None, 1.0, 0.0)
    assert asked(state, 1.0, 3.0) == Wait(3.0)  # its body is open still
    assert isinstance(asked(host.ended(state), 1.0, 1.0), Permit)


@pytest.mark.parametrize("outcome", THROTTLING)
def test_who_asks_for_less_gets_half_and_is_left_alone(outcome: Outcome) -> None:
    state = once(NEW, outcome, now_s=10.0)
    assert (state.limit, state.under_way) == (4, 0)
    assert asked(state, 10.5) == Wait(10.0 + host.MOMENT_S)
    assert isinstance(asked(state, 10.0 + host.MOMENT_S), Permit)
    state = once(state, outcome, now_s=20.0, retry_s=30.0)
    assert (state.limit, asked(state, 49.0)) == (2, Wait(50.0))
    assert asked(state, 40.0, by_s=50.0) == HostRefused(Reason.ORIGIN_THROTTLED, 10.0)  # it would wait in vain
    for now_s in (50.0, 60.0, 70.0):
        state = replace(once(state, outcome, now_s=now_s), failures=0)
    assert state.limit == 1
    state = once(state, outcome, now_s=80.0, retry_s=1e9)
    assert asked(state, 81.0) == Wait(80.0 + host.LONGEST_QUIET_S)


def test_those_that_were_under_way_together_halve_it_once_and_all_are_heeded() -> None:
    state, permits = entered(NEW, 3)
    state = done(state, permits[0], Outcome.THROTTLED, retry_s=5.0)
    state = done(state, permits[1], Outcome.THROTTLED, retry_s=9.0)
    state = done(state, permits[2], Outcome.ANSWERED)
    assert (state.limit, state.answers, asked(state, 8.0)) == (4, 0, Wait(9.0))
    late, permits = entered(NEW, 2)
    late = done(late, permits[0], Outcome.THROTTLED, retry_s=9.0)
    assert asked(done(late, permits[1], Outcome.THROTTLED, retry_s=0.0), 8.0) == Wait(9.0)


def test_a_limit_grows_by_one_for_as_many_answers_as_it_is() -> None:
    state = once(once(NEW, Outcome.THROTTLED), Outcome.THROTTLED, now_s=2.0)
    grown = []
    for _ in range(2 + 3 + 4 + 5 + 6 + 7 + 8):
        state = once(state, Outcome.ANSWERED, now_s=9.0)
        grown.append(state.limit)
    assert grown == [2] * 1 + [3] * 3 + [4] * 4 + [5] * 5 + [6] * 6 + [7] * 7 + [8] * 9


def test_failures_in_a_row_open_the_circuit() -> None:
    state = failed(NEW, host.FAILURES - 1)
    assert isinstance(asked(state, 0.0), Permit)
    assert isinstance(asked(failed(once(state, Outcome.ANSWERED), 1), 0.0), Permit)
    assert isinstance(asked(failed(once(state, Outcome.THROTTLED), 1, 1.0), 1.0), Permit)
    assert once(state, Outcome.UNKNOWN) == state
    state = failed(state, 1, now_s=7.0)
    assert asked(state, 8.0) == HostRefused(Reason.ORIGIN_CIRCUIT_OPEN, host.OPEN_S - 1.0)
    assert asked(once(failed(NEW, host.FAILURES - 1), Outcome.OVERLOADED), 0.5) == HostRefused(
        Reason.ORIGIN_CIRCUIT_OPEN, host.OPEN_S - 0.5
    )


def test_those_that_fail_together_open_it_once() -> None:
    state, permits = entered(NEW, 8)
    for permit in permits:
        state = done(state, permit, Outcome.FAILED)
    assert (state.openings, state.failures, state.under_way) == (1, 0, 0)
    state, permits = entered(NEW, host.FAILURES + 1)
    for permit in permits[1:]:
        state = done(state, permit, Outcome.FAILED)
    assert done(state, permits[0], Outcome.ANSWERED).openings == 1  # it was sent before


def test_half_open_lets_one_through() -> None:
    state, probe = enter(OPEN, host.OPEN_S)
    assert probe.probe
    refused = HostRefused(Reason.ORIGIN_CIRCUIT_OPEN, host.PROBE_AGAIN_S)
    assert asked(state, host.OPEN_S) == refused
    assert asked(replace(OPEN, under_way=8), host.OPEN_S) == refused
    for outcome in (Outcome.ANSWERED, Outcome.THROTTLED):
        closed = done(state, probe, outcome, host.OPEN_S)
        assert (closed.openings, closed.probing, closed.failures) == (0, False, 0)
        closed, permit = enter(closed, LATER_S)
        assert not permit.probe
    called_off = done(state, probe, Outcome.UNKNOWN, host.OPEN_S)
    assert isinstance(asked(called_off, host.OPEN_S), Permit)
    assert (called_off.openings, called_off.probing) == (1, False)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.OVERLOADED])
def test_a_try_that_fails_opens_it_for_twice_as_long_up_to_a_limit(outcome: Outcome) -> None:
    state, now_s, lasted = OPEN, 0.0, []
    for _ in range(6):
        lasted.append(state.open_until_s - now_s)
        now_s = max(state.open_until_s, state.quiet_until_s)
        state = once(state, outcome, now_s)
    assert lasted == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_chance_shortens_it_by_up_to_half() -> None:
    assert failed(NEW, host.FAILURES, jitter=1.0).open_until_s == host.OPEN_S / 2
    assert failed(NEW, host.FAILURES, jitter=0.5).open_until_s == host.OPEN_S * 0.75


def test_a_rate_is_kept_but_for_what_was_saved_up() -> None:
    state = host.new("a.example:443", Rules(8, 100.0))
    state, wait_s = host.spend(state, 100, 50.0)
    assert wait_s == 0.0
    state, wait_s = host.spend(state, 50, 50.0)
    assert wait_s == 0.5
    state, wait_s = host.spend(state, 0, 50.25)
    assert wait_s == 0.25
    state, wait_s = host.spend(state, 150, 1_000.0)
    assert wait_s == 0.5
    state, wait_s = host.spend(state, 0, 1_000.4995)
    assert wait_s == 0.0  # what is left is too short to rest, and owed still
    assert host.spend(state, 1, 1_000.4995)[1] == pytest.approx(0.0105)
    assert host.spend(NEW, 10**9, 50.0) == (NEW, 0.0)


@given(st.lists(st.tuples(st.integers(0, 5_000), st.floats(0, 3)), max_size=50))
def test_no_time_sees_more_than_its_rate(pieces: list[tuple[int, float]]) -> None:
    """Who rests for as long as is said reads no more than the rate, what was saved up, and one piece."""
    rate, began_s = 1_000.0, 10.0
    state, now_s, read = host.new("a", Rules(1, rate)), began_s, 0
    for size, idle_s in pieces:
        now_s += idle_s
        read += size
        state, wait_s = host.spend(state, size, now_s)
        assert read <= rate * (now_s - began_s + host.BURST_S + host.LEAST_WAIT_S) + size + 1e-6
        now_s += wait_s


class Fair(RuleBasedStateMachine):
    """Whatever a host says, in whatever order, and whoever is called off."""

    def __init__(self) -> None:
        super().__init__()
        self.state = NEW
        self.now_s = 0.0
        self.sent: list[Permit] = []
        self.bodies = 0
        self.quiet_until_s = -1.0

    @rule(for_s=st.sampled_from((0.0, 0.4, 1.0, 5.0, 70.0)))
    def pass_time(self, for_s: float) -> None:
        self.now_s += for_s

    @rule(patience_s=st.sampled_from((0.0, 2.0, 100.0)))
    def ask(self, patience_s: float) -> None:
        before = self.state
        self.state, verdict = host.admit(before, self.now_s, self.now_s + patience_s)
        match verdict:
            case Permit():
                assert self.now_s >= self.quiet_until_s
                assert before.under_way < before.limit
                assert not before.openings or (verdict.probe and self.now_s >= before.open_until_s)
                self.sent.append(verdict)
            case Wait(until_s):
                assert self.now_s < until_s <= self.now_s + patience_s
                assert self.state == before
            case HostRefused(_, again_in_s):
                assert again_in_s > 0
                assert self.state == before

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), retry_s=st.sampled_from((None, 0.0, 3.0, 50.0)))
    def answer(self, data: st.DataObject, outcome: Outcome, retry_s: float | None) -> None:
        permit = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        self.state = host.answered(self.state, permit, outcome, retry_s, self.now_s, 0.5)
        if outcome in THROTTLING:
            quiet_s = host.MOMENT_S if retry_s is None else retry_s
            self.quiet_until_s = max(self.quiet_until_s, self.now_s + quiet_s)
        if outcome in (Outcome.ANSWERED, *THROTTLING):
            self.bodies += 1
        else:
            self.state = host.ended(self.state)

    @precondition(lambda self: self.bodies)
    @rule()
    def close(self) -> None:
        self.bodies -= 1
        self.state = host.ended(self.state)

    @invariant()
    def never_more_than_the_policy_allows(self) -> None:
        assert 1 <= self.state.limit <= self.state.rules.connections
        assert self.state.under_way == len(self.sent) + self.bodies <= self.state.rules.connections

    @invariant()
    def one_tries_at_a_time(self) -> None:
        tries = [permit for permit in self.sent if permit.probe and permit.round == self.state.round]
        assert len(tries) == self.state.probing <= (self.state.openings > 0)

    @invariant()
    def nobody_is_kept_off_for_ever(self) -> None:
        if not self.state.under_way:
            assert isinstance(host.admit(self.state, self.now_s + 1e4, self.now_s + 1e4)[1], Permit)


TestFair = Fair.TestCase
