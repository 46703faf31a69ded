"""Sweeping: what was left behind goes, whatever is younger or not the mirror's stays, and the store's clock decides."""

import secrets
import time
from dataclasses import replace

import pytest

from cloud_mirror import keys
from cloud_mirror.policy import Policy, PoolPolicy
from cloud_mirror.wire.calls import HttpReply
from cloud_mirror.wire.procedures.sweep import DAY_S, sweep_plan
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.setup import Outcome, StepResult
from cloud_mirror.wire.storage import ObjectAttributes
from tests.servers import Moto, SeaweedFS
from tests.wire.driving import Performer, drive, for_real
from tests.wire.exchange import Asker, reply
from tests.wire.pools import POOL, Script, error

KEY = keys.object_key("https://a.example/file.bin", "e1")
OTHER = keys.object_key("https://a.example/other.bin", "e1")
NOW = "Fri, 06 Feb 2026 12:00:00 GMT"
OLD, LAST_MOMENT, YOUNG = "2026-02-04T11:59:59.000Z", "2026-02-04T12:00:00.000Z", "2026-02-06T11:00:00Z"
GONE = reply(204)


def sweep(script: Script) -> StepResult:
    [step] = sweep_plan(Policy(pools=(POOL,)), {POOL.name: S3Provider(POOL)}, 2 * DAY_S)
    return script.run(step.run())


def listed(*uploads: tuple[str, str, str], more: bool = False, now: str | None = NOW) -> HttpReply:
    each = "".join(
        f"<Upload><Key>{key}</Key><UploadId>{name}</UploadId><Initiated>{at}</Initiated></Upload>"
        for key, name, at in uploads
    )
    after = "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>" if more else ""
    cut = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
    return reply(200, f"<R>{cut}{after}{each}</R>", **({} if now is None else {"date": now}))


def test_old_uploads_are_aborted_page_by_page_and_nothing_else_is() -> None:
    script = Script(
        listed((KEY, "u1", OLD), ("notes/mine", "u2", OLD), (KEY, "u3", YOUNG), more=True),
        GONE,
        listed((OTHER, "u4", OLD), (OTHER, "u5", LAST_MOMENT), (OTHER, "u6", "")),
        error(404, "NoSuchUpload"),  # somebody was quicker
    )
    assert sweep(script) == StepResult(Outcome.DONE, "2 aborted, 3 left")
    assert script.said == [
        "GET /bucket?uploads&prefix=",
        f"DELETE /bucket/{KEY}?uploadId=u1",
        "GET /bucket?uploads&prefix=&key-marker=k&upload-id-marker=u",
        f"DELETE /bucket/{OTHER}?uploadId=u4",
    ]


def test_a_bucket_without_uploads_has_nothing_to_abort() -> None:
    assert sweep(Script(listed())) == StepResult(Outcome.DONE, "0 aborted")


@pytest.mark.parametrize("now", [None, "noon"])
def test_no_upload_is_old_where_the_store_does_not_say_what_time_it_is(now: str | None) -> None:
    assert sweep(Script(listed((KEY, "u1", OLD), now=now))) == StepResult(Outcome.DONE, "0 aborted, 1 left")


def test_a_sweep_that_cannot_go_on_says_how_far_it_came_and_what_to_do() -> None:
    denied = error(403, "AccessDenied")
    at_once = sweep(Script(denied))
    assert at_once.outcome is Outcome.FAILED
    assert at_once.what.startswith("AccessDenied: ListMultipartUploads")
    assert "with the bucket" in at_once.remedy
    later = sweep(Script(listed((KEY, "u1", OLD), (KEY, "u2", OLD)), GONE, denied))
    assert later.outcome is Outcome.FAILED
    assert later.what.startswith("AccessDenied: AbortMultipartUpload")
    assert later.what.endswith("(1 aborted before that)")


def test_every_pool_is_swept() -> None:
    second = replace(POOL, region="eu-west-1", bucket="bucket-two")
    policy = Policy(pools=(POOL, second))
    steps = sweep_plan(policy, {pool.name: S3Provider(pool) for pool in policy.pools}, DAY_S / 2)
    assert [step.title for step in steps] == [
        "s3_us-west-1: abort uploads that were begun more than 0.5 days ago",
        "s3_eu-west-1: abort uploads that were begun more than 0.5 days ago",
    ]


class Bucket:
    """A bucket of a real server, and what a sweep of it comes to."""

    def __init__(self, endpoint_url: str, access_key: str, secret_key: str) -> None:
        self.pool = PoolPolicy("s3", "us-west-1", f"sweep-{secrets.token_hex(6)}", endpoint_url=endpoint_url)
        self.s3 = S3Provider(self.pool)
        self.ask = Asker(self.s3, access_key, secret_key)
        self.perform: Performer = for_real(access_key, secret_key)
        bucket = self.s3.setup_steps()[0]
        self.ask(bucket.request, lambda reply: self.s3.read_setup(bucket, reply))

    def begin(self, key: str) -> None:
        self.ask(self.s3.create_upload_request(key, ObjectAttributes()), self.s3.read_create_upload)

    def sweep(self, older_than_s: float) -> StepResult:
        [step] = sweep_plan(Policy(pools=(self.pool,)), {self.pool.name: self.s3}, older_than_s)
        return drive(step.run(), self.perform)

    @property
    def begun(self) -> list[str]:
        page = self.ask(self.s3.list_uploads_request(""), self.s3.read_list_uploads)
        return sorted(upload.key for upload in page.uploads)


def test_a_real_store_is_swept_by_its_own_clock(seaweedfs: SeaweedFS) -> None:
    bucket = Bucket(seaweedfs.endpoint_url, seaweedfs.access_key, seaweedfs.secret_key)
    for key in (KEY, KEY, OTHER, "notes/mine"):
        bucket.begin(key)
    assert bucket.sweep(2 * DAY_S) == StepResult(Outcome.DONE, "0 aborted, 3 left")
    assert bucket.begun == sorted([KEY, KEY, OTHER, "notes/mine"])
    until = time.monotonic() + 60
    while bucket.begun != ["notes/mine"]:  # as soon as they are more than a second old
        assert time.monotonic() < until
        assert bucket.sweep(1.0).outcome is Outcome.DONE


def test_uploads_that_a_real_store_has_had_for_years_are_swept(moto: Moto) -> None:
    bucket = Bucket(moto.url, "test", "test")
    for key in (KEY, OTHER, "notes/mine"):  # moto says of each that it was begun in 2010
        bucket.begin(key)
    assert bucket.sweep(2 * DAY_S) == StepResult(Outcome.DONE, "2 aborted")
    assert bucket.begun == ["notes/mine"]
