"""Where requests come in and answers go out, for every shell's server: what needs no flight is answered here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cloud_mirror.actions import Response
from cloud_mirror.http_api import (
    Answer,
    Api,
    HealthRoute,
    PingRoute,
    PurgeRoute,
    ReadyRoute,
    RedirectRoute,
    alive_answer,
    problem,
    purged_answer,
    ready_answer,
)
from cloud_mirror.policy import Policy, SourcePolicy
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.reason import Reason
from cloud_mirror.wire.metrics import CONTENT_TYPE, Metrics
from cloud_mirror.wire.services import PoolServices

SERVER: Final = "cloud-mirror"
"""The value of every response's Server header."""

BROKEN: Final = problem(Reason.INTERNAL)
"""What a client gets where something inside went wrong; the log says what."""

MALFORMED: Final = problem(Reason.REQUEST_MALFORMED)
"""What a client gets whose bytes are no request, in HTTP/1.0: its version is not known. The connection then ends."""

HEAD_BYTES: Final = 16 * 1024
"""How large a request's head may be, unless the URLs that may be asked for need more; see `head_bytes`."""

BODY_BYTES: Final = 64 * 1024
"""How large a body may be that is read and thrown away, so that the connection can go on."""


def head_bytes(source: SourcePolicy) -> int:
    """How large a request's head may be: it holds the longest URL, every byte percent-encoded, and other things."""
    return max(HEAD_BYTES, 3 * source.max_url_bytes + HEAD_BYTES // 2)


@dataclass(frozen=True, slots=True)
class Roles:
    """What a process does; `pools` narrows the back end to some pools (None: all)."""

    front_end: bool = True
    back_end: bool = False
    pools: tuple[str, ...] | None = None

    @property
    def needed(self) -> tuple[str, ...] | None:
        """The pools whose services the process needs (None: all): a front end answers for every one."""
        return None if self.front_end else self.pools

    def copies_for(self, pool: str) -> bool:
        """Whether the process takes the pool's jobs."""
        return self.back_end and (self.pools is None or pool in self.pools)

    def address(self, policy: Policy) -> tuple[str, int] | None:
        """Host and port where the process listens; None: nowhere. One that only copies shows its health and metrics."""
        if self.front_end:
            return policy.server.host, policy.server.port
        return None if policy.worker.port is None else (policy.worker.host, policy.worker.port)


def base_url(host: str, port: int) -> str:
    """The URL of what listens there."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Desk:
    """One process's. `services` may change as queues are found; the desk sees it."""

    def __init__(self, policy: Policy, roles: Roles, services: Mapping[str, PoolServices], metrics: Metrics) -> None:
        self._api = Api(policy)
        self._roles = roles
        self._services = services
        self._metrics = metrics

    def read(
        self, method: str, raw_target: str, headers: Sequence[tuple[str, str]], draining: bool, decoded: bool = False
    ) -> Answer | RedirectRoute | PurgeRoute:
        """The answer to a request, or which redirect or purge it asks for. What is refused here is counted here.

        `decoded` is as `Api.route` has it.
        """
        route = self._read(method, raw_target, headers, draining, decoded)
        if isinstance(route, Answer) and route.reason is not None:
            self._metrics.refused(route.reason)
        return route

    def _read(
        self, method: str, raw_target: str, headers: Sequence[tuple[str, str]], draining: bool, decoded: bool
    ) -> Answer | RedirectRoute | PurgeRoute:
        route = self._api.route(method, raw_target, headers, decoded)
        match route:
            case Answer():
                return route
            case RedirectRoute() | PurgeRoute():
                return route if self._roles.front_end else problem(Reason.ROUTE_UNKNOWN)
            case PingRoute() | HealthRoute():
                return alive_answer()
            case ReadyRoute():
                return ready_answer(self._readiness(draining))
            case _:
                return Answer(200, (("Content-Type", CONTENT_TYPE),), self._metrics.text())

    def redirected(self, route: RedirectRoute, response: Response) -> Answer:
        """The answer to a redirect that was asked for."""
        return self._services[route.pool].manager.answer(route.url.text, response)

    def purged(self, state: PurgeState) -> Answer:
        """The answer to a purge that was asked for and has come to its end."""
        if state.reason is None:
            return purged_answer()
        return problem(state.reason, status=Reason.CACHE_UNAVAILABLE.status, headers=(("Retry-After", "2"),))

    def _readiness(self, draining: bool) -> dict[str, bool]:
        return {
            "accepting": not draining,
            "queues": all(services.queue_url != "" for services in self._services.values()),
        }
