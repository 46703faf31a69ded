"""Of all who claim the same entry only one can win."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.actions import Claim, Draft, Slot
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import ClaimLost, ClaimWon, EntryRefused, EntryWritten, LeaseAcquired, LeaseDenied
from cloud_mirror.reason import Reason
from cloud_mirror.wire import redis
from cloud_mirror.wire.calls import Call, GetMonotonicTime, MonotonicTime, Reply
from cloud_mirror.wire.procedures import cache as procedures
from cloud_mirror.wire.redis import Change, Found
from tests.servers import Valkey
from tests.simulator.redis_pair import ENTRIES, draft_of
from tests.wire.caches import Cache, connected
from tests.wire.driving import drive
from tests.wire.pools import KEY, SERVICES, URL


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

    def timed(call: Call) -> Reply:
        return MonotonicTime(0.0) if isinstance(call, GetMonotonicTime) else shared.perform(call)

    won: list[str] = []
    taken = ""
    for turn, number in enumerate(order):
        token = f"flight-{number}"
        if turn == late:
            copying = Draft(Entry(Status.PENDING, "worker", URL, holder=Holder.COPYING), 600.0)
            acquired = drive(procedures.acquire(SERVICES, URL, copying, Slot.ENTRY), shared.perform)
            assert isinstance(acquired, LeaseAcquired | LeaseDenied)
            taken = "worker" if isinstance(acquired, LeaseAcquired) else taken
        outcome = drive(procedures.claim(SERVICES, URL, Claim(found.entry, token, 20.0)), timed)
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
