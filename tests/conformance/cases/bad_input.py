"""What a client gets that asks for what it may not have, or asks in no language at all: a clear no, and nothing
fetched for it; and the process goes on answering others.
"""

from __future__ import annotations

import json
import socket
import string
from contextlib import ExitStack
from urllib.parse import quote, urlsplit

from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.maker import Maker
from tests.conformance.site import Site
from tests.fleet import ADMIN_TOKEN, REGION, Fleet, Reply, request
from tests.looking import PATIENCE_S, Queues, ask_raw, base64_of, base64url_of, fetch, say

ROUTE = f"/v1/redirect/s3/{REGION}/"
STRICT = {"source": {"allow_private_addresses": False, "max_url_bytes": 16_384}}
PURGE = f"/v1/purge/s3/{REGION}/"


def assert_tells_nothing(fleet: Fleet, body: bytes) -> None:
    """What a client reads names no part of the mirror, no secret, and no line of its code."""
    text = body.decode()
    inside = [fleet.store_url, fleet.queue_url, fleet.valkey.url, fleet.bucket, ADMIN_TOKEN, fleet.seaweedfs.secret_key]
    inside += [urlsplit(url).netloc for url in (fleet.store_url, fleet.queue_url, fleet.valkey.url)]
    inside += ["Traceback", 'File "', ".py", "aiohttp", "Error:"]
    assert [word for word in inside if word in text] == []


def problem_of(fleet: Fleet, reply: Reply, status: int) -> str:
    """The reason in a problem document that is as RFC 9457 has it, and tells nothing of the mirror's inside."""
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.outcome == "error"
    members = json.loads(reply.body)
    assert members.keys() - {"detail"} == {"type", "title", "status", "reason"}
    assert (members["status"], members["reason"]) == (status, reply.reason)
    assert members["type"] == f"urn:cloud-mirror:reason:{reply.reason}"
    assert_tells_nothing(fleet, reply.body)
    return reply.reason


URLS = (
    ("http://user:password@localhost:{port}/x", 400, "url-userinfo"),
    ("http://user@localhost/x", 400, "url-userinfo"),
    ("{origin}/a\\b", 400, "url-malformed"),
    ("http:\\\\localhost\\a", 400, "url-malformed"),
    ("{origin}/new\nline", 400, "url-malformed"),
    ("{origin}/carriage\r\nHost: other", 400, "url-malformed"),
    ("{origin}/nul\x00", 400, "url-malformed"),
    ("{origin}/delete\x7f", 400, "url-malformed"),
    ("{origin}/a space", 400, "url-malformed"),
    ("{origin}/" + 3 * 1024 * "x", 400, "url-too-long"),
    ("localhost/no-scheme:", 400, "url-malformed"),
    ("http:///no-host", 400, "url-host"),
    ("ftp://localhost/x", 400, "url-scheme"),
    ("file:///etc/hosts", 400, "url-scheme"),
    ("http://127.0.0.1:{port}/x", 400, "url-host"),
    ("http://127.1:{port}/x", 400, "url-host"),
    ("http://2130706433:{port}/x", 400, "url-host"),
    ("http://0x7f.0.0.1:{port}/x", 400, "url-host"),
    ("http://[::1]:{port}/x", 400, "url-host"),
    ("http://[::ffff:127.0.0.1]:{port}/x", 400, "url-host"),
    ("http://localhost.:{port}/x", 400, "url-host"),
    ("http://l\u00f6calhost:{port}/x", 400, "url-host"),
    ("http://localhost:{port}0/x", 400, "url-port"),
    ("http://localhost:99999/x", 400, "url-port"),
    ("http://other.example:{port}/x", 403, "url-not-allowed"),
    ("http://localhost/x", 403, "url-not-allowed"),
    ("https://localhost:{port}/x", 403, "url-not-allowed"),
    ("http://localhost:{port}.other.example/x", 400, "url-port"),
)


@case()
def a_url_that_may_not_be_copied(make: Maker) -> None:
    site = make.site(fronts=2)
    site.origin.forget()
    for pattern, status, reason in URLS:
        url = pattern.replace("{origin}", site.origin.url).replace("{port}", str(site.origin.port))
        for path in (quote(url, safe=""), base64_of(url), base64url_of(url)):
            assert problem_of(site.fleet, ask_raw(site.front, path), status) == reason, url
    assert site.origin.requests == ()


@case()
def a_raw_url_is_shown_in_its_encoded_form(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("raw/a%20b.bin", b"raw")
    site.origin.forget()
    for raw in (url, url.replace("//", "/"), quote(url, safe="/"), quote(url, safe=":/").replace("//", "%2F%2F", 1)):
        reply = ask_raw(site.front, raw)
        assert problem_of(site.fleet, reply, 400) == "url-raw"
        shown = json.loads(reply.body)["detail"].rpartition(" ")[2]
        assert shown == quote(url, safe="")
    assert site.origin.requests == ()
    assert fetch(ask_raw(site.front, quote(url, safe="")).location).sha256 == site.origin.sha256(site.path_of(url))


@case()
def a_query_on_the_route_is_shown_where_it_belongs(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("raw/q", b"with a query")
    site.origin.forget()
    for path in (quote(url, safe=""), url):
        reply = ask_raw(site.front, f"{path}?a=b&c=d/e")
        assert problem_of(site.fleet, reply, 400) == "url-query"
        assert json.loads(reply.body)["detail"].rpartition(" ")[2] == quote(f"{url}?a=b&c=d/e", safe="")
    assert problem_of(site.fleet, ask_raw(site.front, f"{base64_of(url)}?"), 400) == "url-query"
    assert site.origin.requests == ()


NO_URLS = ("", "!!!", "a", "aGVsbG8=X", "%", "%zz", "%ff", "_w", "aHR0cDovLw=_", "=", "%00")


@case()
def what_is_no_url_in_any_form(make: Maker) -> None:
    site = make.site(fronts=2)
    for path in NO_URLS:
        assert problem_of(site.fleet, ask_raw(site.front, path), 400) == "url-undecodable", path


ROUTES = (
    ("GET", "/", 404, "route-unknown", None),
    ("GET", "/v2/ping", 404, "route-unknown", None),
    ("GET", "/v1/redirect/s3", 404, "route-unknown", None),
    ("GET", "/v1/ping/", 404, "route-unknown", None),
    ("GET", "//v1/ping", 404, "route-unknown", None),
    ("GET", f"/v1/redirect/gcs/{REGION}/x", 404, "pool-unknown", None),
    ("GET", "/v1/redirect/s3/nowhere-1/x", 404, "pool-unknown", None),
    ("DELETE", "/v1/purge/s3/nowhere-1/x", 404, "pool-unknown", None),
    ("POST", "/v1/ping", 405, "method-not-allowed", "GET, HEAD"),
    ("PUT", "/healthz", 405, "method-not-allowed", "GET, HEAD"),
    ("POST", f"{ROUTE}x", 405, "method-not-allowed", "GET, HEAD"),
    ("DELETE", f"{ROUTE}x", 405, "method-not-allowed", "GET, HEAD"),
    ("GET", f"{PURGE}x", 405, "method-not-allowed", "DELETE"),
    ("OPTIONS", "*", 404, "route-unknown", None),
)


@case()
def a_route_or_method_that_there_is_not(make: Maker) -> None:
    site = make.site(fronts=2)
    for method, target, status, reason, allow in ROUTES:
        reply = request(site.front.base_url, target, method)
        assert problem_of(site.fleet, reply, status) == reason, target
        assert reply.headers.get("allow") == allow


@case()
def a_purge_needs_the_token(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("kept", b"kept")
    kept = site.copied(url)
    target = PURGE + quote(url, safe="")

    def purge(authorization: str | None) -> Reply:
        headers = {} if authorization is None else {"Authorization": authorization}
        return request(site.front.base_url, target, "DELETE", headers)

    for missing in (None, "", "Bearer", "Bearer ", f"Basic {ADMIN_TOKEN}", ADMIN_TOKEN, f"Bearer {ADMIN_TOKEN} x"):
        reply = purge(missing)
        assert problem_of(site.fleet, reply, 401) == "purge-unauthorized"
        assert reply.headers["www-authenticate"] == "Bearer"
    for wrong in (ADMIN_TOKEN[:-1], ADMIN_TOKEN + "x", ADMIN_TOKEN.upper(), "\u00e9"):
        assert problem_of(site.fleet, purge(f"Bearer {wrong}"), 403) == "purge-forbidden"
    assert site.front.ask(url).location == kept.location
    assert fetch(kept.location).sha256 == site.origin.sha256(site.path_of(url))
    assert purge(f"Bearer {ADMIN_TOKEN}").status == 204
    assert fetch(kept.location).status == 404


@case()
def without_a_configured_token_nobody_may_purge(make: Maker) -> None:
    site = make.own(backs=0, admin_token=False)
    for token in (ADMIN_TOKEN, "", "None"):
        assert problem_of(site.fleet, site.front.purge(site.put("x", b"x"), token), 403) == "purge-forbidden"


@case(Redirect.ORIGIN_NOT_ALLOWED, Redirect.READ_NEGATIVE)
def a_host_whose_address_the_guard_refuses(make: Maker) -> None:
    """A loopback address stands for every private one."""
    site = make.site(STRICT)
    url = site.put("inside", b"not for the world")
    for _ in range(2):
        assert problem_of(site.fleet, site.front.ask(url), 403) == "address-not-allowed"
    with Queues(site.fleet) as queues:
        assert queues.depth() == 0
    assert site.origin.requests == ()


@case()
def a_url_of_the_longest_kind_can_be_asked_for(make: Maker) -> None:
    site = make.site(STRICT)
    longest = f"{site.origin.url}/longest?"
    longest += "/" * (16_384 - len(longest))
    assert site.front.ask(longest).said == (403, "error", "address-not-allowed")
    assert problem_of(site.fleet, site.front.ask(longest + "/"), 400) == "url-too-long"


def whole_reply(site: Site, method: str, target: str) -> tuple[bytes, list[bytes], bytes]:
    """Status line, headers but for Date, and everything that comes after them."""
    said = say(site.front, f"{method} {target} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n".encode())
    head, _, body = said.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return first, sorted(line for line in lines if not line.lower().startswith(b"date:")), body


@case()
def head_gives_the_headers_of_get_and_no_body(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("for-head", b"for HEAD")
    site.copied(url)
    targets = [ROUTE + quote(url, safe=""), ROUTE + "raw/path", ROUTE + quote("http://other.example/", safe="")]
    for target in (*targets, "/v1/ping", "/healthz", "/readyz", "/nowhere", f"{ROUTE}x?y"):
        got, asked = whole_reply(site, "GET", target), whole_reply(site, "HEAD", target)
        assert asked[:2] == got[:2], target
        assert (asked[2], got[2] != b"") == (b"", True), target


NO_HTTP = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), b"\r\n\r\n"),
    "no-http": (b"hello, is anybody there?\r\n\r\n",),
    "bad-version": (b"GET /v1/ping HTTP/9.9\r\nHost: m\r\n\r\n",),
    "long-line": (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: m\r\n\r\n",),
    "huge-header": (b"GET /v1/ping HTTP/1.1\r\nHost: m\r\nX-Huge: " + b"x" * 1_000_000 + b"\r\n\r\n",),
    "many-headers": (b"GET /v1/ping HTTP/1.1\r\nHost: m\r\n" + b"X-One: more\r\n" * 20_000 + b"\r\n",),
    "two-lengths": (b"GET /v1/ping HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",),
    "bad-header": (b"GET /v1/ping HTTP/1.1\r\nHost: m\r\nno colon\r\n\r\n",),
    "control-in-target": (b"GET /v1/\x01ping HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n",),
}


@case(each=NO_HTTP)
def what_is_not_http_is_answered_with_a_client_error(make: Maker, word: str) -> None:
    site = make.site(fronts=2)
    large = sum(map(len, NO_HTTP[word])) > 100_000  # a connection may be closed while its nonsense is still being sent
    said = say(site.front, *NO_HTTP[word], end=large)
    head, _, body = said.partition(b"\r\n\r\n")
    if said or not large:
        assert head.split()[1] in (b"400", b"404", b"414", b"431"), head
        assert b"content-type: application/problem+json" in head.lower()
        assert b"server: cloud-mirror" in head.lower()
        assert json.loads(body)["status"] == int(head.split()[1])
        assert_tells_nothing(site.fleet, body)
    assert request(site.front.base_url, "/v1/ping").status == 200


@case()
def a_request_cut_in_the_middle_and_silent_connections_keep_nobody_waiting(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("for-others", b"for others")
    where = urlsplit(site.front.base_url)
    address = (where.hostname or "", where.port or 80)
    with ExitStack() as stack:
        for number in range(100):
            silent = stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S))
            if number % 2:
                silent.sendall(f"GET {ROUTE}http%3A%2F%2F".encode())
        assert say(site.front, b"GET /v1/ping HT", end=True) == b""
        assert fetch(site.copied(url).location).sha256 == site.origin.sha256(site.path_of(url))


@case()
def a_body_where_none_belongs_is_no_second_request(make: Maker) -> None:
    """What comes with a GET is its body, whatever it looks like (RFC 9112, 6.3)."""
    site = make.site(fronts=2)
    inner = b"GET /nowhere HTTP/1.1\r\nHost: m\r\n\r\n"
    outer = f"GET /v1/ping HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: {len(inner)}\r\n\r\n".encode()
    said = say(site.front, outer + inner)
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 200 ")


@case()
def no_byte_in_a_path_makes_the_process_stumble(make: Maker) -> None:
    """Every byte that a request line can carry, in the path and in what is asked for."""
    site = make.site(fronts=2)
    site.origin.forget()
    for code in set(range(0x21, 0x100)) - {ord("?"), ord("#")}:
        path = b"GET " + ROUTE.encode() + b"x" + bytes([code]) + b" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"
        status = say(site.front, path).split()[1]
        assert status == b"400", chr(code) if chr(code) in string.printable else code
    assert site.origin.requests == ()
