"""The `cloud-mirror` command: configuration, logs, and the choice of a shell."""

from typing import Final

__all__: Final = ()
