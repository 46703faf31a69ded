"""Large objects from end to end on real servers: by ranges, after breaks, after a worker's death, within the store."""

import functools
import hashlib
import re
import secrets
from dataclasses import replace

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import ToCopy, ToOrigin
from cloud_mirror.copy_table import State as CopyState
from cloud_mirror.policy import MIB
from cloud_mirror.wire.checksums import crc64nvme
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.storage import ObjectAttributes
from tests.servers import FaultProxy, Origin
from tests.wire.exchange import send
from tests.wire.mirrors import Mirror

PART = 5 * MIB
SIZE = 3 * PART + 345
FIRST, SECOND, THIRD, LAST = ((at, min(at + PART, SIZE) - 1) for at in range(0, SIZE, PART))


def put(origin: Origin, path: str = "/a", size: int = SIZE, **how: int | str | None) -> str:
    return origin.put(path, size=size, seed=7, etag='"v1"', accept_ranges=True, **how)  # type: ignore[arg-type]  # by name


def asked(origin: Origin) -> list[tuple[int, int] | None]:
    """The ranges of all GETs, each under the validator of the first answer; None for one without a range."""
    spans: list[tuple[int, int] | None] = []
    for seen in origin.requests:
        if seen.method == "GET":
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", seen.head.header("range"))
            assert seen.head.header("if-match") == ('"v1"' if span else "")
            spans.append((int(span[1]), int(span[2])) if span else None)
    return spans


def check(mirror: Mirror, origin: Origin, url: str, path: str = "/a") -> None:
    """A client gets the object as the origin has it, and the store knows its checksum."""
    response = mirror.shell.redirect(url)
    assert isinstance(response, ToCopy), response
    reply = mirror.fetch(url, response)
    assert hashlib.sha256(reply.body).hexdigest() == origin.sha256(path)
    assert mirror.worked[-1].fault is None
    assert mirror.stored() == [keys.object_key(url, "0")]
    provider = mirror.services.provider
    found = mirror.ask_store(provider.head_request(keys.object_key(url, "0")), provider.read_head)
    assert found is not None
    assert found.crc64nvme == crc64nvme(reply.body)


def fields(mirror: Mirror, url: str) -> dict[str, str]:
    return mirror.cache.fields(keys.entry_key("s3_us-west-1", url))


def note(mirror: Mirror, url: str) -> dict[str, str]:
    return mirror.cache.fields(keys.upload_key("s3_us-west-1", url))


def test_parts_come_by_their_ranges_and_out_of_turn(mirror: Mirror, origin: Origin, store_proxy: FaultProxy) -> None:
    url = put(origin)
    check(mirror, origin, url)
    assert asked(origin) == [None, SECOND, THIRD, LAST]
    sent = [seen.target[-1] for seen in store_proxy.requests if seen.method == "PUT" and "partNumber" in seen.target]
    assert sorted(sent) == ["1", "2", "3", "4"]
    assert sent[0] != "1"
    assert fields(mirror, url)["sha256"] == origin.sha256("/a")
    assert note(mirror, url) == {}


@pytest.mark.parametrize("after", [1, 2 * MIB, PART - 1])
def test_a_part_that_breaks_off_goes_on_at_that_very_byte(mirror: Mirror, origin: Origin, after: int) -> None:
    url = put(origin, break_after_bytes=after, break_times=3)
    check(mirror, origin, url)
    spans = asked(origin)
    assert len(spans) == 7
    for first, last in (FIRST, SECOND, THIRD):
        assert {(first, last), (first + after, last)} <= {*spans, FIRST}
    assert fields(mirror, url)["sha256"] == origin.sha256("/a")


def test_an_origin_that_heeds_no_ranges_is_read_in_one_stream(mirror: Mirror, origin: Origin) -> None:
    url = origin.put("/a", size=SIZE, etag='"v1"')
    check(mirror, origin, url)
    assert asked(origin) == [None]


def dying(parts: int) -> functools.partial[bool]:
    return functools.partial(_has_stored, parts)


def _has_stored(parts: int, state: CopyState) -> bool:
    return bool(state.upload_id) and (state.fetched.bits & ~state.uploading.bits).bit_count() >= parts


def left_by_the_dead(mirror: Mirror, origin: Origin, url: str, parts: int) -> CopyState:
    """A worker dies over the copy once so many parts are stored, and its lease runs out."""
    mirror.shell.meanwhile = functools.partial(mirror.work, dying(parts))
    assert isinstance(mirror.shell.redirect(url, max_wait_s=1.0), ToOrigin)
    mirror.shell.meanwhile = mirror.work
    mirror.cache.client.delete(keys.entry_key("s3_us-west-1", url))
    origin.forget()
    (dead,) = mirror.worked
    return dead


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_what_a_dead_worker_has_stored_is_not_fetched_again(mirror: Mirror, origin: Origin, parts: int) -> None:
    url = put(origin)
    dead = left_by_the_dead(mirror, origin, url, parts)
    told = note(mirror, url)
    assert (told["upload_id"], told["copy_id"]) == (dead.upload_id, dead.copy_id)
    provider = mirror.services.provider
    request = provider.list_parts_request(keys.object_key(url, "0"), dead.upload_id)
    there = {part.number for part in mirror.ask_store(request, provider.read_list_parts).parts}
    assert len(there) >= parts
    check(mirror, origin, url)
    missing = {span for number, span in enumerate((FIRST, SECOND, THIRD, LAST), 1) if number not in there}
    assert set(asked(origin)) == {None, *missing} - {FIRST}, "the object is opened, and gives its first part"
    assert len(asked(origin)) == len(set(asked(origin)))
    assert mirror.worked[-1].upload_id == ""
    assert fields(mirror, url)["copy_id"] == dead.copy_id
    assert "sha256" not in fields(mirror, url), "nobody has seen all bytes"
    assert note(mirror, url) == {}


def test_an_upload_of_which_only_completing_was_left_is_completed(mirror: Mirror, origin: Origin) -> None:
    url = put(origin)
    left_by_the_dead(mirror, origin, url, 4)
    check(mirror, origin, url)
    assert asked(origin) == [None]


def test_nothing_is_taken_over_of_another_version(mirror: Mirror, origin: Origin) -> None:
    url = put(origin)
    dead = left_by_the_dead(mirror, origin, url, 2)
    origin.put("/a", size=SIZE, seed=8, etag='"v2"', accept_ranges=True)
    response = mirror.shell.redirect(url)
    assert hashlib.sha256(mirror.fetch(url, response).body).hexdigest() == origin.sha256("/a")
    assert fields(mirror, url)["copy_id"] != dead.copy_id
    assert mirror.uploads == 1, "what the dead worker left is the store's lifecycle rule's"


def test_an_upload_that_is_gone_is_not_gone_on_with(mirror: Mirror, origin: Origin) -> None:
    url = put(origin)
    dead = left_by_the_dead(mirror, origin, url, 2)
    provider = mirror.services.provider
    request = provider.abort_upload_request(keys.object_key(url, "0"), dead.upload_id)
    mirror.ask_store(request, provider.read_abort_upload)
    check(mirror, origin, url)
    assert asked(origin) == [None, SECOND, THIRD, LAST]
    assert fields(mirror, url)["sha256"] == origin.sha256("/a")


def source(mirror: Mirror, body: bytes) -> str:
    """The URL of an object in another public bucket of the same store."""
    pool = replace(mirror.services.pool, bucket=f"source-{secrets.token_hex(8)}")
    other = S3Provider(pool)
    for step in other.setup_steps():
        mirror.ask_store(step.request, functools.partial(other.read_setup, step))
    own = ObjectAttributes("text/source", content_language="de", metadata=(("owner", "somebody"),))
    mirror.ask_store(other.put_request("00/a file", body, own, crc64nvme(body)), other.read_put)
    return other.location("00/a file")


def bytes_put(store_proxy: FaultProxy) -> int:
    return sum(int(seen.head.header("content-length") or 0) for seen in store_proxy.requests if seen.method == "PUT")


@pytest.mark.parametrize("copied_bytes", [SIZE, PART])
def test_the_store_copies_what_it_has(mirror: Mirror, store_proxy: FaultProxy, copied_bytes: int) -> None:
    body = secrets.token_bytes(SIZE)
    url = source(mirror, body)
    rules = mirror.services.manager.copy_rules
    mirror.services.manager.copy_rules = replace(rules, plan=replace(rules.plan, copied_bytes=copied_bytes))
    store_proxy.forget()
    response = mirror.shell.redirect(url)
    assert isinstance(response, ToCopy), response
    assert mirror.worked[-1].fault is None
    assert bytes_put(store_proxy) == 0, "no byte goes through the worker"
    parts = [seen for seen in store_proxy.requests if seen.head.header("x-amz-copy-source-range")]
    assert len(parts) == (0 if copied_bytes == SIZE else 4)
    reply = send(mirror.services.provider.get_request(keys.object_key(url, response.epoch)))
    assert reply.body == body
    assert (reply.header("content-type"), reply.header("content-language")) == ("text/source", "de")
    assert reply.header("x-amz-meta-owner") is None
    assert reply.header("x-amz-meta-copy-id") == fields(mirror, url)["copy_id"]
    assert mirror.stored() == [keys.object_key(url, "0")]


def test_what_the_store_does_not_copy_goes_through_the_worker(mirror: Mirror, store_proxy: FaultProxy) -> None:
    body = secrets.token_bytes(SIZE)
    url = source(mirror, body)
    store_proxy.answer(403, "PUT", code="AccessDenied", when=lambda head: bool(head.header("x-amz-copy-source")))
    response = mirror.shell.redirect(url)
    assert mirror.fetch(url, response).body == body
    assert fields(mirror, url)["sha256"] == hashlib.sha256(body).hexdigest()
