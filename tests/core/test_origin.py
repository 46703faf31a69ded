"""What an origin's reply means, hop by hop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.origin import (
    Approve,
    Asking,
    Confirm,
    Decline,
    Follow,
    Headers,
    Hop,
    LengthError,
    Verdict,
    content_length,
    gives_ranges,
    is_part,
    judge,
    retry_after_s,
)
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.source import SourceRules, parse_source

POLICY = SourcePolicy(allowed_patterns=(r"^https://good\.example/",), redirect_limit=3)
RULES = SourceRules(POLICY)
URL = parse_source("https://good.example/a/b?q=1", POLICY.max_url_bytes)


def ask(asking: Asking, status: int, headers: Headers = (), redirects: int = 0) -> Verdict:
    return judge(Hop(URL, asking, redirects), status, headers, POLICY, RULES)


@pytest.mark.parametrize(
    ("asking", "status", "verdict"),
    [
        (Asking.HEAD, 200, Approve()),
        (Asking.HEAD, 204, Approve()),
        (Asking.HEAD, 199, Confirm()),
        (Asking.HEAD, 299, Approve()),
        (Asking.HEAD, 300, Decline(Reason.ORIGIN_REDIRECTS, 300)),
        (Asking.HEAD, 399, Decline(Reason.ORIGIN_REDIRECTS, 399)),
        (Asking.HEAD, 400, Confirm()),
        (Asking.HEAD, 404, Decline(Reason.ORIGIN_NOT_FOUND, 404)),
        (Asking.HEAD, 410, Decline(Reason.ORIGIN_GONE, 410)),
        (Asking.HEAD, 304, Decline(Reason.ORIGIN_REDIRECTS, 304)),
        (Asking.HEAD, 403, Confirm()),
        (Asking.HEAD, 405, Confirm()),
        (Asking.HEAD, 429, Confirm()),
        (Asking.HEAD, 503, Confirm()),
        (Asking.HEAD, 500, Confirm()),
        (Asking.FIRST_BYTE, 200, Approve()),
        (Asking.FIRST_BYTE, 206, Approve()),
        (Asking.FIRST_BYTE, 416, Approve()),
        (Asking.FIRST_BYTE, 199, Decline(Reason.ORIGIN_REPLY, 199)),
        (Asking.FIRST_BYTE, 299, Approve()),
        (Asking.FIRST_BYTE, 300, Decline(Reason.ORIGIN_REDIRECTS, 300)),
        (Asking.FIRST_BYTE, 403, Decline(Reason.ORIGIN_REFUSED, 403)),
        (Asking.FIRST_BYTE, 404, Decline(Reason.ORIGIN_NOT_FOUND, 404)),
        (Asking.FIRST_BYTE, 429, Decline(Reason.ORIGIN_BUSY, 429)),
        (Asking.FIRST_BYTE, 503, Decline(Reason.ORIGIN_ERROR, 503)),
        (Asking.GET, 200, Approve()),
        (Asking.GET, 204, Decline(Reason.ORIGIN_REPLY, 204)),
        (Asking.GET, 206, Decline(Reason.ORIGIN_REPLY, 206)),
        (Asking.GET, 416, Decline(Reason.ORIGIN_REFUSED, 416)),
        (Asking.GET, 299, Decline(Reason.ORIGIN_REPLY, 299)),
        (Asking.GET, 399, Decline(Reason.ORIGIN_REDIRECTS, 399)),
        (Asking.GET, 400, Decline(Reason.ORIGIN_REFUSED, 400)),
        (Asking.GET, 499, Decline(Reason.ORIGIN_REFUSED, 499)),
        (Asking.GET, 500, Decline(Reason.ORIGIN_ERROR, 500)),
        (Asking.GET, 599, Decline(Reason.ORIGIN_ERROR, 599)),
        (Asking.GET, 600, Decline(Reason.ORIGIN_REPLY, 600)),
        (Asking.GET, 999, Decline(Reason.ORIGIN_REPLY, 999)),
        (Asking.GET, 412, Decline(Reason.ORIGIN_REFUSED, 412)),
        (Asking.RANGE, 200, Approve()),  # it heeds no range: `is_part` tells
        (Asking.RANGE, 204, Decline(Reason.ORIGIN_REPLY, 204)),
        (Asking.RANGE, 206, Approve()),
        (Asking.RANGE, 412, Approve()),
        (Asking.RANGE, 416, Approve()),
        (Asking.RANGE, 404, Decline(Reason.ORIGIN_NOT_FOUND, 404)),
        (Asking.RANGE, 503, Decline(Reason.ORIGIN_ERROR, 503)),
    ],
)
def test_status(asking: Asking, status: int, verdict: Verdict) -> None:
    assert ask(asking, status) == verdict


@given(st.sampled_from(Asking), st.integers(100, 999))
def test_only_a_head_is_asked_again(asking: Asking, status: int) -> None:
    verdict = ask(asking, status)
    if isinstance(verdict, Confirm):
        assert asking is Asking.HEAD
    if isinstance(verdict, Approve):
        others = (Asking.FIRST_BYTE, 416), (Asking.RANGE, 412), (Asking.RANGE, 416)
        assert 200 <= status < 300 or (asking, status) in others


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("asking", Asking)
def test_redirects_are_followed(asking: Asking, status: int) -> None:
    target = parse_source("https://good.example/c", POLICY.max_url_bytes)
    assert ask(asking, status, (("location", "/c"),)) == Follow(target)


@pytest.mark.parametrize(
    ("headers", "redirects", "reason"),
    [
        ((), 0, Reason.ORIGIN_REDIRECTS),
        ((("location", ""),), 0, Reason.ORIGIN_REDIRECTS),
        ((("location", "/c"),), 3, Reason.ORIGIN_REDIRECTS),
        ((("location", "https://evil.example/"),), 0, Reason.HOP_NOT_ALLOWED),
        ((("location", "http://good.example/c"),), 0, Reason.HOP_NOT_ALLOWED),
        ((("location", "https://169.254.169.254/"),), 0, Reason.HOP_NOT_ALLOWED),
        ((("location", "https://user@good.example/"),), 0, Reason.HOP_NOT_ALLOWED),
    ],
)
def test_redirects_that_are_not_followed(headers: Headers, redirects: int, reason: Reason) -> None:
    assert ask(Asking.GET, 302, headers, redirects) == Decline(reason)


def test_a_hop_is_the_first_one_unless_it_says_otherwise() -> None:
    assert Hop(URL, Asking.HEAD).redirects == 0


def test_the_last_redirect_that_is_allowed_is_followed() -> None:
    assert isinstance(ask(Asking.GET, 302, (("location", "/c"),), 2), Follow)


LARGEST = POLICY.max_object_bytes


@pytest.mark.parametrize(
    ("asking", "status", "headers", "too_large"),
    [
        (Asking.HEAD, 200, (("content-length", str(LARGEST)),), False),
        (Asking.HEAD, 200, (("content-length", str(LARGEST + 1)),), True),
        (Asking.HEAD, 200, (("content-length", "x"),), False),  # its GET will tell
        (Asking.HEAD, 200, (("content-range", f"bytes 0-0/{LARGEST + 1}"),), False),
        (Asking.FIRST_BYTE, 200, (("content-length", str(LARGEST + 1)),), True),
        (Asking.FIRST_BYTE, 206, (("content-length", "1"), ("content-range", f"bytes 0-0/{LARGEST}")), False),
        (Asking.FIRST_BYTE, 206, (("content-length", "1"), ("content-range", f"Bytes 0-0/{LARGEST + 1} ")), True),
        (Asking.FIRST_BYTE, 206, (("content-length", "1"), ("content-range", "bytes 0-0/*")), False),
        (Asking.FIRST_BYTE, 206, (("content-range", f"x bytes 0-0/{LARGEST + 1}"),), False),
        (Asking.FIRST_BYTE, 206, (("content-range", f"bytes 10-20/{LARGEST + 1}"),), True),
        (Asking.FIRST_BYTE, 206, (("content-range", f"bytes 0-0/{LARGEST + 1}x"),), False),
        (Asking.FIRST_BYTE, 206, (("content-length", str(LARGEST + 1)),), False),
        (Asking.FIRST_BYTE, 416, (("content-length", str(LARGEST + 1)),), False),
        (Asking.GET, 200, (("content-length", str(LARGEST + 1)),), False),  # the copy machine's to judge
    ],
)
def test_what_is_too_large_is_seen_before_anybody_is_sent_for_it(
    asking: Asking, status: int, headers: Headers, *, too_large: bool
) -> None:
    assert ask(asking, status, headers) == (Decline(Reason.OBJECT_TOO_LARGE, status) if too_large else Approve())


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120.0), (" 5 ", 5.0), ("-1", None), ("1.5", None), ("\uff11", None), ("soon", None)]
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after_s((("retry-after", value),)) == seconds
    assert ask(Asking.GET, 503, (("retry-after", value),)) == Decline(Reason.ORIGIN_ERROR, 503, seconds)


@pytest.mark.parametrize(
    ("status", "headers", "verdict"),
    [
        (503, (("retry-after", "5"),), Decline(Reason.ORIGIN_ERROR, 503, 5.0)),
        (503, (("retry-after", "soon"),), Confirm()),
        (500, (("retry-after", "5"),), Confirm()),
        (429, (("retry-after", "5"),), Decline(Reason.ORIGIN_BUSY, 429, 5.0)),
    ],
)
def test_a_head_that_asks_for_time_is_not_asked_again(status: int, headers: Headers, verdict: Verdict) -> None:
    assert ask(Asking.HEAD, status, headers) == verdict


PART: Headers = (("etag", '"e"'), ("content-range", "bytes 5-9/20"), ("content-length", "5"))


def with_header(headers: Headers, name: str, value: str | None) -> Headers:
    others = tuple((key, line) for key, line in headers if key != name)
    return others if value is None else (*others, (name, value))


@pytest.mark.parametrize(
    ("status", "headers", "right"),
    [
        (206, PART, True),
        (206, with_header(PART, "content-range", " bytes 5-9/20 "), True),
        (206, with_header(PART, "content-length", None), True),
        (200, PART, False),
        (206, with_header(PART, "etag", None), False),
        (206, with_header(PART, "etag", 'W/"e"'), False),
        (206, with_header(PART, "etag", '"f"'), False),
        (206, with_header(PART, "content-range", None), False),
        (206, with_header(PART, "content-range", "bytes 5-9/21"), False),
        (206, with_header(PART, "content-range", "bytes 5-9/*"), False),
        (206, with_header(PART, "content-range", "bytes 5-8/20"), False),
        (206, with_header(PART, "content-range", "bytes 4-9/20"), False),
        (206, with_header(PART, "content-length", "4"), False),
        (206, with_header(PART, "content-length", "6"), False),
        (206, with_header(PART, "content-length", "x"), False),
    ],
)
def test_a_part_is_of_the_very_object_and_just_what_was_asked_for(
    status: int, headers: Headers, *, right: bool
) -> None:
    assert is_part(status, headers, '"e"', 5, 9, 20) is right


RANGES: Headers = (("accept-ranges", "bytes"), ("etag", '"e"'))


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        (RANGES, True),
        (with_header(RANGES, "accept-ranges", "items, Bytes "), True),
        ((*RANGES, ("accept-ranges", "none")), True),
        (with_header(RANGES, "accept-ranges", None), False),
        ((("vary", "bytes"), ("etag", '"e"')), False),
        (with_header(RANGES, "accept-ranges", "none"), False),
        (with_header(RANGES, "accept-ranges", "bytesx"), False),
        (with_header(RANGES, "etag", None), False),
        (with_header(RANGES, "etag", 'W/"e"'), False),
        (with_header(RANGES, "etag", "e"), False),
        (with_header(RANGES, "etag", '"e'), False),
        (with_header(RANGES, "etag", '"e f"'), False),
        (with_header(RANGES, "etag", '"e"f"'), False),
        (with_header(RANGES, "etag", '"\xe9"'), False),
        (with_header(RANGES, "etag", '"e"\n'), False),
        (with_header(RANGES, "etag", 'x"e"'), False),
        (with_header(RANGES, "etag", '""'), True),
        (with_header(RANGES, "etag", '"!#~"'), True),
    ],
)
def test_ranges_are_promised_by_a_strong_validator_and_a_length(headers: Headers, *, given: bool) -> None:
    assert gives_ranges(headers, 5) is given
    assert gives_ranges(headers, 0) is given
    assert not gives_ranges(headers, None)


@pytest.mark.parametrize(
    ("lines", "length"), [((), None), (("5",), 5), ((" 5 ",), 5), (("5", "5"), 5), (("5, 5",), 5), (("0",), 0)]
)
def test_content_length(lines: tuple[str, ...], length: int | None) -> None:
    headers = (("content-type", "text/plain"), *(("content-length", line) for line in lines))
    assert content_length(headers) == length


@pytest.mark.parametrize(
    "lines", [("5", "6"), ("5, 6",), ("",), ("+5",), ("1_0",), ("\uff11\uff10",), ("-1",), ("1" * 19,)]
)
def test_content_length_that_makes_no_sense(lines: tuple[str, ...]) -> None:
    with pytest.raises(LengthError, match="whole number"):
        content_length(tuple(("content-length", line) for line in lines))
