"""Every order of events in small worlds, to exhaustion: see `Explorer`."""

from cloud_mirror.simulator.explorer.board import Move
from cloud_mirror.simulator.explorer.search import Explored, Explorer
from cloud_mirror.simulator.explorer.size import Size

__all__ = ["Explored", "Explorer", "Move", "Size"]
