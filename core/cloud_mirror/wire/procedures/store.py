"""The store's part in the procedures: epochs, probes, purges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from cloud_mirror import keys
from cloud_mirror.copy_events import CleanedUp, EpochRead
from cloud_mirror.entry import TOKEN
from cloud_mirror.events import CopyFound, CopyNotFound, EpochWritten, FoundCopy, ProbeFailed, StoreFailed, Swept
from cloud_mirror.reason import Reason
from cloud_mirror.wire.asking import ATTEMPTS, FIRST_BACKOFF_S, Answered, Failed, ask
from cloud_mirror.wire.calls import Backoff, HttpReply, HttpRequest, Procedure
from cloud_mirror.wire.checksums import crc64nvme
from cloud_mirror.wire.services import PoolServices
from cloud_mirror.wire.storage import FaultKind, ObjectAttributes, StoredObject

T = TypeVar("T")

PROBE_TIMEOUT_S: Final = 4.0
WRITE_TIMEOUT_S: Final = 20.0
PROBE_BACKOFF_S: Final = 0.2
SETTLED: Final = frozenset({FaultKind.REJECTED, FaultKind.DENIED, FaultKind.CONFLICT, FaultKind.NOT_FOUND})
"""The store has looked at the request and will not do it: nothing comes of it later."""

META_URL_SHA256: Final = "url-sha256"
META_COPY_ID: Final = "copy-id"
META_UPSTREAM_LENGTH: Final = "upstream-length"


def reason_of(failed: Failed) -> Reason:
    """What a store's failure is called."""
    return Reason.STORE_DENIED if failed.denied else Reason.STORE_UNAVAILABLE


def failure(failed: Failed, part: int = 0) -> StoreFailed:
    """A write that failed, and whether anything may still come of it: of an earlier try, whatever the last one got."""
    settled = failed.kind in SETTLED and failed.attempts == 1
    return StoreFailed(reason_of(failed), f"{failed.code}: {failed.detail}", settled, part)


def _probe(
    services: PoolServices, request: HttpRequest, read: Callable[[HttpReply], T]
) -> Procedure[Answered[T] | Failed]:
    """Ask, and once more whatever the failure: a denial too may pass, with fresh credentials."""
    outcome = yield from ask(services.provider, request, read, timeout_s=PROBE_TIMEOUT_S, attempts=1)
    if isinstance(outcome, Failed):
        yield Backoff(PROBE_BACKOFF_S)
        outcome = yield from ask(services.provider, request, read, timeout_s=PROBE_TIMEOUT_S, attempts=1)
    return outcome


def read_epoch(services: PoolServices, url: str) -> Procedure[EpochRead | ProbeFailed]:
    """The name that the last purge left, or that of the beginning."""
    provider = services.provider
    outcome = yield from _probe(services, provider.get_request(keys.epoch_key(url)), provider.read_get)
    if isinstance(outcome, Failed):
        return ProbeFailed(reason_of(outcome), f"{outcome.code}: {outcome.detail}")
    if outcome.value is None:
        return EpochRead(keys.FIRST_EPOCH)
    epoch = outcome.value.decode("ascii", "replace")
    if not TOKEN.match(epoch):
        return ProbeFailed(Reason.STORE_UNAVAILABLE, "the epoch object does not hold an epoch")
    return EpochRead(epoch)


def head_copy(services: PoolServices, url: str, epoch: str) -> Procedure[StoredObject | ProbeFailed | None]:
    """What the store has under the copy's key, if that is a copy of this URL."""
    provider = services.provider
    request = provider.head_request(keys.object_key(url, epoch))
    outcome = yield from _probe(services, request, provider.read_head)
    if isinstance(outcome, Failed):
        return ProbeFailed(reason_of(outcome), f"{outcome.code}: {outcome.detail}")
    stored = outcome.value
    if stored is not None and stored.meta(META_URL_SHA256) != keys.url_sha256(url):
        return None
    return stored


def probe_copy(services: PoolServices, url: str) -> Procedure[CopyFound | CopyNotFound | ProbeFailed]:
    """The epoch, then the copy under it; what is not as long as its origin said is none, whoever left it there."""
    epoch = yield from read_epoch(services, url)
    if isinstance(epoch, ProbeFailed):
        return epoch
    stored = yield from head_copy(services, url, epoch.epoch)
    if isinstance(stored, ProbeFailed):
        return stored
    if stored is None or stored.meta(META_UPSTREAM_LENGTH) not in ("", str(stored.size)):
        return CopyNotFound(epoch.epoch)
    return CopyFound(epoch.epoch, found_copy(stored))


def found_copy(stored: StoredObject) -> FoundCopy:
    """What a machine needs to know of a stored object."""
    copy_id = stored.meta(META_COPY_ID)
    return FoundCopy(stored.size, stored.etag, stored.life_left_s, copy_id if TOKEN.match(copy_id) else "")


def delete_copy(services: PoolServices, url: str, epoch: str) -> Procedure[CleanedUp]:
    """Delete the copy under an epoch; what cannot be deleted now, the store's lifecycle rule removes."""
    provider = services.provider
    request = provider.delete_request(keys.object_key(url, epoch))
    yield from ask(provider, request, provider.read_delete, timeout_s=WRITE_TIMEOUT_S)
    return CleanedUp()


def write_epoch(services: PoolServices, url: str, epoch: str) -> Procedure[EpochWritten | StoreFailed]:
    """Put a new epoch in its place.

    Every try writes a name of its own. A try that was given up may land at any later time, on top of another purge's
    epoch: the name that it brings is then one that nothing was ever copied under, and no dead epoch comes back.
    """
    provider, backoff_s = services.provider, FIRST_BACKOFF_S
    number = 1
    while True:
        name = epoch if number == 1 else f"{epoch}-{number}"
        body, attributes = name.encode("ascii"), ObjectAttributes(content_type="text/plain")
        request = provider.put_request(keys.epoch_key(url), body, attributes, crc64nvme(body))
        outcome = yield from ask(provider, request, provider.read_put, timeout_s=PROBE_TIMEOUT_S, attempts=1)
        if isinstance(outcome, Answered):
            return EpochWritten(name)
        if outcome.kind in SETTLED or number == ATTEMPTS:
            return failure(outcome)
        yield Backoff(backoff_s)
        number, backoff_s = number + 1, backoff_s * 2


def sweep(services: PoolServices, url: str, keep_epoch: str) -> Procedure[Swept | StoreFailed]:
    """Abort the URL's uploads, then delete its objects, but for those of `keep_epoch` and of the current epoch."""
    for sweep_page in (_sweep_uploads, _sweep_objects):
        marker = ""
        while True:
            swept = yield from sweep_page(services, url, keep_epoch, marker)
            if isinstance(swept, StoreFailed):
                return swept
            if not swept:
                break
            marker = swept
    return Swept()


def _sweep_uploads(services: PoolServices, url: str, keep_epoch: str, marker: str) -> Procedure[str | StoreFailed]:
    """Abort a page of uploads; where to go on, "" at the end."""
    provider = services.provider
    request = provider.list_uploads_request(keys.object_prefix(url), marker)
    listed = yield from ask(provider, request, provider.read_list_uploads, timeout_s=WRITE_TIMEOUT_S)
    if isinstance(listed, Failed):
        return failure(listed)
    page = listed.value
    dead = yield from _dead(services, url, keep_epoch, tuple(upload.key for upload in page.uploads))
    if isinstance(dead, StoreFailed):
        return dead
    for upload in page.uploads:
        if upload.key in dead:
            abort = provider.abort_upload_request(upload.key, upload.upload_id)
            aborted = yield from ask(provider, abort, provider.read_abort_upload, timeout_s=WRITE_TIMEOUT_S)
            if isinstance(aborted, Failed):
                return failure(aborted)
    return page.next_marker


def _sweep_objects(services: PoolServices, url: str, keep_epoch: str, marker: str) -> Procedure[str | StoreFailed]:
    """Delete a page of objects; where to go on, "" at the end."""
    provider = services.provider
    request = provider.list_objects_request(keys.object_prefix(url), marker)
    listed = yield from ask(provider, request, provider.read_list_objects, timeout_s=WRITE_TIMEOUT_S)
    if isinstance(listed, Failed):
        return failure(listed)
    page = listed.value
    dead = yield from _dead(services, url, keep_epoch, page.keys)
    if isinstance(dead, StoreFailed):
        return dead
    for key in page.keys:
        if key in dead:
            delete = provider.delete_request(key)
            deleted = yield from ask(provider, delete, provider.read_delete, timeout_s=WRITE_TIMEOUT_S)
            if isinstance(deleted, Failed):
                return failure(deleted)
    return page.next_marker


def _dead(
    services: PoolServices, url: str, keep_epoch: str, listed: tuple[str, ...]
) -> Procedure[frozenset[str] | StoreFailed]:
    """Which of the listed keys stand under a dead epoch.

    The current epoch is read after the listing: it may be another purge's that overtook this one, and a copy that was
    begun since must stay. What is listed under yet another one was begun under an epoch that was replaced before that
    read, and none that was replaced comes back (`write_epoch`).
    """
    prefix = keys.object_prefix(url)
    others = frozenset(key for key in listed if not key.startswith(f"{prefix}{keep_epoch}/"))
    if not others:
        return others
    current = yield from read_epoch(services, url)
    if isinstance(current, ProbeFailed):
        return StoreFailed(current.reason, current.detail)
    return frozenset(key for key in others if not key.startswith(f"{prefix}{current.epoch}/"))
