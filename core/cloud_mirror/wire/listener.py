"""How a listening socket ends without a loss: what Linux does not offer by a call of its own, it does by a filter."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

Taken = TypeVar("Taken", covariant=True)

SOL_SOCKET: Final = 1
SO_ATTACH_FILTER: Final = 26
TCP_FLAGS: Final = 13
"""The place of the flags in a TCP header, in bytes."""

SYN: Final = 0x02

_PROGRAM: Final = ctypes.create_string_buffer(
    b"".join(
        struct.pack("=HBBI", *instruction)  # struct sock_filter: code, jump if true, jump if false, operand
        for instruction in (
            (0x30, 0, 0, TCP_FLAGS),  # load that byte
            (0x45, 0, 1, SYN),  # is the bit set? if not, pass over one
            (0x06, 0, 0, 0),  # return 0: the packet is dropped
            (0x06, 0, 0, 0xFFFF_FFFF),  # return all of it
        )
    ),
    4 * 8,
)

NOBODY_NEW: Final = (SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", 4, ctypes.addressof(_PROGRAM)))
"""A socket option (level, name, value) by which a listener lets nobody knock any more, but keeps who is in its queue.

A listener that is closed resets the connections in its queue, though these clients believe that they are connected,
and have sent their requests. There is no call to close the door first. With this filter (socket(7)) the system
drops each SYN unseen: so the queue can be emptied before the socket is closed, and a client that knocks in between
tries again after a second, and is refused like any later one. Systems other than Linux do not know it, and raise
`OSError`: there, who knocks between the last look at the queue and the close may be reset.
"""


class Listener(Protocol[Taken]):
    """A listening socket that does not block."""

    def setsockopt(self, level: int, name: int, value: bytes, /) -> None:
        """Set an option."""

    def accept(self) -> tuple[Taken, Any]:
        """The connection that has waited longest, and whose it is."""
        ...

    def close(self) -> None:
        """Close it."""


def take_last(listener: Listener[Taken]) -> Iterator[Taken]:
    """The connections that wait in a listener's queue, as far as there are files for them; then it is closed."""
    with suppress(OSError):  # not everywhere
        listener.setsockopt(*NOBODY_NEW)
    with suppress(OSError):  # there are no more
        while True:
            yield listener.accept()[0]
    listener.close()
