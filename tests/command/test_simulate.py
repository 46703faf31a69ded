"""`cloud-mirror simulate`: seeds in processes, one replayed, and what a violation leaves behind."""

import pytest

from cloud_mirror.simulator.simulation import run
from cloud_mirror_command import simulate
from cloud_mirror_command.common import console_for_people


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
