"""The world around a copy machine: every legal answer to each of its actions, and what must always hold."""

import copy
import functools
import operator
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

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
    UploadPart,
    VerifyCopy,
    WriteEntry,
)
from cloud_mirror.copy import transition
from cloud_mirror.copy_table import Phase, Row, Rules, State, Transition
from cloud_mirror.entry import Entry, Holder, Status
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
    OriginClosed,
    OriginDeclined,
    OriginOpened,
    PartFetched,
    PartUploaded,
    ProbeFailed,
    StoreFailed,
    UploadCreated,
)
from cloud_mirror.plan import Plan
from cloud_mirror.policy import MIB
from cloud_mirror.reason import PERMANENT, Reason

URL = "https://origin.example/a"
NOW_S = 1_000_000.0
RULES = Rules(
    plan=Plan(5 * MIB, 2),
    lease_s=60.0,
    patience_s=600.0,
    negative_s=30.0,
    verify_s=300.0,
    refresh_margin_s=3600.0,
    expiry_margin_s=600.0,
    max_object_bytes=20 * MIB,
    allow_close_delimited=False,
)
START = State(RULES, "w", "mine")
COPY = FoundCopy(size=5, etag='"e"', life_left_s=9_000.0, copy_id="mine")
AGEING = replace(COPY, life_left_s=3_600.0)
EXPIRING = replace(COPY, life_left_s=600.0)
JOB = JobReceived(URL, "e1", 1)


def read(entry: Entry | None) -> EntryRead:
    """An entry, as it is read now."""
    return EntryRead(entry, NOW_S, 10.0, sequence=0, now_s=0.0)


def present(life_s: float = 9_000.0, verified_s: float = 0.0) -> Entry:
    """A present entry with that much life, confirmed so long ago."""
    return Entry(Status.PRESENT, "o", URL, epoch="e1", expires_at_s=NOW_S + life_s, verified_at_s=NOW_S - verified_s)


def pending(holder: Holder, by: str = "o") -> Entry:
    """A pending entry."""
    return Entry(Status.PENDING, by, URL, holder=holder)


ERROR = Entry(Status.ERROR, "o", URL, reason=Reason.ORIGIN_TIMEOUT, retry_at_s=NOW_S)
READS: tuple[CopyEvent, ...] = (
    read(None),
    read(ERROR),
    read(pending(Holder.ASKING)),
    read(pending(Holder.COPYING)),
    read(present()),
    read(present(life_s=3_600.0)),
    read(present(life_s=600.0)),
    read(present(verified_s=300.0)),
    read(present(verified_s=-1e6)),
    CacheFailed(),
)
PROBED: tuple[CopyEvent, ...] = (
    CopyFound("e1", COPY),
    CopyFound("e1", AGEING),
    CopyFound("e1", EXPIRING),
    CopyNotFound("e1"),
    CopyNotFound("e2"),
    ProbeFailed(Reason.STORE_UNAVAILABLE),
)
WRITTEN: tuple[CopyEvent, ...] = (EntryWritten(), EntryRefused(), CacheFailed())
OPENED: tuple[CopyEvent, ...] = (
    OriginOpened(None, '"e"', delimited=True),
    OriginOpened(21 * MIB, '"e"', delimited=True),
    OriginOpened(None, "", delimited=False),
    OriginDeclined(Reason.ORIGIN_NOT_FOUND, 404),
    OriginDeclined(Reason.ORIGIN_BUSY, 429, retry_after_s=40.0),
)
STORED: tuple[CopyEvent, ...] = (
    CopyWritten(),
    StoreFailed(Reason.STORE_UNAVAILABLE, settled=False),
    StoreFailed(Reason.CHECKSUM_MISMATCH, settled=True),
)
VERIFIED: tuple[CopyEvent, ...] = (
    CopyVerified(COPY),
    CopyDiffers(own=True),
    CopyDiffers(own=False),
    CopyNotFound("e1"),
    ProbeFailed(Reason.STORE_UNAVAILABLE),
)
LAST_PART = 3
CUT_SHORT = (Phase.OPENING, Phase.TRANSFERRING, Phase.CREATING, Phase.VERIFYING)


def fetched(state: State, number: int, at_most: int) -> tuple[CopyEvent, ...]:
    """A whole part, a last one (short, or with nothing in it), one that is not what the origin said, or none."""
    full, short = state.size + at_most, state.size + 1
    on: tuple[CopyEvent, ...] = (PartFetched(number, at_most, full, ended=False),) if number < LAST_PART else ()
    return (
        *on,
        PartFetched(number, 1, short, ended=True, sha256="5a"),
        PartFetched(number, 0, state.size, ended=True, sha256="5a"),
        PartFetched(number, 1, short, ended=True, fault=Reason.LENGTH_MISMATCH),
        FetchFailed(Reason.ORIGIN_BROKE_OFF, "reset"),
    )


def answers(state: State, action: CopyAction) -> tuple[CopyEvent, ...]:  # one for each action
    """Every answer that this action may get, as its docstring says."""
    match action:
        case ReadEntry():
            return (*READS, read(pending(Holder.COPYING, by=state.token)))
        case Acquire():
            return (LeaseAcquired(), LeaseDenied(), CacheFailed())
        case KeepLease():
            return (LeaseLost(),)
        case ProbeCopy():
            return PROBED
        case OpenOrigin():
            return OPENED
        case CloseOrigin():
            return (OriginClosed(),)
        case FetchPart(number, at_most):
            return fetched(state, number, at_most)
        case PutCopy() | CompleteUpload():
            return STORED
        case CreateUpload():
            return (UploadCreated("u"), StoreFailed(Reason.STORE_UNAVAILABLE))
        case UploadPart(number=number):
            return (PartUploaded(number), StoreFailed(Reason.STORE_UNAVAILABLE, part=number))
        case VerifyCopy():
            return VERIFIED
        case ReadEpoch():
            return (EpochRead("e1"), EpochRead("e2"), EpochRead("e3"), ProbeFailed(Reason.STORE_UNAVAILABLE))
        case AbortUpload() | DeleteCopy():
            return (CleanedUp(),)
        case WriteEntry() | DropEntry() | DropServed():
            return WRITTEN
        case Acknowledge() | DeferJob() | ReturnJob():
            return (JobSettled(),)


ONE_OF_EACH: tuple[CopyAction, ...] = (
    ReadEntry(),
    Acquire(START.slot, START.copying()),
    ProbeCopy(),
    OpenOrigin(),
    CloseOrigin(),
    FetchPart(1, MIB),
    PutCopy("", ""),
    CreateUpload("", ""),
    UploadPart("", "", 1),
    VerifyCopy("", ""),
    ReadEpoch(),
    AbortUpload("", ""),
    WriteEntry(START.copying(), ""),
    Acknowledge(),
)
CHANGES_SOMETHING = (
    Acquire
    | PutCopy
    | CreateUpload
    | UploadPart
    | CompleteUpload
    | AbortUpload
    | DeleteCopy
    | WriteEntry
    | DropEntry
    | DropServed
)
DECISIVE = operator.attrgetter(
    *(each.name for each in fields(State) if each.name not in ("rules", "tries", "detail", "status", "retry_after_s"))
)
"""What tells one state from another: the rest is the same in all, or is said and decides nothing."""
SENT_TOGETHER = KeepLease | CloseOrigin | FetchPart | UploadPart


@dataclass
class Copying:
    """A copy under watch: each event fed is checked against a plain model of what a copy may do."""

    state: State = START
    asked: tuple[CopyAction, ...] = ()  # those whose answers are out
    holding: bool = False
    lost: bool = False
    drained: bool = False
    overdue: bool = False
    dead: bool = False  # the epoch was read, and differs
    served: bool = True  # clients may be sent to the copy, for all that is known
    confirmed: bool = False  # the store has said that a right copy is there
    settled: bool = False  # the outcome is durable
    fetched: tuple[int, ...] = ()  # parts that hold bytes
    uploaded: tuple[int, ...] = ()
    ended: bool = False
    took: Transition | None = None

    def clone(self) -> "Copying":
        """The same, to be led elsewhere."""
        return copy.copy(self)

    def feed(self, event: CopyEvent, to: CopyAction | None = None) -> Transition:
        """Feed an event, the answer to `to` if it answers anything, and check all that must hold."""
        if to is not None:
            self._note(to, event)
            asked = list(self.asked)
            asked.remove(to)
            self.asked = tuple(asked)
        if isinstance(event, DrainBegun):
            self.drained = True
        if isinstance(event, CopyOverdue):
            self.overdue = True
        taken = transition(self.state, event)
        self.took, self.state = taken, taken.state
        assert (taken.row is Row.IGNORED) <= isinstance(event, OriginClosed)
        for action in taken.actions:
            self._check(action)
            self.asked = (*self.asked, action)
        self._check_rest()
        return taken

    def _note(self, action: CopyAction, event: CopyEvent) -> None:
        """What an answer tells the model."""
        match action, event:
            case ReadEntry(), EntryRead(entry=entry) if entry is not None:
                fresh = entry.verified_at_s is not None and NOW_S - entry.verified_at_s < RULES.verify_s
                long = entry.expires_at_s is not None and entry.expires_at_s - NOW_S > RULES.refresh_margin_s
                self.settled = entry.status is Status.PRESENT and fresh and long
                self.holding = entry.pending(Holder.COPYING) and entry.token == self.state.token
            case Acquire(), LeaseAcquired():
                self.holding = True
            case KeepLease(), LeaseLost():
                self.lost = True
            case (ProbeCopy(), CopyFound()) | (VerifyCopy(), CopyVerified()):
                self.confirmed = True
            case VerifyCopy(), CopyDiffers() | CopyNotFound():
                self.confirmed = False
            case FetchPart(), PartFetched(number=number, size=size, ended=ended):
                self.fetched += (number,) if size else ()
                self.ended = ended
            case UploadPart(number=number), PartUploaded():
                self.uploaded += (number,)
            case WriteEntry(draft=draft), EntryWritten():
                entry = draft.entry
                self.settled = entry.status is Status.PRESENT or entry.reason in PERMANENT
            case WriteEntry(), EntryRefused():
                self.lost = True
            case DropServed(), _:
                self.served = isinstance(event, CacheFailed)
            case DropEntry(token=token), _ if token == self.state.token:
                self.settled = True
            case ReadEpoch(), EpochRead(epoch=epoch):
                self.dead = epoch != self.state.epoch

    def _check(self, action: CopyAction) -> None:
        """What the machine asks for."""
        alone = not isinstance(action, SENT_TOGETHER)
        others = tuple(other for other in self.asked if not isinstance(other, KeepLease | CloseOrigin))
        assert not (alone and [other for other in others if not isinstance(other, KeepLease)]), "two at once"
        if isinstance(action, CHANGES_SOMETHING) and not isinstance(action, Acquire):
            assert self.holding, "a change without ever having held the lease"
        match action:
            case FetchPart(number, at_most):
                assert not [other for other in others if isinstance(other, FetchPart)], "two fetches at once"
                assert number == (self.fetched[-1] if self.fetched else 0) + 1
                assert 0 < at_most <= 5 * MIB
                assert not self.ended
            case UploadPart(number=number):
                sending = [other.number for other in others if isinstance(other, UploadPart)]
                assert number == self.fetched[-1]
                assert number not in (*self.uploaded, *sending), "a part was sent twice"
                assert len(sending) < RULES.plan.uploads_at_once
            case CompleteUpload():
                assert self.ended
                assert sorted(self.uploaded) == list(self.fetched) == list(range(1, len(self.fetched) + 1))
            case PutCopy():
                assert self.ended
                assert len(self.fetched) <= 1
            case AbortUpload() | DeleteCopy():
                assert not self.lost or self.dead, "the lease is lost, and it may be another's by now"
                gone = isinstance(action, AbortUpload) or not self.dead or self.served is False
                assert gone, "a copy that clients may be sent to is deleted"
            case WriteEntry(draft, token):
                assert token == draft.entry.token == self.state.token
                assert draft.life_s > 0
                assert self.confirmed or draft.entry.status is not Status.PRESENT, "present, and not confirmed"
            case Acknowledge():
                assert self.settled or self.dead, "the job was given up, and its outcome is not durable"
            case DeferJob(for_s):
                assert for_s >= 0
            case ReturnJob(epoch, for_s):
                assert for_s >= 0
                assert self.state.fault is None, "a failure was not held against the job"
                assert epoch == self.state.job_epoch

    def _check_rest(self) -> None:
        asked = tuple(action for action in self.asked if not isinstance(action, KeepLease | CloseOrigin))
        assert (self.state.phase in (Phase.START, Phase.DONE)) == (not asked), "done is: no answer is out"
        assert self.state.tries <= 3

    def key(self) -> object:
        """What tells one situation from another."""
        tries = 0 if self.holding else self.state.tries
        flags = (
            self.holding,
            self.lost,
            self.drained,
            self.dead,
            self.served,
            self.confirmed,
            self.settled,
            self.ended,
        )
        return (DECISIVE(self.state), tries, frozenset(self.asked), flags, self.fetched, frozenset(self.uploaded))


@dataclass(frozen=True)
class Survey:
    """What a walk has seen: every edge of the diagram, and one situation of each kind."""

    edges: frozenset[tuple[Phase, Row, Phase]]
    situations: tuple[Copying, ...]


@functools.cache
def survey() -> Survey:
    """Walk through all of it, once for all who want to know."""
    edges, situations = set(), {}
    for before, _, after in walk():
        assert after.took is not None
        edges.add((before.state.phase, after.took.row, after.state.phase))
        state, kinds = after.state, frozenset(type(action) for action in after.asked)
        alike = (state.phase, state.slot, state.stop, bool(state.upload_id), state.written, state.ended, kinds)
        situations[alike] = after
    return Survey(frozenset(edges), tuple(situations.values()))


def walk(rules: Rules = RULES) -> Iterator[tuple[Copying, CopyEvent, Copying]]:
    """Every situation that a job and every legal answer can lead to, breadth first, each edge once."""
    start = Copying(replace(START, rules=rules))
    seen = {start.key()}
    front = [start]
    while front:
        behind, front = front, []
        for before in behind:
            for event, action in happenings(before):
                after = before.clone()
                after.feed(event, action)
                yield before, event, after
                if after.key() not in seen:
                    seen.add(after.key())
                    front.append(after)


def happenings(copying: Copying) -> Iterator[tuple[CopyEvent, CopyAction | None]]:
    """What may happen next, with the action that it answers."""
    if copying.state.phase is Phase.START:
        yield JOB, None
    if not copying.drained and not copying.overdue:  # both at once: the rules under Hypothesis
        yield DrainBegun(), None
        if copying.state.phase in CUT_SHORT:
            yield CopyOverdue(), None
    for action in copying.asked:
        if isinstance(action, KeepLease) and copying.state.phase is Phase.DONE:
            continue  # the shell ends the lease's keeping with the copy
        for event in answers(copying.state, action):
            yield event, action
