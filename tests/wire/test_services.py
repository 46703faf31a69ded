"""What a process speaks with: a pool at a time, once its queues are found."""

import json
from dataclasses import replace

import pytest

from cloud_mirror.wire.calls import Reply
from cloud_mirror.wire.services import connect, find_queues
from cloud_mirror.wire.sqs import SqsQueue
from tests.wire.exchange import reply
from tests.wire.pools import BROKEN, POLICY, POOL, QUEUE, SERVICES, URL, Script

TWO = replace(POLICY, pools=(POOL, replace(POOL, region="eu-west-1", bucket="other")))
NONE = reply(400, json.dumps({"__type": "com.amazonaws.sqs#QueueDoesNotExist"}))


def found(url: str) -> Reply:
    return reply(200, json.dumps({"QueueUrl": url}))


def test_the_pools_that_are_named_are_connected() -> None:
    queue = SqsQueue(QUEUE)
    assert list(connect(TWO, None, queue)) == ["s3_us-west-1", "s3_eu-west-1"]
    assert list(connect(TWO, ("s3_eu-west-1",), queue)) == ["s3_eu-west-1"]
    assert connect(TWO, (), queue) == {}
    made = connect(TWO, None, queue)["s3_eu-west-1"]
    assert (made.pool, made.policy, made.queue_url, made.dead_url) == (TWO.pools[1], TWO, "", "")
    assert made.manager.location(URL, "0").startswith("http://127.0.0.1:1/other/")


def test_a_pool_that_no_store_takes_is_refused() -> None:
    wrong = replace(POLICY, pools=(replace(POOL, service="tape"),))
    with pytest.raises(ValueError, match="tape"):
        connect(wrong, None, SqsQueue(QUEUE))


def test_queues_are_found_by_their_names() -> None:
    script = Script(found("http://q/1"), found("http://q/2"))
    connected = script.run(find_queues(replace(SERVICES, queue_url="", dead_url="")))
    assert connected == replace(SERVICES, queue_url="http://q/1", dead_url="http://q/2")
    assert script.said == ["GetQueueUrl", "GetQueueUrl"]


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ([NONE], "there is no queue cloud-mirror-s3_us-west-1: run `cloud-mirror setup`"),
        ([found("u"), NONE], "there is no queue cloud-mirror-s3_us-west-1-dead: run `cloud-mirror setup`"),
        ([BROKEN, BROKEN], "queue cloud-mirror-s3_us-west-1 cannot be asked for: broken: reset"),
    ],
)
def test_a_queue_that_is_not_found_is_named(replies: list[Reply], why: str) -> None:
    assert Script(*replies).run(find_queues(SERVICES)) == why
