"""A test of a machine is a script: events fed, actions expected. Where they differ, the whole script is diffed."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

S = TypeVar("S")


class Line(NamedTuple):
    """One event, and all that the machine is to ask for on hearing it, in order."""

    event: Any
    actions: tuple[object, ...]


Script = tuple[Line, ...]


def to(event: object, *actions: object) -> Line:
    """Answer to `event` with exactly these actions."""
    return Line(event, actions)


def play(step: Callable[[S, Any], tuple[S, tuple[object, ...]]], state: S, script: Iterable[Line]) -> S:
    """Feed a script's events, and give the state at its end; fails with a diff where other actions came."""
    wanted: list[str] = []
    came: list[str] = []
    for event, actions in script:
        state, taken = step(state, event)
        wanted += _written(event, actions)
        came += _written(event, taken)
    if wanted != came:
        diff = difflib.ndiff(wanted, came)
        raise AssertionError("the machine left its script (- expected, + came):\n" + "\n".join(diff))
    return state


def _written(event: object, actions: Iterable[object]) -> list[str]:
    return [f">> {event!r}", *(f"<<     {action!r}" for action in actions)]
