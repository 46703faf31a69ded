"""The reasons: each with its status and its sentence, as docs/operating.md lists them, and in its groups."""

import re
from pathlib import Path

from cloud_mirror.reason import LASTING, NEGATIVE, NOT_ALLOWED, PERMANENT, Reason

OPERATING = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def codes(reasons: frozenset[Reason]) -> set[str]:
    return {reason.code for reason in reasons}


def test_every_reason_is_listed_with_its_status() -> None:
    table = OPERATING.partition("## Reason codes")[2]
    listed = re.findall(r"^\| `([a-z-]+)` \| ([0-9]+) \| (.+) \|$", table, re.MULTILINE)
    assert listed == [(reason.code, str(reason.status), reason.title) for reason in Reason]


def test_a_reason_is_found_by_its_code() -> None:
    assert all(Reason(reason.code) is reason for reason in Reason)


def test_what_is_not_allowed_is_answered_with_403() -> None:
    assert codes(NOT_ALLOWED) == {"url-not-allowed", "hop-not-allowed", "address-not-allowed"}
    assert {reason.status for reason in NOT_ALLOWED} == {403}


def test_what_an_origin_says_itself_is_passed_on() -> None:
    own = {"origin-not-found", "origin-gone", "origin-error", "origin-busy"}
    assert codes(NEGATIVE) == codes(NOT_ALLOWED) | own


def test_a_job_is_not_tried_again_where_it_would_end_the_same() -> None:
    same = {"origin-not-found", "origin-gone", "origin-refused", "origin-redirects"}
    assert codes(PERMANENT) == codes(NOT_ALLOWED) | codes(LASTING) | same
    assert codes(LASTING) == {"length-unknown", "object-too-large"}
