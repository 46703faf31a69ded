"""The doctor's checks of Redis. Each says what it found; none needs more than one command."""

from __future__ import annotations

from typing import Final

from cloud_mirror.wire.calls import Procedure, RedisCommand, RedisRefusal, RedisReply
from cloud_mirror.wire.finding import Finding, told

OLDEST_REDIS: Final = (6, 0)
SCRIPT: Final = """\
redis.call('HSET', KEYS[1], 'v', '0')
redis.call('PEXPIRE', KEYS[1], 5000)
redis.call('PUBLISH', KEYS[1], 'doctor')
local kind = redis.call('TYPE', KEYS[1])['ok']
redis.call('DEL', KEYS[1])
return {kind, redis.call('TIME')[1]}
"""
"""Does what the entry's script does, to a key of its own."""


def _redis(*words: str) -> Procedure[RedisReply | Finding]:
    """The reply, or what to tell of there being none."""
    reply = yield RedisCommand(words)
    match reply:
        case RedisReply():
            return reply
        case RedisRefusal(message):
            return Finding(False, f"{words[0]} is refused: {message}", f"let the user in redis.url run {words[0]}")
        case failure:
            return Finding(False, told(failure), "check redis.url, and that Redis is running and lets us in")


def check_ping() -> Procedure[Finding]:
    """Whether it can be reached, and lets us in."""
    reply = yield from _redis("PING")
    return reply if isinstance(reply, Finding) else Finding(True, "it answers")


def check_version() -> Procedure[Finding]:
    """Whether it is new enough."""
    reply = yield from _redis("INFO", "server")
    if isinstance(reply, Finding):
        return Finding(True, f"unknown ({reply.what})", f"check that it is Redis {_dotted(OLDEST_REDIS)} or later")
    version = _info(reply.value, "redis_version")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) < 2:
        return Finding(True, "unknown", f"check that it is Redis {_dotted(OLDEST_REDIS)} or later")
    if numbers < OLDEST_REDIS:
        return Finding(False, version, f"upgrade to Redis {_dotted(OLDEST_REDIS)} or later")
    return Finding(True, version)


def check_eviction() -> Procedure[Finding]:
    """What it does when its memory is full: a warning where it would refuse to be written to."""
    remedy = "set maxmemory-policy volatile-lru: a full Redis then drops the least used entry, not the newest write"
    reply = yield from _redis("CONFIG", "GET", "maxmemory*")
    if isinstance(reply, Finding):  # as in many a managed Redis
        return Finding(True, "its settings may not be read", f"see to it that it may evict: {remedy}")
    words = [_text(word) for word in reply.value] if isinstance(reply.value, list) else []
    settings = dict(zip(words[::2], words[1::2], strict=False))
    eviction, limit = settings.get("maxmemory-policy", ""), settings.get("maxmemory", "")
    if not eviction:
        return Finding(True, "its settings are not told", f"see to it that it may evict: {remedy}")
    if eviction == "noeviction":
        what = f"it refuses writes when its {limit} bytes are full" if limit not in ("", "0") else "it has no limit"
        return Finding(True, f"{what} (noeviction)", "" if limit in ("", "0") else remedy)
    return Finding(True, eviction)


def check_script(nonce: str) -> Procedure[Finding]:
    """Whether it runs a script that does what the entry's does, to a key of its own."""
    reply = yield from _redis("EVAL", SCRIPT, "1", f"cloud-mirror:1:doctor:{{{nonce}}}")
    if isinstance(reply, Finding):
        return reply
    answer = reply.value
    if not (isinstance(answer, list) and len(answer) == 2 and _text(answer[0]) == "hash"):
        return Finding(False, "a script ran and answered nonsense", "check what redis.url leads to: is it Redis?")
    return Finding(True, "run, with time and publish")


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _info(value: object, name: str) -> str:
    lines = _text(value).splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
