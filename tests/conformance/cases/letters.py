"""Requests that are answered without a copy, and every byte of their answers but for the date."""

from __future__ import annotations

import re
from typing import Final

from tests.conformance.site import Site
from tests.fleet import ADMIN_TOKEN, REGION, Process
from tests.looking import base64_of, say

ROUTE: Final = f"/v1/redirect/s3/{REGION}/"


def head(line: str, *fields: str) -> bytes:
    """The last request on its connection."""
    return "\r\n".join([f"{line} HTTP/1.1", "Host: m", "Connection: close", *fields, "", ""]).encode()


def said(site: Site, front: Process, sent: bytes) -> str:
    """What a front end says to these bytes. In them, `{missing}` is a URL that the origin does not have."""
    missing = base64_of(f"{site.origin.url}/missing.bin").encode()
    heard = say(front, sent.replace(b"{missing}", missing))
    return re.sub(r"(?m)^Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", "", heard.decode()).replace(
        "\r\n", "\n"
    )


def told(content_type: str, body: str, *fields: str) -> str:
    """The rest of an answer with a body, and the end of its connection."""
    common = (*fields, "Server: cloud-mirror", f"Content-Length: {len(body)}", "Connection: close")
    return "\n".join((f"Content-Type: {content_type}", *common, "", body))


def problem(status: str, reason: str, title: str, detail: str = "", *fields: str) -> str:
    """A problem document (RFC 9457), as it is answered."""
    more = f',"detail":"{detail}"' if detail else ""
    number = status.partition(" ")[0]
    members = f'"title":"{title}","status":{number},"reason":"{reason}"{more}'
    body = f'{{"type":"urn:cloud-mirror:reason:{reason}",{members}}}\n'
    start = f"HTTP/1.1 {status}\nCloud-Mirror: error; reason={reason}\nCache-Control: no-store\n"
    return start + told("application/problem+json", body, *fields)


def bodiless(answer: str) -> str:
    """The same to HEAD."""
    return answer.partition("\n\n")[0] + "\n\n"


ALIVE: Final = "HTTP/1.1 200 OK\nCache-Control: no-store\n" + told("application/json", '{"alive":true}\n')
UNDECODABLE: Final = ("400 Bad Request", "url-undecodable", "The URL is neither percent-encoded, base64 nor base64url.")
QUERY: Final = problem(
    "400 Bad Request",
    "url-query",
    "This route takes no query: encode the whole URL into the path.",
    "This route takes no query: if it belongs to the URL, percent-encode all of it."
    " Encoded, that is https%3A%2F%2Fa.example%2Fb%3Fc%3Dd",
)
OUTSIDE: Final = "The URL is outside the patterns that this mirror may copy from."
MISSING: Final = problem("404 Not Found", "origin-not-found", "The origin has no such object.")
PURGE: Final = f"DELETE /v1/purge/s3/{REGION}/{{missing}}"

LETTERS: Final[dict[str, tuple[bytes, str]]] = {
    "alive": (head("GET /v1/ping"), ALIVE),
    "alive by HEAD": (head("HEAD /v1/ping"), bodiless(ALIVE)),
    "pipelined": (
        b"GET /healthz HTTP/1.1\r\nHost: m\r\n\r\n" + head(f"GET {ROUTE}raw"),
        ALIVE.replace("Connection: close\n", "") + problem(*UNDECODABLE, "The URL in the path is not UTF-8."),
    ),
    "raw URL": (head(f"GET {ROUTE}https://a.example/b?c=d"), QUERY),
    "raw URL by HEAD": (head(f"HEAD {ROUTE}https://a.example/b?c=d"), bodiless(QUERY)),
    "undecodable": (
        head(f"GET {ROUTE}%zz"),
        problem(*UNDECODABLE, "The path holds a % that begins no escape: write %25."),
    ),
    "user in URL": (
        head(f"GET {ROUTE}http%3A%2F%2Fa%40b.example%2F"),
        problem(
            "400 Bad Request",
            "url-userinfo",
            "The URL must not hold a user name or a password.",
            "The URL holds user info before its host: leave it out.",
        ),
    ),
    "not allowed": (
        head(f"GET {ROUTE}http%3A%2F%2Fother.example%2F"),
        problem("403 Forbidden", "url-not-allowed", OUTSIDE, OUTSIDE),
    ),
    "too long": (
        head(f"GET {ROUTE}http%3A%2F%2Fa.example%2F{'x' * 3_000}"),
        problem("400 Bad Request", "url-too-long", "The URL is too long.", "The URL is longer than 2048 bytes."),
    ),
    "no such object": (head(f"GET {ROUTE}{{missing}}"), MISSING),
    "no such object by HEAD": (head(f"HEAD {ROUTE}{{missing}}"), bodiless(MISSING)),
    "no such pool": (
        head("GET /v1/redirect/gcs/nowhere/x"),
        problem("404 Not Found", "pool-unknown", "This mirror has no pool of that service and region."),
    ),
    "no such route": (
        head("GET /nowhere"),
        problem("404 Not Found", "route-unknown", "There is nothing at this path."),
    ),
    "no such method": (
        head(f"POST {ROUTE}x"),
        problem(
            "405 Method Not Allowed",
            "method-not-allowed",
            "This path does not take that method.",
            "",
            "Allow: GET, HEAD",
        ),
    ),
    "purge without a token": (
        head(PURGE),
        problem(
            "401 Unauthorized",
            "purge-unauthorized",
            "Send the admin token as a bearer token.",
            "",
            "WWW-Authenticate: Bearer",
        ),
    ),
    "purge with a wrong token": (
        head(PURGE, "Authorization: Bearer wrong"),
        problem("403 Forbidden", "purge-forbidden", "The token is not the admin token, or purging is switched off."),
    ),
    "purge": (
        head(PURGE, f"Authorization: Bearer {ADMIN_TOKEN}"),
        "HTTP/1.1 204 No Content\nCache-Control: no-store\nServer: cloud-mirror\nConnection: close\n\n",
    ),
    "no HTTP": (
        b"hello, is anybody there?\r\n\r\n",
        problem(
            "400 Bad Request",
            "request-malformed",
            "The request is not HTTP, or larger than this server reads.",
        )
        .replace("HTTP/1.1", "HTTP/1.0")
        .replace("Connection: close\n", ""),
    ),
}
