"""Flights take turns at their claims: so many at once, the others in order, and each until its claim is done with."""

from dataclasses import replace

import pytest

from cloud_mirror.actions import Claim
from cloud_mirror.events import ClaimLost, ClaimWon
from cloud_mirror.redirect_table import ON_CLAIM, Phase
from cloud_mirror.wire.procedures.redirect import perform
from cloud_mirror.wire.turns import Turn, Turns
from tests.wire.pools import SERVICES, URL, Script, scripted

STATE = SERVICES.manager.flight(URL, "f")


class Line:
    """Some flights that have asked for their turns, in order; who has had it is in `came`."""

    def __init__(self, at_most: int, *names: str) -> None:
        self.came: list[str] = []
        turns = Turns(at_most)
        self.turns = {name: Turn(turns) for name in names}
        for name in names:
            self.ask(name)

    def ask(self, name: str) -> None:
        self.turns[name].ask(lambda: self.came.append(name))


def test_so_many_at_once_and_the_others_in_their_order() -> None:
    line = Line(2, "a", "b", "c", "d")
    assert line.came == ["a", "b"]
    line.turns["b"].end()
    assert line.came == ["a", "b", "c"]
    line.turns["a"].end()
    assert line.came == ["a", "b", "c", "d"]


@pytest.mark.parametrize("phase", Phase)
def test_a_turn_lasts_as_long_as_the_claim(phase: Phase) -> None:
    line = Line(1, "a", "b")
    line.turns["a"].stepped(replace(STATE, phase=phase))
    assert line.came == (["a"] if phase in ON_CLAIM else ["a", "b"])


def test_who_has_a_turn_claims_again_at_once() -> None:
    line = Line(1, "a", "b")
    line.ask("a")
    assert line.came == ["a", "a"]
    line.turns["a"].end()
    assert line.came == ["a", "a", "b"]


def test_a_turn_is_given_back_once_and_may_be_asked_for_anew() -> None:
    line = Line(1, "a", "b", "c")
    line.turns["a"].end()
    line.turns["a"].end()
    assert line.came == ["a", "b"]
    line.ask("a")
    line.turns["b"].end()
    line.turns["c"].end()
    assert line.came == ["a", "b", "c", "a"]


def test_who_goes_before_the_turn_has_come_is_passed_over() -> None:
    line = Line(1, "a", "b", "c")
    line.turns["b"].end()
    line.turns["a"].end()
    assert line.came == ["a", "c"]


def test_a_claim_is_not_made_for_those_who_left_before_its_turn_came() -> None:
    claim = Claim(None, "f-1", 20.0)
    script = Script()
    assert script.run(perform(SERVICES, URL, claim, wanted=False)) == ClaimLost()
    assert script.said == []
    assert isinstance(Script(scripted(True)).run(perform(SERVICES, URL, claim, wanted=True)), ClaimWon)
