"""What the command says when it cannot do as it was told: one clear line, and an exit status."""

from __future__ import annotations

from typing import Final

EXIT_FAILED: Final = 1
"""It was tried, and did not work."""

EXIT_USAGE: Final = 2
"""It was not tried: the configuration or the command line is wrong."""


class Complaint(Exception):
    """Ends the command: its text is one line for stderr, with the remedy in it, and never a traceback."""

    exit_status = EXIT_USAGE


class Failure(Complaint):
    """The same for what was tried and did not work."""

    exit_status = EXIT_FAILED
