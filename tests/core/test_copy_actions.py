"""What the copy machine asks for: what is left unsaid, and what a shell need not wait for."""

import dataclasses
from typing import get_args

from cloud_mirror.copy_actions import BESIDE, CopyAction, KeepLease, ReservePart


def test_what_is_left_unsaid_is_nothing() -> None:
    for kind in get_args(CopyAction):
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING and field.name != "slot":
                assert field.default in ("", False, 0), (kind, field.name)


def test_a_copy_that_has_ended_needs_no_lease_and_no_memory() -> None:
    assert set(BESIDE) == {KeepLease, ReservePart}
