"""The servers that tests run against: real ones as processes of their own, made-up ones as threads."""

from tests.servers.origin import Origin
from tests.servers.processes import Moto, SeaweedFS, ServerProcess, Valkey
from tests.servers.proxy import FaultProxy, Hold, Point
from tests.servers.relay import RedisRelay

__all__ = ["FaultProxy", "Hold", "Moto", "Origin", "Point", "RedisRelay", "SeaweedFS", "ServerProcess", "Valkey"]
