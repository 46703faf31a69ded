"""The model of a queue side by side with moto's SQS, each through its own translation."""

import itertools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from cloud_mirror.policy import QueuePolicy
from cloud_mirror.simulator.models import QueueModel, SimulatedQueue
from cloud_mirror.wire.calls import HttpReply, HttpRequest
from cloud_mirror.wire.queue import Delivery, JobQueue
from cloud_mirror.wire.sqs import SqsQueue, dead_attributes, main_attributes
from cloud_mirror.wire.storage import FaultKind
from tests.servers.processes import wait_until
from tests.simulator.store_pair import outcome
from tests.wire.exchange import Asker

T = TypeVar("T")
Ask = tuple[HttpRequest, Callable[[HttpReply], T]]
Asking = Callable[[JobQueue, str], Ask[T]]
MAX_RECEIVES = 2


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery, as the server and as the model gave it."""

    dead: bool
    real: Delivery
    modelled: Delivery


class QueuePair:
    """A server's queue with its dead-letter queue, and the model's."""

    def __init__(self, endpoint_url: str) -> None:
        name = f"models-{secrets.token_hex(8)}"
        policy = QueuePolicy(prefix=name, endpoint_url=endpoint_url, max_receive_count=MAX_RECEIVES)
        self.sqs, self.simulated, self.model = SqsQueue(policy), SimulatedQueue(), QueueModel()
        self.real = Asker(self.sqs, "test", "test")
        self.urls: dict[tuple[JobQueue, bool], str] = {}
        self.set_up(policy, self.sqs, self.real)
        self.set_up(policy, self.simulated, self.simulate)
        self.main, self.dead = self.urls[self.simulated, False], self.urls[self.simulated, True]

    def set_up(self, policy: QueuePolicy, queue: JobQueue, ask: Any) -> None:
        """Make both queues, and see on the way how queues are found, made and changed."""
        assert ask(queue.find_request(policy.dead_name("p")), queue.read_find) is None
        dead = ask(queue.create_request(policy.dead_name("p"), dead_attributes(policy)), queue.read_create)
        arn = dict(ask(queue.attributes_request(dead), queue.read_attributes))["QueueArn"]
        wanted = main_attributes(policy, arn)
        main = ask(queue.create_request(policy.name("p"), wanted), queue.read_create)
        assert ask(queue.create_request(policy.name("p"), wanted), queue.read_create) == main
        assert ask(queue.find_request(policy.name("p")), queue.read_find) == main
        other = queue.create_request(policy.name("p"), (("VisibilityTimeout", "7"),))
        assert outcome(lambda: ask(other, queue.read_create)) is FaultKind.CONFLICT
        ask(queue.set_attributes_request(main, (("VisibilityTimeout", "7"),)), queue.read_set_attributes)
        assert dict(ask(queue.attributes_request(main), queue.read_attributes))["VisibilityTimeout"] == "7"
        self.urls[queue, False], self.urls[queue, True] = main, dead

    def simulate(
        self, request: HttpRequest, read: Callable[[HttpReply], T], choose: Callable[[int], int] = lambda _: 0
    ) -> T:
        """What the model's reply says."""
        return read(self.model.handle(request, time.time(), choose))

    def ask_real(self, asking: Asking[T], *, dead: bool = False) -> T | FaultKind:
        """What the server says."""
        return outcome(lambda: self.real(*asking(self.sqs, self.urls[self.sqs, dead])))

    def ask_model(
        self, asking: Asking[T], *, dead: bool = False, choose: Callable[[int], int] = lambda _: 0
    ) -> T | FaultKind:
        """What the model says."""
        request, read = asking(self.simulated, self.urls[self.simulated, dead])
        return outcome(lambda: self.simulate(request, read, choose))

    def receive(self, at_most: int, hidden_s: int, *, dead: bool) -> list[Received]:
        """What both give; the model chooses as the server did."""
        self.settle()
        real = self.ask_real(
            lambda queue, url: (queue.receive_request(url, at_most, 0, hidden_s), queue.read_receive), dead=dead
        )
        assert isinstance(real, tuple)
        modelled = self.ask_model(
            lambda queue, url: (queue.receive_request(url, at_most, 0, hidden_s), queue.read_receive),
            dead=dead,
            choose=self._choosing(real, dead),
        )
        assert isinstance(modelled, tuple)
        assert [told(each) for each in real] == [told(each) for each in modelled]
        return [Received(dead, *each) for each in zip(real, modelled, strict=True)]

    def settle(self) -> None:
        """Wait until what is visible now is so by any clock: the server's goes by the millisecond."""
        moments = [each.visible_at_s for url in (self.main, self.dead) for each in self.model.messages(url).values()]
        newest_s = max((each for each in moments if each <= time.time()), default=0.0)
        wait_until(lambda: time.time() > newest_s + 0.002, 10.0, lambda: "the clock stands still")

    def _choosing(self, real: tuple[Delivery, ...], dead: bool) -> Callable[[int], int]:
        """Choices by which the model delivers in the server's order."""
        messages = self.model.messages(self.dead if dead else self.main)
        visible = [
            each.body
            for each in messages.values()
            if each.visible_at_s <= time.time() and (dead or each.receive_count < MAX_RECEIVES)
        ]
        choices = []
        for delivery in real:
            index = visible.index(delivery.body)
            if len(visible) > 1:
                choices.append(index)
            visible.pop(index)
        left = iter(choices)
        return lambda _: next(left)


def told(delivery: Delivery) -> tuple[object, ...]:
    return delivery.body, delivery.receive_count, delivery.attributes


class Machine(RuleBasedStateMachine):
    """Does the same to both."""

    def __init__(self, endpoint_url: str) -> None:
        super().__init__()
        self.pair = QueuePair(endpoint_url)
        self.numbers = itertools.count()
        self.received: list[Received] = []

    @rule(delay_s=st.sampled_from([0, 0, 900]), attributes=st.sampled_from([(), (("kind", "copy"),)]))
    def send(self, delay_s: int, attributes: tuple[tuple[str, str], ...]) -> None:
        body = f"job {next(self.numbers)}"

        def asking(queue: JobQueue, url: str) -> Ask[str]:
            return queue.send_request(url, body, attributes, delay_s), lambda reply: queue.read_send(reply, body)

        assert isinstance(self.pair.ask_real(asking), str)
        assert isinstance(self.pair.ask_model(asking), str)

    @rule(at_most=st.sampled_from([1, 2, 10]), hidden_s=st.sampled_from([0, 60]), dead=st.booleans())
    def receive(self, at_most: int, hidden_s: int, dead: bool) -> None:
        self.received += self.pair.receive(at_most, hidden_s, dead=dead)

    @precondition(lambda self: self.received)
    @rule(data=st.data(), hidden_s=st.sampled_from([0, 60]))
    def change_visibility(self, data: st.DataObject, hidden_s: int) -> None:
        """Where the model may do one thing or the other, it does what the server did."""
        of = data.draw(st.sampled_from(self.received))
        message = self.pair.model.messages(self.pair.dead if of.dead else self.pair.main).get(of.modelled.message_id)
        if message is not None and message.visible_at_s <= time.time():
            return  # moto hides it again

        def asking(queue: JobQueue, url: str) -> Ask[None]:
            receipt = of.real.receipt if queue is self.pair.sqs else of.modelled.receipt
            return queue.change_visibility_request(url, receipt, hidden_s), queue.read_change_visibility

        assert self.pair.ask_real(asking, dead=of.dead) is self.pair.ask_model(asking, dead=of.dead, choose=lambda _: 1)

    @precondition(lambda self: self.received)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        of = data.draw(st.sampled_from(self.received))
        moved = not of.dead and of.modelled.message_id in self.pair.model.messages(self.pair.dead)

        def asking(queue: JobQueue, url: str) -> Ask[None]:
            receipt = of.real.receipt if queue is self.pair.sqs else of.modelled.receipt
            return queue.delete_request(url, receipt), queue.read_delete

        real = self.pair.ask_real(asking, dead=of.dead)
        assert real is (FaultKind.REJECTED if moved else None)  # AWS gives no such answer
        assert self.pair.ask_model(asking, dead=of.dead, choose=lambda _: 1) is None


def test_the_model_does_as_the_queue(moto_url: str) -> None:
    class Bound(Machine):
        def __init__(self) -> None:
            super().__init__(moto_url)

    run_state_machine_as_test(Bound, settings=settings(max_examples=15, stateful_step_count=20))


def test_an_old_receipt_does_what_the_model_may_do(moto_url: str) -> None:
    """A late receipt, and one from before its message became a dead letter."""
    pair = QueuePair(moto_url)

    def settle(of: Received, hidden_s: int | None) -> tuple[object, object]:
        def asking(queue: JobQueue, url: str) -> Ask[None]:
            receipt = of.real.receipt if queue is pair.sqs else of.modelled.receipt
            if hidden_s is None:
                return queue.delete_request(url, receipt), queue.read_delete
            return queue.change_visibility_request(url, receipt, hidden_s), queue.read_change_visibility

        return pair.ask_real(asking), pair.ask_model(asking, choose=lambda _: 1)

    def sending(queue: JobQueue, url: str) -> Ask[str]:
        return queue.send_request(url, "job"), queue.read_send

    pair.ask_real(sending)
    pair.ask_model(sending)
    (old,) = pair.receive(1, 0, dead=False)
    pair.receive(1, 60, dead=False)
    assert settle(old, 0) == (None, None)
    assert pair.receive(1, 0, dead=False) == []  # it is moved, for it was visible again
    assert settle(old, None) == (FaultKind.REJECTED, None)
    (letter,) = pair.receive(1, 0, dead=True)
    assert letter.real.receive_count == 3


def test_a_message_that_nobody_settles_comes_back(moto_url: str) -> None:
    pair = QueuePair(moto_url)

    def sending(queue: JobQueue, url: str) -> Ask[str]:
        return queue.send_request(url, "job"), queue.read_send

    pair.ask_real(sending)
    pair.ask_model(sending)
    pair.receive(1, 1, dead=False)
    back_at_s = pair.model.visible_at_s(pair.main, 0.0)
    assert back_at_s is not None
    found = pair.ask_real(lambda queue, url: (queue.receive_request(url, 1, 5, 60), queue.read_receive))
    assert isinstance(found, tuple)
    (again,) = found
    assert again.receive_count == 2
    assert time.time() >= back_at_s - 0.1
