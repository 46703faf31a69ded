"""A mirror that answers as it is told, for a server to serve: what a shell's server sees of one, and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from cloud_mirror.actions import Response, ToOrigin
from cloud_mirror.policy import Policy, PoolPolicy, ServerPolicy, SourcePolicy
from cloud_mirror.purge import Phase, State
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import Desk, Roles
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror.wire.services import connect
from cloud_mirror.wire.sqs import SqsQueue
from cloud_mirror_sync.mirror import Mirror
from cloud_mirror_sync.server import Server
from cloud_mirror_sync.stop import Stop

POOL = PoolPolicy("s3", "here", "bucket", public_url="http://store/bucket")
TOKEN = "token"
TARGET = "/v1/redirect/s3/here/http%3A%2F%2Forigin%2Fa"


def policy_of(server: ServerPolicy) -> Policy:
    source = SourcePolicy(allowed_patterns=("^http://origin/",), require_tls=False)
    return Policy(server=server, source=source, pools=(POOL,), admin_token=TOKEN)


class FakeMirror:
    """Redirects to the origin once `open` is set; never takes on more than `room` requests."""

    def __init__(self, server: ServerPolicy, room: int = 100) -> None:
        self.policy = policy_of(server)
        self.draining = False
        self.open = threading.Event()
        self.open.set()
        self.left = threading.Semaphore(0)
        self.held = 0
        self.room = room
        self.fault: Exception | None = None
        services = connect(self.policy, None, SqsQueue(self.policy.queue))
        self.desk = Desk(self.policy, Roles(), services, Metrics())

    def enter(self, _pool: str) -> Response | None:
        if self.held >= self.room:
            return ToOrigin(Reason.TOO_MANY_WAITERS)
        self.held += 1
        return None

    def answer(self, _pool: str, _url: str, stop: Stop) -> Response:
        try:
            if self.fault is not None:
                raise self.fault
            with stop.interrupting(self.open.set):
                assert self.open.wait(20)
            if stop.is_set:
                self.open.clear()
                self.left.release()
            stop.check()
            return ToOrigin(Reason.DEADLINE)
        finally:
            self.held -= 1

    def purge(self, _pool: str, _url: str) -> State:
        return State(Phase.DONE)


@contextmanager
def serving(mirror: FakeMirror) -> Iterator[Server]:
    """The sync shell's server in front of it."""
    server = Server(cast(Mirror, mirror), "127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.close(5.0)
