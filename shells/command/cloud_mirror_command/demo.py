"""`cloud-mirror demo`: the main job shown on this machine, each step compared with what it should give."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from cloud_mirror.keys import entry_key
from cloud_mirror_command import ask
from cloud_mirror_command.common import console_for_people
from cloud_mirror_command.complaint import EXIT_FAILED, Failure
from cloud_mirror_command.demo_parts import POOL, SAMPLES, TOKEN, Sample, Stage, last_words, stage
from cloud_mirror_command.shells import ShellName, load_shell

LOOK_S: Final = 0.1
"""How often the progress of a copy is looked at."""


def run(shell: ShellName, *, once: bool) -> int:
    """Show every step; then stay until Ctrl-C, or with `once` end: with 0 only if each step gave what it should."""
    load_shell(shell)
    console = console_for_people()
    signal.signal(signal.SIGTERM, _interrupt)
    console.print("Starting an origin, a store, a queue, a cache, and a mirror between them ...")
    with stage(shell) as made:
        show = Show(made, console)
        show.all()
        if show.failures:
            steps = "step" if show.failures == 1 else "steps"
            console.print(f"{show.failures} {steps} did not give what they should.", style="bold red")
            console.print(last_words(made))
        else:
            console.print("Every step gave what it should.", style="bold green")
        if not once:
            _stay(made, console)
            return 0
        return EXIT_FAILED if show.failures else 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@dataclass(slots=True)
class Show:
    """The steps, and how many of them went wrong."""

    stage: Stage
    console: Console
    failures: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    locations: dict[str, str] = field(default_factory=dict)

    def all(self) -> None:
        """Every step in its turn."""
        self.digests = {sample.name: sample.sha256() for sample in SAMPLES}
        self.console.print("\nFirst requests: each object is copied while the client waits, then redirected.")
        for sample in SAMPLES:
            self._step(sample, "copied")
        self.console.print("\nSecond requests: redirected at once.")
        for sample in SAMPLES:
            self._step(sample, "hit", origin_asked=False)
        self.stage.cache.flushall()
        self.console.print("\nThe cache is flushed: the copies are found in the store, the origin hears nothing.")
        for sample in SAMPLES:
            self._step(sample, "backfill", origin_asked=False)
        self.console.print("\nA purge: the old copy is forgotten, and a new one is made.")
        self._purge(SAMPLES[1])
        self._step(SAMPLES[1], "copied", elsewhere=True)

    def _step(self, sample: Sample, outcome: str, *, origin_asked: bool = True, elsewhere: bool = False) -> None:
        """One request, followed to the bytes; what is wrong with it is said and counted."""
        asked_before = len(self.stage.origin.requests)
        started = time.monotonic()
        try:
            redirect = self._redirect(sample)
            waited_s = time.monotonic() - started
            asked = len(self.stage.origin.requests) > asked_before
            with Path(os.devnull).open("wb") as sink:
                fetched = ask.download(redirect, sink, lambda _done, _total: None)
        except Failure as failure:
            self._tell(sample.name, [str(failure)], "")
            return
        wrong = []
        if redirect.outcome.partition(";")[0] != outcome:
            wrong.append(f"the outcome should be {outcome}")
        if asked is not origin_asked:
            wrong.append("the origin was asked" if asked else "the origin was not asked")
        if fetched.sha256 != self.digests[sample.name]:
            wrong.append("the bytes are not the origin's")
        if elsewhere and redirect.location == self.locations[sample.name]:
            wrong.append("the redirect leads to the old copy")
        self.locations[sample.name] = redirect.location
        self._tell(
            sample.name, wrong, f"{redirect.outcome}; {waited_s * 1000:.0f} ms; SHA-256 {fetched.sha256[:16]}..."
        )

    def _purge(self, sample: Sample) -> None:
        try:
            with ask.sent(
                "DELETE", self.stage.target(sample).purge_url, {"Authorization": f"Bearer {TOKEN}"}
            ) as response:
                status = response.status
        except Failure as failure:
            self._tell(sample.name, [str(failure)], "")
            return
        self._tell(sample.name, [] if status == 204 else ["a purge should give 204"], f"purge: {status}")

    def _redirect(self, sample: Sample) -> ask.Redirect:
        """The mirror's redirect; while it is awaited, the copy's progress as the cache has it."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        quiet = not self.console.is_terminal
        pool = ThreadPoolExecutor(1)
        try:
            with Progress(*columns, console=self.console, transient=True, disable=quiet) as progress:
                task = progress.add_task(f"{sample.name}: waiting", total=None)
                future = pool.submit(ask.redirect_of, self.stage.target(sample))
                return _awaited(future, lambda: self._look(sample, progress, task))
        finally:
            pool.shutdown(wait=False)  # on Ctrl-C the mirror, when it is stopped, answers what is still waiting

    def _look(self, sample: Sample, progress: Progress, task: TaskID) -> None:
        key = entry_key(POOL, f"{self.stage.origin.base}/{sample.name}")
        done, total = self.stage.cache.hmget(key, ["bytes_done", "bytes_total"])
        if done is not None:
            known = int(total) if total else None
            progress.update(task, description=f"{sample.name}: copying", completed=int(done), total=known)

    def _tell(self, name: str, wrong: list[str], what: str) -> None:
        self.failures += bool(wrong)
        mark, style = ("failed", "bold red") if wrong else ("ok", "green")
        self.console.print(Text.assemble((f"  {mark:<7}", style), f"{name:<12}", what, (f" {'; '.join(wrong)}", style)))


def _awaited(future: Future[ask.Redirect], meanwhile: Callable[[], None]) -> ask.Redirect:
    while True:
        try:
            return future.result(timeout=LOOK_S)
        except TimeoutError:
            meanwhile()


def _stay(made: Stage, console: Console) -> None:
    """Say what to try, and wait for Ctrl-C. Raises `Failure` where the mirror ends by itself."""
    target = made.target(SAMPLES[1])
    console.print("\nTry it; Ctrl-C ends it:", style="bold")
    for line in (
        f"curl -sSi '{target.redirect_url}'",
        f"curl -sSL '{target.redirect_url}' | sha256sum",
        f"curl -sSi -X DELETE -H 'Authorization: Bearer {TOKEN}' '{target.purge_url}'",
        f"curl -sS '{made.base}/metrics'",
        f"tail -f '{made.log}'",
    ):
        console.print(f"  {line}", soft_wrap=True)
    try:
        status = made.mirror.wait()
    except KeyboardInterrupt:
        console.print("Stopping ...")
        return
    raise Failure(f"the mirror ended with status {status}: {last_words(made)}")
