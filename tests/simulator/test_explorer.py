"""What the explorer counts as a situation and as a step, and that a world seen twice is the same world."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from cloud_mirror.message import Job, to_body
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.driver import ignore
from cloud_mirror.simulator.explorer import WORLDS, Explored, Explorer, Size
from cloud_mirror.simulator.explorer.board import Step, World
from cloud_mirror.simulator.explorer.nodes import Back
from cloud_mirror.simulator.explorer.size import START_S, URL
from cloud_mirror.simulator.explorer.spelling import Speller, shape
from cloud_mirror.simulator.explorer.world import Parts, carry_out
from cloud_mirror.simulator.models import RedisModel
from cloud_mirror.wire.calls import AwaitNotice, Done, RedisCommand, RedisReply

SIZES = (
    Size(fronts=2, backs=2, purges=1, faults=4),
    Size(fronts=2, backs=1, purges=2, faults=3, parts=2),
    Size(fronts=1, backs=2, purges=1, faults=3, parts=2, lies=True),
    Size(fronts=2, backs=1, purges=1, parts=3),
)


def explored(size: Size) -> Explored:
    return Explorer(size).explore()


def walk(explorer: Explorer, chance: Chance) -> Iterator[tuple[World, list[Step], Step, World]]:
    """A way through a world by chance, to its end: where, what may come, what comes, and where it leads."""
    world = explorer.rules.start()
    while found := explorer.rules.steps(world)[0]:
        step = chance.pick(found)
        after = explorer.rules.after(world, step)
        yield world, found, step, after
        world = after


def take(explorer: Explorer, *wanted: tuple[str, ...]) -> World:
    """The world after these steps: who does what, by the beginning of the words, and the fault, if one is wanted."""
    world = explorer.rules.start()
    for who, what, *fault in wanted:
        (step,) = (
            step
            for step in explorer.rules.steps(world)[0]
            if step.move.who == who and step.move.what.startswith(what) and [step.move.fault] == (fault or [""])
        )
        world = explorer.rules.after(world, step)
    return world


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("size", WORLDS, ids=str)
def test_a_world_of_the_short_list(size: Size) -> None:
    """Nothing is violated; and as everything is explored in a fixed order, the numbers are the same each time.

    It is explored in a process of its own, whose lines are not counted, as that takes twice as long.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = pool.submit(explored, size).result()
    assert (result.worlds, result.steps, result.deepest, result.quiet, result.violations) == (*COUNTS[size], ())


def test_each_world_of_the_short_list_has_its_numbers() -> None:
    assert set(COUNTS) == set(WORLDS)


COUNTS = {
    Size(fronts=2, faults=1): (124_133, 274_070, 70, 279),
    Size(fronts=2, purges=1): (186_561, 416_485, 58, 16),
    Size(faults=1, parts=2, lasting=True): (58_742, 139_482, 76, 168),
    Size(backs=2, purges=1): (43_335, 84_668, 59, 13),
    Size(purges=1, parts=2): (70_938, 160_721, 67, 8),
    Size(backs=2, faults=1): (13_080, 22_220, 63, 115),
    Size(faults=1, lies=True): (9_445, 16_244, 63, 156),
    Size(fronts=3): (5_188, 12_245, 32, 3),
}
"""Situations, steps, the deepest, at rest. To be looked at, and put right, where moves or machines change."""


def test_a_world_in_this_process() -> None:
    """One of the short list once more, where its lines are counted."""
    size = Size(faults=1, lies=True)
    result = explored(size)
    assert (result.worlds, result.steps, result.deepest, result.quiet, result.violations) == (*COUNTS[size], ())
    assert not explored(Size(parts=2)).violations
    assert not Explorer(Size(backs=2, faults=1)).explore(at_most=1000).violations


def test_an_exploration_can_be_cut_short_and_followed() -> None:
    told: list[tuple[int, int, int]] = []
    result = Explorer(Size(fronts=2)).explore(at_most=100, tell=lambda *numbers: told.append(numbers))
    assert 100 <= result.worlds < 200
    assert told[-1] == (result.deepest, result.worlds, result.steps)
    assert [depth for depth, _, _ in told] == list(range(1, result.deepest + 1))


def test_a_way_is_told_from_the_beginning_whatever_was_explored() -> None:
    explorer = Explorer(Size())
    before = list(explorer.replay((0,) * 10))
    assert explorer.explore().worlds > 10
    assert list(explorer.replay((0,) * 10)) == before


def test_a_back_end_that_attends_to_a_dead_letter_finishes_it_before_it_stops() -> None:
    parts = Parts(Size(), ignore)
    queue = parts.models["queue"].parts[parts.begin()["queue"]].copy()
    url = parts.services.queue_url
    queue.handle(parts.services.queue.send_request(url, to_body(Job("s3_small", URL, "0"))), START_S)
    _, letter = parts.receive(parts.models["queue"].number(queue), url, 0, START_S)
    back = parts.nodes.number(Back(parts.clock, parts.services, "b0", ignore))
    attending = parts.tell(back, Back.attends, START_S, letter).node
    assert parts.tell(attending, Back.drain, START_S).node == attending != back


def test_what_is_no_entry_is_answered_as_it_is() -> None:
    reply, told = carry_out(RedisModel(), RedisCommand(("PING",)), START_S)
    assert (reply, told) == (RedisReply(b"PONG"), False)


def test_worlds_that_differ_in_names_alone_are_one() -> None:
    explorer = Explorer(Size(fronts=2, purges=2))
    both = ("f1", "asks")
    one = take(explorer, both, ("f0", "read"), ("f0", "write"), ("f0", "GetObject"))
    other = take(explorer, both, ("f1", "read"), ("f1", "write"), ("f1", "GetObject"))
    assert one != other
    assert explorer.canonical(one) == explorer.canonical(other)
    purges = [take(explorer, (who, "begins to purge"), (who, "PutObject")) for who in ("p0", "p1")]
    assert purges[0] != purges[1]
    assert explorer.canonical(purges[0]) == explorer.canonical(purges[1])


def test_worlds_that_differ_in_what_is_whose_are_two() -> None:
    explorer = Explorer(Size(fronts=2))
    both = ("f1", "asks")
    start, read = take(explorer, both), take(explorer, both, ("f0", "read"))
    assert explorer.canonical(start) != explorer.canonical(read)
    mine = take(explorer, both, ("f0", "read"), ("f1", "read"), ("f0", "write"))
    its = take(explorer, both, ("f0", "read"), ("f1", "read"), ("f1", "write"))
    redis = explorer.rules.place["redis"]
    mixed = (*mine[:redis], its[redis], *mine[redis + 1 :])
    shapes = explorer.parts.models["redis"].shapes
    assert shapes[mine[redis]] == shapes[its[redis]]
    assert explorer.canonical(mine) == explorer.canonical(its) != explorer.canonical(mixed)


def test_worlds_that_differ_in_which_claim_stands_are_two() -> None:
    """The flight's own second claim stands in one, and in the other its first one, which it gave up."""
    explorer = Explorer(Size(faults=2))
    begun = (("f0", "read"), ("f0", "write", "late"), ("f0", "read"))
    paused = (("f0", "", "pauses"), ("clock", ""))
    second = take(explorer, *begun, ("f0", "write"), *paused, ("f0", "write", "arrives late"), ("f0", "wakes"))
    first = take(explorer, *begun, ("f0", "write", "arrives late"), *paused, ("f0", "wakes"), ("f0", "write"))
    assert explorer.canonical(first) != explorer.canonical(second)


def test_text_tells_values_apart() -> None:
    spell = Speller().spell
    assert spell((True, 1, None, b"a", {2: "b"}, {1, 2}, [0.5])) == "(True,1,None,b'a',{2:'b'},{1,2},(0.5))"
    assert spell(Done()) == "Done()"
    assert spell(AwaitNotice("k", 1, 2.0)) != spell(AwaitNotice("k", 2, 2.0))
    assert spell(object()) == "object"
    assert shape("zqf0z-1 zqb0t1z zqf0z-1 put-3").text == shape("zqf1z-2 zqb0t2z zqf1z-2 put-1").text
    assert shape("zqf0z-1 zqb0t1z zqf0z-1").text != shape("zqf0z-1 zqb0t1z zqb0t1z").text


def test_what_a_purge_tells_meets_who_may_hear_it() -> None:
    explorer = Explorer(Size(purges=1))
    world = take(explorer, ("p0", "begins to purge"), ("p0", "PutObject"))
    moves = {(step.move.who, step.move.what) for step in explorer.rules.steps(world)[0]}
    assert moves == {("p0", "drop renewal"), ("f0", "read entry")}


def test_what_is_late_meets_what_is_asked_of_the_queue_meanwhile() -> None:
    explorer = Explorer(Size(faults=1))
    asked = [
        ("f0", "read"),
        ("f0", "write"),
        ("f0", "GetObject"),
        ("f0", "HeadObject"),
        ("f0", "HEAD"),
        ("f0", "close"),
    ]
    again = take(explorer, *asked, ("f0", "Send", "late"))
    assert {step.move.fault for step in explorer.rules.steps(again)[0]} == {"", "arrives late"}
    taken = take(explorer, *asked, ("f0", "Send", "late"), ("f0", "Send"))
    whos = {(step.move.who, step.move.fault) for step in explorer.rules.steps(taken)[0]}
    assert whos == {("f0", ""), ("b0", ""), ("f0", "arrives late")}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_time_passes_only_where_nobody_can_go_on(size: Size) -> None:
    explorer = Explorer(size)
    rules = explorer.rules
    moved = 0
    for seed in range(12):
        for world, found, step, after in walk(explorer, Chance(seed)):
            now, then = (explorer.parts.weathers.parts[each[rules.weather]].now for each in (world, after))
            assert (then > now) == (step.move.who == "clock")
            if any(each.move.who == "clock" for each in found):
                moved += 1
                at_work = [each.move for each in found if each.reply is not None and each.move.fault != "at last"]
                assert at_work == []
    assert moved > 0
