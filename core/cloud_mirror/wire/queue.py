"""A queue, sans-IO: `JobQueue` builds HTTP requests and reads HTTP replies, and sends nothing.

The queue delivers at least once, in any order, and hides a message from others while somebody works on it
(its *visibility timeout*, in seconds). A *receipt* names one delivery of a message.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from cloud_mirror.wire.calls import HttpReply, HttpRequest, SigningMaterial


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of a message: its body, its receipt, and how often it was delivered (from 1)."""

    message_id: str
    receipt: str = field(repr=False)
    body: str = field(repr=False)
    receive_count: int = 1
    attributes: tuple[tuple[str, str], ...] = ()


class JobQueue(ABC):
    """One account's queues. A queue is named by its URL, which `read_find` and `read_create` give.

    The `read_*` methods raise `cloud_mirror.wire.storage.ServiceFault` where the reply is a failure.
    """

    @abstractmethod
    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:
        """The request, signed for now."""

    @abstractmethod
    def find_request(self, name: str) -> HttpRequest:
        """Ask for the URL of the queue of that name."""

    @abstractmethod
    def read_find(self, reply: HttpReply) -> str | None:
        """The queue's URL; None where there is no such queue."""

    @abstractmethod
    def create_request(self, name: str, attributes: tuple[tuple[str, str], ...]) -> HttpRequest:
        """Create a queue, or find the one that has the same attributes."""

    @abstractmethod
    def read_create(self, reply: HttpReply) -> str:
        """The queue's URL."""

    @abstractmethod
    def set_attributes_request(self, queue_url: str, attributes: tuple[tuple[str, str], ...]) -> HttpRequest:
        """Change attributes of a queue that exists."""

    @abstractmethod
    def read_set_attributes(self, reply: HttpReply) -> None:
        """Nothing, once they are changed."""

    @abstractmethod
    def attributes_request(self, queue_url: str) -> HttpRequest:
        """Ask for all of a queue's attributes."""

    @abstractmethod
    def read_attributes(self, reply: HttpReply) -> tuple[tuple[str, str], ...]:
        """The attributes, in the service's own names."""

    @abstractmethod
    def send_request(
        self, queue_url: str, body: str, attributes: tuple[tuple[str, str], ...] = (), delay_s: int = 0
    ) -> HttpRequest:
        """Send one message, to be seen by nobody for `delay_s` (0 to 900)."""

    @abstractmethod
    def read_send(self, reply: HttpReply, body: str | None = None) -> str:
        """The message's id; where `body`, what was sent, is given, the MD5 that the queue saw agrees with it."""

    @abstractmethod
    def receive_request(self, queue_url: str, at_most: int, wait_s: int, visibility_timeout_s: int) -> HttpRequest:
        """Receive up to `at_most` (1 to 10) messages, waiting up to `wait_s` (0 to 20) for the first."""

    @abstractmethod
    def read_receive(self, reply: HttpReply) -> tuple[Delivery, ...]:
        """The messages that came."""

    @abstractmethod
    def change_visibility_request(self, queue_url: str, receipt: str, timeout_s: int) -> HttpRequest:
        """Hide a delivered message for `timeout_s` (0 to 43,200) from now."""

    @abstractmethod
    def read_change_visibility(self, reply: HttpReply) -> None:
        """Nothing, once it is done."""

    @abstractmethod
    def delete_request(self, queue_url: str, receipt: str) -> HttpRequest:
        """Acknowledge a delivered message."""

    @abstractmethod
    def read_delete(self, reply: HttpReply) -> None:
        """Nothing, once it is done."""
