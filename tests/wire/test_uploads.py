"""Uploads that another worker goes on with: what is told of them, what is believed of it, what is made of it."""

import base64
from collections.abc import Iterator

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import Draft, Slot
from cloud_mirror.copy_actions import (
    AbortUpload,
    Acquire,
    CompleteUpload,
    CreateUpload,
    FetchPart,
    FindUpload,
    UploadPart,
)
from cloud_mirror.copy_events import CleanedUp, PartFetched, UploadCreated, UploadFound, UploadNotFound
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.plan import Parts
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import Call, FailureKind, HttpExchange, HttpReply, RedisCommand, Reply, TransportFailure
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.checksums import crc64nvme
from cloud_mirror.wire.procedures.copy import perform
from cloud_mirror.wire.procedures.uploads import NOTE_LIFE_S
from cloud_mirror.wire.storage import PartReceipt
from tests.wire.caches import Cache, fake_cache
from tests.wire.carrying import ETAG, RANGED, STREAM, Origin, begun, drive_one, opened, part_of, run
from tests.wire.driving import drive
from tests.wire.exchange import reply
from tests.wire.pools import BROKEN, NOTE, SERVICES, URL, Script, completed, error, scripted, sent, written

BODY = b"abcdefghijklm"
LENGTH, PART = len(BODY), 5
PIECES = {1: BODY[:5], 2: BODY[5:10], 3: BODY[10:]}
KEY = keys.object_key(URL, "e1")
LIST = f"GET /bucket/{KEY}?uploadId=u1&max-parts=1000"
STORED = reply(200, etag='"e"')
CREATED = reply(200, "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
TAKEN = (scripted(), scripted())
"""The lease is still held, and the note still as it was read."""

TOLD = {
    "v": "1",
    "status": "pending",
    "token": "dead",
    "epoch": "e1",
    "upload_id": "u1",
    "copy_id": "copy-1",
    "part_bytes": str(PART),
    "etag": ETAG,
    "length": str(LENGTH),
}


def line(number: int) -> str:
    return f"{len(PIECES[number])} {crc64nvme(PIECES[number])}"


def noted(*numbers: int, **other: str) -> Reply:
    """What Redis holds: the note, with the parts of these numbers."""
    return scripted(fields={**TOLD, **{f"part-{number}": line(number) for number in numbers}, **other})


def listed(*parts: tuple[int, int] | tuple[int, int, str], more: bool = False) -> HttpReply:
    """A page of the upload's parts: number, size and perhaps CRC64NVME of each."""
    texts = [
        f"<Part><PartNumber>{number}</PartNumber><ETag>e{number}</ETag><Size>{size}</Size>"
        + "".join(f"<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME>" for crc in crcs)
        + "</Part>"
        for number, size, *crcs in parts
    ]
    truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
    return reply(200, f"<ListPartsResult>{truncated}{''.join(texts)}</ListPartsResult>")


def taking_over(*headers: tuple[str, str]) -> Cargo:
    cargo = begun(Origin(opened(LENGTH, *RANGED, *headers)))
    cargo.lease = Lease(Slot.ENTRY, "w", 60.0)
    return cargo


def test_an_upload_is_told_of_and_so_is_each_part_before_it_is_sent() -> None:
    origin = Origin(opened(LENGTH, *RANGED), CREATED, scripted(), scripted(), STORED, scripted(), pieces=[BODY])
    cargo = begun(origin)
    assert drive_one(origin, cargo, CreateUpload("e1", "copy-1", PART)) == UploadCreated("u1")
    assert origin.said[-1] == "write note if any"
    assert written(origin.calls[-1]) == TOLD | {"token": "w", "life_ms": str(round(NOTE_LIFE_S * 1000))}
    drive_one(origin, cargo, FetchPart(1, PART, 0))
    run(origin, cargo, UploadPart("e1", "u1", 1))
    assert origin.said[-3:] == [
        "touch note if held w",
        f"PUT /bucket/{KEY}?uploadId=u1&partNumber=1",
        "touch renewal if held w",
    ]
    assert written(origin.calls[-3]) == {"part-1": line(1), "life_ms": str(round(NOTE_LIFE_S * 1000))}


def test_what_cannot_be_told_of_holds_nothing_up() -> None:
    origin = Origin(
        opened(LENGTH, *RANGED), CREATED, BROKEN, BROKEN, STORED, BROKEN, completed(), BROKEN, pieces=[BODY]
    )
    cargo = begun(origin)
    assert drive_one(origin, cargo, CreateUpload("e1", "copy-1", PART)) == UploadCreated("u1")
    for action in (FetchPart(1, PART, 0), UploadPart("e1", "u1", 1), CompleteUpload("e1", "u1")):
        drive_one(origin, cargo, action)
    assert origin.said[-1] == "drop note if held w"


def test_an_upload_is_found_with_the_parts_that_it_has() -> None:
    cargo = taking_over()
    script = Script(noted(1, 2), listed((1, 5)), *TAKEN)
    assert run(script, cargo, FindUpload("e1")) == UploadFound("u1", "copy-1", PART, Parts.of([1]), 5)
    assert script.said == [
        "read note if any",
        LIST,
        "touch entry if held w",
        "touch note if held dead",
        f"close {STREAM}",
    ]
    assert written(script.calls[-2]) == {"token": "w", "life_ms": str(round(NOTE_LIFE_S * 1000))}
    assert (cargo.receipts, cargo.noted) == ({1: PartReceipt(1, '"e1"', 5, crc64nvme(PIECES[1]))}, True)
    assert cargo.sha256 == ""


def test_an_upload_without_parts_is_gone_on_with_from_its_beginning() -> None:
    cargo = taking_over()
    script = Script(noted(1), listed(), *TAKEN)
    assert run(script, cargo, FindUpload("e1")) == UploadFound("u1", "copy-1", PART, Parts(), 0)
    assert (cargo.stream, bool(cargo.sha256)) == (STREAM, True)


def test_a_listing_is_read_page_by_page() -> None:
    cargo = taking_over()
    script = Script(noted(1, 2, 3), listed((1, 5), (2, 5), more=True), listed((3, 3)), *TAKEN)
    assert run(script, cargo, FindUpload("e1")) == UploadFound("u1", "copy-1", PART, Parts.of([1, 2, 3]), LENGTH)
    assert script.said[1] == LIST
    assert script.said[2].endswith("part-number-marker=2")


OWN_CRC = crc64nvme(PIECES[1])


@pytest.mark.parametrize(
    ("parts", "told", "adopted"),
    [
        ([(1, 5), (3, 3)], {}, {1, 3}),
        ([(1, 4)], {}, set()),
        ([(1, 6)], {}, set()),
        ([(3, 5)], {}, set()),
        ([(4, 0)], {"part-4": f"0 {OWN_CRC}"}, set()),
        ([(9, 5)], {"part-9": f"5 {OWN_CRC}"}, set()),
        ([(1, 5)], {"part-1": ""}, set()),
        ([(1, 5)], {"part-1": f"4 {OWN_CRC}"}, set()),
        ([(1, 5)], {"part-1": "5"}, set()),
        ([(1, 5)], {"part-1": "5 no-checksum"}, set()),
        ([(1, 5)], {"part-1": f"5 {OWN_CRC[:-1]}"}, set()),
        ([(1, 5, OWN_CRC)], {"part-1": ""}, {1}),
        ([(1, 5, "?")], {}, set()),
    ],
)
def test_a_part_is_taken_over_only_if_it_is_as_it_must_be(
    parts: list[tuple[int, int]], told: dict[str, str], adopted: set[int]
) -> None:
    cargo = taking_over()
    found = run(Script(noted(1, 2, 3, **told), listed(*parts), *TAKEN), cargo, FindUpload("e1"))
    assert isinstance(found, UploadFound)
    assert found.parts == Parts.of(adopted)
    assert set(cargo.receipts) == adopted


@pytest.mark.parametrize(
    "note",
    [
        scripted(),
        BROKEN,
        TransportFailure(FailureKind.TIMEOUT, "silence"),
        noted(1, epoch="e0"),
        noted(1, etag='"v2"'),
        noted(1, length=str(LENGTH + 1)),
        noted(1, upload_id=""),
        noted(1, copy_id="no token/"),
        noted(1, copy_id=""),
        *(noted(1, part_bytes=text) for text in ("", "0", "-5", "5.0", "\u0665", "9" * 16)),
    ],
)
def test_a_note_that_is_not_of_this_object_is_none(note: Reply) -> None:
    cargo = taking_over()
    script = Script(note)
    assert run(script, cargo, FindUpload("e1")) == UploadNotFound()
    assert (cargo.receipts, cargo.noted, cargo.stream) == ({}, False, STREAM)


def test_a_note_that_is_garbage_does_no_harm() -> None:
    fields = [word for pair in TOLD.items() for word in pair]
    for found in ([*fields, "odd", 7], [b"\xff", b"\xfe", *fields]):
        answer = scripted()
        answer.value.extend(word.encode() if isinstance(word, str) else word for word in found)
        outcome = run(Script(answer, error(404, "NoSuchUpload")), taking_over(), FindUpload("e1"))
        assert outcome == UploadNotFound()


@pytest.mark.parametrize(
    "replies",
    [
        [error(404, "NoSuchUpload")],
        [error(403, "AccessDenied")],
        [BROKEN] * 4,
        [error(503, "SlowDown")] * 4,
        [listed((1, 5), more=True), error(404, "NoSuchUpload")],
    ],
)
def test_an_upload_whose_parts_cannot_be_told_is_not_gone_on_with(replies: list[Reply]) -> None:
    cargo = taking_over()
    assert run(Script(noted(1), *replies), cargo, FindUpload("e1")) == UploadNotFound()
    assert (cargo.receipts, cargo.total_bytes, bool(cargo.sha256)) == ({}, 0, True)


def test_parts_that_are_all_there_and_wrong_are_left_alone() -> None:
    promised = ("x-amz-checksum-crc64nvme", crc64nvme(BODY[:-1] + b"!"))
    cargo = taking_over(promised)
    script = Script(noted(1, 2, 3), listed((1, 5), (2, 5), (3, 3)))
    assert run(script, cargo, FindUpload("e1")) == UploadNotFound()
    assert (cargo.receipts, cargo.total_bytes, bool(cargo.sha256)) == ({}, 0, True)
    right = taking_over(("x-amz-checksum-crc64nvme", crc64nvme(BODY)))
    found = run(Script(noted(1, 2, 3), listed((1, 5), (2, 5), (3, 3)), *TAKEN), right, FindUpload("e1"))
    assert isinstance(found, UploadFound)


@pytest.mark.parametrize("last", [PIECES[2], b"fghiJ"])
def test_what_is_missing_is_fetched_and_the_whole_is_checked(last: bytes) -> None:
    headers = (*RANGED, ("x-amz-checksum-crc64nvme", crc64nvme(BODY)))
    origin = Origin(
        opened(LENGTH, *headers),
        noted(1, 2, 3),
        listed((1, 5), (3, 3)),
        *TAKEN,
        part_of(2, 5, 9, LENGTH),
        bodies={2: [last]},
    )
    cargo = begun(origin)
    drive_one(origin, cargo, FindUpload("e1"))
    fault = None if last == PIECES[2] else Reason.CHECKSUM_MISMATCH
    assert run(origin, cargo, FetchPart(2, 5, 5)) == PartFetched(2, 5, LENGTH, ended=True, fault=fault)
    assert origin.left_open == set()
    cargo.lease = None
    cargo.noted = False
    script = Script(STORED, completed())
    for action in (UploadPart("e1", "u1", 2), CompleteUpload("e1", "u1")):
        drive_one(script, cargo, action)
    told, body = sent(script, 1)
    assert told["x-amz-checksum-crc64nvme"] == crc64nvme(BODY[:5] + last + BODY[10:])
    assert told["x-amz-mp-object-size"] == str(LENGTH)
    assert body.count(b"<Part>") == 3


REFUSED = scripted(done=False)


@pytest.mark.parametrize("replies", [[REFUSED], [BROKEN], [scripted(), REFUSED], [scripted(), BROKEN]])
def test_an_upload_is_not_taken_over_without_the_lease_or_where_another_worker_has_done_so(
    replies: list[Reply],
) -> None:
    """A worker that has lost its lease and does not know it leaves the upload of who has it now alone."""
    cargo = taking_over()
    assert run(Script(noted(1), listed((1, 5)), *replies), cargo, FindUpload("e1")) == UploadNotFound()
    assert (cargo.receipts, cargo.noted, cargo.stream, bool(cargo.sha256)) == ({}, False, STREAM, True)


ABORT = f"DELETE /bucket/{KEY}?uploadId=u1"
DROP = "drop note if held w"


@pytest.mark.parametrize(
    ("known", "dropped", "said"),
    [
        (False, [], [ABORT]),
        (True, [scripted()], [DROP, ABORT]),
        (True, [BROKEN], [DROP, ABORT]),
        (True, [scripted(done=False)], [DROP, ABORT]),  # it was lost
        (True, [scripted(done=False, fields=TOLD | {"upload_id": "u2"})], [DROP, ABORT]),
        (True, [scripted(done=False, fields=TOLD)], [DROP]),
    ],
)
def test_an_upload_that_another_worker_has_taken_over_is_not_aborted(
    known: bool, dropped: list[Reply], said: list[str]
) -> None:
    cargo = taking_over()
    cargo.noted = known
    script = Script(*dropped, *([reply(204)] if ABORT in said else []))
    assert run(script, cargo, AbortUpload("e1", "u1")) == CleanedUp()
    assert script.said == said
    assert not cargo.noted


@pytest.fixture
def cache() -> Iterator[Cache]:
    with fake_cache() as cache:
        yield cache


def test_a_note_is_only_its_own_writers_to_add_to(cache: Cache) -> None:
    """Over the script itself: the one who took over is told of what it finds, and the one before is not heard."""

    def with_parts(call: Call) -> Reply:
        if isinstance(call, RedisCommand):
            return cache.perform(call)
        if isinstance(call, HttpExchange):
            return {"POST": CREATED, "PUT": STORED, "GET": listed((1, 5))}[call.request.method]
        return Script().perform(call)

    origin = Origin(opened(LENGTH, *RANGED), pieces=[BODY])
    first = begun(origin)
    drive(perform(SERVICES, first, CreateUpload("e1", "copy-1", PART)), with_parts)
    for number in (1, 2):
        drive_one(origin, first, FetchPart(number, PART, PART * number - PART))
    drive(perform(SERVICES, first, UploadPart("e1", "u1", 1)), with_parts)
    second = taking_over()
    assert second.lease is not None
    second.lease = Lease(Slot.ENTRY, "other", 60.0)
    draft = Draft(Entry(Status.PENDING, "other", URL, holder=Holder.COPYING), 60.0)
    drive(perform(SERVICES, second, Acquire(Slot.ENTRY, draft)), with_parts)
    found = drive(perform(SERVICES, second, FindUpload("e1")), with_parts)
    assert found == UploadFound("u1", "copy-1", PART, Parts.of([1]), 5)
    drive(perform(SERVICES, first, UploadPart("e1", "u1", 2)), with_parts)
    fields = cache.fields(NOTE)
    assert (fields["token"], fields["part-1"]) == ("other", line(1))
    assert "part-2" not in fields
    assert 0 < cache.life_ms(NOTE) <= NOTE_LIFE_S * 1000
    assert base64.b64decode(fields["part-1"].split()[1])
