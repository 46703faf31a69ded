"""Purges that meet a copy, or one another, at the worst moment: each interleaving driven call by call."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest

from cloud_mirror.copy_table import Phase
from cloud_mirror.purge import Phase as PurgePhase
from cloud_mirror.wire.calls import Call, FailureKind, HttpExchange, Procedure, Reply, TransportFailure
from cloud_mirror.wire.procedures.purge import purge
from tests.servers import Origin
from tests.wire.driving import drive, label
from tests.wire.exchange import send
from tests.wire.mirrors import Mirror

T = TypeVar("T")

TIMEOUT = TransportFailure(FailureKind.TIMEOUT, "given up")


class Paused(Generic[T]):
    """A procedure that stops before the first call that `before` names, and goes on when told to."""

    def __init__(self, procedure: Procedure[T], perform: Callable[[Call], Reply], before: str) -> None:
        self._procedure, self._perform = procedure, perform
        self._call = next(procedure)
        while before not in label(self._call):
            self._call = procedure.send(perform(self._call))

    def finish(self) -> T:
        """Do the rest; what it returns."""
        try:
            while True:
                self._call = self._procedure.send(self._perform(self._call))
        except StopIteration as stop:
            value: T = stop.value
            return value


class Intruder:
    """Stands between a shell and its calls: before the first one whose label holds `at`, `act` is done.

    Those whose label holds `failing` fail, once that is set.
    """

    def __init__(self, mirror: Mirror, at: str, act: Callable[[], object]) -> None:
        self._perform, self._at, self._act = mirror.shell.perform, at, act
        self.done = False
        self.failing = ""
        mirror.shell.perform = self  # type: ignore[method-assign]  # the shell's own calls pass here as well

    def __call__(self, call: Call) -> Reply:
        if not self.done and self._at in label(call):
            self.done = True
            self._act()
        return TIMEOUT if self.failing and self.failing in label(call) else self._perform(call)


def purged(mirror: Mirror, url: str, epoch: str, perform: Any = None) -> None:
    ended = drive(purge(mirror.services, url, epoch), perform or mirror.shell.perform)
    assert ended.phase is PurgePhase.DONE


def test_a_purge_that_was_overtaken_by_another_leaves_alone_what_was_copied_since(
    mirror: Mirror, origin: Origin
) -> None:
    url = origin.put("/overtaken.bin", b"a copy")
    slow = Paused(purge(mirror.services, url, "slow"), mirror.shell.perform, before="uploads")
    purged(mirror, url, "quick")
    publishing = Intruder(mirror, " status present", slow.finish)  # the object was seen in the store by then
    response = mirror.shell.redirect(url)
    assert publishing.done
    assert mirror.fetch(url, response).body == b"a copy"
    assert [key.split("/")[2] for key in mirror.stored()] == ["quick"]
    assert origin.count("GET", "/overtaken.bin") == 1


@pytest.mark.parametrize("size", [17, 12 * 1024 * 1024], ids=["single", "multipart"])
def test_an_epoch_that_lands_late_brings_no_dead_copy_back(mirror: Mirror, origin: Origin, size: int) -> None:
    url = origin.put("/late.bin", b"A" * size)
    late: list[HttpExchange] = []

    def losing(call: Call) -> Reply:
        if isinstance(call, HttpExchange) and not late and "PUT" in label(call):
            late.append(call)
            return TIMEOUT
        return mirror.shell.perform(call)

    purged(mirror, url, "first", losing)
    perform = mirror.shell.perform

    def purge_and_land() -> None:
        origin.put("/late.bin", b"B" * size)
        purged(mirror, url, "second", perform)
        assert send(late[0].request).status == 200

    finishing = "signed PUT" if size < 100 else "signed POST /flow-"
    intruder = Intruder(mirror, finishing, purge_and_land)
    response = mirror.shell.redirect(url)
    assert intruder.done
    assert set(mirror.fetch(url, response).body) == set(b"B")
    assert len(mirror.stored()) == 1


def test_a_copy_that_a_purge_overtook_is_deleted_although_it_could_not_be_verified(
    mirror: Mirror, origin: Origin
) -> None:
    url = origin.put("/unverified.bin", b"A")
    perform = mirror.shell.perform

    def purge_it() -> None:
        purged(mirror, url, "purged", perform)
        intruder.failing = "signed HEAD"

    intruder = Intruder(mirror, "signed PUT", purge_it)
    working = mirror.shell.meanwhile

    def work() -> None:
        working()
        intruder.failing = ""

    mirror.shell.meanwhile = work
    response = mirror.shell.redirect(url)
    assert mirror.worked[0].phase is Phase.DONE
    assert mirror.worked[0].give_up
    assert mirror.fetch(url, response).body == b"A"
    assert [key.split("/")[2] for key in mirror.stored()] == ["purged"]
