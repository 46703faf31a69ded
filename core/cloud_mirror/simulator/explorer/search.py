"""Breadth first through every situation of a small world, each once; and the shortest way to any that must not be."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cloud_mirror.simulator.driver import Watch, ignore
from cloud_mirror.simulator.explorer.board import Step, World
from cloud_mirror.simulator.explorer.checks import Checks
from cloud_mirror.simulator.explorer.moves import Rules
from cloud_mirror.simulator.explorer.size import Size
from cloud_mirror.simulator.explorer.trace import Line, narrate
from cloud_mirror.simulator.explorer.world import Parts


@dataclass(frozen=True, slots=True)
class Explored:
    """What an exploration saw. `trace` is the shortest way to a violation, `violations` what is wrong at its end."""

    size: Size
    worlds: int
    steps: int
    deepest: int
    quiet: int
    violations: tuple[str, ...] = ()
    trace: tuple[Line, ...] = ()


class Explorer:
    """One world to be explored."""

    def __init__(self, size: Size, watch: Watch = ignore) -> None:
        self.parts = Parts(size, watch)
        self.rules = Rules(self.parts)
        self.checks = Checks(self.rules)
        self._seen: set[int] = set()
        self._parents = array("q")
        self._moves = array("l")

    def explore(self, at_most: int | None = None, tell: Callable[[int, int, int], None] | None = None) -> Explored:
        """Go through all of it, or `at_most` so many situations. `tell` is told depth, situations and steps so far."""
        start = self.rules.start()
        self._note(start, -1, 0)
        level, first, depth, steps, quiet = [start], 0, 0, 0, 0
        while level and (at_most is None or len(self._parents) < at_most):
            following: list[World] = []
            for offset, world in enumerate(level):
                try:
                    found, rests = self.rules.steps(world)
                except Exception as error:  # noqa: BLE001  # whatever breaks there is what is looked for
                    broken = (f"nothing-breaks: {error!r}",)
                    return self._violation(first + offset, None, broken, steps, depth, quiet)
                quiet += rests
                wrong = self.checks.quiet(world) if rests else ()
                if wrong:
                    return self._violation(first + offset, None, wrong, steps, depth, quiet)
                for number, step in enumerate(found):
                    steps += 1
                    after = self.rules.after(world, step)
                    if self._note(after, first + offset, number):
                        following.append(after)
                    wrong = self.checks.step(world, after, step)
                    if wrong:
                        return self._violation(first + offset, number, wrong, steps, depth, quiet)
            first += len(level)
            level, depth = following, depth + 1
            if tell is not None:
                tell(depth, len(self._parents), steps)
        return Explored(self.rules.size, len(self._parents), steps, depth, quiet)

    def _note(self, world: World, parent: int, move: int) -> bool:
        """Whether the situation is new, but for names."""
        key = hash(self.canonical(world))
        if key in self._seen:
            return False
        self._seen.add(key)
        self._parents.append(parent)
        self._moves.append(move)
        return True

    def canonical(self, world: World) -> tuple[object, ...]:
        """The world with equal processes in a fixed order, and names numbered as they come."""
        nodes, rules = self.parts.nodes, self.rules
        order: list[int] = []
        for places in (rules.fronts, rules.backs, rules.purgers):
            numbers = [world[place] for place in places]
            order += sorted(numbers, key=nodes.shapes.__getitem__) if len(numbers) > 1 else numbers
        shapes = [nodes.shapes[number] for number in order]
        names = [nodes.names[number] for number in order]
        for place, table in rules.tables:
            shapes.append(table.shapes[world[place]])
            names.append(table.names[world[place]])
        known: dict[str, int] = {}
        pattern = [known.setdefault(name, len(known)) for each in names for name in each]
        return (*shapes, -1, *pattern)

    def _violation(
        self, at: int, number: int | None, wrong: tuple[str, ...], steps: int, depth: int, quiet: int
    ) -> Explored:
        numbers = [] if number is None else [number]
        while at >= 0 and self._parents[at] >= 0:
            numbers.append(self._moves[at])
            at = self._parents[at]
        trace = tuple(narrate(self.rules, self.replay(tuple(reversed(numbers)))))
        return Explored(self.rules.size, len(self._parents), steps, depth, quiet, wrong, trace)

    def replay(self, numbers: tuple[int, ...]) -> Iterator[tuple[World, Step]]:
        """The steps of these numbers, from the start, each with the world in which it is taken."""
        world = self.rules.start()
        for number in numbers:
            step = self.rules.steps(world)[0][number]
            yield world, step
            world = self.rules.after(world, step)
