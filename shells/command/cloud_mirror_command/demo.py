"""The demo."""

from __future__ import annotations

from cloud_mirror_command.shells import ShellName


def run(shell: ShellName, *, once: bool) -> int:
    """Show it all; the exit status."""
    raise NotImplementedError(shell, once)
