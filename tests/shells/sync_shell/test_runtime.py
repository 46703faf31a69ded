"""What the threads that carry out one copy's actions share is changed by one of them at a time."""

from cloud_mirror.policy import Policy
from cloud_mirror.wire.calls import GetMonotonicTime, Procedure
from cloud_mirror_sync.runtime import Runtime


class Turns:
    """Says when a turn is held."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def __enter__(self) -> None:
        self._said.append("begun")

    def __exit__(self, *_: object) -> None:
        self._said.append("over")


def test_a_turn_is_held_during_steps_and_not_during_calls() -> None:
    said: list[str] = []

    def procedure() -> Procedure[int]:
        said.append("step")
        yield GetMonotonicTime()
        said.append("step")
        return 7

    runtime = Runtime(Policy())
    try:
        assert runtime.perform(procedure(), turn=Turns(said)) == 7
    finally:
        runtime.close()
    assert said == ["begun", "step", "over"] * 2
