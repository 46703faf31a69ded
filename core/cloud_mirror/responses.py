"""What a request is told where there is no copy for it: to go to the origin, or that there is nothing to be had."""

from __future__ import annotations

from cloud_mirror.actions import Refuse, Response, ToOrigin
from cloud_mirror.policy import OnDeadline
from cloud_mirror.reason import NEGATIVE, NOT_ALLOWED, NOT_ASKED, Reason


def refusal(reason: Reason, status: int | None, again_in_s: float | None) -> Refuse:
    """The answer to a URL that its origin, or the policy, says no to.

    An origin that failed, or that asks for fewer requests, is passed on with its own status, and may say something else
    in `again_in_s` (None: not known).
    """
    if reason in (Reason.ORIGIN_ERROR, Reason.ORIGIN_BUSY):
        return Refuse(reason, reason.status if status is None else status, again_in_s)
    return Refuse(reason, reason.status)


def without_copy(on_deadline: OnDeadline, reason: Reason, again_in_s: float | None = None) -> Response:
    """Send a client to the origin, or refuse it where the policy is to fail; what is not allowed is refused always.

    `again_in_s` is told where it is when the origin may be asked again.
    """
    if on_deadline is OnDeadline.FAIL or reason in NOT_ALLOWED:
        return Refuse(reason, reason.status, again_in_s if reason in NOT_ASKED else None)
    return ToOrigin(reason)


def declined(on_deadline: OnDeadline, reason: Reason, status: int | None, again_in_s: float | None) -> Response:
    """What follows for a client where there will be no copy for now."""
    if reason in NEGATIVE:
        return refusal(reason, status, again_in_s)
    return without_copy(on_deadline, reason, again_in_s)
