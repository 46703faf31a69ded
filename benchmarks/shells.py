"""The shells beside each other: hits a second, and the time to import one.

Hits: `wrk` asks for one URL whose copy is there, over 16 connections that are kept alive, from one core; the front end
has another core for itself. Redis has a third where there is one, else that of `wrk`. The rounds of the shells take
turns, so that what disturbs the machine disturbs all of them.

Import: a new interpreter's time to import a shell's package, beside that of one that imports nothing, both on one core.

The figures are medians, with the ratio to asyncio's beside them: another machine gives other figures, and nearly the
same ratios. Exit status 1 where anything but a hit came.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from benchmarks import page
from benchmarks.stage import stage
from tests.fleet import REGION, SHELLS, Process

CONNECTIONS: Final = 16
ROUNDS: Final = 5
ROUND_S: Final = 10
WARM_UP_S: Final = 2
IMPORTS: Final = 15
NO_WRK: Final = "wrk is missing: install it (Debian and Ubuntu: apt install wrk; else from github.com/wg/wrk)"


class NoHitError(Exception):
    """Something else than hits came."""


def pin(pid: int | None, core: int) -> None:
    """Keep a process, all threads that it has and will have, on one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def load(front: Process, target: str, core: int, seconds: int) -> float:
    """Requests a second, by wrk."""
    before = front.metric("cloud_mirror_requests_total", outcome="hit")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", front.base_url + target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        pin(wrk.pid, core)  # its one thread is made later, or is pinned now
        said = wrk.communicate(timeout=seconds + 60)[0]
    rate = re.search(r"^Requests/sec:\s+([\d.]+)$", said, re.MULTILINE)
    count = re.search(r"^\s*(\d+) requests in ", said, re.MULTILINE)
    if rate is None or count is None or "Non-2xx or 3xx" in said or "Socket errors" in said:
        raise NoHitError(f"{front.name}: wrk says\n{said}")
    hits = front.metric("cloud_mirror_requests_total", outcome="hit") - before
    if hits < int(count[1]):
        raise NoHitError(f"{front.name}: of {count[1]} requests {hits:.0f} were hits")
    return float(rate[1])


def hits(rounds: int, seconds: int) -> dict[str, list[float]]:
    """Requests a second, by shell and round."""
    cores = sorted(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {shell: [] for shell in SHELLS}
    with stage() as made, made.fleet() as fleet:
        url = made.origin.put("/hit.bin", size=1_024)
        pin(made.valkey.pid, cores[-1])
        fronts = {shell: fleet.start("serve", shell=shell) for shell in SHELLS}
        back = fleet.start("work")
        back.wait_for_metric("cloud_mirror_copying", 0)
        target = f"/v1/redirect/s3/{REGION}/{quote(url, safe='')}"
        for front in fronts.values():
            pin(front.pid, cores[0])
            if front.ask(url).status != 302:
                raise NoHitError(f"{front.name} made no copy")
            load(front, target, cores[1], WARM_UP_S)
        for number in range(rounds):
            for shell, front in fronts.items():
                rates[shell].append(load(front, target, cores[1], seconds))
                print(f"round {number + 1}, {shell}: {rates[shell][-1]:,.0f} hits a second", flush=True)
    return rates


def _import_s(program: str, core: int) -> float:
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        pin(process.pid, core)
        status = process.wait()
    if status != 0:
        raise RuntimeError(f"{program!r} ended with {status}")
    return time.perf_counter() - begun


def imports(times: int) -> dict[str, list[float]]:
    """Seconds by shell, and under "" those of an interpreter that imports nothing."""
    core = min(os.sched_getaffinity(0))
    programs = {"": "pass", **{shell: f"import cloud_mirror_{shell}" for shell in SHELLS}}
    for program in programs.values():  # the first import of all writes the compiled files
        _import_s(program, core)
    taken: dict[str, list[float]] = {shell: [] for shell in programs}
    for _ in range(times):
        for shell, program in programs.items():
            taken[shell].append(_import_s(program, core))
    return taken


def tables(rates: dict[str, list[float]], taken: dict[str, list[float]]) -> list[str]:
    """Both tables in Markdown."""
    first = SHELLS[0]
    rate = {shell: statistics.median(values) for shell, values in rates.items()}
    bare_s = statistics.median(taken[""])
    import_s = {shell: statistics.median(taken[shell]) - bare_s for shell in SHELLS}
    return [
        page.table(
            ("shell", "hits a second", "least to most", f"to {first}'s"),
            [
                (
                    shell,
                    f"{rate[shell]:,.0f}",
                    f"{min(rates[shell]):,.0f} to {max(rates[shell]):,.0f}",
                    f"{rate[shell] / rate[first]:.2f}",
                )
                for shell in SHELLS
            ],
        ),
        page.table(
            ("shell", "time to import", f"to {first}'s"),
            [
                (shell, f"{1000 * import_s[shell]:.0f} ms", f"{import_s[shell] / import_s[first]:.2f}")
                for shell in SHELLS
            ],
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables; `--write` puts them into the page too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=int, default=ROUND_S, help="how long a round takes")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/choosing-a-shell.md")
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        print(NO_WRK, file=sys.stderr)
        return 2
    if len(os.sched_getaffinity(0)) < 2:
        print("two cores are needed: one for the front end, one for wrk", file=sys.stderr)
        return 2
    taken = imports(IMPORTS)
    try:
        rates = hits(options.rounds, options.seconds)
    except NoHitError as error:
        print(error, file=sys.stderr)
        return 1
    made = tables(rates, taken)
    print("\n" + "\n\n".join(made))
    if options.write:
        page.put("benchmarks.shells", made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
