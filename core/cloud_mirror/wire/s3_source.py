"""Sources that are S3 objects themselves: which bucket and key a URL names, and how a copy names its source.

A wrong answer would copy another object than the one that the URL gives, so what could be read in two ways is no
object here: the copy then goes through a worker, as from any other origin. S3 API Reference, "Virtual hosting of
buckets", and CopyObject.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from cloud_mirror.policy import PoolPolicy
from cloud_mirror.source import SourceUrl
from cloud_mirror.wire.aws import DEFAULT_PORTS, partition
from cloud_mirror.wire.storage import BucketObject

MAX_KEY_BYTES: Final = 1024

NO_ANNOTATIONS: Final = ("x-amz-object-annotation-directive", "EXCLUDE")
"""S3 would copy the source's annotations, and want two more rights for it. Not every botocore knows the name."""

_BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]\Z")
_NO_BUCKET: Final = re.compile(r".*(?:-s3alias|--ol-s3|--x-s3|--table-s3|\.mrap)\Z")
"""Access points, directory buckets and the like (S3, "Bucket naming rules"): a name where a bucket's stands."""

_PLAIN: Final = re.compile(r"(?:[^%+?]|%[0-9A-Fa-f]{2})*\Z")
"""A path with one meaning: S3 has read a `+` as a space, and what is no escape differently over the years."""

_GLOBAL: Final = "aws"
"""The partition that also has hosts without a region."""


def bucket_object(pool: PoolPolicy, url: SourceUrl) -> BucketObject | None:
    """The bucket and key that the URL names in the pool's own kind of store; None where it names none for certain."""
    if not _PLAIN.match(url.target):
        return None
    base, bucket = _place(pool, url)
    if base is None or not url.target.startswith(f"{base}/"):
        return None
    path = url.target[len(base) + 1 :]
    if not bucket:
        bucket, _, path = path.partition("/")
    key = _key(path)
    if key is None or not _BUCKET.match(bucket) or _NO_BUCKET.match(bucket):
        return None
    return BucketObject(bucket, key)


def copy_source(source: BucketObject) -> dict[str, Any]:
    """The parameters that name a copy's source. Raises ValueError where it has no ETag.

    No copy goes without a condition: the object must be the one that was looked at.
    """
    if not source.etag:
        raise ValueError(f"a copy within the store needs the ETag of {source.bucket}/{source.key[:80]!r}")
    return {"CopySource": quote(f"{source.bucket}/{source.key}", safe="/"), "CopySourceIfMatch": source.etag}


def _place(pool: PoolPolicy, url: SourceUrl) -> tuple[str | None, str]:
    """The path before what the URL names (None: no such store), and the bucket where the host names it, else ""."""
    if pool.endpoint_url is not None:
        endpoint = urlsplit(pool.endpoint_url)
        at = (endpoint.scheme, endpoint.hostname, endpoint.port or DEFAULT_PORTS[endpoint.scheme])
        return (endpoint.path.rstrip("/") if at == (url.scheme, url.host, url.port) else None), ""
    if url.port != DEFAULT_PORTS[url.scheme]:
        return None, ""
    found = _host_pattern(partition(pool.region)).match(url.host)
    return ("", found["bucket"] or "") if found else (None, "")


def _host_pattern(place: Mapping[str, Any]) -> re.Pattern[str]:
    """The hosts of S3 in a partition: with the bucket or without, by region, dual-stack, and AWS's own without one."""
    region = str(place["regionRegex"]).strip("^$")
    suffix = re.escape(str(place["outputs"]["dnsSuffix"]))
    located = rf"(?:s3\.(?:dualstack\.)?|s3-){region}"
    service = rf"(?:{located}|s3)" if place["id"] == _GLOBAL else located
    return re.compile(rf"(?:(?P<bucket>.+)\.)?{service}\.{suffix}\Z")


def _key(path: str) -> str | None:
    """The key that a path names, or None where it could be taken for another one."""
    try:
        key = unquote(path, errors="strict")
    except UnicodeDecodeError:
        return None
    segments = key.split("/")
    odd = "" in segments[:-1] or not {".", ".."}.isdisjoint(segments) or not key.isprintable()
    return None if odd or not 1 <= len(key.encode()) <= MAX_KEY_BYTES else key
