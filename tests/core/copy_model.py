"""A copy under watch: a plain model of what a copy may do, against which each step of the machine is checked."""

import copy
import operator
from dataclasses import dataclass, fields, replace

from cloud_mirror.actions import ProbeCopy, ReadEntry, WriteEntry
from cloud_mirror.changing import CHANGING
from cloud_mirror.copy import transition
from cloud_mirror.copy_actions import (
    BESIDE,
    AbortUpload,
    Acknowledge,
    Acquire,
    CloseOrigin,
    CompleteUpload,
    CopyAction,
    CopyObject,
    CopyPart,
    CreateUpload,
    DeferJob,
    DeleteCopy,
    DropEntry,
    DropServed,
    FetchPart,
    FindUpload,
    KeepLease,
    OpenOrigin,
    PutCopy,
    ReadEpoch,
    ReservePart,
    ReturnJob,
    TagCopy,
    UploadPart,
    VerifyCopy,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyOverdue,
    CopyVerified,
    CopyWritten,
    EpochRead,
    FetchFailed,
    HandOverDue,
    LeaseAcquired,
    LeaseLost,
    OriginClosed,
    OriginOpened,
    PartFetched,
    PartReserved,
    PartUploaded,
    UploadCreated,
    UploadFound,
)
from cloud_mirror.copy_table import Phase, Row, State, Transition
from cloud_mirror.entry import Holder, Status
from cloud_mirror.events import (
    CacheFailed,
    CopyFound,
    CopyNotFound,
    DrainBegun,
    EntryRead,
    EntryRefused,
    EntryWritten,
    OriginDeclined,
    StoreFailed,
)
from cloud_mirror.plan import NONE, Parts
from cloud_mirror.reason import PERMANENT, Reason
from tests.core.copy_world import NOW_S, RULES, START

SENT_TOGETHER = KeepLease | CloseOrigin | ReservePart | FetchPart | UploadPart | CopyPart
FREE = Acquire | Acknowledge | DeferJob | ReturnJob
"""What changes something and needs no lease."""
BEGINS = (
    OpenOrigin,
    FindUpload,
    ReservePart,
    FetchPart,
    CopyObject,
    PutCopy,
    CreateUpload,
    UploadPart,
    CopyPart,
    CompleteUpload,
)
"""What a copy that is to stop does not begin any more."""
DECISIVE = operator.attrgetter(
    *(each.name for each in fields(State) if each.name not in ("rules", "tries", "detail", "status", "retry_after_s"))
)
"""What tells one state from another: the rest is the same in all, or is said and decides nothing."""


MOVING = (
    Phase.OPENING,
    Phase.FINDING,
    Phase.TRANSFERRING,
    Phase.CREATING,
    Phase.PUTTING,
    Phase.STORE_COPYING,
    Phase.COMPLETING,
)


@dataclass(frozen=True, slots=True)
class Bytes:
    """What the model knows of the object's bytes, since it was opened the last time."""

    opened: OriginOpened | None = None
    part_bytes: int = 0  # 0: not yet cut
    reserved: Parts = NONE
    broken: Parts = NONE  # parts that have broken off, and are not here yet
    fetched: Parts = NONE  # parts that hold bytes
    uploaded: Parts = NONE
    total: int = 0
    ended: bool = False
    lasting: bool = False  # whether others know of the upload
    doubt: bool = False  # whether what was uploaded may be wrong, or of no use

    @property
    def ranges(self) -> bool:
        return self.opened is not None and self.opened.ranges


@dataclass
class Copying:
    """One copy. `asked` are the actions whose answers are out."""

    state: State = START
    asked: tuple[CopyAction, ...] = ()
    holding: bool = False
    lost: bool = False
    drained: bool = False
    overdue: bool = False
    handed_over: bool = False
    dead: bool = False  # the epoch was read, and differs
    served: bool = True  # clients may be sent to the copy, for all that is known
    confirmed: bool = False  # the store has said that a right copy is there
    settled: bool = False  # the outcome is durable
    bytes: Bytes = Bytes()
    upload: str = ""  # the upload that may be open at the store
    openings: int = 0
    causes: frozenset[str] = frozenset()  # what was found not to work
    stale: bool = False  # whether memory is still being waited for that the copy asked for before it began anew
    took: Transition | None = None

    def clone(self) -> "Copying":
        """The same, to be led elsewhere."""
        return copy.copy(self)

    def feed(self, event: CopyEvent, to: CopyAction | None = None) -> Transition:
        """Feed an event, the answer to `to` if it answers anything, and check all that must hold."""
        if to is not None:
            asked = list(self.asked)
            asked.remove(to)
            self.asked = tuple(asked)
            self._note(to, event)
            self._note_bytes(to, event)
        self.drained |= isinstance(event, DrainBegun)
        self.overdue |= isinstance(event, CopyOverdue)
        self.handed_over |= isinstance(event, HandOverDue)
        if isinstance(event, PartReserved) and to is None:
            self.stale = False
        before = self.state.phase
        taken = transition(self.state, event)
        self.took, self.state = taken, taken.state
        late = isinstance(event, PartReserved) and (to is None or before is not Phase.TRANSFERRING)
        assert (taken.row is Row.IGNORED) == (late or isinstance(event, OriginClosed))
        for action in taken.actions:
            self._check(action)
            self._check_bytes(action)
            self.asked = (*self.asked, action)
        self._check_rest()
        return taken

    def out(self, *kinds: type[CopyAction]) -> tuple[CopyAction, ...]:
        """The actions of these kinds whose answers are out."""
        return tuple(each for each in self.asked if isinstance(each, kinds))

    def _note(self, action: CopyAction, event: CopyEvent) -> None:
        """What an answer tells the model."""
        match action, event:
            case ReadEntry(), EntryRead(entry=entry) if entry is not None:
                fresh = entry.verified_at_s is not None and NOW_S - entry.verified_at_s < RULES.verify_s
                long = entry.expires_at_s is not None and entry.expires_at_s - NOW_S > RULES.refresh_margin_s
                self.settled = entry.status is Status.PRESENT and fresh and long
                self.holding = entry.pending(Holder.COPYING) and entry.token == self.state.lease_token
            case Acquire(), LeaseAcquired():
                self.holding = True
            case KeepLease(), LeaseLost():
                self.lost = True
            case (ProbeCopy(), CopyFound()) | (VerifyCopy(), CopyVerified()):
                self.confirmed = True
            case VerifyCopy(), CopyDiffers() | CopyNotFound():
                self.confirmed = False
            case WriteEntry(draft=draft), EntryWritten():
                entry = draft.entry
                self.settled = entry.status is Status.PRESENT or entry.reason in PERMANENT
            case WriteEntry(), EntryRefused():
                self.lost = True
            case DropServed(), _:
                self.served = isinstance(event, CacheFailed)
            case DropEntry(token=token), _ if token == self.state.lease_token:
                self.settled = True
            case ReadEpoch(), EpochRead(epoch=epoch):
                self.dead = epoch != self.state.epoch

    def _note_bytes(self, action: CopyAction, event: CopyEvent) -> None:
        """The same of the bytes' way."""
        known = self.bytes
        match action, event:
            case OpenOrigin(), (OriginOpened() | OriginDeclined()):
                self.stale = self.stale or bool(self.out(ReservePart))
                self.asked = tuple(each for each in self.asked if not isinstance(each, ReservePart))
                self.bytes = Bytes(self._without_causes(event)) if isinstance(event, OriginOpened) else Bytes()
            case FindUpload(), UploadFound(upload_id, _, part_bytes, parts, size):
                self.upload = upload_id
                taken = replace(known, part_bytes=part_bytes, fetched=parts, uploaded=parts, total=size, lasting=True)
                self.bytes = replace(taken, ended=known.opened is not None and size == known.opened.length)
            case CreateUpload(part_bytes=part_bytes), UploadCreated(upload_id):
                self.upload = upload_id
                self.bytes = replace(known, lasting=part_bytes > 0)
            case ReservePart(), PartReserved(number):
                self.bytes = replace(known, reserved=known.reserved.adding(number))
            case FetchPart(), PartFetched(number, size, total, ended, fault):
                fetched = known.fetched.adding(number) if size else known.fetched
                longest = self.state.rules.max_object_bytes if self._length is None else self._length
                known = replace(known, fetched=fetched, broken=known.broken.without(number))
                known = replace(known, total=max(known.total, total), ended=known.ended or ended)
                self.bytes = replace(known, doubt=known.doubt or fault is not None or total > longest)
            case FetchPart(), FetchFailed(reason, number=number):
                self.bytes = replace(
                    known, broken=known.broken.adding(number), doubt=known.doubt or reason in PERMANENT
                )
                if event.apart:
                    self._find_out("ranges")
            case ((UploadPart(number=number) | CopyPart(number=number)), PartUploaded()):
                self.bytes = replace(known, uploaded=known.uploaded.adding(number))
            case ((CopyPart() | CopyObject()), StoreFailed(settled=True)):
                self._find_out("store")
            case ((UploadPart() | CompleteUpload()), StoreFailed(settled=True)):
                self.bytes = replace(known, doubt=True)
            case VerifyCopy(), CopyDiffers():
                self.bytes = replace(known, doubt=True)
            case CompleteUpload(), CopyWritten():
                self.upload = ""
            case AbortUpload(), CleanedUp():
                self.upload = ""

    def _without_causes(self, opened: OriginOpened) -> OriginOpened:
        """What may still be tried of what the origin and the store offer."""
        ranges = opened.ranges and "ranges" not in self.causes
        return replace(opened, ranges=ranges, store_can=opened.store_can and "store" not in self.causes)

    def _find_out(self, cause: str) -> None:
        self.causes |= {cause}
        self.bytes = replace(self.bytes, doubt=True)

    def _check(self, action: CopyAction) -> None:
        """What the machine asks for."""
        others = tuple(each for each in self.asked if not isinstance(each, (*BESIDE, CloseOrigin)))
        assert isinstance(action, SENT_TOGETHER) or not others, "two at once"
        if isinstance(action, CHANGING) and not isinstance(action, FREE):
            assert self.holding, "a change without ever having held the lease"
        stopped = self.lost or self.drained or self.overdue or self.handed_over
        assert not (stopped and isinstance(action, BEGINS)), "a copy that is to stop begins something"
        match action:
            case AbortUpload(upload_id=upload_id):
                assert upload_id == self.upload
                assert not self.lost or self.dead, "the lease is lost, and it may be another's by now"
                assert self.dead or self.bytes.doubt or not self.bytes.lasting, "another worker could have gone on"
            case DeleteCopy():
                assert not self.lost or self.dead, "the lease is lost, and it may be another's by now"
                assert not self.dead or not self.served, "a copy that clients may be sent to is deleted"
                assert not self.upload
            case WriteEntry(draft, token):
                assert token == draft.entry.token == self.state.lease_token
                assert draft.life_s > 0
                assert self.confirmed or draft.entry.status is not Status.PRESENT, "present, and not confirmed"
                self._check_left(draft.entry.reason)
            case TagCopy():
                assert self.settled
            case Acknowledge():
                assert self.settled or self.dead, "the job was given up, and its outcome is not durable"
                assert not self.dead or not self.upload
            case DeferJob(for_s):
                assert for_s >= 0
            case ReturnJob(epoch, for_s):
                assert for_s >= 0
                assert self.state.fault in (None, Reason.ORIGIN_SATURATED), "a failure was not held against the job"
                assert epoch == self.state.job_epoch

    def _check_left(self, reason: Reason | None) -> None:
        """The copy ends under its lease: an upload is left only to who can go on with it."""
        if self.upload and not self.confirmed:
            assert self.bytes.lasting
            assert not self.bytes.doubt
            assert reason not in PERMANENT

    def _check_bytes(self, action: CopyAction) -> None:
        """What the machine asks for of the bytes' way."""
        known = self.bytes
        sending = Parts.of(each.number for each in self.asked if isinstance(each, UploadPart | CopyPart))
        match action:
            case OpenOrigin():
                self.openings += 1
                assert self.openings <= 1 + len(self.causes), "begun anew, and nothing was found out"
                assert not self.upload
                assert not self.state.written
            case FindUpload():
                assert known.ranges
                assert not self.upload
            case CreateUpload(part_bytes=part_bytes):
                assert not self.upload
                assert known.opened is not None
                lasting = known.ranges and not known.opened.ordered and not known.opened.store_can
                assert (part_bytes > 0) == lasting
            case CopyObject():
                assert known.opened is not None
                assert known.opened.store_can
            case ReservePart():
                assert not self.out(ReservePart), "memory is waited for twice"
            case FetchPart():
                self._check_fetch(action, sending)
            case UploadPart(upload_id=upload_id, number=number):
                assert upload_id == self.upload
                assert number in known.fetched
                assert number not in known.uploaded | sending, "a part was sent twice"
                assert len(sending) < RULES.plan.parts_at_once
            case CopyPart():
                self._check_copied(action, sending)
            case CompleteUpload(upload_id=upload_id):
                assert upload_id == self.upload
                assert known.ended
                assert known.uploaded == known.fetched == Parts.of(range(1, len(known.fetched) + 1))
            case PutCopy():
                assert known.ended
                assert not self.upload
                assert len(known.fetched) <= 1

    def _check_fetch(self, action: FetchPart, sending: Parts) -> None:
        known, number, plan = self.bytes, action.number, RULES.plan
        fetching = Parts.of(each.number for each in self.asked if isinstance(each, FetchPart))
        assert number not in fetching, "a part is fetched twice at once"
        assert number not in known.fetched, "a part is fetched that is here"
        assert number in known.reserved, "a part is fetched without memory for it"
        assert number < known.fetched.first_missing + plan.parts_at_once, "too far ahead"
        assert len(fetching) < (plan.fetches_at_once if known.ranges else 1)
        assert len(fetching) + len(sending) < plan.parts_at_once
        assert not known.ended
        assert (action.setbacks > 0) == (number in known.broken)
        assert known.ranges or not action.setbacks, "what came out of two bodies is put together"
        size = known.part_bytes or plan.size_of_part(number, self._length)
        assert action.first_byte == (number - 1) * size
        assert action.at_most_bytes == (size if self._length is None else min(size, self._length - action.first_byte))

    @property
    def _length(self) -> int | None:
        return self.bytes.opened.length if self.bytes.opened is not None else None

    def _check_copied(self, action: CopyPart, sending: Parts) -> None:
        known, number, length = self.bytes, action.number, self._length
        assert known.opened is not None
        assert known.opened.store_can
        assert length is not None
        assert action.upload_id == self.upload
        assert number == (known.uploaded | sending).first_missing
        assert len(sending) < RULES.plan.parts_at_once
        size = RULES.plan.size_of_copied(length)
        assert (action.first_byte, action.last_byte) == ((number - 1) * size, min(number * size, length) - 1)
        ended = action.last_byte == length - 1
        self.bytes = replace(known, fetched=known.fetched.adding(number), ended=ended)

    def _check_rest(self) -> None:
        phase = self.state.phase
        beside = (KeepLease, CloseOrigin) if phase is Phase.TRANSFERRING else (*BESIDE, CloseOrigin)
        owed = tuple(each for each in self.asked if not isinstance(each, beside))
        assert (phase in (Phase.START, Phase.DONE)) == (not owed), "done is: no answer is out"
        assert self.state.tries <= 3

    def key(self) -> object:
        """What tells one situation from another."""
        tries = 0 if self.holding else self.state.tries
        flags = (
            self.holding,
            self.lost,
            self.drained or self.overdue or self.handed_over,
            self.dead,
            self.served,
            self.confirmed,
            self.settled,
            self.openings,
            self.causes,
            self.stale,
        )
        state, known = self.state, self.bytes
        if state.phase not in MOVING:  # the bytes are behind it: whether there were any is all that still counts
            parts = Parts.of(range(min(1, len(state.fetched))))
            state = replace(state, fetched=parts, size=0, length=None, part_bytes=min(1, state.part_bytes))
            state = replace(state, ended=False, setbacks=0, reserving=0)
            known = Bytes(lasting=known.lasting, doubt=known.doubt)
        asked = frozenset((type(each), getattr(each, "number", 0)) for each in self.asked)  # the state says the rest
        return (DECISIVE(state), tries, asked, flags, known, self.upload)
