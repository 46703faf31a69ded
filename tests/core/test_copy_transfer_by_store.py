"""The copy machine: what the store copies by itself, and what follows where it cannot."""

from dataclasses import replace

import pytest

from cloud_mirror.actions import ProbeCopy
from cloud_mirror.copy import step
from cloud_mirror.copy_actions import (
    Acknowledge,
    CloseOrigin,
    CopyPart,
    FindUpload,
    OpenOrigin,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyVerified,
    CopyWritten,
    PartFetched,
    PartReserved,
    PartUploaded,
    UploadCreated,
    UploadNotFound,
)
from cloud_mirror.events import (
    CopyNotFound,
    DrainBegun,
    EntryWritten,
    StoreFailed,
)
from tests.core.copy_scripts import (
    ABORT,
    COMPLETE,
    COPYING_PARTS,
    CREATE,
    CREATE_LASTING,
    OPENING,
    OUTAGE,
    REFUSED,
    REQUEUE,
    STORE_COPYING,
    VERIFY,
    fetch,
    publish,
    record,
    reserve,
    upload,
)
from tests.core.copy_world import COPIED, COPY, LARGE, PART, SMALL, START, the_origin_gives
from tests.core.scripts import Script, play, to

STORE: dict[str, Script] = {
    "the store copies a small object whole": (
        *STORE_COPYING,
        to(CopyWritten(), VERIFY),
        to(CopyVerified(COPY), publish("")),
        to(EntryWritten(), Acknowledge()),
    ),
    "the store may have copied it": (
        *STORE_COPYING,
        to(StoreFailed(OUTAGE), VERIFY),
        to(CopyNotFound("e1"), record(OUTAGE, "what was written is not there")),
    ),
    "another's copy took the place of the store's, and went: one delivery of a job copies once": (
        *STORE_COPYING,
        to(CopyWritten(), VERIFY),
        to(CopyDiffers(own=False), ProbeCopy()),
        to(CopyNotFound("e1"), record(OUTAGE, "another copy took its place, and went")),
    ),
    "what the store cannot copy is fetched, and it is not asked again": (
        *STORE_COPYING,
        to(REFUSED, OpenOrigin()),
        to(the_origin_gives(SMALL, ranges=True, store_can=True), reserve(1, SMALL)),
    ),
    "the store copies a large object part by part": (
        *COPYING_PARTS,
        to(PartUploaded(2)),
        to(PartUploaded(1), COMPLETE),
        to(CopyWritten(), VERIFY),
        to(CopyVerified(COPY), publish("")),
        to(EntryWritten(), Acknowledge()),
    ),
    "the store copies as many parts at once as are sent at once": (
        *OPENING,
        to(the_origin_gives(2 * COPIED + 1, ranges=True, store_can=True), CloseOrigin(), CREATE),
        to(UploadCreated("u"), CopyPart("e1", "u", 1, 0, COPIED - 1), CopyPart("e1", "u", 2, COPIED, 2 * COPIED - 1)),
        to(PartUploaded(2), CopyPart("e1", "u", 3, 2 * COPIED, 2 * COPIED)),
        to(PartUploaded(3)),
        to(PartUploaded(1), COMPLETE),
    ),
    "an object that the store copies in one go just so": (
        *OPENING,
        to(the_origin_gives(COPIED, ranges=True, store_can=True), *STORE_COPYING[-1].actions),
    ),
    "what the store cannot copy part by part is fetched, and may be handed over then": (
        *COPYING_PARTS,
        to(replace(REFUSED, part=1)),
        to(PartUploaded(2), ABORT),
        to(CleanedUp(), OpenOrigin()),
        to(the_origin_gives(LARGE, ranges=True, store_can=True), FindUpload("e1")),
        to(UploadNotFound(), CREATE_LASTING),
        to(UploadCreated("u"), reserve(1)),
        to(PartReserved(1), fetch(1), reserve(2)),
        to(PartFetched(1, PART, PART, ended=False), upload(1)),
    ),
    "a store that fails while it copies leaves nothing": (
        *COPYING_PARTS,
        to(StoreFailed(OUTAGE, "503", part=1)),
        to(PartUploaded(2), ABORT),
        to(CleanedUp(), record(OUTAGE, "503")),
    ),
    "the drain awaits what the store copies whole": (
        *STORE_COPYING,
        to(DrainBegun()),
        to(CopyWritten(), VERIFY),
    ),
    "nothing is fetched instead once the drain has begun": (*STORE_COPYING, to(DrainBegun()), to(REFUSED, REQUEUE)),
    "the drain ends what the store copies by parts": (
        *COPYING_PARTS,
        to(DrainBegun()),
        to(PartUploaded(1)),
        to(PartUploaded(2), ABORT),
        to(CleanedUp(), REQUEUE),
    ),
}


@pytest.mark.parametrize("name", STORE)
def test_store(name: str) -> None:
    play(step, START, STORE[name])


def test_a_copy_begins_anew_as_if_for_the_first_time() -> None:
    """But for what was found out, and whose job it is."""
    opening = play(step, START, OPENING)
    by_store = (*COPYING_PARTS, to(replace(REFUSED, part=1)), to(PartUploaded(2), ABORT), to(CleanedUp(), OpenOrigin()))
    assert play(step, START, by_store) == replace(opening, ranges=True, store_can=True, store_fails=True)
