"""The copy machine's actions as procedures. What they share of one copy, its bytes above all, is its `Cargo`."""

from __future__ import annotations

from cloud_mirror import keys
from cloud_mirror.actions import (
    AbortUpload,
    Acknowledge,
    Acquire,
    CloseOrigin,
    CompleteUpload,
    CopyAction,
    CreateUpload,
    DeferJob,
    DeleteCopy,
    DropEntry,
    DropServed,
    FetchPart,
    OpenOrigin,
    ProbeCopy,
    PutCopy,
    ReadEntry,
    ReadEpoch,
    ReturnJob,
    UploadPart,
    VerifyCopy,
    WriteEntry,
)
from cloud_mirror.events import (
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyNotFound,
    CopyVerified,
    CopyWritten,
    FetchFailed,
    OriginClosed,
    OriginDeclined,
    OriginOpened,
    PartFetched,
    PartUploaded,
    ProbeFailed,
    StoreFailed,
    UploadCreated,
)
from cloud_mirror.message import Job, to_body
from cloud_mirror.reason import Reason
from cloud_mirror.wire.asking import Answered, Failed, ask
from cloud_mirror.wire.calls import (
    CloseBody,
    FailureKind,
    GetMonotonicTime,
    GetSigningMaterial,
    Procedure,
    SigningMaterial,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Cargo, attributes_of
from cloud_mirror.wire.checksums import combine_parts
from cloud_mirror.wire.procedures import cache, host, jobs, origin, store
from cloud_mirror.wire.services import PoolServices
from cloud_mirror.wire.storage import ObjectAttributes, PartReceipt


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
        case OpenOrigin():
            return (yield from _open(services, cargo))
        case CloseOrigin():
            return (yield from _close(cargo))
        case FetchPart(number, at_most_bytes):
            return (yield from _fetch(services, cargo, number, at_most_bytes))
        case PutCopy() | CreateUpload() | UploadPart() | CompleteUpload() | AbortUpload() | VerifyCopy():
            return (yield from _write(services, cargo, action))
        case Acknowledge():
            cargo.acknowledged = True
            return (yield from jobs.acknowledge(services, cargo.receipt))
        case DeferJob(for_s):
            return (yield from jobs.defer(services, cargo.receipt, for_s))
        case ReturnJob(epoch, for_s):
            body = to_body(Job(services.pool.name, url, epoch))
            return (yield from jobs.give_back(services, cargo.receipt, body, for_s))
        case _:
            raise AssertionError("a lease is kept beside the copy, by a machine of its own")


def _open(services: PoolServices, cargo: Cargo) -> Procedure[OriginOpened | OriginDeclined]:
    outcome = yield from origin.open_origin(services, cargo.url)
    if isinstance(outcome, OriginDeclined):
        return outcome
    cargo.load(outcome.body, outcome.headers, outcome.opened)
    return outcome.opened


def _close(cargo: Cargo) -> Procedure[OriginClosed]:
    if cargo.body is not None:
        yield CloseBody(cargo.body)
    return OriginClosed()


def _fetch(
    services: PoolServices, cargo: Cargo, number: int, at_most_bytes: int
) -> Procedure[PartFetched | FetchFailed]:
    """Read one part into memory. The body's last part is judged: length, and every digest that the origin gave."""
    part = cargo.begin_part(number, at_most_bytes)
    ended = False
    if not part.full:
        source = services.policy.source
        reply = yield from host.read_paced(source, cargo.open_body, part, source.read_timeout_s)
        if isinstance(reply, TransportFailure):
            cargo.forget_part(number)
            reason = Reason.ORIGIN_TIMEOUT if reply.kind is FailureKind.TIMEOUT else Reason.ORIGIN_BROKE_OFF
            return FetchFailed(reason, f"{reply.kind.value} after {cargo.total_bytes} bytes: {reply.detail}")
        ended = reply.ended
    cargo.end_part(part)
    ended = ended or cargo.whole
    fault = cargo.fault() if ended else None
    sha256 = cargo.sha256 if ended else ""
    return PartFetched(number, part.size, cargo.total_bytes, ended, fault, sha256)


def _write(
    services: PoolServices,
    cargo: Cargo,
    action: PutCopy | CreateUpload | UploadPart | CompleteUpload | AbortUpload | VerifyCopy,
) -> Procedure[CopyEvent]:
    match action:
        case PutCopy(epoch, copy_id):
            return (yield from _put(services, cargo, epoch, copy_id))
        case CreateUpload(epoch, copy_id):
            return (yield from _create(services, cargo, epoch, copy_id))
        case UploadPart():
            return (yield from _upload(services, cargo, action))
        case CompleteUpload(epoch, upload_id):
            return (yield from _complete(services, cargo, epoch, upload_id))
        case AbortUpload(epoch, upload_id):
            provider = services.provider
            request = provider.abort_upload_request(keys.object_key(cargo.url, epoch), upload_id)
            yield from ask(provider, request, provider.read_abort_upload, timeout_s=store.WRITE_TIMEOUT_S)
            return CleanedUp()
        case _:
            return (yield from _verify(services, cargo, action.epoch, action.copy_id))


def _attributes(cargo: Cargo, copy_id: str) -> Procedure[ObjectAttributes | StoreFailed]:
    """What is kept with the copy; the moment of storing is the one that the signature gets."""
    material = yield GetSigningMaterial()
    if not isinstance(material, SigningMaterial):
        return StoreFailed(Reason.STORE_DENIED, material.detail, settled=True)
    return attributes_of(cargo, copy_id, material.now)


def _put(services: PoolServices, cargo: Cargo, epoch: str, copy_id: str) -> Procedure[CopyWritten | StoreFailed]:
    attributes = yield from _attributes(cargo, copy_id)
    if isinstance(attributes, StoreFailed):
        return attributes
    provider, part = services.provider, cargo.parts[1]
    request = provider.put_request(keys.object_key(cargo.url, epoch), part.data, attributes, part.crc64nvme)
    timeout_s = services.policy.worker.store_timeout_s
    outcome = yield from ask(provider, request, provider.read_put, timeout_s=timeout_s)
    cargo.stow_part(1, "")
    return store.failure(outcome) if isinstance(outcome, Failed) else CopyWritten()


def _create(services: PoolServices, cargo: Cargo, epoch: str, copy_id: str) -> Procedure[UploadCreated | StoreFailed]:
    attributes = yield from _attributes(cargo, copy_id)
    if isinstance(attributes, StoreFailed):
        return attributes
    provider = services.provider
    request = provider.create_upload_request(keys.object_key(cargo.url, epoch), attributes)
    outcome = yield from ask(provider, request, provider.read_create_upload, timeout_s=store.WRITE_TIMEOUT_S)
    return store.failure(outcome) if isinstance(outcome, Failed) else UploadCreated(outcome.value)


def _upload(services: PoolServices, cargo: Cargo, action: UploadPart) -> Procedure[PartUploaded | StoreFailed]:
    """Send a part, then say in the entry how far the copy is, which renews the lease as well."""
    number = action.number
    outcome = yield from _send_part(services, cargo, action)
    if isinstance(outcome, Failed):
        cargo.forget_part(number)
        return store.failure(outcome, number)
    cargo.stow_part(number, outcome.value)
    lease = cargo.lease
    if lease is not None:
        yield from cache.renew(services, cargo.url, lease.token, lease.slot, lease.life_s, cargo.progress())
    return PartUploaded(number)


def _send_part(services: PoolServices, cargo: Cargo, action: UploadPart) -> Procedure[Answered[str] | Failed]:
    """The part's ETag. Who asks for it holds no reference to the part's bytes once it is sent."""
    provider, part = services.provider, cargo.parts[action.number]
    key = keys.object_key(cargo.url, action.epoch)
    request = provider.upload_part_request(key, action.upload_id, action.number, part.data, part.crc64nvme)
    timeout_s = services.policy.worker.store_timeout_s
    return (yield from ask(provider, request, provider.read_upload_part, timeout_s=timeout_s))


def _complete(services: PoolServices, cargo: Cargo, epoch: str, upload_id: str) -> Procedure[CopyWritten | StoreFailed]:
    provider = services.provider
    receipts = tuple(
        PartReceipt(number, part.etag, part.size, part.crc64nvme) for number, part in sorted(cargo.parts.items())
    )
    key = keys.object_key(cargo.url, epoch)
    request = provider.complete_upload_request(key, upload_id, receipts, cargo.total_bytes, _whole_crc(cargo))
    timeout_s = services.policy.worker.store_timeout_s
    outcome = yield from ask(provider, request, provider.read_complete_upload, timeout_s=timeout_s)
    return store.failure(outcome) if isinstance(outcome, Failed) else CopyWritten()


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
    if stored.crc64nvme and stored.crc64nvme != _whole_crc(cargo):
        return CopyDiffers(own=True, detail="the store's checksum of the object is another")
    return CopyVerified(store.found_copy(stored))


def _whole_crc(cargo: Cargo) -> str:
    return combine_parts((part.crc64nvme, part.size) for _, part in sorted(cargo.parts.items()))
