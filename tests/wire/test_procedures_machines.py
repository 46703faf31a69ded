"""The redirect, lease and purge machines' actions as calls."""

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import (
    AwaitChange,
    CheckOrigin,
    Claim,
    Draft,
    DropEverything,
    ProbeCopy,
    ReadEntry,
    RedirectAction,
    RequestRefresh,
    Respond,
    SendJob,
    Slot,
    Sweep,
    ToOrigin,
    WriteEntry,
    WriteEpoch,
)
from cloud_mirror.copy_events import LeaseLost
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import (
    ChangeDue,
    ClaimWon,
    CopyNotFound,
    EntryRead,
    EntryRefused,
    EntryWritten,
    EpochWritten,
    JobSent,
    OriginApproved,
    RedirectEvent,
    RefreshRequested,
    Swept,
)
from cloud_mirror.lease import (
    ExtendVisibility,
    LeaseAction,
    LeaseRenewed,
    RenewLease,
    Report,
    VisibilityExtended,
    WaitForTick,
)
from cloud_mirror.purge import Phase
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import AwaitNotice, BodyOpened, Reply
from cloud_mirror.wire.procedures import lease, purge, redirect
from tests.wire.exchange import reply
from tests.wire.pools import BROKEN, KEY, POLICY, POOL, SERVICES, URL, Script, error, missing, scripted, written

SENT = reply(200, '{"MessageId": "m"}')
DONE = reply(200, "{}")
STORED = reply(200, etag='"e"')
DENIED = error(403, "AccessDenied")
NO_UPLOADS = reply(200, "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
NO_OBJECTS = reply(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
QUEUED = Draft(Entry(Status.PENDING, "t", URL, holder=Holder.QUEUED), 60.0)


def test_each_action_of_the_redirect_machine() -> None:
    expected: list[tuple[RedirectAction, list[Reply], type[RedirectEvent], str]] = [
        (ReadEntry(), [scripted()], EntryRead, "read entry if any"),
        (Claim(None, "t", 20.0), [scripted()], ClaimWon, "write entry if vacant, told"),
        (ProbeCopy(), [missing(), missing()], CopyNotFound, f"GET /bucket/{keys.epoch_key(URL)}"),
        (WriteEntry(QUEUED, "t"), [scripted()], EntryWritten, "write entry if held t, told"),
        (CheckOrigin(), [BodyOpened(1, 200, ())], OriginApproved, "HEAD https://a.example:443/some/file.bin"),
        (SendJob("e1"), [SENT], JobSent, "SendMessage"),
    ]
    for action, replies, event, said in expected:
        script = Script(*replies)
        assert isinstance(script.run(redirect.perform(SERVICES, URL, action)), event)
        assert script.said[0] == said
    with pytest.raises(AssertionError, match="the shell's to give"):
        Script().run(redirect.perform(SERVICES, URL, Respond((1,), ToOrigin(Reason.DEADLINE))))


def test_waiting_for_a_change() -> None:
    script = Script()
    assert script.run(redirect.perform(SERVICES, URL, AwaitChange(7, 0.5))) == ChangeDue()
    assert script.waits == [AwaitNotice(KEY, 7, 0.5)]


def test_a_refresh_is_claimed_sent_and_marked_beside_the_entry() -> None:
    script = Script(scripted(), SENT, scripted())
    assert script.run(redirect.perform(SERVICES, URL, RequestRefresh("t", "e1", 600.0))) == RefreshRequested()
    assert script.said == ["write renewal if vacant", "SendMessage", "write renewal if held t, told"]
    asking, queued = written(script.calls[0]), written(script.calls[2])
    assert (asking["holder"], asking["epoch"], asking["life_ms"]) == ("asking", "e1", "20000")
    assert (queued["holder"], queued["epoch"], queued["life_ms"]) == ("queued", "e1", "600000")


@pytest.mark.parametrize(
    "replies",
    [
        [scripted(False)],
        [BROKEN],
        [scripted(), BROKEN, BROKEN],
        [scripted(), SENT, scripted(False)],
        [scripted(), SENT, BROKEN],
    ],
)
def test_a_refresh_that_fails_is_left_to_the_next_one(replies: list[Reply]) -> None:
    script = Script(*replies)
    assert script.run(redirect.perform(SERVICES, URL, RequestRefresh("t", "e1", 600.0))) == RefreshRequested()


def test_each_action_of_the_lease_machine() -> None:
    script = Script(scripted())
    renew = RenewLease(Slot.RENEWAL, "w", 60.0)
    assert script.run(lease.perform(SERVICES, URL, "r", renew)) == LeaseRenewed(100.0)
    assert script.said == ["touch renewal if held w"]
    assert Script(scripted(False)).run(lease.perform(SERVICES, URL, "r", renew)) == EntryRefused()
    assert Script(DONE).run(lease.perform(SERVICES, URL, "r", ExtendVisibility(60.0))) == VisibilityExtended()
    others: list[LeaseAction] = [WaitForTick(1.0), Report(LeaseLost())]
    for action in others:
        with pytest.raises(AssertionError, match="the shell's to do"):
            Script().run(lease.perform(SERVICES, URL, "r", action))


def test_each_action_of_the_purge_machine() -> None:
    assert isinstance(Script(STORED).run(purge.perform(SERVICES, URL, WriteEpoch("e1"))), EpochWritten)
    dropped = Script(scripted(), scripted()).run(purge.perform(SERVICES, URL, DropEverything()))
    assert dropped == EntryWritten()
    assert Script(NO_UPLOADS, NO_OBJECTS).run(purge.perform(SERVICES, URL, Sweep("e1"))) == Swept()


def test_a_purge_drops_after_the_epoch_stands_and_again_at_the_end() -> None:
    script = Script(STORED, scripted(), scripted(), NO_UPLOADS, NO_OBJECTS, scripted(), scripted())
    ended = script.run(purge.purge(SERVICES, URL, "e1"))
    assert (ended.phase, ended.epoch) == (Phase.DONE, "e1")
    kinds = [said.split(" /")[0] for said in script.said]
    assert kinds == [
        "PUT",
        "drop renewal if any, told",
        "drop entry if any, told",
        "GET",
        "GET",
        "drop renewal if other-epoch e1, told",
        "drop entry if other-epoch e1, told",
    ]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([DENIED], Reason.STORE_DENIED),
        ([STORED, BROKEN], Reason.CACHE_UNAVAILABLE),
        ([STORED, scripted(), scripted(), DENIED], Reason.STORE_DENIED),
        ([STORED, scripted(), scripted(), NO_UPLOADS, NO_OBJECTS, scripted(), BROKEN], Reason.CACHE_UNAVAILABLE),
    ],
)
def test_a_purge_that_cannot_go_on_says_why(replies: list[Reply], reason: Reason) -> None:
    ended = Script(*replies).run(purge.purge(SERVICES, URL, "e1"))
    assert (ended.phase, ended.reason) == (Phase.FAILED, reason)


def test_a_purge_goes_on_under_the_name_that_was_written() -> None:
    script = Script(BROKEN, STORED, scripted(), scripted(), NO_UPLOADS, NO_OBJECTS, scripted(), scripted())
    ended = script.run(purge.purge(SERVICES, URL, "e1"))
    assert (ended.phase, ended.epoch) == (Phase.DONE, "e1-2")
    assert script.said[-1] == "drop entry if other-epoch e1-2, told"


def test_services_name_their_policies() -> None:
    assert (SERVICES.policy, SERVICES.pool) == (POLICY, POOL)
