"""A way through a small world as a Mermaid sequence diagram (https://mermaid.js.org/syntax/sequenceDiagram.html).

A call and its reply are two arrows; an arrow that ends in a cross did not arrive. What somebody does alone, what goes
wrong with a whole process or service, and the time that passes are notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cloud_mirror.simulator.explorer.size import Size
from cloud_mirror.simulator.explorer.trace import Line
from cloud_mirror.simulator.explorer.wording import people_say

PROCESSES: Final = {"f": "front end", "b": "back end", "p": "purger"}
SERVICES: Final = {"redis": "Redis", "store": "store", "queue": "queue", "origin": "origin"}

_CALLS: Final = {
    "request lost": ("-x", " (lost on its way)"),
    "in an outage": ("-x", " (cannot be reached)"),
    "late": ("-x", " (given up, still on its way)"),
    "arrives late": ("->>", " (arrives late)"),
    "at last": ("->>", " (the slow call, at last)"),
}
"""How a call is drawn that something went wrong with, and what is said of it."""

_NO_REPLY: Final = ("request lost", "in an outage", "late", "arrives late")


def diagram(size: Size, trace: tuple[Line, ...], wrong: tuple[str, ...] = ()) -> str:
    """The diagram's text; `wrong` is what is wrong at the end."""
    names = _names(size, trace)
    across = f"{next(iter(names))},{list(names)[-1]}"
    lines = ["sequenceDiagram"]
    for name, title in names.items():
        lines.append(f"{'actor' if name.startswith('client') else 'participant'} {name} as {_text(title)}")
    lines.append("client_f0->>f0: asks for the object")
    for line in trace:
        lines += _drawn(line, across)
    lines += [f"Note over {across}: {_text(people_say(what))}" for what in wrong]
    return "\n    ".join(lines) + "\n"


def _names(size: Size, trace: tuple[Line, ...]) -> dict[str, str]:
    """Who takes part, from left to right: clients, processes, and the services that play a part."""
    counts = {"f": size.fronts, "b": size.backs, "p": size.purges}
    processes = {f"{kind}{n}": f"{PROCESSES[kind]} {kind}{n}" for kind, count in counts.items() for n in range(count)}
    clients = {f"client_{name}": f"client of {name}" for name in processes if name.startswith("f")}
    known = {**clients, **processes, **SERVICES}
    seen = {"client_f0", "f0"}  # who was there before the first step
    for line in trace:
        seen |= {line.move.who, f"client_{line.move.who}" if line.move.to == "client" else line.move.to}
    return {name: title for name, title in known.items() if name in seen}


def _drawn(line: Line, across: str) -> Iterator[str]:
    who, what, fault, to = line.move
    if who == "clock":
        yield f"Note over {across}: {_text(what)}"
    elif to == "client":
        yield f"client_{who}->>{who}: {_text(what)}"
    elif fault == "slow":
        yield f"Note over {who},{to}: {_text(what)} takes long"
    elif not to:
        yield f"Note over {who}: {who} {_text(what or fault)}"
    else:
        yield from _call(line)
    if line.answer:
        yield f"{who}-->>client_{who}: {_text(line.answer)}"


def _call(line: Line) -> Iterator[str]:
    who, what, fault, to = line.move
    arrow, said = _CALLS.get(fault, ("->>", ""))
    yield f"{who}{arrow}{to}: {_text(what)}{said}"
    if fault == "reply lost":
        yield f"{to}--x{who}: the reply is lost"
    elif fault not in _NO_REPLY and line.reply:
        yield f"{to}-->>{who}: {_text(line.reply)}"
    if fault == "notice lost":
        yield f"Note over {to}: nobody hears of it"


def _text(text: str) -> str:
    """The text with what means something to Mermaid written as its number."""
    return text.translate({ord("#"): "#35;", ord(";"): "#59;"})
