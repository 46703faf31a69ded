"""What tests of whole fleets look with: at bytes, at the cache, at the queue, at what a socket says."""

import base64
import hashlib
import http.client
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import redis

from tests.fleet import POOL, REGION, Fleet, Process, Reply, request

PATIENCE_S = 60.0
"""How long a test waits for what must come: far longer than it takes, for a machine that is busy."""


@dataclass(frozen=True)
class Fetched:
    """What stands behind a URL."""

    status: int
    sha256: str
    size: int
    headers: dict[str, str]


def fetch(url: str) -> Fetched:
    """Fetch a URL, hashing its bytes as they come and keeping none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=PATIENCE_S)
    try:
        connection.putrequest("GET", parts.path + (f"?{parts.query}" if parts.query else ""), skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        digest, size = hashlib.sha256(), 0
        while piece := response.read(1024 * 1024):
            digest.update(piece)
            size += len(piece)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Fetched(response.status, digest.hexdigest(), size, headers)
    finally:
        connection.close()


def ask_raw(front: Process, path: str, method: str = "GET") -> Reply:
    """Ask for what stands in the path, exactly as it stands."""
    return request(front.base_url, f"/v1/redirect/s3/{REGION}/{path}", method)


def base64_of(url: str) -> str:
    """The URL in base64, as RFC 4648, 4 has it."""
    return base64.b64encode(url.encode()).decode()


def base64url_of(url: str) -> str:
    """The URL in base64url without padding, as RFC 4648, 5 has it."""
    return base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def cache_time_s(fleet: Fleet) -> float:
    """The time by the cache's own clock."""
    with redis.Redis.from_url(fleet.valkey.url) as client:
        reply = client.time()
        assert isinstance(reply, tuple)
        return float(reply[0]) + float(reply[1]) / 1e6


class Queues:
    """A fleet's two queues, looked at past the mirror."""

    def __init__(self, fleet: Fleet) -> None:
        self._client = fleet.moto.client("sqs")
        self.url, self.dead_url = (
            self._client.get_queue_url(QueueName=f"{fleet.name}-{POOL}{ending}")["QueueUrl"] for ending in ("", "-dead")
        )

    def __enter__(self) -> "Queues":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def depth(self, dead: bool = False) -> int:
        """How many messages lie there, those included that somebody works on."""
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        url = self.dead_url if dead else self.url
        found = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def delete(self) -> None:
        """Have them no more."""
        for url in (self.url, self.dead_url):
            self._client.delete_queue(QueueUrl=url)

    def send(self, body: str) -> None:
        """Put a message into the queue of jobs."""
        self._client.send_message(QueueUrl=self.url, MessageBody=body)


def say(front: Process, *pieces: bytes, end: bool = False) -> bytes:
    """Send raw bytes on a connection of its own and give all that comes back until the other side closes it.

    `end`: say that nothing more will be sent.
    """
    parts = urlsplit(front.base_url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=PATIENCE_S) as connection:
        heard = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                heard += piece
        except OSError:
            pass  # the other side closed it before it had read all: what it said until then counts
        return heard
