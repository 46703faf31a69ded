"""The demo's origin: what it serves in ranges is what it serves whole, and it counts what it is asked for."""

import hashlib
import http.client
import threading
from collections.abc import Iterator

import pytest

from cloud_mirror.policy import MIB
from cloud_mirror_command.demo_parts import SAMPLES, Sample, SampleOrigin


@pytest.fixture
def origin() -> Iterator[SampleOrigin]:
    server = SampleOrigin()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(origin: SampleOrigin, method: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", origin.server_address[1], timeout=30)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_the_samples_are_a_small_a_20_and_a_300_mib_object() -> None:
    assert [sample.size for sample in SAMPLES] == [1_000, 20 * MIB, 300 * MIB]


def test_no_two_mib_of_a_sample_are_the_same_and_any_range_is_a_part_of_the_whole() -> None:
    sample = Sample("a", 3 * MIB + 5)
    whole = b"".join(sample.pieces(0, sample.size))
    assert len(whole) == sample.size
    assert len({whole[number * MIB : (number + 1) * MIB] for number in range(3)}) == 3
    assert sample.sha256() == hashlib.sha256(whole).hexdigest()
    for start, stop in ((0, 1), (7, 9), (MIB - 1, 2 * MIB + 1), (sample.size - 1, sample.size), (4, 4)):
        assert b"".join(sample.pieces(start, stop)) == whole[start:stop]


def test_it_serves_whole_objects_heads_and_ranges(origin: SampleOrigin) -> None:
    small = SAMPLES[0]
    whole, body = ask(origin, "GET", "/small.bin")
    assert (whole.status, hashlib.sha256(body).hexdigest()) == (200, small.sha256())
    head, empty = ask(origin, "HEAD", "/small.bin")
    assert (head.status, head.headers["Content-Length"], empty) == (200, "1000", b"")
    part, piece = ask(origin, "GET", "/small.bin", Range="bytes=10-19")
    assert (part.status, part.headers["Content-Range"], piece) == (206, "bytes 10-19/1000", body[10:20])
    rest, tail = ask(origin, "GET", "/small.bin", Range="bytes=990-")
    assert (rest.status, rest.headers["Content-Range"], tail) == (206, "bytes 990-999/1000", body[990:])
    assert len({answer.headers["ETag"] for answer in (whole, head, part, rest)}) == 1


def test_it_refuses_what_it_has_not(origin: SampleOrigin) -> None:
    assert ask(origin, "GET", "/nothing")[0].status == 404
    assert ask(origin, "GET", "/small.bin", Range="bytes=1000-")[0].status == 416
    assert origin.requests == [("GET", "/nothing"), ("GET", "/small.bin")]
