"""The copy machine's actions as calls: what is read, what is written, and what is in doubt."""

import gc
import hashlib
from dataclasses import replace

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import (
    AbortUpload,
    Acknowledge,
    Acquire,
    CloseOrigin,
    CompleteUpload,
    CopyAction,
    CreateUpload,
    DeferJob,
    DeleteCopy,
    Draft,
    DropEntry,
    DropServed,
    FetchPart,
    KeepLease,
    OpenOrigin,
    ProbeCopy,
    PutCopy,
    ReadEntry,
    ReadEpoch,
    ReturnJob,
    Slot,
    UploadPart,
    VerifyCopy,
    WriteEntry,
)
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import (
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyNotFound,
    CopyVerified,
    CopyWritten,
    EntryRead,
    EntryWritten,
    EpochRead,
    FetchFailed,
    FoundCopy,
    JobSettled,
    LeaseAcquired,
    OriginClosed,
    OriginDeclined,
    OriginOpened,
    PartFetched,
    PartUploaded,
    ProbeFailed,
    StoreFailed,
    UploadCreated,
)
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    Call,
    FailureKind,
    GetMonotonicTime,
    GetSigningMaterial,
    HttpExchange,
    HttpReply,
    HttpRequest,
    ReadBody,
    Reply,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.checksums import combine_parts, crc64nvme
from cloud_mirror.wire.procedures.copy import perform
from tests.wire.driving import drive
from tests.wire.exchange import KEYS, reply
from tests.wire.pools import BROKEN, SERVICES, URL, Script, error, head, missing, scripted, written

KEY = keys.object_key(URL, "e1")
COPYING = Draft(Entry(Status.PENDING, "w", URL, holder=Holder.COPYING), 60.0)
STORED = reply(200, etag='"e"')
DENIED = error(403, "AccessDenied")
SILENT = TransportFailure(FailureKind.TIMEOUT, "silence")
NO_KEYS = TransportFailure(FailureKind.CREDENTIALS, "none were found")


class Origin(Script):
    """Feeds pieces to whoever reads the body; None is a reading that fails."""

    def __init__(self, *replies: Reply, pieces: list[bytes | None] | None = None) -> None:
        super().__init__(*replies)
        self.pieces = pieces or []

    def perform(self, call: Call) -> Reply:
        if not isinstance(call, ReadBody):
            return super().perform(call)
        assert (call.body, call.idle_timeout_s) == (9, 10.0)
        while self.pieces:
            piece = self.pieces.pop(0)
            if piece is None:
                return BROKEN
            if call.collector.feed(piece):
                return BodyRead(ended=False)
        return BodyRead(ended=True)


def opened(length: int | None = None, *headers: tuple[str, str]) -> BodyOpened:
    given = (("content-length", str(length)),) if length is not None else ()
    return BodyOpened(9, 200, (*given, *headers), delimited=True)


def run(script: Script, cargo: Cargo, action: CopyAction) -> CopyEvent:
    return script.run(perform(SERVICES, cargo, action))


def carrying(*pieces: bytes | None, part_bytes: int = 5, length: int | None = None, parts: int = 0) -> Cargo:
    """A copy whose parts have been fetched, all of them or as many as said."""
    cargo = Cargo(URL, "receipt")
    origin = Origin(opened(length), pieces=list(pieces))
    run(origin, cargo, OpenOrigin())
    number, ended = 0, False
    while not ended and (not parts or number < parts):
        number += 1
        event = run(origin, cargo, FetchPart(number, part_bytes))
        assert isinstance(event, PartFetched)
        ended = event.ended
    return cargo


def test_what_the_machine_shares_with_others() -> None:
    present = Draft(Entry(Status.PRESENT, "w", URL, epoch="e1"), 60.0, 60.0)
    expected: list[tuple[CopyAction, list[Reply], type[CopyEvent], str]] = [
        (ReadEntry(), [scripted()], EntryRead, "read entry if any"),
        (Acquire(Slot.ENTRY, COPYING), [scripted()], LeaseAcquired, "write entry if takeable, told"),
        (WriteEntry(present, "w", Slot.RENEWAL), [scripted()], EntryWritten, "write renewal to entry if held w, told"),
        (DropEntry(Slot.ENTRY, "w"), [scripted()], EntryWritten, "drop entry if held w, told"),
        (DropServed("e1"), [scripted()], EntryWritten, "drop entry if served e1, told"),
        (ProbeCopy(), [missing(), missing()], CopyNotFound, f"GET /bucket/{keys.epoch_key(URL)}"),
        (ReadEpoch(), [missing()], EpochRead, f"GET /bucket/{keys.epoch_key(URL)}"),
        (DeleteCopy("e1"), [reply(204)], CleanedUp, f"DELETE /bucket/{KEY}"),
        (Acknowledge(), [reply(200, "{}")], JobSettled, "DeleteMessage"),
        (DeferJob(3.0), [reply(200, "{}")], JobSettled, "ChangeMessageVisibility"),
        (ReturnJob("e1", 3.0), [reply(200, '{"MessageId": "m"}'), reply(200, "{}")], JobSettled, "SendMessage"),
        (AbortUpload("e1", "u"), [reply(204)], CleanedUp, f"DELETE /bucket/{KEY}?uploadId=u"),
        (AbortUpload("e1", "u"), [DENIED], CleanedUp, f"DELETE /bucket/{KEY}?uploadId=u"),
    ]
    for action, replies, event, said in expected:
        script = Script(*replies)
        assert isinstance(run(script, Cargo(URL, "receipt"), action), event)
        assert script.said[0] == said
    with pytest.raises(AssertionError, match="beside the copy"):
        run(Script(), Cargo(URL, "receipt"), KeepLease(Slot.ENTRY, "w"))


def test_the_cargo_holds_when_its_lease_was_asked_for_and_whether_its_job_is_done() -> None:
    cargo = Cargo(URL, "receipt")
    run(Script(scripted()), cargo, Acquire(Slot.ENTRY, COPYING))
    assert (cargo.acquiring_s, cargo.acknowledged) == (100.0, False)
    run(Script(reply(200, "{}")), cargo, Acknowledge())
    assert cargo.acknowledged


def test_opening_and_closing_the_origin() -> None:
    cargo = Cargo(URL, "receipt")
    assert run(Script(), cargo, CloseOrigin()) == OriginClosed()
    script = Script(BodyOpened(3, 404, ()))
    assert isinstance(run(script, cargo, OpenOrigin()), OriginDeclined)
    assert cargo.body is None
    assert run(Script(opened(7, ("etag", '"e"'))), cargo, OpenOrigin()) == OriginOpened(7, '"e"', delimited=True)
    assert (cargo.open_body, cargo.length, cargo.etag) == (9, 7, '"e"')
    script = Script()
    assert run(script, cargo, CloseOrigin()) == OriginClosed()
    assert script.said == ["close 9"]


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
def test_parts_are_fetched(pieces: list[bytes | None], events: list[tuple[int, int, int, bool]]) -> None:
    cargo = Cargo(URL, "receipt")
    origin = Origin(opened(), pieces=pieces)
    run(origin, cargo, OpenOrigin())
    for number, size, total, ended in events:
        fetched = run(origin, cargo, FetchPart(number, 5))
        assert isinstance(fetched, PartFetched)
        assert (fetched.number, fetched.size, fetched.total_bytes, fetched.ended) == (number, size, total, ended)
        assert (fetched.fault, bool(fetched.sha256)) == (None, ended)
    assert len(cargo.parts) == sum(1 for number, size, *_ in events if size or number == 1)


def test_a_whole_body_is_judged_and_no_part_of_it() -> None:
    cargo = Cargo(URL, "receipt")
    origin = Origin(opened(9), pieces=[b"abcdefg"])
    run(origin, cargo, OpenOrigin())
    first, second = run(origin, cargo, FetchPart(1, 5)), run(origin, cargo, FetchPart(2, 5))
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
def test_a_body_that_breaks_off(failure: TransportFailure, reason: Reason) -> None:
    cargo = carrying(b"abcde", b"fg", parts=1)
    event = run(Script(failure), cargo, FetchPart(2, 5))
    assert event == FetchFailed(reason, f"{failure.kind.value} after 5 bytes: {failure.detail}")
    assert list(cargo.parts) == [1]


def test_an_object_of_exactly_one_part_is_whole_with_it() -> None:
    origin = Origin(opened(5), pieces=[b"abcde"])
    cargo = Cargo(URL, "receipt")
    run(origin, cargo, OpenOrigin())
    digest = hashlib.sha256(b"abcde").hexdigest()
    assert run(origin, cargo, FetchPart(1, 5)) == PartFetched(1, 5, 5, ended=True, sha256=digest)


def test_more_than_was_promised_is_not_whole() -> None:
    origin = Origin(opened(5), pieces=[b"abcdef"])
    cargo = Cargo(URL, "receipt")
    run(origin, cargo, OpenOrigin())
    assert run(origin, cargo, FetchPart(1, 5)) == PartFetched(1, 5, 5, ended=False)
    last = run(origin, cargo, FetchPart(2, 5))
    assert isinstance(last, PartFetched)
    assert last.fault is Reason.LENGTH_MISMATCH


def test_a_small_object_is_put_whole() -> None:
    cargo = carrying(b"abc", length=3)
    script = Script(STORED)
    assert run(script, cargo, PutCopy("e1", "copy-1")) == CopyWritten()
    assert script.said == [f"PUT /bucket/{KEY}"]
    [put] = script.calls
    assert isinstance(put, HttpExchange)
    assert put.timeout_s == 60.0
    headers = {name.lower(): value for name, value in put.request.headers}
    assert bytes(put.request.body) == b"abc"
    assert headers["x-amz-checksum-crc64nvme"] == crc64nvme(b"abc")
    assert headers["x-amz-meta-copy-id"] == "copy-1"
    assert headers["x-amz-meta-stored-at"] == "2026-02-03T04:05:06Z"
    assert cargo.parts[1].data == b""


@pytest.mark.parametrize(
    ("replies", "settled"),
    [
        ([DENIED], True),
        ([error(400, "BadDigest")], True),
        ([BROKEN] * 4, False),
        ([SILENT, DENIED], False),
        ([error(503, "SlowDown")] * 4, False),
    ],
)
def test_a_put_that_fails(replies: list[Reply], settled: bool) -> None:
    failed = run(Script(*replies), carrying(b"abc"), PutCopy("e1", "copy-1"))
    assert isinstance(failed, StoreFailed)
    assert (failed.settled, failed.part) == (settled, 0)


@pytest.mark.parametrize("action", [PutCopy("e1", "copy-1"), CreateUpload("e1", "copy-1")])
def test_without_credentials_nothing_is_written(action: CopyAction) -> None:
    sent: list[Call] = []

    def nothing(call: Call) -> Reply:
        sent.append(call)
        return NO_KEYS

    failed = drive(perform(SERVICES, carrying(b"abc"), action), nothing)
    assert failed == StoreFailed(Reason.STORE_DENIED, "none were found", settled=True)
    assert sent == [GetSigningMaterial()]


def test_an_upload_is_created() -> None:
    created = reply(200, "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
    script = Script(created)
    assert run(script, carrying(b"abc"), CreateUpload("e1", "copy-1")) == UploadCreated("u1")
    assert script.said == [f"POST /bucket/{KEY}?uploads"]
    failed = run(Script(DENIED), carrying(b"abc"), CreateUpload("e1", "copy-1"))
    assert isinstance(failed, StoreFailed)
    assert failed.settled


def test_a_part_is_sent_forgotten_and_said() -> None:
    cargo = carrying(b"abcdefg", length=7)
    cargo.lease = Lease(Slot.RENEWAL, "w", 60.0)
    script = Script(STORED, scripted())
    assert run(script, cargo, UploadPart("e1", "u1", 2)) == PartUploaded(2)
    assert script.said == [f"PUT /bucket/{KEY}?uploadId=u1&partNumber=2", "touch renewal if held w"]
    assert written(script.calls[1]) == {"bytes_done": "2", "bytes_total": "7", "life_ms": "60000"}
    put = script.calls[0]
    assert isinstance(put, HttpExchange)
    assert bytes(put.request.body) == b"fg"
    assert dict(put.request.headers)["x-amz-checksum-crc64nvme"] == crc64nvme(b"fg")
    assert (cargo.parts[2].data, cargo.parts[2].etag, cargo.parts[2].size) == (b"", '"e"', 2)
    script = Script(STORED, BROKEN)
    assert run(script, cargo, UploadPart("e1", "u1", 1)) == PartUploaded(1), "progress is only said"


def test_nobody_holds_a_part_while_its_progress_is_being_said() -> None:
    cargo = carrying(b"a marked part", part_bytes=100)
    cargo.lease = Lease(Slot.ENTRY, "w", 60.0)
    sending = perform(SERVICES, cargo, UploadPart("e1", "u1", 1))
    assert next(sending) == GetSigningMaterial()
    assert isinstance(sending.send(KEYS), HttpExchange)
    assert sending.send(STORED) == GetMonotonicTime()
    gc.collect()
    requests = [each for each in gc.get_objects() if isinstance(each, HttpRequest)]
    assert [request for request in requests if bytes(request.body) == b"a marked part"] == []


def test_a_part_without_a_lease_says_nothing() -> None:
    script = Script(STORED)
    assert run(script, carrying(b"abcdefg"), UploadPart("e1", "u1", 1)) == PartUploaded(1)


def test_a_part_that_cannot_be_sent() -> None:
    cargo = carrying(b"abcdefg")
    failed = run(Script(BROKEN, DENIED), cargo, UploadPart("e1", "u1", 2))
    assert isinstance(failed, StoreFailed)
    assert (failed.part, failed.reason) == (2, Reason.STORE_DENIED)
    assert list(cargo.parts) == [1]


def stored_parts() -> Cargo:
    cargo = carrying(b"abcdefghij", part_bytes=5)
    for number in (2, 1):
        run(Script(reply(200, etag=f'"e{number}"')), cargo, UploadPart("e1", "u1", number))
    return cargo


def completed(body: str = "") -> HttpReply:
    return reply(200, body or "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")


def test_an_upload_is_completed_with_size_and_checksum_of_the_whole() -> None:
    script = Script(completed())
    assert run(script, stored_parts(), CompleteUpload("e1", "u1")) == CopyWritten()
    [complete] = script.calls
    assert isinstance(complete, HttpExchange)
    headers = {name.lower(): value for name, value in complete.request.headers}
    whole = combine_parts([(crc64nvme(b"abcde"), 5), (crc64nvme(b"fghij"), 5)])
    assert headers["x-amz-checksum-crc64nvme"] == whole == crc64nvme(b"abcdefghij")
    assert headers["x-amz-mp-object-size"] == "10"
    body = bytes(complete.request.body).decode()
    assert body.index("e1") < body.index("e2")
    assert body.count("<Part>") == 2, "no part without bytes"


@pytest.mark.parametrize(
    ("replies", "settled"),
    [
        ([error(404, "NoSuchUpload")], True),
        ([error(400, "InvalidPart")], True),
        ([BROKEN, error(404, "NoSuchUpload")], False),
        ([SILENT, error(400, "InvalidPart")], False),
        ([completed("<Error><Code>InternalError</Code></Error>"), error(404, "NoSuchUpload")], False),
        ([BROKEN] * 4, False),
    ],
)
def test_an_upload_that_may_have_been_completed_is_not_settled(replies: list[Reply], settled: bool) -> None:
    failed = run(Script(*replies), stored_parts(), CompleteUpload("e1", "u1"))
    assert isinstance(failed, StoreFailed)
    assert failed.settled is settled


VERIFY = VerifyCopy("e1", "copy-1")


@pytest.mark.parametrize(
    ("found", "event"),
    [
        (head(10), CopyVerified(FoundCopy(10, '"e"', 82_800.0, "copy-1"))),
        (
            head(10, x_amz_checksum_crc64nvme=crc64nvme(b"abcdefghij")),
            CopyVerified(FoundCopy(10, '"e"', 82_800.0, "copy-1")),
        ),
        (head(9), CopyDiffers(own=True, detail="the store has 9 bytes of 10")),
        (
            head(10, x_amz_checksum_crc64nvme=crc64nvme(b"abcdefghiJ")),
            CopyDiffers(own=True, detail="the store's checksum of the object is another"),
        ),
        (head(10, x_amz_meta_copy_id="copy-2"), CopyDiffers(own=False)),
        (head(10, x_amz_meta_url_sha256="x"), CopyNotFound("e1")),
        (reply(404), CopyNotFound("e1")),
    ],
)
def test_what_was_written_is_looked_at(found: HttpReply, event: CopyEvent) -> None:
    script = Script(found)
    assert run(script, stored_parts(), VERIFY) == event
    assert script.said == [f"HEAD /bucket/{KEY}"]


def test_what_cannot_be_looked_at_is_not_known() -> None:
    failed = run(Script(BROKEN, reply(403)), stored_parts(), VERIFY)
    assert isinstance(failed, ProbeFailed)
    assert failed.reason is Reason.STORE_DENIED


def test_a_copy_that_was_put_whole_is_verified_too() -> None:
    cargo = carrying(b"abc")
    run(Script(STORED), cargo, PutCopy("e1", "copy-1"))
    right = head(3, x_amz_checksum_crc64nvme=crc64nvme(b"abc"))
    assert isinstance(run(Script(right), cargo, VERIFY), CopyVerified)
    empty = carrying()
    run(Script(STORED), empty, PutCopy("e1", "copy-1"))
    assert isinstance(run(Script(head(0, x_amz_checksum_crc64nvme=crc64nvme(b""))), empty, VERIFY), CopyVerified)
    wrong = replace(right, headers=tuple(pair for pair in right.headers if pair[0] != "content-length"))
    assert isinstance(run(Script(wrong, wrong), cargo, VERIFY), ProbeFailed)
