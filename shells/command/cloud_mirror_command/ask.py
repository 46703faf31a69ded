"""The commands that speak with a running mirror, as any client would: get, rewrite, and purge by its API.

urllib3 is the client: botocore brings it along anyway, it streams, and (unlike http.client) knows about timeouts,
broken bodies and certificates in one place. Nothing is decoded: what is stored is what is written, and hashed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urljoin, urlsplit

import urllib3
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from urllib3.exceptions import HTTPError

from cloud_mirror.encoding import encode_path_url
from cloud_mirror.keys import file_name
from cloud_mirror.policy import ServerPolicy, SourcePolicy
from cloud_mirror_command import config
from cloud_mirror_command.common import console_for_people, pool_of, source_of
from cloud_mirror_command.complaint import Complaint, Failure

PATIENCE_S: Final = 300.0
"""Longer than any mirror holds a request."""

PIECE_BYTES: Final = 256 * 1024
MOST_HOPS: Final = 20
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  # what a server binds, a client cannot ask


@dataclass(frozen=True, slots=True)
class Target:
    """A source URL in canonical form, and the mirror and pool to ask for it."""

    url: str
    server: str
    pool: str

    @property
    def redirect_url(self) -> str:
        """What a client asks for."""
        return self._route("redirect")

    @property
    def purge_url(self) -> str:
        """What an operator deletes."""
        return self._route("purge")

    def _route(self, verb: str) -> str:
        service, _, region = self.pool.partition("_")
        return f"{self.server}/v1/{verb}/{service}/{region}/{encode_path_url(self.url)}"


@dataclass(frozen=True, slots=True)
class Redirect:
    """The mirror's word on the outcome, and where it sends the client."""

    outcome: str
    location: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: the mirror's word on the outcome, where the bytes were, how many, and their SHA-256."""

    outcome: str
    location: str
    size: int
    sha256: str


def target_of(file: Path | None, server: str | None, pool: str | None, url: str) -> Target:
    """What to ask whom. The configuration is read only for what the command line leaves open. Raises `Complaint`."""
    base = None if server is None else server_base(server)
    if base is not None and pool is not None:
        return Target(source_of(url, SourcePolicy().max_url_bytes).text, base, _pool_name(pool))
    policy = config.load(file)
    source = source_of(url, policy.source.max_url_bytes)
    return Target(source.text, base or _own_base(policy.server), pool_of(policy, pool).name)


def server_base(server: str) -> str:
    """The mirror's base URL without a `/` at its end. Raises `Complaint`."""
    try:
        parts = urlsplit(server)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or any(mark in server for mark in "?#@ "):
        raise Complaint("--server: must be a URL such as http://127.0.0.1:8080")
    return server.rstrip("/")


def _own_base(server: ServerPolicy) -> str:
    if server.port == 0:
        raise Complaint("--server: needed, because the configuration leaves the port open")
    host = _ANYWHERE.get(server.host, f"[{server.host}]" if ":" in server.host else server.host)
    return f"http://{host}:{server.port}"


def _pool_name(pool: str) -> str:
    service, mark, region = pool.partition("_")
    if not (service and mark and region) or "_" in region or "/" in pool:
        raise Complaint(f"--pool {pool}: must be a service and a region, such as s3_us-west-1")
    return pool


def get(target: Target, output: Path | None) -> None:
    """Fetch, with progress on stderr; the SHA-256 goes to stdout as `sha256sum` writes it. Raises `Failure`."""
    console = console_for_people(stderr=True)
    if output is None:
        output = Path(file_name(target.url))
        if output.exists():
            raise Complaint(f"{output}: is there already; name another file with -o")
    with _sink(output) as sink, _progress(console) as progress:
        task = progress.add_task("waiting for the mirror", total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, description="downloading", completed=done, total=total)

        fetched = fetch(target, sink, show)
    console.print(fetched.outcome, style="green")
    console.print(f"{fetched.size} bytes from {fetched.location.partition('?')[0]}", style="dim")
    line = f"{fetched.sha256}  {output}"
    print(line, file=sys.stderr if str(output) == "-" else sys.stdout)  # this is the output


def purge(file: Path | None, server: str, pool: str | None, url: str) -> None:
    """Purge through a mirror's API, from one pool or all of the configuration's. Raises `Failure`."""
    token = config.admin_token()
    if not token:
        raise Complaint(f"environment: {config.TOKEN_VARIABLE}: not set; a purge needs the admin token")
    pools = [pool] if pool else [each.name for each in config.load(file).pools]
    console = console_for_people()
    for name in pools:
        target = target_of(file, server, name, url)
        headers = {"Authorization": f"Bearer {token}"}
        with sent("DELETE", target.purge_url, headers) as response:
            if response.status != 204:
                raise Failure(f"not purged from {name}: {_problem(response)}")
        console.print(f"purged from {name}")


def fetch(target: Target, sink: BinaryIO, show: Callable[[int, int | None], None]) -> Fetched:
    """Ask the mirror, follow its redirect, write the bytes to `sink`; `show` hears of bytes done and in all.

    Raises `Failure` with the problem's reason where the mirror refuses, or the bytes do not come whole.
    """
    return download(redirect_of(target), sink, show)


def redirect_of(target: Target) -> Redirect:
    """Where the mirror sends a client, after it held the request for as long as it saw fit. Raises `Failure`."""
    with sent("GET", target.redirect_url) as response:
        location, outcome = response.headers.get("Location"), response.headers.get("Cloud-Mirror", "no outcome")
        if response.status not in _REDIRECTS or not location:
            raise Failure(_problem(response))
    return Redirect(outcome, urljoin(target.redirect_url, location))


def download(redirect: Redirect, sink: BinaryIO, show: Callable[[int, int | None], None]) -> Fetched:
    """Fetch what is behind the redirect. Raises `Failure`."""
    url = redirect.location
    for _ in range(MOST_HOPS):
        with sent("GET", url) as response:
            onward = response.headers.get("Location")
            if response.status in _REDIRECTS and onward:
                url = urljoin(url, onward)
                continue
            if response.status != 200:
                raise Failure(f"{redirect.outcome}: {_host(url)} answers {response.status}; try again")
            size, sha256 = _write(response, sink, show)
            return Fetched(redirect.outcome, redirect.location, size, sha256)
    raise Failure(f"{redirect.outcome}: {_host(url)} redirects more than {MOST_HOPS} times")


def _write(
    response: urllib3.BaseHTTPResponse, sink: BinaryIO, show: Callable[[int, int | None], None]
) -> tuple[int, str]:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isascii() and length.isdigit() else None
    digest, done = hashlib.sha256(), 0
    show(done, total)
    for piece in response.stream(PIECE_BYTES, decode_content=False):
        sink.write(piece)
        digest.update(piece)
        done += len(piece)
        show(done, total)
    return done, digest.hexdigest()


@contextmanager
def sent(method: str, url: str, headers: dict[str, str] | None = None) -> Iterator[urllib3.BaseHTTPResponse]:
    """The response to one request, unread. Raises `Failure` where there is none, or it breaks off while it is read.

    The target goes out as it stands: urllib3's own URLs lose dot segments.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    timeout = urllib3.Timeout(connect=10.0, read=PATIENCE_S)
    fields = {"Accept-Encoding": "identity", "User-Agent": "cloud-mirror", **(headers or {})}
    http = urllib3.PoolManager()
    try:
        pool = http.connection_from_host(parts.hostname, parts.port, parts.scheme)
        response = pool.urlopen(
            method, target, headers=fields, retries=False, redirect=False, timeout=timeout, preload_content=False
        )
        try:
            yield response
        finally:
            response.close()
    except HTTPError as error:
        raise Failure(
            f"{_host(url)} could not be asked ({type(error).__name__}); is it running, and is its URL right?"
        ) from error


def _problem(response: urllib3.BaseHTTPResponse) -> str:
    """What a refusal says: its reason and title (RFC 9457), else its status."""
    try:
        members = json.loads(response.read(PIECE_BYTES))
        return f"{members['reason']}: {members['title']}" + (f" {members['detail']}" if members.get("detail") else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the mirror answers {response.status}, and does not say why: is it a mirror?"


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2]


@contextmanager
def _sink(output: Path) -> Iterator[BinaryIO]:
    """Where the bytes go: a file appears under its name only once it is whole."""
    if str(output) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f"{output.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    except OSError as error:
        raise Failure(f"{output}: cannot be written ({error.strerror})") from error
    finally:
        partial.unlink(missing_ok=True)


def _progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal)
