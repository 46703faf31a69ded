"""When the bytes of parts are digested, and who does so: while that lasts, other fetches go on."""

import hashlib

import pytest

from cloud_mirror.copy_actions import FetchPart, ReservePart, UploadPart
from cloud_mirror.copy_events import PartFetched
from cloud_mirror.wire.calls import CloseBody, DigestBytes, ReleaseMemory
from cloud_mirror.wire.checksums import crc64nvme
from cloud_mirror.wire.procedures.copy import perform
from tests.wire.carrying import RANGED, STREAM, Origin, begun, drive_one, opened, part_of
from tests.wire.exchange import reply
from tests.wire.pools import SERVICES

STORED = reply(200, etag='"e"')
BODY = b"abcdefghijkl"
LENGTH = len(BODY)
SHA256 = hashlib.sha256(BODY).hexdigest()


def test_what_is_stored_before_its_turn_is_given_back_with_it() -> None:
    origin = Origin(
        opened(LENGTH, *RANGED),
        part_of(3, 8, 11, LENGTH),
        STORED,
        part_of(2, 4, 7, LENGTH),
        STORED,
        pieces=[b"abcd"],
        bodies={3: [b"ijkl"], 2: [b"efgh"]},
    )
    cargo = begun(origin)
    cargo.lease = None
    for number in (1, 2, 3):
        drive_one(origin, cargo, ReservePart(number, 4))
    for number in (3, 2):
        drive_one(origin, cargo, FetchPart(number, 4, 4 * number - 4))
        drive_one(origin, cargo, UploadPart("e1", "u1", number))
    assert origin.held_bytes == 12
    assert isinstance(drive_one(origin, cargo, FetchPart(1, 4, 0)), PartFetched)
    assert origin.memory[3:] == [ReleaseMemory("receipt", 8)]


def test_whoever_is_at_the_digests_when_all_has_come_digests_the_rest_and_tells_the_end() -> None:
    origin = Origin(opened(LENGTH, *RANGED), pieces=[b"abcd", b"efghijkl"])
    cargo = begun(origin)
    first = perform(SERVICES, cargo, FetchPart(1, 4, 0))
    call = next(first)
    while not (isinstance(call, DigestBytes) and call.digests == cargo.digests):
        call = first.send(origin.perform(call))
    assert drive_one(origin, cargo, FetchPart(2, 8, 4)) == PartFetched(2, 8, LENGTH, ended=False, sha256="")
    call = first.send(call.carry_out())
    assert isinstance(call, DigestBytes)
    assert call.data == b"efghijkl"
    with pytest.raises(StopIteration) as end:
        first.send(call.carry_out())
    assert end.value.value == PartFetched(1, 4, LENGTH, ended=True, sha256=SHA256)


def test_while_a_streamed_part_gets_its_checksum_the_stream_is_its_own_and_the_whole_is_not_judged() -> None:
    origin = Origin(opened(LENGTH, *RANGED), part_of(2, 4, 11, LENGTH), pieces=[b"abcd"], bodies={2: [b"efghijkl"]})
    cargo = begun(origin)
    first = perform(SERVICES, cargo, FetchPart(1, 4, 0))
    call = next(first)
    while not isinstance(call, DigestBytes):
        call = first.send(origin.perform(call))
    assert call.data == b"abcd"
    assert call.digests == (cargo.parts[1].crc,)
    assert drive_one(origin, cargo, FetchPart(2, 8, 4)) == PartFetched(2, 8, 8, ended=False, sha256="")
    assert CloseBody(STREAM) not in origin.calls
    while not isinstance(call, PartFetched):
        try:
            call = first.send(origin.perform(call))
        except StopIteration as end:
            call = end.value
    assert call == PartFetched(1, 4, LENGTH, ended=True, sha256=SHA256)
    assert cargo.parts[1].crc64nvme == crc64nvme(b"abcd")
