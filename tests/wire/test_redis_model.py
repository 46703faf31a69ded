"""The script side by side with a plain model of it, and the claim that only one can win."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cloud_mirror.actions import Claim, Draft, Slot
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import ClaimLost, ClaimWon, EntryRefused, EntryWritten, LeaseAcquired, LeaseDenied
from cloud_mirror.reason import Reason
from cloud_mirror.wire import redis
from cloud_mirror.wire.procedures import cache as procedures
from cloud_mirror.wire.redis import Change, Found
from tests.conftest import UNTIMED
from tests.servers import Valkey
from tests.wire.caches import Cache, connected, valkey_cache
from tests.wire.driving import drive
from tests.wire.pools import KEY, RENEWAL, SERVICES, URL

CHANNEL = SERVICES.manager.channel
TOKENS = st.sampled_from(["t1", "t2", "t3"])
EPOCHS = st.sampled_from(["", "e1", "e2"])
KEYS = st.sampled_from([KEY, RENEWAL])
CONDITIONS = st.sampled_from(
    ["any", "vacant", "same", "held", "takeable", "idle", "renewable", "other-epoch", "served", "no such"]
)
ENTRIES = st.one_of(
    st.builds(lambda t, h, e: Entry(Status.PENDING, t, URL, h, epoch=e), TOKENS, st.sampled_from(Holder), EPOCHS),
    st.builds(lambda t, e: Entry(Status.PRESENT, t, URL, epoch=e), TOKENS, EPOCHS.filter(bool)),
    st.builds(lambda t: Entry(Status.ERROR, t, URL, reason=Reason.DEADLINE), TOKENS),
)


def draft_of(entry: Entry) -> Draft:
    return Draft(entry, 600.0, 600.0 if entry.status is Status.PRESENT else None, 5.0)


def holds(entry: Entry | None, change: Change) -> bool:
    """What each condition means, said again in the plainest way."""
    copying = entry is not None and entry.pending(Holder.COPYING)
    match change.condition:
        case "any":
            return True
        case "vacant":
            return entry is None
        case "same":
            return entry is None or (entry.token, entry.status.value) == (change.token, change.status)
        case "held":
            return entry is not None and entry.status is Status.PENDING and entry.token == change.token
        case "takeable":
            return entry is None or entry.status is Status.ERROR or (entry.status is Status.PENDING and not copying)
        case "idle":
            return entry is None or entry.status is Status.ERROR or entry.pending(Holder.QUEUED)
        case "renewable":
            return not copying
        case "served":
            return entry is not None and entry.status is Status.PRESENT and entry.epoch == change.token
        case "other-epoch":
            return entry is not None and entry.epoch not in ("", change.token)
    return False


class Machine(RuleBasedStateMachine):
    """Does the same to the cache and to a dictionary."""

    def __init__(self, cache: Cache) -> None:
        super().__init__()
        self.cache = cache
        self.cache.client.delete(KEY, RENEWAL)
        self.model: dict[str, Entry] = {}
        self.listening = self.cache.listening(CHANNEL)
        self.heard = self.listening.__enter__()

    def teardown(self) -> None:
        self.listening.__exit__(None, None, None)

    def compare(self, key: str, found: object, change: Change) -> bool:
        """Whether the model would have done it."""
        before = self.model.get(key)
        expected = holds(before, change)
        assert isinstance(found, Found), found
        assert found.done is expected, (before, change)
        assert same(found.entry, before)
        assert not found.garbage
        assert self.heard() == ([KEY] if expected else [])
        return expected

    @rule(key=KEYS, condition=CONDITIONS, token=TOKENS | EPOCHS, status=st.sampled_from(Status), entry=ENTRIES)
    def write(self, key: str, condition: str, token: str, status: Status, entry: Entry) -> None:
        change = Change(condition, token, status.value, CHANNEL, KEY)
        target = KEY if entry.status is Status.PRESENT else key
        found = drive(redis.write(key, target, change, draft_of(entry)), self.cache.perform)
        if self.compare(key, found, change):
            self.model.pop(key, None)
            self.model[target] = entry

    @rule(key=KEYS, entry=ENTRIES, condition=CONDITIONS)
    def meet(self, key: str, entry: Entry, condition: str) -> None:
        """An entry stands, and somebody comes with a condition of its own."""
        found = drive(redis.write(key, key, Change("any"), draft_of(entry)), self.cache.perform)
        assert isinstance(found, Found)
        self.model[key] = entry
        change = Change(condition, entry.token, entry.status.value, CHANNEL, KEY)
        if self.compare(key, drive(redis.drop(key, change), self.cache.perform), change):
            self.model.pop(key)

    @rule(key=KEYS, token=TOKENS)
    def touch(self, key: str, token: str) -> None:
        change = Change("held", token, "", CHANNEL, KEY)
        found = drive(redis.touch(key, change, 600.0, (("bytes_done", "1"),)), self.cache.perform)
        self.compare(key, found, change)

    @rule(key=KEYS, condition=CONDITIONS, token=TOKENS | EPOCHS, status=st.sampled_from(Status))
    def drop(self, key: str, condition: str, token: str, status: Status) -> None:
        change = Change(condition, token, status.value, CHANNEL, KEY)
        if self.compare(key, drive(redis.drop(key, change), self.cache.perform), change):
            self.model.pop(key, None)

    @rule(key=KEYS)
    def expire(self, key: str) -> None:
        self.cache.client.delete(key)
        self.model.pop(key, None)

    @rule(key=KEYS, name=st.sampled_from(["v", "status"]), value=st.sampled_from(["", "2", b"\xff"]))
    def spoil(self, key: str, name: str, value: str | bytes) -> None:
        self.cache.client.hset(key, name, value)
        self.model.pop(key, None)

    @rule(key=KEYS)
    def persist(self, key: str) -> None:
        if self.cache.client.persist(key):
            self.model.pop(key)

    @invariant()
    def reads_as_the_model_says(self) -> None:
        for key in (KEY, RENEWAL):
            found = drive(redis.read(key), self.cache.perform)
            assert isinstance(found, Found)
            assert same(found.entry, self.model.get(key))
            assert (found.life_left_s > 590.0) is (found.entry is not None)


def same(found: Entry | None, expected: Entry | None) -> bool:
    if found is None or expected is None:
        return found is expected
    names = ("status", "token", "url", "holder", "epoch", "reason")
    return all(getattr(found, name) == getattr(expected, name) for name in names)


@pytest.fixture
def cache(valkey: Valkey) -> Iterator[Cache]:
    with valkey_cache(valkey) as made:
        yield made


def test_the_script_does_as_the_model(cache: Cache) -> None:
    class Bound(Machine):
        def __init__(self) -> None:
            super().__init__(cache)

    run_state_machine_as_test(Bound, settings=settings(UNTIMED, max_examples=100, stateful_step_count=25))


@pytest.fixture(scope="module")
def shared(valkey: Valkey) -> Iterator[Cache]:
    with connected(valkey.port) as made:
        yield made


@given(st.none() | ENTRIES, st.permutations(range(6)), st.integers(0, 5))
def test_of_all_who_saw_the_same_at_most_one_wins(
    shared: Cache, begun: Entry | None, order: list[int], late: int
) -> None:
    """Each reads, then claims as it read; a worker comes in between; only who holds it can write."""
    shared.client.delete(KEY)
    if begun is not None:
        drive(redis.write(KEY, KEY, Change("any"), draft_of(begun)), shared.perform)
    found = drive(redis.read(KEY), shared.perform)
    assert isinstance(found, Found)
    won: list[str] = []
    taken = ""
    for turn, number in enumerate(order):
        token = f"flight-{number}"
        if turn == late:
            copying = Draft(Entry(Status.PENDING, "worker", URL, holder=Holder.COPYING), 600.0)
            acquired = drive(procedures.acquire(SERVICES, URL, copying, Slot.ENTRY), shared.perform)
            assert isinstance(acquired, LeaseAcquired | LeaseDenied)
            taken = "worker" if isinstance(acquired, LeaseAcquired) else taken
        outcome = drive(procedures.claim(SERVICES, URL, Claim(found.entry, token, 20.0)), shared.perform)
        assert isinstance(outcome, ClaimWon | ClaimLost)
        if isinstance(outcome, ClaimWon):
            won.append(token)
            assert taken == ""
    assert len(won) <= 1
    holder = taken or (won[0] if won else "")
    tokens = [f"flight-{number}" for number in order] + ["worker"]
    written = [token for token in tokens if isinstance(_write(shared, token), EntryWritten)]
    assert written == ([holder] if holder else [])


def _write(shared: Cache, token: str) -> object:
    draft = Draft(Entry(Status.ERROR, token, URL, reason=Reason.DEADLINE), 60.0, retry_in_s=1.0)
    outcome = drive(procedures.write_entry(SERVICES, URL, draft, token, Slot.ENTRY), shared.perform)
    assert isinstance(outcome, EntryWritten | EntryRefused)
    return outcome
