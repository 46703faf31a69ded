"""A back end with nothing to do asks the queue next to nothing, and is there as soon as there is something."""

import time

from tests.acceptance.conftest import MakeFleet
from tests.servers import FaultProxy, Origin
from tests.servers.processes import wait_until
from tests.servers.streams import Seen

QUEUES = 2
"""A pool has a queue of jobs and one of dead letters."""

LONG_POLL_S = 20.0
WAKE_S = 2.0
"""Many times what it takes from a client's question to its answer, for a machine that is busy."""


def receives(proxy: FaultProxy) -> list[Seen]:
    """The polls that came, in order."""
    return [seen for seen in proxy.requests if seen.head.header("x-amz-target").endswith(".ReceiveMessage")]


def test_an_idle_back_end_asks_each_queue_once_in_twenty_seconds(
    make_fleet: MakeFleet, origin: Origin, queue_proxy: FaultProxy
) -> None:
    fleet = make_fleet(queue_url=queue_proxy.url)
    front, back = fleet.start("serve"), fleet.start("work")
    wait_until(lambda: len(receives(queue_proxy)) == QUEUES, 30, lambda: "the back end waits for no jobs")
    first = receives(queue_proxy)
    queue_proxy.forget()
    wait_until(lambda: len(receives(queue_proxy)) == QUEUES, 60, lambda: "the back end has ceased to ask")
    second = receives(queue_proxy)
    assert second[0].at_s - first[-1].at_s > LONG_POLL_S - 1
    assert len(queue_proxy.requests) == QUEUES, "nothing but polls"

    url = origin.put("/a.bin", b"a")
    begun = time.monotonic()
    assert front.ask(url).outcome == "copied"
    assert time.monotonic() - begun < WAKE_S, "a job ends the poll that is under way"
    assert back.metric("cloud_mirror_jobs_total", event="received") == 1
