"""The simulated world's own parts, where a run does not show them by itself."""

import pytest

from cloud_mirror.simulator.agenda import START_S, Agenda, Overrun
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.faults import Fault
from cloud_mirror.simulator.mishaps import Mishaps
from cloud_mirror.simulator.settings import Settings, draw_settings
from cloud_mirror.simulator.simulation import Simulation


def test_what_goes_round_in_circles_is_stopped() -> None:
    agenda = Agenda(at_most=100)

    def again() -> None:
        agenda.after(0.0, again)

    again()
    with pytest.raises(Overrun):
        agenda.run(START_S + 1.0)


def test_things_happen_in_the_order_of_their_moments() -> None:
    agenda, seen = Agenda(), list[str]()
    for delay_s, name in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
        agenda.after(delay_s, seen.append, name)
    agenda.run(START_S + 1.5)
    assert seen == ["first", "second"]
    assert agenda.now_s == START_S + 1.5
    agenda.run(START_S + 3.0)
    assert seen == ["first", "second", "late"]


@pytest.mark.parametrize("fault", [Fault.REDIS_EVICTION, Fault.REDIS_LOSES, Fault.REDIS_BRINGS_BACK, Fault.CRASH])
def test_a_fault_that_finds_nothing_to_strike_is_not_counted(fault: Fault) -> None:
    world = Simulation(1, draw_settings(Chance(1))).world
    Mishaps(world, Chance(1)).strike(fault)
    assert world.weather.happened == {}


def test_the_calm_lasts_as_long_as_anybody_may_wait() -> None:
    drawn: Settings = draw_settings(Chance(1))
    policy = drawn.policy
    assert drawn.calm_s > policy.queue.patience_s + policy.worker.lease_s + policy.server.negative_s
