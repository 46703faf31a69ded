"""The model of Redis side by side with Valkey and fakeredis, through the procedures' own script."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cloud_mirror.entry import Entry, Status
from cloud_mirror.wire import redis
from cloud_mirror.wire.calls import RedisCommand
from cloud_mirror.wire.redis import Change, Found
from tests.servers import Valkey
from tests.simulator.redis_pair import ENTRIES, EPOCHS, TOKENS, Image, RedisPair, draft_of
from tests.wire.caches import Cache, fake_cache, valkey_cache
from tests.wire.driving import drive
from tests.wire.pools import KEY, RENEWAL, SERVICES

CHANNEL = SERVICES.manager.channel
BOTH = (KEY, RENEWAL)
KEYS = st.sampled_from(BOTH)
STATUSES = st.sampled_from(Status)
CONDITIONS = st.sampled_from(
    ["any", "vacant", "same", "held", "takeable", "idle", "renewable", "other-epoch", "served", "no such condition"]
)
CHANGES = st.builds(
    lambda condition, token, status, channel: Change(condition, token, status.value, channel, KEY),
    CONDITIONS,
    TOKENS | EPOCHS,
    STATUSES,
    st.sampled_from([CHANNEL, ""]),
)
GARBAGE = st.sampled_from(
    [
        ("v", b"2"),
        ("v", b"\xff"),
        ("status", b""),
        ("status", b"present"),
        ("holder", b"x"),
        ("size", b"-1"),
        ("x", b""),
    ]
)


class Machine(RuleBasedStateMachine):
    """Does the same to both; the pair compares each reply."""

    def __init__(self, cache: Cache) -> None:
        super().__init__()
        self.pair = RedisPair(cache, CHANNEL)
        self.image: Image | None = None

    def teardown(self) -> None:
        self.pair.close()

    @rule(key=KEYS, other=KEYS, change=CHANGES, entry=ENTRIES, fresh=st.booleans())
    def write(self, key: str, other: str, change: Change, entry: Entry, fresh: bool) -> None:
        drive(redis.write(key, other, change, draft_of(entry), fresh=fresh), self.pair.perform)

    @rule(key=KEYS, entry=ENTRIES, condition=CONDITIONS)
    def meet(self, key: str, entry: Entry, condition: str) -> None:
        """An entry stands, and somebody comes with a condition of its own."""
        drive(redis.write(key, key, Change("any"), draft_of(entry)), self.pair.perform)
        change = Change(condition, entry.token, entry.status.value, CHANNEL, KEY)
        drive(redis.drop(key, change), self.pair.perform)

    @rule(key=KEYS, change=CHANGES, fields=st.sampled_from([(), (("bytes_done", "1"),)]))
    def touch(self, key: str, change: Change, fields: tuple[tuple[str, str], ...]) -> None:
        drive(redis.touch(key, change, 900.0, fields), self.pair.perform)

    @rule(key=KEYS, change=CHANGES)
    def drop(self, key: str, change: Change) -> None:
        drive(redis.drop(key, change), self.pair.perform)

    @rule(key=KEYS, garbage=GARBAGE, late=st.booleans())
    def drop_garbage(self, key: str, garbage: tuple[str, bytes], late: bool) -> None:
        """What is there is garbled, and dropped as it was found, if it has not changed since."""
        self.pair.spoil(key, *garbage)
        found = drive(redis.read(key), self.pair.perform)
        assert isinstance(found, Found)
        if late:
            self.pair.spoil(key, "detail", b"another")
        drive(redis.drop_garbage(key, found.garbage), self.pair.perform)

    @rule(key=KEYS)
    def expire(self, key: str) -> None:
        drive(redis.touch(key, Change("any"), 0.001), self.pair.perform)
        self.pair.gone(key)

    @rule(key=KEYS, garbage=GARBAGE)
    def spoil(self, key: str, garbage: tuple[str, bytes]) -> None:
        self.pair.spoil(key, *garbage)

    @rule(key=KEYS, fault=st.sampled_from(["replace", "persist", "evict"]))
    def lose_one(self, key: str, fault: str) -> None:
        {"replace": self.pair.replace, "persist": self.pair.persist, "evict": self.pair.evict}[fault](key)

    @rule(fault=st.sampled_from(["flush", "forget", "image", "restore"]))
    def fail(self, fault: str) -> None:
        match fault:
            case "flush":
                self.pair.flush()
            case "forget":
                self.pair.forget_scripts()
            case "image":
                self.image = self.pair.image(*BOTH)
            case _ if self.image is not None:
                self.image.restore()

    @rule()
    def load(self) -> None:
        drive(redis.load(), self.pair.perform)

    @invariant()
    def both_read_the_same(self) -> None:
        for key in BOTH:
            drive(redis.read(key), self.pair.perform)


@pytest.fixture(params=["valkey", "fakeredis"])
def cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    if request.param == "fakeredis":
        with fake_cache() as made:
            yield made
    else:
        valkey: Valkey = request.getfixturevalue("valkey")
        with valkey_cache(valkey) as made:
            yield made


def test_the_model_does_as_the_server(cache: Cache, request: pytest.FixtureRequest) -> None:
    examples = 12 if "fakeredis" in request.node.name else 30  # that one is far slower

    class Bound(Machine):
        def __init__(self) -> None:
            super().__init__(cache)

    run_state_machine_as_test(Bound, settings=settings(max_examples=examples, stateful_step_count=25))


def test_the_server_answers_what_the_model_answers_beside_the_script(cache: Cache) -> None:
    pair = RedisPair(cache, CHANNEL)
    drive(redis.run((KEY, KEY), ("read", "any", "", "", "0", "", "")), pair.perform)
    for words in (("PING",), ("SCRIPT", "LOAD", redis.SCRIPT)):
        pair.perform(RedisCommand(words))
    pair.close()
