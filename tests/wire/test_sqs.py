"""The SQS queue: what it would send, what it reads, and a job's whole way at moto's server."""

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.policy import QueuePolicy
from cloud_mirror.wire.calls import HttpRequest
from cloud_mirror.wire.sqs import SqsQueue, dead_attributes, main_attributes
from cloud_mirror.wire.storage import FaultKind, ServiceFault
from tests.wire.exchange import Asker, as_client, essence, reply

AWS = SqsQueue(QueuePolicy())
URL = "https://sqs.us-west-2.amazonaws.com/1/q"

OPERATIONS: list[tuple[str, dict[str, Any], Callable[[SqsQueue], HttpRequest]]] = [
    ("GetQueueUrl", {"QueueName": "q"}, lambda q: q.find_request("q")),
    (
        "CreateQueue",
        {"QueueName": "q", "Attributes": {"VisibilityTimeout": "60"}},
        lambda q: q.create_request("q", (("VisibilityTimeout", "60"),)),
    ),
    (
        "SetQueueAttributes",
        {"QueueUrl": URL, "Attributes": {"VisibilityTimeout": "60"}},
        lambda q: q.set_attributes_request(URL, (("VisibilityTimeout", "60"),)),
    ),
    ("GetQueueAttributes", {"QueueUrl": URL, "AttributeNames": ["All"]}, lambda q: q.attributes_request(URL)),
    ("SendMessage", {"QueueUrl": URL, "MessageBody": 'é "x"'}, lambda q: q.send_request(URL, 'é "x"')),
    (
        "SendMessage",
        {
            "QueueUrl": URL,
            "MessageBody": "b",
            "MessageAttributes": {"kind": {"DataType": "String", "StringValue": "copy"}},
        },
        lambda q: q.send_request(URL, "b", (("kind", "copy"),)),
    ),
    (
        "SendMessage",
        {"QueueUrl": URL, "MessageBody": "b", "DelaySeconds": 900},
        lambda q: q.send_request(URL, "b", delay_s=900),
    ),
    (
        "ReceiveMessage",
        {
            "QueueUrl": URL,
            "MaxNumberOfMessages": 10,
            "WaitTimeSeconds": 20,
            "VisibilityTimeout": 60,
            "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
            "MessageAttributeNames": ["All"],
        },
        lambda q: q.receive_request(URL, 10, 20, 60),
    ),
    (
        "ChangeMessageVisibility",
        {"QueueUrl": URL, "ReceiptHandle": "r+/=", "VisibilityTimeout": 0},
        lambda q: q.change_visibility_request(URL, "r+/=", 0),
    ),
    ("DeleteMessage", {"QueueUrl": URL, "ReceiptHandle": "r"}, lambda q: q.delete_request(URL, "r")),
]


@pytest.mark.parametrize("endpoint_url", [None, "http://127.0.0.1:5000"])
def test_requests_are_those_of_a_botocore_client(endpoint_url: str | None) -> None:
    queue = SqsQueue(QueuePolicy(endpoint_url=endpoint_url))
    for operation, parameters, made in OPERATIONS:
        assert essence(made(queue)) == as_client("sqs", operation, parameters, endpoint_url)


@given(name=st.sampled_from(["http://evil.example/q", "http://169.254.169.254/", URL]))
def test_a_queue_s_url_does_not_say_where_credentials_go(name: str) -> None:
    assert AWS.delete_request(name, "r").host == "sqs.us-west-2.amazonaws.com"


def test_a_queue_is_found_or_is_not_there() -> None:
    assert AWS.read_find(reply(200, json.dumps({"QueueUrl": URL}))) == URL
    assert AWS.read_create(reply(200, json.dumps({"QueueUrl": URL}))) == URL
    missing = '{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}'
    assert AWS.read_find(reply(400, missing)) is None
    old = "AWS.SimpleQueueService.NonExistentQueue;Sender"
    assert AWS.read_find(reply(400, missing, x_amzn_query_error=old)) is None
    assert AWS.read_find(reply(400, '{"__type":"x#Other"}', x_amzn_query_error=old)) is None
    for answer, kind in (
        (reply(404), FaultKind.NOT_FOUND),  # a proxy's, perhaps
        (reply(403, '{"__type":"x#AccessDenied"}'), FaultKind.DENIED),
        (reply(200), FaultKind.UNAVAILABLE),
        (reply(200, '{"QueueUrl": 7}'), FaultKind.UNAVAILABLE),
    ):
        with pytest.raises(ServiceFault) as caught:
            AWS.read_find(answer)
        assert caught.value.kind is kind


def test_what_was_sent_is_what_the_queue_saw() -> None:
    md5 = "9b0da1a4b9a3a1f6f6d3b7ea6d7ac8c4"
    body = json.dumps({"MessageId": "m", "MD5OfMessageBody": md5})
    assert AWS.read_send(reply(200, body)) == "m"
    assert AWS.read_send(reply(200, '{"MessageId": "m"}'), "sent") == "m"
    assert AWS.read_send(
        reply(200, '{"MessageId": "m", "MD5OfMessageBody": "5d41402abc4b2a76b9719d911017c592"}'), "hello"
    )
    with pytest.raises(ServiceFault, match="MD5"):
        AWS.read_send(reply(200, body), "sent")
    with pytest.raises(ServiceFault, match="without MessageId"):
        AWS.read_send(reply(200, "{}"))


def received(**more: Any) -> bytes:
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "hello", **more}
    return json.dumps({"Messages": [{name: value for name, value in message.items() if value != ""}]}).encode()


def test_messages_are_received_with_what_is_known_of_them() -> None:
    body = received(
        MD5OfBody="5d41402abc4b2a76b9719d911017c592",
        Attributes={"ApproximateReceiveCount": "3"},
        MessageAttributes={
            "kind": {"DataType": "String", "StringValue": "copy"},
            "blob": {"DataType": "Binary", "BinaryValue": "eA=="},
        },
    )
    (message,) = AWS.read_receive(reply(200, body))
    assert (message.message_id, message.receipt, message.body, message.receive_count) == ("m", "r", "hello", 3)
    assert message.attributes == (("blob", ""), ("kind", "copy"))
    (plain,) = AWS.read_receive(reply(200, received()))
    assert (plain.receive_count, plain.attributes) == (1, ())
    for nothing in ("", "{}", '{"Messages": []}', '{"Messages": null}'):
        assert AWS.read_receive(reply(200, nothing)) == ()


@pytest.mark.parametrize(
    "body",
    [
        received(Body=""),
        received(Body=7),
        received(MessageId=""),
        received(ReceiptHandle=""),
        received(MD5OfBody="0" * 32),
        received(Attributes={"ApproximateReceiveCount": "1_0"}),
        received(Attributes={"ApproximateReceiveCount": 1}),
        received(MessageAttributes={"kind": 7}),
        received(Attributes=7),
        b'{"Messages": [null]}',
        b"<html>",
    ],
)
def test_a_message_that_makes_no_sense_is_none(body: bytes) -> None:
    with pytest.raises(ServiceFault) as caught:
        AWS.read_receive(reply(200, body))
    assert (caught.value.kind, caught.value.code) == (FaultKind.UNAVAILABLE, "InvalidReply")


def test_attributes_are_read_or_there_are_none() -> None:
    assert AWS.read_attributes(reply(200, '{"Attributes": {"b": "2", "a": "1"}}')) == (("a", "1"), ("b", "2"))
    with pytest.raises(ServiceFault, match="without Attributes"):
        AWS.read_attributes(reply(200, "{}"))


def test_an_empty_success_is_enough_where_nothing_is_asked_for() -> None:
    for read in (AWS.read_delete, AWS.read_change_visibility, AWS.read_set_attributes):
        read(reply(200))
        read(reply(200, "{}"))
        with pytest.raises(ServiceFault) as caught:
            read(reply(200, "<html>a proxy's own page</html>"))
        assert caught.value.kind is FaultKind.UNAVAILABLE


@pytest.mark.parametrize(
    ("at_most", "wait_s", "timeout_s"), [(0, 0, 0), (11, 0, 0), (1, -1, 0), (1, 21, 0), (1, 0, 43_201)]
)
def test_what_sqs_does_not_take_is_not_sent(at_most: int, wait_s: int, timeout_s: int) -> None:
    with pytest.raises(ValueError, match="SQS takes"):
        AWS.receive_request(URL, at_most, wait_s, timeout_s)


@pytest.mark.parametrize(
    "settings",
    [
        {"prefix": ""},
        {"prefix": "a b"},
        {"prefix": "x" * 61},
        {"region": "us west"},
        {"visibility_timeout_s": 0},
        {"visibility_timeout_s": 43_201},
        {"max_receive_count": 0},
        {"max_receive_count": 1001},
        {"endpoint_url": "::no url::"},
    ],
)
def test_a_setting_that_sqs_does_not_take_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="queue"):
        SqsQueue(QueuePolicy(**settings))


def test_a_dead_letter_outlives_what_is_left_of_a_job() -> None:
    policy = QueuePolicy(visibility_timeout_s=30, max_receive_count=4)
    main, dead = dict(main_attributes(policy, "arn:dead")), dict(dead_attributes(policy))
    assert int(dead["MessageRetentionPeriod"]) == 14 * 86_400
    assert int(main["MessageRetentionPeriod"]) == 4 * 86_400
    assert json.loads(main["RedrivePolicy"]) == {"deadLetterTargetArn": "arn:dead", "maxReceiveCount": "4"}
    assert (main["VisibilityTimeout"], main["ReceiveMessageWaitTimeSeconds"]) == ("30", "20")


def test_a_job_s_whole_way(moto_url: str) -> None:
    policy = QueuePolicy(prefix=f"q-{secrets.token_hex(8)}", endpoint_url=moto_url, max_receive_count=2)
    queue = SqsQueue(policy)
    ask = Asker(queue, "test", "test")
    assert ask(queue.find_request(policy.name("p")), queue.read_find) is None
    dead = ask(queue.create_request(policy.dead_name("p"), dead_attributes(policy)), queue.read_create)
    arn = dict(ask(queue.attributes_request(dead), queue.read_attributes))["QueueArn"]
    wanted = main_attributes(policy, arn)
    main = ask(queue.create_request(policy.name("p"), wanted), queue.read_create)
    assert ask(queue.create_request(policy.name("p"), wanted), queue.read_create) == main
    assert ask(queue.find_request(policy.name("p")), queue.read_find) == main
    with pytest.raises(ServiceFault) as caught:
        ask(queue.create_request(policy.name("p"), (("VisibilityTimeout", "7"),)), queue.read_create)
    assert caught.value.kind is FaultKind.CONFLICT
    ask(queue.set_attributes_request(main, (("VisibilityTimeout", "7"),)), queue.read_set_attributes)
    assert dict(ask(queue.attributes_request(main), queue.read_attributes))["VisibilityTimeout"] == "7"

    body = '{"url": "https://a/é?b=\\"c\\"&d"}'
    message_id = ask(queue.send_request(main, body, (("kind", "copy"),)), lambda answer: queue.read_send(answer, body))
    receipt = ""
    for count in (1, 2):
        (message,) = ask(queue.receive_request(main, 10, 1, 60), queue.read_receive)
        assert (message.message_id, message.body, message.receive_count) == (message_id, body, count)
        assert message.attributes == (("kind", "copy"),)
        assert ask(queue.receive_request(main, 10, 0, 60), queue.read_receive) == ()
        receipt = message.receipt
        ask(queue.change_visibility_request(main, receipt, 0), queue.read_change_visibility)
    assert ask(queue.receive_request(main, 10, 0, 60), queue.read_receive) == ()  # moved by the redrive policy
    (letter,) = ask(queue.receive_request(dead, 10, 1, 60), queue.read_receive)
    assert letter.body == body
    ask(queue.delete_request(dead, letter.receipt), queue.read_delete)
    ask(queue.change_visibility_request(dead, letter.receipt, 0), lambda answer: answer)
    assert ask(queue.receive_request(dead, 10, 0, 60), queue.read_receive) == ()
    with pytest.raises(ServiceFault) as caught:
        ask(queue.delete_request(main + "-none", receipt), queue.read_delete)
    assert caught.value.kind is FaultKind.NOT_FOUND
