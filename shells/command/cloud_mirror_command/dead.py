"""`cloud-mirror dead`: jobs that were given up, and what to do about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from cloud_mirror.policy import Policy
from cloud_mirror.wire.asking import Failed
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.procedures import letters
from cloud_mirror.wire.procedures.letters import Letter
from cloud_mirror.wire.services import PoolServices, connect
from cloud_mirror.wire.sqs import SqsQueue
from cloud_mirror_command import logs
from cloud_mirror_command.common import console_for_people, pool_of
from cloud_mirror_command.complaint import EXIT_FAILED, Complaint, Failure
from cloud_mirror_command.shells import Shell, ShellName, load_shell, parts

SHOWN: Final = 12
"""So many characters of a letter's name tell it from all others; any beginning that does is taken."""


class Post:
    """The dead letters of the pools that were named (None: of all)."""

    def __init__(self, policy: Policy, shell_name: ShellName, pool: str | None) -> None:
        parts(policy)
        names = tuple([pool_of(policy, pool).name] if pool else [each.name for each in policy.pools])
        self._policy = policy
        self._shell: Shell = load_shell(shell_name)
        self._services = connect(policy, names, SqsQueue(policy.queue))

    def _all(self) -> list[tuple[PoolServices, Letter]]:
        """Every letter, pool by pool. Raises `Failure`."""
        found = []
        for name, services in self._services.items():
            listed = self._shell.perform(letters.list_letters(services), self._policy)
            if isinstance(listed, Failed):
                raise Failure(f"the letters of {name} cannot be read: {listed.code}: {logs.clean(listed.detail)}")
            found += [(services, letter) for letter in listed]
        return found

    def _named(self, names: Sequence[str], every: bool) -> list[tuple[PoolServices, Letter]]:
        """Those whose names begin so, or every one. Raises `Complaint` for a name that is none, or that of several."""
        if bool(names) == every:
            raise Complaint("name the letters (`cloud-mirror dead list` shows them), or give --all")
        held = self._all()
        if every:
            return held
        chosen: dict[tuple[str, str], tuple[PoolServices, Letter]] = {}
        for name in names:
            like = [each for each in held if each[1].name.startswith(name.lower())]
            if len({letter.name for _, letter in like}) != 1:
                what = "is the beginning of several letters' names" if like else "is no letter"
                raise Complaint(f"{logs.clean(name)} {what}: see `cloud-mirror dead list`")
            chosen |= {(services.pool.name, letter.name): (services, letter) for services, letter in like}
        return list(chosen.values())

    def _do(
        self,
        chosen: Sequence[tuple[PoolServices, Letter]],
        act: Callable[[PoolServices, Letter], Procedure[str]],
        done: str,
    ) -> int:
        """Do it to each, and say what came of it; the exit status."""
        console, failures = console_for_people(), 0
        for services, letter in chosen:
            why = self._shell.perform(act(services, letter), self._policy)
            failures += bool(why)
            word, style = ("failed", "bold red") if why else (done, "green")
            line = Text.assemble((f"{word:<10}", style), f"{letter.name[:SHOWN]}  {services.pool.name}  ")
            console.print(line.append(logs.clean(why or letter.url)), soft_wrap=True)
        console.print(f"{len(chosen) - failures} of {len(chosen)} letters {done}.")
        return EXIT_FAILED if failures else 0

    def show_list(self) -> int:
        """A line for each letter; the exit status."""
        console, held = console_for_people(), self._all()
        table = Table("name", "pool", "reason", "tries", "URL", box=None, pad_edge=False)
        for services, letter in held:
            cells = (letter.name[:SHOWN], services.pool.name, letter.reason or "unreadable", str(letter.receive_count))
            table.add_row(*map(Text, map(logs.clean, (*cells, letter.url or letter.detail))))
        if held:
            console.print(table)
        console.print(f"{len(held)} dead letters.")
        return 0

    def show(self, name: str) -> int:
        """All that is known of a letter, as JSON; the exit status."""
        for services, letter in self._named((name,), every=False):
            known = {
                "name": letter.name,
                "pool": services.pool.name,
                "reason": letter.reason,
                "detail": letter.detail,
                "receive_count": letter.receive_count,
                "url": letter.url,
                "message": letter.body,
            }
            console_for_people().print(json.dumps(known, indent=2), soft_wrap=True)
        return 0

    def redrive(self, names: Sequence[str], every: bool) -> int:
        """Send the jobs again; the exit status."""
        return self._do(self._named(names, every), letters.redrive, "sent again")

    def drop(self, names: Sequence[str], every: bool) -> int:
        """Delete the letters; the exit status."""
        return self._do(self._named(names, every), letters.drop, "dropped")
