"""Many requests that are being held: answered together, forgotten when they leave, and not more than may be."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import quote, urlsplit

from tests.acceptance.conftest import MakeFleet
from tests.fleet import REGION, Process, at_once, request
from tests.servers import FaultProxy, Origin, Point

PATIENT = {"start_wait_s": 20.0}


def test_five_hundred_waiters_are_answered_together(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy
) -> None:
    url = origin.put("/a.bin", b"a")
    room = {**PATIENT, "threads": 500}  # in the threaded shell each of them holds one
    fleet = make_fleet(store_url=store_proxy.url, settings={"server": room})
    front, _ = fleet.start("serve"), fleet.start("work")
    hold = store_proxy.hold(Point.REQUEST, "PUT")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(at_once, 500, lambda _: front.ask(url))
        front.wait_for_metric("cloud_mirror_waiters", 500)
        hold.release()
        replies = asked.result(30)
    assert {(reply.status, reply.outcome) for reply in replies} == {(302, "copied")}
    assert len({reply.location for reply in replies}) == 1
    assert (origin.count("HEAD", "/a.bin"), origin.count("GET", "/a.bin")) == (1, 1)
    front.wait_for_metric("cloud_mirror_waiters", 0)


def ask_and_leave_open(front: Process, url: str) -> socket.socket:
    """A connection on which a request was sent, and no answer read."""
    target = f"/v1/redirect/s3/{REGION}/{quote(url, safe='')}"
    client = socket.create_connection(("127.0.0.1", urlsplit(front.base_url).port or 0), timeout=10)
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: mirror\r\n\r\n".encode())
    return client


def test_clients_that_leave_are_forgotten(make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy) -> None:
    url = origin.put("/a.bin", b"a")
    fleet = make_fleet(store_url=store_proxy.url, settings={"server": PATIENT})
    front, back = fleet.start("serve"), fleet.start("work")
    hold = store_proxy.hold(Point.REQUEST, "PUT")
    clients = [ask_and_leave_open(front, url) for _ in range(50)]
    front.wait_for_metric("cloud_mirror_waiters", 50)
    hold.wait_reached()  # before that, a flight that nobody waits for any more need not ask for a copy
    for client in clients:
        client.close()
    front.wait_for_metric("cloud_mirror_waiters", 0)
    hold.release()
    back.wait_for_metric("cloud_mirror_copies_total", 1, result="done")
    assert front.ask(url).outcome == "hit"
    assert origin.count("GET", "/a.bin") == 1


def test_no_more_requests_are_held_than_may_be(make_fleet: MakeFleet, origin: Origin) -> None:
    url = origin.put("/a.bin", b"a")
    fleet = make_fleet(settings={"server": {**PATIENT, "max_waiters": 5}})
    front = fleet.start("serve")
    clients = [ask_and_leave_open(front, url) for _ in range(5)]
    front.wait_for_metric("cloud_mirror_waiters", 5)
    reply = front.ask(url)
    assert (reply.status, reply.outcome, reply.reason, reply.location) == (302, "origin", "too-many-waiters", url)
    clients.pop().close()
    front.wait_for_metric("cloud_mirror_waiters", 4)
    clients.append(ask_and_leave_open(front, url))
    front.wait_for_metric("cloud_mirror_waiters", 5)
    for client in clients:
        client.close()
    front.wait_for_metric("cloud_mirror_waiters", 0)


def test_a_burst_of_connections_waits_for_a_busy_process(make_fleet: MakeFleet, origin: Origin) -> None:
    """The process is stopped here: only the system takes connections, as many as the process has asked it to."""
    front = make_fleet().start("serve")
    address = ("127.0.0.1", urlsplit(front.base_url).port or 0)
    front.signal(signal.SIGSTOP)
    try:
        with ExitStack() as clients:
            for _ in range(500):
                clients.enter_context(socket.create_connection(address, timeout=5))
    finally:
        front.signal(signal.SIGCONT)
    assert request(front.base_url, "/v1/ping").status == 200
