"""The copy machine's actions as calls: what is read, what is written, and what is in doubt."""

import gc
import hashlib
from dataclasses import replace

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import Draft, ProbeCopy, ReadEntry, Slot, WriteEntry
from cloud_mirror.copy_actions import (
    AbortUpload,
    Acknowledge,
    Acquire,
    CompleteUpload,
    CopyAction,
    CopyObject,
    CreateUpload,
    DeferJob,
    DeleteCopy,
    DropEntry,
    DropServed,
    FetchPart,
    KeepLease,
    PutCopy,
    ReadEpoch,
    ReturnJob,
    TagCopy,
    UploadPart,
    VerifyCopy,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyTagged,
    CopyVerified,
    CopyWritten,
    EpochRead,
    JobSettled,
    LeaseAcquired,
    PartUploaded,
    UploadCreated,
)
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import CopyNotFound, EntryRead, EntryWritten, FoundCopy, ProbeFailed, StoreFailed
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import (
    Call,
    Done,
    FailureKind,
    GetMonotonicTime,
    GetSigningMaterial,
    HttpExchange,
    HttpReply,
    HttpRequest,
    ReleaseMemory,
    Reply,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.checksums import combine_parts, crc64nvme
from cloud_mirror.wire.procedures.copy import perform
from cloud_mirror.wire.storage import PartReceipt
from tests.wire.carrying import RANGED, Origin, begun, carrying, drive_one, opened, run
from tests.wire.driving import drive
from tests.wire.exchange import KEYS, reply
from tests.wire.pools import BROKEN, SERVICES, URL, Script, completed, error, head, missing, scripted, sent, written

KEY = keys.object_key(URL, "e1")
COPYING = Draft(Entry(Status.PENDING, "w", URL, holder=Holder.COPYING), 60.0)
STORED = reply(200, etag='"e"')
DENIED = error(403, "AccessDenied")
SILENT = TransportFailure(FailureKind.TIMEOUT, "silence")
NO_KEYS = TransportFailure(FailureKind.CREDENTIALS, "none were found")


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
        (TagCopy("e1", "ab"), [reply(200)], CopyTagged, f"PUT /bucket/{KEY}?tagging"),
        (TagCopy("e1", "ab"), [DENIED], CopyTagged, f"PUT /bucket/{KEY}?tagging"),
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


def test_a_small_object_is_put_whole() -> None:
    cargo = carrying(b"abc", length=3)
    script = Script(STORED)
    assert run(script, cargo, PutCopy("e1", "copy-1")) == CopyWritten()
    assert script.said == [f"PUT /bucket/{KEY}"]
    [put] = script.calls
    assert isinstance(put, HttpExchange)
    assert put.timeout_s == 60.0
    headers, body = sent(script)
    assert body == b"abc"
    assert headers["x-amz-checksum-crc64nvme"] == crc64nvme(b"abc")
    assert headers["x-amz-meta-copy-id"] == "copy-1"
    assert headers["x-amz-meta-stored-at"] == "2026-02-03T04:05:06Z"
    assert headers["x-amz-tagging"] == f"sha256={hashlib.sha256(b'abc').hexdigest()}"
    assert cargo.parts[1].data == b""
    assert script.memory == [ReleaseMemory("receipt", 5)]


def test_a_put_that_may_not_be_tagged_goes_without() -> None:
    script = Script(DENIED, STORED)
    assert run(script, carrying(b"abc"), PutCopy("e1", "copy-1")) == CopyWritten()
    (tagged, body), (untagged, again) = (sent(script, at) for at in (0, 1))
    assert {*tagged} - {*untagged} == {"x-amz-tagging"}
    assert body == again == b"abc"


@pytest.mark.parametrize(
    ("replies", "settled"),
    [
        ([DENIED, DENIED], True),
        ([error(400, "BadDigest")], True),
        ([BROKEN] * 4, False),
        ([error(503, "SlowDown")] * 4, False),
    ],
)
def test_a_put_that_fails(replies: list[Reply], settled: bool) -> None:
    failed = run(Script(*replies), carrying(b"abc"), PutCopy("e1", "copy-1"))
    assert isinstance(failed, StoreFailed)
    assert (failed.settled, failed.part) == (settled, 0)


@pytest.mark.parametrize("action", [PutCopy("e1", "copy-1"), CreateUpload("e1", "copy-1"), CopyObject("e1", "copy-1")])
def test_without_credentials_nothing_is_written(action: CopyAction) -> None:
    sent: list[Call] = []

    def nothing(call: Call) -> Reply:
        sent.append(call)
        return NO_KEYS

    failed = drive(perform(SERVICES, carrying(b"abc"), action), nothing)
    assert failed == StoreFailed(Reason.STORE_DENIED, "none were found", settled=True)
    assert sent == [GetSigningMaterial()]


CREATED = reply(200, "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")


def test_an_upload_is_created() -> None:
    script = Script(CREATED)
    cargo = carrying(b"abc")
    assert run(script, cargo, CreateUpload("e1", "copy-1")) == UploadCreated("u1")
    assert script.said == [f"POST /bucket/{KEY}?uploads"]
    assert not cargo.noted
    for action in (CreateUpload("e1", "copy-1"), CreateUpload("e1", "copy-1", 5)):
        failed = run(Script(DENIED), carrying(b"abc"), action)
        assert isinstance(failed, StoreFailed)
        assert failed.settled


def test_a_part_is_sent_forgotten_and_said() -> None:
    cargo = carrying(b"abcdefg", length=7)
    script = Script(STORED, scripted())
    assert run(script, cargo, UploadPart("e1", "u1", 2)) == PartUploaded(2)
    assert script.said == [f"PUT /bucket/{KEY}?uploadId=u1&partNumber=2", "touch renewal if held w"]
    assert written(script.calls[1]) == {"bytes_done": "2", "bytes_total": "7", "life_ms": "60000"}
    headers, body = sent(script)
    assert body == b"fg"
    assert headers["x-amz-checksum-crc64nvme"] == crc64nvme(b"fg")
    assert cargo.parts[2].data == b""
    assert cargo.receipts == {2: PartReceipt(2, '"e"', 2, crc64nvme(b"fg"))}
    script = Script(STORED, BROKEN)
    script.now_s += 1.0
    assert run(script, cargo, UploadPart("e1", "u1", 1)) == PartUploaded(1), "progress is only said"


def test_progress_is_said_no_more_than_once_a_second() -> None:
    cargo = carrying(*[b"abcde"] * 5, length=25)
    said: list[str] = []
    for number, at_s in enumerate((100.0, 100.5, 100.9, 101.0, 101.9), 1):
        script = Script(STORED, *[scripted()] * (at_s in (100.0, 101.0)))
        script.now_s = at_s
        run(script, cargo, UploadPart("e1", "u1", number))
        said += [written(call)["bytes_done"] for call in script.calls[1:]]
    assert said == ["5", "20"]


def test_how_much_was_taken_over_is_said_too() -> None:
    origin = Origin(opened(10, *RANGED), STORED, scripted(), pieces=[b"abcde"])
    cargo = begun(origin)
    cargo.adopt([PartReceipt(2, "e2", 5, crc64nvme(b"fghij"))])
    drive_one(origin, cargo, FetchPart(1, 5, 0))
    run(origin, cargo, UploadPart("e1", "u1", 1))
    told = {"bytes_done": "10", "bytes_adopted": "5", "bytes_total": "10"}
    assert written(origin.calls[-1]) == {**told, "life_ms": "60000"}


def test_nobody_holds_a_part_while_its_progress_is_being_said() -> None:
    cargo = carrying(b"a marked part", part_bytes=100)
    sending = perform(SERVICES, cargo, UploadPart("e1", "u1", 1))
    assert next(sending) == GetSigningMaterial()
    assert isinstance(sending.send(KEYS), HttpExchange)
    assert sending.send(STORED) == ReleaseMemory("receipt", 100)
    assert sending.send(Done()) == GetMonotonicTime()
    gc.collect()
    requests = [each for each in gc.get_objects() if isinstance(each, HttpRequest)]
    assert [request for request in requests if bytes(request.body) == b"a marked part"] == []


def test_a_part_without_a_lease_says_nothing() -> None:
    cargo = carrying(b"abcdefg")
    cargo.lease = None
    assert run(Script(STORED), cargo, UploadPart("e1", "u1", 1)) == PartUploaded(1)


def test_a_part_that_cannot_be_sent() -> None:
    cargo = carrying(b"abcdefg")
    failed = run(Script(BROKEN, DENIED), cargo, UploadPart("e1", "u1", 2))
    assert isinstance(failed, StoreFailed)
    assert (failed.part, failed.reason) == (2, Reason.STORE_DENIED)
    assert list(cargo.parts) == [1]


def stored_parts() -> Cargo:
    cargo = carrying(b"abcdefghij", part_bytes=5)
    cargo.lease = None
    for number in (2, 1):
        run(Script(reply(200, etag=f'"e{number}"')), cargo, UploadPart("e1", "u1", number))
    return cargo


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
        ([error(404, "NoSuchUpload")], False),
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


def test_what_was_told_of_an_upload_is_taken_back_with_its_end() -> None:
    for action, script in (
        (CompleteUpload("e1", "u1"), Script(completed(), scripted())),
        (AbortUpload("e1", "u1"), Script(scripted(), reply(204))),
    ):
        cargo = stored_parts()
        cargo.noted, cargo.lease = True, Lease(Slot.ENTRY, "w", 60.0)
        run(script, cargo, action)
        assert "drop note if held w" in script.said
        assert not cargo.noted
    cargo = stored_parts()
    cargo.noted = True
    run(Script(error(400, "InvalidPart")), cargo, CompleteUpload("e1", "u1"))
    assert cargo.noted, "the upload is still there"


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
