"""Which actions change something."""

from typing import get_args

from cloud_mirror.actions import PurgeAction, RedirectAction
from cloud_mirror.changing import CHANGING
from cloud_mirror.copy_actions import BESIDE, CopyAction

ACTIONS = {*get_args(RedirectAction), *get_args(CopyAction), *get_args(PurgeAction)}


def test_what_changes_something_is_what_says_so() -> None:
    assert set(CHANGING) == {action for action in ACTIONS if "Changes something." in (action.__doc__ or "")}
    assert len(set(CHANGING)) == len(CHANGING)
    assert not set(BESIDE) & set(CHANGING), "what a shell need not wait for changes nothing"
