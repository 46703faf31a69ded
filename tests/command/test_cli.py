"""The command itself: what it prints, and with which status it ends."""

import errno
import hashlib
import importlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cloud_mirror.policy import Policy
from cloud_mirror.reason import Reason
from cloud_mirror.wire.finding import Finding
from cloud_mirror.wire.setup import Outcome, StepResult
from cloud_mirror_command import logs, operate
from cloud_mirror_command.main import app

CONFIG = r"""
[server]
port = 8123
[redis]
url = "redis://:hunter2@127.0.0.1:6379/0"
[source]
allowed_patterns = ['^https://origin[.]example/']
[[pool]]
service = "s3"
region = "us-west-1"
bucket = "bucket-one"
"""
SECOND_POOL = "[[pool]]\nservice = 's3'\nregion = 'eu-west-1'\nbucket = 'bucket-two'\n"
URL = "https://origin.example/a/b.bin?x=é"
ENCODED = "https%3A%2F%2Forigin.example%2Fa%2Fb.bin%3Fx%3D%25C3%25A9"
BODY = bytes(range(256)) * 5_000


@dataclass(slots=True)
class Mirror:
    """A made-up mirror: how it answers, and what it was asked."""

    base: str = ""
    status: int = 302
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stored: int = 200
    cut: bool = False
    hold: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """A mirror that redirects to a copy on the same server."""
    made = Mirror()
    made.hold.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            made.asked.append((self.command, self.path, self.headers.get("Authorization")))
            made.hold.wait(30)
            if self.path.startswith("/v1/"):
                self._send(made.status, made.headers, made.body)
            elif self.path == "/hop":
                self._send(307, {"Location": "/b.bin?secret=1"}, b"")
            else:
                self._send(made.stored, {}, BODY)

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:-1] if made.cut and body is BODY else body)
            self.close_connection = self.close_connection or made.cut

        do_GET = do_DELETE = _answer  # noqa: N815  # http.server calls them so

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  # the base class's name

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.base = f"http://127.0.0.1:{server.server_address[1]}"
    made.headers = {"Location": f"{made.base}/hop", "Cloud-Mirror": "copied; reason=just-copied"}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def configure(text: str = CONFIG) -> None:
    Path("cloud-mirror.toml").write_text(text)


def command(*words: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "cloud_mirror_command", *words]
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": ""}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def refused(result: Result) -> str:
    """The one line of a complaint."""
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert "hunter2" not in line
    return line


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in ("setup", "serve", "work", "all", "get", "purge", "rewrite", "doctor", "demo"):
        assert f" {name} " in result.stdout


def test_help_loads_neither_a_shell_nor_the_wire() -> None:
    script = (
        "import sys\nfrom cloud_mirror_command.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'botocore', 'aiohttp', 'redis', 'pydantic', 'urllib3', 'moto', 'fakeredis'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_the_version_is_said() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("cloud-mirror ")


@pytest.mark.parametrize("words", [("serve",), ("work",), ("all",), ("setup",), ("doctor",), ("rewrite", URL)])
def test_a_bad_configuration_is_one_line_and_status_2(words: tuple[str, ...]) -> None:
    configure(CONFIG.replace("port", "prot"))
    assert refused(run(*words)) == 'cloud-mirror.toml: server.prot: unknown key; did you mean "port"?'


def test_as_a_process_too_there_is_no_traceback() -> None:
    process = command("--config", "nothing.toml", "serve")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "nothing.toml: there is no such file; name another with --config or CLOUD_MIRROR_CONFIG\n"


@pytest.mark.parametrize(
    "words",
    [("work", "--pool", "s3_nowhere"), ("all", "--pool", "s3_nowhere"), ("rewrite", URL, "--pool", "s3_nowhere")],
)
def test_an_unknown_pool_is_one_line_and_status_2(words: tuple[str, ...]) -> None:
    configure()
    assert refused(run(*words)) == "--pool s3_nowhere: unknown pool; the configuration has s3_us-west-1"


def test_a_shell_without_its_libraries_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(name: str) -> None:
        raise ModuleNotFoundError("No module named 'aiohttp'", name="aiohttp")

    monkeypatch.setattr(importlib, "import_module", lacks)
    configure()
    assert refused(run("serve")) == "--shell asyncio: aiohttp is missing; run: pip install 'cloud-mirror[asyncio]'"


def test_a_service_that_no_class_implements_is_said() -> None:
    configure(CONFIG.replace('service = "s3"', 'service = "tape"'))
    assert "'tape'" in refused(run("setup"))


def test_an_unknown_level_is_said() -> None:
    configure()
    assert refused(run("serve", "--log-level", "loud")).startswith("--log-level loud: unknown level; choose one of")


def test_rewrite_prints_the_url_to_ask_for() -> None:
    configure()
    assert run("rewrite", URL).stdout == f"http://127.0.0.1:8123/v1/redirect/s3/us-west-1/{ENCODED}\n"


def test_rewrite_needs_no_configuration_where_server_and_pool_are_given() -> None:
    result = run("rewrite", URL, "--server", "https://mirror.example/", "--pool", "s3_eu-west-1")
    assert result.stdout == f"https://mirror.example/v1/redirect/s3/eu-west-1/{ENCODED}\n"


def test_of_several_pools_one_must_be_chosen() -> None:
    configure(CONFIG + SECOND_POOL)
    assert "choose one of s3_us-west-1, s3_eu-west-1" in refused(run("rewrite", URL))
    assert run("rewrite", URL, "--pool", "s3_eu-west-1").exit_code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("https://u:hunter2@origin.example/",), "url-userinfo: "),
        (("ftp://origin.example/",), "url-scheme: "),
        ((URL, "--server", "mirror"), "--server: must be a URL"),
        ((URL, "--server", "http://m", "--pool", "s3"), "--pool s3: must be a service and a region"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(words: tuple[str, ...], expected: str) -> None:
    configure()
    assert refused(run("rewrite", *words)).startswith(expected)


def test_get_follows_to_the_copy_and_writes_it(mirror: Mirror) -> None:
    result = run("get", URL, "--server", mirror.base, "--pool", "s3_us-west-1")
    assert result.exit_code == 0
    assert Path("b.bin").read_bytes() == BODY
    assert result.stdout == f"{hashlib.sha256(BODY).hexdigest()}  b.bin\n"
    assert "copied; reason=just-copied" in result.stderr
    assert [path for _, path, _ in mirror.asked] == [
        f"/v1/redirect/s3/us-west-1/{ENCODED}",
        "/hop",
        "/b.bin?secret=1",
    ]
    assert list(Path().iterdir()) == [Path("b.bin")]


def test_get_writes_where_it_is_told_and_overwrites_only_then(mirror: Mirror) -> None:
    configure()
    Path("b.bin").write_bytes(b"mine")
    assert refused(run("get", URL, "--server", mirror.base)) == "b.bin: is there already; name another file with -o"
    assert mirror.asked == []
    assert run("get", URL, "--server", mirror.base, "-o", "b.bin").exit_code == 0
    assert Path("b.bin").read_bytes() == BODY


def test_get_can_write_to_standard_output(mirror: Mirror) -> None:
    result = run("get", URL, "--server", mirror.base, "--pool", "s3_us-west-1", "-o", "-")
    assert result.stdout_bytes == BODY
    assert hashlib.sha256(BODY).hexdigest() in result.stderr


def failed(result: Result) -> str:
    assert result.exit_code == 1
    assert list(Path().glob("b.bin*")) == []
    return result.stderr.splitlines()[-1]


def test_get_ends_with_the_problems_reason(mirror: Mirror) -> None:
    members = {"reason": "url-not-allowed", "title": "The URL is outside.", "status": 403, "detail": "Ask for less."}
    mirror.status, mirror.body = 403, json.dumps(members).encode()
    result = run("get", URL, "--server", mirror.base, "--pool", "s3_us-west-1")
    assert failed(result) == "url-not-allowed: The URL is outside. Ask for less."


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"reason": 1}'])
def test_get_says_so_where_what_answers_is_no_mirror(mirror: Mirror, body: bytes) -> None:
    mirror.status, mirror.body = 200, body
    result = run("get", URL, "--server", mirror.base, "--pool", "s3_us-west-1")
    assert failed(result) == "the mirror answers 200, and does not say why: is it a mirror?"


def test_get_fails_where_the_copy_is_gone_or_comes_cut_short(mirror: Mirror) -> None:
    mirror.stored = 404
    assert "answers 404" in failed(run("get", URL, "--server", mirror.base, "--pool", "s3_us-west-1"))
    mirror.stored, mirror.cut = 200, True
    assert "could not be asked (ProtocolError)" in failed(
        run("get", URL, "--server", mirror.base, "--pool", "s3_us-west-1")
    )


def test_get_fails_where_redirects_never_end(mirror: Mirror) -> None:
    mirror.stored = 302
    mirror.headers["Location"] = f"{mirror.base}/v1/again"
    assert "redirects more than 20 times" in failed(run("get", URL, "--server", mirror.base, "--pool", "s3_us-west-1"))


def test_get_says_where_nobody_listens(mirror: Mirror) -> None:
    result = run("get", URL, "--server", "http://127.0.0.1:1", "--pool", "s3_us-west-1")
    assert "127.0.0.1:1 could not be asked" in failed(result)


def test_ctrl_c_ends_get_without_a_traceback_or_a_remnant(mirror: Mirror) -> None:
    mirror.hold.clear()
    process = command("get", URL, "--server", mirror.base, "--pool", "s3_us-west-1")
    deadline = threading.Event()
    while not mirror.asked:
        assert process.poll() is None
        deadline.wait(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")
    assert list(Path().iterdir()) == []


def test_purge_through_a_mirror_sends_the_token(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(CONFIG + SECOND_POOL)
    assert refused(run("purge", URL, "--server", mirror.base)).startswith(
        "environment: CLOUD_MIRROR_ADMIN_TOKEN: not set"
    )
    monkeypatch.setenv("CLOUD_MIRROR_ADMIN_TOKEN", "open-sesame")
    mirror.status, mirror.headers = 204, {}
    result = run("purge", URL, "--server", mirror.base)
    assert result.stdout == "purged from s3_us-west-1\npurged from s3_eu-west-1\n"
    assert mirror.asked == [
        ("DELETE", f"/v1/purge/s3/{region}/{ENCODED}", "Bearer open-sesame") for region in ("us-west-1", "eu-west-1")
    ]
    mirror.status, mirror.body = 503, b'{"reason": "cache-unavailable", "title": "Later."}'
    result = run("purge", URL, "--server", mirror.base, "--pool", "s3_us-west-1")
    assert failed(result) == "not purged from s3_us-west-1: cache-unavailable: Later."
    assert "open-sesame" not in result.output


@dataclass(frozen=True, slots=True)
class Purged:
    done: bool
    reason: Reason | None = None


@dataclass(slots=True)
class FakeShell:
    """A shell that gives what it was told to, and remembers what it was asked."""

    answers: list[object] = field(default_factory=list)
    runs: list[tuple[bool, bool, tuple[str, ...] | None]] = field(default_factory=list)
    fault: Exception | None = None
    policy: Policy | None = None

    def perform(self, *_: object) -> object:
        return self.answers.pop(0)

    def purge(self, *_: object) -> object:
        return self.answers.pop(0)

    def run(
        self,
        policy: Policy,
        *,
        front_end: bool,
        back_end: bool,
        pools: tuple[str, ...] | None,
        ready: Callable[[str], None],
    ) -> int:
        self.policy = policy
        ready("http://here")
        if self.fault is not None:
            raise self.fault
        self.runs.append((front_end, back_end, pools))
        return 0


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> FakeShell:
    """The shell that every command gets; nor is the logging of this process touched."""
    made = FakeShell()
    monkeypatch.setattr(operate, "load_shell", lambda _: made)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    return made


def test_serve_work_and_all_run_what_they_say(shell: FakeShell) -> None:
    configure(CONFIG + SECOND_POOL)
    for words in (("serve",), ("work",), ("work", "--pool", "s3_eu-west-1", "--pool", "s3_us-west-1"), ("all",)):
        assert run(*words).exit_code == 0
    assert shell.runs == [
        (True, False, None),
        (False, True, None),
        (False, True, ("s3_eu-west-1", "s3_us-west-1")),
        (True, True, None),
    ]


def test_the_memory_is_for_the_pools_that_a_process_copies_for(shell: FakeShell) -> None:
    configure(CONFIG + SECOND_POOL + "[worker]\nconcurrency = 10\nmemory_budget = '100MiB'\n")
    for role in ("work", "all"):
        assert "at least 200MiB" in (said := refused(run(role)))
        assert said.startswith("worker.memory_budget: must be")
        assert "for each of 2 pools" in said
        assert run(role, "--pool", "s3_eu-west-1").exit_code == 0
        assert shell.policy is not None
        known = [pool.name for pool in shell.policy.pools]
        assert known == (["s3_eu-west-1"] if role == "work" else ["s3_us-west-1", "s3_eu-west-1"])
    assert run("serve").exit_code == 0


@pytest.mark.parametrize(
    ("words", "address"),
    [
        (("serve",), "127.0.0.1:8123"),
        (("all",), "127.0.0.1:8123"),
        (("serve", "--host", "::1", "--port", "1"), "[::1]:1"),
        (("work", "--port", "8124"), "127.0.0.1:8124"),
        (("work", "--host", "localhost", "--port", "8124"), "localhost:8124"),
    ],
)
@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (OSError(errno.EADDRINUSE, "in use"), "another process listens there; choose another with --port"),
        (PermissionError(errno.EACCES, "denied"), "this user may not listen there; choose another with --port"),
        (OSError(errno.EADDRNOTAVAIL, "elsewhere"), "this machine has no such address; choose another with --host"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "there is no such host"),
        (OSError(socket.EAI_AGAIN, "as socket.create_server has it"), "there is no such host"),
    ],
)
def test_where_a_process_cannot_listen_is_one_line(
    shell: FakeShell, words: tuple[str, ...], address: str, fault: OSError, remedy: str
) -> None:
    configure()
    shell.fault = fault
    assert refused(run(*words)).startswith(f"{address}: {remedy}")


@pytest.mark.parametrize("name", ["asyncio", "trio", "sync"])
def test_no_shell_makes_a_traceback_of_a_host_that_there_is_none_of(name: str) -> None:
    configure()
    # No resolver is asked: with its colons it can be no name.
    with command("serve", "--shell", name, "--host", "::g") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("[::g]:8123: there is no such host")


@pytest.mark.parametrize("fault", [ValueError("https://u:hunter2@h/"), OSError(errno.EIO, "broken")])
def test_a_fault_of_the_shell_is_logged_and_not_shown(
    shell: FakeShell, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    configure()
    shell.fault = fault
    result = run("serve")
    assert (result.exit_code, result.output) == (1, "")
    assert caplog.records[-1].getMessage() == "ended by a fault of its own"
    assert caplog.records[-1].exc_info is not None


def test_setup_shows_every_step_and_fails_with_one(shell: FakeShell) -> None:
    configure()
    shell.answers += [StepResult(Outcome.DONE)] * 5 + [StepResult(Outcome.ALREADY_THERE)]
    result = run("setup")
    assert result.exit_code == 0
    assert "done          s3_us-west-1: create bucket bucket-one\n" in result.stdout
    assert "already there s3_us-west-1: queue cloud-mirror-s3_us-west-1\n" in result.stdout
    assert result.stdout.endswith("All 6 steps are done.\n")
    shell.answers += [StepResult(Outcome.FAILED, "AccessDenied", "give the right")] * 6
    result = run("setup")
    assert result.exit_code == 1
    assert "create bucket bucket-one: AccessDenied\n              give the right\n" in result.stdout


def test_doctor_shows_every_finding_and_fails_with_one(shell: FakeShell) -> None:
    configure()
    good, warning = Finding(True, "fine"), Finding(True, "so so", "do this")
    shell.answers += [good, warning, *[good] * 30]
    result = run("doctor")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:4]] == ["ok", "warning", "ok"]
    assert "do this" in result.stdout
    shell.answers[:] = [Finding(False, "no https://u:hunter2@h/", "mend it"), *[good] * 30]
    result = run("doctor")
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert "mend it" in result.stdout
    assert "hunter2" not in result.stdout
    assert "1 of " in result.stdout.splitlines()[-1]


def test_purge_without_a_server_goes_to_every_pool_itself(shell: FakeShell) -> None:
    configure(CONFIG + SECOND_POOL)
    shell.answers = [Purged(True), Purged(False, Reason.CACHE_UNAVAILABLE)]
    result = run("purge", URL)
    assert result.exit_code == 1
    assert result.stdout == "purged from s3_us-west-1\n"
    assert result.stderr.startswith("not purged from s3_eu-west-1: cache-unavailable: ")
