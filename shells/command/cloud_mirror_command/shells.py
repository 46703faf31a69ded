"""The shells, of which a process imports only the one that was chosen."""

from __future__ import annotations

import enum
import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, cast

from cloud_mirror.policy import Policy
from cloud_mirror.reason import Reason
from cloud_mirror.source import SourceUrl
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.queue import JobQueue
from cloud_mirror.wire.storage import StorageProvider
from cloud_mirror_command.complaint import Complaint

T = TypeVar("T")


class ShellName(enum.Enum):
    """What `--shell` takes."""

    ASYNCIO = "asyncio"
    TRIO = "trio"
    SYNC = "sync"


class PurgeResult(Protocol):
    """What a purge came to: done, or not and why."""

    @property
    def done(self) -> bool:
        """Whether the URL is purged."""
        ...

    @property
    def reason(self) -> Reason | None:
        """Why it is not."""
        ...


class Shell(Protocol):
    """What a shell's package gives to the command."""

    def run(
        self,
        policy: Policy,
        *,
        front_end: bool,
        back_end: bool,
        pools: tuple[str, ...] | None = None,
        ready: Callable[[str], None] | None = None,
    ) -> int:
        """Serve, work, or both, until SIGTERM or SIGINT; the exit status. `ready` hears the base URL."""
        ...

    def perform(self, procedure: Procedure[T], policy: Policy) -> T:
        """Drive one procedure to its end."""
        ...

    def purge(self, policy: Policy, pool: str, url: SourceUrl) -> PurgeResult:
        """Purge one URL from one pool."""
        ...


def load_shell(name: ShellName) -> Shell:
    """The shell of that name; raises `Complaint` where its libraries are missing.

    Its log lines go nowhere until `logs.configure` is called: a command that answers a person says all in its answer.
    """
    logging.getLogger("cloud_mirror").addHandler(logging.NullHandler())
    try:
        return cast(Shell, importlib.import_module(f"cloud_mirror_{name.value}"))
    except ModuleNotFoundError as error:
        remedy = f"{error.name} is missing; run: pip install 'cloud-mirror[{name.value}]'"
        raise Complaint(f"--shell {name.value}: {remedy}") from error


def parts(policy: Policy) -> tuple[Mapping[str, StorageProvider], JobQueue]:
    """Every pool's store, by the pool's name, and the queue. Raises `Complaint` where one cannot be made."""
    from cloud_mirror.wire.providers import provider_for
    from cloud_mirror.wire.sqs import SqsQueue

    try:
        return {pool.name: provider_for(pool) for pool in policy.pools}, SqsQueue(policy.queue)
    except ValueError as error:
        raise Complaint(f"configuration: {error}") from error
