"""The copy machine's actions as procedures. What they share of one copy, its bytes above all, is its `Cargo`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from cloud_mirror import keys
from cloud_mirror.actions import ProbeCopy, ReadEntry, WriteEntry
from cloud_mirror.copy_actions import (
    AbortUpload,
    Acknowledge,
    Acquire,
    CloseOrigin,
    CompleteUpload,
    CopyAction,
    CopyObject,
    CopyPart,
    CreateUpload,
    DeferJob,
    DeleteCopy,
    DropEntry,
    DropServed,
    FetchPart,
    FindUpload,
    KeepLease,
    OpenOrigin,
    PutCopy,
    ReadEpoch,
    ReservePart,
    ReturnJob,
    TagCopy,
    UploadPart,
    VerifyCopy,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyTagged,
    CopyVerified,
    CopyWritten,
    PartUploaded,
    UploadCreated,
)
from cloud_mirror.entry import PROGRESS_S
from cloud_mirror.events import CopyNotFound, ProbeFailed, StoreFailed
from cloud_mirror.message import Job, to_body
from cloud_mirror.reason import Reason
from cloud_mirror.wire.asking import Answered, Failed, ask
from cloud_mirror.wire.attributes import attributes_of, tags_of
from cloud_mirror.wire.calls import GetMonotonicTime, GetSigningMaterial, Procedure, SigningMaterial
from cloud_mirror.wire.cargo import Cargo
from cloud_mirror.wire.procedures import cache, fetch, jobs, store, uploads
from cloud_mirror.wire.services import PoolServices
from cloud_mirror.wire.storage import FaultKind, ObjectAttributes

PART_ATTEMPTS: Final = 8
"""How often a part is sent: its bytes are here, and would have to be fetched once more."""

StoreAction: TypeAlias = (
    PutCopy | CopyObject | CreateUpload | UploadPart | CopyPart | CompleteUpload | AbortUpload | TagCopy | VerifyCopy
)


def perform(services: PoolServices, cargo: Cargo, action: CopyAction) -> Procedure[CopyEvent]:
    """The procedure that carries an action out and gives the event that answers it."""
    url = cargo.url
    match action:
        case ReadEntry():
            return (yield from cache.read_entry(services, url))
        case Acquire(slot, draft):
            cargo.acquiring_s = (yield GetMonotonicTime()).now_s
            return (yield from cache.acquire(services, url, draft, slot))
        case WriteEntry(draft, token, slot):
            return (yield from cache.write_entry(services, url, draft, token, slot))
        case DropEntry(slot, token):
            return (yield from cache.drop_entry(services, url, token, slot))
        case DropServed(epoch):
            return (yield from cache.drop_served(services, url, epoch))
        case ProbeCopy():
            return (yield from store.probe_copy(services, url))
        case ReadEpoch():
            return (yield from store.read_epoch(services, url))
        case DeleteCopy(epoch):
            return (yield from store.delete_copy(services, url, epoch))
        case OpenOrigin(begun_before):
            return (yield from fetch.open_object(services, cargo, begun_before))
        case CloseOrigin():
            return (yield from fetch.close(cargo))
        case FindUpload(epoch):
            return (yield from uploads.find_upload(services, cargo, epoch))
        case ReservePart(number, at_most_bytes):
            return (yield from fetch.reserve_part(cargo, number, at_most_bytes))
        case FetchPart():
            return (yield from fetch.fetch_part(services, cargo, action))
        case Acknowledge():
            cargo.acknowledged = True
            return (yield from jobs.acknowledge(services, cargo.receipt))
        case DeferJob(for_s):
            return (yield from jobs.defer(services, cargo.receipt, for_s))
        case ReturnJob(epoch, for_s):
            body = to_body(Job(services.pool.name, url, epoch))
            return (yield from jobs.give_back(services, cargo.receipt, body, for_s))
        case KeepLease():
            raise AssertionError("a lease is kept beside the copy, by a machine of its own")
        case _:
            return (yield from _write(services, cargo, action))


def _write(services: PoolServices, cargo: Cargo, action: StoreAction) -> Procedure[CopyEvent]:
    match action:
        case PutCopy(epoch, copy_id):
            return (yield from _put(services, cargo, epoch, copy_id))
        case CopyObject(epoch, copy_id):
            return (yield from _copy_object(services, cargo, epoch, copy_id))
        case CreateUpload():
            return (yield from _create(services, cargo, action))
        case UploadPart():
            return (yield from _upload(services, cargo, action))
        case CopyPart():
            return (yield from _copy_part(services, cargo, action))
        case CompleteUpload(epoch, upload_id):
            return (yield from _complete(services, cargo, epoch, upload_id))
        case AbortUpload(epoch, upload_id):
            provider = services.provider
            request = provider.abort_upload_request(keys.object_key(cargo.url, epoch), upload_id)
            if (yield from uploads.give_up(services, cargo, upload_id)):
                yield from ask(provider, request, provider.read_abort_upload, timeout_s=store.WRITE_TIMEOUT_S)
            return CleanedUp()
        case TagCopy(epoch, sha256):
            provider = services.provider
            request = provider.put_tags_request(keys.object_key(cargo.url, epoch), tags_of(sha256))
            yield from ask(provider, request, provider.read_put_tags, timeout_s=store.WRITE_TIMEOUT_S)
            return CopyTagged()
        case _:
            return (yield from _verify(services, cargo, action.epoch, action.copy_id))


def _attributes(cargo: Cargo, copy_id: str, sha256: str = "") -> Procedure[ObjectAttributes | StoreFailed]:
    """What is kept with the copy; the moment of storing is the one that the signature gets."""
    material = yield GetSigningMaterial()
    if not isinstance(material, SigningMaterial):
        return StoreFailed(Reason.STORE_DENIED, material.detail, settled=True)
    return attributes_of(cargo, copy_id, material.now, sha256)


def _put(services: PoolServices, cargo: Cargo, epoch: str, copy_id: str) -> Procedure[CopyWritten | StoreFailed]:
    """Write the object with its tag, or without where these credentials may write but not tag."""
    attributes = yield from _attributes(cargo, copy_id, cargo.sha256)
    if isinstance(attributes, StoreFailed):
        return attributes
    outcome = yield from _put_with(services, cargo, epoch, attributes)
    if isinstance(outcome, Failed) and outcome.kind is FaultKind.DENIED:
        outcome = yield from _put_with(services, cargo, epoch, replace(attributes, tags=()))
    cargo.stow_part(1, "")
    yield from fetch.give_back(cargo)
    return store.failure(outcome) if isinstance(outcome, Failed) else CopyWritten()


def _put_with(
    services: PoolServices, cargo: Cargo, epoch: str, attributes: ObjectAttributes
) -> Procedure[Answered[str] | Failed]:
    provider, part = services.provider, cargo.parts[1]
    request = provider.put_request(keys.object_key(cargo.url, epoch), part.data, attributes, part.crc64nvme)
    timeout_s = services.policy.worker.store_timeout_s
    return (yield from ask(provider, request, provider.read_put, timeout_s=timeout_s))


def _copy_object(
    services: PoolServices, cargo: Cargo, epoch: str, copy_id: str
) -> Procedure[CopyWritten | StoreFailed]:
    attributes = yield from _attributes(cargo, copy_id)
    if isinstance(attributes, StoreFailed):
        return attributes
    provider = services.provider
    request = provider.copy_object_request(keys.object_key(cargo.url, epoch), cargo.bucket_object, attributes)
    timeout_s = services.policy.worker.store_timeout_s
    outcome = yield from ask(provider, request, provider.read_copy_object, timeout_s=timeout_s)
    cargo.assume_whole()
    return store.failure(outcome) if isinstance(outcome, Failed) else CopyWritten()


def _create(services: PoolServices, cargo: Cargo, action: CreateUpload) -> Procedure[UploadCreated | StoreFailed]:
    attributes = yield from _attributes(cargo, action.copy_id)
    if isinstance(attributes, StoreFailed):
        return attributes
    provider = services.provider
    request = provider.create_upload_request(keys.object_key(cargo.url, action.epoch), attributes)
    outcome = yield from ask(provider, request, provider.read_create_upload, timeout_s=store.WRITE_TIMEOUT_S)
    if isinstance(outcome, Failed):
        return store.failure(outcome)
    if action.part_bytes:
        note = uploads.Note(action.epoch, outcome.value, action.copy_id, action.part_bytes)
        yield from uploads.leave_note(services, cargo, note)
    return UploadCreated(outcome.value)


def _upload(services: PoolServices, cargo: Cargo, action: UploadPart) -> Procedure[PartUploaded | StoreFailed]:
    """Send a part, then say in the entry how far the copy is."""
    number = action.number
    yield from uploads.note_part(services, cargo, number)
    outcome = yield from _send_part(services, cargo, action)
    if isinstance(outcome, Failed):
        cargo.forget_part(number)
        return store.failure(outcome, number)
    cargo.stow_part(number, outcome.value)
    yield from fetch.give_back(cargo)
    yield from _tell_progress(services, cargo)
    return PartUploaded(number)


def _send_part(services: PoolServices, cargo: Cargo, action: UploadPart) -> Procedure[Answered[str] | Failed]:
    """The part's ETag. Who asks for it holds no reference to the part's bytes once it is sent."""
    provider, part = services.provider, cargo.parts[action.number]
    key = keys.object_key(cargo.url, action.epoch)
    request = provider.upload_part_request(key, action.upload_id, action.number, part.data, part.crc64nvme)
    timeout_s = services.policy.worker.store_timeout_s
    return (yield from ask(provider, request, provider.read_upload_part, timeout_s=timeout_s, attempts=PART_ATTEMPTS))


def _copy_part(services: PoolServices, cargo: Cargo, action: CopyPart) -> Procedure[PartUploaded | StoreFailed]:
    provider, number, size = services.provider, action.number, action.last_byte - action.first_byte + 1
    key, span = keys.object_key(cargo.url, action.epoch), (action.first_byte, action.last_byte)
    request = provider.copy_part_request(key, action.upload_id, number, cargo.bucket_object, *span)
    timeout_s = services.policy.worker.store_timeout_s
    outcome = yield from ask(provider, request, partial(provider.read_copy_part, number, size), timeout_s=timeout_s)
    if isinstance(outcome, Failed):
        return store.failure(outcome, number)
    cargo.note_copied(outcome.value)
    yield from _tell_progress(services, cargo)
    return PartUploaded(number)


def _tell_progress(services: PoolServices, cargo: Cargo) -> Procedure[None]:
    """Say in the entry how far the copy is, at most once in `PROGRESS_S`. It renews the lease as well."""
    now_s, lease = (yield GetMonotonicTime()).now_s, cargo.lease
    if lease is not None and now_s - cargo.told_s >= PROGRESS_S:
        cargo.told_s = now_s
        yield from cache.renew(services, cargo.url, lease.token, lease.slot, lease.life_s, cargo.progress())


def _complete(services: PoolServices, cargo: Cargo, epoch: str, upload_id: str) -> Procedure[CopyWritten | StoreFailed]:
    """Make the object. An upload that is not there may have been completed by a try whose reply was lost."""
    provider, receipts = services.provider, tuple(cargo.receipts.values())
    key = keys.object_key(cargo.url, epoch)
    request = provider.complete_upload_request(key, upload_id, receipts, cargo.total_bytes, cargo.crc64nvme)
    timeout_s = services.policy.worker.store_timeout_s
    outcome = yield from ask(provider, request, provider.read_complete_upload, timeout_s=timeout_s)
    if isinstance(outcome, Failed):
        failed = store.failure(outcome)
        return replace(failed, settled=failed.settled and outcome.kind is not FaultKind.NOT_FOUND)
    yield from uploads.drop_note(services, cargo)
    return CopyWritten()


def _verify(
    services: PoolServices, cargo: Cargo, epoch: str, copy_id: str
) -> Procedure[CopyVerified | CopyDiffers | CopyNotFound | ProbeFailed]:
    """Is what was written there, and is it what was written?"""
    stored = yield from store.head_copy(services, cargo.url, epoch)
    if isinstance(stored, ProbeFailed):
        return stored
    if stored is None:
        return CopyNotFound(epoch)
    if stored.meta(store.META_COPY_ID) != copy_id:
        return CopyDiffers(own=False)
    if stored.size != cargo.total_bytes:
        return CopyDiffers(own=True, detail=f"the store has {stored.size} bytes of {cargo.total_bytes}")
    crc = cargo.crc64nvme
    if stored.crc64nvme and crc and stored.crc64nvme != crc:
        return CopyDiffers(own=True, detail="the store's checksum of the object is another")
    return CopyVerified(store.found_copy(stored))
