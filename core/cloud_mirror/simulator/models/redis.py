"""A Redis that knows the mirror's one script, `wire/entry.lua`, and does what it says line by line.

Life is counted as Redis counts it: in whole milliseconds of the server's own clock; a key is gone once its moment lies
in the past, and is forgotten when somebody asks for it. Until then a clock that is set back brings it back.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from cloud_mirror.wire.calls import RedisRefusal, RedisReply
from cloud_mirror.wire.redis import SCRIPT, SCRIPT_SHA1

Notice: TypeAlias = tuple[str, str]
"""A channel, and what was published on it."""

_STATUSES: Final = frozenset({b"pending", b"present", b"error"})
_TIMES: Final = frozenset({"since", "expires_at", "verified_at", "retry_at"})
_NOSCRIPT: Final = RedisRefusal("NOSCRIPT No matching script. Please use EVAL.")
_UNKNOWN: Final = RedisRefusal("ERR unknown command")


@dataclass(frozen=True, slots=True)
class Executed:
    """What a command was answered, and what was published on the way, as (channel, message)."""

    reply: RedisReply | RedisRefusal
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds: a hash's fields and values in turn, or (None) something that is no hash.

    `expires_ms`: the last millisecond of its life; None: it has no end. The rest is what the script looks at.
    """

    fields: tuple[bytes, ...] | None
    expires_ms: int | None
    sound: bool = field(compare=False, default=False)
    status: bytes = field(compare=False, default=b"")
    token: bytes = field(compare=False, default=b"")
    holder: bytes | None = field(compare=False, default=None)
    epoch: bytes | None = field(compare=False, default=None)


@dataclass(frozen=True, slots=True)
class RedisImage:
    """All that a Redis held at some moment."""

    values: tuple[tuple[str, Value], ...]


def _hash(fields: tuple[bytes, ...], expires_ms: int | None) -> Value:
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    status, token = named.get(b"status", b""), named.get(b"token")
    sound = expires_ms is not None and named.get(b"v") == b"1" and status in _STATUSES and token is not None
    return Value(fields, expires_ms, sound, status, token or b"", named.get(b"holder"), named.get(b"epoch"))


class RedisModel:
    """One Redis. `execute` takes what `cloud_mirror.wire.redis` sends; the other methods are faults.

    Times are seconds since 1970, or since any other moment not long past: none may be below 0.
    """

    __slots__ = ("_loaded", "_offset_s", "_values")

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        self._loaded = False
        self._offset_s = 0.0

    def copy(self) -> RedisModel:
        """An independent twin."""
        twin = RedisModel()
        twin._values = self._values.copy()
        twin._loaded = self._loaded
        twin._offset_s = self._offset_s
        return twin

    def key(self) -> Hashable:
        """What tells this Redis from another. `expire` it first, so that what is past its life makes no difference."""
        return frozenset(self._values.items()), self._loaded, self._offset_s

    def execute(self, words: tuple[str | bytes, ...], now_s: float) -> Executed:
        """Carry one command out."""
        match words:
            case ("EVALSHA", sha1, "2", *rest) if sha1 == SCRIPT_SHA1:
                if not self._loaded:
                    return Executed(_NOSCRIPT)
                return self._run(cast(list[str], rest), now_s)
            case ("EVAL", script, "2", *rest) if script == SCRIPT:
                self._loaded = True
                return self._run(cast(list[str], rest), now_s)
            case ("SCRIPT", "LOAD", script) if script == SCRIPT:
                self._loaded = True
                return Executed(RedisReply(SCRIPT_SHA1.encode()))
            case ("PING",):
                return Executed(RedisReply(b"PONG"))
        return Executed(_UNKNOWN)

    def _run(self, words: list[str], now_s: float) -> Executed:
        """The script. `words`: its two keys, then its arguments, all of them text, as wire sends them."""
        key, target, operation, condition, token, status, life_ms, channel, notice, *fields = words
        clock_s = now_s + self._offset_s
        now_ms = int(clock_s * 1000)
        entry = self._sound(key, now_ms)
        if condition == "unchanged":
            holds = entry is not None and entry.fields == tuple(cast(list[bytes], fields))
        else:
            holds = _holds(entry, condition, token.encode(), status.encode())
        holds = holds and (target == key or not self._held_to_copy(target, now_ms))
        found: list[object] = [1 if holds else 0, b"%.6f" % clock_s, -2]
        if entry is not None:
            assert entry.fields is not None
            assert entry.expires_ms is not None
            found[2] = entry.expires_ms - now_ms
            found += entry.fields
        if not holds or operation == "read":
            return Executed(RedisReply(found))
        if operation == "drop":
            self._values.pop(target, None)
        else:
            if operation == "write":
                self._values.pop(target, None)
            self._set(target, fields, clock_s, now_ms, int(life_ms))
            if target != key:
                self._values.pop(key, None)
        return Executed(RedisReply(found), ((channel, notice),) if channel else ())

    def _alive(self, key: str, now_ms: int) -> Value | None:
        value = self._values.get(key)
        if value is not None and value.expires_ms is not None and now_ms > value.expires_ms:
            del self._values[key]
            return None
        return value

    def _sound(self, key: str, now_ms: int) -> Value | None:
        value = self._alive(key, now_ms)
        if value is None or value.sound:
            return value
        del self._values[key]
        return None

    def _held_to_copy(self, target: str, now_ms: int) -> bool:
        """Whether a live lease holds what a renewal is to be published over."""
        value = self._sound(target, now_ms)
        return value is not None and _copying(value)

    def _set(self, target: str, fields: list[str], clock_s: float, now_ms: int, life_ms: int) -> None:
        """HSET each field, then PEXPIRE. What was no entry there is gone by now."""
        value = self._alive(target, now_ms)
        named: dict[bytes, bytes] = {}
        if value is not None:
            assert value.fields is not None, "it was looked at"
            named = dict(zip(value.fields[::2], value.fields[1::2], strict=True))
        for name, text in zip(fields[::2], fields[1::2], strict=True):
            if text.startswith("+") and name in _TIMES:
                named[name.encode()] = b"%.6f" % (clock_s + float(text[1:]))
            else:
                named[name.encode()] = text.encode()
        if named:
            self._values[target] = _hash(tuple(word for pair in named.items() for word in pair), now_ms + life_ms)

    def expire(self, now_s: float) -> None:
        """Forget what is past its life, as Redis does in its own time."""
        now_ms = int((now_s + self._offset_s) * 1000)
        for key in list(self._values):
            self._alive(key, now_ms)

    def flush(self) -> None:
        """Lose every key. The script stays."""
        self._values.clear()

    def evict(self, key: str) -> None:
        """Lose one key, as for want of memory."""
        self._values.pop(key, None)

    def forget_scripts(self) -> None:
        """Lose the script, as at a restart."""
        self._loaded = False

    def image(self) -> RedisImage:
        """What is held now, for a `restore` later."""
        return RedisImage(tuple(self._values.items()))

    def restore(self, image: RedisImage) -> None:
        """Hold what was held then, as a replica that takes over: what was written since is lost, what was dropped is
        back. Lives run on by the clock.
        """
        self._values = dict(image.values)

    def spoil(self, key: str, fields: Mapping[str, bytes]) -> None:
        """Set fields of a hash that is there to whatever is given; its life stays."""
        value = self._values.get(key)
        if value is not None and value.fields is not None:
            named = dict(zip(value.fields[::2], value.fields[1::2], strict=True))
            named |= {name.encode(): garbage for name, garbage in fields.items()}
            self._values[key] = _hash(tuple(word for pair in named.items() for word in pair), value.expires_ms)

    def replace(self, key: str) -> None:
        """Put something that is no hash, and has no end, in a key's place."""
        self._values[key] = Value(None, None)

    def persist(self, key: str) -> None:
        """Take away the end of a key's life."""
        value = self._values.get(key)
        if value is not None:
            self._values[key] = Value(None, None) if value.fields is None else _hash(value.fields, None)

    def set_clock(self, offset_s: float) -> None:
        """Let the server's clock be off by so much; less than before sets it back, as a failover may by a second."""
        self._offset_s = offset_s

    def keys(self) -> tuple[str, ...]:
        """The keys that are held, those past their life included until they are asked for."""
        return tuple(self._values)

    def entry(self, key: str, now_s: float) -> Value | None:
        """What the script would find at a key; nothing changes."""
        value = self._values.get(key)
        if value is None or not value.sound:
            return None
        assert value.expires_ms is not None, "what is sound has an end"
        return value if int((now_s + self._offset_s) * 1000) <= value.expires_ms else None

    def fields(self, key: str) -> dict[str, str]:
        """What a hash holds; nothing where there is none."""
        value = self._values.get(key)
        texts = [word.decode("utf-8", "replace") for word in (value.fields if value and value.fields else ())]
        return dict(zip(texts[::2], texts[1::2], strict=True))


def _holds(entry: Value | None, condition: str, token: bytes, status: bytes) -> bool:
    """Whether the entry, as the script found it, meets the condition."""
    match condition:
        case "any":
            return True
        case "vacant":
            return entry is None
        case "same":
            return entry is None or (entry.token == token and entry.status == status)
        case "held":
            return entry is not None and entry.token == token and entry.status == b"pending"
        case "takeable":
            return entry is None or (not _copying(entry) and entry.status != b"present")
        case "idle":
            return (
                entry is None or entry.status == b"error" or (entry.status == b"pending" and entry.holder == b"queued")
            )
        case "renewable":
            return entry is None or not _copying(entry)
        case "served":
            return entry is not None and entry.status == b"present" and entry.epoch == token
        case "other-epoch":
            return entry is not None and entry.epoch is not None and entry.epoch != token
    return False


def _copying(entry: Value) -> bool:
    return entry.status == b"pending" and entry.holder == b"copying"
