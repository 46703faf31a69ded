"""The origin's procedures: hop by hop, nothing sent where nothing may be, no body left open."""

from dataclasses import replace

import pytest

from cloud_mirror.copy_events import OriginOpened
from cloud_mirror.events import OriginApproved, OriginDeclined
from cloud_mirror.origin import Headers
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import BodyOpened, FailureKind, OpenBody, Reply, Route, TransportFailure
from cloud_mirror.wire.procedures import origin
from tests.wire.pools import POLICY, SERVICES, SOURCE, URL, Script, services

AT = "https://a.example:443/some/file.bin"


def opened(body: int, status: int, *headers: tuple[str, str], delimited: bool = True) -> BodyOpened:
    return BodyOpened(body, status, headers, delimited)


def moved(body: int, to: str, status: int = 302) -> BodyOpened:
    return opened(body, status, ("location", to))


def check(*replies: Reply, url: str = URL) -> tuple[Script, OriginApproved | OriginDeclined]:
    script = Script(*replies)
    return script, script.run(origin.check_origin(SERVICES, url))


def test_a_head_that_says_yes() -> None:
    assert check(opened(1, 204))[1] == check(opened(1, 206))[1] == OriginApproved()
    script, outcome = check(opened(1, 200))
    assert outcome == OriginApproved()
    assert script.said == [f"HEAD {AT}", "close 1"]
    opening = script.calls[0]
    assert isinstance(opening, OpenBody)
    assert (opening.route, opening.timeout_s, opening.connect_timeout_s) == (Route.ORIGIN, 10.0, 5.0)
    assert dict(opening.request.headers) == {
        "Host": "a.example",
        "User-Agent": "cloud-mirror/1",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }


@pytest.mark.parametrize("status", [400, 401, 403, 405, 429, 500, 501, 503, 304 + 600])
@pytest.mark.parametrize("second", [200, 206, 416])
def test_another_answer_to_head_is_confirmed_by_the_first_byte(status: int, second: int) -> None:
    script, outcome = check(opened(1, status), opened(2, second))
    assert outcome == OriginApproved()
    assert script.said == [f"HEAD {AT}", "close 1", f"GET {AT}", "close 2"]
    asked = script.calls[2]
    assert isinstance(asked, OpenBody)
    assert dict(asked.request.headers)["Range"] == "bytes=0-0"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.ORIGIN_REFUSED),
        (403, Reason.ORIGIN_REFUSED),
        (404, Reason.ORIGIN_NOT_FOUND),
        (410, Reason.ORIGIN_GONE),
        (429, Reason.ORIGIN_BUSY),
        (500, Reason.ORIGIN_ERROR),
        (304, Reason.ORIGIN_REDIRECTS),
        (999, Reason.ORIGIN_REPLY),
    ],
)
def test_a_first_byte_that_says_no(status: int, reason: Reason) -> None:
    script, outcome = check(opened(1, 403), opened(2, status, ("retry-after", "9")))
    assert outcome == OriginDeclined(reason, status, f"a.example answered {status} after 0 redirects", 9.0)
    assert script.said[-1] == "close 2"


@pytest.mark.parametrize(("status", "reason"), [(404, Reason.ORIGIN_NOT_FOUND), (410, Reason.ORIGIN_GONE)])
def test_a_head_that_says_no_is_believed(status: int, reason: Reason) -> None:
    script, outcome = check(opened(1, status))
    assert outcome == OriginDeclined(reason, status, f"a.example answered {status} after 0 redirects")
    assert script.said == [f"HEAD {AT}", "close 1"]


@pytest.mark.parametrize(("status", "reason"), [(429, Reason.ORIGIN_BUSY), (503, Reason.ORIGIN_ERROR)])
def test_who_asks_for_time_is_not_asked_again_by_another_method(status: int, reason: Reason) -> None:
    script, outcome = check(opened(1, status, ("retry-after", "60")))
    assert outcome == OriginDeclined(reason, status, f"a.example answered {status} after 0 redirects", 60.0)
    assert script.said == [f"HEAD {AT}", "close 1"]


@pytest.mark.parametrize("kind", FailureKind)
def test_an_origin_that_cannot_be_reached(kind: FailureKind) -> None:
    reasons = {
        FailureKind.ADDRESS_NOT_ALLOWED: Reason.ADDRESS_NOT_ALLOWED,
        FailureKind.TLS: Reason.ORIGIN_TLS,
        FailureKind.TIMEOUT: Reason.ORIGIN_TIMEOUT,
        FailureKind.MALFORMED: Reason.ORIGIN_REPLY,
        FailureKind.TOO_LARGE: Reason.ORIGIN_REPLY,
    }
    script, outcome = check(TransportFailure(kind, "why"))
    reason = reasons.get(kind, Reason.ORIGIN_UNREACHABLE)
    assert outcome == OriginDeclined(reason, None, f"a.example: {kind.value}: why")
    assert script.said == [f"HEAD {AT}"]


def test_hops_that_are_allowed_are_followed() -> None:
    script, outcome = check(
        moved(1, "../x?y=1"),
        opened(2, 405),
        moved(3, "https://b.example:8443/b/c", 307),
        opened(4, 200),
    )
    assert outcome == OriginApproved()
    assert script.said == [
        f"HEAD {AT}",
        "close 1",
        "HEAD https://a.example:443/x?y=1",
        "close 2",
        "GET https://a.example:443/x?y=1",
        "close 3",
        "HEAD https://b.example:8443/b/c",
        "close 4",
    ]
    last = script.calls[6]
    assert isinstance(last, OpenBody)
    assert dict(last.request.headers)["Host"] == "b.example:8443"
    assert "Range" not in dict(last.request.headers)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("https://c.example/", Reason.HOP_NOT_ALLOWED),
        ("http://a.example/", Reason.HOP_NOT_ALLOWED),
        ("https://a.example:444/", Reason.HOP_NOT_ALLOWED),
        ("https://b.example:8443/c", Reason.HOP_NOT_ALLOWED),
        ("https://user@a.example/", Reason.HOP_NOT_ALLOWED),
        ("https://127.0.0.1/", Reason.HOP_NOT_ALLOWED),
        ("//169.254.169.254/latest", Reason.HOP_NOT_ALLOWED),
        ("ftp://a.example/", Reason.HOP_NOT_ALLOWED),
        ("https://a.example/\\", Reason.ORIGIN_REDIRECTS),
        ("", Reason.ORIGIN_REDIRECTS),
        ("#here", Reason.ORIGIN_REDIRECTS),
    ],
)
def test_nothing_is_sent_to_a_hop_that_is_not_allowed(location: str, reason: Reason) -> None:
    script, outcome = check(moved(1, location))
    assert isinstance(outcome, OriginDeclined)
    assert outcome.reason is reason
    assert script.said == [f"HEAD {AT}", "close 1"]
    script = Script(moved(1, location))
    opening = script.run(origin.open_origin(SERVICES, URL))
    assert isinstance(opening, OriginDeclined)
    assert opening.reason is reason
    assert script.said == [f"GET {AT}", "close 1"]


def test_a_redirect_without_a_location_leads_nowhere() -> None:
    _, outcome = check(opened(1, 302))
    assert isinstance(outcome, OriginDeclined)
    assert outcome.reason is Reason.ORIGIN_REDIRECTS


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_loop_of_redirects_ends(limit: int) -> None:
    limited = services(replace(POLICY, source=replace(SOURCE, redirect_limit=limit)))
    script = Script(*(moved(number, URL) for number in range(limit + 1)))
    outcome = script.run(origin.check_origin(limited, URL))
    assert isinstance(outcome, OriginDeclined)
    assert outcome.reason is Reason.ORIGIN_REDIRECTS


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://c.example/x", "url-not-allowed"),
        ("http://a.example/x", "url-scheme"),
        ("https://a.example:444/x", "url-port"),
    ],
)
def test_a_first_hop_that_is_not_allowed_is_asked_nothing(url: str, code: str) -> None:
    script, outcome = check(url=url)
    host = url.split("/")[2].partition(":")[0]
    assert outcome == OriginDeclined(Reason.URL_NOT_ALLOWED, None, f"{host}: {code}")
    assert script.run(origin.open_origin(SERVICES, url)) == outcome
    assert script.said == []


def test_opening() -> None:
    headers: Headers = (("content-length", "5"), ("etag", '"e"'))
    script = Script(moved(1, "/moved", 308), opened(2, 200, *headers))
    outcome = script.run(origin.open_origin(SERVICES, URL))
    assert isinstance(outcome, origin.OpenedObject)
    assert (outcome.body, outcome.headers, outcome.url.text) == (2, headers, "https://a.example/moved")
    assert outcome.opened == OriginOpened(5, '"e"', delimited=True)
    assert script.said == [f"GET {AT}", "close 1", "GET https://a.example:443/moved"]


def test_opening_what_says_little() -> None:
    outcome = Script(opened(1, 200, delimited=False)).run(origin.open_origin(SERVICES, URL))
    assert isinstance(outcome, origin.OpenedObject)
    assert outcome.opened == OriginOpened(None, "", delimited=False)


@pytest.mark.parametrize("lengths", [("5", "6"), ("5, 6",), ("-1",), ("1_0",), ("",), ("+5",), ("\uff15",)])
def test_a_length_that_makes_no_sense_is_refused(lengths: tuple[str, ...]) -> None:
    script = Script(opened(1, 200, *(("content-length", length) for length in lengths)))
    outcome = script.run(origin.open_origin(SERVICES, URL))
    assert isinstance(outcome, OriginDeclined)
    assert (outcome.reason, outcome.status) == (Reason.ORIGIN_REPLY, 200)
    assert script.said == [f"GET {AT}", "close 1"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (206, Reason.ORIGIN_REPLY),
        (204, Reason.ORIGIN_REPLY),
        (404, Reason.ORIGIN_NOT_FOUND),
        (403, Reason.ORIGIN_REFUSED),
        (416, Reason.ORIGIN_REFUSED),
        (503, Reason.ORIGIN_ERROR),
    ],
)
def test_only_200_gives_an_object(status: int, reason: Reason) -> None:
    script = Script(opened(1, status, ("retry-after", "60")))
    outcome = script.run(origin.open_origin(SERVICES, URL))
    assert outcome == OriginDeclined(reason, status, f"a.example answered {status} after 0 redirects", 60.0)
    assert script.said == [f"GET {AT}", "close 1"]


def test_the_last_hops_have_what_is_left_of_the_time() -> None:
    script = Script(moved(1, "/b"), TransportFailure(FailureKind.TIMEOUT, "4.0 s"))
    outcome = script.run(origin.check_origin(SERVICES, URL, by_s=104.0))  # the script's clock stands at 100
    assert outcome == OriginDeclined(Reason.ORIGIN_TIMEOUT, None, "a.example: timeout: 4.0 s")
    for call in (script.calls[0], script.calls[2]):
        assert isinstance(call, OpenBody)
        assert (call.timeout_s, call.connect_timeout_s) == (4.0, 4.0)
    script = Script(opened(1, 200))
    assert script.run(origin.check_origin(SERVICES, URL, by_s=107.0)) == OriginApproved()
    opening = script.calls[0]
    assert isinstance(opening, OpenBody)
    assert (opening.timeout_s, opening.connect_timeout_s) == (7.0, 5.0)


def test_an_origin_is_not_asked_when_the_time_is_up() -> None:
    script = Script()
    outcome = script.run(origin.check_origin(SERVICES, URL, by_s=100.0))
    assert outcome == OriginDeclined(Reason.ORIGIN_TIMEOUT, None, "a.example: no time is left after 0 redirects")
    assert script.said == []


def test_a_query_is_in_no_detail() -> None:
    for reply in (opened(1, 404), TransportFailure(FailureKind.CONNECT, "refused")):
        _, outcome = check(reply, url=URL + "?token=secret")
        assert "secret" not in str(outcome)


SPAN = ("content-range", "bytes 5-9/12"), ("etag", '"v1"'), ("content-length", "5")


def test_a_part_is_asked_for_at_every_hop_under_the_first_answers_validator() -> None:
    script = Script(moved(1, "https://b.example:8443/b/c"), opened(2, 206, *SPAN))
    assert script.run(origin.open_part(SERVICES, URL, '"v1"', (5, 9), 12)) == 2
    assert script.said == [f"GET {AT}", "close 1", "GET https://b.example:8443/b/c"]
    for call in (script.calls[0], script.calls[2]):
        assert isinstance(call, OpenBody)
        headers = dict(call.request.headers)
        assert (headers["Range"], headers["If-Match"], headers["Accept-Encoding"]) == ("bytes=5-9", '"v1"', "identity")


@pytest.mark.parametrize("status", [200, 412, 416])
def test_an_answer_that_is_no_part_is_closed(status: int) -> None:
    script = Script(opened(1, status, *SPAN))
    assert script.run(origin.open_part(SERVICES, URL, '"v1"', (5, 9), 12)) is None
    assert script.said[-1] == "close 1"


@pytest.mark.parametrize(("status", "reason"), [(404, Reason.ORIGIN_NOT_FOUND), (500, Reason.ORIGIN_ERROR)])
def test_a_part_that_is_declined(status: int, reason: Reason) -> None:
    script = Script(opened(1, status))
    outcome = script.run(origin.open_part(SERVICES, URL, '"v1"', (5, 9), 12))
    assert outcome == OriginDeclined(reason, status, f"a.example answered {status} after 0 redirects")
    assert script.said[-1] == "close 1"


def test_no_part_is_asked_for_at_a_hop_that_is_not_allowed() -> None:
    script = Script(moved(1, "https://c.example/"))
    outcome = script.run(origin.open_part(SERVICES, URL, '"v1"', (5, 9), 12))
    assert isinstance(outcome, OriginDeclined)
    assert outcome.reason is Reason.HOP_NOT_ALLOWED
    assert script.said == [f"GET {AT}", "close 1"]


def test_whether_an_object_comes_in_ranges_is_told_with_it() -> None:
    headers = (("content-length", "5"), ("etag", '"e"'), ("accept-ranges", "bytes"))
    outcome = Script(opened(2, 200, *headers)).run(origin.open_origin(SERVICES, URL))
    assert isinstance(outcome, origin.OpenedObject)
    assert outcome.opened == OriginOpened(5, '"e"', delimited=True, ranges=True)
