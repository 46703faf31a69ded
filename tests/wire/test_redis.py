"""The script that every entry goes through, on a real server and on the demo's: each operation under each condition."""

import contextlib
import logging
from collections.abc import Iterator, Sequence

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import Draft
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.reason import Reason
from cloud_mirror.wire import redis
from cloud_mirror.wire.calls import (
    Call,
    Done,
    FailureKind,
    RedisCommand,
    RedisRefusal,
    RedisReply,
    Reply,
    TransportFailure,
)
from cloud_mirror.wire.redis import Change, Found, Unavailable
from tests.wire.caches import Cache, fake_cache, valkey_cache
from tests.wire.driving import drive

URL = "https://a.example/b/c.bin"
KEY = keys.entry_key("s3_us-west-1", URL)
RENEWAL = keys.renewal_key("s3_us-west-1", URL)
CHANNEL = keys.channel("s3_us-west-1")
DRAFT = Draft(Entry(Status.PENDING, "new", URL, holder=Holder.ASKING), 30.0)

STATES: dict[str, Entry | None] = {
    "absent": None,
    "asking": Entry(Status.PENDING, "t", URL, holder=Holder.ASKING),
    "queued": Entry(Status.PENDING, "t", URL, holder=Holder.QUEUED, epoch="e"),
    "copying": Entry(Status.PENDING, "t", URL, holder=Holder.COPYING),
    "present": Entry(Status.PRESENT, "t", URL, epoch="e", size=3),
    "error": Entry(Status.ERROR, "t", URL, reason=Reason.ORIGIN_TIMEOUT),
}
ALL = frozenset(STATES)
PENDING = frozenset({"asking", "queued", "copying"})
HOLDS: list[tuple[str, str, str, frozenset[str]]] = [
    ("any", "", "", ALL),
    ("vacant", "", "", frozenset({"absent"})),
    ("same", "t", "present", frozenset({"absent", "present"})),
    ("same", "t", "error", frozenset({"absent", "error"})),
    ("same", "t", "pending", PENDING | {"absent"}),
    ("same", "another", "present", frozenset({"absent"})),
    ("held", "t", "", PENDING),
    ("held", "another", "", frozenset()),
    ("takeable", "", "", ALL - {"copying", "present"}),
    ("idle", "", "", frozenset({"absent", "queued", "error"})),
    ("renewable", "", "", ALL - {"copying"}),
    ("other-epoch", "e", "", frozenset()),
    ("other-epoch", "f", "", frozenset({"queued", "present"})),
    ("no such condition", "", "", frozenset()),
]


@pytest.fixture(params=["valkey", "fakeredis"])
def cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    with contextlib.ExitStack() as stack:
        if request.param == "valkey":
            yield stack.enter_context(valkey_cache(request.getfixturevalue("valkey")))
        else:
            yield stack.enter_context(fake_cache())


def put(cache: Cache, entry: Entry | None, key: str = KEY, life_s: float = 60.0) -> None:
    if entry is not None:
        draft = Draft(entry, life_s, expires_in_s=500.0 if entry.status is Status.PRESENT else None, retry_in_s=5.0)
        assert did(drive(redis.write(key, key, Change("any"), draft), cache.perform))


def did(found: Found | Unavailable) -> bool:
    assert isinstance(found, Found), found
    return found.done


def read(cache: Cache, key: str = KEY) -> Found:
    found = drive(redis.read(key), cache.perform)
    assert isinstance(found, Found)
    return found


@pytest.mark.parametrize(("condition", "token", "status", "states"), HOLDS)
def test_an_operation_is_done_only_where_its_condition_holds(
    cache: Cache, condition: str, token: str, status: str, states: frozenset[str]
) -> None:
    change = Change(condition, token, status, CHANNEL, KEY)
    with cache.listening(CHANNEL) as heard:
        for name, entry in STATES.items():
            for operation in ("write", "touch", "drop"):
                cache.client.delete(KEY)
                put(cache, entry)
                before = cache.fields(KEY)
                found = drive(
                    {
                        "write": lambda: redis.write(KEY, KEY, change, DRAFT),
                        "touch": lambda: redis.touch(KEY, change, 30.0, (("bytes_done", "7"),)),
                        "drop": lambda: redis.drop(KEY, change),
                    }[operation](),
                    cache.perform,
                )
                expected = name in states
                assert did(found) is expected, (name, operation)
                assert isinstance(found, Found)
                assert (found.entry is None) is (entry is None), "what is found is what was there before"
                assert heard() == ([KEY] if expected else []), (name, operation)
                after = cache.fields(KEY)
                match operation, expected:
                    case _, False:
                        assert after == before
                    case "write", True:
                        assert (after["token"], after["holder"]) == ("new", "asking")
                        assert "epoch" not in after
                        assert "size" not in after
                    case "touch", True:
                        assert after == before | {"bytes_done": "7"}
                    case "drop", True:
                        assert after == {}


def test_reading_changes_and_publishes_nothing(cache: Cache) -> None:
    for entry in STATES.values():
        cache.client.delete(KEY)
        put(cache, entry)
        before = cache.fields(KEY)
        with cache.listening(CHANNEL) as heard:
            found = read(cache)
            arguments = ("read", "any", "", "", "0", CHANNEL, KEY)
            assert did(drive(redis.run((KEY, KEY), arguments), cache.perform))
            assert heard() == []
        assert cache.fields(KEY) == before
        assert not found.garbage
        if entry is None:
            assert (found.entry, found.life_left_s) == (None, 0.0)
        else:
            assert found.entry is not None
            assert (found.entry.status, found.entry.token, found.entry.url) == (entry.status, "t", URL)
            assert 55.0 < found.life_left_s <= 60.0


def test_a_change_that_names_no_channel_is_not_published(cache: Cache) -> None:
    with cache.listening(CHANNEL) as heard:
        assert did(drive(redis.write(KEY, KEY, Change("vacant"), DRAFT), cache.perform))
        assert did(drive(redis.drop(KEY, Change("held", "new")), cache.perform))
        assert heard() == []


def test_times_are_by_the_servers_own_clock(cache: Cache) -> None:
    entry = Entry(Status.PRESENT, "t", URL, epoch="e", since_s=5.0)
    earliest = cache.now_s()
    assert did(drive(redis.write(KEY, KEY, Change("any"), Draft(entry, 90.0, 100.5, 7.25)), cache.perform))
    latest = cache.now_s()
    found = read(cache)
    assert found.entry is not None
    written_s = found.entry.since_s
    assert earliest - 1e-5 <= written_s <= latest + 1e-5, "since is the moment of writing, whatever the draft says"
    assert found.entry.verified_at_s == written_s
    assert found.entry.expires_at_s == pytest.approx(written_s + 100.5, abs=1e-4)
    assert found.entry.retry_at_s == pytest.approx(written_s + 7.25, abs=1e-4)
    assert latest - 1e-5 <= found.redis_time_s <= cache.now_s() + 1e-5
    assert 85.0 < found.life_left_s <= 90.0


def test_what_is_touched_keeps_its_beginning_and_lives_on(cache: Cache) -> None:
    put(cache, STATES["copying"], life_s=5.0)
    since = cache.fields(KEY)["since"]
    assert did(drive(redis.touch(KEY, Change("held", "t"), 60.0, (("bytes_done", "1"),)), cache.perform))
    assert cache.fields(KEY)["since"] == since
    assert 55_000 < cache.life_ms(KEY) <= 60_000
    draft = Draft(Entry(Status.PENDING, "t", URL, holder=Holder.QUEUED), 70.0)
    assert did(drive(redis.write(KEY, KEY, Change("held", "t"), draft, fresh=False), cache.perform))
    assert cache.fields(KEY)["since"] == since
    assert cache.fields(KEY)["bytes_done"] == "1"
    assert cache.fields(KEY)["holder"] == "queued"


def test_a_note_is_added_to_by_its_writer_alone(cache: Cache) -> None:
    assert did(drive(redis.note(KEY, "t", (("upload_id", "+7"), ("etag", '"é"')), 60.0), cache.perform))
    assert cache.fields(KEY) == {"v": "1", "status": "pending", "token": "t", "upload_id": "+7", "etag": '"é"'}
    assert 55_000 < cache.life_ms(KEY) <= 60_000
    assert did(drive(redis.touch(KEY, Change("held", "t"), 90.0, (("part-1", "5 x"),)), cache.perform))
    assert not did(drive(redis.touch(KEY, Change("held", "other"), 90.0, (("part-2", "5 x"),)), cache.perform))
    found = read(cache)
    words = [word.decode() for word in found.fields]
    assert dict(zip(words[::2], words[1::2], strict=True)) == cache.fields(KEY)
    assert (cache.fields(KEY)["part-1"], "part-2" in cache.fields(KEY)) == ("5 x", False)
    assert did(drive(redis.note(KEY, "other", (("upload_id", "8"),), 60.0), cache.perform))
    assert cache.fields(KEY) == {"v": "1", "status": "pending", "token": "other", "upload_id": "8"}
    assert not did(drive(redis.drop(KEY, Change("held", "t")), cache.perform))
    assert did(drive(redis.drop(KEY, Change("held", "other")), cache.perform))


@pytest.mark.parametrize("life_s", [0.0, -5.0, 0.0001])
def test_every_write_has_an_end(cache: Cache, life_s: float) -> None:
    put(cache, STATES["error"], life_s=life_s)
    assert cache.life_ms(KEY) != -1


def test_a_renewal_is_published_to_the_entry_and_ends(cache: Cache) -> None:
    put(cache, STATES["present"])
    put(cache, STATES["copying"], RENEWAL)
    renewed = Draft(Entry(Status.PRESENT, "t", URL, epoch="e2"), 90.0, 90.0)
    with cache.listening(CHANNEL) as heard:
        change = Change("held", "t", "", CHANNEL, KEY)
        assert did(drive(redis.write(RENEWAL, KEY, change, renewed), cache.perform))
        assert heard() == [KEY]
        assert cache.fields(RENEWAL) == {}
        assert cache.fields(KEY)["epoch"] == "e2"
        assert not did(drive(redis.write(RENEWAL, KEY, change, renewed), cache.perform))
        assert heard() == []


def test_a_renewal_is_not_published_over_what_another_copies(cache: Cache) -> None:
    change = Change("held", "t", "", CHANNEL, KEY)
    renewed = Draft(Entry(Status.PRESENT, "t", URL, epoch="e2"), 90.0, 90.0)
    with cache.listening(CHANNEL) as heard:
        for name, entry in STATES.items():
            cache.client.delete(KEY)
            put(cache, entry)
            put(cache, STATES["copying"], RENEWAL)
            before = cache.fields(KEY), cache.fields(RENEWAL)
            free = name != "copying"
            assert did(drive(redis.write(RENEWAL, KEY, change, renewed), cache.perform)) is free, name
            assert heard() == ([KEY] if free else [])
            if free:
                assert (cache.fields(KEY)["epoch"], cache.fields(RENEWAL)) == ("e2", {})
            else:
                assert (cache.fields(KEY), cache.fields(RENEWAL)) == before
        cache.client.delete(KEY)
        cache.client.set(KEY, "no hash")
        put(cache, STATES["copying"], RENEWAL)
        assert did(drive(redis.write(RENEWAL, KEY, change, renewed), cache.perform))


def test_a_holder_writes_as_often_as_it_likes_until_it_has_said_how_it_ended(cache: Cache) -> None:
    held = Change("held", "t")
    for last in ("present", "error"):
        cache.client.delete(KEY)
        put(cache, STATES["asking"])
        for name in ("queued", "copying", last):
            entry = STATES[name]
            assert entry is not None
            draft = Draft(entry, 60.0, 60.0 if last == "present" else None, 1.0)
            assert did(drive(redis.write(KEY, KEY, held, draft), cache.perform)), name
        assert not did(drive(redis.write(KEY, KEY, held, DRAFT), cache.perform)), last
        assert not did(drive(redis.touch(KEY, held, 1.0), cache.perform))
        assert not did(drive(redis.drop(KEY, held), cache.perform))


GARBAGE: list[tuple[str, Sequence[Sequence[str | bytes | float]]]] = [
    ("a string", [("SET", KEY, "x", "EX", 60)]),
    ("a list", [("RPUSH", KEY, "x"), ("EXPIRE", KEY, 60)]),
    ("no version", [("HSET", KEY, "status", "error", "token", "t"), ("EXPIRE", KEY, 60)]),
    ("another version", [("HSET", KEY, "v", "2", "status", "pending", "token", "t"), ("EXPIRE", KEY, 60)]),
    ("no end", [("HSET", KEY, "v", "1", "status", "pending", "token", "t", "holder", "copying")]),
    ("no status", [("HSET", KEY, "v", "1", "token", "t"), ("EXPIRE", KEY, 60)]),
    ("unknown status", [("HSET", KEY, "v", "1", "status", "gone", "token", "t"), ("EXPIRE", KEY, 60)]),
    ("no token", [("HSET", KEY, "v", "1", "status", "pending"), ("EXPIRE", KEY, 60)]),
    ("binary version", [("HSET", KEY, "v", b"\xff\x00", "status", "pending", "token", "t"), ("EXPIRE", KEY, 60)]),
]


@pytest.mark.parametrize(("commands"), [commands for _, commands in GARBAGE], ids=[name for name, _ in GARBAGE])
def test_garbage_is_removed_and_stands_in_nobodys_way(
    cache: Cache, commands: Sequence[Sequence[str | bytes | float]]
) -> None:
    for command in commands:
        cache.client.execute_command(*command)
    found = read(cache)
    assert (found.entry, found.life_left_s, found.garbage) == (None, 0.0, ())
    assert cache.life_ms(KEY) == -2
    for command in commands:
        cache.client.execute_command(*command)
    assert did(drive(redis.write(KEY, KEY, Change("vacant"), DRAFT), cache.perform))
    assert cache.fields(KEY)["token"] == "new"


@pytest.mark.parametrize(
    "fields",
    [
        ("token", b"\xff\xfe"),
        ("token", ""),
        ("holder", "nobody"),
        ("since", "+1"),
        ("expires_at", b"\xff"),
        ("epoch", "a/b"),
        ("size", "-1"),
        ("reason", "because"),
    ],
)
def test_what_only_looks_like_an_entry_is_called_garbage(cache: Cache, fields: tuple[str, str | bytes]) -> None:
    put(cache, STATES["queued"])
    cache.client.hset(KEY, *fields)
    found = read(cache)
    assert found.entry is None
    assert found.garbage
    assert found.life_left_s > 0


def test_garbage_is_dropped_only_as_it_was_found(cache: Cache) -> None:
    put(cache, STATES["queued"])
    cache.client.hset(KEY, "since", b"\xff")
    garbage = read(cache).garbage
    assert did(drive(redis.write(KEY, KEY, Change("any"), DRAFT), cache.perform))
    assert not did(drive(redis.drop_garbage(KEY, garbage), cache.perform))
    assert cache.fields(KEY)["token"] == "new"
    cache.client.hset(KEY, "since", b"\xff")
    assert did(drive(redis.drop_garbage(KEY, read(cache).garbage), cache.perform))
    assert cache.fields(KEY) == {}
    assert not did(drive(redis.drop_garbage(KEY, garbage), cache.perform))


def test_binary_in_a_text_field_does_no_harm(cache: Cache) -> None:
    put(cache, STATES["queued"])
    cache.client.hset(KEY, "detail", b"\xff\x00")
    cache.client.hset(KEY, b"\xfe", b"\xff")
    found = read(cache)
    assert found.entry is not None
    assert found.entry.detail == "\ufffd\x00"


@pytest.mark.parametrize("detail", ["+5", "+5 more", "+", "++", "half \udc80 of a pair", "\x00\r\n", "é" * 1_000])
def test_a_text_is_kept_whatever_it_begins_with(cache: Cache, detail: str) -> None:
    entry = Entry(Status.ERROR, "t", URL, reason=Reason.ORIGIN_TIMEOUT, detail=detail, etag=detail)
    assert did(drive(redis.write(KEY, KEY, Change("any"), Draft(entry, 60.0, retry_in_s=1.0)), cache.perform))
    found = read(cache)
    assert found.entry is not None
    expected = detail.replace("\udc80", "\\udc80")
    assert (found.entry.detail, found.entry.etag) == (expected, expected)


def test_the_script_is_sent_again_once_the_server_has_forgotten_it(cache: Cache) -> None:
    sent: list[str] = []

    def perform(call: Call) -> Reply:
        assert isinstance(call, RedisCommand)
        sent.append(str(call.words[0]))
        return cache.perform(call)

    assert did(drive(redis.read(KEY), perform))
    assert did(drive(redis.read(KEY), perform))
    cache.client.script_flush()
    assert did(drive(redis.write(KEY, KEY, Change("vacant"), DRAFT), perform))
    assert sent == ["EVALSHA", "EVAL", "EVALSHA", "EVALSHA", "EVAL"]
    assert cache.fields(KEY)["token"] == "new"


def test_all_keys_of_a_url_lie_in_one_slot_of_a_cluster() -> None:
    assert KEY.count("{") == KEY.count("}") == RENEWAL.count("{") == RENEWAL.count("}") == 1
    assert KEY[KEY.index("{") : KEY.index("}")] == RENEWAL[RENEWAL.index("{") : RENEWAL.index("}")]


def test_the_script_touches_no_key_but_those_it_is_given() -> None:
    code = "\n".join(line.partition("--")[0] for line in redis.SCRIPT.splitlines())
    assert "cloud-mirror" not in code
    assert "KEYS[3]" not in code


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"OK",
        7,
        [],
        [1],
        [1, b"1.5"],
        [1, b"1.5", b"7"],
        [b"1", b"1.5", 7],
        [1, 1.5, 7],
        [1, b"1.5", 7, b"odd"],
        [1, b"", 7],
        [1, b"soon", 7],
        [1, b"nan", 7],
        [1, b"inf", 7],
        [1, b"-1.5", 7],
        [1, b"\xff", 7],
    ],
)
def test_a_reply_that_makes_no_sense_is_a_cache_that_cannot_be_asked(value: object) -> None:
    assert drive(redis.read(KEY), lambda _: RedisReply(value)) == Unavailable("the script's reply makes no sense", True)


def test_a_reply_of_odd_words_holds_no_entry() -> None:
    found = drive(redis.read(KEY), lambda _: RedisReply([0, b"1.5", -2, 7, None, [b"x"], b"y"]))
    assert found == Found(False, 1.5, 0.0, None, (b"y",))


def test_refusals_and_failures_are_told_apart() -> None:
    assert drive(redis.read(KEY), lambda _: RedisRefusal("LOADING soon")) == Unavailable("LOADING soon", sent=False)
    broken = TransportFailure(FailureKind.BROKEN, "reset")
    assert drive(redis.read(KEY), lambda _: broken) == Unavailable("broken: reset", sent=True)
    noscript = RedisRefusal("NOSCRIPT No matching script.")
    assert drive(redis.read(KEY), lambda _: noscript) == Unavailable(noscript.message, sent=False)
    with pytest.raises(AssertionError):
        drive(redis.read(KEY), lambda _: Done())


def test_an_outage_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cloud_mirror.redis")
    outage = redis.Outage()
    gone, back = TransportFailure(FailureKind.TIMEOUT, "no reply"), RedisReply(None)
    for reply in (back, gone, gone, RedisRefusal("NOSCRIPT"), back, gone):
        outage.note(reply)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "the cache is gone: no reply"),
        (logging.INFO, "the cache is back"),
        (logging.ERROR, "the cache is gone: no reply"),
    ]


def test_the_script_can_be_sent_ahead(cache: Cache) -> None:
    sent: list[Call] = []

    def perform(call: Call) -> Reply:
        sent.append(call)
        return cache.perform(call)

    drive(redis.load(), perform)
    assert did(drive(redis.read(KEY), perform))
    assert len(sent) == 2
    drive(redis.load(), lambda _: TransportFailure(FailureKind.CONNECT))
