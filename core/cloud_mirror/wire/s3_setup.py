"""What makes a pool's bucket ready, and what its settings must be like.

Lifecycle: where rules overlap S3 takes the shortest life, so none overlap: copies lie under the 256 prefixes
`00/` to `ff/`, which neither `purged/` nor `dead/` begins with (S3 allows 1,000 rules). Epochs outlive the copies that
a purge made unreachable by two days, for expiry is rounded up to the next midnight UTC and carried out later.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import urlsplit

from cloud_mirror.keys import PRIVATE_PREFIXES
from cloud_mirror.policy import PoolPolicy
from cloud_mirror.wire.aws import AwsService, partition_of, service_model
from cloud_mirror.wire.storage import SetupStep

EPOCH_EXTRA_DAYS: Final = 2
DEAD_DAYS: Final = 14
UPLOAD_DAYS: Final = 2
"""An upload that nobody completed or aborted, copies in progress included: far beyond any copy's life."""

_BUCKET: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){1,253}[A-Za-z0-9]\Z")
_URL: Final = re.compile(r"[\x21-\x7e]+\Z")
_NOT_THERE: Final = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})


def check_pool(pool: PoolPolicy) -> None:
    """Raise ValueError, naming the pool and the setting, where a setting cannot be that of an S3 bucket."""

    def refuse(setting: str, value: object, remedy: str) -> None:
        raise ValueError(f"pool {pool.name}: {setting} is {value!r}: {remedy}")

    if not _BUCKET.match(pool.bucket):
        refuse("bucket", pool.bucket, "give 3 to 255 letters, digits, '-', '_' or single '.', no URL and no path")
    if pool.addressing not in ("auto", "path", "virtual"):
        refuse("addressing", pool.addressing, "choose auto, path or virtual")
    acls = service_model("s3").shape_for("ObjectCannedACL").enum
    if pool.acl and pool.acl not in acls:
        refuse("acl", pool.acl, f"leave it empty or choose one of {', '.join(acls)}")
    if pool.lifespan_days < 1:
        refuse("lifespan_days", pool.lifespan_days, "give at least 1")
    for setting, url in (("endpoint_url", pool.endpoint_url), ("public_url", pool.public_url)):
        if url is not None and not _is_base_url(url):
            refuse(setting, url, "give http:// or https://, a host and perhaps a path, and nothing else")


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return bool(_URL.match(url)) and parts.scheme in ("http", "https") and bool(parts.hostname) and plain


def setup_steps(pool: PoolPolicy, aws: AwsService) -> tuple[SetupStep, ...]:
    """The steps in their order. Each may be taken again; what the store lacks comes back as its fault."""
    steps = [_bucket_step(pool, aws), _lifecycle_step(pool, aws)]
    if pool.redirect == "public":
        steps += [_access_block_step(pool, aws), _policy_step(pool, aws)]
    return tuple(steps)


def _bucket_step(pool: PoolPolicy, aws: AwsService) -> SetupStep:
    where: dict[str, Any] = {"LocationConstraint": pool.region}
    parameters = {} if pool.region == "us-east-1" else {"CreateBucketConfiguration": where}  # S3 refuses its name
    request = aws.build("CreateBucket", parameters)
    return SetupStep(f"create bucket {pool.bucket}", request, frozenset({"BucketAlreadyOwnedByYou"}))


def _lifecycle_step(pool: PoolPolicy, aws: AwsService) -> SetupStep:
    lives = [(f"{number:02x}/", pool.lifespan_days) for number in range(256)]
    lives += [("purged/", pool.lifespan_days + EPOCH_EXTRA_DAYS), ("dead/", DEAD_DAYS)]
    rules: list[dict[str, Any]] = [
        {"ID": f"expire {prefix}", "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}
        for prefix, days in lives
    ]
    rules.append(
        {
            "ID": "abort uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UPLOAD_DAYS},
        }
    )
    request = aws.build("PutBucketLifecycleConfiguration", {"LifecycleConfiguration": {"Rules": rules}})
    return SetupStep(f"let copies expire after {pool.lifespan_days} days", request)


def _access_block_step(pool: PoolPolicy, aws: AwsService) -> SetupStep:
    """Only AWS has this block, and it is on in every new bucket: it would refuse the policy that comes next."""
    block = {
        "BlockPublicAcls": pool.acl == "",
        "IgnorePublicAcls": pool.acl == "",
        "BlockPublicPolicy": False,
        "RestrictPublicBuckets": False,
    }
    request = aws.build("PutPublicAccessBlock", {"PublicAccessBlockConfiguration": block})
    tolerated = frozenset[str]() if pool.endpoint_url is None else _NOT_THERE
    return SetupStep("allow a policy that lets the public read", request, tolerated)


def _policy_step(pool: PoolPolicy, aws: AwsService) -> SetupStep:
    arn = f"arn:{partition_of(pool.region)}:s3:::{pool.bucket}"
    statement = {
        "Sid": "CloudMirrorPublicRead",
        "Effect": "Allow",  # an Allow that leaves out: a Deny would bind the mirror's own credentials too
        "Principal": "*",
        "Action": "s3:GetObject",
        "NotResource": [f"{arn}/{prefix}*" for prefix in PRIVATE_PREFIXES],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    request = aws.build("PutBucketPolicy", {"Policy": policy})
    return SetupStep("let the public read the copies", request)
