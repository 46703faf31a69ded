"""The simulated world's own parts, where a run does not show them by itself."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from cloud_mirror.simulator.agenda import START_S, Agenda, Overrun
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.driver import ProcedureDriver
from cloud_mirror.simulator.engine import Role, Task
from cloud_mirror.simulator.faults import Fault, Swarm
from cloud_mirror.simulator.mishaps import Mishaps
from cloud_mirror.simulator.settings import Settings, draw_settings
from cloud_mirror.simulator.simulation import Simulation
from cloud_mirror.simulator.world import World
from cloud_mirror.wire.calls import Backoff, GetMonotonicTime, Procedure, ReleaseMemory, ReserveMemory


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


@pytest.mark.parametrize(
    "fault",
    [
        Fault.REDIS_EVICTION,
        Fault.REDIS_LOSES,
        Fault.REDIS_BRINGS_BACK,
        Fault.SUBSCRIPTION_BROKEN,
        Fault.CRASH,
        Fault.PAUSE,
        Fault.DRAIN,
    ],
)
def test_a_fault_that_finds_nothing_to_strike_is_not_counted(fault: Fault) -> None:
    world = Simulation(1, draw_settings(Chance(1))).world
    Mishaps(world, Chance(1)).strike(fault)
    assert world.weather.happened == {}


@pytest.mark.parametrize("fault", [Fault.ORIGIN_SHORT, Fault.ORIGIN_LENGTH])
def test_what_cannot_be_copied_is_not_cut_to_what_can(fault: Fault) -> None:
    drawn = draw_settings(Chance(1))
    sources = tuple(replace(source, copyable=False) for source in drawn.sources)
    world = Simulation(1, replace(drawn, sources=sources)).world
    Mishaps(world, Chance(1)).strike(fault)
    assert world.weather.happened == {}


@pytest.fixture
def world() -> World:
    """A world without faults, of one front end that copies as well."""
    drawn = draw_settings(Chance(1))
    settings = replace(drawn, swarm=Swarm(), fronts=0, backs=0, both=1)
    return Simulation(1, settings).world


def until(world: World, condition: Callable[[], bool]) -> None:
    """Let the world go on, in small steps, until the condition holds."""
    for _ in range(20_000):
        if condition():
            return
        world.agenda.run(world.agenda.now_s + 0.005)
    raise AssertionError("it never did")


def test_a_lost_subscription_is_not_lost_again(world: World) -> None:
    world.start()
    [process] = world.processes
    process.host.lose_subscription(1.0)
    process.host.lose_subscription(100.0)
    world.agenda.run(world.agenda.now_s + 2.0)
    assert process.host.subscribed


def test_of_two_who_wait_for_a_copy_the_one_who_leaves_is_gone(world: World) -> None:
    world.start()
    [process] = world.processes
    stays, leaves = (world.ask(process, next(iter(world.pools)), world.settings.sources[0]) for _ in range(2))
    process.leave(leaves)
    until(world, lambda: stays.answered_s is not None)
    assert (stays.left, leaves.left, leaves.answered_s) == (False, True, None)


def test_who_leaves_before_its_request_was_taken_up_is_nobody(world: World) -> None:
    world.start()
    [process] = world.processes
    process.host.pause(5.0)
    process.host.pause(500.0)  # it stands still already
    asked = world.ask(process, next(iter(world.pools)), world.settings.sources[0])
    process.leave(asked)
    assert not asked.left
    until(world, lambda: asked.answered_s is not None)


def test_what_is_a_process_s_own_affair_is_not_carried(world: World) -> None:
    world.start()
    task = next(iter(world.processes[0].tasks))
    with pytest.raises(AssertionError, match="own affair"):
        world.network.carry(task, 1, GetMonotonicTime())


def test_a_process_that_drains_sees_to_its_dead_letters_first(world: World) -> None:
    world.start()
    [process] = world.processes
    until(world, lambda: not any(task.role is Role.ERRAND and task.pool == "" for task in process.tasks))
    pool = next(iter(world.pools))
    queue, policy = world.services.queue, world.settings.policy.queue
    url = queue.url_of(policy.dead_name(pool))
    assert url is not None
    queue.handle(world.queue.send_request(url, "no job"), world.agenda.now_s)
    world.network.look()
    until(world, lambda: any(task.role is Role.LETTER for task in process.tasks))
    process.drain()
    assert not process.ended
    until(world, lambda: process.ended)
    assert queue.messages(url) == {}


def test_who_asks_for_more_memory_than_there_is_waits_until_it_is_given_back(world: World) -> None:
    world.start()
    [process] = world.processes
    host, budget_bytes = process.host, world.settings.policy.worker.memory_budget_bytes
    ended: list[str] = []

    def holds(holder: str) -> Procedure[None]:
        yield ReserveMemory(holder, budget_bytes)
        yield Backoff(10.0)
        yield ReleaseMemory(holder, budget_bytes)
        ended.append(holder)

    for holder in ("first", "second"):
        driver = ProcedureDriver(host, partial(holds, holder))
        driver.start()
        Task(host, driver, Role.ERRAND, "", "", lambda: None).pump()
    assert [asked.holder for asked in host.memory.state.waiting] == ["second"]
    until(world, lambda: ended == ["first"])
    until(world, lambda: ended == ["first", "second"])
    assert host.memory.held_bytes == 0


@pytest.mark.parametrize("seed", range(50))
def test_no_copy_runs_out_between_the_moment_when_its_life_is_seen_and_the_answer(seed: int) -> None:
    """Whatever takes long takes as long as it may, and what is late comes just in time. Copies are made anew all the
    same, while they still serve.
    """
    drawn = draw_settings(Chance(seed))
    policy = drawn.policy
    redis_s, claim_s, lease_s = policy.redis.timeout_s, policy.server.claim_lease_s, policy.worker.lease_s
    published_s = max(claim_s, 4.0 + 2 * redis_s + 3 * 5.0 + lease_s)
    for pool in policy.pools:
        assert published_s + 5 * redis_s + 2 * 5.0 < pool.expiry_margin_s < pool.refresh_margin_s < drawn.lifespan_s


def test_the_calm_lasts_as_long_as_anybody_may_wait() -> None:
    drawn: Settings = draw_settings(Chance(1))
    policy = drawn.policy
    assert drawn.calm_s > policy.queue.patience_s + policy.worker.lease_s + policy.server.negative_s
