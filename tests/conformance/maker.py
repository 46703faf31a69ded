"""A maker: it makes sites, of processes of the shell (or the mixture of shells) that is to be shown."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.conformance.rows import Row, name_of
from tests.conformance.site import PATIENCE_S, Site, Start
from tests.fleet import Fleet, fleet_of
from tests.servers import FaultProxy, Moto, Origin, RedisRelay, SeaweedFS, Valkey
from tests.servers.processes import free_port, wait_until

Settings: TypeAlias = Mapping[str, Mapping[str, Any]]
Launch: TypeAlias = Callable[[Path, str, int], list[str]]
"""The command line that starts a process: of its configuration file, its role (`serve` or `work`) and its port."""

PATIENT: Final[Settings] = {
    "server": {"start_wait_s": 20.0, "max_waiters": 500, "threads": 500},
    "redis": {"timeout_s": 10.0},
    "source": {"max_object_bytes": "512MiB"},
    "worker": {"first_backoff_s": 600.0, "longest_backoff_s": 600.0},
}
"""What sites have unless told otherwise: nobody is sent to the origin because a machine is busy, and a job that failed
does not come back while a case looks. In the threaded shell each request that is held takes a thread.
"""

HASTY: Final[Settings] = {
    "server": {"max_wait_s": 3.0, "verify_s": 1.5},
    "worker": {"lease_s": 3.0, "max_copy_s": 6.0},
}
"""What a site has whose times are short: requests are held, entries believed and leases given for some seconds."""


def installed(shell: str) -> Launch:
    """One of the shells that the command `cloud-mirror` brings."""
    command = str(Path(sys.executable).with_name("cloud-mirror"))
    return lambda config, role, port: [command, "--config", str(config), role, "--shell", shell, "--port", str(port)]


@dataclass
class Taken:
    """The rows that were taken at the sites of a case since it began."""

    sites: list[Site] = field(default_factory=list)

    def rows(self) -> Counter[str]:
        """How often each row was taken."""
        return sum((site.taken() for site in self.sites), Counter())

    def must_hold(self, rows: frozenset[Row]) -> None:
        """Return once all of these were taken: the last ones may come after a client has its answer."""
        wanted = {name_of(row) for row in rows}
        wait_until(
            lambda: wanted <= self.rows().keys(),
            PATIENCE_S,
            lambda: f"not taken: {sorted(wanted - self.rows().keys())}; taken: {dict(self.rows())}",
        )


class Maker:
    """Makes sites. Front ends are of these kinds in turn, and so are back ends; in a mixture the two differ."""

    def __init__(
        self,
        directory: Path,
        valkey: Valkey,
        seaweedfs: SeaweedFS,
        moto: Moto,
        kinds: Sequence[Launch],
    ) -> None:
        self.kinds = tuple(kinds)
        self._directory = directory
        self._servers = valkey, seaweedfs, moto
        self._turns = itertools.count()
        self._shared: dict[str, tuple[ExitStack, Site]] = {}
        self._own: ExitStack | None = None
        self._taken = Taken()

    def site(self, settings: Settings | None = None, fronts: int = 1, backs: int = 1) -> Site:
        """A site that other cases had, or will have, too: ask for URLs of your own, and end no process.

        `settings` are added to `PATIENT`. With other settings, or more processes, it is another site.
        """
        key = repr((settings, fronts, backs))
        if key not in self._shared:
            stack = ExitStack()
            with stack:
                site = self._make(stack, settings, fronts, backs)
                stack = stack.pop_all()
            self._shared[key] = stack, site
        _, site = self._shared[key]
        return self._used(site)

    def own(
        self,
        settings: Settings | None = None,
        fronts: int = 1,
        backs: int = 1,
        words: tuple[str, ...] = (),
        admin_token: bool = True,
    ) -> Site:
        """A site that ends with the case. `words` are added to its command lines."""
        assert self._own is not None, "a site is made while a case runs"
        return self._used(self._make(self._own, settings, fronts, backs, words, admin_token))

    def _used(self, site: Site) -> Site:
        if site not in self._taken.sites:
            site.begin()
            self._taken.sites.append(site)
        return site

    def _make(
        self,
        stack: ExitStack,
        settings: Settings | None,
        fronts: int,
        backs: int,
        words: tuple[str, ...] = (),
        admin_token: bool = True,
    ) -> Site:
        valkey, seaweedfs, moto = self._servers
        origin = stack.enter_context(Origin())
        store = stack.enter_context(FaultProxy(seaweedfs.endpoint_url, "localhost"))  # its name may be a source's host
        queue = stack.enter_context(FaultProxy(moto.url))
        cache = stack.enter_context(RedisRelay(valkey.port))
        merged: dict[str, dict[str, Any]] = {section: dict(values) for section, values in PATIENT.items()}
        merged["redis"]["url"] = cache.url
        for section, values in (settings or {}).items():
            merged.setdefault(section, {}).update(values)
        fleet = Fleet(self._directory, valkey, seaweedfs, moto, origin.url, store.url, queue.url, merged)
        if not admin_token:
            del fleet.environment["CLOUD_MIRROR_ADMIN_TOKEN"]
        stack.enter_context(fleet_of(fleet))
        turn = next(self._turns)
        front, back = (self._starter(fleet, *kind, words) for kind in (("serve", turn), ("work", turn + 1)))
        site = Site(fleet, origin, store, queue, cache, front, back)
        site.start(fronts, backs)
        return site

    def _starter(self, fleet: Fleet, role: str, first: int, words: tuple[str, ...]) -> Callable[[], Start]:
        """Gives what starts a process of the next kind."""
        kinds = itertools.islice(itertools.cycle(self.kinds), first, None)

        def prepared() -> Start:
            port = free_port()
            command = [*next(kinds)(fleet.config, role, port), *words]
            return lambda: fleet.launch(role, port, command)

        return prepared

    @contextmanager
    def watching(self) -> Iterator[Taken]:
        """While a case runs: the rows that its sites take. After it, its own sites end; shared ones come to rest.

        A shared site at which a case failed ends too.
        """
        self._taken = Taken()
        with ExitStack() as self._own:
            try:
                yield self._taken
                for site in self._taken.sites:
                    if any(site is shared for _, shared in self._shared.values()):
                        site.rest()
            except BaseException:
                self._end(self._taken.sites)
                raise

    def _end(self, sites: list[Site]) -> None:
        for key, (stack, site) in tuple(self._shared.items()):
            if site in sites:
                del self._shared[key]
                stack.close()

    def close(self) -> None:
        """End every site."""
        self._end([site for _, site in self._shared.values()])
