"""A queue that is no limit to what is measured: as much of SQS as jobs need that go well, in memory.

moto takes about 20 ms for each job that it gives out and deletes. Here nothing is moved to a dead-letter queue, and
signatures are taken as they are. Each connection has a thread.

    python -m benchmarks.quick_queue PORT
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

Members = dict[str, Any]

VISIBILITY_S: Final = 60.0


@dataclass
class Message:
    """A message, and how often it was given out."""

    body: str
    received: int = 0


@dataclass
class Queue:
    """One queue. A message that is hidden or delayed is found by its receipt, and comes back when that is due."""

    attributes: Members
    ready: deque[Message] = field(default_factory=deque)
    hidden: dict[str, tuple[float, Message]] = field(default_factory=dict)
    due: list[tuple[float, str]] = field(default_factory=list)

    def hide(self, receipt: str, message: Message, for_s: float) -> None:
        """Give it to nobody for so long."""
        due_s = time.monotonic() + for_s
        self.hidden[receipt] = due_s, message
        heapq.heappush(self.due, (due_s, receipt))

    def show(self) -> float:
        """Make ready what is due by now; for how long nothing more will be."""
        now_s = time.monotonic()
        while self.due and self.due[0][0] <= now_s:
            due_s, receipt = heapq.heappop(self.due)
            if self.hidden.get(receipt, (None,))[0] == due_s:  # else it was deleted, or hidden anew
                self.ready.append(self.hidden.pop(receipt)[1])
        return self.due[0][0] - now_s if self.due else VISIBILITY_S


class Queues:
    """All of them, behind one lock."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._queues: dict[str, Queue] = {}
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)

    def answer(self, operation: str, asked: Members) -> Members | None:
        """Do as a request asks; None where there is no such queue."""
        with self._changed:
            name = asked.get("QueueName") or asked.get("QueueUrl", "").rpartition("/")[2]
            if operation == "CreateQueue":
                self._queues.setdefault(name, Queue(asked.get("Attributes", {})))
            queue = self._queues.get(name)
            if queue is None:
                return None
            match operation:
                case "CreateQueue" | "GetQueueUrl":
                    return {"QueueUrl": f"{self._url}/000000000000/{name}"}
                case "SetQueueAttributes":
                    queue.attributes.update(asked["Attributes"])
                case "GetQueueAttributes":
                    return {
                        "Attributes": {**queue.attributes, "QueueArn": f"arn:aws:sqs:us-west-2:000000000000:{name}"}
                    }
                case "SendMessage":
                    return self._send(queue, asked)
                case "SendMessageBatch":
                    sent = [{"Id": entry["Id"], **self._send(queue, entry)} for entry in asked["Entries"]]
                    return {"Successful": sent, "Failed": []}
                case "ReceiveMessage":
                    return self._receive(queue, asked)
                case "ChangeMessageVisibility":
                    if (found := queue.hidden.get(asked["ReceiptHandle"])) is not None:
                        queue.hide(asked["ReceiptHandle"], found[1], asked["VisibilityTimeout"])
                        self._changed.notify_all()
                case "DeleteMessage":
                    queue.hidden.pop(asked["ReceiptHandle"], None)
                case _:
                    raise NotImplementedError(operation)
            return {}

    def _send(self, queue: Queue, asked: Members) -> Members:
        message, number = Message(asked["MessageBody"]), str(next(self._numbers))
        if delay_s := asked.get("DelaySeconds", 0):
            queue.hide(number, message, delay_s)
        else:
            queue.ready.append(message)
        self._changed.notify_all()
        return {"MessageId": number, "MD5OfMessageBody": _md5(message.body)}

    def _receive(self, queue: Queue, asked: Members) -> Members:
        deadline_s = time.monotonic() + asked.get("WaitTimeSeconds", 0)
        while True:
            next_s = queue.show()
            left_s = deadline_s - time.monotonic()
            if queue.ready or left_s <= 0:
                break
            self._changed.wait(min(left_s, next_s))
        visible_s = asked.get("VisibilityTimeout", float(queue.attributes.get("VisibilityTimeout", VISIBILITY_S)))
        given: list[Members] = []
        while queue.ready and len(given) < asked.get("MaxNumberOfMessages", 1):
            message, receipt = queue.ready.popleft(), str(next(self._numbers))
            message.received += 1
            queue.hide(receipt, message, visible_s)
            given.append(
                {
                    "MessageId": receipt,
                    "ReceiptHandle": receipt,
                    "Body": message.body,
                    "MD5OfBody": _md5(message.body),
                    "Attributes": {"ApproximateReceiveCount": str(message.received)},
                }
            )
        return {"Messages": given} if given else {}


def _md5(body: str) -> str:
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """SQS's JSON protocol: the operation in `X-Amz-Target`, its members in the body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    queues: Queues

    def do_POST(self) -> None:
        """One operation."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = self.queues.answer(self.headers["x-amz-target"].rpartition(".")[2], asked)
        missing = {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "there is no such queue"}
        body = json.dumps(missing if answer is None else answer).encode()
        self.send_response(400 if answer is None else 200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Say nothing of what goes well."""


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as come."""

    request_queue_size = 1_024


def main() -> None:
    """Serve on a loopback port until ended."""
    port = int(sys.argv[1])
    Handler.queues = Queues(f"http://127.0.0.1:{port}")
    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
