"""The cache entry: what is written is read again, and garbage is no entry. Reasons, since entries hold them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.entry import ENTRY_VERSION, Entry, Holder, Status, from_fields, to_fields
from cloud_mirror.reason import NEGATIVE, NOT_ALLOWED, PERMANENT, Reason

PENDING = {"v": "1", "status": "pending", "token": "t", "url": "https://a/", "since": "1.5", "holder": "asking"}
PRESENT = {"v": "1", "status": "present", "token": "t", "url": "https://a/", "since": "1", "epoch": "0"}
PRESENT |= {"expires_at": "9.000001", "verified_at": "2"}
ERROR = {"v": "1", "status": "error", "token": "t", "url": "https://a/", "since": "1", "reason": "origin-timeout"}
ERROR |= {"retry_at": "5"}

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
TIMES = st.integers(0, 10**16).map(lambda microseconds: microseconds / 1e6).filter(lambda s: float(f"{s:.6f}") == s)
COUNTS = st.none() | st.integers(0, 10**15 - 1)
TEXTS = st.text(max_size=20)


def entries(status: Status) -> st.SearchStrategy[Entry]:
    pending, present, error = (status is each for each in (Status.PENDING, Status.PRESENT, Status.ERROR))
    return st.builds(
        Entry,
        status=st.just(status),
        token=NAMES,
        url=st.text(min_size=1, max_size=20),
        holder=st.sampled_from(Holder) if pending else st.none() | st.sampled_from(Holder),
        since_s=TIMES,
        epoch=NAMES if present else st.just("") | NAMES,
        size=COUNTS,
        etag=TEXTS,
        sha256=TEXTS,
        expires_at_s=TIMES if present else st.none() | TIMES,
        verified_at_s=TIMES if present else st.none() | TIMES,
        reason=st.sampled_from(Reason) if error else st.none() | st.sampled_from(Reason),
        detail=TEXTS,
        origin_status=COUNTS,
        attempt=COUNTS,
        retry_at_s=TIMES if error else st.none() | TIMES,
        copy_id=st.just("") | NAMES,
        bytes_done=COUNTS,
        bytes_adopted=COUNTS,
        bytes_total=COUNTS,
    )


@given(st.sampled_from(Status).flatmap(entries))
def test_round_trip(entry: Entry) -> None:
    fields = to_fields(entry)
    assert fields[0] == ("v", ENTRY_VERSION)
    assert all(value for _, value in fields)
    assert from_fields(dict(fields)) == entry


def test_names_and_values_in_redis() -> None:
    entry = Entry(Status.ERROR, "t", "https://a/", reason=Reason.ORIGIN_BUSY, retry_at_s=2.5, origin_status=429)
    assert dict(to_fields(entry)) == {
        "v": "1",
        "status": "error",
        "token": "t",
        "url": "https://a/",
        "since": "0.000000",
        "reason": "origin-busy",
        "retry_at": "2.500000",
        "origin_status": "429",
    }


def test_times_and_words_in_redis() -> None:
    present = Entry(Status.PRESENT, "t", "https://a/", epoch="0", expires_at_s=9.5, verified_at_s=2.5, copy_id="c")
    stored = dict(to_fields(present))
    assert (stored["expires_at"], stored["verified_at"], stored["copy_id"]) == ("9.500000", "2.500000", "c")
    assert [status.value for status in Status] == ["pending", "present", "error"]
    assert [holder.value for holder in Holder] == ["asking", "queued", "copying"]


def test_progress_in_redis() -> None:
    """What the copy's own worker, or the one before it, has done."""
    stored = PENDING | {"bytes_done": "7", "bytes_adopted": "5", "bytes_total": "9"}
    entry = from_fields(stored)
    assert entry is not None
    assert (entry.bytes_done, entry.bytes_adopted, entry.bytes_total) == (7, 5, 9)
    assert dict(to_fields(entry)).items() >= {"bytes_done": "7", "bytes_adopted": "5", "bytes_total": "9"}.items()


def test_reading() -> None:
    asking = Entry(Status.PENDING, "t", "https://a/", Holder.ASKING, since_s=1.5)
    assert from_fields(PENDING) == asking
    assert from_fields(PENDING | {"unknown": "field"}) == asking
    present = Entry(Status.PRESENT, "t", "https://a/", since_s=1.0, epoch="0", expires_at_s=9.000001, verified_at_s=2.0)
    assert from_fields(PRESENT) == present
    assert from_fields(ERROR) == Entry(
        Status.ERROR, "t", "https://a/", since_s=1.0, reason=Reason.ORIGIN_TIMEOUT, retry_at_s=5.0
    )


def test_holder() -> None:
    asking = Entry(Status.PENDING, "t", "https://a/", Holder.ASKING)
    assert asking.pending(Holder.ASKING)
    assert not asking.pending(Holder.QUEUED)
    assert not Entry(Status.ERROR, "t", "https://a/", Holder.ASKING).pending(Holder.ASKING)


@pytest.mark.parametrize(
    ("fields", "without"),
    [(PENDING, name) for name in PENDING] + [(PRESENT, name) for name in PRESENT] + [(ERROR, name) for name in ERROR],
)
def test_an_entry_that_lacks_what_it_needs_is_none(fields: dict[str, str], without: str) -> None:
    assert from_fields({name: value for name, value in fields.items() if name != without}) is None


NO_NUMBERS = ["", "-1", "+1", "1e3", "nan", "inf", " 1", "1 ", "1\n", "1_0", "0x1", "\u0661", "9" * 16, "1.", ".5"]
NO_NAMES = ["", "a b", "a/b", "..", "a" * 65, "a\n", "é"]
COUNT_NAMES = ["size", "attempt", "bytes_done", "bytes_adopted", "bytes_total", "origin_status"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("v", value) for value in ("", "0", "2", "1.0", " 1")),
        *(("status", value) for value in ("", "absent", "PRESENT", "present ")),
        *((name, value) for name in ("token", "epoch", "copy_id") for value in NO_NAMES),
        *((name, value) for name in ("since", "expires_at", "verified_at", "retry_at") for value in NO_NUMBERS),
        *((name, value) for name in COUNT_NAMES for value in NO_NUMBERS),
        ("size", "1.0"),
        ("holder", "nobody"),
        ("holder", ""),
        ("reason", "no-such-reason"),
    ],
)
@pytest.mark.parametrize("fields", [PENDING, PRESENT, ERROR])
def test_an_entry_with_a_wrong_field_is_none(fields: dict[str, str], name: str, value: str) -> None:
    assert from_fields(fields | {name: value}) is None


VALUES = st.text(max_size=8) | st.sampled_from([*PENDING.values(), *PRESENT.values(), *ERROR.values()])


@given(st.dictionaries(st.sampled_from(sorted({*PENDING, *PRESENT, *ERROR, "size", "copy_id"})) | st.text(), VALUES))
def test_garbage_never_fails(fields: dict[str, str]) -> None:
    entry = from_fields({"v": "1"} | fields)
    assert entry is None or (entry.token and entry.url)


def test_reasons_are_stable_codes_with_a_status_and_a_sentence() -> None:
    for reason in Reason:
        assert Reason(reason.code) is reason
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", reason.code)
        assert reason.code == reason.value
        assert reason.status == 200 or 400 <= reason.status <= 599
        assert reason.title.endswith(".")
    assert len({reason.code for reason in Reason}) == len(Reason)
    assert Reason.ORIGIN_GONE.status == 410


def test_unknown_reason() -> None:
    with pytest.raises(ValueError, match="no-such-reason"):
        Reason("no-such-reason")


def test_sets_of_reasons() -> None:
    assert all(reason.status == 403 for reason in NOT_ALLOWED)
    assert NOT_ALLOWED < NEGATIVE
    assert NOT_ALLOWED < PERMANENT
    assert {Reason.ORIGIN_ERROR, Reason.ORIGIN_BUSY} <= NEGATIVE - PERMANENT
