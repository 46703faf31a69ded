"""The rows of the machines' tables, and how often a process took each."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from cloud_mirror.copy_table import Row as CopyRow
from cloud_mirror.redirect_table import Row as RedirectRow

Row: TypeAlias = RedirectRow | CopyRow


def name_of(row: Row) -> str:
    """The name of a row, its machine's before its own."""
    return f"{'redirect' if isinstance(row, RedirectRow) else 'copy'}: {row.id}"


def rows_of(metrics: bytes) -> Counter[str]:
    """How often each row was taken, by its name, from what a process shows at `/metrics`."""
    taken: Counter[str] = Counter()
    for line in metrics.decode().splitlines():
        if line.startswith("cloud_mirror_transitions_total{"):
            sample, _, value = line.rpartition(" ")
            _, machine, _, row, _ = sample.split('"')
            taken[f"{machine}: {row}"] += int(float(value))
    return taken
