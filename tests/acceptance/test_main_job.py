"""The main job: ask, copy, redirect; ask again, and be redirected at once."""

import hashlib

from tests.acceptance.conftest import MakeFleet
from tests.fleet import request
from tests.servers import Origin


def test_the_first_request_copies_and_the_second_is_a_hit(make_fleet: MakeFleet, origin: Origin) -> None:
    url = origin.put("/small.bin", b"a small object")
    fleet = make_fleet()
    front, _ = fleet.start("serve"), fleet.start("work")
    first = front.ask(url)
    assert (first.status, first.outcome, first.reason) == (302, "copied", "just-copied")
    assert request(first.location).body == b"a small object"
    second = front.ask(url)
    assert (second.status, second.outcome, second.location) == (302, "hit", first.location)
    assert origin.count("GET", "/small.bin") == 1


def test_an_object_of_several_parts_arrives_byte_for_byte(make_fleet: MakeFleet, origin: Origin) -> None:
    url = origin.put("/large.bin", size=23 * 1024 * 1024 + 1, seed=7)
    fleet = make_fleet()
    front, _ = fleet.start("serve"), fleet.start("work")
    reply = front.ask(url)
    assert reply.outcome == "copied"
    assert hashlib.sha256(request(reply.location).body).hexdigest() == origin.sha256("/large.bin")
    assert fleet.uploads() == []
