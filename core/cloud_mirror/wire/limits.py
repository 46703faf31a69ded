"""How long and how many, alike in every shell. What an operator may want otherwise is in the policy."""

from __future__ import annotations

from typing import Final

from cloud_mirror.policy import MIB

SEND_S: Final = 30.0
"""How long a client may take to read an answer."""

LINGER_S: Final = 2.0
"""How long what a client still sends is read before its connection is closed."""

LAST_ANSWERS_S: Final = 2.0
"""How long the last answers may take on their way, once a process has drained."""

FIRST_REQUEST_S: Final = 1.0
"""How long the first request of a new connection is waited for where the process ends."""

LAST_POLL_S: Final = 2.0
"""How long a poll under way is still listened to after jobs were given back: it may be the one that gets them."""

RESUBSCRIBE_S: Final = 0.3
"""How long after its end a subscription is begun anew."""

HEALTH_S: Final = 5.0
"""How long a subscription may be silent before Redis is asked for a sign of life, and how long it has for that."""

ACCEPT_AGAIN_S: Final = 0.25
"""How long the system is left alone once it had no connection to give."""

LOOK_UPS: Final = 16
"""How many origins' names are looked up at once; the others wait for their turn."""


def piece_bytes(bodies: int) -> int:
    """How much is read from a socket at once where so many bodies are open.

    Each piece has its price, whatever its size, and large ones are worth it where there are few bodies. But there is
    one in memory for each body, outside the budget for parts; so many bodies share 4 MiB, down to 64 KiB for each.
    """
    return max(MIB // 16, min(MIB // 2, 4 * MIB // max(bodies, 1)))
