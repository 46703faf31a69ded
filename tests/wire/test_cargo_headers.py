"""What the origin's headers say of a copy's bytes: digests that are held against them, and what is kept with them."""

import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror import keys
from cloud_mirror.origin import Headers
from cloud_mirror.reason import Reason
from cloud_mirror.wire.attributes import MAX_METADATA_BYTES, attributes_of
from cloud_mirror.wire.cargo import promised_digests
from cloud_mirror.wire.checksums import crc32c, crc64nvme
from tests.wire.test_cargo import URL, b64, loaded, read_parts

NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
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
    assert attributes_of(loaded(headers, 8, etag='"e"'), "copy", NOW, "ab12") == replace(
        kept, tags=(("sha256", "ab12"),)
    )
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
