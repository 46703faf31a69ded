"""Requests that are held, 1,000 and 10,000 of them in one process: what they take of memory, and who is answered.

Each waiter is a connection of its own, from this process. They ask for one URL, or for a hundred, and no back end
runs until all are held: then one starts, and they are answered. A second crowd meets no back end at all, and is
answered by its deadline. In the threaded shell a waiter holds a thread, and who finds none free is sent to the
origin at once: that this bound is kept is counted too.

Exit status 1 where anybody was left without an answer, or with another one than is due.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from benchmarks import page
from benchmarks.stage import Stage, stage
from cloud_mirror.policy import ServerPolicy
from cloud_mirror_command.limits import raise_open_files
from tests.fleet import REGION, SHELLS, Process

COUNTS: Final = (1_000, 10_000)
URLS: Final = (1, 100)
CONNECTING: Final = 200
"""Connections that are being made at once: well below what may wait for a server to take them."""

HELD_S: Final = 900.0
DEADLINE_S: Final = 30.0
LATE_S: Final = 10.0  # how much later the last of a crowd may be told: thousands are due at the same moment
COMING_S: Final = 60.0  # until all of them are held
PATIENCE_S: Final = 300.0
"""How long a crowd may take: far longer than it should."""

OWN_FILES: Final = 200  # what this process holds open besides its clients
COPIED: Final = "302 copied just-copied"
AT_DEADLINE: Final = "302 origin deadline"
TURNED_AWAY: Final = "302 origin too-many-waiters"


@dataclass(frozen=True)
class Case:
    """A crowd, and the room that a process has for it (None: for all)."""

    shell: str
    waiters: int
    urls: int
    threads: int | None = None

    @property
    def held(self) -> int:
        """How many of them a process should hold."""
        return self.waiters if self.threads is None else min(self.waiters, self.threads)

    @property
    def name(self) -> str:
        """The shell, and its threads where it counts them."""
        return self.shell if self.threads is None else f"{self.shell}, {self.threads:,} threads"


@dataclass
class Measured:
    """What came of a case."""

    case: Case
    held: int
    rss_before: int
    rss_held: int
    seconds: float
    answers: Counter[str]
    at_deadline: Counter[str] = field(default_factory=Counter)
    latest_s: float = 0.0

    @property
    def right(self) -> bool:
        """Whether everybody got the answer that was due, when it was due."""
        away = {TURNED_AWAY: self.case.waiters - self.case.held}
        due = {COPIED: self.case.held, **away}
        at_deadline = {AT_DEADLINE: self.case.held, **away}
        in_time = self.latest_s < DEADLINE_S + LATE_S
        return in_time and self.answers == Counter(due) and self.at_deadline == Counter(at_deadline)

    def line(self) -> list[str]:
        """The row of the table."""
        grown = self.rss_held - self.rss_before
        return [
            self.case.name,
            f"{self.case.waiters:,}",
            f"{self.case.urls:,}",
            f"{self.held:,}",
            f"{self.rss_before / 2**20:.0f} MiB",
            f"{self.rss_held / 2**20:.0f} MiB",
            f"{grown / 2**10 / max(1, self.held):.1f} KiB",
            _said(self.answers),
            _said(self.at_deadline),
            f"{self.latest_s:.1f} s",
        ]


HEAD: Final = (
    "shell",
    "requests",
    "URLs",
    "held",
    "memory before",
    "memory, all held",
    "a waiter",
    "answers, once a back end runs",
    "answers without one",
    f"the last, deadline {DEADLINE_S:.0f} s",
)


def _said(answers: Counter[str]) -> str:
    return ", ".join(f"{count:,} {answer.partition(' ')[2]}" for answer, count in answers.most_common())


def rss(process: Process) -> int:
    """The process's resident memory in bytes: VmRSS, which counts what it shares with others, and no socket buffers."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


async def _ask(front: Process, url: str, room: asyncio.Semaphore) -> tuple[str, float]:
    """The answer to one request in a line, and how long it took to come."""
    parts = urlsplit(front.base_url)
    async with room:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    target = f"/v1/redirect/s3/{REGION}/{quote(url, safe='')}"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: mirror\r\nConnection: close\r\n\r\n".encode())
    begun = time.monotonic()
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        outcome = re.search(r"^cloud-mirror: (\S+); reason=(\S+)\r$", head, re.IGNORECASE | re.MULTILINE)
        return " ".join([head.split()[1], *(outcome.groups() if outcome else ())]), time.monotonic() - begun
    finally:
        writer.close()


async def _ask_all(front: Process, urls: Sequence[str], waiters: int) -> list[tuple[str, float]]:
    room = asyncio.Semaphore(CONNECTING)
    asking = [asyncio.create_task(_ask(front, urls[number % len(urls)], room)) for number in range(waiters)]
    done, late = await asyncio.wait(asking, timeout=PATIENCE_S)
    for task in late:
        task.cancel()
    broken = [f"nothing ({type(error).__name__})" for task in done if (error := task.exception()) is not None]
    answered = [task.result() for task in done if task.exception() is None]
    return [*answered, *((what, 0.0) for what in [*broken, *["nothing"] * len(late)])]


def crowd(front: Process, urls: Sequence[str], waiters: int) -> list[tuple[str, float]]:
    """What each of them was answered, and when; `nothing` where it was not."""
    return asyncio.run(_ask_all(front, urls, waiters))


def _settings(case: Case, max_wait_s: float) -> dict[str, dict[str, Any]]:
    threads = {} if case.threads is None else {"threads": case.threads}
    return {"server": {"max_wait_s": max_wait_s, "start_wait_s": HELD_S, **threads}}


def measure(made: Stage, case: Case) -> Measured:
    """One case."""
    urls = [made.origin.put(f"/{case.shell}-{number}.bin", size=1_024, seed=number) for number in range(case.urls)]
    with made.fleet(shell=case.shell, settings=_settings(case, HELD_S)) as fleet, ThreadPoolExecutor(1) as beside:
        front = fleet.start("serve")
        for number in range(3):  # what is loaded by the first requests is no waiter's
            assert front.ask(f"{made.origin.url}/missing-{number}.bin").status == 404
        before = rss(front)
        asked = beside.submit(crowd, front, urls, case.waiters)
        with suppress(TimeoutError):  # the table says how many were held, and what the others were answered
            front.wait_for_metric("cloud_mirror_waiters", case.held, COMING_S)
            away = case.waiters - case.held  # whoever came once the copies are there would be sent to them
            front.wait_for_metric("cloud_mirror_requests_total", away, COMING_S, reason=TURNED_AWAY.split()[-1])
        held, at_held = int(front.metric("cloud_mirror_waiters")), rss(front)
        begun = time.monotonic()
        fleet.start("work")
        answers = Counter(answer for answer, _ in asked.result())
        result = Measured(case, held, before, at_held, time.monotonic() - begun, answers)
        front.wait_for_metric("cloud_mirror_waiters", 0)
    with made.fleet(shell=case.shell, settings=_settings(case, DEADLINE_S)) as fleet:
        late = crowd(fleet.start("serve"), urls, case.waiters)
        result.at_deadline = Counter(answer for answer, _ in late)
        result.latest_s = max(seconds for _, seconds in late)
    return result


def cases(shells: Sequence[str], counts: Sequence[int], urls: Sequence[int]) -> Iterator[Case]:
    """All that are measured: the threaded shell with the threads that it has by default, and for 1,000 with as many."""
    for shell in shells:
        for count in counts:
            default = ServerPolicy().threads if shell == "sync" else None
            for number in urls:
                yield Case(shell, count, number, default)
        if shell == "sync":
            yield Case(shell, counts[0], urls[0], counts[0])


def main() -> int:
    """Measure all, print the table; `--write` puts it into the page too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shell", action="append", choices=SHELLS)
    parser.add_argument("--waiters", action="append", type=int)
    parser.add_argument("--urls", action="append", type=int, help="how many URLs they ask for, one after another")
    parser.add_argument("--write", action="store_true", help="put the table into docs/choosing-a-shell.md")
    options = parser.parse_args()
    if options.write and (options.shell or options.waiters or options.urls):
        parser.error("the page has the whole table: --write goes with none of --shell, --waiters and --urls")
    counts = tuple(options.waiters or COUNTS)
    if (allowed := raise_open_files()) < max(counts) + OWN_FILES:
        print(f"this process may open {allowed:,} files: raise its hard limit (ulimit -Hn)", file=sys.stderr)
        return 2
    measured = []
    with stage() as made:
        for case in cases(options.shell or SHELLS, counts, options.urls or URLS):
            measured.append(measure(made, case))
            print(f"{' | '.join(measured[-1].line())}{'' if measured[-1].right else ' | WRONG'}", flush=True)
    text = page.table(HEAD, [each.line() for each in measured])
    print(f"\n{text}")
    if options.write:
        page.put("benchmarks.waiters", [text])
    return 0 if all(each.right for each in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
