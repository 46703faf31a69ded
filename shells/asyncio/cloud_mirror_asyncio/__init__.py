"""The asyncio shell: aiohttp as server and client, redis.asyncio for the cache. It performs, and decides nothing."""

from cloud_mirror_asyncio.asgi import AsgiApp, asgi_app
from cloud_mirror_asyncio.mirror import Mirror
from cloud_mirror_asyncio.service import perform, purge, run

__all__ = ["AsgiApp", "Mirror", "asgi_app", "perform", "purge", "run"]
