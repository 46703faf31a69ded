"""What several commands need: the policy, a pool, a source URL, a console."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from cloud_mirror.policy import Policy, PoolPolicy
from cloud_mirror.source import SourceError, SourceUrl, parse_source
from cloud_mirror_command import config
from cloud_mirror_command.complaint import Complaint

WIDTH: Final = 160
"""Where the output goes to no terminal, and nobody said how wide it may be."""


def console_for_people(*, stderr: bool = False) -> Console:
    """A console that takes text as it is, and does not break lines early for want of a terminal."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else WIDTH
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def policy_of(
    file: Path | None, *, host: str | None = None, port: int | None = None, section: str = "server"
) -> Policy:
    """The policy, with what the command line says over it: where to listen, in that section."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return config.load(file, {section: given} if given else None)


def pool_of(policy: Policy, name: str | None) -> PoolPolicy:
    """The pool of that name, or the only one. Raises `Complaint`."""
    known = ", ".join(pool.name for pool in policy.pools)
    if name is None:
        if len(policy.pools) > 1:
            raise Complaint(f"--pool: there are several pools; choose one of {known}")
        return policy.pools[0]
    for pool in policy.pools:
        if pool.name == name:
            return pool
    raise Complaint(f"--pool {name}: unknown pool; the configuration has {known}")


def source_of(url: str, max_bytes: int) -> SourceUrl:
    """The URL in canonical form. Raises `Complaint`."""
    try:
        return parse_source(url, max_bytes)
    except SourceError as error:
        raise Complaint(f"{error.reason.code}: {error.detail}") from error
