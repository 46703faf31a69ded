"""No invariant is asked in vain: in whole runs of a mirror that does one thing wrong, the right one is violated."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cloud_mirror import copy_ending, keys, lease
from cloud_mirror.actions import AbortUpload, CopyAction, Draft, OpenOrigin, Response, Slot
from cloud_mirror.copy_table import Phase as CopyPhase
from cloud_mirror.copy_table import Row, Transition
from cloud_mirror.copy_table import State as CopyState
from cloud_mirror.events import CopyEvent, CopyNotFound, JobSent, JobSettled
from cloud_mirror.http_api import Answer
from cloud_mirror.manager import CacheManager
from cloud_mirror.purge import Phase, State
from cloud_mirror.simulator import fleet
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.engine import Task
from cloud_mirror.simulator.faults import Fault, Swarm
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


def violated(*seeds: int) -> set[str]:
    """The invariants that these seeds' runs violate."""
    return {violation.invariant for seed in seeds for violation in Simulation(seed).run().violations}


def test_a_renewal_over_a_live_lease_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert violated(39) == set()
    monkeypatch.setattr(RedisModel, "_held_to_copy", lambda *_: False)
    assert "holder-alone" in violated(39)


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
    assert violated(1) == expected


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
    ("name", "doctored", "seed", "wrong"),
    [
        ("attend_dead_letter", _delete_letter, 0, "is not kept"),
        ("_keep_letter", _keep_nothing, 0, "is not kept"),
        ("attend_dead_letter", _keep_and_delete, 6, "nothing is said of it"),
        ("bury", _bury_nowhere, 0, "nobody sent it again"),
    ],
)
def test_a_message_that_goes_for_nothing_is_seen(
    name: str, doctored: Callable[..., object], seed: int, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, name, doctored)
    assert any(wrong in each.what for each in Simulation(seed).run().violations if each.invariant == DELETED)


def test_a_job_that_a_draining_process_only_deletes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_settings(Chance(14).split("settings"))
    drains = replace(drawn, swarm=Swarm(((Fault.DRAIN, 0.1),)), asks=200, duration_s=400.0)
    assert Simulation(14, drains).run().violations == ()
    monkeypatch.setattr(jobs, "give_back", _only_acknowledge)
    wrong = Simulation(14, drains).run().violations
    assert any("nobody sent it again" in each.what for each in wrong if each.invariant == DELETED)


def test_a_second_copy_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    holds = redis._holds
    taken = ("takeable", "renewable", "held")
    monkeypatch.setattr(redis, "_copying", lambda _: False)
    monkeypatch.setattr(
        redis, "_holds", lambda entry, condition, *more: condition in taken or holds(entry, condition, *more)
    )
    drawn = draw_settings(Chance(7).split("settings"))
    up = Swarm(tuple(each for each in drawn.swarm.weights if each[0] is not Fault.ORIGIN_OUTAGE))  # or all is too calm
    result = Simulation(7, replace(drawn, swarm=up)).run()
    assert "one-copy" in {violation.invariant for violation in result.violations}


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
    ("doctor", "invariant", "seed"),
    [
        (_blind, "one-copy", 2),
        (_accepts_any_body, "one-whole-body", 3),
        (_follows_anywhere, "allowed-place", 0),
        (_purges_in_words, "purge-holds", 0),
        (_one_key_for_all, "keys-distinct", 5),
        (_tells_all, "nothing-private", 0),
        (_leases_for_long, "lease-frees", 5),
        (_settles_nothing, "jobs-end", 2),
        (_sends_nothing, "all-well", 2),
        (_never_rests, "bounded", 4),
        (_forgets_no_flight, "nothing-left", 0),
        (_forgets_no_holder, "nothing-left", 0),
        (_runs_out_of_memory, "all-well", 2),
        (_aborts_nothing, "uploads-end", 6),
        (_keeps_permits, "nothing-left", 0),
    ],
)
def test_a_mirror_that_does_one_thing_wrong_is_seen(
    doctor: Callable[[pytest.MonkeyPatch], None], invariant: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor(monkeypatch)
    assert invariant in violated(seed)
