"""Connecting for httpcore2: to a host's own addresses only, each of them checked just before it is connected to."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import httpcore2
import trio
from httpcore2 import SOCKET_OPTION, AsyncNetworkStream
from httpcore2._backends.trio import TrioStream  # its public backend makes these, and offers no other way to them

from cloud_mirror.address import is_allowed_address
from cloud_mirror.wire.limits import LOOK_UPS, piece_bytes

HEAD_START_S: Final = 0.25
"""How long an address is tried before the next one is tried beside it (RFC 8305, 5)."""


class AddressRefusedError(OSError):
    """The guard let no address of a host pass."""


class Network(httpcore2.TrioBackend):
    """Trio's sockets; `guarded`, none but to allowed addresses. A host without any is refused: that is not unknown.

    `open_bodies` counts them: it rules how much is read from a socket at once.

    A guarded network has threads of its own for its look-ups, and leaves trio's to the store, the queue and
    credentials: a name that nobody answers for does not hold them up.
    """

    def __init__(self, open_bodies: Callable[[], int], *, guarded: bool = False, allow_private: bool = False) -> None:
        self.open_bodies = open_bodies
        self._guarded = guarded
        self._allow_private = allow_private
        self._room = trio.CapacityLimiter(LOOK_UPS) if guarded else None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the base class's
        local_address: str | None = None,  # noqa: ARG002  # the base class's; no pool of ours gives one
        socket_options: Iterable[SOCKET_OPTION] | None = None,  # noqa: ARG002  # as above
    ) -> AsyncNetworkStream:
        """A stream to the first address that answers."""
        try:
            with trio.fail_after(timeout if timeout is not None else float("inf")):
                return _Stream(self, await _connect_any(await self._addresses(host, port), port))
        except trio.TooSlowError as error:
            raise httpcore2.ConnectTimeout(f"{host}:{port} did not answer") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(str(error)) from error

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


class _Stream(TrioStream):
    """A stream that reads in large pieces, and that is closed, too, when its TLS handshake is cancelled.

    What it is asked for has its time already: a limit of its own for each piece would cost as much as to copy that.
    """

    def __init__(self, network: Network, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._network = network

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109, ARG002  # the base class's
        """What has come; more than `max_bytes`, where there is more: what reads it takes any size, each at a cost."""
        try:
            return bytes(await self._stream.receive_some(max(max_bytes, piece_bytes(self._network.open_bodies()))))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109, ARG002  # as above
        """Send all of it."""
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.WriteError(str(error)) from error

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the base class's
    ) -> AsyncNetworkStream:
        """The same stream under TLS."""
        try:
            return await super().start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.aclose()
            raise


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
