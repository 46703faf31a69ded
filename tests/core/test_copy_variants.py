"""The copy machine: what its table's lines come to, one after the other."""

from dataclasses import replace

import pytest

from cloud_mirror.actions import Draft, ProbeCopy, ReadEntry, Slot
from cloud_mirror.copy import step
from cloud_mirror.copy_actions import (
    Acknowledge,
    Acquire,
    CloseOrigin,
    CompleteUpload,
    CreateUpload,
    DeferJob,
    DropEntry,
    FetchPart,
    KeepLease,
    OpenOrigin,
    PutCopy,
    ReadEpoch,
    ReturnJob,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyVerified,
    JobReceived,
    LeaseAcquired,
    LeaseDenied,
    LeaseLost,
    OriginOpened,
    PartFetched,
    PartReserved,
    PartUploaded,
    UploadCreated,
)
from cloud_mirror.copy_table import State
from cloud_mirror.entry import Holder
from cloud_mirror.events import (
    CacheFailed,
    CopyFound,
    CopyNotFound,
    EntryRefused,
    EntryWritten,
    OriginDeclined,
    ProbeFailed,
    StoreFailed,
)
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason
from tests.core.copy_scripts import (
    ABORT,
    ACQUIRE,
    ACQUIRING,
    COPYING,
    DELETE,
    FIRST,
    KEEP,
    OPENING,
    OUTAGE,
    PROBING,
    RECEIVED,
    RENEW,
    RENEWED_WRONG,
    SECOND,
    STOPPING,
    TRANSFERRING,
    UNSURE,
    UPLOADING,
    UPLOADING_TWO,
    VERIFYING,
    again,
    broke_off,
    publish,
    record,
    reserve,
    upload,
)
from tests.core.copy_world import (
    AGEING,
    COPY,
    ERROR,
    EXPIRING,
    PART,
    RULES,
    START,
    URL,
    pending,
    present,
    read,
)
from tests.core.scripts import Script, play, to

LENIENT = replace(START, rules=replace(RULES, allow_close_delimited=True))
FOURTH = JobReceived(URL, "e1", 4)

WITHDRAWING: Script = (*PROBING, to(CopyNotFound("e2"), DropEntry(Slot.ENTRY, "w")))

VARIANTS: dict[str, tuple[State, Script]] = {
    "an object without a byte is put": (
        START,
        (
            *TRANSFERRING,
            to(PartFetched(1, 0, 0, ended=True, sha256="e3"), PutCopy("e1", "mine")),
        ),
    ),
    "a last part without a byte is not sent": (
        START,
        (
            *UPLOADING,
            to(PartUploaded(1)),
            to(PartFetched(2, 0, PART, ended=True), CompleteUpload("e1", "u")),
        ),
    ),
    "parts are as large as the length needs": (
        replace(START, rules=replace(RULES, max_object_bytes=10_000 * 6 * MIB)),
        (
            *OPENING,
            to(OriginOpened(10_000 * 6 * MIB, "", delimited=True), reserve(1, 6 * MIB)),
            to(PartReserved(1), FetchPart(1, 6 * MIB, 0)),
            to(PartFetched(1, 6 * MIB, 6 * MIB, ended=False), CreateUpload("e1", "mine")),
            to(UploadCreated("u"), upload(1), reserve(2, 6 * MIB)),
            to(PartReserved(2), FetchPart(2, 6 * MIB, 6 * MIB)),
        ),
    ),
    "the policy allows a body that only the connection ends": (
        LENIENT,
        (*OPENING, to(OriginOpened(None, "", delimited=False), reserve(1))),
    ),
    "a body grows too large": (
        replace(START, rules=replace(RULES, max_object_bytes=PART - 1)),
        (
            *TRANSFERRING,
            to(FIRST, record(Reason.OBJECT_TOO_LARGE, f"more than {PART} bytes", 3_600.0)),
        ),
    ),
    "a renewal probes for a copy with more life than the one at hand": (
        START,
        (
            *RECEIVED,
            to(read(present(life_s=3_600.0)), RENEW),
            to(LeaseAcquired(), KeepLease(Slot.RENEWAL, "w"), ProbeCopy()),
            to(CopyFound("e1", AGEING), OpenOrigin()),
        ),
    ),
    "a copy that was not confirmed for long is found again, and renewed": (
        START,
        (
            *RECEIVED,
            to(read(present(verified_s=300.0)), RENEW),
            to(LeaseAcquired(), KeepLease(Slot.RENEWAL, "w"), ProbeCopy()),
            to(CopyFound("e1", COPY), publish("", Slot.RENEWAL)),
        ),
    ),
    "a copy about to expire is renewed beside its entry, which nobody may take": (
        START,
        (*RECEIVED, to(read(present(life_s=600.0)), RENEW)),
    ),
    "a lease that the cache will not give is tried for three times": (
        START,
        (
            *ACQUIRING,
            to(CacheFailed(), ReadEntry()),
            to(read(None), again(2)),
            to(CacheFailed(), ReadEntry()),
            to(read(None), again(3)),
            to(CacheFailed(), ReturnJob("e1", 15.0)),
        ),
    ),
    "each try to acquire has a token of its own: one that arrives late gives back nothing that a purge took": (
        START,
        (
            *ACQUIRING,
            to(CacheFailed(), ReadEntry()),
            to(read(None), again(2)),
            to(LeaseAcquired(), KeepLease(Slot.ENTRY, "w-2"), ProbeCopy()),
            to(CopyNotFound("e1"), OpenOrigin()),
        ),
    ),
    "a lease of an earlier try that arrived after all is another's": (
        START,
        (
            *ACQUIRING,
            to(CacheFailed(), ReadEntry()),
            to(read(None), again(2)),
            to(LeaseDenied(), ReadEntry()),
            to(read(pending(Holder.COPYING, by="w")), ReturnJob("e1", 11.0)),
        ),
    ),
    "a lease that another has by now need not be given up": (
        START,
        (*WITHDRAWING, to(EntryRefused(), Acknowledge())),
    ),
    "a lease that cannot be given up runs out": (
        START,
        (*WITHDRAWING, to(CacheFailed(), Acknowledge())),
    ),
    "a copy that need not be renewed yet is as good as a new one": (
        START,
        (*PROBING, to(CopyFound("e1", AGEING), publish("", life_s=3_600.0))),
    ),
    "a present entry that does not tell its times is renewed": (
        START,
        (
            *RECEIVED,
            to(read(replace(present(), expires_at_s=None)), RENEW),
            to(CacheFailed(), ReadEntry()),
            to(read(replace(present(), verified_at_s=None)), again(2, Slot.RENEWAL)),
        ),
    ),
    "a copy that went while it was to be renewed is made under the entry": (
        START,
        (*RECEIVED, to(read(present(life_s=3_600.0)), RENEW), to(CacheFailed(), ReadEntry()), to(read(None), again(2))),
    ),
    "a renewal from before a purge is made: clients are being sent to the copy": (
        START,
        (
            *RECEIVED,
            to(read(present(life_s=3_600.0)), RENEW),
            to(LeaseAcquired(), KeepLease(Slot.RENEWAL, "w"), ProbeCopy()),
            to(CopyNotFound("e2"), OpenOrigin()),
        ),
    ),
    "a job from before a purge is dropped where only an error is known": (
        START,
        (
            *RECEIVED,
            to(read(ERROR), ACQUIRE),
            to(LeaseAcquired(), *KEEP),
            to(CopyNotFound("e2"), DropEntry(Slot.ENTRY, "w")),
        ),
    ),
    "a copy about to expire is not found": (START, (*PROBING, to(CopyFound("e1", EXPIRING), OpenOrigin()))),
    "a job from before a purge is done where somebody waits for it": (
        START,
        (
            *RECEIVED,
            to(read(pending(Holder.QUEUED)), ACQUIRE),
            to(LeaseAcquired(), *KEEP),
            to(CopyNotFound("e2"), OpenOrigin()),
        ),
    ),
    "a job that names no epoch is never stale": (
        START,
        (
            to(JobReceived(URL, "", 1), ReadEntry()),
            to(read(None), ACQUIRE),
            to(LeaseAcquired(), *KEEP),
            to(CopyNotFound("e2"), OpenOrigin()),
        ),
    ),
    "the origin's wish for a later visit is heeded": (
        START,
        (
            *OPENING,
            to(
                OriginDeclined(Reason.ORIGIN_BUSY, 429, retry_after_s=40.0),
                record(Reason.ORIGIN_BUSY, "", 100.0, 429),
            ),
            to(EntryWritten(), DeferJob(40.0)),
        ),
    ),
    "the origin's wish for a much later visit is heeded for an hour": (
        START,
        (
            *OPENING,
            to(
                OriginDeclined(Reason.ORIGIN_BUSY, 429, retry_after_s=1e9),
                record(Reason.ORIGIN_BUSY, "", 3_660.0, 429),
            ),
            to(EntryWritten(), DeferJob(3_600.0)),
        ),
    ),
    "a job rests longer with each failure": (
        START,
        (
            to(FOURTH, ReadEntry()),
            to(read(None), Acquire(Slot.ENTRY, Draft(replace(COPYING.entry, attempt=4), 60.0))),
            to(LeaseAcquired(), *KEEP),
            to(ProbeFailed(OUTAGE), record(OUTAGE, "", 100.0, attempt=4)),
            to(EntryWritten(), DeferJob(40.0)),
        ),
    ),
    "of a job that failed before, the store may have parts already": (
        START,
        (
            to(FOURTH, ReadEntry()),
            to(read(None), Acquire(Slot.ENTRY, Draft(replace(COPYING.entry, attempt=4), 60.0))),
            to(LeaseAcquired(), *KEEP),
            to(CopyNotFound("e1"), OpenOrigin(begun_before=True)),
        ),
    ),
    "a part that the store does not take ends the copy when the others are in": (
        START,
        (
            *UPLOADING_TWO,
            to(StoreFailed(OUTAGE, "503", part=1)),
            to(PartUploaded(2), ABORT),
            to(CleanedUp(), record(OUTAGE, "503")),
        ),
    ),
    "the first of two faults is the one that is told": (
        START,
        (
            *UPLOADING,
            to(StoreFailed(OUTAGE, "first", part=1), CloseOrigin()),
            to(broke_off(2), ABORT),
            to(CleanedUp(), record(OUTAGE, "first")),
        ),
    ),
    "what comes while the copy stops is thrown away": (
        START,
        (*STOPPING, to(SECOND), to(StoreFailed(OUTAGE, part=1), ABORT)),
    ),
    "a confirmation from the future is none": (START, (*RECEIVED, to(read(present(verified_s=-1.1)), RENEW))),
    "a confirmation a moment ahead is the clock's": (
        START,
        (*RECEIVED, to(read(present(verified_s=-1.0)), Acknowledge())),
    ),
    "a renewal found wrong is retracted before it is removed": (
        START,
        (
            *RENEWED_WRONG,
            to(EntryWritten(), DELETE),
            to(CleanedUp(), replace(record(Reason.CHECKSUM_MISMATCH, "size"), slot=Slot.RENEWAL)),
        ),
    ),
    "a renewal found wrong is removed although it cannot be retracted": (
        START,
        (*RENEWED_WRONG, to(CacheFailed(), DELETE)),
    ),
    "a renewal found wrong is left alone once the lease is lost": (
        START,
        (*RENEWED_WRONG, to(LeaseLost()), to(EntryRefused(), ReadEpoch())),
    ),
    "a wrong object is removed and told of": (
        START,
        (
            *VERIFYING,
            to(CopyDiffers(own=True, detail="size"), DELETE),
            to(CleanedUp(), record(Reason.CHECKSUM_MISMATCH, "size")),
        ),
    ),
    "an upload that may be open still is aborted before the wrong object is removed": (
        START,
        (*UNSURE, to(CopyDiffers(own=True), ABORT), to(CleanedUp(), DELETE)),
    ),
    "an upload that may be open still is aborted where another's copy stands": (
        START,
        (
            *UNSURE,
            to(CopyDiffers(own=False), ABORT),
            to(CleanedUp(), record(OUTAGE, "the upload may be open still")),
        ),
    ),
    "another's copy is as good": (
        START,
        (
            *VERIFYING,
            to(CopyDiffers(own=False), ProbeCopy()),
            to(CopyFound("e1", COPY), publish("")),
        ),
    ),
    "another's copy goes away: one delivery of a job copies once": (
        START,
        (
            *VERIFYING,
            to(CopyDiffers(own=False), ProbeCopy()),
            to(CopyNotFound("e1"), record(OUTAGE, "another copy took its place, and went")),
        ),
    ),
    "an object that is there although no reply came is published": (
        START,
        (*UNSURE, to(CopyVerified(COPY), publish())),
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str) -> None:
    state, script = VARIANTS[name]
    play(step, state, script)
