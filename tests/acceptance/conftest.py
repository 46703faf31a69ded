"""A fleet for each test that asks for one, and one that a module's tests share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.fleet import Fleet, Process, fleet_of
from tests.servers import Moto, Origin, SeaweedFS, Valkey

MakeFleet: TypeAlias = Callable[..., Fleet]


@dataclass(frozen=True)
class Site:
    """A fleet that a module's tests share: one front end, one back end, an origin."""

    fleet: Fleet
    origin: Origin
    front: Process
    worker: Process


@pytest.fixture
def make_fleet(
    tmp_path: Path, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, origin: Origin, shell: str
) -> Iterator[MakeFleet]:
    """Make a fleet, set up: `make_fleet(store_url=..., settings={"server": {...}})`."""
    with ExitStack() as stack:

        def make(**options: Any) -> Fleet:
            fleet = Fleet(tmp_path, valkey, seaweedfs, moto, origin.url, **{"shell": shell, **options})
            return stack.enter_context(fleet_of(fleet))

        yield make


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, shell: str
) -> Iterator[Site]:
    """A fleet with an origin, a front end and a back end: each test uses URLs of its own."""
    with Origin() as origin:
        fleet = Fleet(tmp_path_factory.mktemp("site"), valkey, seaweedfs, moto, origin.url, shell=shell)
        with fleet_of(fleet):
            yield Site(fleet, origin, fleet.start("serve"), fleet.start("work"))
