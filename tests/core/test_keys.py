"""Names in Redis and in the store."""

import hashlib
import re
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cloud_mirror import keys
from cloud_mirror.policy import PoolPolicy, QueuePolicy
from cloud_mirror.source import SourceError, parse_source

URL = "https://example.com/a/file.tar.gz?x=/y"
SHA = hashlib.sha256(URL.encode()).hexdigest()
TARGETS = st.text(max_size=40) | st.text("./%2eEfF;?é ", max_size=20)


def canonical(target: str) -> str:
    try:
        return parse_source("https://example.com/" + target, 4096).text
    except SourceError:
        assume(False)
        raise


def test_names() -> None:
    assert keys.url_sha256(URL) == SHA
    assert keys.entry_key("s3_x", URL) == f"cloud-mirror:1:s3_x:{{{SHA}}}"
    assert keys.renewal_key("s3_x", URL) == f"cloud-mirror:1:s3_x:{{{SHA}}}:renewal"
    assert keys.upload_key("s3_x", URL) == f"cloud-mirror:1:s3_x:{{{SHA}}}:upload"
    assert keys.channel("s3_x") == "cloud-mirror:1:s3_x:changes"
    assert keys.object_prefix(URL) == f"{SHA[:2]}/{SHA}/"
    assert keys.object_key(URL, keys.FIRST_EPOCH) == f"{SHA[:2]}/{SHA}/0/file.tar.gz"
    assert keys.epoch_key(URL) == f"purged/{SHA}"
    assert keys.letter_key("ab") == "dead/ab"
    assert keys.PRIVATE_PREFIXES == ("purged/", "dead/")
    assert PoolPolicy("s3", "us-west-1", "bucket").name == "s3_us-west-1"
    assert QueuePolicy().name("s3_x") == "cloud-mirror-s3_x"
    assert QueuePolicy(prefix="mine").dead_name("s3_x") == "mine-s3_x-dead"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("a/b.whl", "b.whl"),
        ("a/b.whl?c/d", "b.whl"),
        ("a%20b", "a b"),
        ("%C3%A9", "é"),
        ("é", "é"),
        ("a;b=c", "a;b=c"),
        ("a[1]", "a[1]"),
        ("a+b", "a+b"),
        ("X", "X"),
        ("", "object"),
        ("a/", "object"),
        ("a/.", "object"),
        ("a/..", "object"),
        ("a/%2e%2E", "object"),
        ("%20", "object"),
        ("a%2Fb", "a_b"),
        ("a%5Cb", "a_b"),
        ("a%00%0D%0Ab%7F", "a___b_"),
        ("%FF", "_"),
        ("%E2%80%AEgpj.exe", "_gpj.exe"),
        ("x" * 300 + ".tar.gz", "x" * 193 + ".tar.gz"),
        ("é" * 150 + "b.gz", "é" * 98 + "b.gz"),
        ("é" * 150 + "b.g", "é" * 98 + "b.g"),
        ("%20" * 10 + "x" * 195, "x" * 195),
    ],
)
def test_file_name(target: str, name: str) -> None:
    assert keys.file_name(canonical(target)) == name


@given(TARGETS, st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
@example("%20" + "x" * 250, "0")
@example("\U0001f600" * 60, "e" * 64)
def test_an_object_key_is_one_that_every_store_takes(target: str, epoch: str) -> None:
    url = canonical(target)
    key = keys.object_key(url, epoch)
    segments = key.split("/")
    assert len(segments) == 4
    assert all(segment not in ("", ".", "..") for segment in segments)
    assert key.isprintable()
    assert segments[3] == segments[3].strip()
    assert len(quote(key)) < 1024
    assert key.startswith(keys.object_prefix(url))
    assert not key.startswith(keys.PRIVATE_PREFIXES)
    assert len(segments[3].encode()) <= keys.MAX_NAME_BYTES


@given(TARGETS, TARGETS)
@example("a%2Fb", "a/b")
@example("a", "a?")
@example("%C3%A9", "%c3%a9")
def test_distinct_urls_have_distinct_keys(first: str, second: str) -> None:
    one, other = canonical(first), canonical(second)
    for name in (keys.entry_key("p", one), keys.entry_key("p", other)):
        assert re.fullmatch(r"cloud-mirror:1:p:\{[0-9a-f]{64}\}", name)
    same = one == other
    assert (keys.entry_key("p", one) == keys.entry_key("p", other)) is same
    assert (keys.object_prefix(one) == keys.object_prefix(other)) is same
    assert (keys.epoch_key(one) == keys.epoch_key(other)) is same


@given(target=TARGETS, epoch=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_every_copy_s_key_is_known_for_one(target: str, epoch: str) -> None:
    assert keys.is_copy_key(keys.object_key(canonical(target), epoch))


@pytest.mark.parametrize(
    "key",
    [
        "",
        keys.epoch_key(URL),
        keys.letter_key(SHA),
        keys.object_prefix(URL),
        f"{SHA[:2]}/{SHA}/0",
        f"{SHA[:2]}/{SHA}/0/",
        f"{SHA[:2]}/{SHA}/0/a/b",
        f"{SHA[:2]}/{SHA}//a",
        f"{SHA[:2]}/{SHA[1:]}/0/a",
        f"00/{SHA}/0/a",
        f"{SHA[:2]}/{SHA.upper()}/0/a",
        f"x/{SHA[:2]}/{SHA}/0/a",
        f"{SHA[:2]}/{SHA}/a epoch/a",
    ],
)
def test_what_is_no_copy_has_no_copy_s_key(key: str) -> None:
    assert not keys.is_copy_key(key)
