"""The HTTP API: what a request asks for, in which order it is refused, and what answers look like."""

import base64
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.encoding import encode_path_url
from cloud_mirror.http_api import (
    Answer,
    Api,
    HealthRoute,
    MetricsRoute,
    Outcome,
    PingRoute,
    PurgeRoute,
    ReadyRoute,
    RedirectRoute,
    alive_answer,
    json_answer,
    origin_form,
    problem,
    purged_answer,
    ready_answer,
    redirect_answer,
)
from cloud_mirror.policy import Policy, PoolPolicy, SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.source import PatternError, parse_source

POOLS = (PoolPolicy("s3", "us-west-1", "b"), PoolPolicy("s3", "eu-west-1", "c"))
SOURCE = SourcePolicy(allowed_patterns=("^http://localhost:9000/",), require_tls=False)
TOKEN = "open-sesame"
API = Api(Policy(pools=POOLS, source=SOURCE, admin_token=TOKEN))
URL = "http://localhost:9000/a%20b?c=d"
REDIRECT = "/v1/redirect/s3/us-west-1/"
PURGE = "/v1/purge/s3/us-west-1/"
BEARER = (("Host", "localhost"), ("Authorization", f"Bearer {TOKEN}"))


def body_of(answer: Answer) -> Mapping[str, object]:
    body = json.loads(answer.body)
    assert isinstance(body, dict)
    return body


def refusal(method: str, target: str, headers: tuple[tuple[str, str], ...] = ()) -> tuple[Reason, Answer]:
    """The reason of the problem that the request gets, after a look at the problem's form."""
    answer = API.route(method, target, headers)
    assert isinstance(answer, Answer)
    body = body_of(answer)
    reason = Reason(str(body["reason"]))
    assert answer.status == body["status"] == reason.status
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("Cloud-Mirror") == f"error; reason={reason.code}"
    assert answer.header("Cache-Control") == "no-store"
    assert body["type"] == f"urn:cloud-mirror:reason:{reason.code}"
    assert body["title"] == reason.title
    return reason, answer


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/ping", PingRoute()),
        ("/healthz", HealthRoute()),
        ("/readyz", ReadyRoute()),
        ("/metrics", MetricsRoute()),
        ("/metrics?name=x", MetricsRoute()),
        ("http://localhost:8080/v1/ping", PingRoute()),
        ("HTTPS://mirror/healthz?x", HealthRoute()),
        ("/healthz?http://mirror/", HealthRoute()),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_plain_routes(method: str, path: str, route: object) -> None:
    assert API.route(method, path, ()) == route


@pytest.mark.parametrize(
    "encoded",
    [
        encode_path_url(URL),
        encode_path_url("HTTP://LOCALHOST:9000/a%20b?c=d#fragment"),
        base64.b64encode(URL.encode()).decode(),
        base64.urlsafe_b64encode(URL.encode()).decode().rstrip("="),
    ],
)
@pytest.mark.parametrize("prefix", ["", "http://mirror.example:8080"])
def test_redirect_route(prefix: str, encoded: str) -> None:
    route = RedirectRoute("s3_us-west-1", parse_source(URL, 2048))
    assert API.route("GET", prefix + REDIRECT + encoded, ()) == route
    assert API.route("HEAD", prefix + REDIRECT + encoded, BEARER) == route


def test_each_pool_has_its_routes() -> None:
    route = API.route("GET", f"/v1/redirect/s3/eu-west-1/{encode_path_url(URL)}", ())
    assert isinstance(route, RedirectRoute)
    assert route.pool == "s3_eu-west-1"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/",
        "*",
        "/v1",
        "/v1/",
        "/v1/ping/",
        "/V1/ping",
        "/v2/ping",
        "//v1/ping",
        "localhost:8080",
        "http://mirror",
        "/v1/redirect",
        "/v1/redirect/s3",
        "/v1/redirect/s3/us-west-1",
        "/v1/warm/s3/us-west-1/a",
        "/x/redirect/s3/us-west-1/a",
        "x/v1/redirect/s3/us-west-1/a",
        "ftp://mirror/v1/ping",
        "http:///v1/pin",
        "\udcff",
        "/v1/api-reference",
    ],
)
def test_unknown_routes(target: str) -> None:
    assert refusal("GET", target)[0] is Reason.ROUTE_UNKNOWN


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("POST", "/v1/ping", "GET, HEAD"),
        ("OPTIONS", "/readyz", "GET, HEAD"),
        ("get", "/metrics", "GET, HEAD"),
        ("PUT", REDIRECT + "x", "GET, HEAD"),
        ("DELETE", REDIRECT + "x", "GET, HEAD"),
        ("GET", PURGE + "x", "DELETE"),
        ("POST", "/v1/purge/no/pool/x", "DELETE"),
    ],
)
def test_wrong_methods(method: str, target: str, allow: str) -> None:
    reason, answer = refusal(method, target)
    assert reason is Reason.METHOD_NOT_ALLOWED
    assert answer.header("Allow") == allow


@pytest.mark.parametrize(
    "pool", ["s3/us-west-2", "gcs/us-west-1", "S3/us-west-1", "/", "s3/", "s3_us-west-1/", "s%33/us-west-1"]
)
@pytest.mark.parametrize(("method", "verb"), [("GET", "redirect"), ("DELETE", "purge")])
def test_unknown_pools(method: str, verb: str, pool: str) -> None:
    assert refusal(method, f"/v1/{verb}/{pool}/{encode_path_url(URL)}")[0] is Reason.POOL_UNKNOWN
    assert refusal(method, f"/v1/{verb}/{pool}/nonsense?query")[0] is Reason.POOL_UNKNOWN


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://localhost:9001/", Reason.URL_NOT_ALLOWED),
        ("http://localhost/", Reason.URL_NOT_ALLOWED),
        ("http://127.0.0.1:9000/", Reason.URL_HOST),
        ("http://2130706433/", Reason.URL_HOST),
        ("http://user:password@localhost:9000/", Reason.URL_USERINFO),
        ("http://localhost:9000\\@evil.example/", Reason.URL_MALFORMED),
        ("http://localhost:9000/\r\nX: y", Reason.URL_MALFORMED),
        ("http://localhost:9000/" + "a" * 3072, Reason.URL_TOO_LONG),
        ("ftp://localhost:9000/", Reason.URL_SCHEME),
        ("http://localhost:0/", Reason.URL_PORT),
    ],
)
def test_bad_urls(url: str, reason: Reason) -> None:
    for encoded in (encode_path_url(url), base64.urlsafe_b64encode(url.encode()).decode()):
        got, answer = refusal("GET", REDIRECT + encoded)
        assert got is reason
        assert str(body_of(answer)["detail"])[-1] in ".:"
        assert "password" not in str(body_of(answer).get("detail"))


@pytest.mark.parametrize("encoded", ["", "!", "a", "%zz", "%ff", "=="])
def test_undecodable_urls(encoded: str) -> None:
    assert refusal("GET", REDIRECT + encoded)[0] is Reason.URL_UNDECODABLE


@pytest.mark.parametrize(
    ("raw", "reason", "whole"),
    [
        ("http://localhost:9000/a", Reason.URL_RAW, "http://localhost:9000/a"),
        ("http:/localhost:9000/a", Reason.URL_RAW, "http://localhost:9000/a"),
        ("http://localhost:9000/a?b=/c&d", Reason.URL_QUERY, "http://localhost:9000/a?b=/c&d"),
        ("http:/localhost:9000/a?b", Reason.URL_QUERY, "http://localhost:9000/a?b"),
        (encode_path_url("http://localhost:9000/a") + "?b", Reason.URL_QUERY, "http://localhost:9000/a?b"),
        (encode_path_url("http://localhost:9000/a") + "?", Reason.URL_QUERY, "http://localhost:9000/a?"),
    ],
)
def test_a_raw_url_or_a_query_is_refused_with_the_encoded_form(raw: str, reason: Reason, whole: str) -> None:
    got, answer = refusal("GET", REDIRECT + raw)
    assert got is reason
    assert str(body_of(answer)["detail"]).endswith(f" Encoded, that is {encode_path_url(whole)}")
    assert refusal("DELETE", PURGE + raw, BEARER)[0] is reason
    assert API.route("GET", REDIRECT + encode_path_url(whole), ()) == RedirectRoute(
        "s3_us-west-1", parse_source(whole, 2048)
    )


def test_a_query_after_what_is_no_url() -> None:
    reason, answer = refusal("GET", REDIRECT + "!?b")
    assert reason is Reason.URL_QUERY
    assert "Encoded, that is" not in str(body_of(answer)["detail"])


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
def test_purge(value: str) -> None:
    route = API.route("DELETE", PURGE + encode_path_url(URL), (("authorization", value),))
    assert route == PurgeRoute("s3_us-west-1", parse_source(URL, 2048))


def test_what_the_patterns_no_longer_allow_can_be_purged() -> None:
    url = "https://formerly.example/a"
    assert API.route("DELETE", PURGE + encode_path_url(url), BEARER) == PurgeRoute(
        "s3_us-west-1", parse_source(url, 2048)
    )
    assert refusal("DELETE", PURGE + encode_path_url("https://127.0.0.1/"), BEARER)[0] is Reason.URL_HOST


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((), Reason.PURGE_UNAUTHORIZED),
        ((("Authorization", ""),), Reason.PURGE_UNAUTHORIZED),
        ((("Authorization", "Bearer"),), Reason.PURGE_UNAUTHORIZED),
        ((("Authorization", "Bearer "),), Reason.PURGE_UNAUTHORIZED),
        ((("Authorization", TOKEN),), Reason.PURGE_UNAUTHORIZED),
        ((("Authorization", f"Basic x, Bearer {TOKEN}"),), Reason.PURGE_UNAUTHORIZED),
        ((("Authorization", f"Basic {TOKEN}"),), Reason.PURGE_UNAUTHORIZED),
        ((("Authorization", f"Bearer {TOKEN} {TOKEN}"),), Reason.PURGE_UNAUTHORIZED),
        ((*BEARER, *BEARER), Reason.PURGE_UNAUTHORIZED),
        ((("Authorization", "Bearer wrong"),), Reason.PURGE_FORBIDDEN),
        ((("Authorization", f"Bearer {TOKEN}x"),), Reason.PURGE_FORBIDDEN),
        ((("Authorization", "Bearer \udcff\ud800é"),), Reason.PURGE_FORBIDDEN),
    ],
)
def test_purging_needs_the_token_before_the_url_is_looked_at(
    headers: tuple[tuple[str, str], ...], reason: Reason
) -> None:
    for target in (encode_path_url(URL), "!", "http://raw/?query"):
        got, answer = refusal("DELETE", PURGE + target, headers)
        assert got is reason
        assert answer.header("WWW-Authenticate") == ("Bearer" if reason is Reason.PURGE_UNAUTHORIZED else None)


@pytest.mark.parametrize("headers", [(), (("Authorization", "Bearer "),), BEARER])
def test_without_an_admin_token_nobody_purges(headers: tuple[tuple[str, str], ...]) -> None:
    answer = Api(Policy(pools=POOLS, source=SOURCE)).route("DELETE", PURGE + encode_path_url(URL), headers)
    assert isinstance(answer, Answer)
    assert (answer.status, body_of(answer)["reason"]) == (403, "purge-forbidden")


def test_a_token_may_be_of_any_characters() -> None:
    token = "s\udcff"
    route = Api(Policy(pools=POOLS, source=SOURCE, admin_token=token)).route(
        "DELETE", PURGE + encode_path_url(URL), (("Authorization", f"Bearer {token}"),)
    )
    assert isinstance(route, PurgeRoute)


def test_a_bad_pattern_is_told_at_once() -> None:
    with pytest.raises(PatternError, match="must start with"):
        Api(Policy(source=SourcePolicy(allowed_patterns=("localhost",))))


METHODS = st.sampled_from(["GET", "HEAD", "DELETE", "POST"])
PREFIXES = st.sampled_from(
    ["", "/", REDIRECT, PURGE, "http://h" + REDIRECT, REDIRECT + "http%3A%2F%2Flocalhost:9000%2F"]
)


@given(METHODS, PREFIXES, st.text(max_size=30) | st.text("/?%#:2fF@", max_size=20), st.text(max_size=9))
def test_no_request_makes_it_fail(method: str, prefix: str, rest: str, header: str) -> None:
    answer = API.route(method, prefix + rest, (("Authorization", "Bearer " + header),))
    assert not isinstance(answer, Answer) or 400 <= answer.status < 500


def test_redirect_answer() -> None:
    answer = redirect_answer("https://b.example/a%20b", Outcome.HIT, Reason.PRESENT)
    assert answer == Answer(
        302,
        (
            ("Location", "https://b.example/a%20b"),
            ("Cloud-Mirror", "hit; reason=present"),
            ("Cache-Control", "no-store"),
            ("Content-Type", "application/json"),
        ),
        b'{"location":"https://b.example/a%20b"}\n',
    )
    other = redirect_answer("https://a/", Outcome.ORIGIN, Reason.DEADLINE, "max-age=60")
    assert other.header("cloud-mirror") == "origin; reason=deadline"
    assert other.header("cache-control") == "max-age=60"
    assert other.header("retry-after") is None
    assert [outcome.value for outcome in Outcome] == ["hit", "backfill", "copied", "origin"]


def test_problem() -> None:
    plain = problem(Reason.CACHE_UNAVAILABLE, headers=(("Retry-After", "2"),))
    assert plain.status == 503
    assert plain.header("Retry-After") == "2"
    assert set(body_of(plain)) == {"type", "title", "status", "reason"}
    full = problem(Reason.ORIGIN_ERROR, status=500, detail="a\udcff\r\n")
    assert full.status == body_of(full)["status"] == 500
    assert body_of(full)["detail"] == "a\udcff\r\n"
    assert full.body.count(b"\n") == 1


def test_a_body_is_not_shown() -> None:
    assert "alive" not in repr(alive_answer())


def test_an_absolute_form_ends_where_its_query_begins() -> None:
    assert origin_form("http://mirror?a/v1/ping") == "?a/v1/ping"


def test_plain_answers() -> None:
    assert alive_answer() == json_answer(200, {"alive": True})
    assert alive_answer().body == b'{"alive":true}\n'
    assert alive_answer().headers == (("Cache-Control", "no-store"), ("Content-Type", "application/json"))
    with pytest.raises(ValueError, match="JSON"):
        json_answer(200, {"no number": float("nan")})
    assert ready_answer({"cache": True}) == json_answer(200, {"ready": True, "parts": {"cache": True}})
    assert ready_answer({"cache": True, "store": False}).status == 503
    assert body_of(ready_answer({"store": False}))["ready"] is False
    assert purged_answer() == Answer(204, (("Cache-Control", "no-store"),))


def test_where_paths_come_decoded_only_base64url_is_taken() -> None:
    encoded = base64.urlsafe_b64encode(URL.encode()).decode()
    assert API.route("GET", REDIRECT + encoded, (), decoded=True) == RedirectRoute(
        "s3_us-west-1", parse_source(URL, 99)
    )
    assert API.route("GET", "/v1/ping", (), decoded=True) == PingRoute()
    for raw in (URL, encode_path_url(URL), "a+b="):
        answer = API.route("GET", REDIRECT + raw, (), decoded=True)
        assert isinstance(answer, Answer)
        body = body_of(answer)
        assert (answer.status, body["reason"]) == (400, "url-undecodable")
        assert "write the URL in base64url" in str(body["detail"])
