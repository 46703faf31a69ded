"""No check of the explorer is unable to fail: each is shown a doctored machine, procedure or model, and the way to it.

What is doctored is the code under test, or what the service behind it keeps; the explorer and its checks stay as they
are. Each world is the smallest that shows it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloud_mirror import copy, purge, redirect
from cloud_mirror.actions import Respond, ToCopy, WriteEntry
from cloud_mirror.copy_actions import CreateUpload, OpenOrigin
from cloud_mirror.entry import Entry, Status
from cloud_mirror.events import EntryRead, EntryWritten, Swept
from cloud_mirror.http_api import Outcome
from cloud_mirror.reason import Reason
from cloud_mirror.simulator.explorer import Explorer, Size, nodes, size
from cloud_mirror.simulator.explorer.board import Step, World
from cloud_mirror.simulator.explorer.size import URL
from cloud_mirror.simulator.models import OriginModel, StoreModel
from cloud_mirror.simulator.models import redis as redis_model
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.procedures import store as store_procedures
from cloud_mirror.wire.procedures.purge import purge as real_purge

Doctor = Callable[[pytest.MonkeyPatch], None]
ENOUGH = 20_000
"""Whatever is doctored shows within so many situations."""


def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front end that answers nobody."""
    transition = redirect.transition

    def doctored(state: Any, event: Any) -> Any:
        taken = transition(state, event)
        return taken._replace(actions=tuple(each for each in taken.actions if not isinstance(each, Respond)))

    monkeypatch.setattr(redirect, "transition", doctored)


def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front end that does not even begin."""
    transition = redirect.transition
    monkeypatch.setattr(redirect, "transition", lambda *said: transition(*said)._replace(state=said[0], actions=()))


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back end that raises what nobody catches."""

    def doctored(*_: object) -> Any:
        raise ZeroDivisionError("made up")

    monkeypatch.setattr(copy, "transition", doctored)


def jobs_come_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back end that does nothing with its job."""
    transition = copy.transition
    monkeypatch.setattr(copy, "transition", lambda state, event: transition(state, event)._replace(actions=()))


def credulous(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front end that sends everybody to a copy."""
    transition = redirect.transition
    copied = ToCopy("0", Outcome.COPIED, Reason.JUST_COPIED)

    def doctored(state: Any, event: Any) -> Any:
        taken = transition(state, event)
        actions = [
            replace(action, response=copied) if isinstance(action, Respond) else action for action in taken.actions
        ]
        return taken._replace(actions=tuple(actions))

    monkeypatch.setattr(redirect, "transition", doctored)


def store_garbles(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read from the origin is turned round on its way into the store."""
    find = StoreModel.find

    def doctored(self: StoreModel, key: str) -> Any:
        kept = find(self, key)
        return replace(kept, body=kept.body[::-1]) if kept is not None and not key.startswith("purged/") else kept

    monkeypatch.setattr(StoreModel, "find", doctored)


def purge_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge that looks what the epoch is, and is done."""

    def doctored(services: Any, url: str, epoch: str) -> Any:
        yield from store_procedures.read_epoch(services, url)
        return purge.State(purge.Phase.DONE)

    monkeypatch.setattr(nodes, "purge", doctored)


def purge_sweeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge that leaves in the store what it should delete."""

    def doctored(*_: object) -> Any:
        yield from ()
        return Swept()

    monkeypatch.setattr(store_procedures, "sweep", doctored)


def everybody_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that lets everybody claim what somebody copies."""
    holds = redis_model._holds

    def doctored(entry: Any, condition: str, token: bytes, status: bytes) -> bool:
        return condition == "vacant" or holds(entry, condition, token, status)

    monkeypatch.setattr(redis_model, "_holds", doctored)


def entries_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that gives nothing an end."""
    monkeypatch.setattr(redis_model, "_hash", lambda fields, _: redis_model.Value(fields, None))


def claims_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims that live for much longer than is promised."""
    policy = size.small_policy()
    server = replace(policy.server, claim_lease_s=60.0)
    monkeypatch.setattr(size, "small_policy", lambda: replace(policy, server=server))


def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back end that takes every entry for present, and its job for done."""
    transition = copy.transition

    def doctored(state: Any, event: Any) -> Any:
        if isinstance(event, EntryRead):
            now_s = event.redis_time_s
            entry = Entry(Status.PRESENT, "made-up", URL, epoch="0", expires_at_s=now_s + 1e6, verified_at_s=now_s)
            event = replace(event, entry=entry, life_left_s=1e6)
        return transition(state, event)

    monkeypatch.setattr(copy, "transition", doctored)


def asks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back end that opens the object two times."""
    perform = copy_procedures.perform

    def doctored(services: Any, cargo: Any, action: Any) -> Any:
        if isinstance(action, OpenOrigin):
            yield from perform(services, cargo, action)
            cargo.bodies.clear()  # or the first would be closed
        return (yield from perform(services, cargo, action))

    monkeypatch.setattr(copy_procedures, "perform", doctored)


def begins_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back end that begins two uploads, and ends one."""
    perform = copy_procedures.perform

    def doctored(services: Any, cargo: Any, action: Any) -> Any:
        if isinstance(action, CreateUpload):
            yield from perform(services, cargo, action)
        return (yield from perform(services, cargo, action))

    monkeypatch.setattr(copy_procedures, "perform", doctored)


def publishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back end that does not say that there is a copy."""
    perform = copy_procedures.perform

    def doctored(services: Any, cargo: Any, action: Any) -> Any:
        if isinstance(action, WriteEntry) and action.draft.entry.status is Status.PRESENT:
            return EntryWritten()
        return (yield from perform(services, cargo, action))

    monkeypatch.setattr(copy_procedures, "perform", doctored)


def bodies_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections to the origin that nobody closes."""
    monkeypatch.setattr(OriginModel, "close", lambda *_: None)


def test_a_copy_may_go_while_a_purge_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    credulous(monkeypatch)
    explorer = Explorer(Size(purges=1, faults=1))
    start = explorer.rules.start()
    wrong = []
    for world in (start, explorer.rules.after(start, step_of(explorer, start, "p0", ""))):
        step = step_of(explorer, world, "f0", "drains")
        wrong.append(explorer.checks.step(world, explorer.rules.after(world, step), step))
    assert wrong == [("redirect-stands: a client was sent to a copy that is not there",), ()]


def test_a_copy_may_not_go_once_a_purge_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits meanwhile is excused, one that comes afterwards is not."""
    credulous(monkeypatch)
    explorer = Explorer(Size(fronts=2, purges=1, faults=2))
    rules, start = explorer.rules, explorer.rules.start()
    begun = rules.after(start, step_of(explorer, start, "p0", ""))
    failed = rules.after(begun, step_of(explorer, begun, "p0", "crashes"))
    asked = rules.after(failed, step_of(explorer, failed, "f1", ""))
    wrong = []
    for who in ("f0", "f1"):
        step = step_of(explorer, asked, who, "drains")
        wrong.append(explorer.checks.step(asked, rules.after(asked, step), step))
    assert wrong == [(), ("redirect-stands: a client was sent to a copy that is not there",)]


def test_what_was_done_is_asked_of_each_purge_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two purges are under way, a copy is made between their beginnings, and the second does nothing."""

    def doctored(services: Any, url: str, epoch: str) -> Any:
        if epoch != "zqp1z":
            return (yield from real_purge(services, url, epoch))
        yield from store_procedures.read_epoch(services, url)
        return purge.State(purge.Phase.DONE)

    monkeypatch.setattr(nodes, "purge", doctored)
    explorer = Explorer(Size(fronts=2, purges=2))
    world = explorer.rules.start()

    def go_on(*whose: str, until: str = "") -> tuple[str, ...]:
        """Go on until one of these asks for that, or nobody of them goes on."""
        nonlocal world
        wrong: tuple[str, ...] = ()
        while True:
            step = next((step for step in explorer.rules.steps(world)[0] if step.move.who in whose), None)
            if step is None or (until and step.move.what.startswith(until)):
                return wrong
            after = explorer.rules.after(world, step)
            wrong += explorer.checks.step(world, after, step)
            world = after

    assert go_on("p0", until="ListObjects") == go_on("f0", "b0") == go_on("p1") == ()
    assert go_on("f1") == ("purge-holds: a client that came after a purge was sent to a copy from before it",)


def step_of(explorer: Explorer, world: World, who: str, fault: str) -> Step:
    steps = explorer.rules.steps(world)[0]
    return next(step for step in steps if (step.move.who, step.move.fault) == (who, fault))


@pytest.mark.parametrize(
    ("doctor", "world", "wrong", "steps"),
    [
        (broken, Size(), "nothing-breaks: ZeroDivisionError('made up')", 10),
        (mute, Size(), "answered-in-time: f0 gives its client no answer", 30),
        (asleep, Size(), "answered-in-time: f0 gives its client no answer", 5),
        (jobs_come_to_nothing, Size(faults=1), "answered-in-time: b0 is still at work, and waits for nothing", 30),
        (jobs_come_to_nothing, Size(faults=1), "jobs-end: a message is left", 30),
        (publishes_nothing, Size(faults=1), "jobs-end: a pending entry is left", 40),
        (bodies_stay_open, Size(), "bounded: a body is left open", 30),
        (purge_sweeps_nothing, Size(purges=1), "purge-holds: something is left under a dead epoch", 40),
        (purge_does_nothing, Size(fronts=2, purges=1), "purge-holds: a client that came after a purge", 30),
        (credulous, Size(faults=1), "redirect-stands: ", 2),
        (store_garbles, Size(), "one-whole-body: ", 30),
        (everybody_holds, Size(fronts=2), "holder-alone: f1 moved the entry on that", 20),
        (entries_stay, Size(), "lease-frees: an entry has no end", 3),
        (claims_last, Size(), "lease-frees: a asking entry outlives its lease", 3),
        (hasty, Size(), "acknowledged-when-durable: ", 15),
        (asks_twice, Size(faults=1), "one-copy: 2 copies at once, after 0 faults and 0 purges", 20),
        (begins_twice, Size(parts=2, lasting=True), "uploads-end: nobody knows of 1 uploads, after 0 faults", 40),
        (asks_twice, Size(), "one-copy: the origin was asked for the object 2 times, with 0 purges", 20),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_a_doctored_world_violates(
    monkeypatch: pytest.MonkeyPatch, doctor: Doctor, world: Size, wrong: str, steps: int
) -> None:
    assert not Explorer(world).explore(1_000).violations
    doctor(monkeypatch)
    explored = Explorer(world).explore(ENOUGH)
    assert any(violation.startswith(wrong) for violation in explored.violations), explored
    assert 0 < len(explored.trace) <= steps
    assert explored.trace[0].move.who
