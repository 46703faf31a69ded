"""What a small world is made of: its processes, its models, and what one step does to each of them.

A situation is a tuple of numbers. Each part of the world (a process, a model) is kept once in a table, and what a step
does to it is worked out once and looked up from then on; so an exploration costs little more than it takes to look
numbers up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

from cloud_mirror.actions import Response
from cloud_mirror.simulator.driver import Watch
from cloud_mirror.simulator.explorer.nodes import Clock, Front, Node
from cloud_mirror.simulator.explorer.size import BODY, LONG_S, START_S, URL, Size, queue_of, small_services
from cloud_mirror.simulator.explorer.spelling import Speller, shape
from cloud_mirror.simulator.explorer.wording import in_words
from cloud_mirror.simulator.models import (
    Framing,
    OriginModel,
    RedisModel,
    Resource,
    StoreModel,
)
from cloud_mirror.wire.calls import (
    CloseBody,
    Done,
    HttpExchange,
    OpenBody,
    ReadBody,
    RedisCommand,
    RedisReply,
    Reply,
)
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.redis import SCRIPT

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Late:
    """A request that was given up by who sent it, and may still arrive. `author` is the process that sent it."""

    call: RedisCommand | HttpExchange
    author: str


@dataclass(frozen=True, slots=True)
class Weather:
    """What belongs to no part: the time, how many faults may still happen, and what is wrong just now.

    `purged` is the newest version of the origin whose purge has said that it is done; every purge has one of its own.
    `fetched` counts the bodies that were opened by GET, where no fault may happen.
    """

    now: float
    faults: int
    purged: int = 0
    outages: tuple[tuple[str, float], ...] = ()
    late: tuple[Late, ...] = ()
    fetched: int = 0
    lied: bool = False


class Table(Generic[T]):
    """Every situation of one part that was met, by number; `shapes` and `names` are its shape's.

    `text` spells all that tells situations apart, `more` gives what tells them apart and yet decides nothing, such as
    what the names that are still to be made will be made of.
    """

    def __init__(self, text: Callable[[T], str], more: Callable[[T], Hashable] = lambda _: None) -> None:
        self.parts: list[T] = []
        self.shapes: list[int] = []
        self.names: list[tuple[str, ...]] = []
        self._text = text
        self._more = more
        self._numbers: dict[Hashable, int] = {}
        self._shapes: dict[str, int] = {}

    def number(self, part: T) -> int:
        """The number of a situation; a part that is given here must not be changed any more."""
        text = self._text(part)
        key = text, self._more(part)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.parts)
            like = shape(text)
            self.parts.append(part)
            self.shapes.append(self._shapes.setdefault(like.text, len(self._shapes)))
            self.names.append(like.names)
        return number


class Effect(NamedTuple):
    """What a call did to a model, and what it was answered. `told`: whether the channel was told."""

    model: int
    reply: Reply
    told: bool


class Reaction(NamedTuple):
    """What a process made of a reply. `response`: what its client got; `open`: the bodies that it left open."""

    node: int
    response: Response | None
    open: frozenset[int]


Asked: TypeAlias = tuple[int, str, int]
"""A call that waits: its number, which model it is for, and its number in the table of calls."""


class Parts:
    """The tables of a world, and what steps do to single parts."""

    def __init__(self, size: Size, watch: Watch) -> None:
        self.size = size
        self.services = small_services(size)
        self.clock = Clock()
        self.watch = watch
        spell = Speller().spell
        self.nodes: Table[Node] = Table(
            lambda node: spell(node.situation()), lambda node: (node.name, node.counted, node.numbers)
        )
        self.models: dict[str, Table[Any]] = {
            "redis": Table(lambda model: spell(model.key())),
            "store": Table(lambda model: spell(model.key()), lambda model: model.made),
            "queue": Table(lambda model: spell(model.key()), lambda model: model.sent),
            "origin": Table(lambda model: spell(_origin_key(model)), lambda model: model.opened),
        }
        self.weathers: Table[Weather] = Table(spell)
        self.calls: Table[Any] = Table(spell, _identity)
        self._reactions: dict[tuple[int, int, int, float], Reaction] = {}
        self._replies: dict[Reply, Reply] = {}
        # what is worked out once, and looked up from then on, as long as there is this world
        self.asked = functools.cache(self._asked)
        self.effect = functools.cache(self._effect)
        self.tell = functools.cache(self._tell)
        self.moments = functools.cache(self._moments)
        self.receive = functools.cache(self._receive)
        self.queue_repeats = functools.cache(self._queue_repeats)
        self.redis_losses = functools.cache(self._redis_losses)
        self.expired = functools.cache(self._expired)
        self.changed_origin = functools.cache(self._changed_origin)
        self.weather = functools.cache(self.weathers.number)
        self.words = functools.cache(lambda call: in_words(self.calls.parts[call]))

    def begin(self) -> dict[str, int]:
        """The models as they are at first."""
        redis = RedisModel()
        redis.execute(("SCRIPT", "LOAD", SCRIPT), START_S)
        origin = OriginModel()
        one_stream = self.size.parts > 1 and not self.size.lasting
        origin.put(URL, Resource(BODY, framing=Framing.CHUNKED if one_stream else Framing.LENGTH))
        fresh: dict[str, Any] = {
            "redis": redis,
            "store": StoreModel(min_part_bytes=1),
            "queue": queue_of(self.services.policy),
            "origin": origin,
        }
        return {name: self.models[name].number(model) for name, model in fresh.items()}

    def _asked(self, node: int) -> tuple[Asked, ...]:
        """The calls of a process that can be carried out, but for those that only wait for time."""
        part = self.nodes.parts[node]
        calls = part.driver.calls if part.driver is not None else {}
        return tuple(
            (number, model, self.calls.number(call))
            for number, call in sorted(calls.items())
            if (model := model_of(call)) is not None
        )

    def _effect(self, model: str, number: int, call: int, now: float) -> Effect:
        """What a call does to a model. A body is read by `read`."""
        twin = self.models[model].parts[number].copy()
        reply, told = carry_out(twin, self.calls.parts[call], now)
        return Effect(self.models[model].number(twin), self._replies.setdefault(reply, reply), told)

    def visible(self, queue: int, url: str, now: float) -> int:
        """How many messages of a queue can be received now."""
        return sum(moment <= now for moment in self.moments(queue, url))

    def visible_later(self, queue: int, url: str, now: float) -> list[float]:
        """When messages that are hidden can be received."""
        return [moment for moment in self.moments(queue, url) if moment > now]

    def _moments(self, queue: int, url: str) -> tuple[float, ...]:
        """When a queue's messages can be received."""
        messages = self.models["queue"].parts[queue].messages(url)
        return tuple(message.visible_at_s for message in messages.values())

    def _receive(self, queue: int, url: str, pick: int, now: float) -> tuple[int, Delivery | None]:
        """Receive one message: that of the visible ones. None where that was one too often received."""
        twin = self.models["queue"].parts[queue].copy()
        speaks, visibility_s = self.services.queue, self.services.policy.queue.visibility_timeout_s
        request = speaks.receive_request(url, 1, 0, visibility_s)
        received = speaks.read_receive(twin.handle(request, now, lambda among: min(pick, among - 1)))
        return self.models["queue"].number(twin), received[0] if received else None

    def _queue_repeats(self, queue: int, now: float) -> list[tuple[str, int]]:
        """A job that is being worked on is delivered once more."""
        found = []
        model = self.models["queue"].parts[queue]
        for message_id, message in model.messages(self.services.queue_url).items():
            if message.in_flight and message.visible_at_s > now:
                twin = model.copy()
                twin.redeliver(message_id, now)
                found.append(("delivers a job once more", self.models["queue"].number(twin)))
        return found

    def _redis_losses(self, redis: int, now: float) -> list[tuple[str, int]]:
        """What Redis may lose of itself: the entry, or the note of an upload. Nothing here is renewed."""
        model = self.models["redis"].parts[redis]
        found = []
        for key in model.keys():  # noqa: SIM118  # a model is no mapping
            twin = model.copy()
            twin.evict(key)
            twin.expire(now)
            what = "note" if key.endswith(":upload") else "entry"
            found.append((f"loses the {what}", self.models["redis"].number(twin)))
        return found

    def expiries(self, redis: int, now: float) -> list[float]:
        """When Redis's keys run out, but for those that last for long."""
        values = self.models["redis"].parts[redis].image().values
        moments = [(value.expires_ms or 0) / 1000 + 0.001 for _, value in values]
        return [moment for moment in moments if now < moment <= now + LONG_S]

    def _expired(self, redis: int, now: float) -> int:
        """Redis with what has run out forgotten."""
        twin = self.models["redis"].parts[redis].copy()
        twin.expire(now)
        return self.models["redis"].number(twin)

    def _changed_origin(self, origin: int) -> int:
        """The origin has other bytes."""
        twin = self.models["origin"].parts[origin].copy()
        twin.change(URL)
        return self.models["origin"].number(twin)

    def react(self, node: int, number: int, reply: Reply, now: float) -> Reaction:
        """What a process makes of a reply to its call."""
        key = (node, number, id(reply), now)  # replies are kept, and equal ones are the same
        found = self._reactions.get(key)
        if found is None:
            found = self._reactions[key] = self._tell(node, Node.answer, now, number, reply)
        return found

    def _tell(self, node: int, act: Callable[..., None], now: float, *what: Any) -> Reaction:
        """What a process makes of what `act` tells it."""
        self.clock.now = now
        part = self.nodes.parts[node].fork()
        self.clock.listened = False
        act(part, *what)
        response = part.response if isinstance(part, Front) else None
        if isinstance(part, Front):
            part.response = None
        left, part.left_open = part.left_open, frozenset()
        return Reaction(self.nodes.number(part), response, left)

    def read(self, node: int, number: int, origin: int, now: float) -> tuple[Reaction, int]:
        """A process reads a body, until it has had enough or the body ends."""
        self.clock.now = now
        call = cast(ReadBody, self.nodes.parts[node].call(number))
        twin = self.models["origin"].parts[origin].copy()
        tray = Tray(cast(Any, call.collector).at_most_bytes)
        reply = twin.read(call.body, tray)
        part = self.nodes.parts[node].fork()
        fresh = cast(ReadBody, part.call(number))
        for piece in tray.pieces:
            fresh.collector.feed(piece)
        self.clock.listened = False
        part.answer(number, reply, tuple(tray.pieces))
        left, part.left_open = part.left_open, frozenset()
        return Reaction(self.nodes.number(part), None, left), self.models["origin"].number(twin)


def _origin_key(origin: OriginModel) -> Hashable:
    """What tells these origins from others, with the numbers of bodies as what they are: names."""
    resources, bodies, complete = cast(tuple[Any, Any, Any], origin.key())
    return resources, frozenset((CloseBody(body), stream) for body, stream in bodies), complete


def _identity(call: object) -> object:
    """What tells apart calls that read the same: a body is read into one collector and no other."""
    return id(call.collector) if isinstance(call, ReadBody) else None


class Tray:
    """Takes pieces as a part of so many bytes does, and remembers them."""

    def __init__(self, room: int) -> None:
        self._room = room
        self.pieces: list[bytes] = []

    def feed(self, piece: bytes | memoryview) -> bool:
        """Take a piece; True once nothing more fits."""
        self.pieces.append(bytes(piece))
        self._room -= len(piece)
        return self._room <= 0


def model_of(call: object) -> str | None:
    """Which model carries a call out; None: it waits for time."""
    match call:
        case RedisCommand():
            return "redis"
        case HttpExchange(request=request):
            return request.host.partition(".")[0]
        case OpenBody() | ReadBody() | CloseBody():
            return "origin"
    return None


def carry_out(model: Any, call: Any, now: float) -> tuple[Reply, bool]:
    """Let a model carry a call out: the reply, and whether the channel was told."""
    match call:
        case RedisCommand(words):
            executed = model.execute(words, now)
            reply = executed.reply
            if isinstance(reply, RedisReply) and isinstance(reply.value, list):
                reply = RedisReply(tuple(reply.value))  # a list cannot be looked up
            return reply, bool(executed.notices)
        case HttpExchange(request=request):
            return model.handle(request, now), False
        case OpenBody(request=request):
            return model.open(request, now), False
    model.close(call.body)
    return Done(), False


def changes_something(call: RedisCommand | HttpExchange) -> bool:
    """Whether a call, carried out late, can make a difference."""
    if isinstance(call, RedisCommand):
        return len(call.words) > 5 and call.words[5] != "read"
    return call.request.method not in ("GET", "HEAD")
