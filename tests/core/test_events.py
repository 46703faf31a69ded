"""What machines are told: what is left unsaid is nothing."""

import dataclasses
from typing import get_args

from cloud_mirror.events import FoundCopy, PurgeEvent, RedirectEvent

EVENTS = {*get_args(RedirectEvent), *get_args(PurgeEvent), FoundCopy}


def test_what_is_left_unsaid_is_nothing() -> None:
    for kind in EVENTS:
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                assert field.default in (None, "", False, 0), (kind, field.name)
