"""The programs of docs/embedding.md, each run as it stands there, on the real servers."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from tests.fleet import REGION, Fleet, Reply, fleet_of, request
from tests.servers import Moto, Origin, SeaweedFS, ServerProcess, Valkey
from tests.servers.processes import free_port, wait_until

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ROOT / "docs" / "examples"
PAGE: Final = ROOT / "docs" / "embedding.md"


@dataclass(frozen=True)
class Example:
    """A program, the words that run it, where it has its mirror, and what a request tells of its own."""

    name: str
    words: tuple[str, ...]
    prefix: str = "/mirror"
    own: tuple[str, bytes] = ("/hello", b"hello")


UVICORN: Final = ("uvicorn", "--no-access-log", "--app-dir", str(EXAMPLES), "--port")
GUNICORN: Final = ("gunicorn", "--worker-class", "gthread", "--threads", "16", "--chdir", str(EXAMPLES))
EXAMPLE_PROGRAMS: Final = (
    Example("fastapi_app", ("-m", *UVICORN, "{port}", "fastapi_app:app"), own=("/openapi.json", b'"/where"')),
    Example("flask_app", ("-m", *GUNICORN, "--bind", "127.0.0.1:{port}", "flask_app:app")),
    Example("django_app", ("-m", *UVICORN, "{port}", "django_app:application")),
    Example("trio_program", (str(EXAMPLES / "trio_program.py"), "127.0.0.1:{port}"), "", ("/v1/ping", b"alive")),
)
ASYNC: Final = tuple(example for example in EXAMPLE_PROGRAMS if example.name != "flask_app")


class Program(ServerProcess):
    """One of the programs, as a process."""

    def __init__(self, example: Example, fleet: Fleet) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.mirror = example.prefix
        self.log = fleet.directory / f"{fleet.name}-{example.name}.log"
        words = [word.replace("{port}", str(self.port)) for word in example.words]
        environment = {**fleet.environment, "CLOUD_MIRROR_CONFIG": str(fleet.config)}
        super().__init__(example.name, [sys.executable, *words], self.log, self._is_ready, environment)

    def _is_ready(self) -> bool:
        try:
            return request(self.base_url, f"{self.mirror}/readyz").status == 200
        except OSError:
            return False

    def target(self, url: str) -> str:
        return f"{self.mirror}/v1/redirect/s3/{REGION}/{quote(url, safe='')}"

    def ask(self, url: str, method: str = "GET") -> Reply:
        return request(self.base_url, self.target(url), method)

    def waiters(self) -> int:
        text = request(self.base_url, f"{self.mirror}/metrics").body.decode()
        found = re.search(r"^cloud_mirror_waiters (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return int(float(found[1]))

    def end(self) -> int:
        """Ask it to stop, as an operator does; its exit status."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGTERM)
        status = self.wait_ended()
        return 0 if status == -signal.SIGTERM else status  # uvicorn ends by it too, once all is shut down


@contextmanager
def run(example: Example, fleet: Fleet) -> Iterator[Program]:
    """The program, serving; at the end it has stopped as it should, and nothing has broken in it."""
    program = Program(example, fleet)
    program.start()
    try:
        yield program
        assert program.end() == 0
        said = program.log.read_text()
        assert "Traceback" not in said, said
    finally:
        program.stop()


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, origin: Origin
) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("embedding"), valkey, seaweedfs, moto, origin.url)
    with fleet_of(made):
        yield made


@pytest.fixture
def patient(tmp_path: Path, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, origin: Origin) -> Iterator[Fleet]:
    """A fleet without a back end, where a request waits for one as long as it may."""
    settings = {"server": {"start_wait_s": 28.0}}
    with fleet_of(Fleet(tmp_path, valkey, seaweedfs, moto, origin.url, settings=settings)) as made:
        yield made


@pytest.fixture(scope="module")
def worker(fleet: Fleet) -> None:
    fleet.start("work")


def name(example: Example) -> str:
    return example.name


@pytest.mark.parametrize("example", EXAMPLE_PROGRAMS, ids=name)
def test_a_program_leads_to_a_copy(example: Example, fleet: Fleet, worker: None, origin: Origin) -> None:
    with run(example, fleet) as program:
        url = origin.put(f"/{example.name}/a%20b%2Fc.bin", example.name.encode())
        reply = program.ask(url)
        assert (reply.status, reply.outcome) == (302, "copied"), reply
        assert request(reply.location).body == example.name.encode()
        head = program.ask(url, "HEAD")
        assert (head.status, head.outcome, head.body, head.location) == (302, "hit", b"", reply.location)
        path, own = example.own
        assert own in request(program.base_url, path).body


def test_whoever_waits_is_answered_when_the_trio_program_is_told_to_end(patient: Fleet, origin: Origin) -> None:
    (example,) = (each for each in EXAMPLE_PROGRAMS if each.name == "trio_program")
    with ThreadPoolExecutor(1) as beside:
        with run(example, patient) as program:
            waiting = beside.submit(program.ask, origin.put("/waiting-at-the-end.bin", b"x"))
            wait_until(lambda: program.waiters() == 1, 30, lambda: f"{program.waiters()} wait")
        assert waiting.result(20).said == (302, "origin", "draining")


@pytest.mark.parametrize("example", EXAMPLE_PROGRAMS, ids=name)
def test_what_is_refused_is_refused_in_a_program_too(example: Example, fleet: Fleet) -> None:
    with run(example, fleet) as program:
        url = "https://elsewhere.example/a?b=c"
        assert (program.ask(url).status, program.ask(url).reason) == (403, "url-not-allowed")
        raw = request(program.base_url, f"{program.mirror}/v1/redirect/s3/{REGION}/{url}")
        assert (raw.status, raw.reason) == (400, "url-query")
        assert quote(url, safe="").encode() in raw.body
        missing = request(program.base_url, f"{program.mirror}/v1/nothing")
        assert (missing.status, missing.reason) == (404, "route-unknown")
        purge = f"{program.mirror}/v1/purge/s3/{REGION}/{quote(url, safe='')}"
        assert request(program.base_url, purge, "DELETE").status == 401
        token = {"Authorization": f"Bearer {fleet.environment['CLOUD_MIRROR_ADMIN_TOKEN']}"}
        assert request(program.base_url, purge, "DELETE", token).status == 204


@pytest.mark.parametrize("example", ASYNC, ids=name)
def test_a_client_that_leaves_abandons_its_request(example: Example, patient: Fleet, origin: Origin) -> None:
    with run(example, patient) as program:
        url = origin.put(f"/{example.name}/waited-for.bin", b"a")
        with socket.create_connection(("127.0.0.1", program.port), timeout=10) as client:
            client.sendall(f"GET {program.target(url)} HTTP/1.1\r\nHost: mirror\r\n\r\n".encode())
            wait_until(lambda: program.waiters() == 1, 20, lambda: "the request does not wait")
        wait_until(lambda: program.waiters() == 0, 10, lambda: "the client has left, and its request still waits")


def test_an_application_may_ask_without_http(fleet: Fleet, worker: None, origin: Origin) -> None:
    (example,) = (example for example in EXAMPLE_PROGRAMS if example.name == "fastapi_app")
    with run(example, fleet) as program:
        url = origin.put("/asked-inside.bin", b"inside")
        reply = request(program.base_url, f"/where?url={quote(url, safe='')}")
        assert reply.status == 200, reply
        assert program.ask(url).location.encode() in reply.body
        refused = request(program.base_url, f"/where?url={quote('https://elsewhere.example/a', safe='')}")
        assert refused.status == 403


def test_the_programs_stand_in_the_page_as_they_are() -> None:
    block = re.compile(r"^`docs/examples/([a-z_]+)\.py`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    shown = dict(block.findall(PAGE.read_text()))
    assert shown == {path.stem: path.read_text() for path in EXAMPLES.glob("*.py")}
    assert {example.name for example in EXAMPLE_PROGRAMS} | {"bare_core"} == set(shown)


def test_the_core_installs_and_runs_where_nothing_is_to_be_had(tmp_path: Path) -> None:
    def done(*words: str | Path) -> str:
        ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    done(sys.executable, "-m", "venv", "--without-pip", tmp_path / "fresh")
    python = tmp_path / "fresh" / "bin" / "python"
    # Without an index, what the wheel asked for could not be found, and pip would fail.
    done(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", wheel)
    names = "import importlib.metadata as m; print([d.name for d in m.distributions()])"
    assert done(python, "-I", "-c", names).strip() == "['cloud-mirror']"
    said = done(python, "-I", "-W", "error", EXAMPLES / "bare_core.py").split()
    asked = ["ReadEntry", "Claim", "ProbeCopy", "CheckOrigin", "SendJob", "WriteEntry", "ReadEntry", "Respond"]
    assert said[:-1] == asked
    assert re.fullmatch(r"https://bucket\.example/[0-9a-f]{2}/[0-9a-f]{64}/0/model\.bin", said[-1])
