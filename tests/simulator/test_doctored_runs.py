"""No invariant is asked in vain: in whole runs of a mirror that does one thing wrong, the right one is violated."""

from collections.abc import Callable

import pytest

from cloud_mirror.simulator.models import RedisModel, SimulatedProvider
from cloud_mirror.simulator.simulation import Simulation


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
