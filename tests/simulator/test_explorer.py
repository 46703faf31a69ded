"""What the explorer counts as a situation and as a step, and that a world seen twice is the same world."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.driver import Driver
from cloud_mirror.simulator.explorer import Explorer, Size
from cloud_mirror.simulator.explorer.board import Step, World

SIZES = (
    Size(fronts=2, backs=2, purges=1, faults=4),
    Size(fronts=2, backs=1, purges=2, faults=3, parts=2),
    Size(fronts=1, backs=2, purges=1, faults=3, parts=2, lies=True),
    Size(fronts=2, backs=1, purges=1, parts=3),
)


def walk(explorer: Explorer, chance: Chance) -> Iterator[tuple[World, Step, World]]:
    """A way through a world by chance, to its end: where each step was taken, the step, and where it led."""
    world = explorer.rules.start()
    while found := explorer.rules.steps(world)[0]:
        step = chance.pick(found)
        after = explorer.rules.after(world, step)
        yield world, step, after
        world = after


@settings(max_examples=60)
@given(st.sampled_from(SIZES), st.integers(0, 2**32))
def test_a_fork_goes_on_as_its_original(size: Size, seed: int) -> None:
    """Each process on the way was made by forks alone. One that is told all of it, and never forked, is the same."""
    explorer = Explorer(size)
    nodes, rules = explorer.parts.nodes.parts, explorer.rules
    drivers: dict[int, Driver] = {}
    for world, _, after in walk(explorer, Chance(seed)):
        for place in rules.processes:
            driver = nodes[after[place]].driver
            if driver is None:
                continue
            explorer.parts.clock.now = explorer.parts.weathers.parts[after[rules.weather]].now
            twin = driver.fork()
            assert twin.key() == driver.key()
            assert list(twin.calls) == list(driver.calls)
            assert [type(call) for call in twin.calls.values()] == [type(call) for call in driver.calls.values()]
            drivers[place] = twin
        del world
