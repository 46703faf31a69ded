"""Does it bite? Each fault in faults/ is caught by the explorer or the simulator, for the right reason."""

from pathlib import Path

import pytest

from tests.simulator.bites import PAGE, WITHIN_S, Patch, bite, copy_core, page, patches, run, together

PATCHES = patches()
CLEAN = together(each.caught_by for each in PATCHES)
CLEAN_WITHIN_S = 150


@pytest.mark.timeout(400)
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.path.stem)
def test_a_fault_is_caught(patch: Patch) -> None:
    found = bite(patch)
    assert found.invariants & patch.breaks, f"not caught by `{patch.caught_by}` within {WITHIN_S} s:\n{found.wrong}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", CLEAN)
def test_the_core_as_it_is_breaks_nothing_there(how: str, tmp_path: Path) -> None:
    assert run(copy_core(tmp_path), how, CLEAN_WITHIN_S).wrong == ""


def test_there_are_enough_of_them() -> None:
    assert len(PATCHES) >= 25


def test_each_patch_says_what_it_does() -> None:
    for patch in PATCHES:
        assert patch.fault.endswith("."), patch.path.name
        assert patch.seen, patch.path.name


def test_the_table_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == page(PATCHES), "run `python -m tests.simulator.bites` and commit what it changed"


def test_a_patch_that_does_not_apply_says_so(tmp_path: Path) -> None:
    stale = tmp_path / "stale.patch"
    stale.write_text("--- a/core/x.py\n+++ b/core/x.py\n@@ -1 +1 @@\n-gone\n+new\n", "utf-8")
    with pytest.raises(AssertionError, match=r"stale\.patch does not apply any more"):
        copy_core(tmp_path / "copy", stale)
