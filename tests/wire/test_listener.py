"""The filter by which a listener keeps who is in its queue, and lets nobody new in: seen on real sockets."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from cloud_mirror.wire.listener import NOBODY_NEW

ADDRESSES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.mark.parametrize(("family", "host"), ADDRESSES, ids=["ipv4", "ipv6"])
def test_who_is_in_the_queue_is_served_and_nobody_new_gets_into_it(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as listener:
        address = listener.getsockname()[:2]
        with closing(socket.create_connection(address, 20)) as early:
            early.sendall(b"asked before")
            listener.setsockopt(*NOBODY_NEW)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, 0.2)
            taken, _ = listener.accept()
            with taken:
                assert taken.recv(100) == b"asked before"
                early.sendall(b"asked after")
                assert taken.recv(100) == b"asked after"
                taken.sendall(b"answered")
            assert early.recv(100) == b"answered"
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
