"""Tables of `docs/choosing-a-shell.md`: what a script measured stands there between two marks that name the script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "choosing-a-shell.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put(script: str, tables: Sequence[str]) -> None:
    """Put tables between a script's marks, in place of what stands there."""
    begin, end = f"<!-- {script}: begin -->", f"<!-- {script}: end -->"
    between = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    text, found = between.subn(lambda _: "\n\n".join([begin, *tables, end]), PAGE.read_text())
    if not found:
        raise LookupError(f"{PAGE} does not hold {begin} and {end}")
    PAGE.write_text(text)
