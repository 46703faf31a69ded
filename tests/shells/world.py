"""What a mirror runs on in a test: the store's buckets, the queues, an origin, and the policy that fits them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

from cloud_mirror.policy import (
    MIB,
    Policy,
    PoolPolicy,
    QueuePolicy,
    RedisPolicy,
    ServerPolicy,
    SourcePolicy,
    WorkerPolicy,
)
from cloud_mirror.wire.desk import Roles
from tests.servers import Moto, Origin

BOTH = Roles(front_end=True, back_end=True)
WEST_1, WEST_2 = "s3_us-west-1", "s3_us-west-2"


@dataclass
class World:
    """The servers, and a policy that fits them."""

    policy: Policy
    moto: Moto
    origin: Origin

    def queues(self, *pools: str) -> None:
        """Create the queues of these pools."""
        client = self.moto.client("sqs")
        for pool in pools:
            for name in (self.policy.queue.name(pool), self.policy.queue.dead_name(pool)):
                client.create_queue(QueueName=name)
        client.close()

    def send(self, pool: str, body: str) -> None:
        """Put a message in a pool's queue."""
        client = self.moto.client("sqs")
        url = client.get_queue_url(QueueName=self.policy.queue.name(pool))["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody=body)
        client.close()

    def serving(self, **changes: Any) -> Policy:
        """The policy, with these changes to its server's part."""
        return replace(self.policy, server=replace(self.policy.server, **changes))


def open_world(moto: Moto, origin: Origin, redis_url: str) -> World:
    """New buckets, for two pools whose queues are still to be made."""
    name = secrets.token_hex(8)
    pools = tuple(PoolPolicy("s3", region, f"{name}-{region}", moto.url) for region in ("us-west-1", "us-west-2"))
    client = moto.client("s3")
    for pool in pools:
        client.create_bucket(Bucket=pool.bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    client.close()
    policy = Policy(
        server=ServerPolicy(port=0, max_wait_s=20.0, start_wait_s=15.0, poll_s=0.2, drain_s=10.0),
        redis=RedisPolicy(redis_url),
        queue=QueuePolicy(prefix=name, endpoint_url=moto.url),
        source=SourcePolicy((f"^{origin.url}/".replace(".", r"\."),), require_tls=False, allow_private_addresses=True),
        worker=WorkerPolicy(part_bytes=5 * MIB, concurrency=2),
        pools=pools,
    )
    return World(policy, moto, origin)
