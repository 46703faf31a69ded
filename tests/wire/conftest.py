"""What several of the wire's tests stand on."""

import functools
import secrets
from collections.abc import Iterator

import pytest

from cloud_mirror.manager import CacheManager
from cloud_mirror.policy import MIB, Policy, PoolPolicy, QueuePolicy, ServerPolicy, SourcePolicy, WorkerPolicy
from cloud_mirror.source import SourceRules
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.services import PoolServices
from cloud_mirror.wire.sqs import SqsQueue
from tests.servers import FaultProxy, Moto, Origin, SeaweedFS, Valkey
from tests.wire.blocking import BlockingShell
from tests.wire.caches import valkey_cache
from tests.wire.exchange import Asker
from tests.wire.mirrors import Mirror


@pytest.fixture
def mirror(
    valkey: Valkey, seaweedfs: SeaweedFS, store_proxy: FaultProxy, moto: Moto, origin: Origin
) -> Iterator[Mirror]:
    """Over SeaweedFS behind a proxy; what the store itself has may be a source too, so its host has a name."""
    store_url = store_proxy.url.replace("127.0.0.1", "localhost")
    pool = PoolPolicy("s3", "us-west-1", f"flow-{secrets.token_hex(8)}", endpoint_url=store_url)
    queue_policy = QueuePolicy(prefix=f"flow-{secrets.token_hex(8)}", endpoint_url=moto.url)
    sources = tuple(f"^{url}/" for url in (origin.url, store_url))
    policy = Policy(
        server=ServerPolicy(poll_s=0.2),
        queue=queue_policy,
        source=SourcePolicy(sources, require_tls=False, allow_private_addresses=True),
        worker=WorkerPolicy(part_bytes=5 * MIB),
        pools=(pool,),
    )
    provider, queue = S3Provider(pool), SqsQueue(queue_policy)
    ask_store = Asker(provider, seaweedfs.access_key, seaweedfs.secret_key)
    for step in provider.setup_steps():
        ask_store(step.request, functools.partial(provider.read_setup, step))
    ask_queue = Asker(queue, "mirror", "mirror")
    names = (queue_policy.name(pool.name), queue_policy.dead_name(pool.name))
    queue_url, dead_url = (ask_queue(queue.create_request(name, ()), queue.read_create) for name in names)
    manager = CacheManager(policy, pool, provider.location)
    services = PoolServices(manager, provider, queue, SourceRules(policy.source), queue_url, dead_url)
    with valkey_cache(valkey) as cache, cache.client.pubsub() as pubsub:
        pubsub.subscribe(manager.channel)
        shell = BlockingShell(services, cache, pubsub, seaweedfs.access_key, seaweedfs.secret_key)
        yield Mirror(shell, cache, ask_store, ask_queue)
