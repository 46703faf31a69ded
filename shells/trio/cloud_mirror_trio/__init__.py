"""The trio shell: trio's streams with HTTP by h11, coredis for the cache. It performs, and decides nothing."""

from cloud_mirror_trio.asgi import AsgiApp, asgi_app
from cloud_mirror_trio.mirror import Mirror
from cloud_mirror_trio.service import perform, purge, run

__all__ = ["AsgiApp", "Mirror", "asgi_app", "perform", "purge", "run"]
