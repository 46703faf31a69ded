"""The copy machine: from a job to a copy that is whole, verified and published, or to a reason why not.

Theory. A worker *acquires* the URL's lease before it looks at anything else, so that a purge either takes the
lease from it or is seen by it: the purge writes a new epoch first and drops the entry second, and the worker
reads the epoch only after it holds the entry. What it writes lands under that epoch's key, and `present` is
written under the worker's own token; so a copy that a purge overtook is neither looked for nor announced.

Rules.
 1. `present` is published only for an object that was just confirmed at the store: size, checksum, copy id.
 2. A request to the store that changes something is never cut off: its answer is awaited, then judged.
 3. A worker that lost its lease leaves the upload alone, unless the epoch is dead: then the key is its own. What
    clients may still be sent to is not deleted: a purge may have failed between the epoch and the entry.
 4. A job is acknowledged only when its outcome is durable, or when it is given up for good.
 5. Only a failure is held against a job. One that another worker sees to, or that a drain broke off, is returned
    as if it had never been delivered.
 6. One owner of a retry: a passing failure gives the job back, and the error it writes is due only one lease
    after the job's return, so that front ends step in only when the job was lost.

`transition` is the table of DESIGN ("The copy machine"), one `Row` for each of its lines.
"""

from __future__ import annotations

from dataclasses import replace

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
from cloud_mirror.copy_table import MAX_TRIES, OUTAGE_REST_S, Phase, Row, State, Stop, Transition
from cloud_mirror.entry import Holder, Status
from cloud_mirror.events import (
    CacheFailed,
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyFound,
    CopyNotFound,
    CopyOverdue,
    CopyVerified,
    CopyWritten,
    DrainBegun,
    EntryRead,
    EntryRefused,
    EntryWritten,
    EpochRead,
    FetchFailed,
    FoundCopy,
    JobReceived,
    JobSettled,
    LeaseAcquired,
    LeaseDenied,
    LeaseLost,
    OriginDeclined,
    OriginOpened,
    PartFetched,
    PartUploaded,
    ProbeFailed,
    StoreFailed,
    UploadCreated,
)
from cloud_mirror.reason import PERMANENT, Reason
from cloud_mirror.redirect import AHEAD_S


def step(state: State, event: CopyEvent) -> tuple[State, tuple[CopyAction, ...]]:
    """The next state, and what must be done."""
    taken = transition(state, event)
    return taken.state, taken.actions


def transition(state: State, event: CopyEvent) -> Transition:
    """The same, with the line of the table that it was."""
    match state.phase, event:
        case _, LeaseLost():
            return _on_stop(Row.LEASE_LOST, state, Stop.LEASE_LOST)
        case _, CopyOverdue():
            return _on_stop(Row.OVERDUE, state, state.stop or Stop.OVERDUE)
        case _, DrainBegun():
            return _on_stop(Row.DRAINED, state, state.stop or Stop.DRAIN)
        case Phase.START, JobReceived(url, epoch, attempt):
            received = replace(state, url=url, job_epoch=epoch, attempt=attempt)
            return _move(Row.RECEIVED, received, Phase.READING, ReadEntry())
        case Phase.READING, EntryRead():
            return _on_read(state, event)
        case Phase.READING, CacheFailed():
            return _settle(Row.READ_FAILED, state, DeferJob(OUTAGE_REST_S))
        case Phase.ACQUIRING, LeaseAcquired():
            return _acquired(Row.ACQUIRED, state)
        case Phase.ACQUIRING, LeaseDenied() if state.slot is Slot.RENEWAL:
            return _return(Row.NOT_RENEWABLE, state, state.rules.lease_s + 1.0)
        case Phase.ACQUIRING, (LeaseDenied() | CacheFailed()) if state.tries >= MAX_TRIES:
            return _return(Row.ACQUIRE_IN_VAIN, state, OUTAGE_REST_S)
        case Phase.ACQUIRING, (LeaseDenied() | CacheFailed()):
            row = Row.NOT_ACQUIRED if isinstance(event, LeaseDenied) else Row.ACQUIRE_UNKNOWN
            return _move(row, state, Phase.READING, ReadEntry())
        case Phase.PROBING, (CopyFound() | CopyNotFound() | ProbeFailed()):
            return _on_probe(state, event)
        case Phase.WITHDRAWING, (EntryWritten() | EntryRefused() | CacheFailed()):
            return _settle(Row.WITHDRAWN, state, Acknowledge())
        case Phase.OPENING, (OriginOpened() | OriginDeclined()):
            return _on_origin(state, event)
        case Phase.TRANSFERRING, (PartFetched() | FetchFailed() | PartUploaded() | StoreFailed()):
            return _on_transfer(state, event)
        case Phase.CREATING, (UploadCreated() | StoreFailed()):
            return _on_created(state, event)
        case Phase.STOPPING, (PartFetched() | FetchFailed() | PartUploaded() | StoreFailed()):
            return _stop_when_quiet(Row.STOPPED, state.noted(event))
        case ((Phase.PUTTING | Phase.COMPLETING), (CopyWritten() | StoreFailed())):
            return _on_object(state, event)
        case Phase.VERIFYING, (CopyVerified() | CopyDiffers() | CopyNotFound() | ProbeFailed()):
            return _on_verified(state, event)
        case (
            (Phase.RETRACTING | Phase.PUBLISHING | Phase.RECORDING | Phase.REQUEUEING),
            (EntryWritten() | EntryRefused() | CacheFailed()),
        ):
            return _on_written(state, event)
        case ((Phase.ABORTING | Phase.DELETING), CleanedUp()):
            return _on_cleaned(state)
        case Phase.CHECKING_EPOCH, EpochRead(epoch) if epoch != state.epoch:
            # Whatever stands under a dead epoch's key may go, also what a write of unknown outcome may have left there.
            dead = replace(state, give_up=True, written=True)
            return _move(Row.EPOCH_DEAD, dead, Phase.RETRACTING, DropServed(state.epoch))
        case Phase.CHECKING_EPOCH, (EpochRead() | ProbeFailed()):
            return Transition(Row.EPOCH_ALIVE, replace(state, phase=Phase.DONE), ())
        case Phase.SETTLING, JobSettled():
            return Transition(Row.SETTLED, replace(state, phase=Phase.DONE), ())
        case _:
            return Transition(Row.IGNORED, state, ())


def _on_read(state: State, read: EntryRead) -> Transition:
    """Whose is it?"""
    entry, rules = read.entry, state.rules
    if entry is not None and entry.pending(Holder.COPYING):
        if entry.token == state.token:
            return _acquired(Row.READ_OWN, state)
        return _return(Row.READ_COPYING, state, read.life_left_s + 1.0)
    if entry is not None and entry.status is Status.PRESENT:
        life_s = (entry.expires_at_s or 0.0) - read.redis_time_s
        verified = -AHEAD_S <= read.redis_time_s - (entry.verified_at_s or 0.0) < rules.verify_s
        if life_s > rules.refresh_margin_s and verified:
            return _settle(Row.READ_PRESENT, state, Acknowledge())
        return _acquire(Row.READ_AGEING, replace(state, wanted=True, slot=Slot.RENEWAL))
    wanted = entry is not None and entry.status is Status.PENDING
    return _acquire(Row.READ_VACANT, replace(state, wanted=wanted, slot=Slot.ENTRY))


def _acquire(row: Row, state: State) -> Transition:
    state = replace(state, tries=state.tries + 1)
    return _move(row, state, Phase.ACQUIRING, Acquire(state.slot, state.copying()))


def _acquired(row: Row, state: State) -> Transition:
    probing = replace(state, phase=Phase.PROBING)
    return Transition(row, probing, (KeepLease(state.slot, state.token), ProbeCopy()))


def _on_probe(state: State, event: CopyFound | CopyNotFound | ProbeFailed) -> Transition:
    """The store's word on it, under the lease."""
    margin_s = state.rules.refresh_margin_s if state.slot is Slot.RENEWAL else state.rules.expiry_margin_s
    match event:
        case ProbeFailed(reason, detail):
            return _fail(Row.PROBE_FAILED, state, reason, detail)
        case CopyFound(epoch, copy) if copy.life_left_s > margin_s:
            return _publish(Row.PROBE_FOUND, replace(state, epoch=epoch, sha256=copy.sha256), copy)
    state = replace(state, epoch=event.epoch)
    if state.stop is not None:
        return _stop_when_quiet(Row.PROBE_NOT_FOUND, state)
    if not state.wanted and state.job_epoch not in ("", state.epoch):
        return _move(Row.PROBE_STALE, state, Phase.WITHDRAWING, DropEntry(state.slot, state.token))
    if state.parts:
        return _fail(Row.PROBE_NOT_FOUND, state, Reason.STORE_UNAVAILABLE, "another copy took its place, and went")
    return _move(Row.PROBE_NOT_FOUND, state, Phase.OPENING, OpenOrigin())


def _on_origin(state: State, event: OriginOpened | OriginDeclined) -> Transition:
    """The origin's word on it."""
    rules = state.rules
    match event:
        case OriginDeclined(reason, status, detail, retry_after_s):
            declined = replace(state, status=status, retry_after_s=retry_after_s or 0.0)
            return _fail(Row.DECLINED, declined, reason, detail)
        case OriginOpened(length) if length is not None and length > rules.max_object_bytes:
            return _fail(Row.OPENED_TOO_LARGE, state, Reason.OBJECT_TOO_LARGE, f"{length} bytes")
        case OriginOpened(delimited=False) if not rules.allow_close_delimited:
            return _fail(Row.OPENED_UNDELIMITED, state, Reason.LENGTH_UNKNOWN)
        case _:
            state, length = replace(state, length=event.length), event.length
            if state.stop is not None:
                return _stop_when_quiet(Row.OPENED, state)
            fetch = FetchPart(1, rules.plan.size_of_part(1, length))
            return _move(Row.OPENED, replace(state, fetching=True), Phase.TRANSFERRING, fetch)


def _on_transfer(state: State, event: PartFetched | FetchFailed | PartUploaded | StoreFailed) -> Transition:
    """Parts come from the origin and go to the store, a few at a time."""
    state = state.noted(event)
    match event:
        case FetchFailed(reason, detail):
            return _fail(Row.FETCH_FAILED, state, reason, detail)
        case StoreFailed(reason, detail):
            return _fail(Row.STORE_FAILED, state, reason, detail)
        case PartFetched(fault=Reason() as fault):
            return _fail(Row.FETCHED_FAULT, state, fault, f"{state.size} bytes")
        case PartFetched() if state.size > state.rules.max_object_bytes:
            return _fail(Row.FETCHED_FAULT, state, Reason.OBJECT_TOO_LARGE, f"more than {state.size} bytes")
        case PartFetched(ended=True) if not state.upload_id:
            put = PutCopy(state.epoch, state.copy_id)
            return _move(Row.FETCHED_WHOLE, replace(state, written=True), Phase.PUTTING, put)
        case PartFetched() if not state.upload_id:
            create = CreateUpload(state.epoch, state.copy_id)
            return _move(Row.FETCHED_FIRST, state, Phase.CREATING, create)
        case PartFetched(number, size):
            return _go_on(Row.FETCHED_PART, state, number if size else None)
        case _:
            return _go_on(Row.PART_UPLOADED, state, None)


def _on_created(state: State, event: UploadCreated | StoreFailed) -> Transition:
    match event:
        case UploadCreated(upload_id):
            state = replace(state, upload_id=upload_id)
            if state.stop is not None:
                return _stop_when_quiet(Row.UPLOAD_CREATED, state)
            return _go_on(Row.UPLOAD_CREATED, replace(state, phase=Phase.TRANSFERRING), 1)
        case _:
            return _fail(Row.STORE_FAILED, state, event.reason, event.detail)


def _go_on(row: Row, state: State, upload: int | None) -> Transition:
    """Send the part that came, fetch the next one if there is room for it, and complete after the last."""
    actions: tuple[CopyAction, ...] = ()
    if upload is not None:
        state = replace(state, uploading=state.uploading | {upload})
        actions = (UploadPart(state.epoch, state.upload_id, upload),)
    if state.ended and not state.uploading:
        complete = CompleteUpload(state.epoch, state.upload_id)
        return _move(row, replace(state, written=True), Phase.COMPLETING, complete)
    room = len(state.uploading) < state.rules.plan.uploads_at_once
    if room and not state.ended and not state.fetching:
        number = state.parts + 1
        state = replace(state, fetching=True)
        actions = (*actions, FetchPart(number, state.rules.plan.size_of_part(number, state.length)))
    return Transition(row, state, actions)


def _on_object(state: State, event: CopyWritten | StoreFailed) -> Transition:
    """The store was told to make the object; what it says of that is not yet believed."""
    verify = VerifyCopy(state.epoch, state.copy_id)
    match event:
        case CopyWritten():
            return _move(Row.WRITTEN, replace(state, upload_id=""), Phase.VERIFYING, verify)
        case StoreFailed(settled=False):
            return _move(Row.WRITE_UNKNOWN, state, Phase.VERIFYING, verify)
        case _:
            return _fail(Row.WRITE_FAILED, replace(state, written=False), event.reason, event.detail)


def _on_verified(state: State, event: CopyVerified | CopyDiffers | CopyNotFound | ProbeFailed) -> Transition:
    """What stands in the store under the copy's key."""
    match event:
        case CopyVerified(copy):
            return _publish(Row.VERIFIED, state, copy)
        case CopyDiffers(own=True, detail=detail):
            wrong = replace(state, fault=Reason.CHECKSUM_MISMATCH, detail=detail)
            if state.slot is Slot.RENEWAL:  # clients are being sent to it: no more of them before it goes
                return _move(Row.VERIFY_WRONG, wrong, Phase.RETRACTING, DropServed(state.epoch))
            return _stop_when_quiet(Row.VERIFY_WRONG, wrong)
        case CopyDiffers() if state.upload_id:
            other = replace(state, written=False)
            return _fail(Row.VERIFY_OTHER, other, Reason.STORE_UNAVAILABLE, "the upload may be open still")
        case CopyDiffers():
            return _move(Row.VERIFY_OTHER, replace(state, written=False), Phase.PROBING, ProbeCopy())
        case CopyNotFound():
            missing = replace(state, written=False)
            return _fail(Row.VERIFY_MISSING, missing, Reason.STORE_UNAVAILABLE, "what was written is not there")
        case _:
            return _fail(Row.VERIFY_FAILED, replace(state, written=False), event.reason, event.detail)


def _publish(row: Row, state: State, copy: FoundCopy) -> Transition:
    return _move(row, state, Phase.PUBLISHING, WriteEntry(state.present(copy), state.token, state.slot))


def _on_written(state: State, event: EntryWritten | EntryRefused | CacheFailed) -> Transition:
    """A write under this worker's own token is over."""
    match state.phase, event:
        case Phase.RETRACTING, CacheFailed() if state.give_up:  # clients may be sent there still: it stays
            return _clean_up(Row.RETRACTED, replace(state, written=False))
        case Phase.RETRACTING, _:
            return _clean_up(Row.RETRACTED, state) if state.give_up else _stop_when_quiet(Row.RETRACTED, state)
        case Phase.REQUEUEING, _:
            return _return(Row.REQUEUED, state, 0.0)
        case phase, EntryRefused():
            row = Row.PUBLISH_REFUSED if phase is Phase.PUBLISHING else Row.RECORD_REFUSED
            return _check_epoch(row, state)
        case Phase.PUBLISHING, EntryWritten():
            return _settle(Row.PUBLISHED, state, Acknowledge())
        case Phase.PUBLISHING, _:
            return _settle(Row.PUBLISH_FAILED, state, DeferJob(OUTAGE_REST_S))
        case _, CacheFailed():
            return _settle(Row.RECORD_FAILED, state, DeferJob(OUTAGE_REST_S))
        case _:
            if state.fault is Reason.ORIGIN_SATURATED:  # by other copies: nothing has failed
                return _return(Row.RECORDED, state, state.rest_s)
            again = Acknowledge() if state.fault in PERMANENT else DeferJob(state.rest_s)
            return _settle(Row.RECORDED, state, again)


def _on_stop(row: Row, state: State, stop: Stop) -> Transition:
    """The copy is to end. What is under way is awaited; only the reading of the body is cut short."""
    state = replace(state, stop=stop)
    return _stop_when_quiet(row, state) if state.phase is Phase.TRANSFERRING else Transition(row, state, ())


def _fail(row: Row, state: State, fault: Reason, detail: str = "") -> Transition:
    """The copy cannot be made: clean up, write down why, and settle the job."""
    assert state.fault is None, "a copy that has failed does nothing more that could fail"
    return _stop_when_quiet(row, replace(state, fault=fault, detail=detail))


def _stop_when_quiet(row: Row, state: State) -> Transition:
    """End the copy once nothing of it is under way any more."""
    if state.stop is Stop.OVERDUE and state.fault is None:
        state = replace(state, fault=Reason.ORIGIN_TIMEOUT, detail="not copied within worker.max_copy_s")
    if state.fetching or state.uploading:
        closing = state.phase is not Phase.STOPPING and state.fetching
        return Transition(row, replace(state, phase=Phase.STOPPING), (CloseOrigin(),) if closing else ())
    if state.stop is Stop.LEASE_LOST:
        return _check_epoch(row, state)
    return _clean_up(row, state)


def _check_epoch(row: Row, state: State) -> Transition:
    """Without the lease, all depends on whether the epoch is dead. Before it was read nothing was begun under it."""
    if not state.epoch:
        return Transition(row, replace(state, phase=Phase.DONE), ())
    return _move(row, state, Phase.CHECKING_EPOCH, ReadEpoch())


def _clean_up(row: Row, state: State) -> Transition:
    """Remove from the store what this copy left there, then go on to what follows."""
    if state.upload_id:
        return _move(row, state, Phase.ABORTING, AbortUpload(state.epoch, state.upload_id))
    if state.written:
        return _move(row, state, Phase.DELETING, DeleteCopy(state.epoch))
    return _conclude(row, state)


def _on_cleaned(state: State) -> Transition:
    """Something is removed; the lease may have been lost meanwhile (rule 3)."""
    aborted = state.phase is Phase.ABORTING
    state = replace(state, upload_id="") if aborted else replace(state, written=False)
    if state.stop is Stop.LEASE_LOST and not state.give_up:
        return _check_epoch(Row.CLEANED, state)
    return _clean_up(Row.CLEANED, state)


def _conclude(row: Row, state: State) -> Transition:
    """Say in the entry how it ended."""
    if state.give_up:
        return _settle(row, state, Acknowledge())
    if state.fault is None:
        return _move(row, state, Phase.REQUEUEING, WriteEntry(state.queued(), state.token, state.slot))
    return _move(row, state, Phase.RECORDING, WriteEntry(state.failed(state.fault), state.token, state.slot))


def _move(row: Row, state: State, phase: Phase, action: CopyAction) -> Transition:
    return Transition(row, replace(state, phase=phase), (action,))


def _settle(row: Row, state: State, action: Acknowledge | DeferJob | ReturnJob) -> Transition:
    return _move(row, state, Phase.SETTLING, action)


def _return(row: Row, state: State, for_s: float) -> Transition:
    """Nothing has failed, so this delivery must not count among those after which the job is given up."""
    return _settle(row, state, ReturnJob(state.job_epoch, for_s))
