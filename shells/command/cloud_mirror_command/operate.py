"""The commands that work with the mirror's own parts: setup, doctor, serve, work, all, purge."""

from __future__ import annotations

import errno
import logging
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

from cloud_mirror.policy import Policy
from cloud_mirror.wire.doctor import Finding, checks
from cloud_mirror.wire.procedures.sweep import DAY_S, sweep_plan
from cloud_mirror.wire.s3_setup import UPLOAD_DAYS
from cloud_mirror.wire.setup import Outcome, Step, StepResult, setup_plan
from cloud_mirror_command import logs
from cloud_mirror_command.common import console_for_people, pool_of, source_of
from cloud_mirror_command.complaint import EXIT_FAILED, Complaint, Failure
from cloud_mirror_command.limits import raise_open_files
from cloud_mirror_command.rules import lack_of_memory
from cloud_mirror_command.shells import Shell, ShellName, load_shell, parts

LEVELS: Final = ("debug", "info", "warning", "error")

_NO_SUCH_HOST: Final = "there is no such host, or nobody can say where it is; choose another with --host"
_CANNOT_LISTEN: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "another process listens there; choose another with --port",
    errno.EACCES: "this user may not listen there; choose another with --port, most systems want it above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose another with --host",
    socket.EAI_NONAME: _NO_SUCH_HOST,
    socket.EAI_AGAIN: _NO_SUCH_HOST,
    socket.EAI_FAIL: _NO_SUCH_HOST,
}
"""What to do where a process cannot listen. A shell raises these for nothing else: failures of exchanges are values."""

_STYLES: Final = {Outcome.DONE: "green", Outcome.ALREADY_THERE: "dim", Outcome.FAILED: "bold red"}
_LOG: Final = logging.getLogger("cloud_mirror")


def run(
    policy: Policy,
    shell_name: ShellName,
    level: str,
    *,
    front_end: bool = False,
    back_end: bool = False,
    pools: Sequence[str] | None = None,
) -> int:
    """Serve, work, or both, until told to stop."""
    if level not in LEVELS:
        raise Complaint(f"--log-level {level}: unknown level; choose one of {', '.join(LEVELS)}")
    names = tuple(pool_of(policy, name).name for name in dict.fromkeys(pools)) if pools else None
    if back_end and (lack := lack_of_memory(policy.worker, len(names or policy.pools))) is not None:
        raise Complaint(f"worker.memory_budget: {lack}, or copy for fewer pools with --pool")
    if names and not front_end:  # the other pools have no share in its memory
        policy = replace(policy, pools=tuple(pool for pool in policy.pools if pool.name in names))
    shell = load_shell(shell_name)
    parts(policy)  # what cannot be made is said before the logs begin
    logs.configure(level, secrets=(policy.admin_token, urlsplit(policy.redis.url).password or ""))
    if policy.source.allow_private_addresses:
        _LOG.warning(
            "PRIVATE ADDRESSES ARE ALLOWED: whoever may ask this mirror can make it fetch from your own network; "
            "set source.allow_private_addresses = false"
        )
    raise_open_files()

    def ready(url: str) -> None:
        _LOG.info("listening", extra={"url": url, "shell": shell_name.value})

    try:
        return shell.run(policy, front_end=front_end, back_end=back_end, pools=names, ready=ready)
    except Exception as error:
        remedy = _CANNOT_LISTEN.get(error.errno or 0) if isinstance(error, OSError) else None
        if remedy is not None:
            section = policy.server if front_end else policy.worker
            host = f"[{section.host}]" if ":" in section.host else section.host
            raise Complaint(f"{host}:{section.port}: {remedy}") from error
        _LOG.exception("ended by a fault of its own")  # a log line, so that no secret shows in a traceback
        return EXIT_FAILED


def setup(policy: Policy, shell_name: ShellName) -> int:
    """Take every step, and show each; the exit status."""
    shell, (stores, queue) = load_shell(shell_name), parts(policy)
    return _take(setup_plan(policy, stores, queue), shell, policy)


def sweep(policy: Policy, shell_name: ShellName, older_than_days: float | None) -> int:
    """Abort the uploads that were left behind, and show for each pool how many; the exit status.

    They are those that the lifecycle rule aborts too, or those that were begun so many days ago.
    """
    older_than_s = (UPLOAD_DAYS if older_than_days is None else older_than_days) * DAY_S
    if not older_than_s >= policy.worker.max_copy_s:  # so that NaN, too, is refused
        least = f"{policy.worker.max_copy_s / DAY_S:g}"
        raise Complaint(f"--older-than: give at least {least} (worker.max_copy_s): a younger upload may be under way")
    shell, (stores, _) = load_shell(shell_name), parts(policy)
    return _take(sweep_plan(policy, stores, older_than_s), shell, policy)


def _take(steps: Sequence[Step], shell: Shell, policy: Policy) -> int:
    console, failures = console_for_people(), 0
    for number, step in enumerate(steps, 1):
        with console.status(f"{number}/{len(steps)}  {step.title}"):
            result = shell.perform(step.run(), policy)
        failures += result.outcome is Outcome.FAILED
        console.print(_step_line(step.title, result))
    if failures:
        console.print(f"{failures} of {len(steps)} steps failed.", style="bold red")
        return EXIT_FAILED
    console.print(f"All {len(steps)} steps are done.")
    return 0


def _step_line(title: str, result: StepResult) -> Text:
    line = Text.assemble((f"{result.outcome.value:<14}", _STYLES[result.outcome]), title)
    if result.what:
        line.append(f": {logs.clean(result.what)}")
    if result.remedy:
        line.append(f"\n{'':<14}{result.remedy}", style="yellow")
    return line


def doctor(policy: Policy, shell_name: ShellName) -> int:
    """Make every check, and show a table of what was found; the exit status."""
    shell, (stores, queue) = load_shell(shell_name), parts(policy)
    console = console_for_people()
    table = Table("", "part", "found", "what to do", box=None, pad_edge=False)
    failures = 0
    plan = checks(policy, stores, queue, nonce=secrets.token_hex(8))
    with console.status("") as status:
        for check in plan:
            status.update(check.title)
            finding = shell.perform(check.run(), policy)
            failures += not finding.ok
            table.add_row(*_row(check.title, finding))
    console.print(table)
    if failures:
        console.print(f"{failures} of {len(plan)} checks failed.", style="bold red")
        return EXIT_FAILED
    console.print(f"All {len(plan)} checks passed.")
    return 0


def _row(title: str, finding: Finding) -> tuple[Text, ...]:
    word, style = (
        ("FAILED", "bold red") if not finding.ok else ("warning", "yellow") if finding.remedy else ("ok", "green")
    )
    return Text(word, style), Text(title), Text(logs.clean(finding.what)), Text(finding.remedy, "yellow")


def purge(policy: Policy, shell_name: ShellName, pool: str | None, url: str) -> None:
    """Purge directly, from one pool or all of them. Raises `Failure` where one could not be purged."""
    source = source_of(url, policy.source.max_url_bytes)
    names = [pool_of(policy, pool).name] if pool else [each.name for each in policy.pools]
    shell, console = load_shell(shell_name), console_for_people()
    parts(policy)
    for name in names:
        with console.status(f"purging from {name}"):
            result = shell.purge(policy, name, source)
        if not result.done:
            title = f"{result.reason.code}: {result.reason.title}" if result.reason else "it did not say why"
            raise Failure(f"not purged from {name}: {title}")
        console.print(f"purged from {name}")
