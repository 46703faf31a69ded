"""Every order of events in small worlds, to exhaustion: see `Explorer`."""

from cloud_mirror.simulator.explorer.diagram import diagram
from cloud_mirror.simulator.explorer.search import Explored, Explorer
from cloud_mirror.simulator.explorer.size import Size, small_policy
from cloud_mirror.simulator.explorer.trace import Line
from cloud_mirror.simulator.explorer.worlds import MORE, WORLDS

__all__ = ["MORE", "WORLDS", "Explored", "Explorer", "Line", "Size", "diagram", "small_policy"]
