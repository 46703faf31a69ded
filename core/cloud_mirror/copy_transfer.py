"""The copy machine's part that moves an object's bytes: the plan, and each step of it.

Ways, chosen once the origin has answered, the first that is open:
 1. *Store copying*: the store copies from the source's own bucket, whole or part by part; no byte comes through here.
 2. *Whole*: what is known, or found, to fit into one part is put at once.
 3. *Ranges*: parts are asked for by themselves, some at once, under the validator of the first answer.
 4. *Stream*: the parts come one after the other out of the one body.

Rules.
 1. Under a strong validator a part that broke off is gone on with at the byte where it broke off, and an upload that
    an earlier worker left is gone on with at the first part that it lacks. Without one, nothing is put together that
    did not come out of one body.
 2. Parts are asked for in their order, and none is more than `parts_at_once` ahead of the first that is not here: the
    digests of the whole take them in their order, and hold those that come early.
 3. Memory for a part is waited for before the part is asked for, and for one part at a time: so those that are held
    until their turn never take it from the part that they wait for.
 4. What makes a copy cheaper and turns out not to work is done without: the copy begins anew, once for each such way.
"""

from __future__ import annotations

from dataclasses import replace

from cloud_mirror.copy_actions import (
    CloseOrigin,
    CompleteUpload,
    CopyAction,
    CopyObject,
    CopyPart,
    CreateUpload,
    FetchPart,
    FindUpload,
    PutCopy,
    ReservePart,
    UploadPart,
)
from cloud_mirror.copy_ending import fail, move, stop_when_quiet
from cloud_mirror.copy_events import (
    FetchFailed,
    OriginOpened,
    PartFetched,
    PartUploaded,
    UploadCreated,
    UploadFound,
    UploadNotFound,
)
from cloud_mirror.copy_table import MAX_SETBACKS, Phase, Row, State, Transition
from cloud_mirror.events import OriginDeclined, StoreFailed
from cloud_mirror.reason import Reason


def on_origin(state: State, event: OriginOpened | OriginDeclined) -> Transition:
    """The origin's word on it."""
    rules = state.rules
    match event:
        case OriginDeclined(reason, status, detail, retry_after_s):
            declined = replace(state, status=status, retry_after_s=retry_after_s or 0.0)
            return fail(Row.DECLINED, declined, reason, detail)
        case OriginOpened(length) if length is not None and length > rules.max_object_bytes:
            return fail(Row.OPENED_TOO_LARGE, state, Reason.OBJECT_TOO_LARGE, f"{length} bytes")
        case OriginOpened(delimited=False) if not rules.allow_close_delimited:
            return fail(Row.OPENED_UNDELIMITED, state, Reason.LENGTH_UNKNOWN)
    state = state.opened(event)
    if state.stop is not None:
        return stop_when_quiet(Row.OPENED, state)
    return _begin(state)


def _begin(state: State) -> Transition:
    """Choose the way, and take its first step."""
    plan, length = state.rules.plan, state.length
    if length is None:
        return _go_on(Row.OPENED, replace(state, phase=Phase.TRANSFERRING))
    if state.store_can:
        state = replace(state, part_bytes=plan.size_of_copied(length))
        if length > state.part_bytes:
            create = CreateUpload(state.epoch, state.copy_id)
            return Transition(Row.OPENED, replace(state, phase=Phase.CREATING), (CloseOrigin(), create))
        state = replace(state, phase=Phase.STORE_COPYING, written=True)
        return Transition(Row.OPENED, state, (CloseOrigin(), CopyObject(state.epoch, state.copy_id)))
    state = replace(state, part_bytes=plan.size_of_part(1, length))
    if length <= state.part_bytes:
        return _go_on(Row.OPENED, replace(state, phase=Phase.TRANSFERRING))
    if state.lasting:
        return move(Row.OPENED, state, Phase.FINDING, FindUpload(state.epoch))
    if state.ranges:
        return move(Row.OPENED, state, Phase.CREATING, CreateUpload(state.epoch, state.copy_id))
    return _go_on(Row.OPENED, replace(state, phase=Phase.TRANSFERRING))


def on_found(state: State, event: UploadFound | UploadNotFound) -> Transition:
    """Whether an earlier worker has begun it."""
    match event:
        case UploadFound(upload_id, copy_id, part_bytes, parts, size):
            state = replace(
                state, upload_id=upload_id, copy_id=copy_id, part_bytes=part_bytes, fetched=parts, size=size
            )
            state = replace(state, phase=Phase.TRANSFERRING, ended=size == state.length)
            if state.stop is not None:
                return stop_when_quiet(Row.UPLOAD_FOUND, state)
            return _go_on(Row.UPLOAD_FOUND, state)
        case _:
            if state.stop is not None:
                return stop_when_quiet(Row.UPLOAD_NOT_FOUND, state)
            create = CreateUpload(state.epoch, state.copy_id, state.part_bytes)
            return move(Row.UPLOAD_NOT_FOUND, state, Phase.CREATING, create)


def on_created(state: State, event: UploadCreated | StoreFailed) -> Transition:
    """An upload is begun, or is not."""
    match event:
        case UploadCreated(upload_id):
            state = replace(state, upload_id=upload_id)
            if state.stop is not None:
                return stop_when_quiet(Row.UPLOAD_CREATED, state)
            first = 1 if 1 in state.fetched else None
            return _go_on(Row.UPLOAD_CREATED, replace(state, phase=Phase.TRANSFERRING), first)
        case _:
            return fail(Row.STORE_FAILED, state, event.reason, event.detail)


def on_reserved(state: State) -> Transition:
    """There is memory for the next part."""
    state, fetch = _fetch(replace(state, reserving=0), state.reserving)
    taken = _go_on(Row.RESERVED, state)
    return taken._replace(actions=(fetch, *taken.actions))


def on_transfer(state: State, event: PartFetched | FetchFailed | PartUploaded | StoreFailed) -> Transition:
    """Parts come from the origin and go to the store, a few at a time."""
    state = state.noted(event)
    match event:
        case FetchFailed():
            return _on_setback(state, event)
        case StoreFailed(settled=True) if state.store_can:
            return stop_when_quiet(Row.STORE_CANNOT, replace(state, store_fails=True))
        case StoreFailed(reason, detail):
            return fail(Row.STORE_FAILED, state, reason, detail)
        case PartFetched(fault=Reason() as fault):
            return fail(Row.FETCHED_FAULT, state, fault, f"{state.size} bytes")
        case PartFetched() if state.size > state.rules.max_object_bytes:
            return fail(Row.FETCHED_FAULT, state, Reason.OBJECT_TOO_LARGE, f"more than {state.size} bytes")
        case PartFetched(ended=True) if not state.upload_id:
            put = PutCopy(state.epoch, state.copy_id)
            return move(Row.FETCHED_WHOLE, replace(state, put=True, written=True), Phase.PUTTING, put)
        case PartFetched() if not state.upload_id:
            create = CreateUpload(state.epoch, state.copy_id)
            return move(Row.FETCHED_FIRST, state, Phase.CREATING, create)
        case PartFetched(number, size):
            return _go_on(Row.FETCHED_PART, state, number if size else None)
        case _:
            return _go_on(Row.PART_UPLOADED, state)


def _on_setback(state: State, event: FetchFailed) -> Transition:
    """A part did not come to its end: go on with it, begin anew, or leave it."""
    if event.apart:
        return stop_when_quiet(Row.FETCH_APART, replace(state, ranges_fail=True))
    if state.ranges and state.setbacks <= MAX_SETBACKS:
        state, again = _fetch(state, event.number, max(1, state.setbacks))
        return Transition(Row.FETCH_BROKE_OFF, state, (again,))
    return fail(Row.FETCH_FAILED, state, event.reason, event.detail)


def _go_on(row: Row, state: State, upload: int | None = None) -> Transition:
    """Send the part that came, ask for as many as there is room for, and complete after the last."""
    actions: tuple[CopyAction, ...] = ()
    if upload is not None:
        state = replace(state, uploading=state.uploading.adding(upload))
        actions = (UploadPart(state.epoch, state.upload_id, upload),)
    if state.ended and not state.uploading and not state.fetching:
        complete = CompleteUpload(state.epoch, state.upload_id)
        return move(row, replace(state, written=True), Phase.COMPLETING, complete)
    while (number := _next(state)) is not None:
        state, action = (_copy if state.store_can else _reserve)(state, number)
        actions = (*actions, action)
    return Transition(row, state, actions)


def _next(state: State) -> int | None:
    """The part to be asked for next, if there is one and room for it."""
    plan = state.rules.plan
    if state.ended or state.reserving or len(state.fetching) + len(state.uploading) >= plan.parts_at_once:
        return None
    if len(state.fetching) >= (plan.fetches_at_once if state.ranges else 1):
        return None
    number = (state.fetched | state.fetching).first_missing
    if number >= state.fetched.first_missing + plan.parts_at_once:
        return None
    return number if state.part_count is None or number <= state.part_count else None


def _reserve(state: State, number: int) -> tuple[State, CopyAction]:
    _, at_most_bytes = state.part_at(number)
    return replace(state, reserving=number), ReservePart(number, at_most_bytes)


def _fetch(state: State, number: int, setbacks: int = 0) -> tuple[State, CopyAction]:
    first_byte, at_most_bytes = state.part_at(number)
    fetch = FetchPart(number, at_most_bytes, first_byte, setbacks)
    return replace(state, fetching=state.fetching.adding(number)), fetch


def _copy(state: State, number: int) -> tuple[State, CopyAction]:
    """What the store copies is not fetched first."""
    first_byte, size = state.part_at(number)
    copied = replace(state, uploading=state.uploading.adding(number), fetched=state.fetched.adding(number))
    copied = replace(copied, ended=number == state.part_count)
    return copied, CopyPart(state.epoch, state.upload_id, number, first_byte, first_byte + size - 1)
