"""The book of the origins' hosts: who is let in in which order, what a reply says, and that no permit is lost."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from cloud_mirror import host as machine
from cloud_mirror.host import HostRefused, Permit
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.wire import hosts
from cloud_mirror.wire.calls import (
    BodyOpened,
    EnterHost,
    FailureKind,
    HostEntered,
    HttpRequest,
    OpenBody,
    Route,
    TransportFailure,
)
from cloud_mirror.wire.hosts import HostBook, Waiter

HOST, OTHER = "a.example:443", "b.example:443"
REQUEST = HttpRequest("GET", "https", "a.example", 443, "/")
POLICY = SourcePolicy(per_host_connections=2)
BUSY = BodyOpened(0, 429, (("retry-after", "30"),))
REFUSED = TransportFailure(FailureKind.CONNECT, "refused")


def opening(permit: Permit | None, timeout_s: float = 10.0) -> OpenBody:
    return OpenBody(REQUEST, Route.ORIGIN, timeout_s, 5.0, permit)


class Book(HostBook):
    """A book, and what it was asked for."""

    def __init__(self, policy: SourcePolicy = POLICY) -> None:
        super().__init__(policy, lambda: 0.0)
        self.woken: list[Waiter] = []
        self._opened = 0

    def came(self, at_most_s: float = 100.0, now_s: float = 0.0, host: str = HOST) -> Waiter:
        waiter = self.join(EnterHost(host, at_most_s), now_s)
        waiter.wake = lambda: self.woken.append(waiter)
        return waiter

    def permit(self, now_s: float = 0.0, host: str = HOST) -> Permit:
        return permit_of(self.came(now_s=now_s, host=host))

    def body(self, permit: Permit, status: int = 200, *headers: tuple[str, str], now_s: float = 0.0) -> int:
        self._opened += 1
        self.answered(opening(permit), BodyOpened(self._opened, status, headers), now_s)
        return self._opened

    def fail(self, times: int = machine.FAILURES, now_s: float = 0.0) -> None:
        for _ in range(times):
            self.answered(opening(self.permit(now_s)), REFUSED, now_s)


def permit_of(waiter: Waiter) -> Permit:
    assert isinstance(waiter.reply, HostEntered)
    return waiter.reply.permit


def test_who_waits_is_let_in_in_order() -> None:
    book = Book()
    bodies = [book.body(book.permit()) for _ in range(2)]
    first, second, third = book.came(), book.came(50.0), book.came()
    assert (book.under_way, book.waiting) == (2, 3)
    assert (book.look(first, 1.0), book.look(second, 1.0)) == (100.0, 50.0)
    book.closed(bodies[0], 3.0)
    book.closed(bodies[0], 3.0)
    assert (first.reply, second.reply) == (HostEntered(Permit(HOST, 0), 3.0), None)
    assert book.look(first, 4.0) == 4.0
    book.leave(second, 5.0)
    book.closed(bodies[1], 6.0)
    assert (book.woken, permit_of(third)) == ([first, third], Permit(HOST, 0))
    for waiter in (first, third):
        book.leave(waiter, 7.0)
    book.leave(book.came(0.0, 7.0), 7.0)
    assert (book.under_way, book.waiting, len(book)) == (0, 0, 1)


def test_another_host_is_another_matter() -> None:
    book = Book()
    book.permit()
    book.permit()
    assert book.permit(host=OTHER) == Permit(OTHER, 0)


def test_who_has_waited_as_long_as_it_could_is_refused() -> None:
    book = Book()
    bodies = [book.body(book.permit()) for _ in range(2)]
    first, second = book.came(9.0), book.came(4.0)
    assert book.look(second, 4.0) == 4.0
    saturated = HostRefused(Reason.ORIGIN_SATURATED, machine.SATURATED_AGAIN_S)
    assert (first.reply, second.reply) == (None, saturated)
    assert book.came(0.0, 4.0).reply == saturated
    book.leave(second, 4.0)
    book.closed(bodies[0], 5.0)
    assert isinstance(first.reply, HostEntered)
    assert book.refused == {Reason.ORIGIN_SATURATED: 2}


def test_a_host_that_asks_for_time_wakes_who_waits_when_it_is_over() -> None:
    book = Book()
    permits = [book.permit() for _ in range(2)]
    patient, hasty = book.came(100.0), book.came(20.0)
    book.answered(opening(permits[0]), BUSY, 5.0)
    assert hasty.reply == HostRefused(Reason.ORIGIN_THROTTLED, 30.0)
    assert (patient.reply, book.woken, book.throttled) == (None, [patient, hasty], 1)
    assert book.look(patient, 5.0) == 35.0
    assert book.came(20.0, 10.0).reply == HostRefused(Reason.ORIGIN_THROTTLED, 25.0)
    book.give_back(permits[1], 11.0)
    book.closed(0, 12.0)
    book.look(patient, 35.0)
    assert permit_of(patient) == Permit(HOST, 1)
    assert book.look(book.came(now_s=36.0), 36.0) == 136.0  # the limit is one now


def test_a_circuit_that_opens_lets_nobody_wait(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    book = Book()
    book.fail(machine.FAILURES - 1)
    permits = [book.permit() for _ in range(2)]
    waiting = [book.came() for _ in range(3)]
    book.answered(opening(permits[0]), REFUSED, 1.0)
    assert {waiter.reply for waiter in waiting} == {HostRefused(Reason.ORIGIN_CIRCUIT_OPEN, machine.OPEN_S)}
    assert (book.opened, book.waiting) == (1, 0)
    book.answered(opening(permits[1]), None, 1.5)
    late_s = 1.0 + machine.OPEN_S
    probe = book.permit(late_s)
    assert book.came(now_s=late_s).reply == HostRefused(Reason.ORIGIN_CIRCUIT_OPEN, machine.PROBE_AGAIN_S)
    book.body(probe, 404, now_s=late_s)
    assert book.permit(late_s) == Permit(HOST, 2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]
    assert book.refused == {Reason.ORIGIN_CIRCUIT_OPEN: 4}


@pytest.mark.parametrize(
    ("status", "retry_after", "counts", "halves"),
    [
        (200, "", False, False),
        (302, "", False, False),
        (404, "9", False, False),
        (500, "9", False, False),
        (501, "", False, False),
        (502, "9", True, False),
        (504, "", True, False),
        (503, "", True, True),
        (503, "soon", True, True),
        (503, "9", False, True),
        (429, "", False, True),
    ],
)
def test_what_a_status_says_of_a_host(status: int, retry_after: str, counts: bool, halves: bool) -> None:
    book = Book()
    headers = (("retry-after", retry_after),) if retry_after else ()
    book.fail(machine.FAILURES - 1)
    book.closed(book.body(book.permit(), status, *headers), 0.0)
    assert (book.opened, book.throttled) == (counts, halves)
    book.fail(1, 100.0)
    assert book.opened == 1 + counts - (not counts)


@pytest.mark.parametrize("kind", FailureKind)
def test_what_a_failure_says_of_a_host(kind: FailureKind) -> None:
    book = Book()
    for _ in range(machine.FAILURES):
        book.answered(opening(book.permit()), TransportFailure(kind), 0.0)
    silent = {FailureKind.ADDRESS_NOT_ALLOWED, FailureKind.TOO_LARGE, FailureKind.CREDENTIALS}
    assert book.opened == (kind not in silent)


def test_a_request_that_had_no_time_says_nothing_of_a_host() -> None:
    book = Book()
    for _ in range(machine.FAILURES):
        book.answered(opening(book.permit(), 4.9), TransportFailure(FailureKind.TIMEOUT), 0.0)
    assert (book.opened, book.under_way) == (0, 0)


def test_what_goes_without_a_permit_is_not_counted() -> None:
    book = Book()
    book.answered(opening(None), REFUSED, 0.0)
    book.closed(7, 0.0)
    assert (len(book), book.spend(7, 10**9, 0.0)) == (0, 0.0)


def test_bodies_of_a_host_share_its_rate() -> None:
    book = Book(replace(POLICY, per_host_bytes_per_s=100))
    one, two = (book.body(book.permit()) for _ in range(2))
    assert [book.spend(one, 100, 5.0), book.spend(two, 50, 5.0), book.spend(one, 0, 5.0)] == [0.0, 0.5, 0.5]
    book.closed(one, 5.0)
    assert book.spend(one, 0, 5.0) == 0.0


def test_hosts_that_rest_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "REMEMBERED", 3)
    book = Book()
    book.fail()
    busy = book.permit(host="busy:443")
    for number in range(9):
        book.give_back(book.permit(host=f"{number}:443"), 0.0)
    assert len(book) == 3
    assert book.permit() == Permit(HOST, 0)  # that its circuit was open is forgotten as well
    for number in range(3):
        book.permit(host=f"{number}:443")
    assert len(book) == 5  # who is being asked is not
    book.give_back(busy, 0.0)
    assert book.under_way == 4
