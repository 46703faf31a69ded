"""What the copy machine is told: what is left unsaid is nothing, and an upload's name is not shown."""

import dataclasses
from typing import get_args

from cloud_mirror.copy_events import CopyEvent, UploadCreated, UploadFound
from cloud_mirror.plan import NONE


def test_what_is_left_unsaid_is_nothing() -> None:
    for kind in get_args(CopyEvent):
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                assert field.default in (None, "", False, 0), (kind, field.name)


def test_an_upload_id_is_not_shown() -> None:
    assert "hidden" not in repr(UploadCreated("hidden"))
    assert "hidden" not in repr(UploadFound("hidden", "mine", 1, NONE, 0))
