"""Run by bites.py in a process of its own, on a copy of core: explore a world, or run seeds, and say what is wrong.

It has so many seconds of processor time, which do not depend on what else the machine does. `explore FRONTS BACKS
PURGES FAULTS [PARTS]` explores a small world, at most `AT_MOST` situations of it; `seeds A-B` runs these seeds, up to
the first that violates an invariant; `seeds A-B FAULT…` runs them in a storm of these faults alone, with slow bodies
and many purges. Prints JSON: `Found`.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cloud_mirror
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.explorer import Explorer, Size
from cloud_mirror.simulator.faults import Fault, Scope, Swarm
from cloud_mirror.simulator.settings import Settings, draw_settings
from cloud_mirror.simulator.simulation import Simulation

AT_MOST = 12_000
"""Every fault that an exploration catches shows by then; the unpatched core is explored as far."""


def explore(numbers: list[int]) -> dict[str, object]:
    fronts, backs, purges, faults, parts = (*numbers, 1)[:5]
    explored = Explorer(Size(fronts, backs, purges, faults, parts)).explore(AT_MOST)
    invariants = sorted({wrong.partition(":")[0] for wrong in explored.violations})
    return {"invariants": invariants, "wrong": explored.violations, "after": f"{len(explored.trace)} steps"}


def storm(seed: int, names: Sequence[str]) -> Settings | None:
    """The seed's own world in a storm of these faults, each as often as it is named; None: as the seed draws it."""
    if not names:
        return None
    faults = [Fault[name] for name in names]
    swarm = Swarm(tuple((fault, 0.02 if fault.scope is Scope.TIMED else 0.05) for fault in faults))
    drawn = draw_settings(Chance(seed).split("settings"))
    return replace(drawn, swarm=swarm, reading_s=2.0, asks=80, purges=20.0)


def run_seeds(first: int, last: int, names: Sequence[str]) -> dict[str, object]:
    for seed in range(first, last + 1):
        violations = Simulation(seed, storm(seed, names)).run().violations
        if violations:
            invariants = sorted({each.invariant for each in violations})
            wrong = [f"seed {seed}: {each.invariant}: {each.what}" for each in violations]
            return {"invariants": invariants, "wrong": wrong[:5], "after": f"{seed - first + 1} seeds"}
    return {"invariants": [], "wrong": [], "after": f"{last - first + 1} seeds"}


def main(within_s: str, core: str, how: str, *words: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(within_s), int(within_s)))
    where = Path(str(cloud_mirror.__file__))
    assert where.is_relative_to(core), f"the copy is in {core}, and {where} was imported"
    if how == "explore":
        found = explore([int(word) for word in words])
    else:
        first, _, last = words[0].partition("-")
        found = run_seeds(int(first), int(last), words[1:])
    json.dump(found | {"cpu_s": time.process_time()}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
