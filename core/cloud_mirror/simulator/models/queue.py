"""A queue as SQS's standard queues are: at least once, in any order, each delivery hidden for a while.

Where SQS promises nothing, the caller chooses: `choose(n)` gives a number below n, and is asked only where n > 1.

| what | 0 | 1 |
| --- | --- | --- |
| receive: which of the visible messages comes next | the one sent first | the next one, and so on |
| delete or change visibility by a receipt that is not the message's latest | done nothing, and 200 | done as asked |
| change the visibility of a message that is not in flight (deleted, or visible again) | done nothing, and 200 | 400 |

Messages are kept for ever, and a receive takes as many as it may.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from cloud_mirror.simulator.models import replies
from cloud_mirror.wire.calls import HttpReply, HttpRequest, SigningMaterial
from cloud_mirror.wire.queue import Delivery, JobQueue
from cloud_mirror.wire.storage import FaultKind, ServiceFault

Attributes: TypeAlias = tuple[tuple[str, str], ...]
Choose: TypeAlias = Callable[[int], int]

OPERATION: Final = "operation"
NO_QUEUE: Final = "QueueDoesNotExist"


class SimulatedQueue(JobQueue):
    """The simulated queues. The first header names the operation, the body is its parameters as JSON."""

    def __init__(self, host: str = "queue.simulated") -> None:
        self.host = host

    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:  # noqa: ARG002  # nobody checks it
        """The request as it is."""
        return request

    def find_request(self, name: str) -> HttpRequest:
        """GetQueueUrl."""
        return self._build("Find", name=name)

    def read_find(self, reply: HttpReply) -> str | None:
        """None only where there is no such queue."""
        try:
            return str(replies.read("Find", reply))
        except ServiceFault as fault:
            if fault.kind is FaultKind.NOT_FOUND and fault.code == NO_QUEUE:
                return None
            raise

    def create_request(self, name: str, attributes: Attributes) -> HttpRequest:
        """CreateQueue."""
        return self._build("Create", name=name, attributes=attributes)

    def read_create(self, reply: HttpReply) -> str:
        """The queue's URL."""
        return str(replies.read("Create", reply))

    def set_attributes_request(self, queue_url: str, attributes: Attributes) -> HttpRequest:
        """SetQueueAttributes."""
        return self._build("SetAttributes", queue=queue_url, attributes=attributes)

    def read_set_attributes(self, reply: HttpReply) -> None:
        """Nothing, once they are changed."""
        replies.check("SetAttributes", reply)

    def attributes_request(self, queue_url: str) -> HttpRequest:
        """GetQueueAttributes."""
        return self._build("GetAttributes", queue=queue_url)

    def read_attributes(self, reply: HttpReply) -> Attributes:
        """The attributes, sorted by name."""
        return _pairs(replies.read("GetAttributes", reply))

    def send_request(self, queue_url: str, body: str, attributes: Attributes = (), delay_s: int = 0) -> HttpRequest:
        """SendMessage."""
        return self._build("Send", queue=queue_url, body=body, attributes=attributes, delay_s=delay_s)

    def read_send(self, reply: HttpReply, body: str | None = None) -> str:  # noqa: ARG002  # nothing garbles it
        """The message's id."""
        return str(replies.read("Send", reply))

    def receive_request(self, queue_url: str, at_most: int, wait_s: int, visibility_timeout_s: int) -> HttpRequest:
        """ReceiveMessage. `wait_s` is for who carries the request: the model answers at once."""
        return self._build("Receive", queue=queue_url, at_most=at_most, wait_s=wait_s, hidden_s=visibility_timeout_s)

    def read_receive(self, reply: HttpReply) -> tuple[Delivery, ...]:
        """The messages that came."""
        return tuple(
            Delivery(message_id, receipt, body, count, _pairs(attributes))
            for message_id, receipt, body, count, attributes in replies.read("Receive", reply)
        )

    def change_visibility_request(self, queue_url: str, receipt: str, timeout_s: int) -> HttpRequest:
        """ChangeMessageVisibility."""
        return self._build("ChangeVisibility", queue=queue_url, receipt=receipt, hidden_s=timeout_s)

    def read_change_visibility(self, reply: HttpReply) -> None:
        """Nothing; a success proves nothing."""
        replies.check("ChangeVisibility", reply)

    def delete_request(self, queue_url: str, receipt: str) -> HttpRequest:
        """DeleteMessage."""
        return self._build("Delete", queue=queue_url, receipt=receipt)

    def read_delete(self, reply: HttpReply) -> None:
        """Nothing, once it is done."""
        replies.check("Delete", reply)

    def _build(self, operation: str, **parameters: object) -> HttpRequest:
        body = json.dumps(parameters).encode()
        return HttpRequest("POST", "https", self.host, 443, "/", ((OPERATION, operation),), body)


@dataclass(frozen=True, slots=True)
class Message:
    """A message, in flight or not. A receipt is the message's id with the number of its delivery."""

    queue_url: str
    body: str = field(repr=False)
    attributes: Attributes
    visible_at_s: float
    receive_count: int = 0
    in_flight: bool = False


@dataclass(frozen=True, slots=True)
class _Queue:
    attributes: Attributes
    dead_url: str = ""
    max_receive_count: int = 0


class QueueModel:
    """One account's queues. `handle` answers what `SimulatedQueue` asks; the other methods are for the world.

    `remembers`: deleted messages are kept aside, so that `revive` can bring them back.
    """

    __slots__ = ("_deleted", "_messages", "_queues", "_remembers", "_sent")

    def __init__(self, *, remembers: bool = False) -> None:
        self._remembers = remembers
        self._sent = 0
        self._queues: dict[str, _Queue] = {}
        self._messages: dict[str, Message] = {}
        self._deleted: dict[str, Message] = {}

    def copy(self) -> QueueModel:
        """An independent twin."""
        twin = QueueModel(remembers=self._remembers)
        twin._sent = self._sent
        twin._queues, twin._messages = self._queues.copy(), self._messages.copy()
        twin._deleted = self._deleted.copy()
        return twin

    @property
    def sent(self) -> int:
        """How many messages were ever sent."""
        return self._sent

    def key(self) -> Hashable:
        """What tells these queues from others; how many messages were ever sent makes no difference to what they do."""
        messages, deleted = frozenset(self._messages.items()), frozenset(self._deleted.items())
        return messages, deleted, frozenset(self._queues.items())

    def handle(self, request: HttpRequest, now_s: float, choose: Choose = lambda _: 0) -> HttpReply:
        """Carry one request out; a receive gives what can be had at once."""
        asked: dict[str, Any] = json.loads(bytes(request.body))
        match dict(request.headers)[OPERATION]:
            case "Find":
                url = _url(asked["name"])
                return replies.told(url) if url in self._queues else replies.refused(400, NO_QUEUE)
            case "Create":
                return self._create(asked["name"], _pairs(asked["attributes"]))
            case _ if asked["queue"] not in self._queues:
                return replies.refused(400, NO_QUEUE)
            case "SetAttributes":
                found = dict(self._queues[asked["queue"]].attributes) | dict(_pairs(asked["attributes"]))
                self._queues[asked["queue"]] = _queue(found)
                return replies.done()
            case "GetAttributes":
                return replies.told(self._queues[asked["queue"]].attributes)
            case "Send":
                self._sent += 1
                message_id, visible_at_s = f"m{self._sent}", now_s + asked["delay_s"]
                message = Message(asked["queue"], asked["body"], _pairs(asked["attributes"]), visible_at_s)
                self._messages[message_id] = message
                return replies.told(message_id)
            case "Receive":
                return self._receive(asked["queue"], asked["at_most"], now_s, asked["hidden_s"], choose)
            case "ChangeVisibility":
                return self._change_visibility(asked["queue"], asked["receipt"], now_s, asked["hidden_s"], choose)
            case _:
                return self._delete(asked["queue"], asked["receipt"], choose)

    def _create(self, name: str, attributes: Attributes) -> HttpReply:
        url = _url(name)
        wanted = dict(attributes) | {"QueueArn": f"{_ARN}{name}"}
        found = self._queues.setdefault(url, _queue(wanted))
        same = all(dict(found.attributes).get(each) == value for each, value in attributes)
        return replies.told(url) if same else replies.refused(400, "QueueNameExists")

    def _receive(self, url: str, at_most: int, now_s: float, hidden_s: int, choose: Choose) -> HttpReply:
        queue = self._queues[url]
        visible = [
            name for name, each in self._messages.items() if each.queue_url == url and each.visible_at_s <= now_s
        ]
        if queue.dead_url:
            spent = [name for name in visible if self._messages[name].receive_count >= queue.max_receive_count]
            for name in spent:
                visible.remove(name)
                self._messages[name] = replace(self._messages[name], queue_url=queue.dead_url, in_flight=False)
        taken: list[tuple[str, str, str, int, Attributes]] = []
        while visible and len(taken) < at_most:
            name = visible.pop(choose(len(visible)) if len(visible) > 1 else 0)
            message = self._messages[name]
            count = message.receive_count + 1
            self._messages[name] = replace(message, visible_at_s=now_s + hidden_s, receive_count=count, in_flight=True)
            taken.append((name, f"{name}.{count}", message.body, count, message.attributes))
        return replies.told(taken)

    def _named(self, url: str, receipt: str) -> tuple[str, Message | None, bool]:
        """The message in that queue which a receipt names, and whether the receipt is its latest."""
        name, _, number = receipt.partition(".")
        message = self._messages.get(name)
        if message is None or message.queue_url != url:
            return name, None, False
        return name, message, message.receive_count == int(number)

    def _change_visibility(self, url: str, receipt: str, now_s: float, hidden_s: int, choose: Choose) -> HttpReply:
        name, message, latest = self._named(url, receipt)
        if message is None or not message.in_flight or message.visible_at_s <= now_s:
            return replies.refused(400, "MessageNotInflight") if choose(2) else replies.done()
        if latest or choose(2):
            self._messages[name] = replace(message, visible_at_s=now_s + hidden_s)
        return replies.done()

    def _delete(self, url: str, receipt: str, choose: Choose) -> HttpReply:
        name, message, latest = self._named(url, receipt)
        if message is not None and (latest or choose(2)):
            del self._messages[name]
            if self._remembers:
                self._deleted[name] = message
        return replies.done()

    def visible_at_s(self, queue_url: str, now_s: float) -> float | None:
        """When the next of a queue's messages can be received, now or later; None: not before somebody sends one."""
        moments = [each.visible_at_s for each in self._messages.values() if each.queue_url == queue_url]
        return max(now_s, min(moments)) if moments else None

    def redeliver(self, message_id: str, now_s: float) -> None:
        """Let a message in flight be visible before its time."""
        message = self._messages.get(message_id)
        if message is not None and message.visible_at_s > now_s:
            self._messages[message_id] = replace(message, visible_at_s=now_s)

    def revive(self, message_id: str, now_s: float) -> None:
        """Let a deleted message be delivered again."""
        message = self._deleted.pop(message_id, None)
        if message is not None:
            self._messages[message_id] = replace(message, visible_at_s=now_s, in_flight=False)

    def url_of(self, name: str) -> str | None:
        """The URL of the queue of that name."""
        return _url(name) if _url(name) in self._queues else None

    def messages(self, queue_url: str) -> dict[str, Message]:
        """The messages of a queue, hidden ones too, by their ids."""
        return {name: each for name, each in self._messages.items() if each.queue_url == queue_url}

    @property
    def deleted(self) -> tuple[str, ...]:
        """The ids of the messages that `revive` can bring back."""
        return tuple(self._deleted)


_ARN: Final = "arn:simulated:"


def _url(name: str) -> str:
    return f"https://queue.simulated/{name}"


def _queue(attributes: dict[str, str]) -> _Queue:
    redrive = json.loads(attributes.get("RedrivePolicy", "{}"))
    dead = str(redrive.get("deadLetterTargetArn", "")).removeprefix(_ARN)
    return _Queue(tuple(sorted(attributes.items())), _url(dead) if dead else "", int(redrive.get("maxReceiveCount", 0)))


def _pairs(listed: list[list[str]] | Attributes) -> Attributes:
    return tuple((name, value) for name, value in listed)
