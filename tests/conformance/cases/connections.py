"""What is said on a connection, byte for byte: one request after another, several at once, a client that is slow."""

from __future__ import annotations

import re
import socket
from urllib.parse import quote, urlsplit

from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.cases.letters import LETTERS, ROUTE, bodiless, head, said, told
from tests.conformance.maker import Maker
from tests.fleet import REGION, Process
from tests.looking import PATIENCE_S, say

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@case(Redirect.READ_ABSENT, Redirect.READ_PRESENT)
def a_redirect_is_so_to_the_letter(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("letters.bin", b"letters")
    for word in ("copied; reason=just-copied", "hit; reason=present", "hit; reason=present"):
        method = "HEAD" if word.startswith("hit") else "GET"
        answer = said(site, site.front, head(f"{method} {ROUTE}{quote(url, safe='')}"))
        (key,) = site.copies(url)
        location = f"{site.store.url}/{site.fleet.bucket}/{key}"
        start = f"HTTP/1.1 302 Found\nLocation: {location}\nCloud-Mirror: {word}\nCache-Control: no-store\n"
        whole = start + told("application/json", f'{{"location":"{location}"}}\n')
        assert answer == (bodiless(whole) if method == "HEAD" else whole)


@case(Redirect.ORIGIN_NEGATIVE, Redirect.READ_NEGATIVE)
def what_is_said_is_so_to_the_letter(make: Maker) -> None:
    site = make.site(fronts=2)
    for front in site.fronts:
        for what, (sent, answer) in LETTERS.items():
            assert said(site, front, sent) == answer, what


def connected(front: Process) -> socket.socket:
    """A connection to a front end."""
    parts = urlsplit(front.base_url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=PATIENCE_S)


def ask(target: str, method: str = "GET") -> bytes:
    """A request as it goes over the wire."""
    return f"{method} {target} HTTP/1.1\r\nHost: m\r\n\r\n".encode()


@case(Redirect.READ_PRESENT)
def a_connection_carries_one_request_after_another(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("kept-alive.bin", b"kept alive")
    site.copied(url)
    route = f"/v1/redirect/s3/{REGION}/{quote(url, safe='')}"
    with connected(site.front) as connection, connection.makefile("rb") as heard:
        for target, status in (("/v1/ping", 200), (route, 302), ("/nowhere", 404), (f"{route}?x", 400), (route, 302)):
            connection.sendall(ask(target))
            assert heard.readline().split()[1] == str(status).encode(), target
            fields: dict[bytes, bytes] = {}
            while line := heard.readline().rstrip().lower():
                name, _, fields[name] = line.partition(b": ")
            assert b"connection" not in fields, fields
            assert len(heard.read(int(fields[b"content-length"]))) > 0


@case(Redirect.READ_ABSENT)
def what_is_pipelined_is_answered_in_its_order(make: Maker) -> None:
    """Also where the first answer has to wait for a copy, and the others need not."""
    site = make.site(fronts=2)
    url = site.put("pipelined.bin", b"pipelined", get_delay_s=0.3)
    route = f"/v1/redirect/s3/{REGION}/{quote(url, safe='')}"
    asked = [ask(route), ask("/v1/ping"), ask(route, "HEAD"), ask("/nowhere"), head("GET /v1/ping")]
    heard = say(site.front, b"".join(asked))
    assert STATUS.findall(heard) == [b"302", b"200", b"302", b"404", b"200"]
    assert site.gets(url) == 1
