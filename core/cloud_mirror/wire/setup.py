"""Setting up: what makes every pool's bucket and queues ready, a step at a time.

Each step is a procedure of its own, so that a caller can show which one is under way, and each may be run again at
any time: what is right already is left alone and reported as already there. A pool's dead-letter queue comes
before its queue, whose redrive policy names it.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from cloud_mirror.policy import Policy, PoolPolicy, QueuePolicy
from cloud_mirror.wire.asking import Answered, Failed, ask
from cloud_mirror.wire.calls import FailureKind, HttpReply, HttpRequest, Procedure
from cloud_mirror.wire.queue import JobQueue
from cloud_mirror.wire.sqs import dead_attributes, main_attributes
from cloud_mirror.wire.storage import FaultKind, SetupStep, StorageProvider

Attributes: TypeAlias = tuple[tuple[str, str], ...]

TIMEOUT_S: Final = 15.0

_SKEWED: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_SKEWED_WORDS: Final = ("Signature expired", "Signature not yet current")
"""How SQS puts it, whose code is that of any wrong signature."""

_EXISTS: Final = frozenset({"QueueAlreadyExists", "QueueNameExists"})


class Outcome(enum.Enum):
    """What a step came to."""

    DONE = "done"
    ALREADY_THERE = "already there"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step came to; where it failed, `what` happened and the `remedy`."""

    outcome: Outcome
    what: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a title for people, and the procedure that takes it (each call makes a new one)."""

    title: str
    run: Callable[[], Procedure[StepResult]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue that exists: its URL and its attributes, in the service's own names."""

    url: str
    attributes: Mapping[str, str]


def setup_plan(policy: Policy, providers: Mapping[str, StorageProvider], queue: JobQueue) -> tuple[Step, ...]:
    """All steps, in the order in which they are to be taken. `providers` has every pool of the policy by name."""
    return tuple(step for pool in policy.pools for step in _pool_steps(policy.queue, pool, providers[pool.name], queue))


def _pool_steps(policy: QueuePolicy, pool: PoolPolicy, provider: StorageProvider, queue: JobQueue) -> tuple[Step, ...]:
    name = pool.name
    stores = tuple(
        Step(f"{name}: {step.title}", partial(_store_step, provider, step)) for step in provider.setup_steps()
    )
    return (
        *stores,
        Step(f"{name}: dead-letter queue {policy.dead_name(name)}", partial(_dead_step, policy, name, queue)),
        Step(f"{name}: queue {policy.name(name)}", partial(_queue_step, policy, name, queue)),
    )


def is_done(provider: StorageProvider, step: SetupStep, attempts: int = 4) -> Procedure[Answered[bool] | Failed]:
    """Whether a step of the store is done already; False where the store cannot be asked."""

    def read(reply: HttpReply) -> bool:
        return provider.read_setup_check(step, reply)

    if step.check is None:
        return Answered(False)
    return (yield from ask(provider, step.check, read, timeout_s=TIMEOUT_S, attempts=attempts))


def find_queue(queue: JobQueue, name: str, attempts: int = 4) -> Procedure[Answered[QueueState | None] | Failed]:
    """The queue of that name with its attributes, or None where there is none."""
    found = yield from ask(queue, queue.find_request(name), queue.read_find, timeout_s=TIMEOUT_S, attempts=attempts)
    if isinstance(found, Failed):
        return found
    if found.value is None:
        return Answered(None)
    url = found.value
    request = queue.attributes_request(url)
    read = yield from ask(queue, request, queue.read_attributes, timeout_s=TIMEOUT_S, attempts=attempts)
    return read if isinstance(read, Failed) else Answered(QueueState(url, dict(read.value)))


def redrive_of(attributes: Mapping[str, str]) -> tuple[str, int]:
    """The dead-letter queue's ARN and the receive count of a queue's redrive policy; ("", 0) where there is none."""
    try:
        redrive = json.loads(attributes["RedrivePolicy"])
        return str(redrive["deadLetterTargetArn"]), int(redrive["maxReceiveCount"])
    except (KeyError, TypeError, ValueError):
        return "", 0


def remedy_for(failed: Failed, subject: str) -> str:
    """What to do about a service that did not do as it was asked; `subject` names it ("the bucket b", "SQS")."""
    match failed.kind:
        case FailureKind.CREDENTIALS:
            return "give AWS credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or an instance role"
        case FailureKind.NAME | FailureKind.CONNECT | FailureKind.TLS | FailureKind.TIMEOUT | FailureKind.BROKEN:
            return f"check that {subject} can be reached from here: endpoint_url, region, network, certificate"
        case FailureKind.MALFORMED | FailureKind.TOO_LARGE | FailureKind.ADDRESS_NOT_ALLOWED:
            return f"check that endpoint_url is that of {subject}: what answers there is something else"
        case FaultKind.DENIED if failed.code in _SKEWED or any(words in failed.detail for words in _SKEWED_WORDS):
            return "set this machine's clock (NTP): the service refuses signatures of another time than its own"
        case FaultKind.DENIED:
            return f"give these credentials the right to do this with {subject}, or check that they are the right ones"
        case FaultKind.NOT_FOUND:
            return "run `cloud-mirror setup`"
        case FaultKind.CONFLICT:
            return f"choose another name, or wait and try again: {subject} is another's, or being changed or deleted"
        case FaultKind.THROTTLED | FaultKind.UNAVAILABLE:
            return "try again in a minute"
    return f"the service rejects the request itself: check the settings of {subject}"


def failure(failed: Failed, subject: str) -> StepResult:
    """What a step came to whose service did not do as it was asked; `subject` names it, as in `remedy_for`."""
    return StepResult(Outcome.FAILED, _told(failed), remedy_for(failed, subject))


def _told(failed: Failed) -> str:
    return f"{failed.code}: {failed.detail}" if failed.detail else failed.code


def _store_step(provider: StorageProvider, step: SetupStep) -> Procedure[StepResult]:
    def read(reply: HttpReply) -> bool:
        return provider.read_setup(step, reply)

    def look(reply: HttpReply) -> HttpRequest | None:
        return None if provider.read_setup_check(step, reply) else provider.setup_request(step, reply)

    request = step.request
    if step.check is not None:
        looked = yield from ask(provider, step.check, look, timeout_s=TIMEOUT_S)
        if isinstance(looked, Failed):
            if step.replaces:  # what is set there is not known, and would be lost
                return failure(looked, "the bucket")
        elif looked.value is None:
            return StepResult(Outcome.ALREADY_THERE)
        else:
            request = looked.value
    answer = yield from ask(provider, request, read, timeout_s=TIMEOUT_S)
    if isinstance(answer, Failed):
        return failure(answer, "the bucket")
    return StepResult(Outcome.DONE if answer.value else Outcome.ALREADY_THERE)


def _dead_step(policy: QueuePolicy, pool: str, queue: JobQueue) -> Procedure[StepResult]:
    return (yield from _ensure(queue, policy.dead_name(pool), dead_attributes(policy)))


def _queue_step(policy: QueuePolicy, pool: str, queue: JobQueue) -> Procedure[StepResult]:
    dead_name = policy.dead_name(pool)
    dead = yield from find_queue(queue, dead_name)
    if isinstance(dead, Failed):
        return failure(dead, f"the queue {dead_name}")
    arn = "" if dead.value is None else dead.value.attributes.get("QueueArn", "")
    if not arn:
        return StepResult(Outcome.FAILED, f"{dead_name} is not there", "run `cloud-mirror setup` again")
    return (yield from _ensure(queue, policy.name(pool), main_attributes(policy, arn)))


def _ensure(queue: JobQueue, name: str, wanted: Attributes) -> Procedure[StepResult]:
    """Create the queue, or change what is not as wanted of the one that is there."""
    subject = f"the queue {name}"
    found = yield from find_queue(queue, name)
    if isinstance(found, Failed):
        return failure(found, subject)
    if found.value is None:
        created = yield from ask(queue, queue.create_request(name, wanted), queue.read_create, timeout_s=TIMEOUT_S)
        if isinstance(created, Answered):
            return StepResult(Outcome.DONE)
        if created.code.rpartition(".")[2] not in _EXISTS:
            return failure(created, subject)
        found = yield from find_queue(queue, name)  # another `setup` was quicker
        if isinstance(found, Failed) or found.value is None:
            return failure(found if isinstance(found, Failed) else created, subject)
    return (yield from _amend(queue, name, found.value, wanted))


def _amend(queue: JobQueue, name: str, state: QueueState, wanted: Attributes) -> Procedure[StepResult]:
    wrong = tuple((key, value) for key, value in wanted if not _same(key, state.attributes, value))
    if not wrong:
        return StepResult(Outcome.ALREADY_THERE)
    request = queue.set_attributes_request(state.url, wrong)
    changed = yield from ask(queue, request, queue.read_set_attributes, timeout_s=TIMEOUT_S)
    if isinstance(changed, Failed):
        return failure(changed, f"the queue {name}")
    return StepResult(Outcome.DONE, "changed " + ", ".join(key for key, _ in wrong))


def _same(key: str, attributes: Mapping[str, str], wanted: str) -> bool:
    if key == "RedrivePolicy":
        return redrive_of(attributes) == redrive_of({key: wanted})
    return attributes.get(key) == wanted
