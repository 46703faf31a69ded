"""The model of Redis by itself: the clock to the millisecond, its faults, its twins."""

import pytest

from cloud_mirror.actions import Draft
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.simulator.models import RedisModel
from cloud_mirror.wire import redis
from cloud_mirror.wire.calls import Call, RedisCommand, RedisRefusal, Reply
from cloud_mirror.wire.redis import Change, Found
from tests.wire.driving import Performer, drive

NOW_S = 1_700_000_000.0
URL = "https://a.example/a"
PENDING = Entry(Status.PENDING, "t", URL, Holder.ASKING)


def at(model: RedisModel, now_s: float) -> Performer:
    def perform(call: Call) -> Reply:
        assert isinstance(call, RedisCommand)
        return model.execute(call.words, now_s).reply

    return perform


def read(model: RedisModel, now_s: float) -> Found:
    found = drive(redis.read("k"), at(model, now_s))
    assert isinstance(found, Found)
    return found


@pytest.fixture
def model() -> RedisModel:
    """A Redis with one pending entry, which lives for ten seconds."""
    made = RedisModel()
    drive(redis.write("k", "k", Change("any"), Draft(PENDING, 10.0)), at(made, NOW_S))
    return made


def test_a_life_ends_after_its_last_millisecond(model: RedisModel) -> None:
    assert read(model, NOW_S + 9.0).life_left_s == 1.0
    last = read(model, NOW_S + 10.0)
    assert (last.entry is not None, last.life_left_s) == (True, 0.0)
    assert model.keys() == ("k",)
    assert read(model, NOW_S + 10.001).entry is None
    assert model.keys() == ()


def test_what_nobody_asked_for_comes_back_with_a_clock_that_is_set_back(model: RedisModel) -> None:
    asked = model.copy()
    assert read(asked, NOW_S + 10.5).entry is None
    for each in (asked, model):
        each.set_clock(-1.0)
    assert read(asked, NOW_S + 10.5).entry is None
    found = read(model, NOW_S + 10.5)
    assert (found.entry is not None, found.redis_time_s, found.life_left_s) == (True, NOW_S + 9.5, 0.5)
    model.expire(NOW_S + 20.0)
    assert model.key() == asked.key()


def test_an_image_brings_back_what_was_there_and_loses_what_came_after(model: RedisModel) -> None:
    image = model.image()
    drive(redis.drop("k", Change("held", "t")), at(model, NOW_S))
    drive(redis.write("l", "l", Change("vacant"), Draft(PENDING, 10.0)), at(model, NOW_S))
    model.restore(image)
    assert model.keys() == ("k",)
    assert read(model, NOW_S + 1.0).life_left_s == 9.0


def test_a_script_that_is_not_there_is_sent_whole() -> None:
    model = RedisModel()
    words = ("EVALSHA", redis.SCRIPT_SHA1, "2", "k", "k", "read", "any", "", "", "0", "", "")
    assert str(model.execute(words, NOW_S).reply).count("NOSCRIPT") == 1
    assert read(model, NOW_S).done
    assert "NOSCRIPT" not in str(model.execute(words, NOW_S).reply)
    model.forget_scripts()
    drive(redis.load(), at(model, NOW_S))
    assert "NOSCRIPT" not in str(model.execute(words, NOW_S).reply)
    assert isinstance(model.execute(("GET", "k"), NOW_S).reply, RedisRefusal)
    assert isinstance(model.execute(("EVALSHA", "0" * 40, "0"), NOW_S).reply, RedisRefusal)


def test_a_notice_goes_out_with_what_was_done_and_with_nothing_else(model: RedisModel) -> None:
    def notices(operation: str, condition: str, channel: str) -> tuple[tuple[str, str], ...]:
        words = ("2", "k", "k", operation, condition, "t", "", "1000", channel, "k", "attempt", "1")
        return model.copy().execute(("EVALSHA", redis.SCRIPT_SHA1, *words), NOW_S).notices

    assert notices("touch", "held", "c") == (("c", "k"),)
    assert notices("touch", "held", "") == ()
    assert notices("read", "held", "c") == ()
    assert notices("write", "vacant", "c") == ()


def test_garbage_is_removed_or_told(model: RedisModel) -> None:
    told = model.copy()
    told.spoil("k", {"holder": b"nobody"})
    found = read(told, NOW_S)
    assert b"nobody" in found.garbage
    twin = told.copy()
    drive(redis.drop_garbage("k", found.garbage), at(twin, NOW_S))
    assert twin.keys() == ()
    told.spoil("k", {"detail": b"changed since"})
    drive(redis.drop_garbage("k", found.garbage), at(told, NOW_S))
    assert told.keys() == ("k",)
    removed = model.copy()
    removed.spoil("k", {"v": b"\xff"})
    assert removed.fields("k")["v"] == "\ufffd"
    replaced, kept = model.copy(), model.copy()
    replaced.replace("k")
    kept.persist("k")
    for each in (removed, replaced, kept):
        assert not read(each, NOW_S).garbage
        assert each.keys() == ()


def test_the_entry_is_shown_as_the_script_would_find_it(model: RedisModel) -> None:
    found = model.entry("k", NOW_S + 10.0)
    assert found is not None
    assert (found.status, found.token, found.holder) == (b"pending", b"t", b"asking")
    assert model.entry("k", NOW_S + 10.001) is None
    assert model.keys() == ("k",), "to look changes nothing"
    model.persist("k")
    assert model.entry("k", NOW_S) is None
    assert model.entry("l", NOW_S) is None


def test_faults_spare_what_is_not_there_or_is_no_hash(model: RedisModel) -> None:
    model.replace("k")
    model.spoil("k", {"v": b""})
    model.persist("k")
    assert model.fields("k") == {}
    for fault in (model.evict, model.persist):
        fault("l")
    model.spoil("l", {"v": b""})
    assert model.keys() == ("k",)
    found = drive(redis.write("l", "k", Change("any"), Draft(PENDING, 1.0), fresh=False), at(model, NOW_S))
    assert isinstance(found, Found)
    assert found.done
    assert model.fields("k")["holder"] == "asking"
    model.flush()
    assert model.keys() == ()


def test_a_twin_goes_its_own_way(model: RedisModel) -> None:
    twin = model.copy()
    assert twin.key() == model.key()
    drive(redis.drop("k", Change("any")), at(twin, NOW_S))
    assert twin.key() != model.key()
    assert read(model, NOW_S).entry is not None
    drive(redis.touch("k", Change("any"), 10.0), at(twin, NOW_S))
    assert twin.keys() == ()  # a touch without fields makes nothing
