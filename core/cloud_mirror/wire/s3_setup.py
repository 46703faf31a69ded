"""What makes a pool's bucket ready, and what its settings must be like.

Lifecycle: where rules overlap S3 takes the shortest life, so none overlap: copies lie under the 256 prefixes
`00/` to `ff/`, which neither `purged/` nor `dead/` begins with (S3 allows 1,000 rules). Epochs outlive the copies that
a purge made unreachable by two days, for expiry is rounded up to the next midnight UTC and carried out later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloud_mirror.keys import PRIVATE_PREFIXES
from cloud_mirror.policy import PoolPolicy
from cloud_mirror.wire.aws import AwsService, check_base_url, partition_of, service_model
from cloud_mirror.wire.calls import HttpRequest
from cloud_mirror.wire.storage import SetupStep

EPOCH_EXTRA_DAYS: Final = 2
DEAD_DAYS: Final = 14
UPLOAD_DAYS: Final = 2
"""An upload that nobody completed or aborted, copies in progress included: far beyond any copy's life."""

_BUCKET: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){1,253}[A-Za-z0-9]\Z")
_UNSET: Final = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NoSuchLifecycleConfiguration",
        "NoSuchBucketPolicy",
        "NoSuchPublicAccessBlockConfiguration",
    }
)
"""What S3 says where a setting was never made."""

_NOT_THERE: Final = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})


@dataclass(frozen=True, slots=True)
class S3Step(SetupStep):
    """A step whose check is the operation `reading`, and which is done where that tells all that is `wanted`.

    `merge` makes the request that keeps what a bucket is set to besides; None where the request replaces nothing.
    """

    reading: str = ""
    wanted: frozenset[str] = frozenset()
    merge: Callable[[Mapping[str, Any]], HttpRequest] | None = field(default=None, repr=False)


def told(reading: str, parsed: Mapping[str, Any]) -> frozenset[str]:
    """What a reading tells, a canonical line each: what else a bucket is set to does not disturb the comparison."""
    match reading:
        case "GetBucketLifecycleConfiguration":
            return frozenset(_rule_line(rule) for rule in parsed.get("Rules", ()))
        case "GetBucketPolicy":
            return _policy_lines(str(parsed.get("Policy", "")))
        case "GetPublicAccessBlock":
            return frozenset({_line(parsed.get("PublicAccessBlockConfiguration", {}))})
        case _:
            return frozenset()


def _rule_line(rule: Mapping[str, Any]) -> str:
    prefix = rule.get("Prefix") or rule.get("Filter", {}).get("Prefix") or ""
    life = rule.get("Expiration", {}).get("Days")
    return _line([prefix, rule.get("Status"), life, rule.get("AbortIncompleteMultipartUpload")])


def _policy_lines(text: str) -> frozenset[str]:
    return frozenset(_line(statement) for statement in _policy(text)["Statement"])


def _policy(text: str) -> dict[str, Any]:
    """A bucket policy, its statements as a list (IAM allows one by itself too); one without any for what is none."""
    try:
        policy = json.loads(text)
    except ValueError:
        policy = None
    found: dict[str, Any] = {"Version": "2012-10-17", **(policy if isinstance(policy, dict) else {})}
    statements = found.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    return found | {"Statement": [each for each in listed if isinstance(each, dict)]}


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def is_unset(step: SetupStep, code: str) -> bool | None:
    """What a check's fault of that code says of the step: False, not done; True, no such thing; None, nothing."""
    return (
        True if code in step.tolerated else False if code in _UNSET or (step.replaces and code in _NOT_THERE) else None
    )


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
    if pool.public_url is not None:
        try:
            check_base_url("public_url", pool.public_url)
        except ValueError as error:
            raise ValueError(f"pool {pool.name}: {error}") from error


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
    tolerated = frozenset({"BucketAlreadyOwnedByYou"})
    return S3Step(f"create bucket {pool.bucket}", request, tolerated, aws.build("HeadBucket", {}), reading="HeadBucket")


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
    ours = frozenset(rule["ID"] for rule in rules)

    def merge(found: Mapping[str, Any]) -> HttpRequest:
        others = [rule for rule in found.get("Rules", ()) if rule.get("ID") not in ours]
        return aws.build("PutBucketLifecycleConfiguration", {"LifecycleConfiguration": {"Rules": others + rules}})

    return _merging_step(
        f"let copies expire after {pool.lifespan_days} days",
        "GetBucketLifecycleConfiguration",
        aws,
        merge,
        frozenset(_rule_line(rule) for rule in rules),
    )


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
    reading = "GetPublicAccessBlock"
    return S3Step(
        "allow a policy that lets the public read",
        request,
        tolerated,
        aws.build(reading, {}),
        reading=reading,
        wanted=frozenset({_line(block)}),
    )


def _policy_step(pool: PoolPolicy, aws: AwsService) -> SetupStep:
    arn = f"arn:{partition_of(pool.region)}:s3:::{pool.bucket}"
    statement = {
        "Sid": "CloudMirrorPublicRead",
        "Effect": "Allow",  # an Allow that leaves out: a Deny would bind the mirror's own credentials too
        "Principal": "*",
        "Action": "s3:GetObject",
        "NotResource": [f"{arn}/{prefix}*" for prefix in PRIVATE_PREFIXES],
    }

    def merge(found: Mapping[str, Any]) -> HttpRequest:
        policy = _policy(str(found.get("Policy", "")))
        others = [each for each in policy["Statement"] if each.get("Sid") != statement["Sid"]]
        return aws.build("PutBucketPolicy", {"Policy": json.dumps(policy | {"Statement": [*others, statement]})})

    return _merging_step("let the public read the copies", "GetBucketPolicy", aws, merge, frozenset({_line(statement)}))


def _merging_step(
    title: str,
    reading: str,
    aws: AwsService,
    merge: Callable[[Mapping[str, Any]], HttpRequest],
    wanted: frozenset[str],
) -> SetupStep:
    """A step that replaces all of a setting: what an operator set there besides goes with it."""
    return S3Step(title, merge({}), frozenset(), aws.build(reading, {}), True, reading, wanted, merge)
