"""The values of the redirect machine: its phases, the lines of its table, its rules and its state."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from cloud_mirror.actions import RedirectAction, Response
from cloud_mirror.policy import OnDeadline
from cloud_mirror.waiters import NOBODY, Waiters


class Phase(enum.Enum):
    """Where a flight stands; named by what it is waiting for."""

    START = "start"
    READING = "reading"
    REFRESHING = "refreshing"
    CLAIMING = "claiming"
    PROBING = "probing"
    PROBING_ALONE = "probing alone"
    BACKFILLING = "backfilling"
    RELEASING = "releasing"
    VALIDATING = "validating"
    VALIDATING_ALONE = "validating alone"
    SENDING = "sending"
    MARKING = "marking"
    RECORDING = "recording"
    WAITING = "waiting"
    DONE = "done"


ON_CLAIM: Final = frozenset(
    {
        Phase.CLAIMING,
        Phase.PROBING,
        Phase.BACKFILLING,
        Phase.RELEASING,
        Phase.VALIDATING,
        Phase.SENDING,
        Phase.MARKING,
        Phase.RECORDING,
    }
)
"""The phases of a flight that makes a claim, or holds one: a process has only so many of them at a time."""


class Row(enum.Enum):
    """The lines of the table. Tests name them, and metrics count them, by `id`."""

    JOINED_FIRST = "start: a request came"
    JOINED = "any: another request came"
    DEADLINE = "any: a request's deadline passed"
    ABANDONED = "any: a client went away"
    DRAINED = "any: this process is to stop"
    READ_PRESENT = "reading: present, with life left"
    READ_AGEING = "reading: present, within the refresh margin"
    READ_UNVERIFIED = "reading: present, not confirmed for too long"
    READ_EXPIRING = "reading: present, within the expiry margin"
    READ_PENDING = "reading: pending"
    READ_NOT_STARTED = "reading: pending, no worker took it in time"
    READ_TOO_SLOW = "reading: pending, the copy outlasts a request"
    READ_OWN_CLAIM = "reading: the claim whose reply was lost stands"
    READ_NEGATIVE = "reading: error, the origin's own no"
    READ_ERROR = "reading: error, not due soon"
    READ_DUE_SOON = "reading: error, due soon"
    READ_DUE = "reading: error, due"
    READ_ABSENT = "reading: absent"
    READ_FAILED = "reading: cache unavailable"
    READ_FOR_NOBODY = "reading: an answer, and nobody waits any more"
    REFRESHED = "refreshing: requested"
    CLAIM_WON = "claiming: won"
    CLAIM_LOST = "claiming: lost"
    CLAIM_UNKNOWN = "claiming: reply unknown"
    CLAIM_UNKNOWN_AGAIN = "claiming: reply unknown once more"
    PROBE_FOUND = "probing: found"
    PROBE_NOT_FOUND = "probing: not found, or about to expire"
    PROBE_FAILED = "probing: denied or unavailable"
    BACKFILL_WRITTEN = "backfilling: written"
    BACKFILL_REFUSED = "backfilling: refused"
    BACKFILL_FAILED = "backfilling: cache unavailable"
    RELEASED = "releasing: written or not"
    ALONE_FOUND = "probing alone: found"
    ALONE_NOT_FOUND = "probing alone: not found"
    ALONE_FAILED = "probing alone: denied or unavailable"
    ALONE_APPROVED = "validating alone: the origin has it"
    ALONE_DECLINED = "validating alone: the origin does not give it"
    ORIGIN_APPROVED = "validating: the origin has it"
    ORIGIN_NEGATIVE = "validating: the origin says no"
    ORIGIN_NOT_ALLOWED = "validating: a hop is not allowed"
    ORIGIN_UNREACHABLE = "validating: the origin does not answer, or makes no sense"
    JOB_SENT = "sending: sent"
    JOB_FAILED = "sending: failed or unknown"
    MARKED = "marking: written, or a worker was quicker"
    RECORDED = "recording: written or not"
    CHANGE_DUE = "waiting: changed, or poll due"
    IGNORED = "any: an answer that nobody waits for any more"

    @property
    def id(self) -> str:
        """The stable name: lower-case words joined by hyphens."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the machine needs of the policy. Seconds."""

    on_deadline: OnDeadline
    start_wait_s: float
    poll_s: float
    claim_lease_s: float
    negative_s: float
    verify_s: float
    patience_s: float
    refresh_margin_s: float
    expiry_margin_s: float


@dataclass(frozen=True, slots=True)
class State:
    """A flight. `token` is its random name; each claim is made under a token of its own, derived from it."""

    rules: Rules
    url: str
    token: str
    phase: Phase = Phase.START
    requests: Waiters = NOBODY
    covers: int = -1  # the last request that the read, probe or write under way can answer
    claims: int = 0
    check_by_s: float = 0.0  # when the origin must have answered for the latest claim, by the monotonic clock
    unknown: bool = False  # whether a claim's reply was lost, and nothing heard since
    waited: bool = False
    sequence: int = 0  # the notices that had been heard before the latest read began
    epoch: str = ""
    reply: Response | None = None  # what to respond once the write under way is over

    @property
    def wanted(self) -> bool:
        """Whether a claim would be made for anybody, or one may stand that must be resolved."""
        return bool(self.requests) or self.unknown

    @property
    def claim_token(self) -> str:
        """The token of the latest claim."""
        return f"{self.token}-{self.claims}"


class Transition(NamedTuple):
    """A line of the table, taken."""

    row: Row
    state: State
    actions: tuple[RedirectAction, ...]
