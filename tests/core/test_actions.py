"""What machines ask for: what is left unsaid."""

import dataclasses
from typing import get_args

from cloud_mirror import actions
from cloud_mirror.actions import Draft, PurgeAction, RedirectAction, Slot, WriteEntry
from cloud_mirror.entry import Entry, Status

ACTIONS = {*get_args(RedirectAction), *get_args(PurgeAction)}


def test_what_is_left_unsaid_is_nothing() -> None:
    for kind in (*ACTIONS, actions.Refuse, Draft):
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING and field.name != "slot":
                assert field.default in (None, "", False, 0), (kind, field.name)


def test_what_is_written_is_the_entry_itself_unless_another_slot_is_named() -> None:
    assert WriteEntry(Draft(Entry(Status.PENDING, "t", "https://a.example/"), 1.0), "t").slot is Slot.ENTRY
