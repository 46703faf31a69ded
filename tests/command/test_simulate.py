"""`cloud-mirror simulate`: seeds in processes, one replayed, and what a violation leaves behind."""

import inspect

import pytest
from typer.testing import CliRunner

from cloud_mirror.simulator.simulation import run
from cloud_mirror_command import simulate
from cloud_mirror_command.common import console_for_people
from cloud_mirror_command.main import EXPLORING, app
from cloud_mirror_command.main import simulate as simulate_command


def test_seeds_in_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.many(3, 2, 2) == 0
    said = capsys.readouterr().out
    assert "2 seeds" in said
    assert "No invariant was violated." in said
    assert "start: a request came" in said


def test_one_seed_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.replay(3) == 0
    assert f"digest {run(3).digest}" in capsys.readouterr().out


def test_a_violation_is_told_with_its_seed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_mirror.simulator.invariants.nothing_private", lambda _answer, _secrets: "made up")
    assert simulate.replay(3) == 1
    summary = simulate.Summary()
    for result in simulate.run_batch((3,)):
        summary.add(result)
    capsys.readouterr()
    simulate.show(console_for_people(), summary, 1.0)
    said = capsys.readouterr().out
    assert "seed 3: nothing-private at" in said
    assert "replay it: cloud-mirror simulate --seed 3" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--fronts 2", "--fronts is for exploring: add --explore, or leave it out"),
        ("--seed 3 --diagram way.mmd", "--diagram is for exploring: add --explore, or leave it out"),
        ("--explore --seeds 500", "--seeds is for runs by chance: leave --explore or it out"),
        ("--explore --seed 3", "--seed is for runs by chance: leave --explore or it out"),
        ("--explore --long --fronts 1", "--fronts is for one world: leave --long or it out"),
        ("--explore --lies --long", "--lies is for one world: leave --long or it out"),
        ("--seed 3 --from 2", "--from is for many runs: leave --seed or it out"),
        ("--seed 3 --jobs 2", "--jobs is for many runs: leave --seed or it out"),
    ],
)
def test_an_option_that_would_not_be_heeded_is_refused(words: str, complaint: str) -> None:
    result = CliRunner().invoke(app, ("simulate", *words.split()))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{complaint}\n")


def test_every_option_is_one_way_s_or_every_way_s() -> None:
    names = set(inspect.signature(simulate_command).parameters)
    assert names - {"ctx", "seeds", "first", "seed", "jobs", "explore"} == set(EXPLORING)
