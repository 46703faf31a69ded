"""The threaded mirror on real servers: its bound, its waiters' ends, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cloud_mirror.actions import ToCopy, ToOrigin
from cloud_mirror.http_api import Outcome
from cloud_mirror.policy import (
    MIB,
    Policy,
    PoolPolicy,
    QueuePolicy,
    RedisPolicy,
    ServerPolicy,
    SourcePolicy,
    WorkerPolicy,
)
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.providers import provider_for
from cloud_mirror.wire.setup import Outcome as StepOutcome
from cloud_mirror.wire.setup import setup_plan
from cloud_mirror.wire.sqs import SqsQueue
from cloud_mirror_sync import Mirror, perform, run
from cloud_mirror_sync.stop import Stop, StoppedError
from tests.fleet import request
from tests.servers import Moto, Origin, Valkey

PATIENCE_S = 20.0
POOL = "s3_us-west-1"
BOTH = Roles(front_end=True, back_end=True)


@pytest.fixture
def policy(valkey: Valkey, moto: Moto, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """Settings whose bucket and queues are set up."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    valkey.flush()
    name = f"sync-{secrets.token_hex(6)}"
    made = Policy(
        server=ServerPolicy(port=0, start_wait_s=PATIENCE_S, drain_s=PATIENCE_S),
        redis=RedisPolicy(valkey.url),
        queue=QueuePolicy(prefix=name, endpoint_url=moto.url),
        source=SourcePolicy((f"^{origin.url}/",), require_tls=False, allow_private_addresses=True),
        worker=WorkerPolicy(part_bytes=5 * MIB),
        pools=(PoolPolicy("s3", "us-west-1", name, endpoint_url=moto.url, public_url=f"{moto.url}/{name}"),),
    )
    stores = {pool.name: provider_for(pool) for pool in made.pools}
    for step in setup_plan(made, stores, SqsQueue(made.queue)):
        assert perform(step.run(), made).outcome is not StepOutcome.FAILED
    return made


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that comes by itself."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about"
        time.sleep(0.005)


def ready(mirror: Mirror) -> None:
    until(lambda: all(services.queue_url for services in mirror.services.values()))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Threads and sockets are as many after a test as before it."""

    def counts() -> tuple[int, int]:
        gc.collect()
        sockets = sum(isinstance(each, socket.socket) and each.fileno() >= 0 for each in gc.get_objects())
        return threading.active_count(), sockets

    before = counts()
    yield
    until(lambda: all(now <= then for now, then in zip(counts(), before, strict=True)))


def test_many_threads_ask_at_once_and_one_copy_is_made(policy: Policy, origin: Origin) -> None:
    url = origin.put("/large.bin", size=12 * MIB, seed=1, get_delay_s=0.2)
    with Mirror(policy, BOTH) as mirror, ThreadPoolExecutor(50) as clients:
        ready(mirror)
        answers = list(clients.map(lambda _: mirror.redirect(POOL, url), range(50)))
        assert {type(answer) for answer in answers} == {ToCopy}
        assert origin.count("GET", "/large.bin") == 1
        again = mirror.redirect(POOL, url)
        assert isinstance(again, ToCopy)
        assert again.outcome is Outcome.HIT
        assert mirror.purge(POOL, url).done


def test_no_more_requests_wait_than_there_are_threads(policy: Policy, origin: Origin) -> None:
    policy = replace(policy, server=replace(policy.server, threads=2))
    urls = [origin.put(f"/{number}.bin", b"bytes") for number in range(2)]
    with Mirror(policy) as mirror, ThreadPoolExecutor(2) as clients:  # nobody copies
        ready(mirror)
        stop = Stop()
        for url in urls:
            assert mirror.enter(POOL) is None
            clients.submit(mirror.answer, POOL, url, stop)
        assert mirror.redirect(POOL, urls[0]) == ToOrigin(Reason.TOO_MANY_WAITERS)
        stop.set()
        until(lambda: mirror.enter(POOL) is None)


def test_a_request_whose_client_leaves_makes_room_at_once(policy: Policy, origin: Origin) -> None:
    url = origin.put("/a.bin", b"bytes")
    with Mirror(policy) as mirror:
        ready(mirror)
        stop = Stop()
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(StoppedError):
            mirror.redirect(POOL, url, stop)


def test_a_deadline_is_kept(policy: Policy, origin: Origin) -> None:
    policy = replace(policy, server=replace(policy.server, max_wait_s=0.3))
    url = origin.put("/slow.bin", b"bytes", head_delay_s=1.0)
    with Mirror(policy) as mirror:
        ready(mirror)
        began_s = time.monotonic()
        assert mirror.redirect(POOL, url) == ToOrigin(Reason.DEADLINE)
        assert 0.3 <= time.monotonic() - began_s < 1.0


def test_closing_breaks_off_whatever_is_under_way(policy: Policy, origin: Origin) -> None:
    url = origin.put("/slow.bin", size=2 * MIB, rate_bytes_per_s=100_000)
    ended = threading.Event()

    def ask(mirror: Mirror) -> None:
        with pytest.raises(StoppedError):
            mirror.redirect(POOL, url)
        ended.set()

    began_s = time.monotonic()
    with Mirror(policy, BOTH) as mirror:
        ready(mirror)
        asking = threading.Thread(target=ask, args=(mirror,))
        asking.start()
        until(lambda: origin.count("GET", "/slow.bin") == 1)
    asking.join()
    assert ended.is_set()
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_serves_until_it_is_told_to_stop(policy: Policy, origin: Origin, number: signal.Signals) -> None:
    url = origin.put("/a.bin", b"bytes")
    seen: list[str] = []

    def client(base_url: str) -> None:
        until(lambda: request(base_url, "/readyz").status == 200)
        seen.append(request(base_url, f"/v1/redirect/s3/us-west-1/{url.replace('/', '%2F')}").outcome)
        os.kill(os.getpid(), number)

    threads: list[threading.Thread] = []

    def begin(base_url: str) -> None:
        threads.append(threading.Thread(target=client, args=(base_url,)))
        threads[0].start()

    handler = signal.getsignal(number)
    assert run(policy, front_end=True, back_end=True, ready=begin) == 0
    assert signal.getsignal(number) is handler
    threads[0].join()
    assert seen == ["copied"]


def test_a_process_that_only_copies_may_listen_nowhere(policy: Policy) -> None:
    seen: list[str] = []

    def begin(base_url: str) -> None:
        seen.append(base_url)
        os.kill(os.getpid(), signal.SIGTERM)

    assert run(policy, front_end=False, back_end=True, ready=begin) == 0
    assert seen == [""]


def test_what_cannot_be_ended_in_time_is_said_by_the_status(policy: Policy, origin: Origin) -> None:
    policy = replace(policy, server=replace(policy.server, drain_s=0.0))
    url = origin.put("/slow.bin", b"bytes", head_delay_s=2.0)
    threads: list[threading.Thread] = []

    def begin(base_url: str) -> None:
        def client() -> None:
            target = f"/v1/redirect/s3/us-west-1/{url.replace('/', '%2F')}"
            assert request(base_url, target).reason == "draining"

        def stop() -> None:
            until(lambda: origin.count("HEAD", "/slow.bin") == 1)
            os.kill(os.getpid(), signal.SIGTERM)

        threads.extend((threading.Thread(target=client), threading.Thread(target=stop)))
        for thread in threads:
            thread.start()

    assert run(policy, front_end=True, back_end=False, ready=begin) == 1
    for thread in threads:
        thread.join()
