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

The explorer (docs/simulator.md) has the redirect and the copy machine drive the real procedures around models of the
services. What two of its small worlds do not take, and the walk alone reaches, is marked with °; lines of the tables
that they never take are listed below the diagram. Some need what small worlds do not have: an origin that says no,
copies that grow old, a second client of the same front end.
"""


def redirect_edges() -> Iterable[Edge]:
    """What two requests and any answers lead to."""
    from tests.core.redirect_world import survey

    return ((before.value, row.value, after.value) for before, row, after in survey().edges)


def copy_edges() -> Iterable[Edge]:
    """What one job and any answers lead to."""
    from tests.core.copy_walk import survey

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


def explored_edges() -> frozenset[Edge]:
    """What the redirect and the copy machine really take in two small worlds: every order of one fault, and of a purge.

    The second is left after so many situations, so that this page is made in some seconds.
    """
    from cloud_mirror.simulator.driver import Taken
    from cloud_mirror.simulator.explorer import Explorer, Size

    taken: set[Taken] = set()
    Explorer(Size(faults=1), taken.add).explore()
    Explorer(Size(purges=1, parts=2), taken.add).explore(at_most=15_000)
    return frozenset((each.phase.value, each.row.value, each.after.value) for each in taken)


def diagram(title: str, edges: Iterable[Edge], explored: frozenset[Edge] | None = None) -> str:
    """One machine as a section: a Mermaid diagram (stateDiagram-v2), then what holds in any phase, and what the
    explorer did not take.
    """
    drawn: dict[tuple[str, str], set[str]] = defaultdict(set)
    anywhere: set[str] = set()
    edges = set(edges)
    for before, label, after in edges:
        if before == after and label.startswith("any: "):
            anywhere.add(label.removeprefix("any: "))
        else:
            mark = "" if explored is None or (before, label, after) in explored else " °"
            drawn[before, after].add(label.rpartition(": ")[2] + mark)
    lines = [f"## {title}", "", "```mermaid", "stateDiagram-v2", "    [*] --> start"]
    for (before, after), labels in sorted(drawn.items()):
        lines.append(f"    {_name(before)} --> {_name(after)}: {'<br>'.join(sorted(labels))}")
    ends = {after for _, after in drawn} - {before for before, after in drawn if before != after}
    lines += [f"    {_name(end)} --> [*]" for end in sorted(ends | ({"done"} & {after for _, after in drawn}))]
    lines.append("```")
    if anywhere:
        lines += ["", "In any phase, and staying there:", "", *(f"- {label}" for label in sorted(anywhere))]
    if explored is not None:
        rows = {label for _, label, _ in edges}
        missed = sorted(rows - {label for _, label, _ in explored})
        lines += ["", f"The explorer's two worlds took {len(rows) - len(missed)} of {len(rows)} lines, and not:", ""]
        lines += [f"- {label}" for label in missed]
    return "\n".join(lines) + "\n"


def _name(phase: str) -> str:
    return phase.replace(" ", "_")


def page() -> str:
    """The whole page."""
    redirects, copies, explored = set(redirect_edges()), set(copy_edges()), explored_edges()
    assert explored <= redirects | copies, "the walks reach all that the explorer takes"
    sections = (
        diagram("The redirect machine", redirects, explored),
        diagram("The copy machine", copies, explored),
        diagram("The lease machine", lease_edges()),
        diagram("The purge machine", purge_edges()),
    )
    return "\n".join((HEAD, *sections))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "core")]
    PAGE.write_text(page(), "utf-8")
