"""200 requests at once for one new URL, over two front ends: how many reach the origin, how many jobs are sent?

Twenty rounds, each on an empty cache, for each of three times that the origin takes to answer HEAD. Exit status 1
where a round makes more (or less) than one GET and one job, or any client gets anything but the copy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from benchmarks.stage import stage
from tests.crowd import Crowd, Tally

ROUNDS: Final = 20
HEAD_DELAYS_S: Final = (0.0, 0.02, 0.1)
GOOD: Final = {(302, "copied"), (302, "hit")}
"""A client that comes so late that the copy is there already gets a hit."""


def good(tally: Tally) -> bool:
    """Whether a round was as it should be."""
    outcomes = {(getattr(reply, "status", None), getattr(reply, "outcome", None)) for reply in tally.replies}
    locations = {reply.location for reply in tally.replies} if outcomes <= GOOD else set()
    return (tally.gets, tally.jobs, len(locations)) == (1, 1, 1)


WIDTHS: Final = {"requests": 8, "GETs": 7, "jobs": 7, "302s": 9, "seconds a round": 15}


def line(delay_s: float, tallies: list[Tally]) -> str:
    """A line of the table: for each number the least and the most of any round."""
    spans = {
        "requests": _span([len(tally.replies) for tally in tallies]),
        "GETs": _span([tally.gets for tally in tallies]),
        "jobs": _span([tally.jobs for tally in tallies]),
        "302s": _span([sum(getattr(reply, "status", 0) == 302 for reply in tally.replies) for tally in tallies]),
        "seconds a round": _span([round(tally.seconds, 2) for tally in tallies]),
    }
    shown = "  ".join(f"{span:>{WIDTHS[title]}}" for title, span in spans.items())
    return f"{delay_s * 1000:>7.0f} ms  {len(tallies):>6}  {shown}"


def main() -> int:
    """Run all rounds, print a line for each delay."""
    titles = ("requests", "GETs", "jobs", "302s", "seconds a round")
    print(f"{'HEAD takes':>10}  {'rounds':>6}  " + "  ".join(f"{title:>{WIDTHS[title]}}" for title in titles))
    failed = 0
    with stage() as made, made.fleet(queue_url=made.queue_proxy.url) as fleet:
        fronts, back = [fleet.start("serve"), fleet.start("serve")], fleet.start("work")
        crowd = Crowd(fleet, fronts, back, made.origin, made.queue_proxy)
        for delay_s in HEAD_DELAYS_S:
            tallies = [crowd.ask(f"/{delay_s}-{number}.bin", delay_s) for number in range(ROUNDS)]
            failed += sum(not good(tally) for tally in tallies)
            print(line(delay_s, tallies), flush=True)
    print("every round made one GET and one job" if not failed else f"{failed} rounds did not make exactly one copy")
    return 1 if failed else 0


def _span(numbers: Sequence[float]) -> str:
    return f"{min(numbers)}..{max(numbers)}" if min(numbers) != max(numbers) else f"{min(numbers)}"


if __name__ == "__main__":
    sys.exit(main())
