"""What a driver asks of the process that it runs in, and gets answered without anything outside."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

from cloud_mirror.host import HostRefused
from cloud_mirror.wire.calls import (
    BodyPaced,
    Call,
    EnterHost,
    GetMonotonicTime,
    GetNoticeSequence,
    GetSigningMaterial,
    HostEntered,
    MonotonicTime,
    NoticeSequence,
    PaceBody,
    Reply,
    SigningMaterial,
)

OWN: Final = (GetMonotonicTime, GetNoticeSequence, GetSigningMaterial, EnterHost, PaceBody)
"""The calls that may be answered so; to be let in to a host may take its time all the same."""


class Local(Protocol):
    """The process that a driver runs in."""

    def now_s(self) -> float:
        """Its monotonic clock."""
        ...

    def wall_clock(self) -> datetime:
        """The time of day, in UTC."""
        ...

    def heard(self, entry_key: str) -> int:
        """How many notices of that entry it has heard."""
        ...

    def entered(self, call: EnterHost) -> HostEntered | HostRefused | None:
        """What is told at once to who would ask an origin's host; None: it has to wait."""
        ...

    def paced(self, call: PaceBody) -> BodyPaced:
        """How long a body is to be left alone."""
        ...


def own_reply(local: Local, call: Call) -> Reply | None:
    """The reply to a call that asks for nothing outside the process."""
    match call:
        case GetMonotonicTime():
            return MonotonicTime(local.now_s())
        case GetNoticeSequence(entry_key):
            return NoticeSequence(local.heard(entry_key))
        case GetSigningMaterial():
            return SigningMaterial("simulated", "simulated", None, local.wall_clock())
        case EnterHost():
            return local.entered(call)
        case PaceBody():
            return local.paced(call)
    return None
