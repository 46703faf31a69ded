"""Redis, sans-IO: the one script through which every entry is read and written.

A reply that makes no sense, an error that Redis answers and a broken connection are all the same to a machine:
the cache is unavailable. `NOSCRIPT`, after a restart, is none of these: the script is sent again, whole.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Final

from cloud_mirror.actions import Draft
from cloud_mirror.entry import ENTRY_VERSION, Entry, from_fields, to_fields
from cloud_mirror.wire.calls import Procedure, RedisCommand, RedisRefusal, RedisReply, TransportFailure

SCRIPT: Final = resources.files(__package__).joinpath("entry.lua").read_text("utf-8")
SCRIPT_SHA1: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

log = logging.getLogger("cloud_mirror.redis")

_TIME: Final = re.compile(rb"[0-9]{1,12}\.[0-9]{1,9}\Z")


@dataclass(frozen=True, slots=True)
class Found:
    """What the script answered: whether it did as asked, and the entry as it was before.

    `redis_time_s` and `life_left_s` are in seconds; `fields` is what is there, as it came: names and values in turn.
    """

    done: bool
    redis_time_s: float
    life_left_s: float
    entry: Entry | None
    fields: tuple[bytes, ...]

    @property
    def garbage(self) -> tuple[bytes, ...]:
        """What is there and is no entry."""
        return self.fields if self.entry is None else ()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Redis could not be asked, or would not. `sent`: what was asked may have been done all the same."""

    detail: str
    sent: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What a write is to do: on which condition, to which key, and whether to tell the others."""

    condition: str
    token: str = ""
    status: str = ""
    channel: str = ""
    notice: str = ""


class Outage:
    """Tells the log that the cache is gone, and that it is back: once each, whatever the number of commands."""

    def __init__(self) -> None:
        self._gone = False

    def note(self, reply: RedisReply | RedisRefusal | TransportFailure) -> None:
        """A command's reply came, or did not."""
        was_gone, self._gone = self._gone, isinstance(reply, TransportFailure)
        if isinstance(reply, TransportFailure) and not was_gone:
            log.error("the cache is gone: %s", reply.detail)
        elif was_gone and not self._gone:
            log.info("the cache is back")


def load() -> Procedure[None]:
    """Send the script ahead of its first use; where that fails, `run` sends it later."""
    yield RedisCommand(("SCRIPT", "LOAD", SCRIPT))


def read(key: str) -> Procedure[Found | Unavailable]:
    """Read an entry, with Redis's TIME."""
    return run((key, key), ("read", "any", "", "", "0", "", ""))


def write(key: str, target: str, change: Change, draft: Draft, *, fresh: bool = True) -> Procedure[Found | Unavailable]:
    """Write `draft` to `target` if the entry at `key` meets the condition; `fresh` forgets the old fields first."""
    fields = [(name, _sendable(value)) for name, value in to_fields(draft.entry) if name != "since"]
    if fresh:
        fields.append(("since", "+0"))
    if draft.expires_in_s is not None:
        fields += [("expires_at", f"+{draft.expires_in_s:.3f}"), ("verified_at", "+0")]
    if draft.retry_in_s is not None:
        fields.append(("retry_at", f"+{draft.retry_in_s:.3f}"))
    words = [word for pair in fields for word in pair]
    return run((key, target), ("write" if fresh else "touch", *_condition(change, draft.life_s), *words))


def note(key: str, token: str, fields: tuple[tuple[str, str], ...], life_s: float) -> Procedure[Found | Unavailable]:
    """Write something beside an entry that only `token` can add to (`touch`): it looks like one to the script."""
    words = [word for pair in (("v", ENTRY_VERSION), ("status", "pending"), ("token", token), *fields) for word in pair]
    return run((key, key), ("write", *_condition(Change("any"), life_s), *words))


def touch(
    key: str, change: Change, life_s: float, fields: tuple[tuple[str, str], ...] = ()
) -> Procedure[Found | Unavailable]:
    """Give an entry `life_s` more, and set some of its fields, if it meets the condition."""
    words = [word for pair in fields for word in pair]
    return run((key, key), ("touch", *_condition(change, life_s), *words))


def drop(key: str, change: Change) -> Procedure[Found | Unavailable]:
    """Delete an entry if it meets the condition."""
    return run((key, key), ("drop", *_condition(change, 0.0)))


def drop_garbage(key: str, garbage: tuple[bytes, ...]) -> Procedure[Found | Unavailable]:
    """Delete what is no entry, if it is there still as it was found: somebody may have written an entry meanwhile."""
    return run((key, key), ("drop", *_condition(Change("unchanged"), 0.0), *garbage))


def _sendable(text: str) -> str:
    """The text without halves of surrogate pairs, which some clients make of bytes that are not UTF-8 (PEP 383)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _condition(change: Change, life_s: float) -> tuple[str, ...]:
    life_ms = max(1, round(life_s * 1000))
    return (change.condition, change.token, change.status, str(life_ms), change.channel, change.notice)


def run(keys: tuple[str, str], arguments: tuple[str | bytes, ...]) -> Procedure[Found | Unavailable]:
    """Run the script, loading it where Redis does not have it."""
    words = ("2", *keys, *arguments)
    reply = yield RedisCommand(("EVALSHA", SCRIPT_SHA1, *words))
    if isinstance(reply, RedisRefusal) and reply.message.startswith("NOSCRIPT"):
        reply = yield RedisCommand(("EVAL", SCRIPT, *words))
    match reply:
        case TransportFailure(kind, detail):
            return Unavailable(f"{kind.value}: {detail}", sent=True)
        case RedisRefusal(message):
            return Unavailable(message, sent=False)
        case RedisReply(value):
            return _read_reply(value)
    raise AssertionError(reply)


def _read_reply(value: object) -> Found | Unavailable:
    match value:
        case [int(done), bytes(now), int(life_ms), *rest] if _TIME.match(now) and len(rest) % 2 == 0:
            texts = [word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in rest]
            fields = dict(zip(texts[::2], texts[1::2], strict=True))
            entry = from_fields(fields)
            return Found(done == 1, float(now), max(0, life_ms) / 1000, entry, tuple(_bytes(rest)))
    return Unavailable("the script's reply makes no sense", sent=True)


def _bytes(words: list[object]) -> Iterator[bytes]:
    return (word for word in words if isinstance(word, bytes))
