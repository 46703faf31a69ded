"""Which requests a process does not take on."""

import pytest

from cloud_mirror.actions import Refuse, Response, ToOrigin
from cloud_mirror.manager import CacheManager
from cloud_mirror.policy import OnDeadline, Policy, PoolPolicy, ServerPolicy
from cloud_mirror.reason import Reason


def manager(on_deadline: OnDeadline = OnDeadline.ORIGIN) -> CacheManager:
    policy = Policy(server=ServerPolicy(max_waiters=10, on_deadline=on_deadline))
    return CacheManager(policy, PoolPolicy("s3", "here", "bucket"), lambda key: key)


@pytest.mark.parametrize(
    ("held", "room", "answer"),
    [
        (9, None, None),
        (10, None, ToOrigin(Reason.TOO_MANY_WAITERS)),
        (3, 4, None),
        (4, 4, ToOrigin(Reason.TOO_MANY_WAITERS)),
        (10, 100, ToOrigin(Reason.TOO_MANY_WAITERS)),
    ],
)
def test_no_more_are_held_than_the_settings_and_the_shell_allow(
    held: int, room: int | None, answer: Response | None
) -> None:
    assert manager().turn_away(held, draining=False, room=room) == answer


def test_nobody_is_taken_on_by_a_process_that_stops() -> None:
    assert manager().turn_away(0, draining=True) == ToOrigin(Reason.DRAINING)


def test_where_the_origin_is_no_answer_they_are_refused() -> None:
    assert manager(OnDeadline.FAIL).turn_away(0, draining=True) == Refuse(Reason.DRAINING, 503)
