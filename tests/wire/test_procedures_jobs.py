"""The queue's procedures: jobs sent, received and settled; what becomes of what is no job, and of dead letters."""

import hashlib
import json
from dataclasses import replace

import pytest

from cloud_mirror import keys
from cloud_mirror.copy_events import JobSettled
from cloud_mirror.events import JobFailed, JobSent
from cloud_mirror.lease import QueueFailed, VisibilityExtended
from cloud_mirror.message import Job, MessageError, to_body
from cloud_mirror.wire.calls import (
    Backoff,
    FailureKind,
    HttpExchange,
    HttpReply,
    RedisRefusal,
    RedisReply,
    Reply,
    TransportFailure,
)
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror.wire.procedures import jobs
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices
from tests.wire.exchange import reply
from tests.wire.pools import BROKEN, POLICY, POOL, SERVICES, URL, Script, error, missing, scripted, services, written

BODY = to_body(Job(POOL.name, URL, "0"))
DELIVERY = Delivery("id-1", "receipt-1", BODY, 3)
SENT = reply(200, json.dumps({"MessageId": "m"}))
DONE = reply(200, "{}")
PONG = RedisReply(b"PONG")
STORED = reply(200, etag='"e"')
NO_QUEUE = reply(400, json.dumps({"__type": "com.amazonaws.sqs#QueueDoesNotExist"}))
DENIED = reply(400, json.dumps({"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "no"}))
THROTTLED = reply(400, json.dumps({"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slower"}))
PUT = f"PUT /bucket/{keys.letter_key(hashlib.sha256(BODY.encode()).hexdigest())}"


def asked(script: Script, operation: str) -> dict[str, object]:
    """What the one call of that operation said."""
    [body] = [
        bytes(call.request.body)
        for call in script.calls
        if isinstance(call, HttpExchange) and dict(call.request.headers).get("X-Amz-Target", "").endswith(operation)
    ]
    parsed: dict[str, object] = json.loads(body)
    return parsed


def delivered(*bodies: str) -> HttpReply:
    each = [{"MessageId": "id", "ReceiptHandle": f"receipt {body}", "Body": body} for body in bodies]
    return reply(200, json.dumps({"Messages": each}))


def found(name: str) -> HttpReply:
    return reply(200, json.dumps({"QueueUrl": f"http://q/{name}"}))


def test_queues_are_found_a_pool_at_a_time_and_each_pools_jobs_are_taken_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = replace(SERVICES, queue_url="", dead_url="")
    services = {"a": lost, "b": lost, "c": lost}
    first = (NO_QUEUE, found("b"), found("b-dead"), found("c"), found("c-dead"))
    script = Script(*first, NO_QUEUE, found("a"), NO_QUEUE, found("a"), found("a-dead"))
    taken: list[tuple[str, str, int]] = []

    def take(pool: str) -> None:
        taken.append((pool, services[pool].queue_url, len(script.waits)))

    roles = Roles(front_end=True, back_end=True, pools=("a", "c"))
    script.run(jobs.await_queues(services, roles, Metrics(), take))
    assert taken == [("c", "http://q/c", 0), ("a", "http://q/a", 3)]
    assert services["b"].dead_url == "http://q/b-dead"
    assert script.waits == [Backoff(jobs.FIND_AGAIN_S)] * 3
    missing = [record.__dict__["trouble"].partition(":")[0] for record in caplog.records]
    assert [name.removeprefix("there is no queue cloud-mirror-") for name in missing] == [
        "s3_us-west-1",
        "s3_us-west-1-dead",
    ]


def test_where_no_pool_is_needed_no_queue_is_looked_for() -> None:
    services: dict[str, PoolServices] = {}
    Script().run(jobs.await_queues(services, Roles(), Metrics(), lambda _: None))


def test_sending() -> None:
    script = Script(SENT)
    assert script.run(jobs.send_job(SERVICES, URL, "0")) == JobSent()
    assert asked(script, "SendMessage") == {"QueueUrl": SERVICES.queue_url, "MessageBody": BODY}
    assert Script(THROTTLED, SENT).run(jobs.send_job(SERVICES, URL, "0")) == JobSent()
    assert Script(BROKEN, BROKEN).run(jobs.send_job(SERVICES, URL, "0")) == JobFailed("broken: reset")
    assert isinstance(Script(DENIED).run(jobs.send_job(SERVICES, URL, "0")), JobFailed)


def test_no_job_is_sent_to_a_queue_that_is_not_found_yet() -> None:
    script = Script()
    assert isinstance(script.run(jobs.send_job(replace(SERVICES, queue_url=""), URL, "0")), JobFailed)
    assert script.said == []


def test_jobs_are_received_when_cache_and_store_answer() -> None:
    script = Script(PONG, missing(), delivered(BODY, "two"))
    received = script.run(jobs.receive_jobs(SERVICES, 16))
    assert [each.body for each in received.deliveries] == [BODY, "two"]
    assert received.trouble == ""
    assert script.said == ["PING", f"GET /bucket/{keys.epoch_key(jobs.HEALTH_URL)}", "ReceiveMessage"]
    said = asked(script, "ReceiveMessage")
    assert (said["QueueUrl"], said["MaxNumberOfMessages"]) == (SERVICES.queue_url, 10)
    assert (said["WaitTimeSeconds"], said["VisibilityTimeout"]) == (20, 60)
    exchange = script.calls[-1]
    assert isinstance(exchange, HttpExchange)
    assert exchange.timeout_s == 25.0, "longer than the queue may wait"
    assert script.waits == []
    script = Script(PONG, missing(), DONE)
    assert script.run(jobs.receive_jobs(SERVICES, 3)) == jobs.Received()
    assert asked(script, "ReceiveMessage")["MaxNumberOfMessages"] == 3


@pytest.mark.parametrize(
    ("replies", "trouble"),
    [
        ([BROKEN], "the cache cannot be reached"),
        ([RedisRefusal("NOAUTH")], "the cache cannot be reached"),
        ([PONG, BROKEN, BROKEN], "the store cannot be reached: broken: reset"),
        ([PONG, missing(), BROKEN], "the queue cannot be asked: broken: reset"),
    ],
)
def test_no_job_is_taken_that_would_only_be_given_back(replies: list[Reply], trouble: str) -> None:
    script = Script(*replies)
    assert script.run(jobs.receive_jobs(SERVICES, 1)) == jobs.Received(trouble=trouble)
    assert script.waits[-1] == Backoff(jobs.OUTAGE_BACKOFF_S)


def test_dead_letters_are_received_from_their_own_queue() -> None:
    script = Script(delivered("x"))
    assert [each.body for each in script.run(jobs.receive_dead_letters(SERVICES)).deliveries] == ["x"]
    assert asked(script, "ReceiveMessage")["QueueUrl"] == SERVICES.dead_url
    assert Script(DENIED).run(jobs.receive_dead_letters(SERVICES)).trouble.startswith("the queue cannot be asked")


@pytest.mark.parametrize("answers", [[DONE], [BROKEN, DONE], [DENIED], [BROKEN] * 4])
def test_acknowledging(answers: list[Reply]) -> None:
    script = Script(*answers)
    assert script.run(jobs.acknowledge(SERVICES, "r")) == JobSettled()
    assert set(script.said) == {"DeleteMessage"}


@pytest.mark.parametrize(("for_s", "told"), [(0.0, 0), (0.2, 1), (15.0, 15), (-3.0, 0), (1e9, 43_200)])
def test_deferring(for_s: float, told: int) -> None:
    script = Script(DONE)
    assert script.run(jobs.defer(SERVICES, "r", for_s)) == JobSettled()
    assert asked(script, "ChangeMessageVisibility") == {
        "QueueUrl": SERVICES.queue_url,
        "ReceiptHandle": "r",
        "VisibilityTimeout": told,
    }
    assert Script(BROKEN, BROKEN, BROKEN).run(jobs.defer(SERVICES, "r", for_s)) == JobSettled()


@pytest.mark.parametrize(("for_s", "delay"), [(0.2, 1), (15.0, 15), (1e9, 900)])
def test_a_job_is_given_back_as_if_it_had_never_been_delivered(for_s: float, delay: int) -> None:
    script = Script(SENT, DONE)
    assert script.run(jobs.give_back(SERVICES, "r", BODY, for_s)) == JobSettled()
    assert script.said == ["SendMessage", "DeleteMessage"], "deleted first, it could be lost"
    fresh = {"QueueUrl": SERVICES.queue_url, "MessageBody": BODY, "DelaySeconds": delay}
    assert asked(script, "SendMessage") == fresh
    assert asked(script, "DeleteMessage") == {"QueueUrl": SERVICES.queue_url, "ReceiptHandle": "r"}


def test_a_job_given_back_at_once_is_not_delayed() -> None:
    script = Script(SENT, DONE)
    assert script.run(jobs.give_back(SERVICES, "r", BODY, 0.0)) == JobSettled()
    assert "DelaySeconds" not in asked(script, "SendMessage")


@pytest.mark.parametrize("failure", [[BROKEN, BROKEN], [DENIED]])
def test_a_job_that_cannot_be_sent_afresh_is_deferred(failure: list[Reply]) -> None:
    script = Script(*failure, DONE)
    assert script.run(jobs.give_back(SERVICES, "r", BODY, 15.0)) == JobSettled()
    assert asked(script, "ChangeMessageVisibility")["VisibilityTimeout"] == 15
    assert "DeleteMessage" not in script.said


def test_extending() -> None:
    assert Script(DONE).run(jobs.extend_visibility(SERVICES, "r", 60.0)) == VisibilityExtended()
    assert Script(BROKEN).run(jobs.extend_visibility(SERVICES, "r", 60.0)) == QueueFailed()
    assert Script(DENIED).run(jobs.extend_visibility(SERVICES, "r", 60.0)) == QueueFailed()


@pytest.mark.parametrize(("lease_s", "at_most_s"), [(60.0, 5.0), (6.0, 2.0)])
def test_extending_takes_no_more_than_a_third_of_the_lease(lease_s: float, at_most_s: float) -> None:
    script = Script(BROKEN)
    worker = replace(POLICY.worker, lease_s=lease_s)
    script.run(jobs.extend_visibility(services(replace(POLICY, worker=worker)), "r", 60.0))
    (call,) = script.calls
    assert isinstance(call, HttpExchange)
    assert call.timeout_s == at_most_s


def test_a_job_is_read() -> None:
    assert jobs.read_job(SERVICES, DELIVERY) == Job(POOL.name, URL, "0")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "not JSON"),
        ("\x00", "not JSON"),
        ("[" * 100_000, "nested"),
        (to_body(Job("s3_eu-west-1", URL, "0")), "for another pool, in the queue of s3_us-west-1"),
        (to_body(Job(POOL.name, "ftp://a.example/", "0")), "the message's URL is refused"),
        (to_body(Job(POOL.name, "https://A.example/", "0")), "not in canonical form"),
        (to_body(Job(POOL.name, "https://a.example/" + "x" * 3_000, "0")), "the message's URL is refused"),
        (to_body(Job(POOL.name, URL, "a b")), "epoch"),
    ],
)
def test_what_is_no_job(body: str, why: str) -> None:
    found = jobs.read_job(SERVICES, replace(DELIVERY, body=body))
    assert isinstance(found, MessageError)
    assert why in str(found)


def test_burying() -> None:
    script = Script(SENT, DONE)
    assert script.run(jobs.bury(SERVICES, replace(DELIVERY, body="no job"), "w" * 300)) is True
    assert script.said == ["SendMessage", "DeleteMessage"]
    sent = asked(script, "SendMessage")
    assert (sent["QueueUrl"], sent["MessageBody"]) == (SERVICES.dead_url, "no job")
    assert sent["MessageAttributes"] == {
        "Reason": {"DataType": "String", "StringValue": "job-malformed"},
        "Detail": {"DataType": "String", "StringValue": "w" * 200},
    }
    assert asked(script, "DeleteMessage") == {"QueueUrl": SERVICES.queue_url, "ReceiptHandle": "receipt-1"}
    script = Script(DENIED)
    assert script.run(jobs.bury(SERVICES, DELIVERY, "why")) is False
    assert script.said == ["SendMessage"], "it stays where it is until it is somewhere else"


def test_a_delivery_is_opened_or_buried_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    assert Script().run(jobs.open_job(SERVICES, DELIVERY, metrics)) == Job(POOL.name, URL, "0")
    assert caplog.records == []
    for replies, done in (([SENT, DONE], True), ([DENIED], False)):
        script = Script(*replies)
        assert script.run(jobs.open_job(SERVICES, replace(DELIVERY, body="no job"), metrics)) is None
        assert caplog.records[-1].__dict__["buried"] is done
    labels = {"pool": POOL.name, "event": "buried"}
    assert metrics.registry.get_sample_value("cloud_mirror_jobs_total", labels) == 2


def test_a_dead_letter_is_kept_then_recorded_then_deleted() -> None:
    script = Script(STORED, scripted(), DONE)
    assert script.run(jobs.attend_dead_letter(SERVICES, DELIVERY, "token")) is True
    assert script.said == [PUT, "write entry if idle, told", "DeleteMessage"]
    letter = script.calls[0]
    assert isinstance(letter, HttpExchange)
    assert json.loads(bytes(letter.request.body)) == {
        "v": 1,
        "message_id": "id-1",
        "receive_count": 3,
        "reason": "copy-failed",
        "detail": "",
        "body": BODY,
    }
    fields = written(script.calls[1])
    assert (fields["status"], fields["reason"], fields["attempt"]) == ("error", "copy-failed", "3")
    assert (fields["retry_at"], fields["life_ms"]) == ("+30.000", "90000")
    assert asked(script, "DeleteMessage") == {"QueueUrl": SERVICES.dead_url, "ReceiptHandle": "receipt-1"}


def test_a_dead_letter_of_what_somebody_is_at_work_on_is_deleted_all_the_same() -> None:
    script = Script(STORED, scripted(False), DONE)
    assert script.run(jobs.attend_dead_letter(SERVICES, DELIVERY, "token")) is True


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([error(403, "AccessDenied")], 1),
        ([STORED, BROKEN], 2),
        ([STORED, RedisRefusal("OOM")], 2),
        ([STORED, scripted(), DENIED], 3),
    ],
)
def test_a_dead_letter_stays_until_all_of_it_is_done(replies: list[Reply], said: int) -> None:
    script = Script(*replies)
    assert script.run(jobs.attend_dead_letter(SERVICES, DELIVERY, "token")) is False
    assert len(script.said) == said


@pytest.mark.parametrize(
    ("attributes", "reason", "detail"),
    [
        ((), "job-malformed", "the message is not JSON"),
        ((("Detail", "as told"), ("Reason", "given")), "given", "as told"),
    ],
)
def test_a_dead_letter_that_is_no_job_is_kept_and_recorded_nowhere(
    attributes: tuple[tuple[str, str], ...], reason: str, detail: str
) -> None:
    odd = Delivery("id-1", "receipt-1", "not \ud800 json é", 1, attributes)
    script = Script(STORED, DONE)
    assert script.run(jobs.attend_dead_letter(SERVICES, odd, "token")) is True
    assert script.said[1] == "DeleteMessage"
    letter = script.calls[0]
    assert isinstance(letter, HttpExchange)
    kept = json.loads(bytes(letter.request.body))
    assert (kept["body"], kept["reason"], kept["detail"]) == (odd.body, reason, detail)


def test_without_credentials_nothing_is_received() -> None:
    none = TransportFailure(FailureKind.CREDENTIALS, "none")
    script = Script(PONG, none, none)
    assert script.run(jobs.receive_jobs(SERVICES, 1)).trouble.startswith("the store cannot be reached")
