"""Every order of events in small worlds, to exhaustion: see `Explorer`."""

from cloud_mirror.simulator.explorer.diagram import diagram
from cloud_mirror.simulator.explorer.search import Explored, Explorer
from cloud_mirror.simulator.explorer.size import Size
from cloud_mirror.simulator.explorer.trace import Line

__all__ = ["Explored", "Explorer", "Line", "Size", "diagram"]
