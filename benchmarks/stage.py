"""What every benchmark stands on: the servers that the tests use, each a process of its own, and a fleet on them."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet import Fleet, fleet_of
from tests.servers import FaultProxy, Moto, Origin, SeaweedFS, ServerProcess, Valkey


@dataclass(frozen=True)
class Stage:
    """Servers that run, and fleets to be made on them."""

    directory: Path
    valkey: Valkey
    seaweedfs: SeaweedFS
    moto: Moto
    origin: Origin
    queue_proxy: FaultProxy

    @contextmanager
    def fleet(self, **options: Any) -> Iterator[Fleet]:
        """A fleet, set up; its processes end with the block. Options are those of `Fleet`."""
        options = {"source_url": self.origin.url, **options}
        with fleet_of(Fleet(self.directory, self.valkey, self.seaweedfs, self.moto, **options)) as fleet:
            yield fleet


@contextmanager
def stage() -> Iterator[Stage]:
    """All servers, started, and ended with the block; also where SIGTERM ends it, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))

        def started(kind: type[Any]) -> Any:
            own = directory / kind.__name__
            own.mkdir()
            server: ServerProcess = kind(own)
            stack.callback(server.stop)
            server.start()
            return server

        moto = started(Moto)
        yield Stage(
            directory,
            started(Valkey),
            started(SeaweedFS),
            moto,
            stack.enter_context(Origin()),
            stack.enter_context(FaultProxy(moto.url)),
        )
