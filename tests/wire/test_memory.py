"""Who waits for memory is woken once it is granted; who waits no longer holds and hinders nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from cloud_mirror.wire.calls import ReleaseMemory, ReserveMemory
from cloud_mirror.wire.memory import Memory


@pytest.fixture
def woken() -> list[str]:
    """Who was woken, in order."""
    return []


def waking(woken: list[str], holder: str) -> Callable[[], None]:
    return lambda: woken.append(holder)


def test_what_fits_is_granted_before_the_asking_is_over(woken: list[str]) -> None:
    memory = Memory(100)
    memory.ask(ReserveMemory("a", 60), waking(woken, "a"))
    assert (woken, memory.held_bytes) == (["a"], 60)


def test_who_waits_is_woken_when_something_is_given_back(woken: list[str]) -> None:
    memory = Memory(100)
    for holder in ("a", "b", "c"):
        memory.ask(ReserveMemory(holder, 60), waking(woken, holder))
    memory.give_back(ReleaseMemory("a", 60))
    assert woken == ["a", "b"]
    memory.forget("b")
    assert (woken, memory.held_bytes) == (["a", "b", "c"], 60)


def test_a_body_that_is_done_keeps_what_it_was_granted(woken: list[str]) -> None:
    memory = Memory(100)
    with memory.asking(ReserveMemory("a", 60), waking(woken, "a")):
        assert woken == ["a"]
    assert memory.held_bytes == 60


def test_a_body_that_is_cut_off_while_it_waits_is_woken_no_more(woken: list[str]) -> None:
    memory = Memory(100)
    memory.ask(ReserveMemory("a", 60), waking(woken, "a"))
    with pytest.raises(KeyboardInterrupt), memory.asking(ReserveMemory("b", 60), waking(woken, "b")):
        raise KeyboardInterrupt
    memory.forget("a")
    assert (woken, memory.held_bytes, memory.state.waiting) == (["a"], 0, ())


def test_a_body_that_is_cut_off_once_it_was_granted_holds_nothing(woken: list[str]) -> None:
    memory = Memory(100)
    with pytest.raises(KeyboardInterrupt), memory.asking(ReserveMemory("a", 60), waking(woken, "a")):
        raise KeyboardInterrupt
    assert (woken, memory.state.holdings) == (["a"], ())


def test_changes_are_made_under_the_lock() -> None:
    lock = threading.Lock()
    memory, locked = Memory(100, lock), list[bool]()
    memory.ask(ReserveMemory("a", 60), lambda: locked.append(lock.locked()))
    assert (locked, lock.locked()) == ([True], False)
