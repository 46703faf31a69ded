"""What has been heard on the pools' channels, so that no wake-up is lost between a read and a wait.

Redis promises a published message at most once, and none while the subscription is down. So whatever happened in
such a time counts as heard for every key: waiters look again, and find out.
"""

from __future__ import annotations

from collections import OrderedDict


class NoticeBoard:
    """Remembers when each entry was last named; bounded, and forgetting counts as having heard."""

    def __init__(self, remembered: int = 10_000) -> None:
        self.sequence = 0
        self._remembered = remembered
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._floor = 0

    def heard(self, entry_key: str) -> None:
        """A notice of this entry came."""
        self.sequence += 1
        self._latest[entry_key] = self.sequence
        self._latest.move_to_end(entry_key)
        if len(self._latest) > self._remembered:
            _, self._floor = self._latest.popitem(last=False)

    def lost(self) -> None:
        """The subscription broke, or came back: notices may have been missed."""
        self.sequence += 1
        self._floor = self.sequence
        self._latest.clear()

    def is_later(self, entry_key: str, sequence: int) -> bool:
        """Whether a notice of this entry came (or may have come) after that sequence."""
        return self._latest.get(entry_key, self._floor) > sequence
