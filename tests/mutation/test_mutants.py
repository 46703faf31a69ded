"""The core's tests bite: they kill a sample of the machines' mutants. `make mutants` has them meet every one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.__main__ import complaints, listed
from tests.mutation.mutants import CORE, Walk, mutants_of
from tests.mutation.nest import SURVIVED, Fate

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "core"
SAMPLE = 100


def changes(source: str) -> set[str]:
    walk = Walk("made_up", {"Phase": ("START", "DONE")})
    return {mutant.says for mutant in walk.walk(ast.parse(source), "", in_body=False)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a: int | None = None\nassert a\n'what it is'", set()),
        ("LIMIT_S = 2.0", {"2.0 -> 3.0"}),
        ("a = b < c", {"b < c -> b <= c", "b < c -> b >= c"}),
        (
            "a = b and not c",
            {"b and (not c) -> b or not c", "b and (not c) -> b", "b and (not c) -> not c", "not c -> c"},
        ),
        ("a = Phase.DONE", {"Phase.DONE -> Phase.START"}),
        ("a = replace(b, c=d)", {"c=d -> nothing"}),
        ("a = {b, c}", {"b -> nothing", "c -> nothing"}),
        ("a = 'no sentence'", {"'no sentence' -> 'no sentenceX'"}),
        ("a = 'this one is a sentence'", set()),
        ("def f():\n    a.b()", {"a.b() -> pass"}),
        (
            "match a:\n    case B() | C() if d:\n        pass\n    case _:\n        pass",
            {
                "case B() | C() if d -> nothing",
                "case B() | C() if d -> case B() | C()",
                "B() | C() -> B()",
                "B() | C() -> C()",
                "case _ -> nothing",
            },
        ),
    ],
)
def test_what_is_changed(source: str, expected: set[str]) -> None:
    assert changes(source) == expected


def test_a_name_stands_for_one_mutant() -> None:
    names = [mutant.name for path in CORE.glob("*.py") for mutant in mutants_of(path.stem)]
    assert len(set(names)) == len(names)
    assert listed() <= set(names)


def test_every_module_has_tests_of_its_own() -> None:
    for path in CORE.glob("*.py"):
        if mutants_of(path.stem):
            assert list(TESTS.glob(f"test_{path.stem.removesuffix('_table')}*.py")), path.name


def test_what_is_not_as_the_page_says_is_told() -> None:
    one, other = mutants_of("responses")[:2]
    names = frozenset({one.name, other.name})
    assert complaints([Fate(one, SURVIVED, 0.0), Fate(other, "a test", 0.0)], frozenset({one.name}), names) == []
    (text,) = complaints([Fate(one, SURVIVED, 0.0)], frozenset(), names)
    assert text.startswith(f"{one.name} survived")
    assert "\n+" in text, "with what it changes"
    assert complaints([Fate(one, "a test", 0.0)], frozenset({one.name}), names) != []
    assert complaints([], frozenset({"gone"}), names) != []


@pytest.mark.timeout(600)
def test_a_sample_of_the_machines_mutants_is_killed() -> None:
    command = [sys.executable, "-m", "tests.mutation", "--sample", str(SAMPLE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)  # noqa: T201 - the seed, to try the same ones again
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SAMPLE} mutants, {SAMPLE} killed" in done.stdout
