"""The page of diagrams says what the code does."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "make_state_diagrams.py"


@pytest.mark.timeout(600)
@pytest.mark.uncounted
def test_the_page_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("make_state_diagrams", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fresh = module.PAGE.read_text("utf-8") == module.page()
    assert fresh, "run `python docs/make_state_diagrams.py` and commit docs/state-machines.md"
