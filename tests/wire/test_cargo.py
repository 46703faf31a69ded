"""A copy's bytes: cut into parts, digested as they come, forgotten once they are stored."""

import base64
import gc
import hashlib
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror import keys
from cloud_mirror.events import OriginOpened
from cloud_mirror.origin import Headers
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason
from cloud_mirror.wire.cargo import MAX_METADATA_BYTES, Cargo, Part, attributes_of, promised_digests
from cloud_mirror.wire.checksums import combine_parts, crc32c, crc64nvme

URL = "https://a.example/some/file.bin"
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


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
        cargo.end_part(part)
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
        cargo.end_part(part)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cargo.parts[1].data) == 16 * MIB
    assert most < 20 * MIB


def test_the_bytes_of_a_part_that_is_stored_are_forgotten() -> None:
    cargo = loaded()
    read_parts(cargo, [bytes(7 * MIB), b"x"], 5 * MIB)
    for number in (1, 2):
        cargo.stow_part(number, "etag")
    gc.collect()
    large = [each for each in gc.get_objects() if isinstance(each, Part) and (each.data or each.rest)]
    assert large == []
    assert [(part.size, part.etag) for part in cargo.parts.values()] == [(5 * MIB, "etag"), (2 * MIB + 1, "etag")]


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
    cargo.forget_part(3)
    cargo.forget_part(3)
    assert dict(cargo.progress())["bytes_done"] == "5"
    assert loaded().progress() == (("bytes_done", "0"),)


def test_a_body_that_is_opened_again_begins_anew() -> None:
    cargo = loaded((("content-md5", b64(bytes(16))),), 3)
    read_parts(cargo, [b"wrong and too long"], 5)
    assert cargo.fault() is Reason.LENGTH_MISMATCH
    cargo.load(2, (), OriginOpened(2, '"e"', delimited=True))
    assert (cargo.open_body, cargo.parts, cargo.total_bytes) == (2, {}, 0)
    read_parts(cargo, [b"ab"], 5)
    assert cargo.fault() is None
    assert cargo.sha256 == hashlib.sha256(b"ab").hexdigest()


def test_there_is_no_body_before_one_is_opened() -> None:
    with pytest.raises(AssertionError, match="no body"):
        _ = Cargo(URL, "receipt").open_body


BODY = b"the body"
MD5, SHA256, SHA512 = (hashlib.new(name, BODY).digest() for name in ("md5", "sha256", "sha512"))
SHA1 = hashlib.sha1(BODY, usedforsecurity=False).digest()
GIVEN: list[tuple[Headers, list[str]]] = [
    ((("content-md5", b64(MD5)),), ["md5"]),
    ((("content-md5", f" {b64(MD5)} "),), ["md5"]),
    ((("repr-digest", f"sha-256=:{b64(SHA256)}:, sha-512=:{b64(SHA512)}:"),), ["sha256", "sha512"]),
    ((("content-digest", f"sha-512=:{b64(SHA512)}:"),), ["sha512"]),
    ((("digest", f"SHA-256={b64(SHA256)},MD5={b64(MD5)}"),), ["sha256", "md5"]),
    ((("digest", f"unixsum=30637, sha-256={b64(SHA256)}"),), ["sha256"]),
    ((("x-goog-hash", f"crc32c={crc32c(BODY)}"), ("x-goog-hash", f"md5={b64(MD5)}")), ["crc32c", "md5"]),
    ((("x-goog-hash", f"crc32c={crc32c(BODY)}, md5={b64(MD5)}"),), ["crc32c", "md5"]),
    ((("x-amz-checksum-crc64nvme", crc64nvme(BODY)), ("x-amz-checksum-type", "FULL_OBJECT")), ["crc64nvme"]),
    ((("x-amz-checksum-sha1", b64(SHA1)), ("x-amz-checksum-crc32c", crc32c(BODY))), ["sha1", "crc32c"]),
    ((("x-amz-checksum-sha256", b64(SHA256)),), ["sha256"]),
]


@pytest.mark.parametrize(("headers", "names"), GIVEN)
def test_every_digest_that_is_given_is_held_against_the_body(headers: Headers, names: list[str]) -> None:
    assert [name for name, _ in promised_digests(headers)] == names
    right, wrong = loaded(headers), loaded(headers)
    read_parts(right, [BODY[:3], BODY[3:]], 5)
    read_parts(wrong, [BODY, b"!"], 5)
    assert right.fault() is None
    assert wrong.fault() is Reason.CHECKSUM_MISMATCH


def test_one_wrong_digest_among_right_ones_is_enough() -> None:
    cargo = loaded((("content-md5", b64(MD5)), ("digest", f"sha-256={b64(bytes(32))}")))
    read_parts(cargo, [BODY], 100)
    assert cargo.fault() is Reason.CHECKSUM_MISMATCH


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-md5", ""),
        ("content-md5", MD5.hex()),
        ("content-md5", "not base64!"),
        ("content-md5", b64(SHA256)),
        ("content-md5", "\u00e9\udc80"),
        ("repr-digest", "sha-256"),
        ("repr-digest", "sha-256=:" + SHA256.hex() + ":"),
        ("repr-digest", f"sha-257=:{b64(SHA256)}:"),
        ("repr-digest", "=,==,,=:"),
        ("digest", f"crc32c={int.from_bytes(base64.b64decode(crc32c(BODY))):08x}"),
        ("digest", "adler32=03da0195,type=AAAA"),
        ("x-goog-hash", "crc32c"),
        ("x-amz-checksum-sha256", f"{b64(SHA256)}-3"),
        ("x-amz-checksum-crc32c", f"{crc32c(BODY)}-2"),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-checksum-type", "COMPOSITE"),
        ("x-amz-checksum-", b64(MD5)),
        ("etag", f'"{MD5.hex()}"'),
        ("content-md5x", b64(MD5)),
    ],
)
def test_what_cannot_be_read_is_no_digest(name: str, value: str) -> None:
    assert promised_digests(((name, value),)) == ()


@pytest.mark.parametrize(
    ("coding", "stored", "told"),
    [
        (None, None, True),
        (None, "identity", True),
        ("gzip", "gzip", True),
        ("GZIP ", "gzip", True),
        ("gzip", None, True),
        (None, "gzip", False),
        ("identity", "gzip", False),
    ],
)
def test_a_digest_of_what_the_origin_decodes_on_its_way_out_is_none(
    coding: str | None, stored: str | None, told: bool
) -> None:
    given_headers = [("x-goog-hash", f"md5={b64(MD5)}")]
    if coding is not None:
        given_headers.append(("content-encoding", coding))
    if stored is not None:
        given_headers.append(("x-goog-stored-content-encoding", stored))
    assert bool(promised_digests(tuple(given_headers))) is told


@given(st.lists(st.tuples(st.sampled_from(["content-md5", "digest", "x-goog-hash", "x-amz-checksum-md5"]), st.text())))
def test_no_header_does_any_harm(headers: list[tuple[str, str]]) -> None:
    for name, digest in promised_digests(tuple(headers)):
        assert len(digest) in (4, 8, 16, 20, 32, 64), name


@pytest.mark.parametrize(
    ("length", "fault"), [(None, None), (8, None), (7, Reason.LENGTH_MISMATCH), (9, Reason.LENGTH_MISMATCH)]
)
def test_the_length_that_the_origin_said_is_kept_to(length: int | None, fault: Reason | None) -> None:
    cargo = loaded(length=length)
    read_parts(cargo, [BODY], 5)
    assert cargo.fault() is fault


def test_what_is_kept_with_a_copy() -> None:
    headers = (
        ("content-type", " text/x; charset=utf-8 "),
        ("content-encoding", "gzip"),
        ("content-disposition", 'attachment; filename="a b"'),
        ("content-language", "de"),
        ("cache-control", "private"),
    )
    kept = attributes_of(loaded(headers, 8, etag='"e"'), "copy", NOW)
    assert (kept.content_type, kept.content_encoding) == ("text/x; charset=utf-8", "gzip")
    assert (kept.content_disposition, kept.content_language) == ('attachment; filename="a b"', "de")
    assert kept.tags == ()
    assert kept.metadata == (
        ("url-sha256", keys.url_sha256(URL)),
        ("copy-id", "copy"),
        ("stored-at", "2026-02-03T04:05:06Z"),
        ("upstream-length", "8"),
        ("upstream-etag", '"e"'),
        ("url", URL),
    )


def test_what_is_kept_of_an_origin_that_says_nothing() -> None:
    kept = attributes_of(loaded(), "copy", NOW)
    assert (kept.content_type, kept.content_encoding, kept.content_disposition) == ("application/octet-stream", "", "")
    assert [name for name, _ in kept.metadata] == ["url-sha256", "copy-id", "stored-at", "url"]
    assert attributes_of(loaded((("content-encoding", "Identity"),)), "copy", NOW).content_encoding == ""


@pytest.mark.parametrize("query", ["?", "?token=secret"])
def test_a_url_with_a_query_is_never_stored(query: str) -> None:
    kept = attributes_of(loaded(url=URL + query), "copy", NOW)
    assert "url" not in dict(kept.metadata)
    assert "secret" not in str(kept)


@given(
    st.tuples(st.text(max_size=3_000), st.text(max_size=3_000), st.text(max_size=3_000)),
    st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=3_000),
    st.text(max_size=3_000) | st.text(alphabet="x", min_size=800, max_size=1_200),
)
def test_what_is_kept_is_bounded_and_printable(texts: tuple[str, str, str], path: str, etag: str) -> None:
    names = ("content-type", "content-encoding", "content-disposition")
    cargo = loaded(tuple(zip(names, texts, strict=True)), 10**15, "https://a.example/" + path, etag)
    kept = attributes_of(cargo, "c" * 64, NOW)
    assert sum(len(name) + len(value) for name, value in kept.metadata) <= MAX_METADATA_BYTES
    values = [value for _, value in kept.metadata]
    for value in (*values, kept.content_type, kept.content_encoding, kept.content_disposition, kept.content_language):
        assert value.isascii()
        assert value.isprintable()
        assert len(value) <= 1_024
    assert all(values)
    assert kept.content_type
