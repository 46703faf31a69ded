"""The trio shell: trio's streams, httpcore2 as client, coredis for the cache. It performs, and decides nothing."""

from cloud_mirror_trio.mirror import Mirror
from cloud_mirror_trio.service import perform, purge, run

__all__ = ["Mirror", "perform", "purge", "run"]
