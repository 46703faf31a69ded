"""Which worlds are explored: those that every change is tried on, and more where there is time."""

from __future__ import annotations

from typing import Final

from cloud_mirror.simulator.explorer.size import Size

WORLDS: Final = (
    Size(fronts=2, faults=1),
    Size(fronts=2, purges=1),
    Size(faults=1, parts=2, lasting=True),
    Size(backs=2, purges=1),
    Size(purges=1, parts=2),
    Size(backs=2, faults=1),
    Size(faults=1, lies=True),
    Size(fronts=3),
)
"""The short list, the longest first: a minute or two in two processes."""

MORE: Final = (
    Size(faults=1, parts=2),
    Size(purges=2),
    Size(fronts=2, backs=2, purges=1),
    Size(faults=2),
    Size(purges=1, faults=1),
    Size(purges=1, faults=1, lies=True),
    Size(fronts=2, backs=2, faults=1, parts=2),
)
"""What the long run explores besides: hours, and some gigabytes."""
