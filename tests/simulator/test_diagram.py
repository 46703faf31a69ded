"""The way to a violation, in words and drawn: each kind of move once, as a person reads it."""

from cloud_mirror.actions import Refuse, ToCopy, ToOrigin
from cloud_mirror.http_api import Outcome
from cloud_mirror.reason import Reason
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.explorer import Explorer, Line, Size, diagram
from cloud_mirror.simulator.explorer.board import Move
from cloud_mirror.simulator.explorer.trace import narrate
from cloud_mirror.simulator.explorer.wording import answer_in_words, counted, in_words, people_say, reply_in_words
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    Done,
    FailureKind,
    HttpExchange,
    HttpReply,
    HttpRequest,
    RedisCommand,
    RedisRefusal,
    RedisReply,
    Route,
    TransportFailure,
)

TRACE = (
    Line(0.0, Move("f0", "read entry", "", "redis"), "nothing there"),
    Line(0.0, Move("f1", "asks for the object", "", "client")),
    Line(0.0, Move("f1", "read entry", "request lost", "redis"), "broken"),
    Line(0.0, Move("f0", "write entry pending asking if there is none", "reply lost", "redis"), "timeout"),
    Line(0.0, Move("f1", "GetObject the epoch", "late", "store"), "timeout"),
    Line(0.0, Move("f1", "PutObject", "arrives late", "store")),
    Line(0.0, Move("f1", "HeadObject", "slow", "store")),
    Line(0.0, Move("redis", "", "is flushed")),
    Line(0.0, Move("clock", "it is 12 s later")),
    Line(12.0, Move("f1", "HeadObject", "at last", "store"), "404 Not Found"),
    Line(12.0, Move("b0", "takes a job", "", "queue")),
    Line(12.0, Move("b0", "write entry", "notice lost", "redis"), "nothing there"),
    Line(12.0, Move("p0", "begins to purge, and the origin changes")),
    Line(12.0, Move("f0", "", "drains"), "", "302 to the origin (draining)"),
)

TEXT = """\
  0.0 s  f0 -> redis: read entry -> nothing there
  0.0 s  client of f1: asks for the object
  0.0 s  f1 -> redis: read entry [request lost] -> broken
  0.0 s  f0 -> redis: write entry pending asking if there is none [reply lost] -> timeout
  0.0 s  f1 -> store: GetObject the epoch [late] -> timeout
  0.0 s  f1 -> store: PutObject [arrives late]
  0.0 s  f1 -> store: HeadObject [slow]
  0.0 s  redis [is flushed]
  0.0 s  clock: it is 12 s later
 12.0 s  f1 -> store: HeadObject [at last] -> 404 Not Found
 12.0 s  b0 -> queue: takes a job
 12.0 s  b0 -> redis: write entry [notice lost] -> nothing there
 12.0 s  p0: begins to purge, and the origin changes
 12.0 s  f0 [drains]; the client is answered 302 to the origin (draining)"""

DRAWN = """\
sequenceDiagram
    actor client_f0 as client of f0
    actor client_f1 as client of f1
    participant f0 as front end f0
    participant f1 as front end f1
    participant b0 as back end b0
    participant p0 as purger p0
    participant redis as Redis
    participant store as store
    participant queue as queue
    client_f0->>f0: asks for the object
    f0->>redis: read entry
    redis-->>f0: nothing there
    client_f1->>f1: asks for the object
    f1-xredis: read entry (lost on its way)
    f0->>redis: write entry pending asking if there is none
    redis--xf0: the reply is lost
    f1-xstore: GetObject the epoch (given up, still on its way)
    f1->>store: PutObject (arrives late)
    Note over f1,store: HeadObject takes long
    Note over redis: redis is flushed
    Note over client_f0,queue: it is 12 s later
    f1->>store: HeadObject (the slow call, at last)
    store-->>f1: 404 Not Found
    b0->>queue: takes a job
    b0->>redis: write entry
    redis-->>b0: nothing there
    Note over redis: nobody hears of it
    Note over p0: p0 begins to purge, and the origin changes
    Note over f0: f0 drains
    f0-->>client_f0: 302 to the origin (draining)
    Note over client_f0,queue: made-up: one#59; two #35;3
"""


def test_lines() -> None:
    assert "\n".join(map(str, TRACE)) == TEXT


def test_the_diagram() -> None:
    assert diagram(Size(fronts=2, purges=1, faults=9), TRACE, ("made-up: one; two #3",)) == DRAWN


def test_calls_in_words() -> None:
    def script(key: str, *arguments: str) -> str:
        return in_words(RedisCommand(("EVALSHA", "sha", "2", key, key, *arguments)))

    fields = ("status", "error", "reason", "store-unavailable")
    assert script("k", "read", "any", "", "", "0", "", "") == "read entry"
    assert (
        script("k", "write", "held", "zqf0z-1", "", "9", "c", "k", *fields)
        == "write entry error store-unavailable if f0's claim 1 holds it"
    )
    assert script("k:renewal", "drop", "other-epoch", "zqp0z", "", "1", "", "") == (
        "drop renewal unless it is of p0's epoch"
    )
    assert script("k", "drop", "served", "0", "", "1", "", "") == "drop entry if it is present under epoch 0"
    assert in_words(RedisCommand(("SCRIPT", "LOAD", ""))) == "SCRIPT"
    assert in_words(HttpExchange(store_request("dead/1"), Route.SERVICE, 1.0)) == "PutObject a dead letter"
    assert (
        in_words(HttpExchange(store_request("a/b/zqp0z/c"), Route.SERVICE, 1.0)) == "PutObject the copy of p0's epoch"
    )
    assert in_words(Done()) == "Done"
    assert people_say("zqb0t2z zqb0c2z zqb1d3z zqp1z-2") == "b0's lease 2 b0's copy 2 b1's letter 3 p1's epoch 2"


def store_request(key: str) -> HttpRequest:
    return HttpRequest("PUT", "https", "store", 443, f"/{key}", (("operation", "PutObject"),))


def test_replies_and_answers_in_words() -> None:
    def found(done: int, **fields: str) -> str:
        pairs = (word.encode() for pair in fields.items() for word in pair)
        return reply_in_words(RedisReply((done, b"1.0", 5, *pairs)))

    assert found(1) == "nothing there"
    assert found(0, status="pending", holder="copying", token="zqb0t1z") == "no: pending copying, held by b0's lease 1"
    assert found(1, status="present", epoch="0") == "present under epoch 0"
    assert found(1, status="error", reason="store-unavailable") == "error store-unavailable"
    assert reply_in_words(RedisRefusal("NOSCRIPT No matching script")) == "NOSCRIPT"
    assert reply_in_words(HttpReply(404, ())) == "404 Not Found"
    assert reply_in_words(BodyOpened(1, 200, ())) == "200 OK"
    assert [reply_in_words(BodyRead(ended)) for ended in (True, False)] == ["the end", "as much as was wanted"]
    assert reply_in_words(TransportFailure(FailureKind.TIMEOUT)) == "timeout"
    assert reply_in_words(Done()) == ""
    copied = ToCopy("zqp0z", Outcome.COPIED, Reason.JUST_COPIED)
    assert answer_in_words(copied) == "302 to the copy of p0's epoch (copied)"
    assert answer_in_words(ToOrigin(Reason.DRAINING)) == "302 to the origin (draining)"
    assert answer_in_words(Refuse(Reason.DEADLINE, 504)) == "504 (deadline)"
    assert counted(1, "fault") == "1 fault"
    assert counted(2_000, "fault") == "2,000 faults"
    assert str(Size(lies=True, parts=2)) == "1 front end, 1 back end, copies in 2 parts, Redis lies"


def test_whatever_happens_can_be_told() -> None:
    explorer = Explorer(Size(fronts=2, backs=2, purges=1, faults=3, parts=2, lies=True))
    for seed in range(20):
        chance, world, way = Chance(seed), explorer.rules.start(), []
        while found := explorer.rules.steps(world)[0]:
            step = chance.pick(found)
            way.append((world, step))
            world = explorer.rules.after(world, step)
        trace = tuple(narrate(explorer.rules, way))
        drawn = diagram(explorer.parts.size, trace)
        assert "zq" not in drawn + "".join(map(str, trace))
