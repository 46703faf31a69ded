"""A case: something that a client or an operator observes, shown on whatever a maker makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.maker import Maker
from tests.conformance.rows import Row, name_of

Run: TypeAlias = Callable[[Maker], None]

CASES: Final[dict[str, Case]] = {}
"""Every case by its name. It is filled when `tests.conformance.cases` is imported."""


@dataclass(frozen=True)
class Case:
    """A function of a maker, and the rows of the machines' tables that it takes."""

    name: str
    rows: frozenset[Row]
    run: Run
    again: bool = False  # whether it shows, of something else, what another case shows

    @property
    def for_mixtures(self) -> bool:
        """Whether a mixture could show anything that its shells do not: each process by itself has been seen."""
        return bool(self.rows) and not self.again

    def show(self, make: Maker) -> None:
        """Run it. Raises where something is not as it should be, or where a row that it names was not taken."""
        with make.watching() as taken:
            self.run(make)
            taken.must_hold(self.rows)


def case(*rows: Row, each: Iterable[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter a function of a maker as a case that takes these rows; with `each`, as a case for each of these words."""

    def enter(run: Callable[..., None]) -> Callable[..., None]:
        words = tuple(each)
        runs: dict[str, Any] = {f"{run.__name__}[{word}]": partial(run, word=word) for word in words}
        for number, (name, one) in enumerate((runs or {run.__name__: run}).items()):
            assert name not in CASES, f"two cases are called {name}"
            CASES[name] = Case(name, frozenset(rows), one, again=number > 0)
        return run

    return enter


UNREACHABLE: Final[dict[Row, str]] = {
    Redirect.IGNORED: "each of a flight's actions gets one answer, which its phase waits for, and it has no other",
    Copy.HANDED_OVER: "it takes a copy that lasts for eleven hours and a half",
}
"""Rows that no outside cause leads to, and why."""


def rows_without_case() -> list[str]:
    """The rows that neither a case names nor `UNREACHABLE` explains."""
    shown = {row for one in CASES.values() for row in one.rows}
    return [name_of(row) for table in (Redirect, Copy) for row in table if row not in shown and row not in UNREACHABLE]
