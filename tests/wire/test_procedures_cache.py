"""The cache's procedures: on which condition each asks for what, and what it makes of the answer."""

from collections.abc import Callable

import pytest

from cloud_mirror.actions import Claim, Draft, DropEverything, Slot
from cloud_mirror.copy_events import LeaseAcquired, LeaseDenied
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import CacheFailed, ClaimLost, ClaimUnknown, ClaimWon, EntryRead, EntryRefused, EntryWritten
from cloud_mirror.lease import LeaseRenewed
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import Procedure, RedisCommand, RedisRefusal
from cloud_mirror.wire.procedures import cache
from tests.wire.pools import BROKEN, SERVICES, URL, Script, scripted, written

QUEUED = Entry(Status.PENDING, "t", URL, holder=Holder.QUEUED, epoch="e")
PRESENT = Entry(Status.PRESENT, "t", URL, epoch="e", size=3)
ERROR = Entry(Status.ERROR, "t", URL, reason=Reason.DEADLINE)
FIELDS = {"v": "1", "status": "pending", "token": "t", "url": URL, "holder": "queued", "since": "999.5", "epoch": "e"}
FOUND = Entry(Status.PENDING, "t", URL, holder=Holder.QUEUED, since_s=999.5, epoch="e")


def test_reading() -> None:
    script = Script(scripted(fields=FIELDS))
    assert script.run(cache.read_entry(SERVICES, URL)) == EntryRead(FOUND, 1000.5, 5.0, 7, 100.0)
    assert script.said == ["read entry if any"]
    assert Script(scripted()).run(cache.read_entry(SERVICES, URL)) == EntryRead(None, 1000.5, 0.0, 7, 100.0)


def test_garbage_is_removed_and_read_as_nothing() -> None:
    garbled = scripted(fields=FIELDS | {"since": "x"})
    script = Script(garbled, garbled)
    assert script.run(cache.read_entry(SERVICES, URL)) == EntryRead(None, 1000.5, 0.0, 7, 100.0)
    assert script.said == ["read entry if any", "drop entry if unchanged"]
    assert isinstance(script.calls[1], RedisCommand)
    assert list(script.calls[1].words[12:]) == garbled.value[3:]
    for silent in (BROKEN, RedisRefusal("LOADING")):
        script = Script(scripted(fields=FIELDS | {"since": "x"}), silent)
        assert isinstance(script.run(cache.read_entry(SERVICES, URL)), CacheFailed)


def test_an_entry_that_took_the_place_of_garbage_is_what_was_read() -> None:
    script = Script(scripted(fields=FIELDS | {"since": "x"}), scripted(False, fields=FIELDS))
    assert script.run(cache.read_entry(SERVICES, URL)) == EntryRead(FOUND, 1000.5, 5.0, 7, 100.0)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (None, "write entry if vacant, told"),
        (QUEUED, "write entry if same t, told"),
        (PRESENT, "write entry if same t, told"),
    ],
)
def test_claiming(expected: Entry | None, said: str) -> None:
    action = Claim(expected, "mine", 20.0)
    script = Script(scripted())
    assert script.run(cache.claim(SERVICES, URL, action)) == ClaimWon(100.0)
    assert script.said == [said]
    fields = written(script.calls[0])
    assert (fields["status"], fields["holder"], fields["token"]) == ("pending", "asking", "mine")
    assert (fields["since"], fields["life_ms"]) == ("+0", "20000")
    assert Script(scripted(False)).run(cache.claim(SERVICES, URL, action)) == ClaimLost()
    assert Script(BROKEN).run(cache.claim(SERVICES, URL, action)) == ClaimUnknown()


@pytest.mark.parametrize(
    ("entry", "slot", "said"),
    [
        (QUEUED, Slot.ENTRY, "write entry if held t, told"),
        (PRESENT, Slot.ENTRY, "write entry if held t, told"),
        (ERROR, Slot.ENTRY, "write entry if held t, told"),
        (QUEUED, Slot.RENEWAL, "write renewal if held t, told"),
        (PRESENT, Slot.RENEWAL, "write renewal to entry if held t, told"),
        (ERROR, Slot.RENEWAL, "write renewal if held t, told"),
    ],
)
def test_writing(entry: Entry, slot: Slot, said: str) -> None:
    script = Script(scripted())
    draft = Draft(entry, 9.5, 8.25, 7.0)
    assert script.run(cache.write_entry(SERVICES, URL, draft, "t", slot)) == EntryWritten()
    assert script.said == [said]
    fields = written(script.calls[0])
    assert fields["life_ms"] == "9500"
    assert (fields["expires_at"], fields["verified_at"], fields["retry_at"]) == ("+8.250", "+0", "+7.000")


def test_acquiring() -> None:
    copying = Draft(Entry(Status.PENDING, "w", URL, holder=Holder.COPYING), 60.0)
    for slot, said in (
        (Slot.ENTRY, "write entry if takeable, told"),
        (Slot.RENEWAL, "write renewal if renewable, told"),
    ):
        script = Script(scripted())
        assert script.run(cache.acquire(SERVICES, URL, copying, slot)) == LeaseAcquired()
        assert script.said == [said]
        assert Script(scripted(False)).run(cache.acquire(SERVICES, URL, copying, slot)) == LeaseDenied()
        assert Script(BROKEN).run(cache.acquire(SERVICES, URL, copying, slot)) == CacheFailed("broken: reset")


def test_renewing() -> None:
    for slot, name in ((Slot.ENTRY, "entry"), (Slot.RENEWAL, "renewal")):
        script = Script(scripted())
        renewal = cache.renew(SERVICES, URL, "t", slot, 60.0, (("bytes_done", "5"),))
        assert script.run(renewal) == LeaseRenewed(100.0)
        assert script.said == [f"touch {name} if held t"]
        assert written(script.calls[0]) == {"bytes_done": "5", "life_ms": "60000"}
    assert Script(scripted(False)).run(cache.renew(SERVICES, URL, "t", Slot.ENTRY, 60.0)) == EntryRefused()
    assert Script(BROKEN).run(cache.renew(SERVICES, URL, "t", Slot.ENTRY, 60.0)) == CacheFailed("broken: reset")


@pytest.mark.parametrize(
    "make",
    [
        lambda: cache.write_entry(SERVICES, URL, Draft(QUEUED, 1.0), "t", Slot.ENTRY),
        lambda: cache.drop_entry(SERVICES, URL, "t", Slot.ENTRY),
        lambda: cache.record_error(SERVICES, URL, Draft(ERROR, 1.0, None, 1.0)),
    ],
)
def test_what_becomes_of_a_write(make: Callable[[], Procedure[object]]) -> None:
    assert Script(scripted()).run(make()) == EntryWritten()
    assert Script(scripted(False)).run(make()) == EntryRefused()
    assert Script(BROKEN).run(make()) == CacheFailed("broken: reset")
    assert Script(RedisRefusal("OOM no")).run(make()) == CacheFailed("OOM no")


def test_dropping_and_recording() -> None:
    script = Script(scripted())
    script.run(cache.drop_entry(SERVICES, URL, "t", Slot.RENEWAL))
    assert script.said == ["drop renewal if held t, told"]
    script = Script(scripted())
    script.run(cache.record_error(SERVICES, URL, Draft(ERROR, 1.0, None, 1.0)))
    assert script.said == ["write entry if idle, told"]


@pytest.mark.parametrize(("keep_epoch", "condition"), [("", "any"), ("e2", "other-epoch e2")])
def test_dropping_everything_takes_the_renewal_first(keep_epoch: str, condition: str) -> None:
    action = DropEverything(keep_epoch)
    script = Script(scripted(False), scripted(False))
    assert script.run(cache.drop_everything(SERVICES, URL, action)) == EntryWritten()
    assert script.said == [f"drop renewal if {condition}, told", f"drop entry if {condition}, told"]
    for replies in ((BROKEN,), (scripted(), BROKEN)):
        assert Script(*replies).run(cache.drop_everything(SERVICES, URL, action)) == CacheFailed("broken: reset")
