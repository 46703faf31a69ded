"""Connecting: to a host's own addresses only, each of them checked just before it is connected to."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from cloud_mirror.address import is_allowed_address
from cloud_mirror.wire.limits import LOOK_UPS

HEAD_START_S: Final = 0.25
"""How long an address is tried before the next one is tried beside it (RFC 8305, 5)."""


class AddressRefusedError(OSError):
    """The guard let no address of a host pass."""


class NoConnectionError(OSError):
    """Nobody takes a connection there."""


class Network:
    """Trio's sockets; `guarded`, none but to allowed addresses. A host without any is refused: that is not unknown.

    A guarded network has threads of its own for its look-ups, and leaves trio's to the store, the queue and
    credentials: a name that nobody answers for does not hold them up.
    """

    def __init__(self, *, guarded: bool = False, allow_private: bool = False) -> None:
        self._guarded = guarded
        self._allow_private = allow_private
        self._room = trio.CapacityLimiter(LOOK_UPS) if guarded else None

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        """A stream to the first address that answers. Raises an `OSError`: `NoConnectionError`, that of a look-up, or
        `AddressRefusedError`.
        """
        addresses = await self._addresses(host, port)
        try:
            return await _connect_any(addresses, port)
        except OSError as error:
            raise NoConnectionError(str(error)) from error

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
            found = await trio.to_thread.run_sync(look_up, limiter=self._room, abandon_on_cancel=True)
        except UnicodeError as error:  # a label that is empty or too long
            raise trio.socket.gaierror(trio.socket.EAI_NONAME, f"{host} is no host name") from error
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        if not self._guarded:
            return addresses
        allowed = [address for address in addresses if is_allowed_address(address, self._allow_private)]
        if addresses and not allowed:
            raise AddressRefusedError(f"no address of {host} may be contacted")
        return allowed


async def _connect_any(addresses: Sequence[str], port: int) -> trio.SocketStream:
    """A stream to whichever address answers first. Raises the first address's `OSError` where none does."""
    streams: list[trio.SocketStream] = []
    errors: dict[str, OSError] = {}
    chosen: trio.SocketStream | None = None

    async def attempt(address: str, over: trio.Event) -> None:
        try:
            streams.append(await trio.open_tcp_stream(address, port))
            nursery.cancel_scope.cancel()
        except OSError as error:
            errors[address] = error
        over.set()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                over = trio.Event()
                nursery.start_soon(attempt, address, over)
                with trio.move_on_after(HEAD_START_S):
                    await over.wait()
        if not streams:
            raise errors[addresses[0]]
        chosen = streams[0]
        return chosen
    finally:
        for stream in streams:
            if stream is not chosen:
                stream.socket.close()
