"""A copy's bytes: cut into parts, digested as they come, forgotten once they are stored."""

import base64
import gc
import hashlib
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.copy_events import OriginOpened
from cloud_mirror.origin import Headers
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason
from cloud_mirror.wire.cargo import Cargo, Part
from cloud_mirror.wire.checksums import combine_parts, crc32c, crc64nvme
from cloud_mirror.wire.storage import BucketObject, PartReceipt
from tests.wire.carrying import check, digest_one, end_part

URL = "https://a.example/some/file.bin"
BODY = b"the body"


def loaded(headers: Headers = (), length: int | None = None, url: str = URL, etag: str = "") -> Cargo:
    cargo = Cargo(url, "receipt")
    cargo.load(1, headers, OriginOpened(length, etag, delimited=True))
    return cargo


def read_parts(cargo: Cargo, pieces: list[bytes], part_bytes: int) -> list[Part]:
    """The parts that come of a body, read as a shell and the copy procedure read it."""
    parts: list[Part] = []
    left = list(pieces)
    ended = False
    while not ended:
        part = cargo.begin_part(len(parts) + 1, part_bytes)
        while not part.full and not ended:
            if left:
                part.feed(left.pop(0))
            else:
                ended = True
        end_part(cargo, part)
        parts.append(part)
    return parts


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@given(st.binary(max_size=200), st.lists(st.integers(0, 60), max_size=20), st.integers(1, 70))
def test_the_parts_are_the_same_wherever_the_pieces_end(body: bytes, cuts: list[int], part_bytes: int) -> None:
    pieces, start = [], 0
    for size in cuts:
        pieces.append(body[start : start + size])
        start += size
    pieces.append(body[start:])
    cargo = loaded((("digest", f"SHA-256={b64(hashlib.sha256(body).digest())}"),), len(body))
    parts = read_parts(cargo, pieces, part_bytes)
    expected = [body[at : at + part_bytes] for at in range(0, len(body), part_bytes)] or [b""]
    kept = [cargo.parts[number] for number in sorted(cargo.parts)]
    assert [part.data for part in kept] == expected
    assert [part.number for part in kept] == list(range(1, len(expected) + 1))
    assert [(part.size, part.crc64nvme) for part in kept] == [(len(data), crc64nvme(data)) for data in expected]
    assert all(part.rest == b"" for part in parts)
    assert len(parts) - len(kept) == (1 if body and len(body) % part_bytes == 0 else 0)
    assert cargo.total_bytes == len(body)
    assert cargo.sha256 == hashlib.sha256(body).hexdigest()
    assert combine_parts((part.crc64nvme, part.size) for part in kept) == crc64nvme(body)
    assert cargo.fault() is None


def test_one_piece_may_hold_many_parts() -> None:
    piece = bytes(range(256)) * 40
    cargo = loaded()
    parts = read_parts(cargo, [piece], 5)
    assert len(parts) == len(piece) // 5 + 1
    assert b"".join(cargo.parts[number].data for number in sorted(cargo.parts)) == piece
    assert cargo.sha256 == hashlib.sha256(piece).hexdigest()


def test_a_part_that_is_fed_when_it_is_full_loses_nothing() -> None:
    part = Part(1, 3)
    assert not part.feed(b"a")
    assert part.feed(b"bcd")
    assert part.feed(b"ef")
    assert (part.size, part.rest) == (3, b"def")


def test_a_part_is_never_in_memory_twice() -> None:
    piece = bytes(256 * 1024)
    cargo = loaded()
    part = cargo.begin_part(1, 16 * MIB)
    tracemalloc.start()
    try:
        while not part.feed(piece):
            pass
        end_part(cargo, part)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cargo.parts[1].data) == 16 * MIB
    assert most < 4 * MIB  # its one place is mapped, and not counted here: a second one would be


def test_the_bytes_of_a_part_that_is_stored_are_forgotten() -> None:
    cargo = loaded()
    read_parts(cargo, [bytes(7 * MIB), b"x"], 5 * MIB)
    for number in (1, 2):
        cargo.stow_part(number, "etag")
    gc.collect()
    large = [each for each in gc.get_objects() if isinstance(each, Part) and (each.data or each.rest)]
    assert large == []
    assert list(cargo.receipts.values()) == [
        PartReceipt(1, "etag", 5 * MIB, crc64nvme(bytes(5 * MIB))),
        PartReceipt(2, "etag", 2 * MIB + 1, crc64nvme(bytes(2 * MIB) + b"x")),
    ]


def test_a_part_holds_nothing_of_the_one_whose_memory_it_has() -> None:
    cargo = loaded()
    [first] = read_parts(cargo, [b"a" * 2 * MIB], 2 * MIB)[:1]
    cargo.stow_part(1, "etag")
    second = Part(2, 2 * MIB)
    second.feed(b"b" * MIB)
    second.seal()
    assert second.data == b"b" * MIB
    assert hash(second.data) == hash(b"b" * MIB), "nobody can change it, and a request with it tells itself from others"
    assert first.data == b""


def test_progress_counts_what_the_store_has() -> None:
    cargo = loaded(length=12)
    read_parts(cargo, [b"x" * 12], 5)
    assert cargo.progress() == (("bytes_done", "0"), ("bytes_total", "12"))
    cargo.stow_part(1, "etag")
    cargo.stow_part(3, "etag")
    assert cargo.progress() == (("bytes_done", "7"), ("bytes_total", "12"))
    cargo.forget_part(2)
    cargo.forget_part(2)
    assert dict(cargo.progress())["bytes_done"] == "7"
    assert loaded().progress() == (("bytes_done", "0"),)


def test_a_body_that_is_opened_again_begins_anew() -> None:
    cargo = loaded((("content-md5", b64(bytes(16))),), 3)
    cargo.source, cargo.noted, cargo.closing = BucketObject("b", "k", '"e"'), True, True
    cargo.adopt([PartReceipt(2, "etag", 5, crc64nvme(b"abcde"))])
    read_parts(cargo, [b"wrong and too long"], 5)
    assert cargo.fault() is Reason.LENGTH_MISMATCH
    cargo.load(2, (), OriginOpened(2, '"e"', delimited=True))
    assert (cargo.open_stream, cargo.parts, cargo.receipts, cargo.total_bytes) == (2, {}, {}, 0)
    assert (cargo.noted, cargo.closing, cargo.adopted_bytes) == (False, False, 0)
    with pytest.raises(AssertionError, match="only from a bucket"):
        _ = cargo.bucket_object
    read_parts(cargo, [b"ab"], 5)
    assert cargo.fault() is None
    assert cargo.sha256 == hashlib.sha256(b"ab").hexdigest()


def test_there_is_no_stream_and_no_bucket_before_there_is_one() -> None:
    with pytest.raises(AssertionError, match="the stream is open"):
        _ = Cargo(URL, "receipt").open_stream
    with pytest.raises(AssertionError, match="only from a bucket"):
        _ = loaded().bucket_object
    assert not Cargo(URL, "receipt").streams(1)


def digests_of(body: bytes) -> Headers:
    sha512, md5 = (b64(hashlib.new(name, body).digest()) for name in ("sha512", "md5"))
    return (("repr-digest", f"sha-512=:{sha512}:"), ("x-goog-hash", f"crc32c={crc32c(body)},md5={md5}"))


@given(st.binary(min_size=1, max_size=120), st.integers(1, 30), st.integers(0, 2**32))
def test_the_digests_take_the_parts_in_their_order_whenever_they_come(body: bytes, part_bytes: int, seed: int) -> None:
    """Parts begin, grow, end and are stored in any order, and digested late; memory comes back once for each, then."""
    chance = random.Random(seed)
    cargo = loaded(digests_of(body), len(body))
    bytes_of = {at // part_bytes + 1: body[at : at + part_bytes] for at in range(0, len(body), part_bytes)}
    left, sealed, stored, freed, digested = dict(bytes_of), set[int](), set[int](), 0, 0
    while len(stored) < len(bytes_of) or not cargo.digested:
        if cargo.part_in_turn is not None and chance.random() < 0.5:
            assert not cargo.digested
            digested += digest_one(cargo)
        unfinished, unstored = sorted(bytes_of.keys() - sealed), sorted(sealed - stored)
        if unfinished and not (unstored and chance.random() < 0.3):
            number = chance.choice(unfinished)
            if number not in cargo.parts:
                cargo.hold(number, part_bytes)
            part = cargo.begin_part(number, part_bytes, to_its_end=True)
            size = chance.randint(0, len(left[number]))
            part.feed(left[number][:size])
            left[number] = left[number][size:]
            if not left[number]:
                check(part)
                cargo.end_part(part, streamed=False)
                sealed.add(number)
        elif unstored:
            number = chance.choice(unstored)
            assert cargo.parts[number].data == bytes_of[number], "it is held until it is stored, whoever has seen it"
            cargo.stow_part(number, f"e{number}")
            stored.add(number)
        freed += cargo.freed_bytes
        cargo.freed_bytes = 0
        assert freed == part_bytes * sum(number <= digested for number in stored)
        assert cargo.stored_bytes == sum(len(bytes_of[number]) for number in stored)
    assert cargo.whole
    assert cargo.fault() is None
    assert cargo.sha256 == hashlib.sha256(body).hexdigest()
    assert cargo.crc64nvme == crc64nvme(body)
    assert all(part.data == b"" for part in cargo.parts.values())
    cargo.forget_parts()
    assert cargo.freed_bytes == 0, "all of it was given back already"


def test_what_the_stream_had_no_room_for_waits_while_other_parts_come_by_themselves() -> None:
    cargo = loaded(length=12)
    first = cargo.begin_part(1, 4)
    first.feed(b"abcdef")
    end_part(cargo, first)
    third = cargo.begin_part(3, 4, to_its_end=True)
    third.feed(b"ijkl")
    end_part(cargo, third, streamed=False)
    assert cargo.streams(2)
    second = cargo.begin_part(2, 4)
    assert second.size == 2
    second.feed(b"ghijkl")
    end_part(cargo, second)
    assert [cargo.parts[number].data for number in (1, 2, 3)] == [b"abcd", b"efgh", b"ijkl"]
    assert cargo.sha256 == hashlib.sha256(b"abcdefghijkl").hexdigest()
    assert cargo.stream_is_overtaken


def test_a_part_that_was_begun_by_itself_is_never_gone_on_with_out_of_the_stream() -> None:
    cargo = loaded(length=12)
    assert (cargo.streams(1), cargo.streams(2), cargo.stream_is_overtaken) == (True, False, False)
    cargo.begin_part(2, 4, to_its_end=True).feed(b"ef")
    first = cargo.begin_part(1, 4)
    cargo.streaming = True
    assert not cargo.stream_is_overtaken, "it is being read"
    first.feed(b"abcd")
    cargo.streaming = False
    end_part(cargo, first)
    assert not cargo.streams(2)
    assert cargo.stream_is_overtaken


def test_the_end_of_what_is_read_to_its_end_is_seen() -> None:
    cargo = loaded()
    part = cargo.begin_part(1, 3, to_its_end=True)
    assert not part.feed(b"abc")
    assert part.feed(b"de")
    assert (part.size, part.rest) == (4, b"e")


def test_parts_that_will_not_be_sent_give_their_memory_back() -> None:
    cargo = loaded(length=20)
    for number in (1, 2, 3):
        cargo.hold(number, 5)
        cargo.begin_part(number, 5)
    cargo.forget_part(2)
    assert (cargo.freed_bytes, list(cargo.parts)) == (5, [1, 3])
    cargo.hold(4, 5)
    assert cargo.beginnings == 0
    cargo.forget_parts()
    assert (cargo.freed_bytes, cargo.parts, cargo.beginnings) == (20, {}, 1)


def test_of_an_empty_end_nothing_is_held() -> None:
    cargo = loaded()
    for number, body in ((1, b"abc"), (2, b"")):
        cargo.hold(number, 3)
        part = cargo.begin_part(number, 3)
        part.feed(body)
        end_part(cargo, part)
    assert (cargo.freed_bytes, list(cargo.parts)) == (3, [1])


def receipt_of(number: int, body: bytes) -> PartReceipt:
    return PartReceipt(number, f"e{number}", len(body), crc64nvme(body))


@given(st.binary(min_size=1, max_size=60), st.integers(1, 20), st.sets(st.integers(1, 60)))
def test_adopted_parts_and_own_ones_make_the_whole(body: bytes, part_bytes: int, adopted: set[int]) -> None:
    bytes_of = {at // part_bytes + 1: body[at : at + part_bytes] for at in range(0, len(body), part_bytes)}
    taken = [receipt_of(number, part) for number, part in bytes_of.items() if number in adopted]
    cargo = loaded((("x-amz-checksum-crc64nvme", crc64nvme(body)),), len(body))
    assert cargo.combinable
    cargo.adopt(taken)
    assert cargo.adopted_bytes == cargo.total_bytes == cargo.stored_bytes == sum(part.size for part in taken)
    assert cargo.fetched_bytes == 0
    for number, data in bytes_of.items():
        if number not in cargo.receipts:
            cargo.hold(number, part_bytes)
            part = cargo.begin_part(number, part_bytes)
            part.feed(data)
            end_part(cargo, part)
    assert cargo.whole
    assert cargo.fetched_bytes == len(body) - cargo.adopted_bytes
    assert cargo.fault() is None
    assert cargo.sha256 == ("" if taken else hashlib.sha256(body).hexdigest())
    for number in cargo.parts:
        cargo.stow_part(number, f"e{number}")
    assert cargo.freed_bytes == part_bytes * (len(bytes_of) - len(taken)), "no digest makes it wait"
    assert cargo.crc64nvme == crc64nvme(body)
    told = {"bytes_done": str(len(body)), "bytes_total": str(len(body))}
    assert dict(cargo.progress()) == (told | {"bytes_adopted": str(cargo.adopted_bytes)} if taken else told)


def test_the_origins_checksum_is_held_against_adopted_parts_too() -> None:
    cargo = loaded((("x-amz-checksum-crc64nvme", crc64nvme(b"abcdef")),), 6)
    cargo.adopt([receipt_of(1, b"abX"), receipt_of(2, b"def")])
    assert cargo.fault() is Reason.CHECKSUM_MISMATCH
    cargo.adopt(())
    assert (cargo.receipts, cargo.total_bytes, cargo.adopted_bytes) == ({}, 0, 0)
    assert cargo.sha256


def test_digests_that_do_not_come_of_the_parts_own_need_all_bytes() -> None:
    assert loaded().combinable
    assert not loaded(digests_of(b"x")).combinable
    both = (("x-amz-checksum-crc64nvme", crc64nvme(b"x")), *digests_of(b"x"))
    assert not loaded(both).combinable
    assert loaded((("digest", "adler32=03da0195"),)).combinable, "what is never compared hinders nothing"


def test_what_the_store_copies_has_the_checksum_that_its_origin_gives() -> None:
    for headers, crc in (((), ""), ((("x-amz-checksum-crc64nvme", crc64nvme(BODY)),), crc64nvme(BODY))):
        whole = loaded(headers, len(BODY))
        whole.assume_whole()
        in_parts = loaded(headers, len(BODY))
        for number, body in ((2, BODY[5:]), (1, BODY[:5])):
            in_parts.note_copied(PartReceipt(number, f"e{number}", len(body)))
        for cargo in (whole, in_parts):
            assert (cargo.total_bytes, cargo.stored_bytes, cargo.crc64nvme) == (len(BODY), len(BODY), crc)
            assert cargo.fetched_bytes == 0
    unknown = loaded()
    unknown.assume_whole()
    assert unknown.total_bytes == 0


@pytest.mark.parametrize(
    ("length", "fault"), [(None, None), (8, None), (7, Reason.LENGTH_MISMATCH), (9, Reason.LENGTH_MISMATCH)]
)
def test_the_length_that_the_origin_said_is_kept_to(length: int | None, fault: Reason | None) -> None:
    cargo = loaded(length=length)
    read_parts(cargo, [BODY], 5)
    assert cargo.fault() is fault
