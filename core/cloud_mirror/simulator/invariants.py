"""The invariants, one function each: given what was seen from outside, what is wrong, or "" where nothing is.

None of them looks inside the code under test. docs/invariants.md says of each what it rests on, and what it becomes
where Redis lies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cloud_mirror.http_api import Answer
from cloud_mirror.keys import object_prefix
from cloud_mirror.simulator.history import History

SOON_S: Final = 0.05
"""What counts as the same moment: the travel of a notice, a timer's rounding."""

AHEAD_S: Final = 1.0
"""By how much a failover may set Redis's clock back in a Redis that only loses."""


@dataclass(frozen=True, slots=True)
class Told:
    """A redirect to a copy: for which URL, to which key, when it was asked for and answered.

    `paused_s` is for how long its process stood still in between.
    """

    pool: str
    url: str
    key: str
    asked_s: float
    answered_s: float
    paused_s: float = 0.0


def redirect_stands(history: History, told: Told, verify_s: float) -> str:
    """A redirect to a copy is given only where a whole, verified copy of that URL stands with time left.

    Where it stands no more at the moment of the answer, it must have stood since the request came, and a purge that
    was under way, or a pause of the process itself, must be what came between. Where Redis lies, the copy may be gone,
    for `verify_s` after each lie.
    """
    pool, url, key, asked_s, answered_s = told.pool, told.url, told.key, told.asked_s, told.answered_s
    if not key.startswith(object_prefix(url)):
        return f"the redirect to {key} is to another URL's copy"
    if history.stood(pool, key, answered_s, answered_s):
        return ""
    excused = told.paused_s > 0 or history.purged_between(pool, url, asked_s, answered_s)
    if excused and history.stood(pool, key, asked_s, answered_s):
        return ""
    believed_s = verify_s + AHEAD_S + history.clock_back_s
    if history.lied_between(asked_s - believed_s, answered_s):
        return ""
    return f"no copy of {url} stands at {key}"


def purge_holds(history: History, told: Told) -> str:
    """After a purge has said that it is done, nothing that began before it is served to who asks then.

    Where the origin's bytes change as a purge begins, they tell their age; and the epoch under which the copy stands
    was the URL's at some moment after each such purge wrote its own. A copy that is gone is `redirect_stands`'s.
    """
    pool, url = told.pool, told.url
    stand = history.stood(pool, told.key, told.answered_s, told.answered_s)
    if stand is None or stand.version is None:
        return ""
    due, epoch = history.newest_due(pool, url, told.asked_s), told.key.split("/")[2]
    if stand.version < due:
        return f"the copy of {url} holds version {stand.version}, and a purge at version {due} was done before"
    written = [each.written_s for each in history.done_before(pool, url, told.asked_s)]
    if all(moment_s is None or history.lived(pool, url, epoch, moment_s, told.answered_s) for moment_s in written):
        return ""
    return f"the copy of {url} is of epoch {epoch}, which was dead when a purge was done before"


def one_whole_body(version: int | None, key: str) -> str:
    """The bytes of a copy are those of one complete 200 body of its origin, from the moment that it stands."""
    return "" if version is not None else f"what was stored at {key} is no complete body of its origin"


def allowed_place(scheme: str, host: str, hosts: frozenset[str]) -> str:
    """Every place that is contacted for an object is in the allow-list."""
    return "" if scheme == "https" and host in hosts else f"{scheme}://{host} is not in the allow-list"


def allowed_location(location: str, url: str, store_host: str, key_owner: str | None) -> str:
    """Every Location is the URL that was asked for, or a copy of it in its pool's store."""
    if location == url or (location.startswith(f"https://{store_host}/") and key_owner == url):
        return ""
    return f"a client that asked for {url} was sent to {location}"


@dataclass(frozen=True, slots=True)
class Move:
    """A change of an entry that was pending: who held it (`token`, `holder`), and who changed it.

    `role` is what the changer is for, `names` are the names that it holds by.
    """

    token: str
    holder: str
    role: str
    names: tuple[str, ...]
    key: str


def holder_alone(move: Move) -> str:
    """Only a token's holder moves its pending entry on; a purge may always, and a worker may take what nobody copies.

    The dead-letter listener may write over what is only queued. The note that tells of an upload is nobody's lease.
    """
    if move.key.endswith(":upload"):
        return ""
    own = any(move.token == name or move.token.startswith(f"{name}-") for name in move.names)
    taken = move.role == "copy" and move.holder in ("asking", "queued")
    given_up = move.role == "letter" and move.holder == "queued"
    if own or taken or given_up or move.role == "purge":
        return ""
    return f"{move.role} {move.names} changed {move.key}, which {move.token} held ({move.holder})"


def upload_alone(history: History, upload_id: str, names: tuple[str, ...], holds: bool) -> str:
    """Only who holds a lease for it aborts an upload that another worker has taken over. `names` are whose it aborts,
    `holds` says whether one of them stands in an entry; a purge may always, and who is of a dead epoch.
    """
    uploader = history.uploaders.get(upload_id, names)
    return "" if holds or uploader == names else f"{names} aborted {upload_id}, which {uploader} had taken over"


def acknowledged_when_durable(
    history: History, pool: str, url: str, since_s: float, now_s: float, slack_s: float, void: bool
) -> str:
    """A job is deleted only once a copy stands, a lasting error is written, another message took its place, or a
    purge has made it `void`. `since_s` is when this delivery was begun on; `slack_s`: how old what it saw may be.
    """
    place = (pool, url)
    settled = (
        void
        or history.copy_stood(pool, url, since_s - slack_s, now_s)
        or any(moment >= since_s for moment in history.errors.get(place, ()))
        or any(moment >= since_s for moment in history.sent.get(place, ()))
        or history.purged_between(pool, url, since_s, now_s)
    )
    return "" if settled else f"the job for {url} was deleted, and nothing came of it"


def moved_before_deleted(history: History, queues: tuple[str, str], body: str, since_s: float) -> str:
    """A message that nobody works on is deleted only once it was sent again, to its own queue or among the dead
    letters (`queues`). `since_s` is when who deletes it began.
    """
    moved = any(moment >= since_s for queue in queues for moment in history.messages.get((queue, body), ()))
    return "" if moved else f"the message {body} was deleted, and nobody sent it again"


def letter_kept(history: History, pool: str, body: str, entry_key: str | None, since_s: float) -> str:
    """A dead letter is deleted only once it is kept in the store, and its job's entry (None: it is no job) was written,
    or Redis refused to. `since_s` is when who deletes it began.
    """
    if not any(moment >= since_s for moment in history.letters.get((pool, body), ())):
        return f"the dead letter {body} was deleted, and is not kept"
    told = entry_key is None or any(moment >= since_s for moment in history.given_up.get((pool, entry_key), ()))
    return "" if told else f"the dead letter {body} was deleted, and nothing is said of it at {entry_key}"


def keys_distinct(history: History, pool: str, key: str, url: str) -> str:
    """Distinct URLs share no key, in Redis or in a store."""
    owner = history.owners.setdefault((pool, key), url)
    return "" if owner == url else f"{key} belongs to {owner} and to {url}"


def nothing_private(answer: Answer, secrets: Iterable[str]) -> str:
    """No private detail reaches a client: neither in a header nor in a body."""
    text = "\n".join([*(f"{name}: {value}" for name, value in answer.headers), answer.body.decode("utf-8", "replace")])
    told = next((secret for secret in secrets if secret in text), None)
    return "" if told is None else f"an answer holds {told!r}"


def answered_in_time(deadline_s: float, answered_s: float | None, now_s: float, paused_s: float) -> str:
    """Every request is answered by its deadline, or as soon as its process runs again."""
    late_s = (now_s if answered_s is None else answered_s) - deadline_s - paused_s
    return "" if late_s <= SOON_S else f"a request was not answered {late_s:.1f} s after its deadline"


def lease_frees(dead_since_s: float, renewed_s: float, lease_s: float, clock_back_s: float, now_s: float) -> str:
    """A dead worker's URL can be copied again within its lease, counted from the last that was heard of it."""
    over_s = now_s - max(dead_since_s, renewed_s) - lease_s - clock_back_s
    return "" if over_s <= SOON_S else f"a dead worker's lease was still held {over_s:.1f} s after its end"


def jobs_end(messages: Iterable[str], pending: Iterable[str]) -> str:
    """In the end every accepted job has ended as present, error or dead letter: no message and no lease is left."""
    left = [*(f"message {each}" for each in messages), *(f"pending entry {each}" for each in pending)]
    return "" if not left else f"left in the end: {', '.join(sorted(left)[:5])}"


def uploads_end(upload_id: str, noted: bool, excused: bool) -> str:
    """An upload ends: it is completed, aborted by its worker or by a purge, or left for another worker, who is told of
    it (`noted`). To be lost, and left to the store's lifecycle rule, it takes a fault that may have hindered a copy of
    that URL, or a purge of it, which may come between the upload's beginning and what was said of it.
    """
    return "" if noted or excused else f"{upload_id} is left, and nobody knows of it"


def one_copy(others: int, faults: int, purges: int, ran_out: bool, needless: bool) -> str:
    """Copies of one URL at once are one; one more for each fault that may take a lease, and for each purge of the URL,
    which takes the lease and whose copy is one of another epoch; and one more where a copy `ran_out` while it was made
    anew: a renewal has a lease of its own, so that what clients then wait for is begun beside it, and a purge may find
    both under way. `faults` and `purges` are those of this URL, within the time that a copy, its lease and its message
    last; without them none is needless.
    """
    if others > faults + purges + ran_out:
        also = ", and one ran out" if ran_out else ""
        return f"{others + 1} copies at once after {faults} faults and {purges} purges{also}"
    return "a copy was begun while a good one stood" if needless and not faults and not purges else ""


def bounded(calls: int, age_s: float) -> str:
    """Retries stay bounded: no task asks more than a few dozen times a second, on average over its life."""
    return "" if calls <= 200 + 40 * age_s else f"a task made {calls} calls in {age_s:.1f} s"


@dataclass(frozen=True, slots=True)
class Held:
    """What processes hold in which nothing is under way: of their memory budget, and of permits to ask a host."""

    memory_bytes: int = 0
    permits: int = 0


def nothing_left(flights: int, keys: int, places: int, held: Held) -> str:
    """Memory stays bounded: when nobody asks, no flight is left, Redis holds at most three keys for a URL, and
    processes in which nothing is under way have given back all of their memory, and every permit to ask a host.
    """
    if flights:
        return f"{flights} flights are left, and nobody waits"
    if held.memory_bytes:
        return f"{held.memory_bytes} bytes are reserved where nothing is copied"
    if held.permits:
        return f"{held.permits} requests count as under way where nobody asks"
    return "" if keys <= 3 * places else f"Redis holds {keys} keys for {places} URLs"


def all_well(outcome: str, expected: frozenset[str]) -> str:
    """Once faults have stopped, within a bounded time who asks gets the copy (or what the origin itself would say)."""
    return "" if outcome in expected else f"in the end the answer was {outcome}, not {' or '.join(sorted(expected))}"
