"""AWS credentials as botocore finds them: variables, profiles, web identity, processes, container and instance roles.

To find or refresh them may read files, run a process or ask a metadata service, so it blocks, for seconds at worst. The
wire does no I/O, therefore a shell divides the work, for each `GetSigningMaterial`:

    keys = source.current()                          # memory only, never blocks
    if keys is None:
        keys = await to_thread(source.load)          # blocks: in a thread, one at a time
    reply = source.reply(keys, now)

Keys from variables or a file stay as they were first read. Keys that expire are refreshed from 15 minutes before
they do; while that fails the old ones are used to their end, and no more than one attempt in `RETRY_S` is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from botocore.credentials import RefreshableCredentials
from botocore.session import Session

from cloud_mirror.wire.calls import FailureKind, SigningMaterial, TransportFailure

RETRY_S: Final = 10.0
"""How long an attempt that brought nothing new stands, before the sources are asked again."""

REMEDY: Final = "no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """What a signature needs but for the time."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def at(self, now: datetime) -> SigningMaterial:
        """The same with the wall clock's time, in UTC."""
        return SigningMaterial(self.access_key, self.secret_key, self.session_token, now)


class CredentialSource:
    """One per process. `clock` is a monotonic clock in seconds; `session` a botocore session, else the default chain.

    `problem` says why the latest `load` brought nothing new, for the log.
    """

    def __init__(self, clock: Callable[[], float], session: Any = None) -> None:
        self._clock = clock
        self._session = session if session is not None else Session()
        self._credentials: Any = None
        self._keys: AccessKeys | None = None
        self._not_before_s = float("-inf")
        self.problem = ""

    def current(self) -> AccessKeys | None:
        """The keys in memory where they are good to sign with now, else None: then `load` in a thread. Never blocks."""
        if not self._expiring(None):
            return self._keys
        return None if self._asks_again() or self._expiring(0) else self._keys

    def load(self) -> AccessKeys | None:
        """Find or refresh the keys; None where there are none, and `problem` says why. Blocks. Never raises."""
        if not self._asks_again():
            return self.current()
        try:
            if self._credentials is None:
                self._credentials = self._session.get_credentials()
            if self._credentials is None:
                self.problem = REMEDY
            else:
                frozen = self._credentials.get_frozen_credentials()
                self._keys = AccessKeys(frozen.access_key, frozen.secret_key, frozen.token)
                self.problem = ""
        except Exception as error:  # noqa: BLE001  # providers run processes and speak HTTP: whatever it is, it is told
            self.problem = f"AWS credentials cannot be loaded ({type(error).__name__}): {error}"
        self._not_before_s = self._clock() + RETRY_S
        return self.current()

    def reply(self, keys: AccessKeys | None, now: datetime) -> SigningMaterial | TransportFailure:
        """What a procedure gets that asked for what a signature needs; `now` is the wall clock's time, in UTC."""
        return keys.at(now) if keys is not None else TransportFailure(FailureKind.CREDENTIALS, self.problem)

    def _asks_again(self) -> bool:
        return self._clock() >= self._not_before_s

    def _expiring(self, within_s: int | None) -> bool:
        """Whether the keys in memory expire within that time; None is botocore's own margin of 15 minutes."""
        if self._keys is None or not isinstance(self._credentials, RefreshableCredentials):
            return False
        return bool(self._credentials.refresh_needed(within_s))
