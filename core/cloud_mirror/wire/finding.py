"""What the doctor's checks are, and what they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cloud_mirror.wire.calls import Procedure, TransportFailure


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. A remedy beside `ok` is a warning: it works, and should not stay so."""

    ok: bool
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: a title for people, and the procedure that makes it (each call makes a new one)."""

    title: str
    run: Callable[[], Procedure[Finding]] = field(repr=False)


def told(failure: TransportFailure) -> str:
    """The failure in words."""
    return f"{failure.kind.value}: {failure.detail}" if failure.detail else failure.kind.value
