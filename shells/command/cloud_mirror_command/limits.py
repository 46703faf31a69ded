"""What a process is allowed by its system, raised as far as it may raise it itself."""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Let this process hold as many files and sockets as its hard limit has it (each waiter is a socket); that number.

    Where the system refuses, the limit stays as it was.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard
