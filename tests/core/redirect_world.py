"""The world around a redirect machine: every legal answer to each of its actions, and what must always hold."""

import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cloud_mirror.actions import (
    AwaitChange,
    CheckOrigin,
    Claim,
    ProbeCopy,
    ReadEntry,
    RedirectAction,
    Refuse,
    RequestRefresh,
    Respond,
    SendJob,
    ToCopy,
    WriteEntry,
)
from cloud_mirror.entry import Entry, Holder, Status
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
    FoundCopy,
    JobFailed,
    JobSent,
    OriginApproved,
    OriginDeclined,
    ProbeFailed,
    RedirectEvent,
    RefreshRequested,
    Request,
    RequestAbandoned,
    RequestDeadlinePassed,
    RequestJoined,
)
from cloud_mirror.policy import OnDeadline
from cloud_mirror.reason import NOT_ALLOWED, Reason
from cloud_mirror.redirect import transition
from cloud_mirror.redirect_table import Phase, Row, Rules, State, Transition

URL = "https://origin.example/a"
NOW_S = 1_000_000.0  # Redis's clock; the process's own stands at 0 throughout
RULES = Rules(
    on_deadline=OnDeadline.ORIGIN,
    start_wait_s=2.0,
    poll_s=1.0,
    claim_lease_s=20.0,
    negative_s=30.0,
    verify_s=300.0,
    patience_s=600.0,
    refresh_margin_s=3600.0,
    expiry_margin_s=600.0,
)
START = State(RULES, URL, "t")
COPY = FoundCopy(size=5, etag='"e"', life_left_s=9_000.0, copy_id="c")
SHORT_LIVED = replace(COPY, life_left_s=600.0)


def read(entry: Entry | None) -> EntryRead:
    """An entry, as it is read now."""
    return EntryRead(entry, NOW_S, 10.0, sequence=7, now_s=0.0)


def present(life_s: float = 9_000.0, verified_s: float = 0.0, attempt: int | None = None) -> Entry:
    """A present entry with that much life, confirmed so long ago."""
    return Entry(
        Status.PRESENT,
        "other",
        URL,
        epoch="e1",
        expires_at_s=NOW_S + life_s,
        verified_at_s=NOW_S - verified_s,
        attempt=attempt,
    )


def pending(
    holder: Holder,
    age_s: float = 0.5,
    by: str = "other",
    done: int | None = None,
    total: int | None = None,
    adopted: int | None = None,
) -> Entry:
    """A pending entry of that age."""
    held = Entry(Status.PENDING, by, URL, holder=holder, since_s=NOW_S - age_s)
    return replace(held, bytes_done=done, bytes_total=total, bytes_adopted=adopted)


def error(reason: Reason, due_s: float, status: int | None = None) -> Entry:
    """An error entry, due in so long."""
    return Entry(Status.ERROR, "other", URL, reason=reason, retry_at_s=NOW_S + due_s, origin_status=status)


READS = (
    None,
    present(),
    present(attempt=1),
    present(life_s=3_600.0),
    present(life_s=600.0),
    present(verified_s=300.0),
    pending(Holder.ASKING),
    pending(Holder.QUEUED, age_s=2.0),
    pending(Holder.COPYING),
    pending(Holder.COPYING, age_s=6.0, done=10, total=40),  # 15 s to go
    error(Reason.ORIGIN_NOT_FOUND, 5.0, 404),
    error(Reason.HOP_NOT_ALLOWED, 5.0),
    error(Reason.ORIGIN_TIMEOUT, 15.0),
    error(Reason.STORE_UNAVAILABLE, 2.0),
    error(Reason.ORIGIN_TIMEOUT, 0.0),
)
PROBED: tuple[RedirectEvent, ...] = (
    CopyFound("e1", COPY),
    CopyFound("e1", SHORT_LIVED),
    CopyNotFound("e1"),
    ProbeFailed(Reason.STORE_UNAVAILABLE),
)
WRITTEN: tuple[RedirectEvent, ...] = (EntryWritten(), EntryRefused(), CacheFailed())
CHECKED: tuple[RedirectEvent, ...] = (
    OriginApproved(),
    OriginDeclined(Reason.ORIGIN_ERROR, 503),
    OriginDeclined(Reason.ADDRESS_NOT_ALLOWED),
    OriginDeclined(Reason.ORIGIN_TIMEOUT),
)


def answers(state: State, action: RedirectAction) -> tuple[RedirectEvent, ...]:
    """Every answer that this action may get, as its docstring says."""
    match action:
        case ReadEntry():
            own = pending(Holder.ASKING, by=state.claim_token)
            return (*map(read, READS), read(own), CacheFailed())
        case Claim():
            return (ClaimWon(), ClaimLost(), ClaimUnknown())
        case RequestRefresh():
            return (RefreshRequested(),)
        case ProbeCopy():
            return PROBED
        case WriteEntry():
            return WRITTEN
        case CheckOrigin():
            return CHECKED
        case SendJob():
            return (JobSent(), JobFailed())
        case AwaitChange():
            return (ChangeDue(),)
        case Respond():
            return ()


def every_answer(state: State) -> Iterator[RedirectEvent]:
    """One answer of each kind, whether it was asked for or not."""
    asked = (ReadEntry(), Claim(None, "", 1.0), ProbeCopy(), CheckOrigin(), SendJob(""), AwaitChange(0, 1.0))
    for action in (*asked, RequestRefresh("", "", 1.0)):
        yield from answers(state, action)
    yield from WRITTEN


@dataclass
class Flight:
    """A flight under watch: each event fed is checked against a plain model of what a flight owes to whom."""

    state: State = START
    asked: RedirectAction | None = None  # the one action whose answer is out
    waiting: dict[int, Request] = field(default_factory=dict)
    fresh: frozenset[int] = frozenset()  # who came after the latest read, probe or write began
    joined: int = 0
    claim: str = ""  # the token of the claim that was won and is not resolved
    doubtful: bool = False  # whether a claim's reply was lost, and nothing heard since
    claimed: str = ""  # the token of the latest claim
    forbidden: bool = False
    took: Transition | None = None

    def clone(self) -> "Flight":
        """The same, to be led elsewhere."""
        twin = copy.copy(self)
        twin.waiting = dict(self.waiting)
        return twin

    def join(self, deadline_s: float) -> Transition:
        """Another request comes."""
        request = Request(self.joined, deadline_s)
        self.joined += 1
        self.waiting[request.id] = request
        self.fresh |= {request.id}
        return self.feed(RequestJoined(request))

    def feed(self, event: RedirectEvent) -> Transition:
        """Feed it, and check all that must hold."""
        before = self.state
        is_answer = not isinstance(event, RequestJoined | RequestDeadlinePassed | RequestAbandoned | DrainBegun)
        if is_answer:
            self._note(event)
            self.asked = None
        elif isinstance(event, RequestAbandoned):
            self.waiting.pop(event.request_id, None)
        taken = transition(before, event)
        self.took, self.state = taken, taken.state
        assert taken.row is not Row.IGNORED
        for action in taken.actions:
            self._check(action)
        if isinstance(event, EntryRead) and not isinstance(self.asked, Claim):
            self.doubtful = False
        if isinstance(event, RequestDeadlinePassed):
            assert event.request_id not in self.waiting, "a request's deadline found it without an answer"
        if isinstance(event, DrainBegun):
            assert not self.waiting
        self._check_rest()
        return taken

    def _note(self, event: RedirectEvent) -> None:
        """What an answer tells the model."""
        match self.asked, event:
            case Claim(token=token), ClaimWon():
                self.claim, self.doubtful = token, False
            case Claim(), ClaimUnknown():
                self.doubtful = not self.doubtful  # after two in a row the cache is left alone
            case Claim(), ClaimLost():
                self.doubtful = False
            case ReadEntry(), EntryRead(entry=entry):
                if self.doubtful and entry is not None and entry.token == self.claimed:
                    self.claim, self.doubtful = self.claimed, False
                if entry is not None and entry.reason in NOT_ALLOWED and (entry.retry_at_s or 0.0) > NOW_S:
                    self.forbidden = bool(self.waiting)
            case CheckOrigin(), OriginDeclined(reason=reason) if reason in NOT_ALLOWED:
                self.forbidden = True
            case WriteEntry(), _:
                self.claim = ""

    def _check(self, action: RedirectAction) -> None:
        """What the machine asks for, or says."""
        if isinstance(action, Respond):
            self._check_response(action)
            return
        assert self.asked is None, "two actions at once"
        self.asked = action
        match action:
            case ReadEntry() | ProbeCopy() | WriteEntry():
                self.fresh = frozenset()
        match action:
            case ReadEntry() | AwaitChange() | Claim() | RequestRefresh():
                assert not self.claim, "a claim was left unresolved"
            case WriteEntry(draft, token):
                assert self.claim == token == draft.entry.token, "a write without the claim"
                assert draft.entry.url == URL
                assert draft.life_s > 0
            case SendJob():
                assert self.claim, "a job without a claim"
        if isinstance(action, Claim):
            assert action.token != self.claimed, "a token was used twice"
            self.claimed = action.token
        if isinstance(action, ReadEntry) and not self.waiting:
            self.forbidden = False  # all were told; who comes now asks anew
        if isinstance(action, AwaitChange):
            assert 0 < action.for_s <= RULES.poll_s

    def _check_response(self, action: Respond) -> None:
        assert action.requests
        for request in action.requests:
            assert request in self.waiting, "answered twice, or never asked"
            del self.waiting[request]
        if isinstance(action.response, ToCopy):
            assert not self.fresh & set(action.requests), "sent to a copy by what began before the request came"
        if self.forbidden:
            assert isinstance(action.response, Refuse)
            assert action.response.status == 403
        if self.state.rules.on_deadline is OnDeadline.FAIL:
            assert isinstance(action.response, ToCopy | Refuse)

    def _check_rest(self) -> None:
        assert tuple(self.waiting.values()) == tuple(self.state.requests)
        over = self.state.phase in (Phase.START, Phase.DONE)
        assert over == (self.asked is None), "done is: no answer is out"
        if over:
            assert not self.waiting
            assert not self.claim, "the flight ended under a claim"
            self.forbidden = False
            self.doubtful = False

    def key(self) -> object:
        """What tells one situation from another; tokens only grow, and nothing but their freshness counts."""
        state = replace(self.state, claims=0)
        asked = type(self.asked)
        return (state, asked, self.fresh, self.joined, bool(self.claim), self.doubtful, self.forbidden)


@dataclass(frozen=True)
class Survey:
    """What the walks have seen: every edge of the diagram, and one flight for each situation."""

    edges: frozenset[tuple[Phase, Row, Phase]]
    flights: tuple[Flight, ...]


@functools.cache
def survey() -> Survey:
    """Walk through all of it under both policies, once for all who want to know."""
    edges, flights = set(), {}
    for on_deadline in OnDeadline:
        for before, _, after in walk(replace(RULES, on_deadline=on_deadline)):
            assert after.took is not None
            edges.add((before.state.phase, after.took.row, after.state.phase))
            flights[after.key()] = after
    return Survey(frozenset(edges), tuple(flights.values()))


DEADLINES_S = (10.0, 20.0)


def walk(rules: Rules, requests: int = len(DEADLINES_S)) -> Iterator[tuple[Flight, RedirectEvent, Flight]]:
    """Every situation that so many requests and every legal answer can lead to, breadth first, each edge once."""
    start = Flight(replace(START, rules=rules))
    seen = {start.key()}
    front = [start]
    while front:
        behind, front = front, []
        for flight in behind:
            for event in _happenings(flight, requests):
                after = flight.clone()
                if isinstance(event, RequestJoined):
                    after.join(event.request.deadline_s)
                else:
                    after.feed(event)
                yield flight, event, after
                if after.key() not in seen:
                    seen.add(after.key())
                    front.append(after)


def _happenings(flight: Flight, requests: int) -> Iterator[RedirectEvent]:
    if flight.joined < requests:
        yield RequestJoined(Request(flight.joined, DEADLINES_S[flight.joined]))
    for request in range(flight.joined):
        yield RequestDeadlinePassed(request)
        yield RequestAbandoned(request)
    yield DrainBegun()
    if flight.asked is not None:
        yield from answers(flight.state, flight.asked)
