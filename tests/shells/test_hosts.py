"""Being fair to an origin's host, in every shell: who waits for it and for how long, and that no permit is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from cloud_mirror.actions import Refuse, ToOrigin
from cloud_mirror.host import HostRefused
from cloud_mirror.policy import MIB, OnDeadline, Policy, SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
    FailureKind,
    HttpRequest,
    Pause,
    Procedure,
    TransportFailure,
)
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.procedures import host
from cloud_mirror_sync.stop import StoppedError
from tests.servers import Origin
from tests.servers.processes import free_port
from tests.shells.drivers import PATIENCE_S, Performer, Shell
from tests.shells.raw_server import until
from tests.shells.world import WEST_1, WEST_2, World

SOURCE = SourcePolicy(allow_private_addresses=True, per_host_connections=2)
POLICY = Policy(source=SOURCE)


@pytest.fixture
def performer(shell: Shell) -> Iterator[Performer]:
    """A runtime that asks two things of a host at once; no permit may be left with anybody."""
    with shell.performer(POLICY) as made:
        yield made
        until(lambda: (made.book.under_way, made.book.waiting, made.http.open_bodies) == (0, 0, 0))


def request(url: str) -> HttpRequest:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return HttpRequest("GET", "http", parts.hostname, parts.port, parts.path, (("Host", parts.netloc),))


def opening(url: str, wait_s: float | None = None) -> Procedure[BodyOpened | TransportFailure | HostRefused]:
    return host.open_body(SOURCE, request(url), wait_s=wait_s)


def closing(body: BodyOpened) -> Procedure[None]:
    yield CloseBody(body.body)


class Sink:
    """Takes all there is."""

    def __init__(self) -> None:
        self.size = 0

    def feed(self, piece: bytes | memoryview) -> bool:
        self.size += len(piece)
        return False


def fetching(
    policy: SourcePolicy, url: str, sink: Sink, bodies: list[BodyOpened] | None = None
) -> Procedure[BodyRead | TransportFailure | HostRefused]:
    """Open a body, read it, close it. Who is called off while it reads leaves the last to others: see `bodies`."""
    opened = yield from host.open_body(policy, request(url))
    if not isinstance(opened, BodyOpened):
        return opened
    if bodies is not None:
        bodies.append(opened)
    reply = yield from host.read_paced(policy, opened.body, sink, 5.0)
    yield CloseBody(opened.body)
    return reply


def test_a_host_is_asked_so_much_at_once_and_in_order(performer: Performer, origin: Origin) -> None:
    url = origin.put("/many", b"bytes")
    bodies = [performer.perform(opening(url)) for _ in range(2)]
    assert performer.perform(opening(url, wait_s=0.0)) == HostRefused(Reason.ORIGIN_SATURATED, 2.0)
    assert performer.perform(opening(url, wait_s=0.05)) == HostRefused(Reason.ORIGIN_SATURATED, 2.0)
    origin.forget()
    waiting = []
    for number in range(2):
        waiting.append(performer.begin(opening(url)))
        until(lambda: performer.book.waiting == number + 1)  # noqa: B023  # it is called here and now
    assert origin.requests == ()
    performer.perform(closing(bodies[0]))
    first = waiting[0].result(PATIENCE_S)
    assert (performer.book.waiting, performer.book.under_way) == (1, 2)
    performer.perform(closing(first))
    for body in (waiting[1].result(PATIENCE_S), bodies[1]):
        performer.perform(closing(body))


def called_off(performer: Performer, future: Future[Any]) -> None:
    performer.call_off(future)
    with suppress(CancelledError, StoppedError):
        future.result(PATIENCE_S)


def test_who_is_called_off_takes_nothing_along(performer: Performer, origin: Origin) -> None:
    """While it waits, while its request is under way, while its body is read, and while it is told to go on."""
    slow = origin.put("/slow", b"bytes", get_delay_s=0.3)
    url = origin.put("/quick", size=MIB)
    sending = [performer.begin(opening(slow)) for _ in range(2)]
    until(lambda: performer.book.under_way == 2)
    waiting = performer.begin(opening(url))
    patient = performer.begin(opening(url))
    until(lambda: performer.book.waiting == 2)
    called_off(performer, waiting)
    until(lambda: performer.book.waiting == 1)
    for each in sending:
        called_off(performer, each)
    body = patient.result(PATIENCE_S)
    performer.perform(closing(body))


def test_a_crowd_that_comes_and_goes_leaves_no_permit_behind(performer: Performer, origin: Origin) -> None:
    url = origin.put("/crowd", b"bytes", get_delay_s=0.01)
    gone = f"http://localhost:{free_port()}/"
    bodies: list[list[BodyOpened]] = [[] for _ in range(40)]
    begun = [performer.begin(fetching(SOURCE, gone if n % 5 == 0 else url, Sink(), bodies[n])) for n in range(40)]
    for number in range(0, 40, 3):
        called_off(performer, begun[number])
        for body in bodies[number]:
            performer.perform(closing(body))
    wait_for(begun, PATIENCE_S)
    until(lambda: performer.book.under_way == 0)
    ended = [future.result() for n, future in enumerate(begun) if n % 3 and n % 5]
    assert ended == [BodyRead(ended=True)] * len(ended)


def test_a_host_that_refuses_connections_is_soon_left_alone(performer: Performer) -> None:
    url = f"http://localhost:{free_port()}/"
    kinds = [performer.perform(opening(url)).kind for _ in range(5)]
    assert kinds == [FailureKind.CONNECT] * 5
    refused = performer.perform(opening(url))
    assert isinstance(refused, HostRefused)
    assert refused.reason is Reason.ORIGIN_CIRCUIT_OPEN
    assert 0 < refused.again_in_s <= 5


def test_who_waits_goes_on_as_soon_as_a_host_has_had_its_time(performer: Performer, origin: Origin) -> None:
    busy, url = origin.put("/busy", status=429, headers={"Retry-After": "1"}), origin.put("/x", b"bytes")
    performer.perform(closing(performer.perform(opening(busy))))
    told_s = time.monotonic()
    assert performer.perform(opening(url, wait_s=0.5)).reason is Reason.ORIGIN_THROTTLED
    waiting = [performer.begin(fetching(SOURCE, url, Sink())) for _ in range(3)]
    for each in waiting:
        assert each.result(PATIENCE_S) == BodyRead(ended=True)
    assert 0.9 < time.monotonic() - told_s < 10
    assert performer.book.throttled == 1


def test_bodies_come_no_faster_than_their_host_may_send(shell: Shell, origin: Origin) -> None:
    """2 MiB at 1 MiB a second, of which a second's worth is saved up; a resting body that is closed rests no longer."""
    url = origin.put("/paced", size=MIB)
    limited = replace(SOURCE, per_host_bytes_per_s=MIB)
    with shell.performer(replace(POLICY, source=limited)) as performer:
        began_s, sinks = time.monotonic(), (Sink(), Sink())
        reading = [performer.begin(fetching(limited, url, sink)) for sink in sinks]
        assert [each.result(PATIENCE_S) for each in reading] == [BodyRead(ended=True)] * 2
        assert 0.8 < time.monotonic() - began_s < 10
        assert [sink.size for sink in sinks] == [MIB, MIB]
        slow = replace(limited, per_host_bytes_per_s=MIB)
        body = performer.perform(opening(origin.put("/long", size=64 * MIB)))
        resting = performer.begin(host.read_paced(slow, body.body, Sink(), 5.0))
        until(lambda: performer.book.spend(body.body, 0, time.monotonic()) > 0)
        performer.perform(closing(body))
        assert resting.result(5.0).kind is FailureKind.BROKEN
        assert performer.book.under_way == 0


def test_a_pause_lasts_as_long_as_is_said(performer: Performer) -> None:
    def pausing() -> Procedure[None]:
        yield Pause(0.2)

    began_s = time.monotonic()
    performer.perform(pausing())
    assert 0.19 < time.monotonic() - began_s < 5


@pytest.mark.parametrize("on_deadline", OnDeadline)
def test_an_origin_that_asks_for_time_is_asked_once_and_all_others_are_answered_at_once(
    shell: Shell, world: World, on_deadline: OnDeadline
) -> None:
    world.queues(WEST_1, WEST_2)
    busy = world.origin.put("/busy", status=503, headers={"Retry-After": "60"})
    others = [world.origin.put(f"/other-{number}", b"bytes") for number in range(9)]
    with shell.mirror(world.serving(on_deadline=on_deadline), Roles()) as mirror:
        until(lambda: mirror.ready() == 200)
        assert mirror.redirect(WEST_1, busy) == Refuse(Reason.ORIGIN_ERROR, 503, 60.0)
        began_s = time.monotonic()
        answers = [each.result(PATIENCE_S) for each in [mirror.begin(WEST_1, url) for url in (*others, *others)]]
        again = mirror.redirect(WEST_1, others[0])
        assert time.monotonic() - began_s < 5  # of 20 that they could have been held, and 60 that the host asked for
        assert [each.target for each in world.origin.requests] == ["/busy"]
        for answer in (*answers, again):
            if on_deadline is OnDeadline.ORIGIN:
                assert answer == ToOrigin(Reason.ORIGIN_THROTTLED)
            else:
                assert isinstance(answer, Refuse)
                assert (answer.reason, answer.status) == (Reason.ORIGIN_THROTTLED, 503)
                assert answer.again_in_s is not None
                assert 50 < answer.again_in_s <= 60
        text = mirror.mirror.metrics.text().decode()
        assert 'cloud_mirror_origin_refusals_total{reason="origin-throttled"} 9.0' in text


def test_an_origin_that_refuses_connections_is_left_alone_after_the_first(shell: Shell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    port = free_port()
    source = replace(world.policy.source, allowed_patterns=(f"^http://localhost:{port}/",))
    with shell.mirror(replace(world.policy, source=source), Roles()) as mirror:
        until(lambda: mirror.ready() == 200)
        urls = [f"http://localhost:{port}/{number}" for number in range(8)]
        reasons = [mirror.redirect(WEST_1, url) for url in urls]
        assert reasons == [*[ToOrigin(Reason.ORIGIN_UNREACHABLE)] * 5, *[ToOrigin(Reason.ORIGIN_CIRCUIT_OPEN)] * 3]
