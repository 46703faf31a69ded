"""The queue message: a job, as JSON with a version.

Anybody who can write to the queue can write anything, and an older or newer version of the mirror may be at the other
end: so reading is strict, and fails only with `MessageError`, whose text quotes nothing of the message.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from cloud_mirror.entry import TOKEN

__all__ = ["MAX_BODY_CHARS", "MESSAGE_VERSION", "Job", "MessageError", "from_body", "to_body"]

MESSAGE_VERSION: Final = 1
MAX_BODY_CHARS: Final = 128 * 1024
"""No message is longer: well above the longest URL that can be configured (64 KiB), far below what a queue takes."""

_NAMES: Final = frozenset({"v", "pool", "url", "epoch"})
_PRINTABLE: Final = re.compile(r"[!-~]+\Z")


class MessageError(ValueError):
    """A message that is no job of this version: it belongs in the dead-letter queue."""


@dataclass(frozen=True, slots=True)
class Job:
    """Copy `url` (canonical) into `pool`; `epoch` is the one that the asking front end saw."""

    pool: str
    url: str
    epoch: str


def to_body(job: Job) -> str:
    """The job as a message body, ASCII."""
    members = {"v": MESSAGE_VERSION, "pool": job.pool, "url": job.url, "epoch": job.epoch}
    return json.dumps(members, separators=(",", ":"))


def from_body(text: str) -> Job:
    """The job that a message body holds; raises `MessageError`, and nothing else, where it holds none."""
    if len(text) > MAX_BODY_CHARS:
        raise MessageError(f"the message is longer than {MAX_BODY_CHARS} characters")
    try:
        members: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except MessageError:
        raise
    except RecursionError as error:
        raise MessageError("the message is nested too deeply") from error
    except ValueError as error:
        raise MessageError("the message is not JSON") from error
    if not isinstance(members, dict):
        raise MessageError("the message is not a JSON object")
    version = members.get("v")
    if type(version) is not int or version != MESSAGE_VERSION:  # True is 1, and so is 1.0
        raise MessageError(f"the message is not of version {MESSAGE_VERSION}: is another release at work here?")
    if members.keys() != _NAMES:
        raise MessageError(f"the message must have exactly the members {', '.join(sorted(_NAMES))}")
    epoch = _text(members, "epoch")
    if not TOKEN.match(epoch):
        raise MessageError("the message's epoch is not a name of letters, digits, - and _, 64 at most")
    return Job(_text(members, "pool"), _text(members, "url"), epoch)


def _text(members: dict[str, object], name: str) -> str:
    value = members[name]
    if not isinstance(value, str) or not _PRINTABLE.match(value):
        raise MessageError(f"the message's {name} is not a string of printable ASCII without spaces")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MessageError("the message has a member twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise MessageError(f"the message holds {name}, which is not JSON")
