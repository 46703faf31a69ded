"""Clients that leave in the middle of anything leave nothing behind; `benchmarks.broken_clients` sends 1,000."""

from pathlib import Path

import pytest

from tests.broken_clients import ward_of
from tests.fleet import SHELLS
from tests.servers import Moto, SeaweedFS, Valkey


@pytest.mark.parametrize("shell", SHELLS)
def test_broken_clients_leave_nothing_behind(
    tmp_path: Path, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, shell: str
) -> None:
    with ward_of(tmp_path, valkey, seaweedfs, moto, shell) as ward:
        assert ward.admit(seed=1, clients=60) == []
