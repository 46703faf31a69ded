"""The redirect machine: from a client's question to the one place to send it.

Theory. All requests of one process for one (pool, URL) share one *flight* of this machine, so that what the
cache, the store, the queue and the origin see does not grow with the number of waiters. The flight reads the
entry; where nobody is at work it *claims* the entry (one claimer wins, whatever the number of processes), and
the winner alone asks store and origin and sends the one job. Everybody else waits for the entry to change.

Rules.
 1. A request is answered once: by the flight, or by its own deadline, whichever is first.
 2. A request is sent to a copy only on the strength of a read that began after the request came, so that a
    purge that was answered before it came holds for it.
 3. A flight that holds a claim, or may hold one, goes on until the claim is resolved, even when nobody waits any
    more. Any other flight is done once its last request and its last answer are in, so that an answer is never taken
    for the answer to a later question.
 4. A URL that the policy forbids is answered with 403 and with nothing else.
 5. Unknown is not absent: a store or cache that cannot be asked sends clients to the origin, and copies nothing.

`transition` is the table of DESIGN ("The redirect machine"), one `Row` for each of its lines.
"""

from __future__ import annotations

from dataclasses import replace

from cloud_mirror.actions import (
    AwaitChange,
    CheckOrigin,
    Claim,
    Draft,
    ProbeCopy,
    ReadEntry,
    RedirectAction,
    Refuse,
    RequestRefresh,
    Respond,
    Response,
    SendJob,
    ToCopy,
    ToOrigin,
    WriteEntry,
)
from cloud_mirror.entry import PROGRESS_S, Entry, Holder, Status
from cloud_mirror.events import (
    CacheFailed,
    ChangeDue,
    ClaimLost,
    ClaimUnknown,
    ClaimWon,
    CopyFound,
    CopyNotFound,
    DrainBegun,
    EntryRead,
    EntryRefused,
    EntryWritten,
    JobFailed,
    JobSent,
    OriginApproved,
    OriginDeclined,
    ProbeFailed,
    RedirectEvent,
    RefreshRequested,
    RequestAbandoned,
    RequestDeadlinePassed,
    RequestJoined,
)
from cloud_mirror.http_api import Outcome
from cloud_mirror.policy import OnDeadline
from cloud_mirror.reason import LASTING, NEGATIVE, NOT_ALLOWED, NOT_ASKED, Reason
from cloud_mirror.redirect_table import Phase, Row, Rules, State, Transition
from cloud_mirror.responses import declined, refusal, without_copy
from cloud_mirror.waiters import NOBODY, Waiters

OUTAGE_RETRY_S = 2.0
"""When an error that only says "store or queue unavailable" is due: soon, for the outage may be short."""

LONGEST_NO_S = 3600.0
"""The longest that an origin is not asked again, whatever it says."""

AHEAD_S = 1.0
"""How far a moment in an entry may lie ahead of Redis's clock, which a failover may set back, and yet be believed."""

CHECK_SHARE = 0.5
"""How much of a claim's life store and origin may take up; the rest is for the job, so that it goes out under it."""

MARGIN_OF_LIFE_S = 60.0
"""How long an error entry outlives its own due time, so that whoever finds it due knows what went before."""


def step(state: State, event: RedirectEvent) -> tuple[State, tuple[RedirectAction, ...]]:
    """The next state, and what must be done."""
    taken = transition(state, event)
    return taken.state, taken.actions


def transition(state: State, event: RedirectEvent) -> Transition:
    """The same, with the line of the table that it was."""
    match state.phase, event:
        case ((Phase.START | Phase.DONE), RequestJoined(request)):
            return _read(Row.JOINED_FIRST, replace(state, requests=NOBODY.joined(request), waited=False, unknown=False))
        case _, RequestJoined(request):
            return Transition(Row.JOINED, replace(state, requests=state.requests.joined(request)), ())
        case _, RequestDeadlinePassed(request_id):
            return _leave(Row.DEADLINE, state, request_id, _at_deadline(state))
        case _, RequestAbandoned(request_id):
            return _leave(Row.ABANDONED, state, request_id, None)
        case _, DrainBegun():
            return _drain(state)
        case Phase.READING, EntryRead():
            return _on_read(state, event)
        case Phase.READING, CacheFailed() if not state.requests:
            return Transition(Row.READ_FOR_NOBODY, replace(state, phase=Phase.DONE), ())
        case Phase.READING, CacheFailed():
            return _move(Row.READ_FAILED, _covering(state), Phase.PROBING_ALONE, ProbeCopy())
        case Phase.REFRESHING, RefreshRequested():
            return _reply(Row.REFRESHED, state)
        case Phase.CLAIMING, ClaimWon(asked_at_s):
            by_s = asked_at_s + CHECK_SHARE * state.rules.claim_lease_s  # the claim may have waited for its turn
            won = replace(state, unknown=False, check_by_s=max(state.check_by_s, by_s))
            return _move(Row.CLAIM_WON, won, Phase.PROBING, ProbeCopy())
        case Phase.CLAIMING, ClaimLost():
            return _wait(Row.CLAIM_LOST, state, state.rules.poll_s)
        case Phase.CLAIMING, ClaimUnknown():
            if state.unknown:
                alone = _covering(replace(state, unknown=False))
                return _move(Row.CLAIM_UNKNOWN_AGAIN, alone, Phase.PROBING_ALONE, ProbeCopy())
            return _read(Row.CLAIM_UNKNOWN, replace(state, unknown=True))
        case Phase.PROBING, (CopyFound() | CopyNotFound() | ProbeFailed()):
            return _on_probe(state, event)
        case (
            (Phase.BACKFILLING | Phase.RELEASING | Phase.MARKING | Phase.RECORDING),
            (EntryWritten() | EntryRefused() | CacheFailed()),
        ):
            return _on_written(state, event)
        case Phase.PROBING_ALONE, (CopyFound() | CopyNotFound() | ProbeFailed()):
            return _on_probe_alone(state, event)
        case ((Phase.VALIDATING | Phase.VALIDATING_ALONE), (OriginApproved() | OriginDeclined())):
            return _on_origin(state, event)
        case Phase.SENDING, JobSent():
            queued = Entry(Status.PENDING, state.claim_token, state.url, holder=Holder.QUEUED, epoch=state.epoch)
            mark = WriteEntry(Draft(queued, state.rules.patience_s), state.claim_token)
            return _move(Row.JOB_SENT, state, Phase.MARKING, mark)
        case Phase.SENDING, JobFailed(detail):
            return _record(Row.JOB_FAILED, state, Reason.QUEUE_UNAVAILABLE, detail, OUTAGE_RETRY_S)
        case Phase.WAITING, ChangeDue():
            return _read(Row.CHANGE_DUE, replace(state, waited=True))
        case _:
            return Transition(Row.IGNORED, state, ())


def _on_read(state: State, read: EntryRead) -> Transition:
    """What the entry says."""
    state = replace(state, sequence=read.sequence)
    entry = read.entry
    if state.unknown and entry is not None and entry.pending(Holder.ASKING) and entry.token == state.claim_token:
        return _move(Row.READ_OWN_CLAIM, replace(state, unknown=False), Phase.PROBING, ProbeCopy())
    if not state.requests:
        return Transition(Row.READ_FOR_NOBODY, replace(state, phase=Phase.DONE), ())
    if entry is None:
        return _claim(Row.READ_ABSENT, state, read)
    match entry.status:
        case Status.PRESENT:
            return _on_present(state, read, entry)
        case Status.PENDING:
            return _on_pending(state, read, entry)
        case _:
            return _on_error(state, read, entry)


def _on_error(state: State, read: EntryRead, entry: Entry) -> Transition:
    """There is no copy, and why is known already: that is worth holding somebody only if it is asked anew soon."""
    rules, reason = state.rules, entry.reason or Reason.INTERNAL
    due_in_s = (entry.retry_at_s or 0.0) - read.redis_time_s
    if due_in_s <= 0:
        return _claim(Row.READ_DUE, state, read)
    if reason in NEGATIVE:
        known = replace(state, unknown=False)
        return _finish(Row.READ_NEGATIVE, known, refusal(reason, entry.origin_status, due_in_s))
    if due_in_s > rules.start_wait_s or reason in NOT_ASKED:
        said = _tell(state.requests, without_copy(rules.on_deadline, reason, due_in_s))
        return _wait(Row.READ_ERROR, replace(state, requests=NOBODY), due_in_s, *said)
    due_s = read.now_s + due_in_s
    hurried, staying = state.requests.parted(lambda request: request.deadline_s < due_s)
    said = _tell(hurried, without_copy(rules.on_deadline, reason))
    return _wait(Row.READ_DUE_SOON, replace(state, requests=staying), min(rules.poll_s, due_in_s), *said)


def _on_present(state: State, read: EntryRead, entry: Entry) -> Transition:
    """A copy is said to be there: for how long yet, and since when has nobody looked?"""
    rules = state.rules
    life_s = (entry.expires_at_s or 0.0) - read.redis_time_s
    if life_s <= rules.expiry_margin_s:
        return _claim(Row.READ_EXPIRING, state, read)
    if not -AHEAD_S <= read.redis_time_s - (entry.verified_at_s or 0.0) < rules.verify_s:
        return _claim(Row.READ_UNVERIFIED, state, read)
    if state.waited:
        made = entry.attempt is not None
        outcome, reason = (Outcome.COPIED, Reason.JUST_COPIED) if made else (Outcome.BACKFILL, Reason.FOUND_IN_STORE)
    else:
        outcome, reason = Outcome.HIT, Reason.PRESENT
    response = ToCopy(entry.epoch, outcome, reason)
    state = replace(state, unknown=False)
    if life_s > rules.refresh_margin_s:
        return _finish(Row.READ_PRESENT, state, response)
    state = replace(state, claims=state.claims + 1, reply=response)
    refresh = RequestRefresh(state.claim_token, entry.epoch, rules.patience_s)
    return _move(Row.READ_AGEING, state, Phase.REFRESHING, refresh)


def _on_pending(state: State, read: EntryRead, entry: Entry) -> Transition:
    """Somebody is at work on it: wait, or send those to the origin for whom it comes too late."""
    rules, fails = state.rules, state.rules.on_deadline is OnDeadline.FAIL
    since_s = max(0.0, read.redis_time_s - entry.since_s)
    wait_s = rules.poll_s
    if entry.holder is not Holder.COPYING and not fails:
        if since_s >= rules.start_wait_s:
            said = _tell(state.requests, ToOrigin(Reason.NOT_STARTED))
            return _wait(Row.READ_NOT_STARTED, replace(state, requests=NOBODY), wait_s, *said)
        wait_s = min(wait_s, rules.start_wait_s - since_s)
    left_s = _time_left_s(entry, since_s)
    if left_s is not None and not fails:
        ready_s = read.now_s + left_s
        slow, staying = state.requests.parted(lambda request: request.deadline_s < ready_s)
        if slow:
            said = _tell(slow, ToOrigin(Reason.COPY_TOO_SLOW))
            return _wait(Row.READ_TOO_SLOW, replace(state, requests=staying), wait_s, *said)
    return _wait(Row.READ_PENDING, state, wait_s)


def _time_left_s(entry: Entry, since_s: float) -> float | None:
    """How long the copy will still take at the rate it has had so far, where that can be told.

    What the entry says of its bytes may be `PROGRESS_S` old: so many seconds are not held against the copy.
    """
    made = (entry.bytes_done or 0) - (entry.bytes_adopted or 0)
    if entry.bytes_done is None or entry.bytes_total is None or made <= 0:
        return None
    return max(0.0, since_s - PROGRESS_S) * (entry.bytes_total - entry.bytes_done) / made


def _on_probe(state: State, event: CopyFound | CopyNotFound | ProbeFailed) -> Transition:
    """The store's word on it, under a claim."""
    match event:
        case CopyFound(epoch, copy) if copy.life_left_s > state.rules.expiry_margin_s:
            reply = ToCopy(epoch, Outcome.BACKFILL, Reason.FOUND_IN_STORE)
            found = present(state.url, state.claim_token, epoch, copy.size, copy.etag, copy.copy_id, copy.sha256)
            write = WriteEntry(Draft(found, copy.life_left_s, expires_in_s=copy.life_left_s), state.claim_token)
            backfilling = _covering(replace(state, reply=reply))
            return _move(Row.PROBE_FOUND, backfilling, Phase.BACKFILLING, write)
        case CopyFound(epoch) | CopyNotFound(epoch):
            check = CheckOrigin(state.check_by_s)
            return _move(Row.PROBE_NOT_FOUND, replace(state, epoch=epoch), Phase.VALIDATING, check)
        case _:
            taken = _record(Row.PROBE_FAILED, state, event.reason, event.detail, OUTAGE_RETRY_S)
            return taken._replace(state=replace(taken.state, phase=Phase.RELEASING))


def _on_written(state: State, event: EntryWritten | EntryRefused | CacheFailed) -> Transition:
    """A write under this flight's own token is over."""
    match state.phase, event:
        case Phase.BACKFILLING, EntryWritten():
            return _reply(Row.BACKFILL_WRITTEN, state)
        case Phase.BACKFILLING, EntryRefused():
            return _read(Row.BACKFILL_REFUSED, state)
        case Phase.BACKFILLING, _:
            return _move(Row.BACKFILL_FAILED, _covering(state), Phase.PROBING_ALONE, ProbeCopy())
        case Phase.MARKING, _:
            return _read(Row.MARKED, replace(state, waited=True))
        case Phase.RELEASING, _:
            return _reply(Row.RELEASED, state)
        case _:
            return _reply(Row.RECORDED, state)


def _on_probe_alone(state: State, event: CopyFound | CopyNotFound | ProbeFailed) -> Transition:
    """The store's word on it while the cache is silent: nothing is claimed and nothing written after it."""
    match event:
        case CopyFound(epoch, copy) if copy.life_left_s > state.rules.expiry_margin_s:
            return _finish(Row.ALONE_FOUND, state, ToCopy(epoch, Outcome.BACKFILL, Reason.FOUND_IN_STORE))
        case CopyFound() | CopyNotFound():
            if not state.requests:
                return _read(Row.ALONE_NOT_FOUND, state)
            return _move(Row.ALONE_NOT_FOUND, state, Phase.VALIDATING_ALONE, CheckOrigin())
        case _:
            return _finish(Row.ALONE_FAILED, state, without_copy(state.rules.on_deadline, event.reason))


def _on_origin(state: State, event: OriginApproved | OriginDeclined) -> Transition:
    """The origin's word on it."""
    alone = state.phase is Phase.VALIDATING_ALONE
    match event:
        case OriginApproved() if alone:
            return _finish(Row.ALONE_APPROVED, state, without_copy(state.rules.on_deadline, Reason.CACHE_UNAVAILABLE))
        case OriginApproved():
            return _move(Row.ORIGIN_APPROVED, state, Phase.SENDING, SendJob(state.epoch))
        case OriginDeclined(reason, status, _, retry_after_s) if alone:
            response = declined(state.rules.on_deadline, reason, status, retry_after_s)
            return _finish(Row.ALONE_DECLINED, state, response)
        case _:
            row = Row.ORIGIN_UNREACHABLE
            if event.reason in NEGATIVE:
                row = Row.ORIGIN_NOT_ALLOWED if event.reason in NOT_ALLOWED else Row.ORIGIN_NEGATIVE
            return _record(row, state, event.reason, event.detail, _no_for_s(state.rules, event), event.status)


def _no_for_s(rules: Rules, no: OriginDeclined) -> float:
    """How long the origin is not asked again: as it asks for, within bounds, or until it may be, or may differ."""
    if no.reason in LASTING:
        return LONGEST_NO_S
    if no.reason in NOT_ASKED:
        return max(OUTAGE_RETRY_S, min(no.retry_after_s or 0.0, LONGEST_NO_S))
    return max(rules.negative_s, min(no.retry_after_s or 0.0, LONGEST_NO_S))


def present(url: str, token: str, epoch: str, size: int, etag: str, copy_id: str, sha256: str) -> Entry:
    """A present entry, ready to be drafted."""
    return Entry(
        Status.PRESENT, token, url, epoch=epoch, size=size, etag=etag, copy_id=copy_id, sha256=sha256, bytes_total=size
    )


def _at_deadline(state: State) -> Response:
    """What a request gets whose time is up; a "no" that is being recorded is said already."""
    return state.reply if isinstance(state.reply, Refuse) else without_copy(state.rules.on_deadline, Reason.DEADLINE)


def _move(row: Row, state: State, phase: Phase, action: RedirectAction) -> Transition:
    return Transition(row, replace(state, phase=phase), (action,))


def _covering(state: State) -> State:
    """The same, with the read, probe or write that begins now answering every request that is here now."""
    return replace(state, covers=state.requests.last_id)


def _read(row: Row, state: State, *before: RedirectAction) -> Transition:
    """Read the entry (again), where anybody is left who wants to know, or a claim may stand that nobody resolves."""
    state = replace(state, reply=None)
    if not state.requests and not state.unknown:
        return Transition(row, replace(state, phase=Phase.DONE), before)
    return Transition(row, replace(_covering(state), phase=Phase.READING), (*before, ReadEntry()))


def _claim(row: Row, state: State, read: EntryRead) -> Transition:
    lease_s = state.rules.claim_lease_s
    check_by_s = read.now_s + CHECK_SHARE * lease_s
    state = replace(state, claims=state.claims + 1, check_by_s=check_by_s, waited=False)
    return _move(row, state, Phase.CLAIMING, Claim(read.entry, state.claim_token, lease_s))


def _record(
    row: Row, state: State, reason: Reason, detail: str, retry_in_s: float, status: int | None = None
) -> Transition:
    """Write down, for a while, why there is no copy; then say so."""
    error = Entry(Status.ERROR, state.claim_token, state.url, reason=reason, detail=detail, origin_status=status)
    draft = Draft(error, retry_in_s + MARGIN_OF_LIFE_S, retry_in_s=retry_in_s)
    state = replace(_covering(state), reply=declined(state.rules.on_deadline, reason, status, retry_in_s))
    return _move(row, state, Phase.RECORDING, WriteEntry(draft, state.claim_token))


def _reply(row: Row, state: State) -> Transition:
    """Say what was to be said once the write was over."""
    assert state.reply is not None, "whoever began the write left what to say after it"
    return _finish(row, state, state.reply)


def _finish(row: Row, state: State, response: Response) -> Transition:
    """Answer all whom this answer can answer; whoever came later gets a read of their own (rule 2), but for rule 4."""
    forbidden = response.reason in NOT_ALLOWED
    covered, later = state.requests.parted(lambda request: forbidden or request.id <= state.covers)
    return _read(row, replace(state, requests=later, waited=False), *_tell(covered, response))


def _wait(row: Row, state: State, for_s: float, *said: RedirectAction) -> Transition:
    """Wait with those who are left, if there are any."""
    state = replace(state, unknown=False)
    if not state.requests:
        return Transition(row, replace(state, phase=Phase.DONE), said)
    return Transition(row, replace(state, phase=Phase.WAITING), (*said, AwaitChange(state.sequence, for_s)))


def _tell(requests: Waiters, response: Response) -> tuple[RedirectAction, ...]:
    return (Respond(tuple(request.id for request in requests), response),) if requests else ()


def _leave(row: Row, state: State, request_id: int, response: Response | None) -> Transition:
    """One request goes. What is under way is not cut off: its answer finds out whether anybody is left."""
    staying = state.requests.without(request_id)
    if staying is state.requests:
        return Transition(row, state, ())
    said = () if response is None else (Respond((request_id,), response),)
    return Transition(row, replace(state, requests=staying), said)


def _drain(state: State) -> Transition:
    """Every request is answered now."""
    reply = state.reply if isinstance(state.reply, Refuse) else without_copy(state.rules.on_deadline, Reason.DRAINING)
    return Transition(Row.DRAINED, replace(state, requests=NOBODY), _tell(state.requests, reply))
