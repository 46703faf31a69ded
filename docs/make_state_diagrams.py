"""Writes docs/state-machines.md: the machines' diagrams, drawn from the edges that their tests have reached.

Run it from the project's folder: `python docs/make_state_diagrams.py`. A test says whether the page is fresh.
"""
# ruff: noqa: INP001  # a script, not a package

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "state-machines.md"

Edge: TypeAlias = tuple[str, str, str]
"""Where from, on what, and where to."""

HEAD = """# The state machines

Each diagram is drawn from the code by `docs/make_state_diagrams.py`: its edges are those that an exhaustive walk over
the machine, with every legal answer to each of its actions, has reached. A label is the machine's own word for the
line of its table. What can happen anywhere and leads nowhere else is listed below the diagram, not drawn.
"""


def redirect_edges() -> Iterable[Edge]:
    """What two requests and any answers lead to."""
    from tests.core.redirect_world import survey

    return ((before.value, row.value, after.value) for before, row, after in survey().edges)


def copy_edges() -> Iterable[Edge]:
    """What one job and any answers lead to."""
    from tests.core.copy_world import survey

    return ((before.value, row.value, after.value) for before, row, after in survey().edges)


def lease_edges() -> Iterable[Edge]:
    """What the lease machine's scripts lead through."""
    from cloud_mirror import lease
    from tests.core.scripts import play
    from tests.core.test_lease import EDGES, START

    for name, script in EDGES:
        before, after = play(lease.step, START, script[:-1]), play(lease.step, START, script)
        yield before.phase.value, name, after.phase.value


def purge_edges() -> Iterable[Edge]:
    """What the purge machine's scripts lead through."""
    from cloud_mirror import purge
    from tests.core.scripts import play
    from tests.core.test_purge import EDGES

    for name, script in EDGES:
        before, after = play(purge.step, purge.State(), script[:-1]), play(purge.step, purge.State(), script)
        yield before.phase.value, name, after.phase.value


def diagram(title: str, edges: Iterable[Edge]) -> str:
    """One machine as a section: a Mermaid diagram (stateDiagram-v2), then what holds in any phase."""
    drawn: dict[tuple[str, str], set[str]] = defaultdict(set)
    anywhere: set[str] = set()
    for before, label, after in edges:
        if before == after and label.startswith("any: "):
            anywhere.add(label.removeprefix("any: "))
        else:
            drawn[before, after].add(label.rpartition(": ")[2])
    lines = [f"## {title}", "", "```mermaid", "stateDiagram-v2", "    [*] --> start"]
    for (before, after), labels in sorted(drawn.items()):
        lines.append(f"    {_name(before)} --> {_name(after)}: {'<br>'.join(sorted(labels))}")
    ends = {after for _, after in drawn} - {before for before, after in drawn if before != after}
    lines += [f"    {_name(end)} --> [*]" for end in sorted(ends | ({"done"} & {after for _, after in drawn}))]
    lines.append("```")
    if anywhere:
        lines += ["", "In any phase, and staying there:", "", *(f"- {label}" for label in sorted(anywhere))]
    return "\n".join(lines) + "\n"


def _name(phase: str) -> str:
    return phase.replace(" ", "_")


def page() -> str:
    """The whole page."""
    sections = (
        diagram("The redirect machine", redirect_edges()),
        diagram("The copy machine", copy_edges()),
        diagram("The lease machine", lease_edges()),
        diagram("The purge machine", purge_edges()),
    )
    return "\n".join((HEAD, *sections))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "core")]
    PAGE.write_text(page(), "utf-8")
