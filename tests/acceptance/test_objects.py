"""What arrives: every kind of object, byte for byte, or an answer that says why not."""

import base64
import hashlib
import re
from typing import Any
from urllib.parse import quote

import pytest

from cloud_mirror.entry import Status
from tests.acceptance.conftest import MakeFleet
from tests.acceptance.looking import Queues, Site, ask_raw, base64_of, base64url_of, entry_of, fetch, mirrored
from tests.fleet import Fleet, Process
from tests.servers import Origin

MIB = 1024 * 1024
PART_BYTES = 5 * MIB
URI = re.compile(r"http://[a-z0-9.:]+(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})+)+\Z")
"""An absolute URI by RFC 3986 whose path has no empty segment, and no query."""

OBJECTS: dict[str, dict[str, Any]] = {
    "empty.bin": {"body": b""},
    "one-byte.bin": {"body": b"\x00"},
    "one-part.bin": {"size": PART_BYTES, "seed": 1},
    "one-part-and-a-byte.bin": {"size": PART_BYTES + 1, "seed": 2},
    "three-parts.bin": {"size": 3 * PART_BYTES, "seed": 3},
    "ranges.bin": {"size": 2 * PART_BYTES + 17, "seed": 4, "etag": '"strong"', "accept_ranges": True},
    "chunked-empty.bin": {"body": b"", "chunked": True},
    "chunked-small.bin": {"body": b"of a length that nobody said", "chunked": True},
    "chunked-one-part.bin": {"size": PART_BYTES, "seed": 5, "chunked": True},
    "chunked-several-parts.bin": {"size": 2 * PART_BYTES + 4711, "seed": 6, "chunked": True},
    "gzip.json": {"body": b'{"a": 1}' * 10_000, "compress": True},
}


def whole(site: Site, path: str, url: str) -> dict[str, str]:
    """Ask, fetch what is behind the redirect, and compare; the headers of the copy."""
    copy = fetch(mirrored(site.front, url).location)
    assert (copy.status, copy.sha256) == (200, site.origin.sha256(path))
    assert copy.headers["content-length"] == str(copy.size)
    return copy.headers


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_arrives_byte_for_byte(site: Site, name: str) -> None:
    url = site.origin.put(f"/{name}", **OBJECTS[name])
    headers = whole(site, f"/{name}", url)
    assert headers.get("content-encoding") == ("gzip" if "compress" in OBJECTS[name] else None)
    assert site.front.ask(url).outcome == "hit"
    assert site.origin.count("GET", f"/{name}") == 1


def test_300_mib_arrive_byte_for_byte(site: Site) -> None:
    url = site.origin.put("/300-mib.bin", size=300 * MIB, seed=8, headers={"Content-Type": "application/x-weights"})
    assert whole(site, "/300-mib.bin", url)["content-type"] == "application/x-weights"
    assert site.origin.count("GET", "/300-mib.bin") == 1
    assert site.fleet.uploads() == []


@pytest.mark.parametrize("size", [1_000, 2 * PART_BYTES], ids=["single", "multipart"])
def test_what_says_how_to_read_an_object_is_kept(site: Site, size: int) -> None:
    said = {
        "Content-Type": "text/plain; charset=iso-8859-1",
        "Content-Encoding": "br",
        "Content-Disposition": "attachment; filename=\"a b.txt\"; filename*=UTF-8''%C3%A9.txt",
        "Content-Language": "de, fr",
    }
    path = f"/described-{size}"
    headers = whole(site, path, site.origin.put(path, size=size, seed=9, headers=said))
    assert {name: headers.get(name.lower()) for name in said} == said


def test_an_object_without_a_type_is_a_sequence_of_bytes(site: Site) -> None:
    url = site.origin.put("/typeless", b"what am I?")
    assert whole(site, "/typeless", url)["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("url_path", "target"),
    [
        ("/names/é.bin", "/names/%C3%A9.bin"),
        ("/names/%C3%A8.bin", "/names/%C3%A8.bin"),
        ("/names/two%20words.bin", "/names/two%20words.bin"),
        ("/names/a%2Fb.bin", "/names/a%2Fb.bin"),
        ("/names/a%2fb.bin", "/names/a%2fb.bin"),
        ("/names/a+b.bin", "/names/a+b.bin"),
        ("/names/(it's)!*.bin", "/names/(it's)!*.bin"),
        ("/names//double//slash.bin", "/names//double//slash.bin"),
        ("/names/up/../dots.bin", "/names/up/../dots.bin"),
        ("/names/folder/", "/names/folder/"),
        ("/names/..", "/names/.."),
        ("/names/%25.bin", "/names/%25.bin"),
        ("/q?x=é&y=a%2Fb+c%20d&z=()!'*&w=//a/../b", "/q?x=%C3%A9&y=a%2Fb+c%20d&z=()!'*&w=//a/../b"),
        ("/q?", "/q?"),
        ("/q?u=https://other.example/?v=1", "/q?u=https://other.example/?v=1"),
    ],
)
def test_the_origin_sees_what_the_client_meant(site: Site, url_path: str, target: str) -> None:
    body = f"the object at {target}".encode()
    site.origin.put(target, body)
    url = site.origin.url + url_path
    location = mirrored(site.front, url).location
    assert URI.match(location), location
    assert fetch(location).sha256 == hashlib.sha256(body).hexdigest()
    assert (site.origin.count("HEAD", target), site.origin.count("GET", target)) == (1, 1)


def test_every_form_of_a_url_is_the_same_url(site: Site) -> None:
    url = site.origin.put("/forms/a b?c=d".replace(" ", "%20"), b"one object") + ">>>???"
    site.origin.put("/forms/a%20b?c=d%3E%3E%3E???", b"one object")
    in_base64 = base64_of(url)
    assert {"+", "/"} & set(in_base64), "the test needs a URL whose base64 tells the alphabets apart"
    forms = [
        quote(url, safe=""),
        in_base64,
        in_base64.rstrip("="),
        quote(in_base64, safe=""),
        base64url_of(url),
        base64.urlsafe_b64encode(url.encode()).decode(),
    ]
    replies = [ask_raw(site.front, form) for form in forms]
    assert {reply.status for reply in replies} == {302}
    assert len({reply.location for reply in replies}) == 1
    assert fetch(replies[0].location).sha256 == hashlib.sha256(b"one object").hexdigest()
    assert site.origin.count("GET", "/forms/a%20b?c=d%3E%3E%3E???") == 1


def refused_copy(fleet: Fleet, front: Process, url: str) -> str:
    """Ask for what cannot be copied; the client must be sent to the origin, and nothing of it left. The reason."""
    before = fleet.keys()
    reply = front.ask(url)
    assert (reply.status, reply.outcome, reply.headers.get("location")) == (302, "origin", url)
    entry = entry_of(fleet, url)
    assert entry is not None
    assert entry.status is Status.ERROR
    assert (fleet.keys(), fleet.uploads()) == (before, [])
    assert front.ask(url).outcome == "origin"
    return reply.reason


WRONG_MD5 = base64.b64encode(b"\x00" * 16).decode()
WRONG_SHA256 = base64.b64encode(b"\x00" * 32).decode()
BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "wrong-md5": ("checksum-mismatch", {"body": b"abc", "headers": {"Content-MD5": WRONG_MD5}}),
    "wrong-repr-digest": (
        "checksum-mismatch",
        {"body": b"abc", "headers": {"Repr-Digest": f"sha-256=:{WRONG_SHA256}:"}},
    ),
    "wrong-md5-in-parts": (
        "checksum-mismatch",
        {"size": 2 * PART_BYTES + 1, "headers": {"Content-MD5": WRONG_MD5}},
    ),
    "shorter-than-it-says": ("origin-broke-off", {"body": b"abc", "content_length": 4}),
    "much-shorter-than-it-says": ("origin-broke-off", {"size": PART_BYTES + 9, "content_length": 12 * MIB}),
    "broken-off": ("origin-broke-off", {"body": b"abcdef", "break_after_bytes": 3}),
    "broken-off-in-parts": ("origin-broke-off", {"size": 3 * PART_BYTES, "break_after_bytes": 2 * PART_BYTES + 5}),
    "broken-off-chunked": ("origin-broke-off", {"size": MIB, "chunked": True, "break_after_bytes": MIB // 2}),
    "length-of-nobody-knows-what": ("length-unknown", {"body": b"abc", "close_delimited": True}),
    "no-digits-for-a-length": ("origin-reply", {"body": b"abc", "headers": {"Content-length": "abc"}}),
}


def test_what_is_not_whole_is_never_present(make_fleet: MakeFleet, origin: Origin) -> None:
    fleet = make_fleet(settings={"worker": {"first_backoff_s": 600.0, "longest_backoff_s": 600.0}})
    front, worker = fleet.start("serve"), fleet.start("work")
    reasons = {name: refused_copy(fleet, front, origin.put(f"/{name}", **BAD[name][1])) for name in BAD}
    assert reasons == {name: reason for name, (reason, _) in BAD.items()}
    assert worker.metric("cloud_mirror_copies_total", result="done") == 0


def test_right_digests_are_no_obstacle(site: Site) -> None:
    body = b"well summed"
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    headers = {"Content-MD5": md5, "Repr-Digest": f"sha-256=:{sha256}:, unixsum=:AAAA:"}
    whole(site, "/well-summed", site.origin.put("/well-summed", body, headers=headers))


def test_a_length_that_is_too_short_gives_what_every_client_gets_or_nothing(site: Site) -> None:
    """Whether what follows the body is seen depends on how the origin's bytes happen to come."""
    url = site.origin.put("/cut", b"abcdef", content_length=4)
    reply = site.front.ask(url)
    assert reply.status == 302
    if reply.outcome == "origin":
        assert (reply.location, reply.reason) == (url, "origin-reply")
    else:
        assert fetch(reply.location).sha256 == hashlib.sha256(b"abcd").hexdigest()


def test_limits_that_the_configuration_sets(make_fleet: MakeFleet, origin: Origin) -> None:
    source = {"allow_close_delimited": True, "max_object_bytes": "6MiB"}
    fleet = make_fleet(settings={"source": source})
    front, _ = fleet.start("serve"), fleet.start("work")
    for path, size in (("/end-small", 1_000), ("/end-parts", 6 * MIB)):
        url = origin.put(path, size=size, seed=size, close_delimited=True)
        assert fetch(mirrored(front, url).location).sha256 == origin.sha256(path)
    too_large: dict[str, Any] = {"size": 6 * MIB + 1, "seed": 3}
    assert refused_copy(fleet, front, origin.put("/large", **too_large)) == "object-too-large"
    assert refused_copy(fleet, front, origin.put("/large-chunked", chunked=True, **too_large)) == "object-too-large"
    assert refused_copy(fleet, front, origin.put("/large-end", close_delimited=True, **too_large)) == "object-too-large"


def test_an_origin_that_redirects_is_followed_where_it_may_lead(make_fleet: MakeFleet, origin: Origin) -> None:
    fleet = make_fleet(settings={"source": {"redirect_limit": 3}})
    front, _ = fleet.start("serve"), fleet.start("work")
    body = b"at the end of the way"
    origin.put("/way/end", body)
    origin.put("/way/relative", redirect_to="end", status=307)
    origin.put("/way/path?q", redirect_to="/way/./x/../relative", status=301)
    url = origin.put("/start", redirect_to=f"{origin.url}/way/path?q", status=308)
    assert fetch(mirrored(front, url).location).sha256 == hashlib.sha256(body).hexdigest()
    assert origin.count("GET", "/way/end") == 1

    one_more = front.ask(origin.put("/one-more", redirect_to=url))
    assert (one_more.status, one_more.outcome, one_more.reason) == (302, "origin", "origin-redirects")
    loop = front.ask(origin.put("/loop", redirect_to="/loop"))
    assert (loop.status, loop.outcome, loop.reason) == (302, "origin", "origin-redirects")
    assert origin.count("HEAD", "/loop") == 4
    nowhere = front.ask(origin.put("/nowhere", status=302))
    assert (nowhere.status, nowhere.reason) == (302, "origin-redirects")


@pytest.mark.parametrize("head_status", [None, 200], ids=["seen by HEAD", "seen by GET alone"])
def test_nothing_is_sent_to_a_hop_that_is_not_allowed(site: Site, head_status: int | None) -> None:
    with Origin() as stranger:
        forbidden = stranger.put("/inside", b"not for the world")
        path = f"/leads-out-{head_status}"
        url = site.origin.put(path, redirect_to=forbidden, head_status=head_status)
        for _ in range(2):
            reply = site.front.ask(url)
            assert (reply.status, reply.reason) == (403, "hop-not-allowed")
            assert "location" not in reply.headers
        assert stranger.requests == ()
    assert site.origin.count_matching("", f"^{path}$") <= 2


@pytest.mark.parametrize("status", [400, 401, 403, 405, 429, 500, 503])
def test_an_origin_that_refuses_head_is_asked_by_get(site: Site, status: int) -> None:
    path = f"/no-head-{status}"
    url = site.origin.put(path, b"a presigned object", head_status=status)
    assert fetch(mirrored(site.front, url).location).sha256 == site.origin.sha256(path)


def test_an_empty_object_whose_head_is_refused_is_copied(site: Site) -> None:
    url = site.origin.put("/no-head-empty", b"", head_status=403, accept_ranges=True, etag='"e"')
    assert fetch(mirrored(site.front, url).location).size == 0


def test_what_the_origin_does_not_give_is_answered_at_once_and_sends_no_job(
    make_fleet: MakeFleet, origin: Origin
) -> None:
    """No back end runs: a job would lie in its queue still."""
    fleet = make_fleet()
    front = fleet.start("serve")
    expected = {
        404: (404, "origin-not-found"),
        410: (410, "origin-gone"),
        429: (429, "origin-busy"),
        500: (500, "origin-error"),
        503: (503, "origin-error"),
    }
    for status, answer in expected.items():
        url = origin.put(f"/{status}", b"sorry", status=status)
        asked = [front.ask(url) for _ in range(2)]
        assert [(reply.status, reply.reason) for reply in asked] == [answer, answer]
        assert all(reply.headers["content-type"] == "application/problem+json" for reply in asked)
        assert origin.count("HEAD", f"/{status}") == 1
    refused = front.ask(origin.put("/refused", b"sorry", status=403))
    assert (refused.status, refused.outcome, refused.reason) == (302, "origin", "origin-refused")
    with Queues(fleet) as queues:
        assert queues.depth() == 0
    assert fleet.keys() == []
