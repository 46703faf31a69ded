"""Purge against a copy in flight, many times: `python benchmarks/purge_race.py --runs 200 --seed 1`.

Starts servers and processes of its own on loopback. Prints how often each point of the copy was tried and how often
something was wrong, and exits with 1 if anything was.
"""

import argparse
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.purge_race import SPOTS, Kind, Outcome, arena_of, plans
from tests.servers import Moto, SeaweedFS, Valkey


def run(seed: int, runs: int) -> list[Outcome]:
    """All runs, one after the other, with a line for each that went wrong."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="purge-race-")))
        valkey, seaweedfs, moto = servers = Valkey(directory), SeaweedFS(directory), Moto(directory)
        for server in servers:
            stack.callback(server.stop)
            server.start()
        arena = stack.enter_context(arena_of(directory, valkey, seaweedfs, moto))
        outcomes = []
        for number, plan in enumerate(plans(seed, runs), 1):
            outcome = arena.run(plan)
            outcomes.append(outcome)
            for violation in outcome.violations:
                print(f"{plan}: {violation}")
            if number % 20 == 0:
                print(f"{number} of {runs} runs done", file=sys.stderr)
        return outcomes


def show(seed: int, outcomes: list[Outcome]) -> None:
    """The table: runs by point and kind, not held and held, and what was wrong."""
    runs: Counter[tuple[str, Kind, bool]] = Counter()
    wrong: Counter[str] = Counter()
    for outcome in outcomes:
        plan = outcome.plan
        runs[plan.spot.name, plan.kind, plan.held] += 1
        wrong[plan.spot.name] += bool(outcome.violations)
    columns = [(kind, held) for kind in Kind for held in (False, True)]
    heads = [f"{kind.name.lower()} {'held' if held else 'free'}" for kind, held in columns]
    print(f"{'point of the copy':<24}" + "".join(f"{head:>16}" for head in [*heads, "violations"]))
    for spot in SPOTS:
        counts = [runs[spot.name, *column] for column in columns]
        print(f"{spot.name:<24}" + "".join(f"{count:>16}" for count in [*counts, wrong[spot.name]]))
    totals = [sum(count for (_, *column), count in runs.items() if tuple(column) == each) for each in columns]
    print(f"{'all':<24}" + "".join(f"{count:>16}" for count in [*totals, sum(wrong.values())]))
    seconds = sorted(outcome.seconds for outcome in outcomes)
    told = Counter(word for outcome in outcomes for word in outcome.new)
    answers = ", ".join(f"{count} {word}" for word, count in told.most_common())
    print(f"new requests were answered by: {answers}")
    print(f"seed {seed}: {len(outcomes)} runs, median {seconds[len(seconds) // 2]:.2f} s, longest {seconds[-1]:.2f} s")


def main() -> int:
    """Run, show, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcomes = run(options.seed, options.runs)
    show(options.seed, outcomes)
    return 1 if any(outcome.violations for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
