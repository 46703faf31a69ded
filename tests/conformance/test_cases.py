"""Every case, over every shell and over a mixture of them; and that the cases leave nothing out."""

import pytest

import tests.conformance.cases  # noqa: F401  # enters the cases
from tests.conformance.case import CASES, UNREACHABLE, rows_without_case
from tests.conformance.maker import Maker
from tests.conformance.rows import name_of
from tests.fleet import MIXED, SHELLS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every case over every shell, and those over the mixture that could show something there; or as `--shell` says."""
    if "make" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("shell")
        shown = [
            (shell, name)
            for shell in ((chosen,) if chosen else (*SHELLS, MIXED))
            for name, case in CASES.items()
            if shell != MIXED or case.for_mixtures
        ]
        metafunc.parametrize(("make", "name"), shown, indirect=("make",), scope="module")


def test_case(make: Maker, name: str) -> None:
    CASES[name].show(make)


def test_every_row_is_shown_by_a_case_or_out_of_reach() -> None:
    assert rows_without_case() == []
    shown = {row for case in CASES.values() for row in case.rows}
    assert [name_of(row) for row in UNREACHABLE if row in shown] == []
    assert all(UNREACHABLE.values())
