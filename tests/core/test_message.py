"""The queue message: what is written is read again, and nothing else is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.message import MAX_BODY_CHARS, Job, MessageError, from_body, to_body

JOB = Job("s3_us-west-1", "https://example.com/a?b=%22", "0")
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=64)
PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=2048)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["v", "pool", "url", "x"]), inner),
    max_leaves=6,
)


def members(**changes: object) -> str:
    return json.dumps({"v": 1, "pool": JOB.pool, "url": JOB.url, "epoch": JOB.epoch} | changes)


def test_the_message_as_it_lies_in_the_queue() -> None:
    assert to_body(JOB) == '{"v":1,"pool":"s3_us-west-1","url":"https://example.com/a?b=%22","epoch":"0"}'
    assert from_body(members()) == JOB
    assert from_body(" " + members() + "\n") == JOB


def test_a_message_as_long_as_any_may_be_is_read() -> None:
    assert MAX_BODY_CHARS == 128 * 1024
    assert from_body(members().ljust(MAX_BODY_CHARS)) == JOB


@given(st.builds(Job, NAMES, PRINTABLE, NAMES))
def test_round_trip(job: Job) -> None:
    body = to_body(job)
    assert body.isascii()
    assert from_body(body) == job


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("hello", "not JSON"),
        ("{'v': 1}", "not JSON"),
        (members() + "x", "not JSON"),
        ("9" * 5000, "not JSON"),
        ("NaN", "holds NaN"),
        ('{"v":-Infinity}', "holds -Infinity"),
        ("[" * 50_000, "nested too deeply"),
        ('{"v":' * 10_000, "nested too deeply"),
        (" " * (MAX_BODY_CHARS + 1), f"longer than {MAX_BODY_CHARS}"),
        ("null", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('"v"', "not a JSON object"),
        ('{"v":1,"v":1}', "a member twice"),
        (members().replace('"pool"', '"url"'), "a member twice"),
        ("{}", "not of version 1"),
        (members(v=2), "not of version 1"),
        (members(v="1"), "not of version 1"),
        (members(v=True), "not of version 1"),
        (members(v=1.0), "not of version 1"),
        (members(v=None), "not of version 1"),
        ('{"v":1}', "exactly the members epoch, pool, url, v"),
        (members(more=1), "exactly the members"),
        (members(pool=7), "the message's pool"),
        (members(pool=""), "the message's pool"),
        (members(url=["https://example.com/"]), "the message's url"),
        (members(url="https://example.com/é"), "the message's url"),
        (members(url=" https://example.com/"), "the message's url"),
        (members(url="https://example.com/ "), "the message's url"),
        (members(url="https://example.com/\n"), "the message's url"),
        (members(url="\ud800"), "the message's url"),
        (members(epoch=0), "the message's epoch"),
        (members(epoch="../0"), "the message's epoch"),
        (members(epoch="0" * 65), "the message's epoch"),
    ],
)
def test_what_is_no_job(body: str, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        from_body(body)


def test_an_error_quotes_nothing_of_the_message() -> None:
    with pytest.raises(MessageError) as caught:
        from_body(members(url="https://example.com/?hunter2 "))
    assert "hunter2" not in str(caught.value)


@given(JSON.map(json.dumps) | st.text(max_size=50))
def test_garbage_fails_in_no_other_way(body: str) -> None:
    with pytest.raises(MessageError):
        from_body(body)
