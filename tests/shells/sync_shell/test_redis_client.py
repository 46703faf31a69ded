"""What is the threaded client's own: a wait that is called off ends, and leaves nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from cloud_mirror.policy import RedisPolicy
from cloud_mirror_sync.redis_client import Notices
from cloud_mirror_sync.stop import Stop
from tests.shells.drivers import PATIENCE_S
from tests.shells.raw_server import until


def test_a_wait_that_is_called_off_leaves_nothing() -> None:
    notices, stop = Notices(RedisPolicy(), ("tests:sync",)), Stop()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(notices.wait, "mine", notices.sequence, 2 * PATIENCE_S, stop)
        until(lambda: list(notices._waiting) == ["mine"])
        stop.set()
        waiting.result(PATIENCE_S)
    assert notices._waiting == {}
