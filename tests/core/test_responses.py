"""What a request is told where there is no copy for it."""

import pytest

from cloud_mirror.actions import Refuse, Response, ToOrigin
from cloud_mirror.policy import OnDeadline
from cloud_mirror.reason import NOT_ASKED, Reason
from cloud_mirror.responses import declined, refusal, without_copy


@pytest.mark.parametrize(
    ("reason", "status", "answer"),
    [
        (Reason.ORIGIN_NOT_FOUND, 404, Refuse(Reason.ORIGIN_NOT_FOUND, 404)),
        (Reason.ORIGIN_GONE, 410, Refuse(Reason.ORIGIN_GONE, 410)),
        (Reason.ORIGIN_ERROR, 503, Refuse(Reason.ORIGIN_ERROR, 503, 7.0)),
        (Reason.ORIGIN_ERROR, None, Refuse(Reason.ORIGIN_ERROR, 502, 7.0)),
        (Reason.ORIGIN_BUSY, 429, Refuse(Reason.ORIGIN_BUSY, 429, 7.0)),
        (Reason.HOP_NOT_ALLOWED, 302, Refuse(Reason.HOP_NOT_ALLOWED, 403)),
    ],
)
def test_a_no_has_its_own_status(reason: Reason, status: int | None, answer: Refuse) -> None:
    assert refusal(reason, status, 7.0) == answer
    assert declined(OnDeadline.ORIGIN, reason, status, 7.0) == answer


@pytest.mark.parametrize(
    ("on_deadline", "reason", "answer"),
    [
        (OnDeadline.ORIGIN, Reason.ORIGIN_TLS, ToOrigin(Reason.ORIGIN_TLS)),
        (OnDeadline.FAIL, Reason.ORIGIN_TLS, Refuse(Reason.ORIGIN_TLS, 504)),
        (OnDeadline.ORIGIN, Reason.ADDRESS_NOT_ALLOWED, Refuse(Reason.ADDRESS_NOT_ALLOWED, 403)),
    ],
)
def test_nobody_is_sent_to_an_origin_that_is_not_allowed(
    on_deadline: OnDeadline, reason: Reason, answer: Response
) -> None:
    assert without_copy(on_deadline, reason) == answer
    assert without_copy(on_deadline, reason, 7.0) == answer
    assert declined(on_deadline, reason, None, 7.0) == answer


def test_when_an_origin_that_was_not_asked_may_be_asked_is_told() -> None:
    for reason in NOT_ASKED:
        assert without_copy(OnDeadline.FAIL, reason, 7.0) == Refuse(reason, 503, 7.0)
        assert declined(OnDeadline.FAIL, reason, None, 7.0) == Refuse(reason, 503, 7.0)
        assert without_copy(OnDeadline.ORIGIN, reason, 7.0) == ToOrigin(reason)
