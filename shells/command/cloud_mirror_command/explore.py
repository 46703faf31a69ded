"""`cloud-mirror simulate --explore`: explores small worlds in several processes, and says what came of them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from cloud_mirror.simulator.explorer import MORE, WORLDS, Explored, Explorer, Size, diagram, small_policy
from cloud_mirror_command.common import console_for_people
from cloud_mirror_command.complaint import EXIT_FAILED


def timed(size: Size) -> tuple[Explored, float]:
    """Explore one world. Gives the seconds that it took, too."""
    began_s = time.monotonic()
    explored = Explorer(size).explore()
    return explored, time.monotonic() - began_s


def one_world(given: dict[str, int | None]) -> Size | None:
    """The world of which the command line gives anything (not None); None: it gives nothing.

    A lie is a fault: where no number of them is given, there is one. Only what goes in parts can be taken over.
    """
    parts: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if parts.get("lies"):
        parts.setdefault("faults", 1)
    if parts.get("lasting"):
        parts.setdefault("parts", 2)
    return Size(**parts) if parts else None


def explore(size: Size | None, jobs: int | None, drawing: Path | None, *, long: bool = False) -> int:
    """Explore that world, or the lists (None), a world in a process; the first violation ends it all.

    `drawing` is where the diagram of a violation goes, besides the output.
    """
    console = console_for_people()
    sizes: Sequence[Size] = (*WORLDS, *(MORE if long else ())) if size is None else (size,)
    most = min(len(sizes), jobs or os.cpu_count() or 1)
    with ProcessPoolExecutor(most, mp_context=get_context("spawn")) as pool:
        try:
            for future in [pool.submit(timed, each) for each in sizes]:
                explored, took_s = future.result()
                show(console, explored, took_s)
                if explored.violations:
                    return complain(console, explored, drawing)
        finally:
            pool.shutdown(cancel_futures=True)
    server = small_policy().server
    console.print(
        f"A request is held for at most {server.max_wait_s:g} s and polls every {server.poll_s:g} s: "
        f"{server.max_wait_s / server.poll_s:.0f} polls a request at most."
    )
    console.print("No invariant was violated.", style="bold green")
    return 0


def show(console: Console, explored: Explored, took_s: float) -> None:
    """What an exploration saw, as a line."""
    console.print(
        f"{explored.size}: {explored.worlds:,} situations, {explored.steps:,} steps, the deepest {explored.deepest:,} "
        f"steps deep, {explored.quiet:,} at rest; {took_s:,.1f} s",
        soft_wrap=True,
    )


def complain(console: Console, explored: Explored, drawing: Path | None) -> int:
    """Show what was violated, and the shortest way to it."""
    drawn = diagram(explored.size, explored.trace, explored.violations)
    for line in (*explored.trace, "", *drawn.splitlines(), ""):
        console.print(str(line), soft_wrap=True)
    for violation in explored.violations:
        console.print(violation, style="bold red", soft_wrap=True)
    if drawing is not None:
        drawing.write_text(drawn, "utf-8")
        console.print(f"The diagram is in {drawing}.", soft_wrap=True)
    return EXIT_FAILED
