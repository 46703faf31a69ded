"""Every case, over a shell or all of them and a mixture; and that the cases leave nothing out."""

import pytest

import tests.conformance.cases  # noqa: F401  # enters the cases
from tests.conformance.case import CASES, UNREACHABLE, rows_without_case
from tests.conformance.maker import Maker
from tests.conformance.rows import name_of
from tests.fleet import EVERY, MIXED, SHELLS


def shown(chosen: str | None) -> list[tuple[str, str]]:
    """Which case is shown over what: the kinds in turn where none is chosen, else the chosen one, or every one.

    A mixture is asked for what its shells could not show by themselves.
    """
    found = []
    for number, (name, case) in enumerate(CASES.items()):
        kinds = (*SHELLS, MIXED) if case.for_mixtures else SHELLS
        if chosen is None:
            found.append((kinds[number % len(kinds)], name))
        else:
            found += [(kind, name) for kind in kinds if chosen in (kind, EVERY)]
    return sorted(found, key=lambda each: (*SHELLS, MIXED).index(each[0]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What `--shell` says."""
    if "make" in metafunc.fixturenames:
        chosen = shown(metafunc.config.getoption("shell"))
        metafunc.parametrize(("make", "name"), chosen, indirect=("make",))


def test_case(make: Maker, name: str) -> None:
    CASES[name].show(make)


def test_every_row_is_shown_by_a_case_or_out_of_reach() -> None:
    assert rows_without_case() == []
    shown = {row for case in CASES.values() for row in case.rows}
    assert [name_of(row) for row in UNREACHABLE if row in shown] == []
    assert all(UNREACHABLE.values())


def test_taking_turns_leaves_out_no_case_and_no_shell() -> None:
    in_turn = shown(None)
    assert sorted(name for _, name in in_turn) == sorted(CASES)
    assert {kind for kind, _ in in_turn} == {*SHELLS, MIXED}
    assert set(in_turn) < set(shown(EVERY))
