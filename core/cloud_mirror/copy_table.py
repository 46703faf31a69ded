"""The values of the copy machine: its phases, the lines of its table, its rules and its state."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from cloud_mirror.actions import Draft, Slot
from cloud_mirror.copy_actions import CopyAction
from cloud_mirror.copy_events import FetchFailed, OriginOpened, PartFetched, PartUploaded
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import FoundCopy, StoreFailed
from cloud_mirror.plan import NONE, Parts, Plan
from cloud_mirror.reason import LASTING, PERMANENT, Reason
from cloud_mirror.redirect import LONGEST_NO_S, MARGIN_OF_LIFE_S, present

MAX_TRIES: Final = 3
"""How often one delivery of a job tries to acquire the lease, before it is left to a later one."""

MAX_SETBACKS: Final = 5
"""How many fetches in a row may bring nothing, before the copy is left to a later delivery of its job."""

OUTAGE_REST_S: Final = 15.0
"""How long a job rests when the cache could not be asked."""

LONGEST_REST_S: Final = 3600.0
"""How long a job rests at most, whatever Retry-After the origin asks for."""


class Phase(enum.Enum):
    """Where a copy stands; named by what it is waiting for."""

    START = "start"
    READING = "reading"
    ACQUIRING = "acquiring"
    PROBING = "probing"
    WITHDRAWING = "withdrawing"
    OPENING = "opening"
    FINDING = "finding"
    TRANSFERRING = "transferring"
    CREATING = "creating"
    STOPPING = "stopping"
    PUTTING = "putting"
    STORE_COPYING = "store copying"
    COMPLETING = "completing"
    VERIFYING = "verifying"
    RETRACTING = "retracting"
    PUBLISHING = "publishing"
    TAGGING = "tagging"
    ABORTING = "aborting"
    DELETING = "deleting"
    RECORDING = "recording"
    REQUEUEING = "requeueing"
    CHECKING_EPOCH = "checking epoch"
    SETTLING = "settling"
    DONE = "done"


class Row(enum.Enum):
    """The lines of the table. Tests name them, and metrics count them, by `id`."""

    RECEIVED = "start: a job was received"
    READ_COPYING = "reading: another worker is copying"
    READ_PRESENT = "reading: present, with life left"
    READ_AGEING = "reading: present, within the refresh margin, or not confirmed for too long"
    READ_OWN = "reading: the lease whose reply was lost stands"
    READ_VACANT = "reading: absent, error, asking or queued"
    READ_FAILED = "reading: cache unavailable"
    ACQUIRED = "acquiring: acquired"
    NOT_ACQUIRED = "acquiring: somebody was quicker"
    NOT_RENEWABLE = "acquiring: another worker is renewing"
    ACQUIRE_UNKNOWN = "acquiring: reply unknown"
    ACQUIRE_IN_VAIN = "acquiring: in vain, time after time"
    PROBE_FOUND = "probing: a good copy is there"
    PROBE_STALE = "probing: nobody waits, and the URL was purged since the job was sent"
    PROBE_NOT_FOUND = "probing: not found, or about to expire"
    PROBE_FAILED = "probing: denied or unavailable"
    WITHDRAWN = "withdrawing: the lease is given up"
    OPENED = "opening: the origin gives the object"
    OPENED_TOO_LARGE = "opening: larger than the policy allows"
    OPENED_UNDELIMITED = "opening: nothing marks the object's end"
    DECLINED = "opening: the origin does not give the object"
    UPLOAD_FOUND = "finding: an earlier worker's upload is there to go on with"
    UPLOAD_NOT_FOUND = "finding: none is, or it cannot be told"
    RESERVED = "transferring: there is memory for a part"
    FETCHED_WHOLE = "transferring: the object is whole, and small"
    FETCHED_FIRST = "transferring: the first part is here, and there is more"
    FETCHED_PART = "transferring: a part is here"
    FETCHED_FAULT = "transferring: the body is not what the origin said"
    FETCH_BROKE_OFF = "transferring: the body broke off, and can be gone on with"
    FETCH_APART = "transferring: the parts do not fit together, or are not given by themselves"
    FETCH_FAILED = "transferring: the body broke off for good"
    UPLOAD_CREATED = "creating: the upload is begun"
    PART_UPLOADED = "transferring: the store has a part"
    STORE_FAILED = "creating, transferring: the store failed"
    STORE_CANNOT = "store copying, transferring: the store does not copy from there"
    STOPPED = "stopping: an answer came"
    WRITTEN = "putting, store copying, completing: the store has the object"
    WRITE_UNKNOWN = "putting, store copying, completing: the store may have the object"
    WRITE_FAILED = "putting, completing: the store refused the object"
    VERIFIED = "verifying: it is there, and right"
    VERIFY_WRONG = "verifying: it is there, and wrong"
    RETRACTED = "retracting: no client is sent to it any more, or that cannot be told"
    VERIFY_OTHER = "verifying: another's is there"
    VERIFY_MISSING = "verifying: it is not there"
    VERIFY_FAILED = "verifying: denied or unavailable"
    PUBLISHED = "publishing: written"
    TAGGED = "tagging: done, or not to be done"
    PUBLISH_REFUSED = "publishing: this worker is not the holder any more"
    PUBLISH_FAILED = "publishing: cache unavailable"
    CLEANED = "aborting, deleting: done"
    RECORDED = "recording: written"
    RECORD_REFUSED = "recording: this worker is not the holder any more"
    RECORD_FAILED = "recording: cache unavailable"
    REQUEUED = "requeueing: written or not"
    EPOCH_DEAD = "checking epoch: the URL was purged"
    EPOCH_ALIVE = "checking epoch: it was not, or cannot be told"
    SETTLED = "settling: the queue was told"
    LEASE_LOST = "any: the lease is lost"
    OVERDUE = "any: the copy takes too long"
    DRAINED = "any: this process is to stop"
    HANDED_OVER = "any: the queue will not hide the job for much longer"
    IGNORED = "any: an answer that nobody waits for any more"

    @property
    def id(self) -> str:
        """The stable name: lower-case words joined by hyphens."""
        return self.name.lower().replace("_", "-")


class Stop(enum.Enum):
    """Why a copy is to end before its time."""

    LEASE_LOST = "lease lost"
    OVERDUE = "overdue"
    UNHIDDEN = "the queue will not hide the job for longer, and there is nothing to hand on"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the machine needs of the policy. Seconds and bytes."""

    plan: Plan
    lease_s: float
    patience_s: float
    negative_s: float
    verify_s: float
    refresh_margin_s: float
    expiry_margin_s: float
    max_object_bytes: int
    allow_close_delimited: bool
    first_backoff_s: float = 5.0
    longest_backoff_s: float = 300.0

    def backoff_s(self, attempt: int) -> float:
        """How long a job rests after its `attempt`-th failure (from 1)."""
        return float(min(self.longest_backoff_s, self.first_backoff_s * 2 ** min(attempt - 1, 16)))


@dataclass(frozen=True, slots=True)
class State:
    """One copy, from one delivery of a job. `token` and `copy_id` are fresh random names."""

    rules: Rules
    token: str
    copy_id: str
    phase: Phase = Phase.START
    url: str = ""
    job_epoch: str = ""
    attempt: int = 1
    slot: Slot = Slot.ENTRY
    tries: int = 0  # how often it was tried to acquire the lease
    wanted: bool = False  # whether somebody was waiting for the copy when it was acquired
    epoch: str = ""
    length: int | None = None
    ranges: bool = False  # whether parts may be asked for by themselves
    store_can: bool = False  # whether the store may be able to copy from the source by itself
    lasting: bool = False  # whether another worker can go on with the upload
    part_bytes: int = 0  # how long each part is but the last; 0: as the plan has it, part by part
    upload_id: str = ""
    put: bool = False  # whether it was put whole, and its tag with it
    written: bool = False  # whether an object may stand under the copy's key
    reserving: int = 0  # the part that memory is being waited for
    fetching: Parts = NONE
    fetched: Parts = NONE
    uploading: Parts = NONE
    setbacks: int = 0  # fetches in a row that brought nothing
    ended: bool = False
    size: int = 0
    sha256: str = ""
    ranges_fail: bool = False  # whether the origin was found not to give parts by themselves
    store_fails: bool = False  # whether the store was found not to copy from there
    stop: Stop | None = None
    fault: Reason | None = None
    detail: str = ""
    status: int | None = None  # what the origin answered, where that is the fault
    retry_after_s: float = 0.0  # for how long the origin asked to be left alone, in the fetches that brought nothing
    give_up: bool = False  # the job is settled for good whatever its outcome

    @property
    def lease_token(self) -> str:
        """The name by which the lease is held: another for each try to acquire it.

        One that was given up may arrive after a purge has dropped what a later one had acquired: its lease is nobody's
        then, and this worker finds out that it is not the holder any more.
        """
        return self.token if self.tries <= 1 else f"{self.token}-{self.tries}"

    @property
    def rest_s(self) -> float:
        """How long the job rests after a passing failure of this copy."""
        return max(self.rules.backoff_s(self.attempt), min(self.retry_after_s, LONGEST_REST_S))

    def copying(self) -> Draft:
        """The entry that says that this worker is at work."""
        held = Entry(Status.PENDING, self.lease_token, self.url, holder=Holder.COPYING, attempt=self.attempt)
        return Draft(replace(held, copy_id=self.copy_id), self.rules.lease_s)

    def present(self, copy: FoundCopy) -> Draft:
        """The entry that says that the copy is there."""
        entry = present(self.url, self.lease_token, self.epoch, copy.size, copy.etag, copy.copy_id, self.sha256)
        return Draft(replace(entry, attempt=self.attempt), copy.life_left_s, expires_in_s=copy.life_left_s)

    def noted(self, event: PartFetched | FetchFailed | PartUploaded | StoreFailed) -> State:
        """The same, with what an answer says of what is still under way. What is in doubt is left to nobody."""
        match event:
            case PartFetched(number, _, total_bytes, ended, fault, sha256):
                noted = replace(self, fetching=self.fetching.without(number), fetched=self.fetched.adding(number))
                noted = replace(noted, setbacks=0, retry_after_s=0.0, lasting=self.lasting and fault is None)
                size = max(self.size, total_bytes)  # of parts that end at once, the answers come in any order
                return replace(noted, size=size, ended=self.ended or ended, sha256=self.sha256 or sha256)
            case FetchFailed(number=number, advanced=advanced, apart=apart, retry_after_s=asked_s):
                noted = replace(self, fetching=self.fetching.without(number), lasting=self.lasting and not apart)
                setbacks, before_s = (0, 0.0) if advanced else (self.setbacks + 1, self.retry_after_s)
                return replace(noted, setbacks=setbacks, retry_after_s=max(before_s, asked_s or 0.0))
            case PartUploaded(number):
                return replace(self, uploading=self.uploading.without(number))
            case _:
                uploading = self.uploading.without(event.part)
                return replace(self, uploading=uploading, lasting=self.lasting and not event.settled)

    def opened(self, event: OriginOpened) -> State:
        """The same, with what the origin said of the object."""
        ranges, store_can = event.ranges and not self.ranges_fail, event.store_can and not self.store_fails
        lasting = ranges and not event.ordered and not store_can
        return replace(self, length=event.length, ranges=ranges, store_can=store_can, lasting=lasting)

    def begun_anew(self) -> State:
        """The same, before anything of the object was opened."""
        begun = replace(self, length=None, part_bytes=0, reserving=0, fetched=NONE)
        return replace(begun, setbacks=0, retry_after_s=0.0, ended=False, size=0, sha256="")

    def part_at(self, number: int) -> tuple[int, int]:
        """Where the part of that number begins in the object, and how long it is at most."""
        if self.length is None:
            return self.size, self.rules.plan.size_of_part(number, None)
        first_byte = (number - 1) * self.part_bytes
        return first_byte, min(self.part_bytes, self.length - first_byte)

    @property
    def part_count(self) -> int | None:
        """How many parts there will be, where that is known."""
        return None if self.length is None else max(1, -(-self.length // self.part_bytes))

    def queued(self) -> Draft:
        """The entry that says that the job lies in the queue again."""
        held = Entry(Status.PENDING, self.lease_token, self.url, holder=Holder.QUEUED, epoch=self.epoch)
        return Draft(held, self.rules.patience_s)

    def failed(self, fault: Reason) -> Draft:
        """The entry that says why there is no copy. A passing fault is due one lease after the job's return."""
        retry_in_s = self.rest_s + self.rules.lease_s
        if fault in PERMANENT:
            retry_in_s = LONGEST_NO_S if fault in LASTING else self.rules.negative_s
        error = Entry(
            Status.ERROR,
            self.lease_token,
            self.url,
            reason=fault,
            detail=self.detail,
            origin_status=self.status,
            attempt=self.attempt,
        )
        return Draft(error, retry_in_s + MARGIN_OF_LIFE_S, retry_in_s=retry_in_s)


class Transition(NamedTuple):
    """A line of the table, taken."""

    row: Row
    state: State
    actions: tuple[CopyAction, ...]
