"""A way through a small world in words: who did what when, what came back, and what a client was answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cloud_mirror.simulator.explorer.board import Board, Move, Step, World
from cloud_mirror.simulator.explorer.size import START_S
from cloud_mirror.simulator.explorer.wording import answer_in_words, reply_in_words


@dataclass(frozen=True, slots=True)
class Line:
    """One step. `at_s` is counted from the world's beginning; `reply` and `answer` are empty where there is none."""

    at_s: float
    move: Move
    reply: str = ""
    answer: str = ""

    def __str__(self) -> str:
        who, what, fault, to = self.move
        text = f"{self.at_s:5.1f} s  {who}"
        if to == "client":
            text = f"{self.at_s:5.1f} s  client of {who}"
        elif to:
            text += f" -> {to}"
        text += f": {what}" if what else ""
        text += f" [{fault}]" if fault else ""
        text += f" -> {self.reply}" if self.reply else ""
        return text + (f"; the client is answered {self.answer}" if self.answer else "")


def narrate(board: Board, way: Iterable[tuple[World, Step]]) -> Iterator[Line]:
    """The steps of a way, each with the world in which it was taken."""
    for world, step in way:
        at_s = board.parts.weathers.parts[world[board.weather]].now - START_S
        reply = "" if step.reply is None else reply_in_words(step.reply)
        yield Line(at_s, step.move, reply, "" if step.response is None else answer_in_words(step.response))
