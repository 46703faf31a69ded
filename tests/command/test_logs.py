"""Logs: one JSON object a line, and no secret in any of them."""

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from cloud_mirror.reason import Reason
from cloud_mirror_command.logs import clean, configure

SECRET = "hunter2secret"
MARKS = "'\"<>,;()"
PRESIGNED = f"https://bucket.s3.amazonaws.com/a/b.bin?X-Amz-Signature={SECRET}&X-Amz-Credential={SECRET}"
ENCODED = base64.b64encode(f"https://h/x?token={SECRET}".encode()).decode()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What the process logs, with the root logger put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    text = io.StringIO()
    configure("info", secrets=("known-secret", ""), stream=text)
    yield text
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_object_on_one_line(stream: io.StringIO) -> None:
    logging.getLogger("cloud_mirror.x").info(
        "a %s\nb", 1, extra={"bytes": 5, "reason": Reason.DEADLINE, "at": float("inf")}
    )
    [line] = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "cloud_mirror.x",
        "event": "a 1\nb",
        "bytes": 5,
        "reason": "deadline",
        "at": "inf",
    }


def test_the_time_is_utc_in_milliseconds(stream: io.StringIO) -> None:
    record = logging.makeLogRecord({"msg": "x", "created": 1.5, "levelname": "INFO", "name": "n"})
    logging.getLogger().handlers[0].handle(record)
    assert lines(stream)[0]["time"] == "1970-01-01T00:00:01.500Z"


def test_an_exception_is_a_field_and_is_cleaned(stream: io.StringIO) -> None:
    try:
        raise ValueError(f"no answer from {PRESIGNED}")
    except ValueError:
        logging.getLogger("x").exception("failed")
    [line] = lines(stream)
    assert "ValueError: no answer from https://bucket.s3.amazonaws.com/a/b.bin" in line["exception"]
    assert SECRET not in stream.getvalue()


def test_below_the_level_nothing_is_logged_and_libraries_keep_their_bodies(stream: io.StringIO) -> None:
    configure("debug", stream=stream)
    logging.getLogger("botocore.auth").debug("StringToSign")
    logging.getLogger("urllib3.connectionpool").debug("GET")
    logging.getLogger("cloud_mirror").debug("seen")
    assert [line["event"] for line in lines(stream)] == ["seen"]


def test_fields_that_are_secrets_by_name_are_hidden(stream: io.StringIO) -> None:
    extra = {"headers": {"Authorization": SECRET, "Host": "h"}, "password": SECRET, "urls": [PRESIGNED]}
    logging.getLogger("x").info("asked with known-secret", extra=extra)
    [line] = lines(stream)
    assert line["headers"] == {"Authorization": "[hidden]", "Host": "h"}
    assert line["password"] == "[hidden]"
    assert line["urls"] == ["https://bucket.s3.amazonaws.com/a/b.bin"]
    assert line["event"] == "asked with [hidden]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"GET {PRESIGNED} failed", "GET https://bucket.s3.amazonaws.com/a/b.bin failed"),
        (f"'https://u:{SECRET}@h:1/p#{SECRET}'", "'https://h:1/p"),
        (f"redis://:{SECRET}@cache:6379/0", "redis://cache:6379/0"),
        (f"rediss://user:{SECRET}@cache", "rediss://cache"),
        (f"GET /bucket/key?token={SECRET} 200", "GET /bucket/key 200"),
        *((f"GET https://h/f?name={mark}x{mark}&token={SECRET} 200", "GET https://h/f 200") for mark in MARKS),
        *((f"GET https://h/f?{mark}{SECRET}{mark} 200", "GET https://h/f 200") for mark in MARKS),
        *((f"GET https://h/f{mark}?{SECRET} 200", f"GET https://h/f{mark} 200") for mark in MARKS),
        *((f"GET /bucket/key?name={mark}x{mark}&token={SECRET} 200", "GET /bucket/key 200") for mark in MARKS),
        *((f"GET https://u:{mark}{SECRET}@h/f 200", "GET https://h/f 200") for mark in MARKS),
        *((f"GET https%3A%2F%2Fh%2Ff%3F{mark}x{mark}{SECRET} 200", "GET https%3A%2F%2Fh%2Ff 200") for mark in MARKS),
        *((f"GET https%3A%2F%2Fh%2Ff{mark}%3F{SECRET} 200", f"GET https%3A%2F%2Fh%2Ff{mark} 200") for mark in MARKS),
        (f"https://a/b,https://u:{SECRET}@h/c", "https://a/b,https://h/c"),
        ("is it? yes", "is it? yes"),
        (
            f"/v1/redirect/s3/r/{quote(f'https://h/x?token={SECRET}', safe='')} 302",
            "/v1/redirect/s3/r/https%3A%2F%2Fh%2Fx 302",
        ),
        (f"/v1/redirect/s3/r/{quote(f'https://u:{SECRET}@h/x', safe='')}", "/v1/redirect/s3/r/https%3A%2F%2Fh%2Fx"),
        (f"/v1/purge/s3/r/{ENCODED} 204", "/v1/purge/s3/r/[url] 204"),
        (f"Authorization: Bearer {SECRET}", "Authorization: [hidden]"),
        (
            f"{{'authorization': 'AWS4-HMAC-SHA256 Credential={SECRET}, Signature={SECRET}'}}",
            "{'authorization': '[hidden]'}",
        ),
        (f"sent Bearer {SECRET}!", "sent Bearer [hidden]!"),
        (f"Credential={SECRET}/20300101/us, SignedHeaders=host, Signature={SECRET}", None),
        (f"X-Amz-Signature={SECRET}&x=1", "X-Amz-Signature=[hidden]&x=1"),
        (f"x-amz-security-token: {SECRET}", "x-amz-security-token: [hidden]"),
        (f"aws_secret_access_key = {SECRET}", "aws_secret_access_key = [hidden]"),
        (f"password='{SECRET}'", "password='[hidden]'"),
        ("key AKIAIOSFODNN7EXAMPLE is refused", "key [hidden] is refused"),
    ],
)
def test_no_secret_passes(text: str, expected: str | None) -> None:
    cleaned = clean(text)
    assert SECRET not in cleaned
    assert expected is None or cleaned == expected


def test_cleaning_a_long_text_is_quick() -> None:
    text = "a" * 200_000 + "https%3A" * 1_000 + "?" * 10_000
    assert len(clean(text)) > 200_000
    urls = "https://" * 10_000
    assert clean(urls) == urls
