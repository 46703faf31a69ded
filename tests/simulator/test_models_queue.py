"""The model of a queue by itself: the choices that SQS has, what comes twice, twins."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from cloud_mirror.policy import QueuePolicy
from cloud_mirror.simulator.models import QueueModel, SimulatedQueue, denied, throttled
from cloud_mirror.wire.calls import HttpReply, HttpRequest
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.sqs import dead_attributes, main_attributes
from cloud_mirror.wire.storage import FaultKind, ServiceFault
from tests.wire.exchange import KEYS

T = TypeVar("T")

POLICY = QueuePolicy(max_receive_count=2)
QUEUE = SimulatedQueue()


def always(number: int) -> Callable[[int], int]:
    return lambda _: number


class Asked:
    """Queues that are asked through their translation, at `now_s`."""

    def __init__(self, model: QueueModel) -> None:
        self.model = model
        self.now_s = 100.0
        dead = self(QUEUE.create_request("q-dead", dead_attributes(POLICY)), QUEUE.read_create)
        arn = dict(self(QUEUE.attributes_request(dead), QUEUE.read_attributes))["QueueArn"]
        self.dead = dead
        self.url = self(QUEUE.create_request("q", main_attributes(POLICY, arn)), QUEUE.read_create)

    def __call__(self, request: HttpRequest, read: Callable[[HttpReply], T], choice: int = 0) -> T:
        return read(self.model.handle(QUEUE.sign(request, KEYS), self.now_s, always(choice)))

    def send(self, body: str = "job", delay_s: int = 0) -> str:
        return self(QUEUE.send_request(self.url, body, (("kind", "copy"),), delay_s), QUEUE.read_send)

    def receive(self, at_most: int = 10, choice: int = 0) -> tuple[Delivery, ...]:
        return self(QUEUE.receive_request(self.url, at_most, 20, 60), QUEUE.read_receive, choice)

    def hide(self, receipt: str, for_s: int, choice: int = 0) -> None:
        self(QUEUE.change_visibility_request(self.url, receipt, for_s), QUEUE.read_change_visibility, choice)

    def delete(self, receipt: str, choice: int = 0) -> None:
        self(QUEUE.delete_request(self.url, receipt), QUEUE.read_delete, choice)


@pytest.fixture
def queue() -> Asked:
    return Asked(QueueModel(remembers=True))


def test_the_caller_chooses_which_message_comes(queue: Asked) -> None:
    for body in "abc":
        queue.send(body)
    assert [each.body for each in queue.receive(2, choice=1)] == ["b", "c"]
    (last,) = queue.receive()
    assert (last.body, last.receive_count, last.attributes) == ("a", 1, (("kind", "copy"),))
    assert queue.receive() == ()


def test_a_message_is_hidden_until_its_moment(queue: Asked) -> None:
    assert queue.model.visible_at_s(queue.url, 100.0) is None
    queue.send(delay_s=30)
    assert queue.receive() == ()
    assert queue.model.visible_at_s(queue.url, 100.0) == 130.0
    queue.now_s = 130.0
    (one,) = queue.receive()
    assert queue.model.visible_at_s(queue.url, 140.0) == 190.0
    queue.hide(one.receipt, 5)
    assert queue.model.visible_at_s(queue.url, 140.0) == 140.0


def test_a_message_received_too_often_becomes_a_dead_letter(queue: Asked) -> None:
    queue.send()
    first = queue.receive()
    queue.now_s = 160.0
    second = queue.receive()
    assert [each.receive_count for each in (*first, *second)] == [1, 2]
    queue.now_s = 220.0
    assert queue.receive() == ()
    queue.delete(second[0].receipt, choice=1)  # it is not in that queue any more
    assert list(queue.model.messages(queue.dead)) == [second[0].message_id]
    (letter,) = queue(QUEUE.receive_request(queue.dead, 10, 0, 60), QUEUE.read_receive)
    assert (letter.body, letter.receive_count) == ("job", 3)


@pytest.mark.parametrize(("choice", "left"), [(0, 1), (1, 0)])
def test_an_old_receipt_may_do_something_or_nothing(queue: Asked, choice: int, left: int) -> None:
    queue.send()
    (old,) = queue.receive()
    queue.now_s += 60.0
    queue.receive()
    queue.hide(old.receipt, 500, choice)
    assert queue.model.visible_at_s(queue.url, queue.now_s) == queue.now_s + (500 if choice else 60)
    queue.delete(old.receipt, choice)
    assert len(queue.model.messages(queue.url)) == left


def test_what_is_not_in_flight_is_not_hidden_whatever_the_reply_says(queue: Asked) -> None:
    queue.send()
    (one,) = queue.receive()
    queue.now_s += 60.0
    for _ in ("visible again", "deleted"):
        queue.hide(one.receipt, 500)
        with pytest.raises(ServiceFault) as caught:
            queue.hide(one.receipt, 500, choice=1)
        assert (caught.value.kind, caught.value.code) == (FaultKind.REJECTED, "MessageNotInflight")
        queue.delete(one.receipt)
    assert queue.model.messages(queue.url) == {}


def test_a_message_may_come_early_and_after_its_end(queue: Asked) -> None:
    name = queue.send()
    queue.receive()
    queue.model.redeliver(name, queue.now_s)
    (again,) = queue.receive()
    assert again.receive_count == 2
    queue.model.redeliver("none", queue.now_s)
    queue.delete(again.receipt)
    queue.model.revive(name, queue.now_s)
    queue.model.revive(name, queue.now_s)
    queue.model.redeliver(name, queue.now_s)
    assert list(queue.model.messages(queue.url)) == [name]
    forgetful = Asked(QueueModel())
    forgetful.send()
    forgetful.delete(forgetful.receive()[0].receipt)
    assert forgetful.model.deleted == ()


def test_a_queue_is_found_by_its_name(queue: Asked) -> None:
    assert queue.model.url_of("q") == queue.url == queue(QUEUE.find_request("q"), QUEUE.read_find)
    assert queue.model.url_of("none") is queue(QUEUE.find_request("none"), QUEUE.read_find) is None
    with pytest.raises(ServiceFault) as caught:
        QUEUE.read_find(denied())
    assert caught.value.kind is FaultKind.DENIED
    with pytest.raises(ServiceFault) as caught:
        queue(QUEUE.send_request("https://queue.simulated/none", ""), QUEUE.read_send)
    assert caught.value.kind is FaultKind.NOT_FOUND
    with pytest.raises(ServiceFault) as caught:
        queue(QUEUE.create_request("q", (("VisibilityTimeout", "7"),)), QUEUE.read_create)
    assert caught.value.kind is FaultKind.CONFLICT
    queue(QUEUE.set_attributes_request(queue.url, (("VisibilityTimeout", "7"),)), QUEUE.read_set_attributes)
    assert dict(queue(QUEUE.attributes_request(queue.url), QUEUE.read_attributes))["VisibilityTimeout"] == "7"
    with pytest.raises(ServiceFault) as caught:
        QUEUE.read_receive(throttled())
    assert caught.value.kind is FaultKind.THROTTLED


def test_a_twin_goes_its_own_way(queue: Asked) -> None:
    queue.send()
    twin = queue.model.copy()
    assert twin.key() == queue.model.key()
    queue.receive()
    assert twin.key() != queue.model.key()
    assert twin.visible_at_s(queue.url, 100.0) == 100.0
    assert twin.sent == 1
