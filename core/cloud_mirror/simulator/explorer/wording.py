"""A small world's calls, replies and answers in words, for people."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from cloud_mirror.actions import Response, ToCopy, ToOrigin
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
    HttpExchange,
    HttpReply,
    OpenBody,
    ReadBody,
    RedisCommand,
    RedisRefusal,
    RedisReply,
    Reply,
    TransportFailure,
)

_CONDITIONS: Final = {
    "any": "",
    "vacant": "if there is none",
    "same": "if it is as it was read",
    "held": "if {} holds it",
    "takeable": "if nobody copies",
    "idle": "if nobody is at work",
    "renewable": "if nobody renews",
    "other-epoch": "unless it is of {}",
    "served": "if it is present under {}",
    "unchanged": "if it is as it was read",
}
"""What the script compares (wire/entry.lua), by the name of the condition."""

_OF_EPOCHS: Final = ("other-epoch", "served")

_MADE_UP: Final = re.compile(r"zq([a-z][0-9]+)(?:([a-z])([0-9]+))?z(?:-([0-9]+))?")
_KINDS: Final = {"t": "lease", "c": "copy", "d": "letter", "f": "claim", "p": "epoch"}
"""What a name stands for, by the letter after its process's, or else by that of the process itself."""


def in_words(call: object) -> str:
    """A call."""
    match call:
        case RedisCommand(words=(_, _, _, key, _, operation, condition, token, _, _, _, _, *fields)):
            slot = {"renewal": "renewal", "upload": "upload's note"}.get(str(key).rpartition(":")[2], "entry")
            return " ".join(filter(None, (f"{operation!s} {slot}", _written(fields), _condition(condition, token))))
        case RedisCommand(words=words):
            return str(words[0])
        case HttpExchange(request=request):
            operation = dict(request.headers).get("operation", request.method)
            return f"{operation} {_place(request.target)}".rstrip()
        case OpenBody(request=request):
            return f"{request.method} the object"
        case ReadBody():
            return "read the body"
        case CloseBody():
            return "close the body"
    return type(call).__name__


def _written(fields: list[str | bytes]) -> str:
    """What an entry becomes."""
    named = dict(zip(map(str, fields[::2]), map(str, fields[1::2]), strict=True))
    words = (named.get("status"), named.get("holder"), named.get("reason"))
    return " ".join(filter(None, words))


def _condition(condition: object, token: object) -> str:
    name = str(token)
    return _CONDITIONS[str(condition)].format(_epoch(name) if condition in _OF_EPOCHS else people_say(name))


def _epoch(name: str) -> str:
    return f"epoch {name}" if name.isdigit() else people_say(name)


def _place(target: str) -> str:
    """What a key of the store, or a prefix of keys, stands for."""
    match target.strip("/").split("/"):
        case ["purged", _]:
            return "the epoch"
        case ["dead", _]:
            return "a dead letter"
        case [_, _, epoch, _]:
            return f"the copy of {_epoch(epoch)}"
        case [_, _]:
            return "under the URL"
    return ""


def reply_in_words(reply: Reply) -> str:
    """What came back of a call."""
    match reply:
        case RedisReply(value=(done, _, _, *rest)):
            texts = [word.decode() for word in rest]
            entry = _entry(dict(zip(texts[::2], texts[1::2], strict=True)))
            return entry if done else f"no: {entry}"
        case RedisRefusal(message):
            return message.partition(" ")[0]
        case HttpReply(status=status) | BodyOpened(status=status):
            return f"{status} {HTTPStatus(status).phrase}"
        case BodyRead(ended):
            return "the end" if ended else "as much as was wanted"
        case TransportFailure(kind):
            return kind.value
    return ""


def _entry(fields: dict[str, str]) -> str:
    """What the script found."""
    match fields.get("status"):
        case "pending" if "upload_id" in fields:
            return f"a note of {fields['upload_id']}"
        case "pending":
            return f"pending {fields['holder']}, held by {people_say(fields['token'])}"
        case "present":
            return f"present under {_epoch(fields['epoch'])}"
        case "error":
            return f"error {fields['reason']}"
    return "nothing there"


def answer_in_words(response: Response) -> str:
    """What a client is answered."""
    match response:
        case ToCopy(epoch, outcome, _):
            return f"302 to the copy of {_epoch(epoch)} ({outcome.value})"
        case ToOrigin(reason):
            return f"302 to the origin ({reason.code})"
    return f"{response.status} ({response.reason.code})"


def people_say(text: str) -> str:
    """The text with made-up names as somebody's: `zqb0t1z` is b0's lease 1."""

    def whose(found: re.Match[str]) -> str:
        who, kind, number, more = found.groups()
        return f"{who}'s {_KINDS[kind or who[0]]} {number or more or ''}".rstrip()

    return _MADE_UP.sub(whose, text)


def counted(number: int, thing: str) -> str:
    """So many of something."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
