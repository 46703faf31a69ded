"""Which actions of the machines change something, be it in the cache, the store or the queue."""

from __future__ import annotations

from typing import Final

from cloud_mirror.actions import Claim, DropEverything, RequestRefresh, SendJob, Sweep, WriteEntry, WriteEpoch
from cloud_mirror.copy_actions import (
    AbortUpload,
    Acknowledge,
    Acquire,
    CompleteUpload,
    CopyObject,
    CopyPart,
    CreateUpload,
    DeferJob,
    DeleteCopy,
    DropEntry,
    DropServed,
    FindUpload,
    PutCopy,
    ReturnJob,
    TagCopy,
    UploadPart,
)

CHANGING: Final = (
    Claim,
    RequestRefresh,
    WriteEntry,
    SendJob,
    Acquire,
    FindUpload,
    PutCopy,
    CopyObject,
    CreateUpload,
    UploadPart,
    CopyPart,
    CompleteUpload,
    AbortUpload,
    TagCopy,
    DeleteCopy,
    DropEntry,
    DropServed,
    Acknowledge,
    DeferJob,
    ReturnJob,
    WriteEpoch,
    DropEverything,
    Sweep,
)
"""The actions that change something: a shell that can cancel what it does cancels none of these half-way."""
