"""However many ask at once, one copy is made."""

import pytest

from tests.acceptance.conftest import MakeFleet
from tests.crowd import Crowd
from tests.fleet import request
from tests.servers import FaultProxy, Origin

ROUNDS = 3


@pytest.mark.parametrize("head_delay_s", [0.0, 0.02, 0.1])
def test_two_hundred_requests_over_two_front_ends_make_one_copy(
    make_fleet: MakeFleet, origin: Origin, queue_proxy: FaultProxy, head_delay_s: float
) -> None:
    fleet = make_fleet(queue_url=queue_proxy.url)
    crowd = Crowd(fleet, [fleet.start("serve"), fleet.start("serve")], fleet.start("work"), origin, queue_proxy)
    for number in range(ROUNDS):
        path = f"/new-{number}.bin"
        tally = crowd.ask(path, head_delay_s)
        assert (tally.gets, tally.jobs, tally.heads) == (1, 1, 1)
        assert {reply.status for reply in tally.replies} == {302}
        assert {reply.outcome for reply in tally.replies} <= {"copied", "hit"}  # who comes late finds it made
        (location,) = {reply.location for reply in tally.replies}
        assert request(location).body == path.encode()
