"""Sixteen large copies at once in one worker: the most memory that it ever has, beside the budget that it was given.

nginx serves the objects, into the store that accepts and forgets (`benchmarks.forgetful`). The figure is the process's
peak of resident memory (VmHWM, Linux) from its start to the end of the last copy: interpreter, libraries and all.

Exit status 1 where it is more than 120 MiB above the budget.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from benchmarks import page
from benchmarks.copying import MIB, Ground, bench, ground, peak_bytes
from tests.fleet import SHELLS

OBJECT: Final = "large.bin"
ABOVE_MIB: Final = 120
HEAD: Final = ("shell", "before", "peak", "above the budget", "most copies at once", "MiB/s of all")


def measure(on: Ground, shell: str, options: argparse.Namespace) -> tuple[tuple[str, ...], bool]:
    """All copies by one shell: their line of the table, and whether they stayed within."""
    settings = {
        "worker": {"concurrency": options.copies, "memory_budget": f"{options.budget}MiB", "part_size": "16MiB"}
    }
    where = {"store_url": on.forgetful.endpoint_url, "queue_url": on.queue.url}
    with bench(on, shell=shell, settings=settings, **where) as made:
        worker = made.fleet.start("work")
        urls = [on.origin.url + on.origin.path(OBJECT, f"{shell}-{number}") for number in range(options.copies)]
        before, begun, most = peak_bytes(worker), time.monotonic(), 0
        made.send(urls)
        waiting = set(urls)
        while waiting:
            most = max(most, int(worker.metric("cloud_mirror_copying")))
            waiting = {url for url in waiting if not made.is_present(url)}
            if time.monotonic() > begun + options.patience:
                raise SystemExit(f"{shell}: {len(waiting)} copies were not made in {options.patience} s")
            time.sleep(0.1)
        seconds, peak = time.monotonic() - begun, peak_bytes(worker)
    above = peak / MIB - options.budget
    line = (
        shell,
        f"{before / MIB:.0f} MiB",
        f"{peak / MIB:.0f} MiB",
        f"{above:.0f} MiB",
        str(most),
        f"{options.copies * options.mib / seconds:.0f}",
    )
    return line, above <= ABOVE_MIB and most == options.copies


def main() -> int:
    """Copy by each shell, print the table; `--write` puts it into the page too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--copies", type=int, default=16)
    parser.add_argument("--budget", type=int, default=256, help="in MiB")
    parser.add_argument("--patience", type=int, default=1_800, help="in seconds")
    parser.add_argument("--shell", action="append", choices=SHELLS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    lines, right = [], True
    with ground() as on:
        on.origin.put(OBJECT, options.mib * MIB)
        for shell in options.shell or SHELLS:
            line, good = measure(on, shell, options)
            lines.append(line)
            right = right and good
            print(" | ".join(line), flush=True)
    page.show([page.table(HEAD, lines)], options.write)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
