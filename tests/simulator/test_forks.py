"""A driver that was forked goes on exactly as its original, whatever either is told."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_mirror.copy_events import JobReceived
from cloud_mirror.copy_table import Phase
from cloud_mirror.events import DrainBegun, Request, RequestDeadlinePassed, RequestJoined
from cloud_mirror.message import Job
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.driver import CopyDriver, Driver, FlightDriver, ProcedureDriver, Rest, ignore
from cloud_mirror.simulator.explorer.size import START_S, URL, Size
from cloud_mirror.simulator.explorer.world import Parts, Tray, carry_out, model_of
from cloud_mirror.wire.calls import DigestBytes, Done, FailureKind, ReadBody, TransportFailure
from cloud_mirror.wire.procedures.purge import purge

Act = Callable[[Any], None]
LOST = TransportFailure(FailureKind.BROKEN)


class Bench:
    """A driver's surroundings: models that answer it, or lose what it asks."""

    def __init__(self, parts: int, chance: Chance) -> None:
        made = Parts(Size(parts=parts), ignore)
        self.services = made.services
        self.clock = made.clock
        self.clock.now = START_S
        self.models = {name: made.models[name].parts[number].copy() for name, number in made.begin().items()}
        self.chance = chance

    def next_act(self, driver: Driver) -> Act:
        """What happens to the driver next."""
        self.clock.now += self.chance.pick((0.0, 0.0, 1.0))
        number = self.chance.pick(tuple(driver.calls))
        call: Any = driver.calls[number]
        model = model_of(call)
        if model is None:
            return partial(answer, number, Done(), ())
        if self.chance.happens(0.1):
            return partial(answer, number, LOST, ())
        if isinstance(call, ReadBody):
            tray = Tray(cast(Any, call.collector).at_most_bytes)
            return partial(answer, number, self.models["origin"].read(call.body, tray), tuple(tray.pieces))
        return partial(answer, number, carry_out(self.models[model], call, self.clock.now)[0], ())


def _told(event: Any, driver: Any) -> None:
    driver.tell(event)


def answer(number: int, reply: Any, pieces: tuple[bytes, ...], driver: Any) -> None:
    call = driver.calls[number]
    for piece in pieces:
        call.collector.feed(piece)
    driver.answer(number, reply, pieces)


def flight(bench: Bench) -> FlightDriver:
    driver = FlightDriver(bench.clock, bench.services, URL, "zqf0z")
    driver.tell(RequestJoined(Request(1, bench.clock.now + 3)))
    return driver


def copy(bench: Bench) -> CopyDriver:
    driver = CopyDriver(bench.clock, bench.services, Job("s3_small", URL, "0"), "r", ("zqb0t1z", "zqb0c1z"))
    driver.tell(JobReceived(URL, "0", 1))
    return driver


def purging(bench: Bench) -> ProcedureDriver:
    driver = ProcedureDriver(bench.clock, partial(purge, bench.services, URL, "zqp0z"))
    driver.start()
    return driver


def _image_of_call(call: Any) -> Any:
    """What tells it from others; a driver's collectors and digests are its own."""
    match call:
        case ReadBody(body):
            return body
        case DigestBytes(digests, data):
            return [getattr(digest, "name", type(digest)) for digest in digests], bytes(data)
    return call


def image(driver: Any) -> tuple[Any, ...]:
    """All that can be seen of a driver."""
    calls = {number: (type(call), _image_of_call(call)) for number, call in driver.calls.items()}
    return (
        driver.key(),
        calls,
        driver.done,
        getattr(driver, "said", None),
        getattr(driver, "cargo", None) and driver.cargo.acknowledged,
    )


@pytest.mark.parametrize(
    ("make", "parts", "end"),
    [
        (flight, 1, (RequestDeadlinePassed(1), DrainBegun())),
        (copy, 1, (DrainBegun(),)),
        (copy, 2, (DrainBegun(),)),
        (purging, 1, ()),
    ],
    ids=["flight", "copy in one part", "copy in two parts", "purge"],
)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), at=st.integers(0, 30), until=st.integers(0, 60))
def test_a_fork_goes_on_as_its_original(
    make: Callable[[Bench], Any], parts: int, end: tuple[Any, ...], seed: int, at: int, until: int
) -> None:
    bench = Bench(parts, Chance(seed))
    original = make(bench)
    fork: Any = None
    for number in range(80):
        if number == at:
            fork = original.fork()
            assert image(fork) == image(original)
        if number > at and number == until:
            fork = fork.fork()
        acts: list[Act] = [partial(_told, event) for event in end if number == until]
        if original.calls:
            acts.append(bench.next_act(original))
        for act in acts[:1]:
            act(original)
            if fork is not None:
                act(fork)
                assert image(fork) == image(original)
        if not acts:
            break
    assert fork is None or fork.done == original.done


def test_a_fork_leaves_its_original_alone() -> None:
    bench = Bench(2, Chance(1))
    original = copy(bench)
    before = image(original)
    fork = original.fork()
    bench.next_act(fork)(fork)
    assert image(fork) != before
    assert image(original) == before


def test_a_lease_is_kept_no_more_once_the_copy_is_over() -> None:
    bench = Bench(1, Chance(1))
    driver = copy(bench)
    while not (resting := [number for number, call in driver.calls.items() if isinstance(call, Rest)]):
        bench.next_act(driver)(driver)
    driver.state = replace(driver.state, phase=Phase.DONE)
    before = driver.lease
    driver.answer(resting[0], Done())
    assert driver.lease is before
    assert resting[0] not in driver.calls
