"""The explorer's checks can fail: each is shown a situation that must not be."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import ToOrigin
from cloud_mirror.message import Job, to_body
from cloud_mirror.reason import Reason
from cloud_mirror.simulator.driver import CopyDriver, FlightDriver
from cloud_mirror.simulator.explorer.board import DEADLINE, Move, Step, World
from cloud_mirror.simulator.explorer.checks import ENTRY, Checks
from cloud_mirror.simulator.explorer.moves import Rules
from cloud_mirror.simulator.explorer.nodes import Back, Front
from cloud_mirror.simulator.explorer.size import START_S, URL, Size
from cloud_mirror.simulator.explorer.world import Late, Parts
from cloud_mirror.simulator.models import RedisModel
from cloud_mirror.simulator.models.redis import RedisImage, Value
from cloud_mirror.wire.calls import HttpRequest, RedisCommand
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


@pytest.mark.parametrize(
    ("reason", "epoch", "right"),
    [
        (None, "0", False),
        (Reason.ORIGIN_TIMEOUT, "0", False),
        (Reason.ORIGIN_GONE, "0", True),
        (None, "purged since", True),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_job_is_not_deleted_for_nothing(reason: Reason | None, epoch: str, right: bool, late: bool) -> None:
    """No fault excuses it, and no outcome that trying again may change."""
    rules = Rules(Parts(Size(faults=1), lambda _: None))
    services = rules.parts.services
    marked = next(world for world in way(rules) if fields_of(rules, world).get("holder") == "queued")
    driver = rules.parts.nodes.parts[marked[rules.backs[0]]].driver  # which was quicker than the mark
    assert isinstance(driver, CopyDriver)
    put = services.provider.put_request(keys.epoch_key(URL), epoch.encode(), ObjectAttributes())
    before = with_request(rules, marked, "store", put)
    if reason is not None:
        before = with_entry(rules, before, status="error", token="zqb0t1z", reason=reason.code)
    gone = with_request(rules, before, "queue", services.queue.delete_request(services.queue_url, driver.cargo.receipt))
    weather = rules.parts.weathers.parts[gone[rules.weather]]
    after = replaced(gone, rules.weather, rules.parts.weather(replace(weather, faults=0)))
    found = Checks(rules).step(before, after, Step(Move("b0", "Delete"), (), None, -1 if late else rules.backs[0]))
    assert names(found) == ([] if right else ["acknowledged-when-durable"])


ASKING = {"status": "pending", "holder": "asking", "token": "zqf0z-2"}
QUEUED = ASKING | {"holder": "queued"}
COPYING = {"status": "pending", "holder": "copying", "token": "zqb0t1z"}
TAKEN = COPYING | {"token": "zqb1t1z"}
GIVEN_UP = {"status": "error", "token": "zqb1d1z", "reason": Reason.COPY_FAILED.code}


@pytest.mark.parametrize(
    ("who", "before", "then", "right"),
    [
        ("f0", ASKING, QUEUED, True),
        ("f0", ASKING | {"token": "zqf0z-1"}, QUEUED, False),
        ("f0", COPYING, None, False),
        ("b0", COPYING, GIVEN_UP, True),
        ("b0", COPYING | {"token": "zqb0t2z"}, GIVEN_UP, False),
        ("b0", ASKING, TAKEN, True),
        ("b0", QUEUED, GIVEN_UP, False),
        ("b1", QUEUED, GIVEN_UP, True),
        ("b1", ASKING, GIVEN_UP, False),
        ("b1", COPYING, TAKEN, False),
        ("p0", COPYING, None, True),
        ("p0", COPYING, GIVEN_UP, False),
        ("p0", QUEUED, GIVEN_UP, False),
        ("redis", COPYING, None, True),
        ("clock", COPYING, None, True),
        ("b0", GIVEN_UP, TAKEN, True),
    ],
)
def test_a_pending_entry_is_its_holders(
    who: str, before: dict[str, str], then: dict[str, str] | None, right: bool
) -> None:
    """f0 has claimed twice, b0 has its first job, b1 attends to a dead letter."""
    rules = Rules(Parts(Size(backs=2, purges=1), lambda _: None))
    parts, world = rules.parts, rules.start()
    send = parts.services.queue.send_request(parts.services.queue_url, to_body(Job("s3_small", URL, "0")))
    sent = with_request(rules, world, "queue", send)
    _, job = parts.receive(sent[rules.place["queue"]], parts.services.queue_url, 0, START_S)
    takes = {"b0": Back.takes, "b1": Back.attends}
    for name, place in zip(takes, rules.backs, strict=True):
        world = replaced(world, place, parts.tell(world[place], takes[name], START_S, job).node)
    flight = parts.nodes.parts[world[FRONT]].fork()
    assert isinstance(flight.driver, FlightDriver)
    flight.driver.state = replace(flight.driver.state, claims=2)
    world = replaced(world, FRONT, parts.nodes.number(flight))
    places = {"f0": FRONT, "b0": rules.backs[0], "b1": rules.backs[1], "p0": rules.purgers[0]}
    step = Step(Move(who, "write", "", "redis"), (), None, places.get(who, -1))
    after = with_entry(rules, world, **then) if then is not None else world
    found = Checks(rules).step(with_entry(rules, world, **before), after, step)
    assert ("holder-alone" in names(found)) is not right


@pytest.mark.parametrize(
    ("who", "condition", "before", "then", "right"),
    [
        ("b0", "held zqb0t1z", COPYING, GIVEN_UP, True),
        ("b0", "held zqb0t2z", COPYING, GIVEN_UP, False),
        ("b1", "takeable ", QUEUED, TAKEN, True),
        ("b1", "takeable ", COPYING, TAKEN, False),
        ("b1", "idle ", QUEUED, GIVEN_UP, True),
        ("b1", "held zqb1t1z", QUEUED, GIVEN_UP, False),
    ],
)
def test_what_arrives_late_is_for_the_token_that_it_names(
    rules: Rules, who: str, condition: str, before: dict[str, str], then: dict[str, str], right: bool
) -> None:
    world = rules.start()
    late = Late(RedisCommand(("EVALSHA", "", "2", ENTRY, ENTRY, "write", *condition.split(" "), "", "0", "", "")), who)
    step = Step(Move(who, "write", "arrives late", "redis"), (), late=late)
    found = Checks(rules).step(with_entry(rules, world, **before), with_entry(rules, world, **then), step)
    assert ("holder-alone" in names(found)) is not right


def test_only_what_was_written_is_what_redis_may_take_back() -> None:
    rules = Rules(Parts(Size(faults=2, lies=True), lambda _: None))
    redis, before = rules.place["redis"], rules.place["before"]
    world, lost = next(
        (world, step)
        for world in way(rules)
        for step in rules.steps(world)[0]
        if step.move.fault == "loses the entry" and world[before] != world[redis]
    )
    forgot = rules.after(world, lost)
    assert (forgot[before], forgot[redis]) == (world[before], dict(lost.changes)[redis])


def with_entry(rules: Rules, world: World, **fields: str) -> World:
    """The same world, with an entry of these fields."""
    redis = RedisModel()
    named = {"v": "1", **fields}.items()
    value = Value(tuple(text.encode() for pair in named for text in pair), int(START_S) * 1000 + 1, sound=True)
    redis.restore(RedisImage(((ENTRY, value),)))
    return replaced(world, rules.place["redis"], rules.parts.models["redis"].number(redis))


def fields_of(rules: Rules, world: World) -> dict[str, str]:
    redis = rules.parts.models["redis"].parts[world[rules.place["redis"]]]
    fields: dict[str, str] = redis.fields(keys.entry_key("s3_small", URL))
    return fields
