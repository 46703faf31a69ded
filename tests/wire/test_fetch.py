"""An origin's bytes: out of one stream or part by part, gone on with where they broke off, no body left open."""

import hashlib
from dataclasses import replace

import pytest

from cloud_mirror.copy_actions import CloseOrigin, FetchPart, OpenOrigin, ReservePart, UploadPart
from cloud_mirror.copy_events import FetchFailed, OriginClosed, OriginOpened, PartFetched, PartReserved
from cloud_mirror.events import OriginDeclined
from cloud_mirror.policy import PoolPolicy, SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import (
    Backoff,
    BodyOpened,
    CloseBody,
    Done,
    EnterHost,
    FailureKind,
    OpenBody,
    ReleaseMemory,
    ReserveMemory,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Cargo
from cloud_mirror.wire.checksums import crc64nvme
from cloud_mirror.wire.procedures import fetch
from cloud_mirror.wire.procedures.copy import perform
from cloud_mirror.wire.storage import BucketObject, PartReceipt
from tests.wire.carrying import (
    ETAG,
    RANGED,
    STREAM,
    Origin,
    begun,
    drive_one,
    opened,
    part_of,
    run,
)
from tests.wire.exchange import reply
from tests.wire.pools import BROKEN, POLICY, SERVICES, URL, Script, services

SILENT = TransportFailure(FailureKind.TIMEOUT, "silence")
STORED = reply(200, etag='"e"')
BODY = b"abcdefghijkl"
LENGTH = len(BODY)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_opening_and_closing_the_origin() -> None:
    cargo = Cargo(URL, "receipt")
    assert run(Script(), cargo, CloseOrigin()) == OriginClosed()
    script = Script(BodyOpened(3, 404, ()))
    assert isinstance(run(script, cargo, OpenOrigin()), OriginDeclined)
    assert (script.said[-1], cargo.stream, cargo.bodies) == ("close 3", None, set())
    plain = OriginOpened(7, '"e"', delimited=True)
    assert run(Script(opened(7, ("etag", '"e"'))), cargo, OpenOrigin()) == plain
    assert (cargo.open_stream, cargo.length, cargo.etag, cargo.source) == (STREAM, 7, '"e"', None)
    script = Script(opened(LENGTH, *RANGED, ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")))
    ranged = OriginOpened(LENGTH, ETAG, delimited=True, ranges=True, ordered=True)
    assert run(script, cargo, OpenOrigin()) == ranged
    assert script.said[0] == f"close {STREAM}"
    script = Script()
    assert run(script, cargo, CloseOrigin()) == OriginClosed()
    assert script.said == [f"close {STREAM}"]
    assert run(script, cargo, CloseOrigin()) == OriginClosed()
    assert len(script.said) == 1


def test_closing_what_was_open_leaves_alone_what_is_opened_meanwhile() -> None:
    """A copy that begins anew does not wait until what it gave up is closed."""
    cargo = Cargo(URL, "receipt")
    run(Script(opened(LENGTH)), cargo, OpenOrigin())
    closing = perform(SERVICES, cargo, CloseOrigin())
    assert next(closing) == CloseBody(STREAM)
    again = replace(opened(LENGTH), body=STREAM + 1)
    assert isinstance(run(Script(again), cargo, OpenOrigin()), OriginOpened)
    with pytest.raises(StopIteration):
        closing.send(Done())
    assert (cargo.open_stream, cargo.bodies) == (STREAM + 1, {STREAM + 1})


AT_AWS = services(
    replace(
        POLICY,
        pools=(PoolPolicy("s3", "us-west-1", "bucket"),),
        source=SourcePolicy((r"^https://data\.s3\.us-east-1\.amazonaws\.com/",)),
    )
)
IN_A_BUCKET = "https://data.s3.us-east-1.amazonaws.com/a/b"


@pytest.mark.parametrize(
    ("headers", "store_can"),
    [
        (RANGED, True),
        ((*RANGED, ("x-amz-checksum-crc64nvme", crc64nvme(BODY))), True),
        ((("etag", ETAG),), False),
        ((*RANGED, ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")), False),
    ],
)
def test_the_store_may_copy_what_lies_in_a_bucket_and_can_be_told_apart(
    headers: tuple[tuple[str, str], ...], store_can: bool
) -> None:
    """HEAD tells; where it says that the store cannot, the object is opened."""
    cargo = Cargo(IN_A_BUCKET, "receipt")
    replies = (opened(LENGTH, *headers),) * (1 if store_can else 2)
    script = Origin(*replies)
    outcome = script.run(fetch.open_object(AT_AWS, cargo, begun_before=False))
    assert isinstance(outcome, OriginOpened)
    assert (outcome.store_can, cargo.stream is None) == (store_can, store_can)
    assert cargo.bucket_object == BucketObject("data", "a/b", ETAG)


@pytest.mark.parametrize(
    ("head", "looked"),
    [
        (opened(LENGTH, *RANGED), True),
        (opened(LENGTH, ("etag", ETAG)), False),
        (BodyOpened(STREAM, 404, ()), False),
    ],
)
def test_of_what_was_begun_before_not_even_the_beginning_need_come(head: BodyOpened, looked: bool) -> None:
    cargo = Cargo(URL, "receipt")
    script = Origin(head, *(() if looked else (opened(LENGTH, *RANGED),)))
    outcome = script.run(fetch.open_object(SERVICES, cargo, begun_before=True))
    assert isinstance(outcome, OriginOpened)
    assert outcome.ranges
    assert (cargo.stream is None) is looked


def test_a_head_that_was_answered_for_another_request_says_nothing() -> None:
    """HEAD is refused, and the first byte is given instead: how long the object is, only GET says."""
    cargo = Cargo(URL, "receipt")
    script = Origin(BodyOpened(1, 403, ()), BodyOpened(2, 206, (("content-length", "1"),)), opened(LENGTH, *RANGED))
    outcome = script.run(fetch.open_object(SERVICES, cargo, begun_before=True))
    assert isinstance(outcome, OriginOpened)
    assert (outcome.length, cargo.open_stream) == (LENGTH, STREAM)


def test_of_a_url_with_a_query_the_store_is_told_nothing() -> None:
    cargo = Cargo(IN_A_BUCKET + "?signature=x", "receipt")
    outcome = Origin(opened(LENGTH, *RANGED)).run(fetch.open_object(AT_AWS, cargo, begun_before=False))
    assert isinstance(outcome, OriginOpened)
    assert (outcome.store_can, cargo.source) == (False, None)


@pytest.mark.parametrize(
    ("pieces", "events"),
    [
        ([], [(1, 0, 0, True)]),
        ([b"ab"], [(1, 2, 2, True)]),
        ([b"abcde"], [(1, 5, 5, False), (2, 0, 5, True)]),
        ([b"abcdefg"], [(1, 5, 5, False), (2, 2, 7, True)]),
        ([b"abcdefghijk"], [(1, 5, 5, False), (2, 5, 10, False), (3, 1, 11, True)]),
        ([b"abc", b"defghij"], [(1, 5, 5, False), (2, 5, 10, False), (3, 0, 10, True)]),
        ([b"abcdefgh", b"ijklm"], [(1, 5, 5, False), (2, 5, 10, False), (3, 3, 13, True)]),
    ],
)
def test_parts_of_unknown_number_come_out_of_the_stream(
    pieces: list[bytes], events: list[tuple[int, int, int, bool]]
) -> None:
    origin = Origin(opened(), pieces=pieces)
    cargo = begun(origin)
    for number, size, total, ended in events:
        fetched = run(origin, cargo, FetchPart(number, 5, total - size))
        assert isinstance(fetched, PartFetched)
        assert (fetched.number, fetched.size, fetched.total_bytes, fetched.ended) == (number, size, total, ended)
        assert (fetched.fault, fetched.sha256) == (None, sha256(b"".join(pieces)) if ended else "")
    assert len(cargo.parts) == sum(1 for number, size, *_ in events if size or number == 1)
    assert (origin.left_open, cargo.bodies, cargo.stream) == (set(), set(), None)


@pytest.mark.parametrize(
    ("length", "pieces", "fault"),
    [
        (5, [b"abcde"], None),
        (0, [], None),
        (5, [b"abcdef"], Reason.LENGTH_MISMATCH),
        (5, [b"abc"], Reason.LENGTH_MISMATCH),
    ],
)
def test_a_whole_body_is_judged(length: int, pieces: list[bytes], fault: Reason | None) -> None:
    origin = Origin(opened(length), pieces=pieces)
    fetched = run(origin, begun(origin), FetchPart(1, length, 0))
    assert isinstance(fetched, PartFetched)
    assert (fetched.ended, fetched.sha256, fetched.fault) == (True, sha256(b"".join(pieces)), fault)


def test_no_part_of_a_body_is_judged_as_the_whole() -> None:
    origin = Origin(opened(9), pieces=[b"abcdefg"])
    cargo = begun(origin)
    first, second = (run(origin, cargo, FetchPart(number, 5, at)) for number, at in ((1, 0), (2, 5)))
    assert isinstance(first, PartFetched)
    assert isinstance(second, PartFetched)
    assert (first.fault, second.fault) == (None, Reason.LENGTH_MISMATCH)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (BROKEN, Reason.ORIGIN_BROKE_OFF),
        (SILENT, Reason.ORIGIN_TIMEOUT),
        (TransportFailure(FailureKind.MALFORMED, "chunk"), Reason.ORIGIN_BROKE_OFF),
    ],
)
def test_a_part_that_breaks_off_goes_on_by_itself_at_the_next_byte(failure: TransportFailure, reason: Reason) -> None:
    origin = Origin(
        opened(LENGTH, *RANGED),
        part_of(2, 6, 9, LENGTH),
        part_of(3, 8, 9, LENGTH),
        part_of(4, 10, 11, LENGTH),
        pieces=[b"abcde", b"f", failure],
        bodies={2: [b"gh", failure], 3: [b"ij"], 4: [b"kl"]},
    )
    cargo = begun(origin)
    assert isinstance(drive_one(origin, cargo, FetchPart(1, 5, 0)), PartFetched)
    broke_off = f"{failure.kind.value} after 5 bytes: {failure.detail}"
    failed = FetchFailed(reason, broke_off, number=2, advanced=True)
    assert drive_one(origin, cargo, FetchPart(2, 5, 5)) == failed
    assert origin.left_open == set()
    assert drive_one(origin, cargo, FetchPart(2, 5, 5, setbacks=1)) == failed
    assert drive_one(origin, cargo, FetchPart(2, 5, 5, setbacks=2)) == PartFetched(2, 5, 10, ended=False)
    last = drive_one(origin, cargo, FetchPart(3, 2, 10))
    assert last == PartFetched(3, 2, 12, ended=True, sha256=sha256(BODY))
    assert origin.asked == [("", ""), *((f"bytes={span}", ETAG) for span in ("6-9", "8-9", "10-11"))]
    assert [(part.data, part.crc64nvme) for part in cargo.parts.values()] == [
        (piece, crc64nvme(piece)) for piece in (b"abcde", b"fghij", b"kl")
    ]
    assert origin.waits == [Backoff(0.5), Backoff(1.0)]
    assert (origin.left_open, cargo.bodies) == (set(), set())


def test_how_long_a_fetch_waits_has_an_end() -> None:
    origin = Origin(opened(LENGTH, *RANGED), *[BROKEN] * 9)
    cargo = begun(origin)
    cargo.stream = None
    for setbacks in range(9):
        failed = drive_one(origin, cargo, FetchPart(1, 5, 0, setbacks))
        assert isinstance(failed, FetchFailed)
        assert (failed.reason, failed.advanced, failed.apart) == (Reason.ORIGIN_UNREACHABLE, False, False)
    assert [wait.at_most_s for wait in origin.waits if isinstance(wait, Backoff)] == [0.5, 1, 2, 4, 8, 8, 8, 8]


def test_a_part_whose_bytes_came_but_not_its_end_is_not_asked_for_again() -> None:
    origin = Origin(
        opened(LENGTH, *RANGED), part_of(2, 5, 9, LENGTH), pieces=[b"abcde"], bodies={2: [b"fghij", BROKEN]}
    )
    cargo = begun(origin)
    cargo.stream = None
    assert isinstance(drive_one(origin, cargo, FetchPart(2, 5, 5)), FetchFailed)
    assert drive_one(origin, cargo, FetchPart(2, 5, 5, setbacks=1)) == PartFetched(2, 5, 5, ended=False)
    assert origin.asked == [("", ""), ("bytes=5-9", ETAG)]


NOT_THE_PART = [
    part_of(2, 5, 9, LENGTH, status=200),
    part_of(2, 5, 9, LENGTH, status=412),
    part_of(2, 5, 9, LENGTH, status=416),
    part_of(2, 5, 9, LENGTH, etag='"v2"'),
    part_of(2, 5, 9, LENGTH, etag='W/"v1"'),
    part_of(2, 4, 9, LENGTH),
    part_of(2, 5, 8, LENGTH),
    part_of(2, 5, 9, LENGTH + 1),
    BodyOpened(2, 206, (("content-range", f"bytes 5-9/{LENGTH}"),)),
    BodyOpened(2, 206, (("etag", ETAG), ("content-length", "5"))),
    BodyOpened(2, 206, (("content-range", f"bytes 5-9/{LENGTH}"), ("etag", ETAG), ("content-length", "6"))),
    BodyOpened(2, 206, (("content-range", f"bytes 5-9/{LENGTH}"), ("etag", ETAG), ("content-length", "x"))),
]


@pytest.mark.parametrize("answer", NOT_THE_PART)
def test_what_is_not_that_part_of_that_object_is_not_read(answer: BodyOpened) -> None:
    origin = Origin(opened(LENGTH, *RANGED), answer)
    cargo = begun(origin)
    failed = run(origin, cargo, FetchPart(2, 5, 5))
    assert failed == FetchFailed(Reason.ORIGIN_REPLY, "bytes 5 to 9 were not given", number=2, apart=True)
    assert origin.said[-1] == "close 2"


@pytest.mark.parametrize(
    ("pieces", "failed"),
    [
        ([b"fgh"], FetchFailed(Reason.ORIGIN_BROKE_OFF, "less than bytes 5 to 9 came", 2, advanced=True)),
        ([], FetchFailed(Reason.ORIGIN_BROKE_OFF, "less than bytes 5 to 9 came", 2)),
        (
            [b"fghij", b"k"],
            FetchFailed(Reason.ORIGIN_REPLY, "more than bytes 5 to 9 came", 2, advanced=True, apart=True),
        ),
        (
            [b"fghijklmnopq"],
            FetchFailed(Reason.ORIGIN_REPLY, "more than bytes 5 to 9 came", 2, advanced=True, apart=True),
        ),
    ],
)
def test_a_part_is_as_long_as_it_must_be(pieces: list[bytes], failed: FetchFailed) -> None:
    answer = BodyOpened(2, 206, (("content-range", f"bytes 5-9/{LENGTH}"), ("etag", ETAG)))
    origin = Origin(opened(LENGTH, *RANGED), answer, bodies={2: pieces})
    cargo = begun(origin)
    assert run(origin, cargo, FetchPart(2, 5, 5)) == failed
    assert cargo.total_bytes == 0
    assert origin.left_open == {STREAM}


def test_more_than_the_rest_of_a_part_is_noticed_too() -> None:
    answer = BodyOpened(2, 206, (("content-range", f"bytes 3-4/{LENGTH}"), ("etag", ETAG)))
    origin = Origin(opened(LENGTH, *RANGED), answer, pieces=[b"abc", BROKEN], bodies={2: [b"defg"]})
    cargo = begun(origin)
    assert isinstance(drive_one(origin, cargo, FetchPart(1, 5, 0)), FetchFailed)
    failed = run(origin, cargo, FetchPart(1, 5, 0, setbacks=1))
    assert isinstance(failed, FetchFailed)
    assert failed.apart


@pytest.mark.parametrize(
    ("answer", "reason", "retry_after_s"),
    [
        (BodyOpened(2, 404, ()), Reason.ORIGIN_NOT_FOUND, None),
        (BodyOpened(2, 503, (("retry-after", "9"),)), Reason.ORIGIN_ERROR, 9.0),
        (SILENT, Reason.ORIGIN_TIMEOUT, None),
    ],
)
def test_a_part_that_the_origin_does_not_give_now(
    answer: BodyOpened | TransportFailure, reason: Reason, retry_after_s: float | None
) -> None:
    origin = Origin(opened(LENGTH, *RANGED), answer)
    cargo = begun(origin)
    failed = run(origin, cargo, FetchPart(2, 5, 5))
    assert isinstance(failed, FetchFailed)
    assert (failed.reason, failed.number, failed.apart) == (reason, 2, False)
    assert failed.retry_after_s == retry_after_s
    assert origin.left_open == {STREAM}


def test_parts_by_themselves_leave_the_stream_to_others_once_it_is_overtaken() -> None:
    origin = Origin(
        opened(LENGTH, *RANGED),
        part_of(2, 4, 7, LENGTH),
        part_of(3, 8, 11, LENGTH),
        pieces=[b"abcdef"],
        bodies={2: [b"efgh"], 3: [b"ijkl"]},
    )
    cargo = begun(origin)
    assert drive_one(origin, cargo, FetchPart(2, 4, 4)) == PartFetched(2, 4, 4, ended=False)
    assert drive_one(origin, cargo, FetchPart(1, 4, 0)) == PartFetched(1, 4, 8, ended=False)
    assert origin.said[-1] == f"close {STREAM}"
    last = drive_one(origin, cargo, FetchPart(3, 4, 8))
    assert last == PartFetched(3, 4, 12, ended=True, sha256=sha256(BODY))
    assert (origin.left_open, cargo.bodies) == (set(), set())


def test_a_stream_that_was_overtaken_is_closed_with_the_next_part() -> None:
    origin = Origin(opened(LENGTH, *RANGED), part_of(3, 8, 11, LENGTH), bodies={3: [b"ijkl"]})
    cargo = begun(origin)
    cargo.adopt([PartReceipt(1, "e1", 4, crc64nvme(b"abcd"))])
    assert drive_one(origin, cargo, FetchPart(3, 4, 8)) == PartFetched(3, 4, 8, ended=False)
    assert origin.said == ["GET https://a.example:443/some/file.bin", f"close {STREAM}", *origin.said[2:]]


def test_closing_ends_a_fetch_and_closes_its_body() -> None:
    cargo: Cargo

    def close() -> None:
        assert drive_one(origin, cargo, CloseOrigin()) == OriginClosed()

    origin = Origin(opened(LENGTH, *RANGED), part_of(2, 5, 9, LENGTH), bodies={2: [b"f", close, BROKEN]})
    cargo = begun(origin)
    failed = run(origin, cargo, FetchPart(2, 5, 5))
    assert failed == FetchFailed(Reason.ORIGIN_BROKE_OFF, "broken after 0 bytes: reset", number=2, advanced=True)
    assert (origin.left_open, cargo.bodies) == (set(), set())


def test_closing_while_the_stream_is_read_ends_it() -> None:
    cargo: Cargo
    origin = Origin(opened(LENGTH), pieces=[b"a", lambda: drive_one(origin, cargo, CloseOrigin()), BROKEN])
    cargo = begun(origin)
    failed = run(origin, cargo, FetchPart(1, 5, 0))
    assert isinstance(failed, FetchFailed)
    assert (origin.left_open, cargo.bodies, cargo.stream) == (set(), set(), None)


def test_closing_while_a_part_is_being_opened_leaves_no_body_open() -> None:
    origin = Origin(opened(LENGTH, *RANGED), part_of(2, 5, 9, LENGTH))
    cargo = begun(origin)
    fetching = perform(SERVICES, cargo, FetchPart(2, 5, 5))
    entering = next(fetching)
    assert isinstance(entering, EnterHost)
    opening = fetching.send(origin.perform(entering))
    assert isinstance(opening, OpenBody)
    drive_one(origin, cargo, CloseOrigin())
    assert origin.left_open == set()
    closing = fetching.send(origin.perform(opening))
    with pytest.raises(StopIteration) as end:
        fetching.send(origin.perform(closing))
    failed = FetchFailed(Reason.ORIGIN_BROKE_OFF, "broken after 0 bytes: the origin's bodies were closed", number=2)
    assert end.value.value == failed
    assert (origin.left_open, cargo.bodies) == (set(), set())


def test_an_origin_is_not_asked_again_for_what_was_closed_during_a_rest() -> None:
    origin = Origin(opened(LENGTH, *RANGED))
    cargo = begun(origin)
    fetching = perform(SERVICES, cargo, FetchPart(2, 5, 5, setbacks=3))
    assert next(fetching) == Backoff(2.0)
    drive_one(origin, cargo, CloseOrigin())
    with pytest.raises(StopIteration) as end:
        fetching.send(Done())
    assert end.value.value == FetchFailed(Reason.ORIGIN_BROKE_OFF, "the origin's bodies were closed", number=2)


def test_memory_is_waited_for_and_given_back_once() -> None:
    origin = Origin(opened(7), STORED, STORED, pieces=[b"abcdefg"])
    cargo = begun(origin)
    cargo.lease = None
    for number, size in ((1, 5), (2, 2)):
        assert drive_one(origin, cargo, ReservePart(number, size)) == PartReserved(number)
    assert origin.memory == [ReserveMemory("receipt", 5), ReserveMemory("receipt", 2)]
    for number, size in ((1, 5), (2, 2)):
        drive_one(origin, cargo, FetchPart(number, size, 5 * (number - 1)))
    assert origin.held_bytes == 7
    drive_one(origin, cargo, UploadPart("e1", "u1", 2))
    assert origin.memory[2:] == [ReleaseMemory("receipt", 2)]
    drive_one(origin, cargo, UploadPart("e1", "u1", 1))
    assert origin.memory[3:] == [ReleaseMemory("receipt", 5)]


def test_beginning_anew_gives_all_memory_back_also_what_is_granted_after_it() -> None:
    origin = Origin(opened(LENGTH, *RANGED), opened(LENGTH), pieces=[b"abcde"])
    cargo = begun(origin)
    for number in (1, 2):
        drive_one(origin, cargo, ReservePart(number, 5))
    drive_one(origin, cargo, FetchPart(1, 5, 0))
    late = perform(SERVICES, cargo, ReservePart(3, 2))
    reserving = next(late)
    origin.perform(reserving)
    assert isinstance(drive_one(origin, cargo, OpenOrigin()), OriginOpened)
    assert (origin.held_bytes, cargo.parts, cargo.total_bytes) == (2, {}, 0)
    releasing = late.send(Done())
    origin.perform(releasing)
    with pytest.raises(StopIteration) as end:
        late.send(Done())
    assert end.value.value == PartReserved(0)
    assert origin.held_bytes == 0
    assert drive_one(origin, cargo, ReservePart(1, 5)) == PartReserved(1)
    assert origin.held_bytes == 5
