"""Setting up: every step says what it did, does nothing twice, and says what to do where it cannot."""

import json
import secrets
from contextlib import closing
from dataclasses import replace

import pytest

from cloud_mirror.policy import Policy, PoolPolicy, QueuePolicy
from cloud_mirror.wire.asking import Failed
from cloud_mirror.wire.calls import Call, FailureKind, HttpExchange, HttpReply, Reply, TransportFailure
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.setup import Outcome, Step, StepResult, redrive_of, remedy_for, setup_plan
from cloud_mirror.wire.sqs import SqsQueue, dead_attributes, main_attributes
from cloud_mirror.wire.storage import FaultKind, SetupStep
from tests.servers import Moto, SeaweedFS
from tests.wire.driving import Performer, by_hand, drive, for_real
from tests.wire.exchange import reply

QUEUE = QueuePolicy(endpoint_url="http://127.0.0.1:1")
POOL = PoolPolicy("s3", "us-west-1", "bucket-one", endpoint_url="http://127.0.0.1:1")
POLICY = Policy(queue=QUEUE, pools=(POOL,))
ARN = "arn:aws:sqs:us-west-2:1:cloud-mirror-s3_us-west-1-dead"
URL = reply(200, json.dumps({"QueueUrl": "http://127.0.0.1:1/1/q"}))
NO_QUEUE = reply(400, json.dumps({"__type": "com.amazonaws.sqs#QueueDoesNotExist"}))
DENIED = reply(403, json.dumps({"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "not you"}))
EXISTS = reply(400, json.dumps({"__type": "com.amazonaws.sqs#QueueAlreadyExists"}))


def plan(policy: Policy = POLICY) -> tuple[Step, ...]:
    return setup_plan(policy, {pool.name: S3Provider(pool) for pool in policy.pools}, SqsQueue(policy.queue))


def attributes(*pairs: tuple[str, str]) -> HttpReply:
    return reply(200, json.dumps({"Attributes": dict(pairs)}))


def run(policy: Policy, perform: Performer) -> list[Outcome]:
    results = [drive(step.run(), perform) for step in plan(policy)]
    assert [result for result in results if result.outcome is Outcome.FAILED] == []
    return [result.outcome for result in results]


def take(title: str, *rules: tuple[str, Reply | list[Reply]]) -> StepResult:
    [step] = [step for step in plan() if step.title.endswith(title)]
    return drive(step.run(), by_hand(*rules))


DEAD, MAIN = "dead-letter queue cloud-mirror-s3_us-west-1-dead", ": queue cloud-mirror-s3_us-west-1"


def test_the_plan_goes_through_every_pool_and_makes_the_dead_letter_queue_first() -> None:
    second = replace(POOL, region="eu-west-1", bucket="bucket-two", redirect="presigned")
    titles = [step.title for step in plan(replace(POLICY, pools=(POOL, second)))]
    assert titles == [
        "s3_us-west-1: create bucket bucket-one",
        "s3_us-west-1: let copies expire after 1 days",
        "s3_us-west-1: allow a policy that lets the public read",
        "s3_us-west-1: let the public read the copies",
        "s3_us-west-1: dead-letter queue cloud-mirror-s3_us-west-1-dead",
        "s3_us-west-1: queue cloud-mirror-s3_us-west-1",
        "s3_eu-west-1: create bucket bucket-two",
        "s3_eu-west-1: let copies expire after 1 days",
        "s3_eu-west-1: dead-letter queue cloud-mirror-s3_eu-west-1-dead",
        "s3_eu-west-1: queue cloud-mirror-s3_eu-west-1",
    ]


def test_a_second_run_finds_all_there_and_a_changed_setting_is_changed(moto: Moto) -> None:
    name = secrets.token_hex(6)
    pool = replace(POOL, bucket=f"bucket-{name}", endpoint_url=moto.url)
    policy = Policy(queue=QueuePolicy(prefix=name, endpoint_url=moto.url), pools=(pool,))
    perform = for_real("test", "test")
    assert run(policy, perform) == [Outcome.DONE] * 6
    assert run(policy, perform) == [Outcome.ALREADY_THERE] * 6
    there, done = Outcome.ALREADY_THERE, Outcome.DONE
    changed = replace(
        policy,
        queue=replace(policy.queue, visibility_timeout_s=90, max_receive_count=3),
        pools=(replace(pool, lifespan_days=2, acl="public-read"),),
    )
    assert run(changed, perform) == [there, done, done, there, done, done]
    results = [drive(step.run(), perform) for step in plan(policy)]
    assert [result.what for result in results[4:]] == [
        "changed VisibilityTimeout",
        "changed RedrivePolicy, VisibilityTimeout",
    ]


def test_a_store_that_checks_signatures_is_set_up_too(seaweedfs: SeaweedFS) -> None:
    pool = replace(POOL, bucket=f"bucket-{secrets.token_hex(6)}", endpoint_url=seaweedfs.endpoint_url)
    stores = [step for step in plan(Policy(pools=(pool,))) if "queue" not in step.title]
    perform = for_real(seaweedfs.access_key, seaweedfs.secret_key)
    first, second = ([drive(step.run(), perform) for step in stores] for _ in range(2))
    assert [result for result in first + second if result.outcome is Outcome.FAILED] == []
    assert second[0].outcome is Outcome.ALREADY_THERE


def test_a_step_of_the_store_is_taken_where_its_check_tells_nothing() -> None:
    denied = reply(403, "<Error><Code>AccessDenied</Code></Error>")
    assert take("create bucket bucket-one", ("signed HEAD", denied), ("signed PUT", reply(200))).outcome is Outcome.DONE
    failed = take("create bucket bucket-one", ("signed HEAD", denied), ("signed PUT", denied))
    assert (failed.outcome, failed.what.partition(":")[0]) == (Outcome.FAILED, "AccessDenied")
    assert "the bucket" in failed.remedy


@pytest.mark.parametrize("found", ["", "[]", "{}", '{"Statement": 1}', '{"Statement": [{"Sid": "another"}]}'])
def test_a_policy_that_is_another_is_written_anew(found: str) -> None:
    rules = (("signed GET /bucket-one?policy", reply(200, found)), ("signed PUT /bucket-one?policy", reply(204)))
    assert take("let the public read the copies", *rules).outcome is Outcome.DONE


def sent_over(title: str, found: HttpReply) -> str:
    """What a step sends to a bucket that is set as `found`."""
    seen: list[bytes] = []
    perform = by_hand(("signed GET /bucket-one?", found), ("signed PUT /bucket-one?", reply(204)))

    def watch(call: Call) -> Reply:
        if isinstance(call, HttpExchange) and call.request.method == "PUT":
            seen.append(bytes(call.request.body))
        return perform(call)

    [step] = [step for step in plan() if step.title.endswith(title)]
    assert drive(step.run(), watch) == StepResult(Outcome.DONE)
    [body] = seen
    return body.decode()


POLICY_STEP, LIFECYCLE_STEP = "let the public read the copies", "let copies expire after 1 days"
TLS_ONLY = {"Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"}


@pytest.mark.parametrize("statements", [TLS_ONLY, [TLS_ONLY], [{"Sid": "CloudMirrorPublicRead", "old": 1}, TLS_ONLY]])
def test_an_operators_own_policy_is_kept_beside_ours(statements: object) -> None:
    found = {"Version": "2008-10-17", "Id": "theirs", "Statement": statements}
    written = json.loads(sent_over(POLICY_STEP, reply(200, json.dumps(found))))
    assert (written["Version"], written["Id"]) == ("2008-10-17", "theirs")
    theirs, ours = written["Statement"]
    assert theirs == TLS_ONLY
    assert (ours["Sid"], "old" in ours) == ("CloudMirrorPublicRead", False)


def test_an_operators_own_lifecycle_rules_are_kept_beside_ours() -> None:
    theirs = (
        "<Rule><ID>theirs</ID><Filter><And><Prefix>logs/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter>"
        "<Status>Enabled</Status><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule>"
    )
    ours_of_old = "<Rule><ID>expire 00/</ID><Filter><Prefix>00/</Prefix></Filter><Status>Enabled</Status></Rule>"
    written = sent_over(
        LIFECYCLE_STEP, reply(200, f"<LifecycleConfiguration>{theirs}{ours_of_old}</LifecycleConfiguration>")
    )
    for part in ("<ID>theirs</ID>", "<Prefix>logs/</Prefix>", "<Key>k</Key>", "<Date>2030-01-01T00:00:00Z</Date>"):
        assert written.count(part) == 1
    assert written.count("<ID>expire 00/</ID>") == 1
    assert written.count("<Rule>") == 260


@pytest.mark.parametrize("title", [POLICY_STEP, LIFECYCLE_STEP])
def test_what_cannot_be_read_is_not_replaced(title: str) -> None:
    denied = reply(403, "<Error><Code>AccessDenied</Code></Error>")
    failed = take(title, ("signed GET /bucket-one?", denied))
    assert (failed.outcome, failed.what.partition(":")[0]) == (Outcome.FAILED, "AccessDenied")
    assert "the right to do this" in failed.remedy


@pytest.mark.parametrize("title", [POLICY_STEP, LIFECYCLE_STEP])
@pytest.mark.parametrize("code", ["NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "NotImplemented"])
def test_where_nothing_is_set_or_can_be_read_the_step_is_taken(title: str, code: str) -> None:
    unset = reply(404, f"<Error><Code>{code}</Code></Error>")
    done = take(title, ("signed GET /bucket-one?", unset), ("signed PUT /bucket-one?", reply(204)))
    assert done == StepResult(Outcome.DONE)


def test_an_operators_settings_outlive_a_real_setup(moto: Moto) -> None:
    pool = replace(POOL, bucket=f"bucket-{secrets.token_hex(6)}", endpoint_url=moto.url)
    stores = [step for step in plan(Policy(pools=(pool,))) if "queue" not in step.title]
    perform = for_real("test", "test")
    drive(stores[0].run(), perform)
    with closing(moto.client("s3")) as client:
        theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 7}}
        client.put_bucket_lifecycle_configuration(Bucket=pool.bucket, LifecycleConfiguration={"Rules": [theirs]})
        client.put_bucket_policy(Bucket=pool.bucket, Policy=json.dumps({"Statement": [TLS_ONLY]}))
        for expected in (Outcome.DONE, Outcome.ALREADY_THERE):
            assert [drive(step.run(), perform).outcome for step in stores[1:]] == [expected] * 3
        rules = client.get_bucket_lifecycle_configuration(Bucket=pool.bucket)["Rules"]
        assert theirs in rules
        policy = json.loads(client.get_bucket_policy(Bucket=pool.bucket)["Policy"])
        assert [statement["Sid"] for statement in policy["Statement"]] == ["TlsOnly", "CloudMirrorPublicRead"]


def test_a_step_without_a_check_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    step = SetupStep("made up", S3Provider(POOL).setup_steps()[0].request)
    monkeypatch.setattr(S3Provider, "setup_steps", lambda _: (step,))
    assert take("made up", ("signed PUT", reply(200))) == StepResult(Outcome.DONE)


def test_a_queue_that_another_setup_made_meanwhile_is_amended() -> None:
    rules: tuple[tuple[str, Reply | list[Reply]], ...] = (
        ("GetQueueUrl", [NO_QUEUE, URL]),
        ("CreateQueue", EXISTS),
        ("GetQueueAttributes", attributes(*dead_attributes(QUEUE))),
    )
    assert take(DEAD, *rules) == StepResult(Outcome.ALREADY_THERE)


def test_a_queue_that_can_be_neither_made_nor_found_is_a_failure() -> None:
    gone = take(DEAD, ("GetQueueUrl", NO_QUEUE), ("CreateQueue", EXISTS))
    assert (gone.outcome, gone.what.partition(":")[0]) == (Outcome.FAILED, "QueueAlreadyExists")
    denied = take(DEAD, ("GetQueueUrl", [NO_QUEUE, DENIED]), ("CreateQueue", EXISTS))
    assert (denied.outcome, denied.what.partition(":")[0]) == (Outcome.FAILED, "AccessDeniedException")


@pytest.mark.parametrize("title", [DEAD, MAIN])
@pytest.mark.parametrize("operation", ["GetQueueUrl", "GetQueueAttributes"])
def test_a_queue_that_may_not_be_looked_at_is_a_failure(title: str, operation: str) -> None:
    result = take(title, (operation, DENIED), ("GetQueueUrl", URL))
    assert result.outcome is Outcome.FAILED
    assert result.remedy.startswith("give these credentials the right")


def test_a_queue_that_may_not_be_made_or_changed_is_a_failure() -> None:
    assert take(DEAD, ("GetQueueUrl", NO_QUEUE), ("CreateQueue", DENIED)).outcome is Outcome.FAILED
    rules: tuple[tuple[str, Reply], ...] = (("GetQueueUrl", URL), ("GetQueueAttributes", attributes()))
    assert take(DEAD, *rules, ("SetQueueAttributes", DENIED)).outcome is Outcome.FAILED


def test_a_queue_waits_for_its_dead_letter_queue() -> None:
    missing = take(MAIN, ("GetQueueUrl", NO_QUEUE))
    assert (missing.outcome, missing.remedy) == (Outcome.FAILED, "run `cloud-mirror setup` again")


def test_a_redrive_policy_is_compared_by_what_it_says() -> None:
    written = json.dumps({"maxReceiveCount": 5, "deadLetterTargetArn": ARN}, indent=1)
    same = dict(main_attributes(QUEUE, ARN)) | {"RedrivePolicy": written, "QueueArn": ARN}
    rules = (("GetQueueUrl", URL), ("GetQueueAttributes", attributes(*same.items())))
    assert take(MAIN, *rules) == StepResult(Outcome.ALREADY_THERE)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"deadLetterTargetArn": "a", "maxReceiveCount": "x"}'])
def test_what_is_no_redrive_policy_says_nothing(text: str | None) -> None:
    assert redrive_of({} if text is None else {"RedrivePolicy": text}) == ("", 0)


@pytest.mark.parametrize("kind", [*FaultKind, *FailureKind])
def test_every_failure_has_a_remedy(kind: FaultKind | FailureKind) -> None:
    assert len(remedy_for(Failed(kind, "Code", "", 1), "the bucket b")) > 15


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("RequestTimeTooSkewed", "GetBucketPolicy (403): The difference is too large."),
        ("RequestExpired", ""),
        ("InvalidSignatureException", "GetQueueUrl (403): Signature expired: 20260203T0000Z is now earlier than"),
        ("InvalidSignatureException", "GetQueueUrl (403): Signature not yet current: 20260203T0000Z is still later"),
    ],
)
def test_a_clock_that_is_wrong_is_to_be_set(code: str, detail: str) -> None:
    assert remedy_for(Failed(FaultKind.DENIED, code, detail, 1), "SQS").startswith("set this machine's clock")
    assert "the right" in remedy_for(Failed(FaultKind.DENIED, "InvalidSignatureException", "", 1), "SQS")


def test_a_failure_without_words_is_told_by_its_code() -> None:
    result = take(DEAD, ("GetQueueUrl", TransportFailure(FailureKind.CONNECT)))
    assert (result.what, "can be reached" in result.remedy) == ("connect", True)
