"""What is the trio server's own: what a busy process comes to late is not lost."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import cast

import trio

from cloud_mirror.policy import Policy, ServerPolicy
from cloud_mirror.wire.desk import Desk, Roles
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror_trio.mirror import Mirror
from cloud_mirror_trio.nursery import open_background
from cloud_mirror_trio.server import Server
from tests.shells.drivers import PATIENCE_S

PING = b"GET /v1/ping HTTP/1.1\r\nHost: mirror\r\n\r\n"


@asynccontextmanager
async def serving(policy: ServerPolicy) -> AsyncGenerator[tuple[str, int], None]:
    """A server before a mirror without pools; its address."""
    whole = Policy(server=policy)
    mirror = SimpleNamespace(policy=whole, draining=False, desk=Desk(whole, Roles(), {}, Metrics()))
    async with open_background() as nursery:
        yield await Server(cast(Mirror, mirror), nursery).listen("127.0.0.1", 0)


def answered(clients: list[socket.socket]) -> int:
    """How many have something to read."""
    watching = select.poll()
    for client in clients:
        watching.register(client, select.POLLIN)
    return len(watching.poll(0))


async def turns() -> None:
    """So many turns of the loop as a request takes, and some more."""
    for _ in range(30):
        await trio.lowlevel.checkpoint()


def test_connections_are_taken_together_however_long_a_turn_takes() -> None:
    """Taken one in a turn, they would overflow the system's queue in a busy process: it resets some of those."""

    async def ask() -> int:
        with ExitStack() as stack:
            async with serving(ServerPolicy()) as address:
                clients = [stack.enter_context(socket.create_connection(address, PATIENCE_S)) for _ in range(300)]
                for client in clients:
                    client.sendall(PING)
                await turns()
                return answered(clients)

    assert trio.run(ask) == 300


def test_a_head_that_came_while_the_process_was_held_up_is_not_late() -> None:
    async def ask() -> bytes:
        async with serving(ServerPolicy(head_timeout_s=0.2)) as address:
            with socket.create_connection(address, PATIENCE_S) as client:
                client.sendall(PING[:20])
                await turns()
                client.sendall(PING[20:])
                time.sleep(0.3)  # noqa: ASYNC251  # nothing in this process gets on meanwhile
                await turns()
                return client.recv(9)

    assert trio.run(ask) == b"HTTP/1.1 "
