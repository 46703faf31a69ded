"""The seeds that every change is tried on; what they must reach; and that a seed gives the same run to the letter."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from cloud_mirror import copy_table, redirect, redirect_table
from cloud_mirror.events import RedirectEvent
from cloud_mirror.redirect import transition
from cloud_mirror.redirect_table import State, Transition
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.faults import Fault, Swarm, draw_swarm
from cloud_mirror.simulator.fleet import Process
from cloud_mirror.simulator.settings import draw_settings
from cloud_mirror.simulator.simulation import LAST_WORDS, Result, Simulation, last_words, run
from tests.simulator.bite import storm

SEEDS = 500
NEVER_TAKEN = {
    copy_table.Row.VERIFY_WRONG,  # the modelled store damages nothing,
    copy_table.Row.IGNORED,
    copy_table.Row.ACQUIRE_IN_VAIN,  # three refusals in a row, each after a read that saw a vacant entry
    copy_table.Row.STORE_CANNOT,  # no source is a bucket of the modelled store
    copy_table.Row.HANDED_OVER,  # no run lasts for half a day
    copy_table.Row.OPENED_TOO_LARGE,  # front ends find out first
    copy_table.Row.VERIFY_OTHER,
    copy_table.Row.VERIFY_MISSING,
    redirect_table.Row.IGNORED,
}
"""The lines of the tables that so many seeds need not reach: they take what is rare or not modelled."""


def some(seeds: tuple[int, ...]) -> list[Result]:
    return [run(seed) for seed in seeds]


@pytest.mark.timeout(900)
def test_seeds() -> None:
    batches = [tuple(range(first, first + 25)) for first in range(0, SEEDS, 25)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = [result for batch in pool.map(some, batches) for result in batch]
    wrong = [(result.seed, violation) for result in results for violation in result.violations[:1]]
    assert wrong == []
    taken = Counter(taken.row for result in results for taken in result.taken)
    rows = {*redirect_table.Row, *copy_table.Row}
    assert rows - taken.keys() <= NEVER_TAKEN
    happened = {fault for result in results for fault in result.faults}
    assert {fault.value for fault in Fault} - happened == set()


def test_a_seed_gives_the_same_run_to_the_letter() -> None:
    first, again, traced = run(11), run(11), run(11, traced=True)
    assert first.digest == again.digest == traced.digest
    assert (first.taken, first.faults, first.answers) == (again.taken, again.faults, again.answers)
    assert traced.trace == run(11, traced=True).trace
    assert run(12).digest != first.digest


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lies", [False, True])
def test_some_seeds_in_this_process(lies: bool) -> None:
    for seed in range(2_000_000, 2_000_020):
        settings = draw_settings(Chance(seed))
        weights = tuple((fault, 3.0 / 400 if "TIMED" in fault.scope.name else 0.01) for fault in Fault)
        swarm = Swarm(tuple((fault, weight) for fault, weight in weights if lies or not fault.lies))
        drawn = replace(settings, swarm=swarm, duration_s=400.0, both=1)
        assert run(seed, drawn, traced=seed % 5 == 0).violations == ()


def test_a_fault_of_the_machine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Front ends that believe every entry for ever send clients to what is gone."""

    def credulous(state: State, event: RedirectEvent) -> Transition:
        rules = replace(state.rules, expiry_margin_s=-1e9, refresh_margin_s=-1e9, verify_s=1e9)
        taken = transition(replace(state, rules=rules), event)
        return taken._replace(state=replace(taken.state, rules=state.rules))

    monkeypatch.setattr(redirect, "transition", credulous)
    wrong = next(result for seed in range(100) if (result := run(seed)).violations)
    assert any("VIOLATION" in line for line in last_words(wrong))


def test_a_request_that_nobody_answers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "_tell", lambda *_: None)
    assert "answered-in-time" in {violation.invariant for violation in run(11).violations}


def test_a_run_in_which_all_is_well_has_last_words_too() -> None:
    result = run(11, traced=True)
    assert last_words(result) == result.trace[-LAST_WORDS:]


def test_what_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: State, event: RedirectEvent) -> Transition:
        raise ZeroDivisionError("made up")

    monkeypatch.setattr(redirect, "transition", broken)
    result = run(0)
    assert [violation.invariant for violation in result.violations] == ["nothing-breaks"]
    assert "made up" in result.violations[0].what
    assert last_words(result)


def test_a_copy_that_begins_anew_is_not_needless_where_a_renewal_has_come_to_its_end_meanwhile() -> None:
    seed = 297
    settings = storm(seed, ("ORIGIN_CHANGED", "ORIGIN_LENGTH", "ORIGIN_GARBLED"))
    assert Simulation(seed, settings).run().violations == ()


def test_some_runs_are_without_a_fault() -> None:
    assert 0 < sum(draw_swarm(Chance(seed), 1_000.0) == Swarm() for seed in range(200)) < 40
