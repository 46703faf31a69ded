"""The explorer's checks can fail: each is shown a situation that must not be."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import ToOrigin
from cloud_mirror.reason import Reason
from cloud_mirror.simulator.driver import CopyDriver
from cloud_mirror.simulator.explorer.board import DEADLINE, Move, Step, World
from cloud_mirror.simulator.explorer.checks import Checks
from cloud_mirror.simulator.explorer.moves import Rules
from cloud_mirror.simulator.explorer.nodes import Front
from cloud_mirror.simulator.explorer.size import START_S, URL, Size
from cloud_mirror.simulator.explorer.world import Parts
from cloud_mirror.simulator.models import RedisModel
from cloud_mirror.simulator.models.redis import RedisImage, Value
from cloud_mirror.wire.calls import HttpRequest
from cloud_mirror.wire.storage import ObjectAttributes

FRONT = 0


@pytest.fixture
def rules() -> Rules:
    return Rules(Parts(Size(), lambda _: None))


def way(rules: Rules) -> Iterator[World]:
    """A world on its way to its end, always by the first step with which nothing goes wrong."""
    world = rules.start()
    while steps := rules.steps(world)[0]:
        yield world
        world = rules.after(world, next(step for step in steps if not step.move.fault))


def first(rules: Rules, asked: str) -> World:
    """The first world in which the front end asks for something that reads so."""
    return next(
        world
        for world in way(rules)
        if any(rules.parts.words(number).startswith(asked) for _, _, number in rules.parts.asked(world[FRONT]))
    )


def with_request(rules: Rules, world: World, model: str, request: HttpRequest) -> World:
    """The same world, once somebody has sent a request to a service."""
    twin = rules.parts.models[model].parts[world[rules.place[model]]].copy()
    assert twin.handle(request, START_S).status == 200
    return replaced(world, rules.place[model], rules.parts.models[model].number(twin))


def replaced(world: World, place: int, number: int) -> World:
    return (*world[:place], number, *world[place + 1 :])


def names(found: tuple[str, ...]) -> list[str]:
    return [wrong.partition(":")[0] for wrong in found]


def test_nobody_is_sent_away_where_nothing_goes_wrong(rules: Rules) -> None:
    world = rules.start()
    step = Step(Move("f0", "reads"), (), ToOrigin(Reason.DEADLINE), FRONT)
    assert names(Checks(rules).step(world, world, step)) == ["all-well"]
    other = Rules(Parts(replace(rules.size, backs=0), lambda _: None))
    assert names(Checks(other).step(other.start(), other.start(), step)) == []


@pytest.mark.parametrize(
    ("what", "then", "right"),
    [
        ("HeadObject the copy", "HEAD the object", False),
        ("GetObject the epoch", "HeadObject", False),
        ("HeadObject the copy", "HeadObject", True),
        ("PutObject 0", "HEAD the object", True),
    ],
)
def test_what_could_not_be_read_is_not_taken_for_absent(rules: Rules, what: str, then: str, right: bool) -> None:
    world = first(rules, then)
    step = Step(Move("f0", what, "denied"), (), None, FRONT)
    assert names(Checks(rules).step(world, world, step)) == ([] if right else ["unknown-is-not-absent"])


@pytest.mark.parametrize(
    ("tell", "move", "right"),
    [
        (Front.crash, Move("f0", DEADLINE), False),
        (Front.crash, Move("f0", "", "drains"), False),
        (Front.crash, Move("f0", "", "crashes"), True),
        (Front.deadline_passes, Move("f0", DEADLINE), True),
    ],
)
def test_a_claim_is_resolved(rules: Rules, tell: Callable[[Front], None], move: Move, right: bool) -> None:
    world = first(rules, "HeadObject")
    after = replaced(world, FRONT, rules.parts.tell(world[FRONT], tell, START_S).node)
    found = names(Checks(rules).step(world, after, Step(move, (), None, FRONT)))
    assert ("claim-resolved" in found) is not right


def test_what_is_no_entry_is_not_kept_alive(rules: Rules) -> None:
    world, redis = rules.start(), RedisModel()
    redis.restore(
        RedisImage(((keys.entry_key("s3_small", URL), Value((b"bytes_done", b"1"), int(START_S) * 1000 + 1)),))
    )
    after = replaced(world, rules.place["redis"], rules.parts.models["redis"].number(redis))
    assert names(Checks(rules).step(world, after, Step(Move("b0", "touch"), ()))) == ["lease-frees"]


def test_what_is_stored_is_one_body(rules: Rules) -> None:
    world, provider = rules.start(), rules.parts.services.provider
    kept = ObjectAttributes()
    letter = with_request(rules, world, "store", provider.put_request(keys.letter_key("0"), b"else", kept))
    spliced = with_request(rules, world, "store", provider.put_request(keys.object_key(URL, "0"), b"else", kept))
    step = Step(Move("b0", "PutObject 0"), ())
    assert names(Checks(rules).step(world, letter, step)) == []
    assert names(Checks(rules).step(world, spliced, step)) == ["one-whole-body"]


def test_one_job_is_sent_for_one_copy(rules: Rules) -> None:
    services, world = rules.parts.services, rules.start()
    send = services.queue.send_request(services.queue_url, "{}")
    step = Step(Move("f0", "Send"), ())
    once = with_request(rules, world, "queue", send)
    assert names(Checks(rules).step(world, once, step)) == []
    assert names(Checks(rules).step(world, with_request(rules, once, "queue", send), step)) == ["one-copy"]


def test_a_queued_entry_without_a_job_is_excused_by_no_fault() -> None:
    rules = Rules(Parts(Size(faults=1), lambda _: None))
    services = rules.parts.services
    marked = next(world for world in way(rules) if fields_of(rules, world).get("holder") == "queued")
    driver = rules.parts.nodes.parts[marked[rules.backs[0]]].driver  # which was quicker than the mark
    assert isinstance(driver, CopyDriver)
    delete = services.queue.delete_request(services.queue_url, driver.cargo.receipt)
    gone = with_request(rules, marked, "queue", delete)
    weather = rules.parts.weathers.parts[gone[rules.weather]]
    after = replaced(gone, rules.weather, rules.parts.weather(replace(weather, faults=0)))
    found = Checks(rules).step(marked, after, Step(Move("b0", "Delete"), (), None, rules.backs[0]))
    assert names(found) == ["acknowledged-when-durable"]


def fields_of(rules: Rules, world: World) -> dict[str, str]:
    redis = rules.parts.models["redis"].parts[world[rules.place["redis"]]]
    fields: dict[str, str] = redis.fields(keys.entry_key("s3_small", URL))
    return fields
