"""`cloud-mirror simulate`: runs seeds of the simulator in several processes, and says what came of them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cloud_mirror import copy_table, redirect_table
from cloud_mirror.simulator.faults import Fault
from cloud_mirror.simulator.simulation import Result, last_words, run
from cloud_mirror_command.common import console_for_people
from cloud_mirror_command.complaint import EXIT_FAILED

BATCH: Final = 10
"""How many seeds a process runs at a time."""

ENOUGH: Final = 5
"""After so many seeds that violate something, no more are begun."""


@dataclass(slots=True)
class Summary:
    """What came of many runs."""

    runs: int = 0
    virtual_s: float = 0.0
    happenings: int = 0
    taken: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one more run."""
        self.runs += 1
        self.virtual_s += result.virtual_s
        self.happenings += result.happenings
        for taken, count in result.taken.items():
            self.taken[taken.phase.value, taken.event, taken.row.value] += count
        self.faults.update(result.faults)
        self.answers.update(result.answers)
        if result.violations:
            self.failed.append(result)


def run_batch(seeds: tuple[int, ...]) -> list[Result]:
    """Some seeds, one after another."""
    return [run(seed) for seed in seeds]


def replay(seed: int) -> int:
    """Run one seed again, and print its trace, line by line."""
    console = console_for_people()
    result = run(seed, traced=True)
    for line in result.trace:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"\nseed {seed}: {result.virtual_s:,.0f} virtual seconds, digest {result.digest}", highlight=False)
    for violation in result.violations:
        text = f"{violation.invariant} at {violation.at_s:.6f}: {violation.what}"
        console.print(text, markup=False, style="bold red", soft_wrap=True)
    return EXIT_FAILED if result.violations else 0


def many(first: int, count: int, jobs: int | None) -> int:
    """Run seeds `first` to `first + count - 1` in so many processes (None: one for each core)."""
    console = console_for_people()
    began_s = time.monotonic()
    summary = Summary()
    columns = (TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("seeds", total=count)
        for result in _results(range(first, first + count), jobs or os.cpu_count() or 1):
            summary.add(result)
            progress.advance(task)
            if len(summary.failed) >= ENOUGH:
                break
    show(console, summary, time.monotonic() - began_s)
    return EXIT_FAILED if summary.failed else 0


def _results(seeds: Iterable[int], jobs: int) -> Iterator[Result]:
    """The results in the order of their seeds; never more is begun than keeps the processes busy."""
    remaining = iter(seeds)
    batches = iter(lambda: tuple(islice(remaining, BATCH)), ())
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        begun = [pool.submit(run_batch, batch) for batch in islice(batches, 2 * jobs)]
        try:
            while begun:
                results = begun.pop(0).result()
                begun += [pool.submit(run_batch, batch) for batch in islice(batches, 1)]
                yield from results
        finally:
            pool.shutdown(cancel_futures=True)


def show(console: Console, summary: Summary, took_s: float) -> None:
    """The summary: how much was run, which rows of the tables were taken, which faults happened, what was violated."""
    taken: Counter[str] = Counter()
    cells: dict[str, int] = {}
    for (phase, event, row), count in summary.taken.items():
        taken[row] += count
        cells[f"{phase}, {event}"] = cells.get(f"{phase}, {event}", 0) + count
    tables = (("redirect machine", redirect_table.Row), ("copy machine", copy_table.Row))
    for title, rows in tables:
        table = Table(title=f"{title}: rows taken", title_justify="left")
        table.add_column("row")
        table.add_column("times", justify="right")
        for each in rows:
            count = taken[each.value]
            table.add_row(each.value, f"{count:,}" if count else "never", style="" if count else "yellow")
        console.print(table)
    faults = Table(title="faults that happened", title_justify="left")
    faults.add_column("fault")
    faults.add_column("times", justify="right")
    for fault in Fault:
        count = summary.faults[fault.value]
        faults.add_row(fault.value, f"{count:,}" if count else "never", style="" if count else "yellow")
    console.print(faults)
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in summary.answers.most_common())
    console.print(f"answers: {told}", highlight=False)
    console.print(
        f"{summary.runs:,} seeds, {summary.virtual_s:,.0f} virtual seconds in {took_s:,.1f} s: "
        f"{summary.virtual_s / max(took_s, 1e-9):,.0f} times real time; {summary.happenings:,} happenings, "
        f"{len(cells):,} pairs of state and event",
        highlight=False,
        soft_wrap=True,
    )
    for result in summary.failed:
        violation = result.violations[0]
        for line in last_words(result):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        text = f"seed {result.seed}: {violation.invariant} at {violation.at_s:.3f} s: {violation.what}"
        console.print(text, markup=False, style="bold red", soft_wrap=True)
        console.print(f"replay it: cloud-mirror simulate --seed {result.seed}", highlight=False)
    if not summary.failed:
        console.print("No invariant was violated.", style="bold green")
