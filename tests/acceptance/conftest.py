"""A fleet for each test that asks for one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.fleet import Fleet, fleet_of
from tests.servers import Moto, Origin, SeaweedFS, Valkey

MakeFleet: TypeAlias = Callable[..., Fleet]


@pytest.fixture
def make_fleet(tmp_path: Path, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, origin: Origin) -> Iterator[MakeFleet]:
    """Make a fleet, set up: `make_fleet(store_url=..., settings={"server": {...}})`."""
    with ExitStack() as stack:

        def make(**options: Any) -> Fleet:
            fleet = Fleet(tmp_path, valkey, seaweedfs, moto, origin.url, **options)
            return stack.enter_context(fleet_of(fleet))

        yield make
