"""The h11 servers' shared half: requests in, answers out, and when a connection ends."""

import itertools
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.http_api import Answer, Outcome, alive_answer, problem, purged_answer, redirect_answer
from cloud_mirror.policy import ServerPolicy, SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import BODY_BYTES, HEAD_BYTES, MALFORMED, head_bytes
from cloud_mirror.wire.http_server import (
    PIPELINED_BYTES,
    Close,
    EndOutput,
    Event,
    NeedData,
    RequestHead,
    RequestRefused,
    ServerConnection,
)
from cloud_mirror.wire.limits import FIRST_REQUEST_S, LINGER_S, SEND_S

POLICY = ServerPolicy(head_timeout_s=10.0, keep_alive_s=75.0)
WALL_S = 1_700_000_000.0
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
ALIVE = alive_answer()
GET = b"GET /v1/ping HTTP/1.1\r\nHost: mirror\r\n\r\n"
HEAD_OF_GET = RequestHead("GET", "/v1/ping", (("host", "mirror"),))


def connection(data: bytes = b"", now_s: float = 0.0) -> ServerConnection:
    made = ServerConnection(POLICY, now_s)
    if data:
        made.receive(data, now_s)
    return made


def due(of: ServerConnection) -> float | None:
    return of.deadline_s


def respond(to: ServerConnection, answer: Answer = ALIVE, now_s: float = 0.0, *, last: bool = False) -> bytes:
    return to.respond(answer, now_s, WALL_S, last)


def seen(to: ServerConnection, now_s: float = 0.0) -> list[Event | bytes]:
    """All events until more bytes are needed or the end; each request is answered with its own target."""
    events: list[Event | bytes] = []
    while True:
        event = to.next_event(now_s)
        events.append(event)
        match event:
            case RequestHead(target=target):
                events.append(respond(to, Answer(200, (("X-Target", target),), target.encode()), now_s))
            case RequestRefused(answer):
                events.append(respond(to, answer, now_s))
            case NeedData() | Close():
                return events
            case EndOutput():
                pass


def wire(status: str, answer: Answer, *more: str, body: bytes = b"", length: int | None = None) -> bytes:
    lines = [status, *(f"{name}: {value}" for name, value in answer.headers), "Server: cloud-mirror"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, f"Date: {DATE}", *more, "", ""]).encode() + body


REDIRECT = redirect_answer("https://store/key", Outcome.HIT, Reason.PRESENT)
NOT_FOUND = problem(Reason.ROUTE_UNKNOWN)


@pytest.mark.parametrize(
    ("answer", "status"),
    [(REDIRECT, "302 Found"), (NOT_FOUND, "404 Not Found"), (ALIVE, "200 OK"), (Answer(599, ()), "599 ")],
)
def test_an_answer_goes_out_with_its_length_server_and_date(answer: Answer, status: str) -> None:
    got = connection(GET)
    assert got.next_event(0.0) == HEAD_OF_GET
    assert respond(got, answer) == wire(f"HTTP/1.1 {status}", answer, body=answer.body, length=len(answer.body))
    assert parsedate_to_datetime(DATE).timestamp() == WALL_S


def test_the_answer_to_a_head_has_the_length_and_no_body() -> None:
    got = connection(GET.replace(b"GET", b"HEAD"))
    got.next_event(0.0)
    assert respond(got, REDIRECT) == wire("HTTP/1.1 302 Found", REDIRECT, length=len(REDIRECT.body))


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_no_content_has_neither_length_nor_body(method: bytes) -> None:
    got = connection(GET.replace(b"GET", method))
    got.next_event(0.0)
    assert respond(got, purged_answer()) == wire("HTTP/1.1 204 No Content", purged_answer())


@pytest.mark.parametrize(
    ("version", "connection_header", "status", "said", "stays"),
    [
        ("1.1", "", "HTTP/1.1 200 OK", (), True),
        ("1.1", "Connection: keep-alive\r\n", "HTTP/1.1 200 OK", (), True),
        ("1.1", "Connection: x, Close\r\n", "HTTP/1.1 200 OK", ("Connection: close",), False),
        ("1.0", "", "HTTP/1.0 200 OK", (), False),
        ("1.0", "Connection: Keep-Alive\r\n", "HTTP/1.0 200 OK", ("Connection: keep-alive",), True),
    ],
)
def test_who_keeps_the_connection(
    version: str, connection_header: str, status: str, said: tuple[str, ...], stays: bool
) -> None:
    got = connection(f"GET / HTTP/{version}\r\nHost: m\r\n{connection_header}\r\n".encode())
    assert isinstance(got.next_event(0.0), RequestHead)
    assert respond(got) == wire(status, ALIVE, *said, body=ALIVE.body, length=len(ALIVE.body))
    assert got.next_event(0.0) == (NeedData() if stays else EndOutput())


def test_the_last_answer_says_that_it_is_the_last() -> None:
    got = connection(GET + GET)
    got.next_event(0.0)
    assert b"\r\nConnection: close\r\n" in respond(got, last=True)
    assert got.next_event(1.0) == EndOutput()
    got.receive(GET, 1.5)
    assert got.next_event(1.5) == NeedData()  # what comes now is thrown away
    assert got.deadline_s == 1.0 + LINGER_S
    assert got.next_event(1.0 + LINGER_S) == Close()


def test_an_ending_connection_is_closed_as_soon_as_the_client_has_left() -> None:
    got = connection(GET)
    got.next_event(0.0)
    respond(got, last=True)
    assert got.next_event(0.0) == EndOutput()
    got.receive(b"", 0.1)
    assert got.next_event(0.1) == Close()
    got.receive(GET, 0.2)
    assert got.next_event(0.2) == Close()
    assert got.deadline_s is None


@pytest.mark.parametrize("asked", [False, True])
def test_a_client_that_ends_its_side_has_left(asked: bool) -> None:
    got = connection(GET)
    if asked:
        assert got.next_event(0.0) == HEAD_OF_GET
    got.receive(b"", 0.0)
    assert got.next_event(0.0) == Close()


def test_a_head_has_its_time_from_its_first_byte_however_it_trickles() -> None:
    got = connection()
    assert (got.next_event(74.9), got.deadline_s) == (NeedData(), 75.0)
    got.receive(b"\r\n", 70.0)  # an empty line is no beginning
    assert got.deadline_s == 75.0
    for moment, byte in enumerate(GET[:9]):
        got.receive(bytes([byte]), 70.0 + moment)
        assert got.next_event(70.0 + moment) == NeedData()
        assert got.deadline_s == 80.0
    assert got.next_event(80.0) == Close()


def test_a_head_that_is_whole_when_its_time_is_up_is_a_request() -> None:
    """A busy process reads late what came in time."""
    got = connection(GET[:20])
    assert (got.next_event(0.0), got.deadline_s) == (NeedData(), 10.0)
    got.receive(GET[20:], 15.0)
    assert (got.next_event(15.0), got.deadline_s) == (HEAD_OF_GET, None)


def test_a_request_that_is_being_answered_has_no_time_of_the_connections() -> None:
    got = connection(GET)
    got.next_event(0.0)
    assert due(got) is None
    assert got.next_event(1e6) == NeedData()
    respond(got, now_s=1e6)
    assert due(got) == 1e6 + SEND_S
    assert got.next_event(1e6 + 1) == NeedData()
    assert got.deadline_s == 1e6 + 76


def test_where_the_process_ends_a_new_connection_has_a_little_time_for_its_first_request() -> None:
    got = connection()
    got.finish()
    assert (got.next_event(0.9), got.deadline_s) == (NeedData(), FIRST_REQUEST_S)
    got.receive(GET, 0.9)
    assert got.next_event(1.0) == HEAD_OF_GET
    assert b"\r\nConnection: close\r\n" in respond(got)
    silent = connection()
    silent.finish()
    assert silent.next_event(FIRST_REQUEST_S) == Close()


def test_where_the_process_ends_a_connection_ends_that_has_had_its_answer() -> None:
    got = connection(GET)
    got.next_event(0.0)
    respond(got)
    got.finish()  # while the answer is sent, which promised that the connection goes on
    assert got.next_event(0.0) == Close()


def test_where_the_process_ends_a_head_that_has_begun_has_its_time() -> None:
    got = connection(GET[:9])
    got.finish()
    assert (got.next_event(9.9), got.deadline_s) == (NeedData(), 10.0)


def test_an_answer_that_is_not_taken_ends_the_connection() -> None:
    got = connection(GET)
    got.next_event(0.0)
    respond(got)
    assert got.next_event(SEND_S) == Close()


def request_of(size: int) -> bytes:
    head = b"GET / HTTP/1.1\r\nHost: m\r\nX: "
    return head + b"a" * (size - len(head) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("cut", [None, 1, HEAD_BYTES // 2, HEAD_BYTES - 1])
@pytest.mark.parametrize(("size", "taken"), [(HEAD_BYTES, True), (HEAD_BYTES + 1, False), (4 * HEAD_BYTES, False)])
def test_a_head_may_be_so_large_and_no_larger(size: int, taken: bool, cut: int | None) -> None:
    data = request_of(size)
    got = connection(data[:cut])
    if cut is not None:
        assert got.next_event(0.0) == NeedData()
        got.receive(data[cut:], 0.0)
    assert isinstance(got.next_event(0.0), RequestHead if taken else RequestRefused)


@pytest.mark.parametrize("max_url_bytes", [1, 2_048, 65_536])
def test_a_head_has_room_for_the_longest_url(max_url_bytes: int) -> None:
    room = head_bytes(SourcePolicy(max_url_bytes=max_url_bytes))
    assert room >= max(HEAD_BYTES, len("%C3" * max_url_bytes) + 4_096)
    for size, taken in ((room, RequestHead), (room + 1, RequestRefused)):
        got = ServerConnection(POLICY, 0.0, room)
        got.receive(request_of(size), 0.0)
        assert isinstance(got.next_event(0.0), taken)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",  # somebody speaks TLS
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET v1/ping HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"a" * (HEAD_BYTES + 1),
    ],
)
def test_what_is_no_request_is_refused_and_ends_the_connection(data: bytes) -> None:
    refused = wire("HTTP/1.0 400 Bad Request", MALFORMED, body=MALFORMED.body, length=len(MALFORMED.body))
    assert seen(connection(data)) == [RequestRefused(MALFORMED), refused, EndOutput(), NeedData()]


@pytest.mark.parametrize("line", ["OPTIONS *", "CONNECT a:1", "GET http://mirror/v1/ping", "PROPFIND /a?b#c"])
def test_a_target_is_passed_on_as_it_is(line: str) -> None:
    method, _, target = line.partition(" ")
    got = connection(f"{line} HTTP/1.1\r\nHost: m\r\nX-Y:  \xe9 \r\n\r\n".encode("latin-1"))
    assert got.next_event(0.0) == RequestHead(method, target, (("host", "m"), ("x-y", "\xe9")))
    respond(got)
    assert got.next_event(0.0) == NeedData()


def posted(headers: str, body: bytes) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: m\r\n{headers}\r\n\r\n".encode() + body


SMALL = posted("Content-Length: 3", b"abc")
CHUNKED = posted("Transfer-Encoding: chunked", b"3;x=y\r\nabc\r\n0\r\nT: r\r\n\r\n")


@pytest.mark.parametrize("data", [SMALL, CHUNKED, posted(f"Content-Length: {BODY_BYTES}", b"a" * BODY_BYTES)])
def test_a_small_body_is_thrown_away_and_the_next_request_follows(data: bytes) -> None:
    got = connection(data[:-1])
    assert got.next_event(0.0) == NeedData()
    got.receive(data[-1:] + GET, 0.0)
    events = [event for event in seen(got) if isinstance(event, RequestHead)]
    assert [event.method for event in events] == ["POST", "GET"]


@pytest.mark.parametrize(
    "data",
    [
        posted(f"Content-Length: {BODY_BYTES + 1}", b""),
        posted("Transfer-Encoding: chunked", b"%x\r\n" % (1 << 40) + b"a" * (BODY_BYTES + 1)),
        posted("Content-Length: 3\r\nExpect: 100-continue", b""),
    ],
)
def test_after_any_other_body_the_connection_ends(data: bytes) -> None:
    got = connection(data)
    assert isinstance(got.next_event(0.0), RequestHead)
    assert b"\r\nConnection: close\r\n" in respond(got)
    assert got.next_event(0.0) == EndOutput()


def test_a_body_has_its_time_too() -> None:
    got = connection(SMALL[:-1])
    assert got.next_event(9.9) == NeedData()
    assert got.next_event(10.0) == Close()


def test_a_client_that_sends_on_and_on_is_held_back() -> None:
    got = connection(GET)
    got.next_event(0.0)
    kept = -(-PIPELINED_BYTES // len(GET))
    wanted = []
    for _ in range(kept + 1):
        wanted.append(got.wants_data)
        got.receive(GET, 0.0)
    assert wanted == [True] * kept + [False]
    respond(got)
    events = [event for event in seen(got) if isinstance(event, RequestHead)]
    assert events == [HEAD_OF_GET] * (kept + 1)
    assert got.wants_data


@given(st.lists(st.integers(0, len(GET + SMALL + CHUNKED + GET)), max_size=6))
def test_wherever_they_are_cut_requests_are_the_same(cuts: list[int]) -> None:
    data = GET + SMALL + CHUNKED + GET
    whole = [event for event in seen(connection(data)) if event != NeedData()]
    assert [event.method for event in whole if isinstance(event, RequestHead)] == ["GET", "POST", "POST", "GET"]
    got, events = connection(), []
    places = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(places):
        if start < end:
            got.receive(data[start:end], 0.0)
            events += [event for event in seen(got) if event != NeedData()]
    assert events == whole


def test_a_head_cut_at_any_byte_is_the_same_as_whole() -> None:
    for cut in range(1, len(GET)):
        got = connection(GET[:cut])
        assert got.next_event(0.0) == NeedData()
        got.receive(GET[cut:], 0.0)
        assert got.next_event(0.0) == HEAD_OF_GET


TARGETS = st.text("abcdefgh%?=&", max_size=8)


@given(st.lists(TARGETS, min_size=1, max_size=12), st.integers(1, 200))
def test_pipelined_requests_are_answered_in_their_order(targets: list[str], piece: int) -> None:
    data = b"".join(f"GET /{target} HTTP/1.1\r\nHost: m\r\n\r\n".encode() for target in targets)
    got, answers = connection(), b""
    for start in range(0, len(data), piece):
        got.receive(data[start : start + piece], 0.0)
        answers += b"".join(event for event in seen(got) if isinstance(event, bytes))
    assert answers == b"".join(
        wire(
            "HTTP/1.1 200 OK",
            Answer(200, (("X-Target", f"/{target}"),)),
            body=f"/{target}".encode(),
            length=len(target) + 1,
        )
        for target in targets
    )


NOISE = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [GET, SMALL, CHUNKED, b"\r\n", b"\r\n\r\n", b"GET ", b" HTTP/1.1", b"Host: m", b": ", b"a" * HEAD_BYTES]
    ),
)


@given(st.lists(NOISE, max_size=12), st.booleans())
def test_garbage_never_raises(pieces: list[bytes], leaves: bool) -> None:
    got = connection()
    for piece in [*pieces, b""] if leaves else pieces:
        got.receive(piece, 0.0)
        events = seen(got)
        assert events[-1] == (Close() if piece == b"" or got.deadline_s is None else NeedData())
