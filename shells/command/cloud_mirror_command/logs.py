"""Logs: one JSON object a line on stderr, from which nobody learns a secret.

Every text that goes out, be it message, field or traceback, passes `clean`: URLs lose user, query and fragment
(a presigned URL's secret is its query), also where they stand percent-encoded or in base64 in a path of ours;
credentials lose their value. The fields are `time` (ISO 8601, UTC, milliseconds), `level`, `logger`, `event`
(the message), what the caller gave as `extra`, and `exception`.
"""

from __future__ import annotations

import enum
import json
import logging
import math
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

HIDDEN: Final = "[hidden]"

_SCHEME: Final = r"\b[A-Za-z][A-Za-z0-9+.-]{0,15}"
_USER: Final = re.compile(rf"(?P<scheme>{_SCHEME}://)[^\s/?#]*@")
_URL: Final = re.compile(rf"(?P<kept>{_SCHEME}://[^\s?#]*)\S*")
_QUERY: Final = re.compile(r"\?[^\s?]*=\S*")
_ENCODED_TAIL: Final = re.compile(r"(?i)(?P<url>https?%3A[^\s?]*?)%(?:3F|23)\S*")
"""A query may hold quotes, brackets and commas: what is cut off ends at a space, and takes a closing quote with it."""
_ENCODED_USER: Final = re.compile(r"(?i)(?P<scheme>https?%3A%2F%2F)(?:(?!%2F)[^\s?/])*(?:%40|@)")
_BASE64: Final = re.compile(r"\b(?:aHR0c|SFRUUD|SFRUUF)[A-Za-z0-9+/_=-]+")
"""base64 and base64url of what begins with `http`: a URL, query and all."""
_AUTHORIZATION: Final = re.compile(
    r"(?i)(?P<name>\b(?:proxy-)?authorization\b['\"]?\s*[:=,]\s*)(?P<quote>['\"]?)[^'\"\r\n]+"
)
_BEARER: Final = re.compile(r"(?i)\b(?P<name>bearer|basic)\s+[A-Za-z0-9._~+/-]{4,}=*")
_ASSIGNED: Final = re.compile(
    r"(?i)(?P<name>\b(?:x-amz-(?:signature|credential|security-token)|signature|credential|password|passwd|"
    r"secret|secret_key|secret_access_key|aws_secret_access_key|session_token|aws_session_token|admin_token|"
    r"set-cookie|cookie)['\"]?\s*[:=]\s*)(?P<quote>['\"]?)[^\s'\",;&]+"
)
_ACCESS_KEY: Final = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")

_SECRET_FIELDS: Final = re.compile(
    r"(?i)authorization|password|passwd|secret|credential|cookie|session_token|admin_token|signature|receipt"
)
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has by itself: all else is a field that the caller gave."""

_QUIET: Final = ("botocore", "urllib3", "aiohttp.access", "asyncio", "coredis")
"""These log requests, signatures or bodies at DEBUG: never more than warnings from them."""


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without query strings, user names in URLs, credentials, and the given secrets."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _AUTHORIZATION.sub(rf"\g<name>\g<quote>{HIDDEN}", text)
    text = _USER.sub(r"\g<scheme>", text)
    text = _URL.sub(r"\g<kept>", text)
    text = _ENCODED_TAIL.sub(r"\g<url>", text)
    text = _ENCODED_USER.sub(r"\g<scheme>", text)
    text = _BASE64.sub("[url]", text)
    text = _QUERY.sub("", text)
    text = _BEARER.sub(rf"\g<name> {HIDDEN}", text)
    text = _ASSIGNED.sub(rf"\g<name>\g<quote>{HIDDEN}", text)
    return _ACCESS_KEY.sub(HIDDEN, text)


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line, every text of it cleaned."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secret for secret in secrets if secret)

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN and name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps({name: self._value(name, value) for name, value in line.items()}, ensure_ascii=False)

    def _value(self, name: str, value: object) -> object:
        if _SECRET_FIELDS.search(name):
            return HIDDEN
        match value:
            case float() if not math.isfinite(value):
                return str(value)  # JSON has no such number
            case None | bool() | int() | float():
                return value
            case enum.Enum():
                return self._value(name, value.value)
            case dict():
                return {str(key): self._value(str(key), inner) for key, inner in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._value(name, inner) for inner in value]
            case _:
                return clean(str(value), self._secrets)


def configure(level: str = "info", *, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send all logs of this process, from `level` up, to stderr (or `stream`); `secrets` never appear in them."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(secrets))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
