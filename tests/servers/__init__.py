"""The servers that tests run against: real ones as processes of their own, made-up ones as threads."""

from tests.servers.origin import Origin
from tests.servers.processes import Moto, SeaweedFS, ServerProcess, Valkey
from tests.servers.proxy import FaultProxy, Hold, Point
from tests.servers.relay import DeafRelay

__all__ = ["DeafRelay", "FaultProxy", "Hold", "Moto", "Origin", "Point", "SeaweedFS", "ServerProcess", "Valkey"]
