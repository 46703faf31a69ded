"""No invariant is asked in vain: in whole runs of a mirror that does one thing wrong, the right one is violated."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloud_mirror import copy_ending, keys, lease
from cloud_mirror.actions import Draft, Response, Slot
from cloud_mirror.copy_actions import AbortUpload, CopyAction, OpenOrigin
from cloud_mirror.copy_events import CopyEvent, JobSettled
from cloud_mirror.copy_table import Phase as CopyPhase
from cloud_mirror.copy_table import Row, Transition
from cloud_mirror.copy_table import State as CopyState
from cloud_mirror.events import CopyNotFound, JobSent
from cloud_mirror.http_api import Answer
from cloud_mirror.manager import CacheManager
from cloud_mirror.purge import Phase, State
from cloud_mirror.simulator import fleet
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.engine import Task
from cloud_mirror.simulator.faults import Fault, Swarm
from cloud_mirror.simulator.inspection import Violation
from cloud_mirror.simulator.models import RedisModel, SimulatedProvider, redis
from cloud_mirror.simulator.network import HIDDEN
from cloud_mirror.simulator.settings import draw_settings
from cloud_mirror.simulator.simulation import Simulation
from cloud_mirror.source import SourceRules
from cloud_mirror.wire.asking import ask
from cloud_mirror.wire.calls import Procedure, ReserveMemory
from cloud_mirror.wire.cargo import Cargo
from cloud_mirror.wire.hosts import HostBook
from cloud_mirror.wire.memory import Memory
from cloud_mirror.wire.procedures import cache, jobs, store
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices

SEEDS = range(40)


def violations(seed: int, **changed: Any) -> tuple[Violation, ...]:
    """What a seed's run violates, perhaps with some settings others than it draws."""
    return Simulation(seed, replace(draw_settings(Chance(seed).split("settings")), **changed)).run().violations


def is_seen(invariant: str, what: str = "", **changed: Any) -> bool:
    """Whether one of the first seeds violates an invariant, in words that hold `what`."""
    found = (each for seed in SEEDS for each in violations(seed, **changed))
    return any(each.invariant == invariant and what in each.what for each in found)


def test_the_mirror_as_it_is_violates_nothing() -> None:
    assert [violations(seed) for seed in range(5)] == [()] * 5


def test_a_renewal_over_a_live_lease_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisModel, "_held_to_copy", lambda *_: False)
    evicts = Swarm(((Fault.REDIS_EVICTION, 0.1),))
    assert is_seen("holder-alone", swarm=evicts, lifespan_s=150.0, reading_s=8.0, asks=200)


@pytest.mark.parametrize(
    ("elsewhere", "expected"),
    [
        (lambda self, _: f"https://{self.host}/another-object", {"allowed-location", "redirect-stands"}),
        (lambda self, key: f"https://{self.host}/{key.replace('/0/', '/1/')}", {"redirect-stands"}),
        (lambda _, key: f"https://elsewhere.simulated/{key}", {"allowed-location"}),
    ],
)
def test_a_location_of_another_object_is_seen(
    elsewhere: Callable[[SimulatedProvider, str], str], expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimulatedProvider, "location", elsewhere)
    assert {each.invariant for each in violations(1)} == expected


def _delete_letter(services: PoolServices, delivery: Delivery, *_: object) -> Procedure[bool]:
    request = services.queue.delete_request(services.dead_url, delivery.receipt)
    yield from ask(services.queue, request, services.queue.read_delete, timeout_s=5.0)
    return True


def _keep_and_delete(services: PoolServices, delivery: Delivery, *_: object) -> Procedure[bool]:
    yield from jobs._keep_letter(services, delivery, jobs.read_job(services, delivery))
    return (yield from _delete_letter(services, delivery))


def _keep_nothing(*_: object) -> Procedure[bool]:
    yield from ()
    return True


def _only_acknowledge(services: PoolServices, receipt: str, *_: object) -> Procedure[JobSettled]:
    return (yield from jobs.acknowledge(services, receipt))


def _bury_nowhere(services: PoolServices, delivery: Delivery, *_: object) -> Procedure[bool]:
    yield from jobs.acknowledge(services, delivery.receipt)
    return True


DELETED = "acknowledged-when-durable"


@pytest.mark.parametrize(
    ("name", "doctored", "wrong"),
    [
        ("attend_dead_letter", _delete_letter, "is not kept"),
        ("_keep_letter", _keep_nothing, "is not kept"),
        ("attend_dead_letter", _keep_and_delete, "nothing is said of it"),
        ("bury", _bury_nowhere, "nobody sent it again"),
    ],
)
def test_a_message_that_goes_for_nothing_is_seen(
    name: str, doctored: Callable[..., object], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, name, doctored)
    assert is_seen(DELETED, wrong)


def test_a_job_that_a_draining_process_only_deletes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    drains = Swarm(((Fault.DRAIN, 0.1),))
    assert violations(0, swarm=drains, asks=200) == ()
    monkeypatch.setattr(jobs, "give_back", _only_acknowledge)
    assert is_seen(DELETED, "nobody sent it again", swarm=drains, asks=200)


def test_a_second_copy_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    holds = redis._holds
    taken = ("takeable", "renewable", "held")
    monkeypatch.setattr(redis, "_copying", lambda _: False)
    monkeypatch.setattr(
        redis, "_holds", lambda entry, condition, *more: condition in taken or holds(entry, condition, *more)
    )
    assert is_seen("one-copy", swarm=Swarm(((Fault.MESSAGE_TWICE, 0.1),)), reading_s=8.0)


def _blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers never find the copy that is there."""

    def blind(*_: object) -> Procedure[CopyNotFound]:
        yield from ()
        return CopyNotFound("0")

    monkeypatch.setattr(store, "probe_copy", blind)


def _accepts_any_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cargo, "fault", lambda _: None)


def _follows_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SourceRules, "check", lambda *_: None)


def _purges_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(services: PoolServices, url: str, _: str) -> Procedure[State]:
        yield from store.read_epoch(services, url)
        return State(Phase.DONE)

    monkeypatch.setattr(fleet, "purge", nothing)


def _one_key_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "url_sha256", lambda _: "0" * 64)


def _tells_all(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = CacheManager.answer

    def telling(manager: CacheManager, url: str, response: Response) -> Answer:
        told = answer(manager, url, response)
        return replace(told, headers=(*told.headers, ("X-Detail", HIDDEN)))

    monkeypatch.setattr(CacheManager, "answer", telling)


def _leases_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    acquire = cache.acquire

    def long(services: PoolServices, url: str, draft: Draft, slot: Slot) -> Procedure[object]:
        return (yield from acquire(services, url, replace(draft, life_s=500.0), slot))

    monkeypatch.setattr(cache, "acquire", long)


def _settles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> Procedure[JobSettled]:
        yield from ()
        return JobSettled()

    monkeypatch.setattr(jobs, "acknowledge", nothing)


def _sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> Procedure[JobSent]:
        yield from ()
        return JobSent()

    monkeypatch.setattr(jobs, "send_job", nothing)


def _never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease.State, "tick_s", 0.001)


def _forgets_no_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    flown = fleet.Process._flown

    def kept(process: fleet.Process, flight: Task) -> None:
        place = flight.pool, flight.url
        flown(process, flight)
        process.flights.setdefault(place, flight)

    monkeypatch.setattr(fleet.Process, "_flown", kept)


def _reserves_more(monkeypatch: pytest.MonkeyPatch, size_bytes: int) -> None:
    """Nobody gives this back but who forgets the copy."""
    perform = copy_procedures.perform

    def reserving(services: PoolServices, cargo: Cargo, action: CopyAction) -> Procedure[CopyEvent]:
        if isinstance(action, OpenOrigin):
            yield ReserveMemory(cargo.receipt, size_bytes)
        return (yield from perform(services, cargo, action))

    monkeypatch.setattr(copy_procedures, "perform", reserving)


def _forgets_no_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    _reserves_more(monkeypatch, 1)
    monkeypatch.setattr(Memory, "forget", lambda *_: None)


def _runs_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    _reserves_more(monkeypatch, 5_000)
    monkeypatch.setattr(Memory, "forget", lambda *_: None)


def _aborts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def settled(state: CopyState) -> Transition:
        return copy_ending.on_cleaned(replace(state, phase=CopyPhase.ABORTING))

    ending = copy_ending.move

    def moving(row: Row, state: CopyState, phase: CopyPhase, action: CopyAction) -> Transition:
        return settled(state) if isinstance(action, AbortUpload) else ending(row, state, phase, action)

    monkeypatch.setattr(copy_ending, "move", moving)


def _keeps_permits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostBook, "closed", lambda *_: None)


@pytest.mark.parametrize(
    ("doctor", "invariant", "fault"),
    [
        (_blind, "one-copy", Fault.CRASH),
        (_accepts_any_body, "one-whole-body", Fault.ORIGIN_GARBLED),
        (_follows_anywhere, "allowed-place", Fault.ORIGIN_OUT),
        (_purges_in_words, "purge-holds", Fault.CRASH),
        (_one_key_for_all, "keys-distinct", Fault.CRASH),
        (_tells_all, "nothing-private", Fault.CRASH),
        (_leases_for_long, "lease-frees", Fault.CRASH),
        (_settles_nothing, "jobs-end", Fault.CRASH),
        (_sends_nothing, "all-well", Fault.CRASH),
        (_never_rests, "bounded", Fault.CRASH),
        (_forgets_no_flight, "nothing-left", Fault.CRASH),
        (_forgets_no_holder, "nothing-left", Fault.CRASH),
        (_runs_out_of_memory, "all-well", Fault.CRASH),
        (_aborts_nothing, "uploads-end", Fault.BODY_BROKEN),
        (_keeps_permits, "nothing-left", Fault.CRASH),
    ],
)
def test_a_mirror_that_does_one_thing_wrong_is_seen(
    doctor: Callable[[pytest.MonkeyPatch], None], invariant: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor(monkeypatch)
    assert is_seen(invariant, swarm=Swarm(((fault, 0.03),)))
