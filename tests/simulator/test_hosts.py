"""Simulated processes are as fair to an origin's host as shells are; in the explorer nobody waits for one."""

from dataclasses import replace

from cloud_mirror.host import Permit
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.explorer.nodes import Clock
from cloud_mirror.simulator.faults import Swarm
from cloud_mirror.simulator.settings import Settings, draw_settings
from cloud_mirror.simulator.simulation import Simulation
from cloud_mirror.wire.calls import BodyPaced, EnterHost, HostEntered, PaceBody


def calm(connections: int, bytes_per_s: int) -> Settings:
    """A world in which nothing goes wrong, and one process does everything."""
    drawn = draw_settings(Chance(3).split("settings"))
    source = replace(drawn.policy.source, per_host_connections=connections, per_host_bytes_per_s=bytes_per_s)
    policy = replace(drawn.policy, source=source)
    return replace(drawn, policy=policy, swarm=Swarm(), fronts=0, backs=0, both=1, purges=0.0, asks=200)


def most_at_once(settings: Settings) -> int:
    """How many bodies the origin had open at once, in a run without violations."""
    simulation = Simulation(3, settings)
    network, most = simulation.world.network, 0
    opened = network._opened

    def counted(*arguments: object) -> None:
        nonlocal most
        opened(*arguments)  # type: ignore[arg-type]  # whatever it was called with
        most = max(most, len(network.bodies))

    network._opened = counted  # type: ignore[method-assign, assignment]  # to look in
    assert simulation.run().violations == ()
    return most


def test_a_process_asks_no_more_at_once_than_it_may() -> None:
    assert most_at_once(calm(1, 0)) == 1
    assert most_at_once(calm(64, 0)) > 1


def test_bodies_that_come_slowly_come_all_the_same() -> None:
    assert most_at_once(calm(2, 500)) == 2


def test_in_a_small_world_nobody_waits() -> None:
    clock = Clock()
    assert clock.entered(EnterHost("a:443", 5.0)) == HostEntered(Permit("a:443", 0), 0.0)
    assert clock.paced(PaceBody(1, 10**9)) == BodyPaced(0.0)
