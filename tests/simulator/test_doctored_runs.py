"""No invariant is asked in vain: in whole runs of a mirror that does one thing wrong, the right one is violated."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cloud_mirror.events import CopyNotFound, JobSettled
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.faults import Fault, Swarm
from cloud_mirror.simulator.models import RedisModel, SimulatedProvider, redis
from cloud_mirror.simulator.settings import draw_settings
from cloud_mirror.simulator.simulation import Simulation
from cloud_mirror.wire.asking import ask
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.procedures import jobs, store
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
    assert "one-copy" in violated(7)


def test_a_needless_copy_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*_: object) -> Procedure[CopyNotFound]:
        yield from ()
        return CopyNotFound("0")

    monkeypatch.setattr(store, "probe_copy", blind)
    assert "one-copy" in violated(7)
