"""A burst of new URLs of one origin, each asked for once, all at the same moment, in one process: what they get.

Every URL is there. No back end runs, so each request should be told so (`not-started`), once its URL was looked into
and its job sent. Whoever is told something else was failed by the front end itself. Jobs are taken by a stand-in for
the queue, which does not keep them: the queue of the tests would be measured instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Final

from benchmarks import page
from benchmarks.stage import Stage, stage
from benchmarks.waiters import crowd
from cloud_mirror_command.limits import raise_open_files
from tests.fleet import SHELLS, sends_message

HELD_S: Final = 120.0
SENT: Final = b'{"MessageId": "1"}'
NOT_STARTED: Final = "302 origin not-started"
HEAD: Final = ("shell", "new URLs", "answers", "all answered after", "HEADs")


def measure(made: Stage, shell: str, urls: int, head_delay_s: float) -> list[str]:
    """One burst, as a row of the table."""
    asked = [
        made.origin.put(f"/{shell}-burst-{number}.bin", size=1_024, seed=number, head_delay_s=head_delay_s)
        for number in range(urls)
    ]
    settings = {"server": {"max_wait_s": HELD_S, "start_wait_s": 2.0, "threads": urls}}
    made.queue_proxy.answer(200, body=SENT, when=sends_message)
    with made.fleet(shell=shell, settings=settings, queue_url=made.queue_proxy.url) as fleet:
        front = fleet.start("serve")
        made.origin.forget()
        begun = time.monotonic()
        answers = Counter(answer for answer, _ in crowd(front, asked, urls))
        seconds = time.monotonic() - begun
    said = ", ".join(f"{count:,} {answer.partition(' ')[2]}" for answer, count in answers.most_common())
    made.queue_proxy.clear()
    heads = made.origin.count_matching("^HEAD$", "-burst-")
    return [shell, f"{urls:,}", said, f"{seconds:.1f} s", f"{heads:,}"]


def main() -> int:
    """Measure each shell, and print the table; exit status 1 where anybody was told something else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shell", action="append", choices=SHELLS)
    parser.add_argument("--urls", type=int, default=1_000)
    parser.add_argument("--head-delay-s", type=float, default=0.05, help="how long the origin takes to answer a HEAD")
    options = parser.parse_args()
    raise_open_files()
    lines = []
    with stage() as made:
        for shell in options.shell or SHELLS:
            lines.append(measure(made, shell, options.urls, options.head_delay_s))
            print(" | ".join(lines[-1]), flush=True)
    print(f"\n{page.table(HEAD, lines)}")
    said = f"{options.urls:,} {NOT_STARTED.partition(' ')[2]}"
    return 0 if all(line[2] == said for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
