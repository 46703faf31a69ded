"""Sweeping a pool's store: aborting the uploads of copies that nobody completed or aborted.

Their parts cost as much as any object's, and no listing of objects shows them. The lifecycle rule that `setup` makes
aborts them too, where a store carries it out; this asks for no more than a worker may do. What is no copy of the
mirror's is left alone, and how long an upload has been there the store's own clock says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from cloud_mirror.keys import is_copy_key
from cloud_mirror.policy import Policy
from cloud_mirror.wire.asking import Failed, ask
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.procedures.store import WRITE_TIMEOUT_S
from cloud_mirror.wire.setup import Outcome, Step, StepResult, failure
from cloud_mirror.wire.storage import StorageProvider, Upload

DAY_S: Final = 86_400.0


def sweep_plan(policy: Policy, providers: Mapping[str, StorageProvider], older_than_s: float) -> tuple[Step, ...]:
    """A step for each pool of the policy. `providers` has every one by name."""
    what = f"abort uploads that were begun more than {older_than_s / DAY_S:g} days ago"
    return tuple(
        Step(f"{pool.name}: {what}", partial(_sweep, providers[pool.name], older_than_s)) for pool in policy.pools
    )


def _sweep(provider: StorageProvider, older_than_s: float) -> Procedure[StepResult]:
    aborted, left, marker = 0, 0, ""
    while True:
        request = provider.list_uploads_request("", marker)
        listed = yield from ask(provider, request, provider.read_list_uploads, timeout_s=WRITE_TIMEOUT_S)
        if isinstance(listed, Failed):
            return _failed(listed, aborted)
        page = listed.value
        for upload in page.uploads:
            if not is_copy_key(upload.key):
                continue
            if not _is_stale(upload, page.now, older_than_s):
                left += 1
                continue
            abort = provider.abort_upload_request(upload.key, upload.upload_id)
            answer = yield from ask(provider, abort, provider.read_abort_upload, timeout_s=WRITE_TIMEOUT_S)
            if isinstance(answer, Failed):
                return _failed(answer, aborted)
            aborted += 1
        marker = page.next_marker
        if not marker:
            return StepResult(Outcome.DONE, _count(aborted) + (f", {left} left" if left else ""))


def _is_stale(upload: Upload, now: datetime | None, older_than_s: float) -> bool:
    """Whether the upload is that old; one whose age the store does not tell is not known to be."""
    if now is None or upload.initiated is None:
        return False
    return (now - upload.initiated).total_seconds() > older_than_s


def _failed(failed: Failed, aborted: int) -> StepResult:
    result = failure(failed, "the bucket")
    return replace(result, what=f"{result.what} ({_count(aborted)} before that)") if aborted else result


def _count(aborted: int) -> str:
    return f"{aborted} aborted"
