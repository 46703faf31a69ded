"""No invariant is asked in vain: in whole runs of a mirror that does one thing wrong, the right one is violated."""

import pytest

from cloud_mirror.simulator.models import RedisModel
from cloud_mirror.simulator.simulation import Simulation


def violated(*seeds: int) -> set[str]:
    """The invariants that these seeds' runs violate."""
    return {violation.invariant for seed in seeds for violation in Simulation(seed).run().violations}


def test_a_renewal_over_a_live_lease_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert violated(39) == set()
    monkeypatch.setattr(RedisModel, "_held_to_copy", lambda *_: False)
    assert "holder-alone" in violated(39)
