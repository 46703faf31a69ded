"""`cloud-mirror simulate --explore`: what it explores, what it says, and how it ends."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud_mirror import copy
from cloud_mirror.simulator.explorer import MORE, WORLDS, Size
from cloud_mirror_command import explore
from cloud_mirror_command.complaint import EXIT_FAILED
from cloud_mirror_command.main import app

SMALLEST = "1 front end, 1 back end: 60 situations, 79 steps, the deepest 22 steps deep, 1 at rest; "
POLLS = "A request is held for at most 3 s and polls every 1 s: 3 polls a request at most.\n"
FINE = "No invariant was violated.\n"


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ("simulate", "--explore", *words))
    return result.exit_code, result.stdout


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explore in threads of this process, where what is doctored holds."""
    monkeypatch.setattr(explore, "ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(jobs))


def test_one_world_in_a_process_of_its_own() -> None:
    status, said = run("--fronts", "1")
    assert status == 0
    assert said.startswith(SMALLEST)
    assert said.endswith(f" s\n{POLLS}{FINE}")


def test_what_can_be_taken_over_is_in_parts() -> None:
    assert explore.one_world({"lasting": True, "parts": None}) == Size(parts=2, lasting=True)
    assert explore.one_world({"lasting": True, "parts": 3}) == Size(parts=3, lasting=True)


def test_a_lie_is_a_fault() -> None:
    assert explore.one_world({"lies": None, "faults": None}) is None
    assert explore.one_world({"lies": True, "faults": None}) == Size(faults=1, lies=True)
    assert explore.one_world({"lies": True, "faults": 2}) == Size(faults=2, lies=True)
    assert explore.one_world({"lies": None, "fronts": 2}) == Size(fronts=2)


@pytest.mark.parametrize("long", [False, True])
def test_the_lists(here: None, monkeypatch: pytest.MonkeyPatch, long: bool) -> None:
    tried: list[Size] = []
    timed = explore.timed

    def noted(size: Size) -> tuple[Any, float]:
        tried.append(size)
        return timed(Size())

    monkeypatch.setattr(explore, "timed", noted)
    status, said = run("--jobs", "1", *(["--long"] if long else []))
    assert status == 0
    assert tried == [*WORLDS, *(MORE if long else ())]
    assert said.count(SMALLEST) == len(tried)


def test_a_violation(here: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    transition = copy.transition
    monkeypatch.setattr(copy, "transition", lambda state, event: transition(state, event)._replace(actions=()))
    file = tmp_path / "way.mmd"
    status, said = run("--backs", "1", "--faults", "1", "--jobs", "1", "--diagram", str(file))
    assert status == EXIT_FAILED
    lines = said.splitlines()
    assert lines[1] == "  0.0 s  f0 -> redis: read entry -> nothing there"
    assert lines[-3] == "answered-in-time: b0 is still at work, and waits for nothing"
    assert lines[-2] == "jobs-end: a message is left, and nobody takes it"
    drawn = file.read_text("utf-8")
    assert drawn in said
    assert drawn.splitlines()[0] == "sequenceDiagram"
    assert run("--backs", "1", "--jobs", "1")[0] == EXIT_FAILED
