"""Cloud Mirror's core: it decides, and does no I/O. See `docs/architecture.md` for the way around.

The public names are in the modules; the ones an embedder starts from are handed on here.
"""

from cloud_mirror.manager import CacheManager
from cloud_mirror.policy import Policy, PoolPolicy
from cloud_mirror.reason import Reason

__all__ = ["CacheManager", "Policy", "PoolPolicy", "Reason"]
