"""What the demo puts around a real mirror: an origin, a store, a queue and a cache, all on loopback."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import redis

from cloud_mirror.policy import MIB
from cloud_mirror_command import ask
from cloud_mirror_command.complaint import Failure
from cloud_mirror_command.demo_cache import PushingCache
from cloud_mirror_command.shells import ShellName

POOL: Final = "s3_us-west-1"
BUCKET: Final = "cloud-mirror-demo"
TOKEN: Final = "demo-token"  # noqa: S105  # guards nothing but a demo
READY_S: Final = 60.0
STOP_S: Final = 30.0

_BLOCK: Final = hashlib.shake_256(b"cloud-mirror demo").digest(MIB)
_RANGE: Final = re.compile(r"bytes=([0-9]+)-([0-9]*)\Z")


@dataclass(frozen=True, slots=True)
class Sample:
    """An object of the origin, made as it is asked for: 300 MiB take no memory."""

    name: str
    size: int

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`: each MiB is the same, but for its number in front."""
        while start < stop:
            number, offset = divmod(start, MIB)
            end = min(stop, (number + 1) * MIB)
            yield (number.to_bytes(8) + _BLOCK[8:])[offset : offset + end - start]
            start = end

    def sha256(self) -> str:
        """The SHA-256 of all of it, in hex."""
        digest = hashlib.sha256()
        for piece in self.pieces(0, self.size):
            digest.update(piece)
        return digest.hexdigest()


SAMPLES: Final = (Sample("small.bin", 1_000), Sample("middle.bin", 20 * MIB), Sample("large.bin", 300 * MIB))


class SampleOrigin(ThreadingHTTPServer):
    """Serves the samples, whole or in ranges, with a strong ETag, and counts what it is asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _OriginHandler)
        self.objects = {f"/{sample.name}": sample for sample in SAMPLES}
        self.requests: list[tuple[str, str]] = []

    @property
    def base(self) -> str:
        """By name, because a mirror takes no address for a host."""
        return f"http://localhost:{self.server_address[1]}"


class _OriginHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SampleOrigin

    def _answer(self) -> None:
        self.server.requests.append((self.command, self.path))
        sample = self.server.objects.get(self.path)
        if sample is None:
            self.send_error(404)
            return
        start, stop = 0, sample.size
        asked = _RANGE.match(self.headers.get("Range", ""))
        if asked:
            start = int(asked[1])
            stop = min(sample.size, int(asked[2] or sample.size) + 1)
            if start >= stop:
                self.send_error(416)
                return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{sample.size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{sample.name}-{sample.size}"')
        self.end_headers()
        if self.command == "GET":
            for piece in sample.pieces(start, stop):
                self.wfile.write(piece)

    do_GET = do_HEAD = _answer  # noqa: N815  # http.server calls them so

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True  # the mirror has what it wanted, or was stopped

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing: the demo's own lines are to be read."""


@dataclass(frozen=True, slots=True)
class Stage:
    """All that runs, and where."""

    origin: SampleOrigin
    cache: redis.Redis
    mirror: subprocess.Popen[bytes]
    base: str
    log: Path

    def target(self, sample: Sample) -> ask.Target:
        """The sample's URL, to be asked of the mirror."""
        return ask.Target(f"{self.origin.base}/{sample.name}", self.base, POOL)


@contextmanager
def stage(shell: ShellName) -> Iterator[Stage]:
    """Everything started, the mirror ready; all of it is stopped at the end. Raises `Failure`."""
    logging.getLogger("fakeredis").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="cloud-mirror-demo-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        origin = SampleOrigin()
        stack.enter_context(_serving(origin))
        cache = PushingCache(("127.0.0.1", 0))
        stack.enter_context(_serving(cache))
        port, aws_port = _free_port(), _free_port()
        stack.enter_context(_aws(aws_port, directory / "aws.log"))
        redis_port = int(cache.server_address[1])
        config = directory / "cloud-mirror.toml"
        config.write_text(_config(port, redis_port, aws_port, int(origin.server_address[1])))
        _setup(config, shell)
        log = directory / "mirror.log"
        mirror = stack.enter_context(_child(_command(config, "all", "--shell", shell.value), log))
        client = stack.enter_context(redis.Redis(host="127.0.0.1", port=redis_port))
        made = Stage(origin, client, mirror, f"http://127.0.0.1:{port}", log)
        _wait_until_ready(made)
        yield made


@contextmanager
def _serving(server: SampleOrigin | PushingCache) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(port: int, redis_port: int, aws_port: int, origin_port: int) -> str:
    aws = f"http://127.0.0.1:{aws_port}"
    return f"""
[server]
port = {port}
max_wait_s = 120.0
[redis]
url = "redis://127.0.0.1:{redis_port}/0"
[queue]
endpoint_url = "{aws}"
[source]
allowed_patterns = ['^http://localhost:{origin_port}/']
require_tls = false
allow_private_addresses = true
[[pool]]
service = "s3"
region = "us-west-1"
bucket = "{BUCKET}"
endpoint_url = "{aws}"
public_url = "{aws}/{BUCKET}"
"""


def _command(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "cloud_mirror_command", "--config", str(config), *words]


def _environment() -> dict[str, str]:
    """Ours, but for what would lead a mirror elsewhere; the credentials are made up."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CLOUD_MIRROR"))}
    return kept | {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "CLOUD_MIRROR_ADMIN_TOKEN": TOKEN,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _setup(config: Path, shell: ShellName) -> None:
    line = _command(config, "setup", "--shell", shell.value)
    done = subprocess.run(line, env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603  # our own words
    if done.returncode:
        raise Failure(f"`cloud-mirror setup` failed: {done.stdout} {done.stderr}")


@contextmanager
def _aws(port: int, log: Path) -> Iterator[None]:
    """S3 and SQS by moto, away from this process: while it makes 300 MiB of their parts, nothing else in it runs."""
    line = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _child(line, log) as process:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failure(f"the store and the queue did not start: {log.read_text(errors='replace')}") from None
                time.sleep(0.05)
            else:
                break
        yield


@contextmanager
def _child(line: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own, in a group of its own: Ctrl-C is for the demo to hear."""
    with log.open("wb") as file:
        process = subprocess.Popen(line, env=_environment(), stdout=file, stderr=file, start_new_session=True)  # noqa: S603  # our own words
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(made: Stage) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and made.mirror.poll() is None:
        try:
            with ask.sent("GET", f"{made.base}/readyz") as response:
                if response.status == 200:
                    return
        except Failure:
            pass  # it does not listen yet
        time.sleep(0.05)
    raise Failure(f"the mirror did not become ready: {last_words(made)}")


def last_words(made: Stage) -> str:
    """The end of the mirror's log."""
    return made.log.read_text(errors="replace")[-2_000:] or "it said nothing"
