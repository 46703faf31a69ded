"""Faults of the kind that real systems had, each a patch against core, and what the simulator or explorer says of it.

`python -m tests.simulator.bites` runs them all, notes in each patch how soon it was caught, and writes the table of
docs/simulator.md from the patches' headers; with names, it runs these alone. test_bites.py runs them too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "faults"
PAGE = ROOT / "docs" / "simulator.md"
BEGIN, END = "<!-- bites: begin -->", "<!-- bites: end -->"
WITHIN_S = 60
"""A fault must be caught by then, in seconds of one processor's time."""


@dataclass(frozen=True)
class Patch:
    """A patch's header: what it does, where such a fault was seen, which invariants it breaks, and what catches it."""

    path: Path
    fault: str
    seen: str
    breaks: frozenset[str]
    caught_by: str
    after: str


@dataclass(frozen=True)
class Found:
    """What a run says: the invariants that were violated, in words too, after how many steps or seeds."""

    invariants: frozenset[str]
    wrong: str
    after: str
    cpu_s: float


def read_patch(path: Path) -> Patch:
    head, _, _ = path.read_text("utf-8").partition("\n---\n")
    named = dict(line.partition(": ")[::2] for line in head.splitlines())
    breaks = frozenset(named["Breaks"].split(", "))
    return Patch(path, named["Fault"], named["Seen"], breaks, named["Caught-by"], named["After"])


def patches() -> list[Patch]:
    return [read_patch(path) for path in sorted(FOLDER.glob("*.patch"))]


def copy_core(folder: Path, patch: Path | None = None) -> Path:
    """A copy of core in a folder, patched; fails where the patch does not apply."""
    shutil.copytree(ROOT / "core", folder / "core")
    if patch is not None:
        alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
        command = ["git", "apply", str(patch)]
        applied = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
        if applied.returncode:
            raise AssertionError(f"{patch.name} does not apply any more; make it anew:\n{applied.stderr}")
    return folder / "core"


def run(core: Path, how: str, within_s: int = WITHIN_S) -> Found:
    """Run `explore …` or `seeds …` with that core."""
    program = str(Path(__file__).with_name("bite.py"))
    command = [sys.executable, program, str(within_s), str(core), *how.split()]
    surroundings = os.environ | {"PYTHONPATH": str(core)}
    ran = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert ran.returncode != -signal.SIGXCPU, f"`{how}` found nothing within {within_s} s"
    assert ran.returncode == 0, f"`{how}`: {ran.stderr}"
    found = json.loads(ran.stdout)
    return Found(frozenset(found["invariants"]), "\n".join(found["wrong"]), found["after"], found["cpu_s"])


def bite(patch: Patch) -> Found:
    """What is said of a patched core."""
    with tempfile.TemporaryDirectory() as folder:
        return run(copy_core(Path(folder), patch.path), patch.caught_by)


def together(runs: Iterable[str]) -> list[str]:
    """Each world once, and each seed once; storms as they are."""
    said = set(runs)
    seeds = [each for each in said if each.startswith("seeds") and each.count(" ") == 1]
    last = max((int(each.rpartition("-")[2]) for each in seeds), default=-1)
    return [*sorted(said.difference(seeds)), *([f"seeds 0-{last}"] if last >= 0 else [])]


def table(all_patches: Iterable[Patch]) -> str:
    """The table of docs/simulator.md."""
    lines = ["| fault | seen in kind | breaks | caught by |", "| --- | --- | --- | --- |"]
    for each in all_patches:
        kind, _, what = each.caught_by.partition(" ")
        span, _, storm = what.partition(" ")
        seeds = f"seeds {span.replace('-', ' to ')}" + (f" in a storm of `{storm}`" if storm else "")
        world = f"exploring `{what}`" if kind == "explore" else seeds
        title = f"[{each.fault}](../tests/simulator/faults/{each.path.name})"
        lines.append(
            f"| {title} | {each.seen} | {', '.join(sorted(f'`{name}`' for name in each.breaks))} | "
            f"{world}, after {each.after} |"
        )
    return "\n".join(lines)


def page(all_patches: Iterable[Patch]) -> str:
    """docs/simulator.md with its table made anew."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(all_patches)}\n\n{END}{after}"


def _note(patch: Patch) -> str:
    """Run a patch, and write into its header after how much it was caught."""
    try:
        found = bite(patch)
    except AssertionError as error:
        return f"{patch.path.stem}: {error}"
    if not patch.breaks & found.invariants:
        return f"{patch.path.stem}: NOT CAUGHT {found}"
    text = patch.path.read_text("utf-8")
    patch.path.write_text(re.sub(r"^After: .*$", f"After: {found.after}", text, count=1, flags=re.MULTILINE), "utf-8")
    return f"{patch.path.stem}: {', '.join(sorted(found.invariants))} after {found.after}, {found.cpu_s:.1f} s"


if __name__ == "__main__":
    chosen = [each for each in patches() if not sys.argv[1:] or each.path.stem in sys.argv[1:]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for line in pool.map(_note, chosen):
            sys.stdout.write(f"{line}\n")
    PAGE.write_text(page(patches()), "utf-8")
