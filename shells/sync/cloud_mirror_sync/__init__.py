"""The threaded shell: urllib3 asks, redis-py claims and listens, h11 reads requests. It performs, and decides nothing.

Who does what: one thread moves the bytes of all client connections (`server`); a request that has to wait holds one of
`server.threads` threads (`front_end`); each copy holds a thread, and a few more for its parts and its lease
(`back_end`). Machines are stepped under a lock, and every thread that blocks can be called off (`stop`).
"""

from cloud_mirror_sync.mirror import Mirror
from cloud_mirror_sync.service import perform, purge, run
from cloud_mirror_sync.wsgi import WsgiApp, wsgi_app

__all__ = ["Mirror", "WsgiApp", "perform", "purge", "run", "wsgi_app"]
