"""The budget machine: never too much, nobody forgotten, and first to who holds least."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.budget import AskWithdrawn, BudgetEvent, HolderLeft, MemoryAsked, MemoryGivenBack, State, step
from tests.core.scripts import Script, play, to

START = State(100)

A1, A2, A3, A4 = (MemoryAsked("a", number, 20) for number in range(1, 5))
B1, B2, C1 = MemoryAsked("b", 11, 20), MemoryAsked("b", 12, 20), MemoryAsked("c", 21, 20)
ALL = MemoryAsked("d", 31, 1_000)

HUGE: Script = (to(A1, 1), to(A2, 2), to(A3, 3), to(A4, 4), to(MemoryAsked("a", 5, 20)))

STORIES: dict[str, Script] = {
    "what fits is granted at once": (to(A1, 1), to(B1, 11), to(C1, 21)),
    "who holds something leaves room for one who comes anew": (*HUGE, to(B1, 11)),
    "what is given back goes to who holds least, though it asked last": (
        *HUGE,
        to(B1, 11),
        to(B2),
        to(MemoryGivenBack("a", 20)),
        to(MemoryGivenBack("a", 20), 12),
        to(MemoryGivenBack("a", 20), 5),
    ),
    "of equals the older request comes first": (
        *(to(MemoryAsked("a", 1, 100), 1), to(C1), to(B1), to(A2)),
        to(MemoryGivenBack("a", 100), 21, 11, 2),
    ),
    "who holds nothing comes before who holds something": (
        *HUGE,
        to(MemoryAsked("b", 11, 40)),
        to(MemoryGivenBack("a", 20), 11),
    ),
    "nobody slips past the next one, however small": (
        to(MemoryAsked("a", 1, 90), 1),
        to(B1),
        to(MemoryAsked("c", 21, 5)),
        to(MemoryGivenBack("a", 5)),
        to(MemoryGivenBack("a", 5), 11),
        to(MemoryGivenBack("a", 5), 21),
    ),
    "what is larger than all of it is granted alone": (
        *(to(A1, 1), to(ALL), to(B1)),
        to(MemoryGivenBack("a", 20), 31),
        to(MemoryGivenBack("d", 900)),
        to(MemoryGivenBack("d", 100), 11),
    ),
    "who leaves gives everything back, and wants nothing more": (
        *HUGE,
        *(to(B1, 11), to(B2)),
        to(HolderLeft("a"), 12),
        to(HolderLeft("b")),
        to(MemoryAsked("c", 21, 100), 21),
    ),
    "who leaves and held nothing makes way all the same": (to(A1, 1), to(ALL), to(B1), to(HolderLeft("d"), 11)),
    "a request that is withdrawn makes way": (to(A1, 1), to(ALL), to(B1), to(AskWithdrawn(ALL), 11)),
    "one that was granted meanwhile is given back": (*HUGE, to(B1, 11), to(AskWithdrawn(A1)), to(AskWithdrawn(A2), 5)),
    "nobody gives back more than it holds": (
        to(A1, 1),
        to(MemoryGivenBack("a", 50)),
        to(MemoryGivenBack("nobody", 50)),
        to(MemoryAsked("b", 2, 101), 2),
        to(C1),
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str) -> None:
    play(step, START, STORIES[name])


def test_what_all_hold_is_summed_up() -> None:
    state = play(step, START, (*HUGE, to(B1, 11)))
    assert state.holdings == (("a", 80), ("b", 20))
    assert state.held_bytes == 100
    assert [asked.ticket for asked in state.waiting] == [5]
    assert hash(state)


HOLDERS = st.sampled_from("abcdef")
SIZES = st.one_of(st.integers(1, 40), st.sampled_from((50, 100, 130)))


@st.composite
def histories(draw: st.DrawFn) -> list[BudgetEvent]:
    """Whatever copies may do: ask, give back some of what they may hold, withdraw what they asked for, leave."""
    asked: list[MemoryAsked] = []
    events: list[BudgetEvent] = []
    for number in range(draw(st.integers(0, 40))):
        match draw(st.sampled_from(("ask", "ask", "ask", "give back", "withdraw", "leave"))):
            case "ask":
                asked.append(MemoryAsked(draw(HOLDERS), number, draw(SIZES)))
                events.append(asked[-1])
            case "withdraw" if asked:
                events.append(AskWithdrawn(asked.pop(draw(st.integers(0, len(asked) - 1)))))
            case "leave":
                events.append(HolderLeft(draw(HOLDERS)))
            case _:
                events.append(MemoryGivenBack(draw(HOLDERS), draw(SIZES)))
    return events


def following(events: list[BudgetEvent]) -> Iterator[tuple[State, BudgetEvent, State, tuple[int, ...]]]:
    """Each step of a history: the state before it, the event, the state after it, what was granted."""
    state = START
    for event in events:
        before = state
        state, granted = step(before, event)
        yield before, event, state, granted


def reached(events: list[BudgetEvent]) -> State:
    state = START
    for event in events:
        state, _ = step(state, event)
    return state


@given(histories())
def test_the_budget_is_never_exceeded_but_by_one_that_is_alone(events: list[BudgetEvent]) -> None:
    for before, event, state, granted in following(events):
        sizes = {asked.ticket: asked.size_bytes for asked in (*before.waiting, event) if isinstance(asked, MemoryAsked)}
        assert all(size_bytes > 0 for _, size_bytes in state.holdings)
        if state.held_bytes > state.budget_bytes:
            assert len(state.holdings) == 1
            if granted:  # it is what has just been granted, and nothing else was held
                assert len(granted) == 1
                assert state.held_bytes == sizes[granted[0]] > state.budget_bytes


@given(histories())
def test_what_is_granted_was_next_and_each_request_is_granted_once(events: list[BudgetEvent]) -> None:
    once: set[int] = set()
    for before, event, state, granted in following(events):
        waiting = [*before.waiting, event] if isinstance(event, MemoryAsked) else list(before.waiting)
        if isinstance(event, HolderLeft):
            waiting = [asked for asked in waiting if asked.holder != event.holder]
        if isinstance(event, AskWithdrawn):
            waiting = [asked for asked in waiting if asked != event.asked]
        by_ticket = {asked.ticket: asked for asked in waiting}
        held = dict(state.holdings)
        for ticket in granted:  # as it was before anything was granted
            held[by_ticket[ticket].holder] -= by_ticket[ticket].size_bytes
        for ticket in granted:
            chosen = by_ticket[ticket]
            least = min(held.get(asked.holder, 0) for asked in waiting)
            assert chosen == next(asked for asked in waiting if held.get(asked.holder, 0) == least)
            waiting.remove(chosen)
            held[chosen.holder] = held.get(chosen.holder, 0) + chosen.size_bytes
        assert state.waiting == tuple(waiting)
        assert not once & set(granted)
        once |= set(granted)


@given(histories())
def test_nobody_waits_for_what_there_is_room_for(events: list[BudgetEvent]) -> None:
    for _, _, state, _ in following(events):
        if state.waiting:
            held = dict(state.holdings)
            first = min(state.waiting, key=lambda asked: held.get(asked.holder, 0))
            left_free = first.size_bytes if first.holder in held else 0
            assert state.held_bytes
            assert state.held_bytes + first.size_bytes + left_free > state.budget_bytes


@given(histories(), st.integers(1, 100))
def test_who_comes_anew_waits_behind_nobody_who_holds_something(events: list[BudgetEvent], size_bytes: int) -> None:
    state = reached(events)
    held = dict(state.holdings)
    after, granted = step(state, MemoryAsked("new", -1, size_bytes))
    if all(asked.holder in held for asked in state.waiting):
        assert granted == ((-1,) if state.held_bytes + size_bytes <= state.budget_bytes else ())
    if granted:
        assert after.waiting == state.waiting


@given(st.integers(1, 20), st.integers(2, 50), st.integers(0, 60))
def test_a_copy_that_is_alone_takes_all_but_one_part_and_the_next_copy_that_one(
    part_bytes: int, fitting: int, wanted: int
) -> None:
    state = State(part_bytes * fitting)
    for ticket in range(wanted):
        state, _ = step(state, MemoryAsked("huge", ticket, part_bytes))
    assert state.held_bytes == part_bytes * min(wanted, fitting - 1)
    assert step(state, MemoryAsked("new", -1, part_bytes))[1] == (-1,)


@given(histories(), st.lists(SIZES, max_size=3), st.randoms(use_true_random=False))
def test_nobody_starves(events: list[BudgetEvent], sizes: list[int], chance: Random) -> None:
    """Others may come anew, as often as they like: the oldest request is granted within two rounds in which whoever
    held something gives it back.
    """
    state, tickets = reached(events), itertools.count(1_000)
    waiting = state.waiting
    for _ in range(2 * len(waiting)):
        holders = [holder for holder, _ in state.holdings]
        chance.shuffle(holders)
        for holder in holders:
            state, _ = step(state, MemoryGivenBack(holder, dict(state.holdings)[holder]))
            for size_bytes in sizes:
                ticket = next(tickets)
                state, _ = step(state, MemoryAsked(f"new {ticket}", ticket, size_bytes))
    assert not set(waiting) & set(state.waiting)
