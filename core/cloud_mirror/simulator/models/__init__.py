"""Models of the services around the mirror: Redis, the store, the queue, origins.

A model is told the time with each call and reads no clock; where the real service is free to choose, the choice is an
argument. `copy()` gives an independent twin, and `key()` a hashable value that is the same for models that behave the
same from now on. Whatever the network does to a request or a reply is done around the models: `denied`, `throttled`
and `unavailable` are the replies that a store or a queue gives in such weather.

What a model promises is what the real servers keep; where these differ, the weakest of it (docs/simulator.md).
"""

from cloud_mirror.simulator.models.origin import Digest, Flaw, Framing, OriginModel, Resource
from cloud_mirror.simulator.models.queue import Message, QueueModel, SimulatedQueue
from cloud_mirror.simulator.models.redis import Executed, RedisImage, RedisModel, Value
from cloud_mirror.simulator.models.replies import denied, throttled, unavailable
from cloud_mirror.simulator.models.store import KeptObject, KeptPart, KeptUpload, StoreModel
from cloud_mirror.simulator.models.store_provider import SimulatedProvider

__all__ = [
    "Digest",
    "Executed",
    "Flaw",
    "Framing",
    "KeptObject",
    "KeptPart",
    "KeptUpload",
    "Message",
    "OriginModel",
    "QueueModel",
    "RedisImage",
    "RedisModel",
    "Resource",
    "SimulatedProvider",
    "SimulatedQueue",
    "StoreModel",
    "Value",
    "denied",
    "throttled",
    "unavailable",
]
