"""SQS as the job queue, in its JSON protocol (Amazon SQS API Reference; "AWS JSON protocol" of its developer guide).

An error's code comes in the body or, for those who knew the older protocol, in a header: both are matched. Requests
always go to the endpoint that was configured, whatever host a queue's URL names: credentials go nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from cloud_mirror.policy import QueuePolicy
from cloud_mirror.wire.aws import AwsService, nonsense, text_of
from cloud_mirror.wire.calls import HttpReply, HttpRequest, SigningMaterial
from cloud_mirror.wire.queue import Delivery, JobQueue
from cloud_mirror.wire.storage import FaultKind, ServiceFault

MAX_BATCH: Final = 10
MAX_WAIT_S: Final = 20
MAX_VISIBILITY_S: Final = 43_200
MAX_DELAY_S: Final = 900
RETENTION_S: Final = 4 * 86_400
DEAD_RETENTION_S: Final = 14 * 86_400
"""A message keeps its first enqueue time when it is moved, so the dead-letter queue must keep it for longer."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,60}\Z")
_COUNT: Final = re.compile(r"[0-9]{1,9}\Z")
_NO_SUCH_QUEUE: Final = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})


def main_attributes(policy: QueuePolicy, dead_arn: str) -> tuple[tuple[str, str], ...]:
    """What a pool's queue is created with; `dead_arn` names its dead-letter queue."""
    redrive = {"deadLetterTargetArn": dead_arn, "maxReceiveCount": str(policy.max_receive_count)}
    return (
        ("MessageRetentionPeriod", str(RETENTION_S)),
        ("ReceiveMessageWaitTimeSeconds", str(MAX_WAIT_S)),
        ("RedrivePolicy", json.dumps(redrive)),
        ("VisibilityTimeout", str(policy.visibility_timeout_s)),
    )


def dead_attributes(policy: QueuePolicy) -> tuple[tuple[str, str], ...]:
    """What a pool's dead-letter queue is created with."""
    return (
        ("MessageRetentionPeriod", str(DEAD_RETENTION_S)),
        ("ReceiveMessageWaitTimeSeconds", str(MAX_WAIT_S)),
        ("VisibilityTimeout", str(policy.visibility_timeout_s)),
    )


def check_policy(policy: QueuePolicy) -> None:
    """Raise ValueError, naming the setting, where a setting is none that SQS takes."""
    if not _PREFIX.match(policy.prefix):
        raise ValueError(f"queue prefix is {policy.prefix!r}: give 1 to 60 letters, digits, '-' or '_'")
    if not 1 <= policy.visibility_timeout_s <= MAX_VISIBILITY_S:
        raise ValueError(f"queue visibility_timeout_s is {policy.visibility_timeout_s}: give 1 to {MAX_VISIBILITY_S}")
    if not 1 <= policy.max_receive_count <= 1000:
        raise ValueError(f"queue max_receive_count is {policy.max_receive_count}: give 1 to 1000")


class SqsQueue(JobQueue):
    """The queues of one account and region. Raises ValueError where the policy's settings are none that SQS takes."""

    def __init__(self, policy: QueuePolicy) -> None:
        check_policy(policy)
        try:
            self._aws = AwsService("sqs", policy.region, policy.endpoint_url)
        except ValueError as error:
            raise ValueError(f"queue: {error}") from error

    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:
        """The request, signed for now."""
        return self._aws.sign(request, material)

    def find_request(self, name: str) -> HttpRequest:
        """GetQueueUrl."""
        return self._aws.build("GetQueueUrl", {"QueueName": name})

    def read_find(self, reply: HttpReply) -> str | None:
        """None only where SQS says that there is no such queue."""
        try:
            return text_of("GetQueueUrl", self._aws.parse("GetQueueUrl", reply), "QueueUrl")
        except ServiceFault as fault:
            if fault.kind is FaultKind.NOT_FOUND and fault.code in _NO_SUCH_QUEUE:
                return None
            raise

    def create_request(self, name: str, attributes: tuple[tuple[str, str], ...]) -> HttpRequest:
        """CreateQueue."""
        return self._aws.build("CreateQueue", {"QueueName": name, "Attributes": dict(attributes)})

    def read_create(self, reply: HttpReply) -> str:
        """The queue's URL; a queue of that name with other attributes is a CONFLICT."""
        return text_of("CreateQueue", self._aws.parse("CreateQueue", reply), "QueueUrl")

    def set_attributes_request(self, queue_url: str, attributes: tuple[tuple[str, str], ...]) -> HttpRequest:
        """SetQueueAttributes."""
        return self._aws.build("SetQueueAttributes", {"QueueUrl": queue_url, "Attributes": dict(attributes)})

    def read_set_attributes(self, reply: HttpReply) -> None:
        """Nothing, once they are changed."""
        self._aws.parse("SetQueueAttributes", reply)

    def attributes_request(self, queue_url: str) -> HttpRequest:
        """GetQueueAttributes, all of them."""
        return self._aws.build("GetQueueAttributes", {"QueueUrl": queue_url, "AttributeNames": ["All"]})

    def read_attributes(self, reply: HttpReply) -> tuple[tuple[str, str], ...]:
        """The attributes, sorted by name."""
        parsed = self._aws.parse("GetQueueAttributes", reply, "Attributes")
        return tuple(sorted((str(name), str(value)) for name, value in parsed["Attributes"].items()))

    def send_request(
        self, queue_url: str, body: str, attributes: tuple[tuple[str, str], ...] = (), delay_s: int = 0
    ) -> HttpRequest:
        """SendMessage, with each attribute a String."""
        named = {name: {"DataType": "String", "StringValue": value} for name, value in attributes}
        more: dict[str, object] = {"MessageAttributes": named} if named else {}
        if delay_s:
            more["DelaySeconds"] = _within("delay_s", delay_s, 0, MAX_DELAY_S)
        return self._aws.build("SendMessage", {"QueueUrl": queue_url, "MessageBody": body, **more})

    def read_send(self, reply: HttpReply, body: str | None = None) -> str:
        """The message's id; where `body` is given and SQS gives its MD5, they must agree."""
        parsed = self._aws.parse("SendMessage", reply)
        message_id = text_of("SendMessage", parsed, "MessageId")
        if body is not None:
            _check_md5("SendMessage", body, parsed.get("MD5OfMessageBody"))
        return message_id

    def receive_request(self, queue_url: str, at_most: int, wait_s: int, visibility_timeout_s: int) -> HttpRequest:
        """ReceiveMessage, with each delivery's count. The reply may take `wait_s` to begin."""
        return self._aws.build(
            "ReceiveMessage",
            {
                "QueueUrl": queue_url,
                "MaxNumberOfMessages": _within("at_most", at_most, 1, MAX_BATCH),
                "WaitTimeSeconds": _within("wait_s", wait_s, 0, MAX_WAIT_S),
                "VisibilityTimeout": _within("visibility_timeout_s", visibility_timeout_s, 0, MAX_VISIBILITY_S),
                "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
                "MessageAttributeNames": ["All"],
            },
        )

    def read_receive(self, reply: HttpReply) -> tuple[Delivery, ...]:
        """The messages that came, each compared with its MD5."""
        return tuple(_delivery(each or {}) for each in self._aws.parse("ReceiveMessage", reply).get("Messages") or ())

    def change_visibility_request(self, queue_url: str, receipt: str, timeout_s: int) -> HttpRequest:
        """ChangeMessageVisibility."""
        timeout = _within("timeout_s", timeout_s, 0, MAX_VISIBILITY_S)
        parameters = {"QueueUrl": queue_url, "ReceiptHandle": receipt, "VisibilityTimeout": timeout}
        return self._aws.build("ChangeMessageVisibility", parameters)

    def read_change_visibility(self, reply: HttpReply) -> None:
        """Nothing, once it is done; a success does not prove that the message was still this receiver's."""
        self._aws.parse("ChangeMessageVisibility", reply)

    def delete_request(self, queue_url: str, receipt: str) -> HttpRequest:
        """DeleteMessage."""
        return self._aws.build("DeleteMessage", {"QueueUrl": queue_url, "ReceiptHandle": receipt})

    def read_delete(self, reply: HttpReply) -> None:
        """Nothing, once it is done."""
        self._aws.parse("DeleteMessage", reply)


def _delivery(message: Mapping[str, Any]) -> Delivery:
    operation = "ReceiveMessage"
    body = message.get("Body")
    if not isinstance(body, str):
        raise nonsense(operation, "a message without Body")
    _check_md5(operation, body, message.get("MD5OfBody"))
    count = message.get("Attributes", {}).get("ApproximateReceiveCount", "1")
    if not isinstance(count, str) or not _COUNT.match(count):
        raise nonsense(operation, f"a message received {count!r} times")
    attributes = message.get("MessageAttributes", {})
    return Delivery(
        message_id=text_of(operation, message, "MessageId"),
        receipt=text_of(operation, message, "ReceiptHandle"),
        body=body,
        receive_count=int(count),
        attributes=tuple(
            sorted((name, str((value or {}).get("StringValue", ""))) for name, value in attributes.items())
        ),
    )


def _check_md5(operation: str, body: str, md5: object) -> None:
    if md5 is not None and md5 != hashlib.md5(body.encode("utf-8"), usedforsecurity=False).hexdigest():
        raise nonsense(operation, "a message whose MD5 is another's")


def _within(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}: SQS takes {least} to {most}")
    return value
