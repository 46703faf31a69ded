"""Dead letters as an operator sees them: what `jobs.attend_dead_letter` has kept, and what becomes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cloud_mirror import keys
from cloud_mirror.events import JobFailed, ProbeFailed
from cloud_mirror.message import Job, MessageError
from cloud_mirror.wire.asking import Failed, ask
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.procedures import jobs
from cloud_mirror.wire.procedures.store import WRITE_TIMEOUT_S, read_epoch
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices, find_queues


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: its name (SHA-256 of the message, in hex), and why the message was given up.

    `receive_count` is how often it was tried, `reason` a code of `cloud_mirror.reason`; `job` is what the message asks
    for, or why it asks for nothing. One that cannot be read has only its name, and says so in `detail`.
    """

    name: str
    job: Job | MessageError
    reason: str = ""
    detail: str = ""
    receive_count: int = 0
    body: str = ""

    @property
    def url(self) -> str:
        """What was to be copied; "" where the message does not say."""
        return self.job.url if isinstance(self.job, Job) else ""


def list_letters(services: PoolServices) -> Procedure[tuple[Letter, ...] | Failed]:
    """All dead letters of a pool, by name."""
    provider, prefix, marker = services.provider, keys.letter_key(""), ""
    letters: list[Letter] = []
    while True:
        request = provider.list_objects_request(prefix, marker)
        page = yield from ask(provider, request, provider.read_list_objects, timeout_s=WRITE_TIMEOUT_S)
        if isinstance(page, Failed):
            return page
        for key in page.value.keys:
            kept = yield from ask(provider, provider.get_request(key), provider.read_get, timeout_s=WRITE_TIMEOUT_S)
            if isinstance(kept, Failed):
                return kept
            if kept.value is not None:  # else somebody has just dropped it
                letters.append(read_letter(services, key.removeprefix(prefix), kept.value))
        marker = page.value.next_marker
        if not marker:
            return tuple(letters)


def read_letter(services: PoolServices, name: str, kept: bytes) -> Letter:
    """The letter that an object holds, whatever it holds."""
    try:
        held: Any = json.loads(kept)
        body, reason, detail, count = held["body"], held["reason"], held["detail"], held["receive_count"]
    except (ValueError, KeyError, TypeError, RecursionError):
        body = reason = detail = count = None
    if not (isinstance(body, str) and isinstance(reason, str) and isinstance(detail, str) and isinstance(count, int)):
        unreadable = MessageError("the object is no letter of this version")
        return Letter(name, unreadable, detail=str(unreadable))
    return Letter(name, jobs.read_job(services, Delivery("", "", body)), reason, detail, count, body)


def redrive(services: PoolServices, letter: Letter) -> Procedure[str]:
    """Send the job again, under the URL's present epoch, then drop the letter; "" or why that did not work.

    In this order the job can come twice, and never not at all.
    """
    if isinstance(letter.job, MessageError):
        return f"there is no job in it: {letter.job}"
    found = yield from find_queues(services)
    if isinstance(found, str):
        return found
    epoch = yield from read_epoch(found, letter.job.url)
    if isinstance(epoch, ProbeFailed):
        return f"the store cannot be read: {epoch.detail}"
    sent = yield from jobs.send_job(found, letter.job.url, epoch.epoch)
    if isinstance(sent, JobFailed):
        return f"the job cannot be sent: {sent.detail}"
    return (yield from drop(services, letter))


def drop(services: PoolServices, letter: Letter) -> Procedure[str]:
    """Delete what is kept of it; "" or why that did not work."""
    provider = services.provider
    request = provider.delete_request(keys.letter_key(letter.name))
    deleted = yield from ask(provider, request, provider.read_delete, timeout_s=WRITE_TIMEOUT_S)
    return f"the letter cannot be deleted: {deleted.code}: {deleted.detail}" if isinstance(deleted, Failed) else ""
