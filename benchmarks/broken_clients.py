"""1,000 clients for each shell that leave in the middle of anything: what its processes hold before and after them.

Exit status 1 where a task, a thread, a socket, a lease, or an object of the mirror's own is held afterwards that was
not held before.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.stage import stage
from tests.broken_clients import ward_of
from tests.fleet import SHELLS


def main() -> int:
    """Let them come and leave, and say what is left of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shell", action="append", choices=SHELLS)
    options = parser.parse_args()
    wrong = 0
    with stage() as made:
        for shell in options.shell or SHELLS:
            with ward_of(made.directory, made.valkey, made.seaweedfs, made.moto, shell) as ward:
                begun = time.monotonic()
                left = ward.admit(options.seed, options.clients)
                seconds = time.monotonic() - begun
                held = ward.held()
            wrong += len(left)
            print(
                f"{shell}: {options.clients:,} broken clients, quiet again after {seconds:.0f} s; left behind: ", end=""
            )
            print("\n  ".join(["", *left]) if left else "nothing")
            for kind in ("task", "thread", "idle thread", "socket", "file", "object"):
                counts = [
                    sum(count for name, count in held.items() if name.startswith(f"{who}: {kind} "))
                    for who in ("front end", "back end")
                ]
                print(f"  {kind + 's':<14} {counts[0]:>6} in the front end {counts[1]:>6} in the back end", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
