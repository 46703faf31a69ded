"""Which worlds are explored: those that every change is tried on, and more where there is time."""

from __future__ import annotations

from typing import Final

from cloud_mirror.simulator.explorer.size import Size

WORLDS: Final = (
    Size(fronts=1, backs=1, faults=1, parts=2),
    Size(fronts=1, backs=2, faults=1),
    Size(fronts=1, backs=1, faults=1, lies=True),
    Size(fronts=2, backs=1, purges=1),
    Size(fronts=1, backs=1, purges=1, parts=2),
    Size(fronts=1, backs=1, purges=2),
    Size(fronts=2, backs=2),
    Size(fronts=3, backs=1),
)
"""The short list: a few minutes in two processes."""

MORE: Final = (
    Size(fronts=1, backs=1, faults=2),
    Size(fronts=1, backs=1, purges=1, faults=1),
    Size(fronts=2, backs=1, faults=1),
    Size(fronts=2, backs=2, faults=1),
    Size(fronts=2, backs=2, purges=1),
    Size(fronts=1, backs=1, purges=1, faults=1, lies=True),
)
"""What the long run explores besides: hours, and some gigabytes."""
