"""The servers that tests ask for.

Real ones are started once a run, when the first test needs them, and ended with the run: what a test keeps in them
it names after itself, or clears before it begins. Made-up ones are new for each test.
"""

import signal
import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.fleet import EVERY, MIXED, SHELLS
from tests.servers import FaultProxy, Moto, Origin, SeaweedFS, Valkey

# A run gives the same as the run before, on a slow machine too; to look for new cases: --hypothesis-profile=search
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", UNTIMED, derandomize=True)
settings.register_profile("search", UNTIMED, max_examples=5_000)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--shell trio`: which shell the tests' fleets run in; without it, conformance's cases take turns at them."""
    parser.addoption("--shell", choices=(*SHELLS, MIXED, EVERY), help="what runs the fleets' processes")


def pytest_configure() -> None:
    """Let SIGTERM end a run as Ctrl-C does, so that the servers end with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Nothing is traced while a test runs that is marked `uncounted`."""
    if item.get_closest_marker("uncounted") is None:
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(scope="session")
def shell(pytestconfig: pytest.Config) -> str:
    """The shell of this run's fleets, but for the conformance suite's."""
    chosen: str | None = pytestconfig.getoption("shell")
    return chosen if chosen in (*SHELLS, MIXED) else SHELLS[0]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A real Redis-compatible server: flush it first; whoever stops it starts it again."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 store that checks signatures; whoever stops it starts it again."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """S3 and SQS by moto, as a process of its own."""
    server = Moto(tmp_path_factory.mktemp("moto"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def moto_url(moto: Moto) -> str:
    """Where moto's server is."""
    return moto.url


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin of the test's own."""
    with Origin() as server:
        yield server


@pytest.fixture
def store_proxy(seaweedfs: SeaweedFS) -> Iterator[FaultProxy]:
    """A proxy of the test's own before the real store."""
    with FaultProxy(seaweedfs.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def queue_proxy(moto_url: str) -> Iterator[FaultProxy]:
    """A proxy of the test's own before the queue."""
    with FaultProxy(moto_url) as proxy:
        yield proxy
