"""Looks on while a run goes by, keeps its history, and asks every invariant."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from cloud_mirror import keys
from cloud_mirror.actions import ToCopy
from cloud_mirror.http_api import Answer
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.reason import PERMANENT
from cloud_mirror.simulator import invariants
from cloud_mirror.simulator.agenda import START_S, Agenda
from cloud_mirror.simulator.engine import Role, Task
from cloud_mirror.simulator.faults import Weather
from cloud_mirror.simulator.fleet import Asked, Process
from cloud_mirror.simulator.history import History, Purge, Stand
from cloud_mirror.simulator.invariants import Move, Told
from cloud_mirror.simulator.models import Executed, Value
from cloud_mirror.simulator.network import HIDDEN, Network, Services
from cloud_mirror.simulator.settings import HOSTS, Settings
from cloud_mirror.wire.calls import HttpReply, HttpRequest, RedisReply
from cloud_mirror.wire.services import PoolServices

SECRETS: Final = (HIDDEN, "Traceback", "upload-", "put-")
BEFORE_S: Final = 100.0
"""How long before an upload was begun something may have happened that lost it: its own request was under way, with as
many tries as it has, each as long as it may take.
"""

_LASTING: Final = frozenset(reason.code for reason in PERMANENT)


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold: its name, when (in seconds from the run's beginning), and what was seen."""

    invariant: str
    at_s: float
    what: str


class Inspection:
    """One run's: the `Inspector` of its network, and more."""

    def __init__(  # it looks at everything there is
        self,
        settings: Settings,
        agenda: Agenda,
        weather: Weather,
        network: Network,
        services: Services,
        pools: dict[str, PoolServices],
    ) -> None:
        self.history = History()
        self.violations: list[Violation] = []
        self.trace: Callable[[str], None] | None = None
        self.finals: dict[str, str] = {source.url: source.url for source in settings.sources}
        """Where each URL's bytes are in the end, behind its redirects."""
        self._settings = settings
        self._agenda = agenda
        self._weather = weather
        self._network = network
        self._services = services
        self._pools = pools
        self._renewed: dict[str, float] = {}  # by name: when a holder was last heard of
        self._dead: dict[str, float] = {}  # by name: since when a holder is dead
        self._deleting: tuple[str, str] | None = None
        self._target: Value | None = None  # what a script is about to write over

    def report(self, invariant: str, wrong: str) -> None:
        """Note a violation, if it is one."""
        if wrong:
            self.violations.append(Violation(invariant, self._agenda.now_s - START_S, wrong))
            self.say(f"VIOLATION of {invariant}: {wrong}")

    def say(self, line: str) -> None:
        """Write into the trace, if one is kept."""
        if self.trace is not None:
            self.trace(line)

    # The origin.

    def opening(self, task: Task, request: HttpRequest) -> None:
        """An origin is contacted."""
        self.say(f"{_who(task)} {request.method} {request.url}")
        self.report("allowed-place", invariants.allowed_place(request.scheme, request.host, HOSTS))
        asked = {name for name, _ in request.headers}
        if task.role is Role.COPY and request.method == "GET" and "Range" not in asked:
            self._look_at_copies(task)

    def _look_at_copies(self, task: Task) -> None:
        """A copy is about to begin: how many others are under way, and what may excuse them."""
        pool, url, now_s, policy = task.pool, task.url, self._agenda.now_s, self._settings.policy
        others = {
            id(body.task)
            for body in self._network.bodies.values()
            if body.copied and body.task is not task and (body.task.pool, body.task.url) == (pool, url)
        }
        since_s = now_s - policy.worker.lease_s - policy.queue.visibility_timeout_s - policy.worker.max_copy_s
        faults = self._weather.upsets((pool, url), since_s)
        purges = self.history.purges_since(pool, url, since_s)
        rules = self._pools[pool].pool
        ran_out = self.history.ran_out(pool, url, since_s, now_s, rules.expiry_margin_s + 1.0)
        stand = self.history.stood(pool, keys.object_key(url, self.epoch_of(pool, url)), now_s, now_s)
        good = stand is not None and stand.expires_s - now_s > rules.refresh_margin_s + 1.0
        needless = good and not task.copies  # one that begins anew began when there was none
        task.copies += 1
        self.report("one-copy", invariants.one_copy(len(others), faults, purges, ran_out, needless))

    # Redis.

    def scripting(self, words: tuple[str | bytes, ...]) -> None:
        """Redis is about to carry a command out; what it writes over is known only now."""
        self._target = None
        if words[0] in ("EVALSHA", "EVAL") and words[3] != words[4]:
            self._target = self._services.redis.entry(str(words[4]), self._agenda.now_s)

    def script(self, task: Task, words: tuple[str | bytes, ...], executed: Executed) -> None:
        """Redis carried a command out."""
        reply = executed.reply
        if not isinstance(reply, RedisReply) or not isinstance(reply.value, list):
            return
        done, _, _, *found = reply.value
        key, target, operation, fields = str(words[3]), str(words[4]), words[5], _named(found)
        if self.trace is not None:
            state = b" ".join(fields.get(name, b"") for name in (b"status", b"holder", b"token")).decode(
                "ascii", "replace"
            )
            status = [
                str(words[n + 1]) for n in range(12, len(words) - 1, 2) if words[n] in ("status", "holder", "reason")
            ]
            self.say(
                f"{_who(task)} redis {operation!s} {key[-12:]} if {words[6]!s} {words[7]!s} {' '.join(status)}: "
                f"{'done' if done else 'refused'}, was [{state}]"
            )
        token, status_was = fields.get(b"token", b"").decode("ascii", "replace"), fields.get(b"status")
        name = token.partition("-")[0]
        if status_was == b"pending" and name in self._dead and fields.get(b"holder") == b"copying":
            self._look_at_dead(name)
        if task.role is Role.LETTER and operation == "write":
            self.history.given_up.setdefault((task.pool, key), []).append(self._agenda.now_s)
        if operation == "read" or not done:
            return
        now_s = self._agenda.now_s
        for each in {key, target}:
            if task.url:
                self.report(
                    "keys-distinct", invariants.keys_distinct(self.history, "redis", each, f"{task.pool} {task.url}")
                )
        if status_was == b"pending":
            self._look_at_move(task, key, token, fields.get(b"holder", b"").decode("ascii", "replace"))
        if self._target is not None and self._target.status == b"pending":
            was = self._target
            self._look_at_move(
                task, target, was.token.decode("ascii", "replace"), (was.holder or b"").decode("ascii", "replace")
            )
        for name in task.names:
            self._renewed[name] = now_s
        written = [str(word) for word in words[12:]] if operation == "write" else []
        if task.role is Role.COPY and "status" in written and "copying" not in written:
            self._network.settled(task)
        if "reason" in written and written[written.index("reason") + 1] in _LASTING:
            self.history.errors.setdefault((task.pool, task.url), []).append(now_s)

    def _look_at_move(self, task: Task, key: str, token: str, holder: str) -> None:
        """What was pending at that key was changed by that task."""
        if (key, token) not in self.history.garbled:
            move = Move(token, holder, task.role.value, task.names, key)
            self.report("holder-alone", invariants.holder_alone(move))

    def _look_at_dead(self, name: str) -> None:
        wrong = invariants.lease_frees(
            self._dead[name],
            self._renewed.get(name, 0.0),
            self._settings.policy.worker.lease_s,
            self.history.clock_back_s,
            self._agenda.now_s,
        )
        self.report("lease-frees", wrong)

    # The stores.

    def epoch_of(self, pool: str, url: str) -> str:
        """The URL's epoch, as the store has it."""
        store = next(store for name, store in self._services.stores.values() if name == pool)
        found = store.find(keys.epoch_key(url))
        return keys.FIRST_EPOCH if found is None else found.body.decode()

    def stored(self, task: Task, pool: str, request: HttpRequest, reply: HttpReply) -> None:
        """A store answered, and did what it answered."""
        operation, key, now_s = request.headers[0][1], request.target[1:], self._agenda.now_s
        if self.trace is not None:
            self.say(f"{_who(task)} store {operation} {key[67:] or key}: {reply.status}")
        if reply.status >= 300:
            return
        if task.role is Role.COPY:
            self._look_at_upload(task, pool, operation, request, reply)
        if operation == "DeleteObject":
            self.history.remove(pool, key, now_s)
        if operation not in ("PutObject", "CompleteUpload"):
            return
        url = task.url
        if key.startswith("dead/"):
            letter = json.loads(bytes(request.body))
            self.history.letters.setdefault((pool, letter["body"]), []).append(now_s)
            return
        self.report("keys-distinct", invariants.keys_distinct(self.history, pool, key, url))
        if key.startswith("purged/"):
            self.history.write_epoch(pool, url, task.began_s, now_s, bytes(request.body).decode())
            return
        store = self._services.stores[request.host][1]
        found = store.find(key)
        assert found is not None, "it was just stored"
        version = self.version_of(url, found.body)
        self.report("one-whole-body", invariants.one_whole_body(version, key))
        self.history.put(pool, key, url, Stand(now_s, now_s + self._settings.lifespan_s, version))

    def _look_at_upload(self, task: Task, pool: str, operation: str, request: HttpRequest, reply: HttpReply) -> None:
        """A worker was at an upload: whose is it now, and might it be aborted?"""
        upload_id = dict(request.headers).get("upload-id", "")
        if operation == "CreateUpload":
            upload_id = json.loads(bytes(reply.body))
        if operation in ("CreateUpload", "ListParts", "UploadPart"):
            self.history.uploaders[upload_id] = task.names
        elif operation == "AbortUpload":
            epoch, living = request.target.split("/")[3], self.epoch_of(pool, task.url)
            slots = keys.entry_key(pool, task.url), keys.renewal_key(pool, task.url)
            holders = {self._services.redis.fields(slot).get("token", "").partition("-")[0] for slot in slots}
            holds = epoch != living or not holders.isdisjoint(task.names)
            self.report("holder-alone", invariants.upload_alone(self.history, upload_id, task.names, holds))

    def begun(self) -> tuple[str, ...]:
        """The URLs, one for each upload that is neither completed nor aborted."""
        found = []
        for _, store in self._services.stores.values():
            for upload in store.uploads:
                found += [url for url in self.finals if upload.key.startswith(keys.object_prefix(url))]
        return tuple(found)

    def look_at_uploads(self) -> None:
        """In the end: is each upload that is still there explained? What lost it came before the next one was begun."""
        for pool, store in self._services.stores.values():
            for url in self.finals:
                noted = self._services.redis.fields(keys.upload_key(pool, url)).get("upload_id")
                left = [each for each in store.uploads if each.key.startswith(keys.object_prefix(url))]
                next_s = self._agenda.now_s
                for upload in sorted(left, key=lambda each: each.created_s, reverse=True):
                    span = upload.created_s - BEFORE_S, next_s
                    hindered = self._weather.hindered((pool, url), *span)
                    purged = self.history.purged_between(pool, url, *span)
                    wrong = invariants.uploads_end(upload.upload_id, upload.upload_id == noted, hindered or purged)
                    self.report("uploads-end", wrong)
                    next_s = upload.created_s

    def version_of(self, url: str, body: bytes) -> int | None:
        """Which version of the origin's a body is; the newest, where several have the same bytes."""
        bodies = self._services.origin.complete_bodies(self.finals[url])
        return max((version for version, each in bodies if each == body), default=None)

    # The queue.

    def queueing(self, request: HttpRequest) -> None:
        """The queue is about to carry a request out."""
        if request.headers[0][1] == "Delete":
            asked = json.loads(bytes(request.body))
            message_id = asked["receipt"].partition(".")[0]
            message = self._services.queue.messages(asked["queue"]).get(message_id)
            if message is not None:
                self._deleting = message_id, message.body

    def queued(self, task: Task, request: HttpRequest, reply: HttpReply) -> None:
        """The queue did."""
        operation, asked = request.headers[0][1], json.loads(bytes(request.body))
        if self.trace is not None:
            self.say(
                f"{_who(task)} queue {operation} {asked.get('receipt', '')}: {reply.status} {bytes(reply.body)[:40]!r}"
            )
        if operation == "Send" and reply.status < 300:
            self._look_at_message(asked["queue"], asked["body"])
        deleting, self._deleting = self._deleting, None
        if deleting is not None and deleting[0] not in self._services.queue.messages(asked["queue"]):
            self._look_at_deleted(task, asked["queue"], deleting[1])

    def _look_at_message(self, queue_url: str, body: str) -> None:
        job, now_s = _job(body), self._agenda.now_s
        self.history.messages.setdefault((queue_url, body), []).append(now_s)
        if job and queue_url == self._queues(job["pool"])[0]:
            self.history.sent.setdefault((job["pool"], job["url"]), []).append(now_s)

    def _look_at_deleted(self, task: Task, queue_url: str, body: str) -> None:
        """A message is gone from its queue, by whatever task: who copies answers for a job, others for a message."""
        job, pool = _job(body), task.pool
        queues = self._queues(pool)
        if queue_url == queues[1]:
            real = job is not None and job["pool"] == pool and job["url"] in self.finals
            key = keys.entry_key(pool, job["url"]) if job is not None and real else None
            wrong = invariants.letter_kept(self.history, pool, body, key, task.began_s)
        elif job and task.role is Role.COPY:
            url, now_s = job["url"], self._agenda.now_s
            slack_s = self._settings.policy.server.verify_s + self.history.clock_back_s + 1.0
            if not self.history.lied_between(task.began_s - slack_s, now_s):
                slack_s = 0.0
            void = job["epoch"] not in ("", self.epoch_of(pool, url))
            wrong = invariants.acknowledged_when_durable(self.history, pool, url, task.began_s, now_s, slack_s, void)
        else:
            wrong = invariants.moved_before_deleted(self.history, queues, body, task.began_s)
        self.report("acknowledged-when-durable", wrong)

    def _queues(self, pool: str) -> tuple[str, str]:
        """The URLs of a pool's queue and of its dead letters'."""
        policy, queue = self._settings.policy.queue, self._services.queue
        return queue.url_of(policy.name(pool)) or "", queue.url_of(policy.dead_name(pool)) or ""

    # What clients and purges are told.

    def answered(self, asked: Asked) -> None:
        """A request was answered."""
        assert asked.response is not None
        assert asked.answered_s is not None
        assert asked.deadline_s is not None
        services = self._pools[asked.pool]
        answer: Answer = services.manager.answer(asked.url, asked.response)
        paused_s = asked.host.paused_between(asked.asked_s, asked.answered_s)
        self._agenda.note(f"{asked.response}")
        self.say(f"{asked.host.name} answers {asked.url}: {asked.response}")
        self.report("nothing-private", invariants.nothing_private(answer, SECRETS))
        late = invariants.answered_in_time(asked.deadline_s, asked.answered_s, asked.answered_s, paused_s)
        self.report("answered-in-time", late)
        location = answer.header("Location")
        if location is None:
            return
        host = next(host for host, (pool, _) in self._services.stores.items() if pool == asked.pool)
        owner = ""
        if isinstance(asked.response, ToCopy):
            key = unquote(urlsplit(location).path)[1:]
            told = Told(asked.pool, asked.url, key, asked.asked_s, asked.answered_s, paused_s)
            verify_s = self._settings.policy.server.verify_s
            self.report("redirect-stands", invariants.redirect_stands(self.history, told, verify_s))
            self.report("purge-holds", invariants.purge_holds(self.history, told))
            owner = asked.url if key.startswith(keys.object_prefix(asked.url)) else ""
            owner = self.history.owners.get((asked.pool, key), owner)
        self.report("allowed-location", invariants.allowed_location(location, asked.url, host, owner))

    def purge_began(self, pool: str, url: str, version: int) -> float:
        """A purge was asked for, just after the origin's object changed; the moment."""
        began_s = self._agenda.now_s
        self.say(f"purge of {url} begins; the origin has version {version} now")
        self.history.purges.setdefault((pool, url), []).append(Purge(began_s, version))
        return began_s

    def purge_ended(self, pool: str, url: str, began_s: float, state: PurgeState | None) -> None:
        """It said how it ended, or (None) its process died."""
        done = state is not None and state.done
        if self.history.end_purge(pool, url, began_s, self._agenda.now_s, done):
            self.say(f"purge of {url} ends: {'done' if done else state and state.reason}")

    def died(self, process: Process) -> None:
        """A process died: its workers hold leases that nobody renews, its purges stay where they are."""
        for purge in process.purges:
            self.purge_ended(*purge, None)
        for task in process.tasks:
            if task.role is Role.COPY:
                for name in task.names:
                    self._dead[name] = self._agenda.now_s


def _named(found: list[bytes]) -> dict[bytes, bytes]:
    """Fields and values, in turn, by their names."""
    return dict(zip(found[::2], found[1::2], strict=True))


def _who(task: Task) -> str:
    return f"{task.host.name} {task.role.value} {task.names[0][:5] if task.names else ''}"


def _job(body: str) -> dict[str, Any] | None:
    """The job in a message, where it is one of this version."""
    try:
        job = json.loads(body)
    except ValueError:
        return None
    return job if isinstance(job, dict) and job.get("v") == 1 and "url" in job else None
