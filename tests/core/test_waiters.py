"""The requests that a flight holds."""

from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.actions import Respond, ToOrigin
from cloud_mirror.entry import Holder
from cloud_mirror.events import Request, RequestJoined
from cloud_mirror.reason import Reason
from cloud_mirror.redirect import step
from cloud_mirror.waiters import RUN, Waiters
from tests.core.redirect_world import START, pending, present, read

CROWD = 20_000


def crowd(size: int) -> Waiters:
    waiters = Waiters()
    for number in range(size):
        waiters = waiters.joined(Request(number, 1.0))
    return waiters


def ids(waiters: Waiters) -> list[int]:
    return [request.id for request in waiters]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 700)), max_size=60), st.integers(0, 600))
def test_they_are_what_a_list_would_hold(doings: list[tuple[bool, int]], size: int) -> None:
    waiters, model, number = crowd(size), list(range(size)), size
    for joins, which in doings:
        if joins:
            number += 2
            waiters = waiters.joined(Request(number, 1.0))
            model.append(number)
        else:
            waiters = waiters.without(which)
            model = [held for held in model if held != which]
        assert ids(waiters) == model
        assert bool(waiters) == bool(model)
        assert waiters.last_id == (model[-1] if model else -1)
        assert all(0 < len(run) <= RUN for run in waiters.runs)


def test_who_is_not_there_cannot_leave() -> None:
    waiters = crowd(RUN + 1).without(5)
    assert waiters.without(5) is waiters.without(-1) is waiters.without(RUN + 1) is waiters


def test_they_part() -> None:
    leaving, staying = crowd(300).parted(lambda request: request.id % 3 == 0)
    assert ids(leaving) == list(range(0, 300, 3))
    assert sorted(ids(leaving) + ids(staying)) == list(range(300))
    assert Waiters.of(iter(leaving)) == leaving
    assert hash(Waiters.of(leaving)) == hash(leaving)


def test_one_who_leaves_a_crowd_moves_few_others() -> None:
    before = crowd(CROWD)
    assert len(before.runs) + RUN < 300, "that many are copied when one comes or goes"
    for number in (0, CROWD // 2, CROWD - 1):
        after = before.without(number)
        assert sum(one is not other for one, other in zip(before.runs, after.runs, strict=True)) == 1
    assert sum(run not in before.runs for run in before.joined(Request(CROWD, 1.0)).runs) == 1


def test_a_crowd_is_answered_without_comparing_each_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    state = START
    for number in range(CROWD):
        state, _ = step(state, RequestJoined(Request(number, 1.0)))

    def refuse(self: Request, other: object) -> NoReturn:
        raise AssertionError(f"{self} was compared with {other}")

    monkeypatch.setattr(Request, "__eq__", refuse)
    everybody = tuple(range(CROWD))
    answered, actions = step(state, read(pending(Holder.QUEUED, age_s=2.0)))
    assert actions == (Respond(everybody, ToOrigin(Reason.NOT_STARTED)),)
    assert not answered.requests
    _, (respond, _) = step(state, read(present()))
    assert isinstance(respond, Respond)
    assert respond.requests == (0,), "who came after the read began waits for the next one"
