"""What arrives: every kind of object, byte for byte, or an answer that says why not."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any
from urllib.parse import quote

from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.entry import Status
from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.maker import Maker, Settings
from tests.conformance.site import Site
from tests.looking import ask_raw, base64_of, base64url_of, fetch
from tests.servers import Origin

MIB = 1024 * 1024
PART_BYTES = 5 * MIB
URI = re.compile(r"http://[a-z0-9.:]+(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})+)+\Z")
"""An absolute URI by RFC 3986 whose path has no empty segment, and no query."""

LIMITED: Settings = {
    "source": {"allow_close_delimited": True, "max_object_bytes": "6MiB", "redirect_limit": 3},
    "server": {"start_wait_s": 20.0},
}
"""What a site has that copies less, follows less, and takes the end of a connection for the end of an object."""

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


def whole(site: Site, url: str) -> dict[str, str]:
    """Ask, fetch what is behind the redirect, and compare; the headers of the copy."""
    copy = fetch(site.copied(url).location)
    assert (copy.status, copy.sha256) == (200, site.origin.sha256(site.path_of(url)))
    assert copy.headers["content-length"] == str(copy.size)
    return copy.headers


@case(Redirect.READ_PRESENT, Copy.PUBLISHED, each=OBJECTS)
def an_object_arrives_byte_for_byte(make: Maker, word: str) -> None:
    site = make.site(fronts=2)
    url = site.put(word, **OBJECTS[word])
    headers = whole(site, url)
    assert headers.get("content-encoding") == ("gzip" if "compress" in OBJECTS[word] else None)
    assert site.fronts[1].ask(url).outcome == "hit"
    parts = 3 if "accept_ranges" in OBJECTS[word] else 1
    assert 1 <= site.gets(url) <= parts  # a part comes by itself unless the stream is there first


@case(Copy.FETCHED_PART, Copy.PART_UPLOADED, Copy.PUBLISHED)
def three_hundred_mib_arrive_byte_for_byte(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("300-mib.bin", size=300 * MIB, seed=8, headers={"Content-Type": "application/x-weights"})
    assert whole(site, url)["content-type"] == "application/x-weights"
    assert (site.gets(url), site.uploads(url)) == (1, [])
    assert site.front.purge(url).status == 204


@case(Copy.PUBLISHED, each=("single", "multipart"))
def what_says_how_to_read_an_object_is_kept(make: Maker, word: str) -> None:
    site = make.site(fronts=2)
    said = {
        "Content-Type": "text/plain; charset=iso-8859-1",
        "Content-Encoding": "br",
        "Content-Disposition": "attachment; filename=\"a b.txt\"; filename*=UTF-8''%C3%A9.txt",
        "Content-Language": "de, fr",
    }
    size = 1_000 if word == "single" else 2 * PART_BYTES
    headers = whole(site, site.put("described", size=size, seed=9, headers=said))
    assert {name: headers.get(name.lower()) for name in said} == said


@case(Copy.PUBLISHED)
def an_object_without_a_type_is_a_sequence_of_bytes(make: Maker) -> None:
    site = make.site(fronts=2)
    assert whole(site, site.put("typeless", b"what am I?"))["content-type"] == "application/octet-stream"


NAMES = (
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
)
"""What a client asks for after the origin, and what the origin is to see."""


@case(Copy.PUBLISHED)
def the_origin_sees_what_the_client_meant(make: Maker) -> None:
    site = make.site(fronts=2)
    for url_path, target in NAMES:
        body = f"the object at {target}".encode()
        site.origin.put(target, body)
        location = site.copied(site.origin.url + url_path).location
        assert URI.match(location), location
        assert fetch(location).sha256 == hashlib.sha256(body).hexdigest()
        assert (site.origin.count("HEAD", target), site.origin.count("GET", target)) == (1, 1), target


@case(Redirect.READ_PRESENT)
def every_form_of_a_url_is_the_same_url(make: Maker) -> None:
    site = make.site(fronts=2)
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


def refused_copy(site: Site, url: str) -> str:
    """Ask for what cannot be copied; the client must be sent to the origin, and nothing of it left. The reason."""
    reply = site.front.ask(url)
    assert (reply.status, reply.outcome, reply.headers.get("location")) == (302, "origin", url)
    entry = site.entry(url)
    assert entry is not None
    assert entry.status is Status.ERROR
    assert (site.copies(url), site.uploads(url)) == ([], [])
    assert site.front.ask(url).outcome == "origin"
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
    "wrong-crc32c": ("checksum-mismatch", {"body": b"abc", "headers": {"x-goog-hash": "crc32c=AAAAAA=="}}),
    "wrong-crc64nvme": ("checksum-mismatch", {"body": b"abc", "headers": {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}}),
    "error-page": (
        "checksum-mismatch",
        {"body": b"<html>Sorry!</html>", "headers": {"Content-Type": "text/html", "x-goog-hash": f"md5={WRONG_MD5}"}},
    ),
    "part-of-it": (
        "origin-reply",
        {"body": b"abc", "status": 206, "head_status": 200, "headers": {"Content-Range": "bytes 0-2/6"}},
    ),
    "shorter-than-it-says": ("origin-broke-off", {"body": b"abc", "content_length": 4}),
    "much-shorter-than-it-says": ("origin-broke-off", {"size": PART_BYTES + 9, "content_length": 12 * MIB}),
    "broken-off": ("origin-broke-off", {"body": b"abcdef", "break_after_bytes": 3}),
    "broken-off-in-parts": ("origin-broke-off", {"size": 3 * PART_BYTES, "break_after_bytes": 2 * PART_BYTES + 5}),
    "broken-off-chunked": ("origin-broke-off", {"size": MIB, "chunked": True, "break_after_bytes": MIB // 2}),
    "length-of-nobody-knows-what": ("length-unknown", {"body": b"abc", "close_delimited": True}),
    "no-digits-for-a-length": ("origin-reply", {"body": b"abc", "headers": {"Content-length": "abc"}}),
}


@case(Redirect.READ_ERROR, each=BAD)
def what_is_not_whole_is_never_present(make: Maker, word: str) -> None:
    site = make.site(fronts=2)
    reason, options = BAD[word]
    assert refused_copy(site, site.put(word, **options)) == reason


ETAGS = {"strong": ('"one"', '"two"'), "weak": ('W/"one"', 'W/"two"'), "none": ("", "")}
SOON: Settings = {"worker": {"first_backoff_s": 0.5, "longest_backoff_s": 0.5}}
"""What a site has where a job that failed comes back while the case looks."""


@case(Copy.PUBLISHED, each=ETAGS)
def an_object_that_changes_in_the_middle_is_one_or_the_other(make: Maker, word: str) -> None:
    """What is being sent when it changes goes on being the first, and breaks off; what is asked for then is the second.

    A copy of either is right: what is never present is the beginning of one with the end of the other.
    """
    site = make.site(SOON)
    size, (first, second) = 3 * PART_BYTES + 1, ETAGS[word]
    breaking: dict[str, Any] = {"break_after_bytes": 2 * PART_BYTES + 5, "rate_bytes_per_s": 16 * MIB}
    url = site.put("changing.bin", size=size, seed=1, etag=first, accept_ranges=True, **breaking)
    right = {site.origin.sha256(site.path_of(url))}
    site.send_job(url)
    site.wait_for_get(url)
    site.change(url, size=size, seed=2, etag=second, accept_ranges=True)
    right.add(site.origin.sha256(site.path_of(url)))
    assert fetch(site.copied(url).location).sha256 in right


@case(Copy.PUBLISHED)
def right_digests_are_no_obstacle(make: Maker) -> None:
    site = make.site(fronts=2)
    body = b"well summed"
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    headers = {"Content-MD5": md5, "Repr-Digest": f"sha-256=:{sha256}:, unixsum=:AAAA:"}
    whole(site, site.put("well-summed", body, headers=headers))


@case(Redirect.JOINED_FIRST)
def a_length_that_is_too_short_gives_what_every_client_gets_or_nothing(make: Maker) -> None:
    """Whether what follows the body is seen depends on how the origin's bytes happen to come."""
    site = make.site(fronts=2)
    url = site.put("cut", b"abcdef", content_length=4)
    reply = site.front.ask(url)
    assert reply.status == 302
    if reply.outcome == "origin":
        assert (reply.location, reply.reason) == (url, "origin-reply")
    else:
        assert fetch(reply.location).sha256 == hashlib.sha256(b"abcd").hexdigest()


@case(Copy.OPENED, Copy.FETCHED_FAULT, Copy.FETCHED_WHOLE, Copy.WRITTEN)
def limits_that_the_configuration_sets(make: Maker) -> None:
    site = make.site(LIMITED)
    for size in (1_000, 6 * MIB):
        url = site.put("end", size=size, seed=size, close_delimited=True)
        assert fetch(site.copied(url).location).sha256 == site.origin.sha256(site.path_of(url))
    for how in ("", "chunked", "close_delimited"):
        options: dict[str, Any] = {how: True} if how else {}
        too_large = site.put("large", size=6 * MIB + 1, seed=3, **options)
        assert refused_copy(site, too_large) == "object-too-large"


@case(Redirect.ORIGIN_UNREACHABLE, Redirect.READ_ERROR)
def an_origin_that_redirects_is_followed_where_it_may_lead(make: Maker) -> None:
    site = make.site(LIMITED)
    body = b"at the end of the way"
    site.origin.put("/way/end", body)
    site.origin.put("/way/relative", redirect_to="end", status=307)
    site.origin.put("/way/path?q", redirect_to="/way/./x/../relative", status=301)
    url = site.origin.put("/start", redirect_to=f"{site.origin.url}/way/path?q", status=308)
    assert fetch(site.copied(url).location).sha256 == hashlib.sha256(body).hexdigest()
    assert site.origin.count("GET", "/way/end") == 1
    loop = site.origin.put("/loop", redirect_to="/loop")
    for astray in (site.put("one-more", redirect_to=url), loop, loop, site.put("nowhere", status=302)):
        assert site.front.ask(astray).said == (302, "origin", "origin-redirects")
    assert site.origin.count("HEAD", "/loop") == 4


@case(Copy.DECLINED, Redirect.READ_NEGATIVE)
def a_hop_that_is_not_allowed_and_seen_by_get_alone_gets_nothing(make: Maker) -> None:
    site = make.site(fronts=2)
    with Origin() as stranger:
        url = site.put("leads-out", redirect_to=stranger.put("/inside", b"not for the world"), head_status=200)
        for front in site.fronts:
            reply = front.ask(url)
            assert reply.said == (403, "error", "hop-not-allowed")
            assert "location" not in reply.headers
        assert stranger.requests == ()


@case(Redirect.ORIGIN_APPROVED)
def an_origin_that_refuses_head_is_asked_by_get(make: Maker) -> None:
    site = make.site(fronts=2)
    for status in (400, 401, 403, 405, 429, 500, 503):
        whole(site, site.put(f"no-head-{status}", b"a presigned object", head_status=status))
    whole(site, site.put("no-head-empty", b"", head_status=403, accept_ranges=True, etag='"e"'))
