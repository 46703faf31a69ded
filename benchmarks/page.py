"""Tables of the docs: what a script measured stands in a page between two marks that name the script."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
CHOOSING: Final = DOCS / "choosing-a-shell.md"
PERFORMANCE: Final = DOCS / "performance.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put(script: str, tables: Sequence[str], page: Path = CHOOSING) -> None:
    """Put tables between a script's marks in a page, in place of what stands there."""
    begin, end = f"<!-- {script}: begin -->", f"<!-- {script}: end -->"
    between = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    text, found = between.subn(lambda _: "\n\n".join([begin, *tables, end]), page.read_text())
    if not found:
        raise LookupError(f"{page} does not hold {begin} and {end}")
    page.write_text(text)


def show(tables: Sequence[str], write: bool) -> None:
    """Print tables; `write`: put them into `docs/performance.md` too."""
    print("\n" + "\n\n".join(tables))
    if write:
        put_measured(tables)


def put_measured(tables: Sequence[str]) -> None:
    """Put what this program measured into `docs/performance.md`, under the command that it was started by."""
    script = f"benchmarks.{Path(sys.argv[0]).stem}"
    words = [word for word in sys.argv[1:] if word != "--write"]
    put(script, [f"`.venv/bin/python -m {shlex.join([script, *words])}`", *tables], PERFORMANCE)
