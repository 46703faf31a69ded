"""`Mirror`: one process's front end and back end, wired. What an application embeds."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from cloud_mirror import keys
from cloud_mirror.actions import Response
from cloud_mirror.policy import Policy
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.wire import redis
from cloud_mirror.wire.desk import Desk, Roles
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror.wire.procedures.jobs import await_queues
from cloud_mirror.wire.procedures.purge import purge
from cloud_mirror.wire.services import connect
from cloud_mirror.wire.sqs import SqsQueue
from cloud_mirror_sync.back_end import BackEnd
from cloud_mirror_sync.front_end import FrontEnd
from cloud_mirror_sync.runtime import Runtime
from cloud_mirror_sync.stop import Stop, StoppedError

log = logging.getLogger("cloud_mirror.mirror")


class Mirror:
    """Its methods may be called from any thread: `with Mirror(policy, roles) as mirror`."""

    def __init__(self, policy: Policy, roles: Roles | None = None) -> None:
        self.policy = policy
        self.roles = roles if roles is not None else Roles()
        self.metrics = Metrics()
        self.services = connect(policy, self.roles.needed, SqsQueue(policy.queue))
        self.desk = Desk(policy, self.roles, self.services, self.metrics)
        self._runtime = Runtime(policy, tuple(keys.channel(pool.name) for pool in policy.pools))
        self.metrics.memory_reserved.set_function(lambda: self._runtime.memory.held_bytes)
        self.metrics.watch_origins(self._runtime.http.hosts.book)
        self._front_end = FrontEnd(self._runtime, policy, self.services, self.metrics)
        self._back_ends: list[BackEnd] = []
        self._lock = threading.Lock()
        self._stop = Stop()
        self._threads: list[threading.Thread] = []
        self.broken: Future[None] = Future()
        """Has a result once a part of the mirror has ended that should not end: restart the process."""

    def __enter__(self) -> Mirror:
        """Start the subscription and the workers."""
        self._runtime.perform(redis.load())
        self._start("notices", self._runtime.notices.listen)
        self._start("queues", self._find_queues)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop at once; `drain` first to stop gently."""
        self._stop.set()  # no loop is begun any more, so what is no back end now never becomes one
        for back_end in tuple(self._back_ends):
            back_end.close()
        self._stop_threads()
        self._front_end.close()
        self._runtime.close()

    def redirect(self, pool: str, url: str, stop: Stop | None = None) -> Response:
        """Where to send a request for a canonical URL that the rules allow (`SourceRules.admit`).

        Blocks for `max_wait_s` at most. Once `stop` is set, nobody waits for the answer: `StoppedError`.
        """
        return self.enter(pool) or self.answer(pool, url, stop or Stop())

    def enter(self, pool: str) -> Response | None:
        """The half of `redirect` that never blocks: None where there is a thread's room for the request."""
        return self._front_end.enter(pool)

    def answer(self, pool: str, url: str, stop: Stop) -> Response:
        """The half of `redirect` that waits, in a thread of the caller's, for a request that has entered."""
        return self._front_end.redirect(pool, url, stop)

    def purge(self, pool: str, url: str) -> PurgeState:
        """Purge a canonical URL; see `cloud_mirror.purge` for what holds once it is done."""
        state = self._runtime.perform(purge(self.services[pool], url, secrets.token_urlsafe(12)))
        self.metrics.purged(pool, state)
        return state

    @property
    def draining(self) -> bool:
        """Whether this process is to stop."""
        return self._front_end.draining

    def drain(self, within_s: float) -> bool:
        """Answer all waiters now, give unfinished jobs back; whether nothing was under way before the time was up."""
        deadline_s = time.monotonic() + within_s
        self._front_end.draining = True
        self._stop.set()
        back_ends = tuple(self._back_ends)  # with the stop set, no other takes jobs
        with ThreadPoolExecutor(len(back_ends) + 1, "drain") as beside:
            given_back = [beside.submit(back_end.drain, within_s) for back_end in back_ends]
            answered = self._front_end.drain(deadline_s - time.monotonic())
            done = all(each.result() for each in given_back)
        self._stop_threads()
        return done and answered

    def broke_off(self, error: Exception) -> None:
        """Say that a part has ended that should not have."""
        log.critical("a part of the mirror broke off", exc_info=error)
        with self._lock:
            if not self.broken.done():
                self.broken.set_result(None)

    def _find_queues(self, stop: Stop) -> None:
        self._runtime.perform(await_queues(self.services, self.roles, self.metrics, self._take_jobs), stop)

    def _take_jobs(self, pool: str) -> None:
        back_end = BackEnd(self._runtime, {pool: self.services[pool]}, self.metrics)
        self._back_ends.append(back_end)
        for name, loop in back_end.loops():
            self._start(name, loop)

    def _start(self, name: str, work: Callable[[Stop], None]) -> None:
        thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        with self._lock:
            if self._stop.is_set:
                return
            self._threads.append(thread)
            thread.start()

    def _run(self, work: Callable[[Stop], None]) -> None:
        try:
            work(self._stop)
        except StoppedError:
            pass  # as was asked for
        except Exception as error:  # noqa: BLE001  # it is logged
            self.broke_off(error)

    def _stop_threads(self) -> None:
        self._stop.set()
        with self._lock:
            threads = tuple(self._threads)
        for thread in threads:
            thread.join()
