"""The test servers do what they say: what the other tests conclude from them rests on this."""

import contextlib
import gzip
import hashlib
import http.client
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.servers import FaultProxy, Moto, Origin, Point, SeaweedFS, ServerProcess, Valkey
from tests.servers.processes import PORTS, free_port, own_ports, wait_until

MIB = 1024 * 1024


def fetch(method: str, url: str, headers: dict[str, str] | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    """One request on a connection of its own; the target goes out as it stands. Raises where the reply breaks off."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        connection.request(method, url.split(parts.netloc, 1)[1], headers=headers or {})
        reply = connection.getresponse()
        return reply, reply.read()
    finally:
        connection.close()


@contextlib.contextmanager
def background(work: Any, *args: Any) -> Iterator[list[Any]]:
    """Do it in a thread; the list holds its result once the block is left."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(work(*args)))
    thread.start()
    try:
        yield result
    finally:
        thread.join(timeout=30)


@pytest.fixture
def bucket(seaweedfs: SeaweedFS, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    with contextlib.closing(seaweedfs.client()) as client:
        client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3(seaweedfs: SeaweedFS, store_proxy: FaultProxy) -> Iterator[Any]:
    """A client that goes through the proxy."""
    with contextlib.closing(seaweedfs.client(store_proxy.url)) as client:
        yield client


class TestProcesses:
    def test_valkey_is_empty_after_a_flush_and_after_a_restart(self, valkey: Valkey) -> None:
        assert valkey.command("SET", "a", "1") == b"+OK"
        valkey.flush()
        assert valkey.command("EXISTS", "a") == b":0"
        valkey.command("SET", "a", "1")
        valkey.stop()
        with pytest.raises(OSError, match="refused"):
            valkey.command("PING")
        valkey.start()
        assert valkey.command("EXISTS", "a") == b":0"

    def test_seaweedfs_checks_signatures_and_lets_anybody_read(self, seaweedfs: SeaweedFS, bucket: str) -> None:
        with contextlib.closing(seaweedfs.client()) as client:
            client.put_object(Bucket=bucket, Key="a", Body=b"bytes")
        assert fetch("GET", f"{seaweedfs.endpoint_url}/{bucket}/a")[1] == b"bytes"
        assert fetch("PUT", f"{seaweedfs.endpoint_url}/{bucket}/b")[0].status == 403

    def test_moto_answers_as_sqs(self, moto: Moto) -> None:
        with contextlib.closing(moto.client("sqs")) as client:
            assert client.create_queue(QueueName="servers")["QueueUrl"].endswith("/servers")

    def test_a_server_that_does_not_start_says_why(self, tmp_path: Path) -> None:
        server = ServerProcess("sh", ["sh", "-c", "echo out of luck; exit 3"], tmp_path / "log", lambda: False)
        with pytest.raises(RuntimeError, match=r"(?s)status 3.*out of luck"):
            server.start()
        assert server.pid is None

    def test_ports_are_free_with_those_beside_them(self) -> None:
        assert 10_240 <= free_port(10_000) < 20_240

    def test_no_port_is_given_to_two(self) -> None:
        assert len({free_port() for _ in range(100)}) == 100
        workers = [{"PYTEST_XDIST_WORKER": f"gw{number}", "PYTEST_XDIST_WORKER_COUNT": "3"} for number in range(3)]
        assert sorted(port for worker in workers for port in own_ports(worker)) == own_ports({}) == list(PORTS)

    def test_waiting_ends_with_the_message(self) -> None:
        with pytest.raises(TimeoutError, match="the door is shut"):
            wait_until(lambda: False, 0.01, lambda: "the door is shut")


class TestOrigin:
    def test_large_objects_are_made_as_they_are_read(self, origin: Origin) -> None:
        url = origin.put("/large", size=20 * MIB + 3, seed=7, headers={"Content-Type": "a/b"})
        reply, body = fetch("GET", url)
        assert (len(body), reply.headers["Content-Type"]) == (20 * MIB + 3, "a/b")
        assert hashlib.sha256(body).hexdigest() == origin.sha256("/large")
        assert body[:MIB] != body[MIB : 2 * MIB]
        origin.put("/other", size=20 * MIB + 3, seed=8)
        assert origin.sha256("/other") != origin.sha256("/large")

    def test_requests_are_counted_by_their_raw_target(self, origin: Origin) -> None:
        origin.put("/a%2Fb//..", b"x")
        assert fetch("GET", origin.url + "/a%2Fb//..?q=%20")[1] == b"x"
        assert origin.count("GET", "/a%2Fb//..?q=%20") == 1
        assert origin.count("HEAD", "/a%2Fb//..?q=%20") == 0
        assert origin.count_matching("GET", "^/a") == 1
        origin.forget()
        assert origin.requests == ()

    @pytest.mark.parametrize("body", [b"", b"1"])
    def test_head_says_what_get_would(self, origin: Origin, body: bytes) -> None:
        url = origin.put("/a", body, etag='"e"')
        replies = [fetch(method, url) for method in ("HEAD", "GET")]
        assert [got for _, got in replies] == [b"", body]
        assert [reply.headers["Content-Length"] for reply, _ in replies] == [str(len(body))] * 2
        assert replies[0][0].headers["ETag"] == '"e"'

    @pytest.mark.parametrize("framing", [{"chunked": True}, {"close_delimited": True}])
    def test_bodies_without_a_length(self, origin: Origin, framing: dict[str, bool]) -> None:
        reply, body = fetch("GET", origin.put("/a", size=MIB, **framing))  # type: ignore[arg-type]  # flags alone
        assert reply.headers["Content-Length"] is None
        assert hashlib.sha256(body).hexdigest() == origin.sha256("/a")

    def test_compressed_bodies_say_so(self, origin: Origin) -> None:
        reply, body = fetch("GET", origin.put("/a", b"text", compress=True))
        assert reply.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body) == b"text"
        assert hashlib.sha256(body).hexdigest() == origin.sha256("/a")

    def test_statuses_and_redirects(self, origin: Origin) -> None:
        assert fetch("GET", origin.url + "/nothing")[0].status == 404
        assert fetch("GET", origin.put("/busy", status=429))[0].status == 429
        signed = origin.put("/signed", b"x", head_status=403)
        assert (fetch("HEAD", signed)[0].status, fetch("GET", signed)[0].status) == (403, 200)
        reply, _ = fetch("GET", origin.put("/moved", redirect_to="/there"))
        assert (reply.status, reply.headers["Location"]) == (302, "/there")

    def test_ranges(self, origin: Origin) -> None:
        url = origin.put("/a", b"0123456789", etag='"e"', accept_ranges=True)
        reply, body = fetch("GET", url, {"Range": "bytes=2-4", "If-Match": '"e"'})
        assert (reply.status, body, reply.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
        assert fetch("GET", url, {"Range": "bytes=8-"})[1] == b"89"
        assert fetch("GET", url, {"Range": "bytes=10-"})[0].status == 416
        assert fetch("GET", url, {"Range": "bytes=2-4", "If-Match": '"f"'})[0].status == 412
        assert fetch("GET", url, {"Range": "bytes=2-4", "If-Range": '"f"'})[1] == b"0123456789"
        assert fetch("GET", origin.put("/b", b"0123"), {"Range": "bytes=2-3"})[0].status == 200

    def test_a_body_breaks_off_as_often_as_told(self, origin: Origin) -> None:
        url = origin.put("/a", size=MIB, break_after_bytes=1_000, break_times=1)
        with pytest.raises(http.client.IncompleteRead) as broken:
            fetch("GET", url)
        assert len(broken.value.partial) == 1_000
        assert len(fetch("GET", url)[1]) == MIB

    def test_a_length_that_is_not_the_bodys(self, origin: Origin) -> None:
        with pytest.raises(http.client.IncompleteRead) as short:
            fetch("GET", origin.put("/a", b"12345", content_length=8))
        assert short.value.partial == b"12345"
        assert fetch("GET", origin.put("/b", b"12345", content_length=3))[1] == b"123"

    def test_delays_and_rates(self, origin: Origin) -> None:
        url = origin.put("/a", size=100_000, head_delay_s=0.1, rate_bytes_per_s=500_000)
        begun = time.monotonic()
        fetch("HEAD", url)
        between = time.monotonic()
        fetch("GET", url)
        assert between - begun >= 0.1
        assert time.monotonic() - between >= 0.2

    def test_a_request_can_be_waited_for(self, origin: Origin) -> None:
        with background(fetch, "GET", origin.put("/a", get_delay_s=0.05)) as got:
            origin.wait_for("GET", "/a")
        assert got[0][0].status == 200
        with pytest.raises(TimeoutError, match="2 x GET /a"):
            origin.wait_for("GET", "/a", count=2, timeout_s=0.01)


class TestFaultProxy:
    def test_what_is_signed_passes_unchanged(self, s3: Any, store_proxy: FaultProxy, bucket: str) -> None:
        body = b"0123456789abcdef" * MIB
        s3.put_object(Bucket=bucket, Key="large", Body=body)
        assert s3.get_object(Bucket=bucket, Key="large")["Body"].read() == body
        assert store_proxy.count("GET", f"/{bucket}/large") == 1
        assert "Expiration" not in s3.head_object(Bucket=bucket, Key="large")

    def test_objects_expire_when_told(self, s3: Any, store_proxy: FaultProxy, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="a", Body=b"x")
        store_proxy.lifespan_s = 3_600
        head = s3.head_object(Bucket=bucket, Key="a")
        expires = parsedate_to_datetime(head["Expiration"].split('"')[1])
        assert (expires - head["LastModified"]).total_seconds() == 3_600
        store_proxy.expire_in(60)
        said = s3.get_object(Bucket=bucket, Key="a")["Expiration"]
        assert 57 <= (parsedate_to_datetime(said.split('"')[1]) - datetime.now(UTC)).total_seconds() <= 60
        assert fetch("GET", f"{store_proxy.url}/{bucket}/nothing")[0].headers["x-amz-expiration"] is None

    def test_a_held_request_has_not_reached_the_store(
        self, s3: Any, store_proxy: FaultProxy, seaweedfs: SeaweedFS, bucket: str
    ) -> None:
        hold = store_proxy.hold(Point.REQUEST, "PUT", "/a$")
        with background(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"x")) as put:
            hold.wait_reached()
            assert fetch("GET", f"{seaweedfs.endpoint_url}/{bucket}/a")[0].status == 404
            hold.release()
        assert put[0]["ETag"]
        s3.put_object(Bucket=bucket, Key="a", Body=b"x")  # only the first is held

    def test_a_held_reply_was_acted_on(
        self, s3: Any, store_proxy: FaultProxy, seaweedfs: SeaweedFS, bucket: str
    ) -> None:
        hold = store_proxy.hold(Point.REPLY, "PUT", "/a$")
        with background(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"x")) as put:
            hold.wait_reached()
            assert fetch("GET", f"{seaweedfs.endpoint_url}/{bucket}/a")[1] == b"x"
            assert put == []
            store_proxy.clear()
        assert put[0]["ETag"]

    def test_a_hold_that_nothing_reaches_says_so(self, store_proxy: FaultProxy) -> None:
        hold = store_proxy.hold(Point.REPLY)
        with pytest.raises(TimeoutError, match="No request"):
            hold.wait_reached(timeout_s=0.01)
        assert not hold.reached

    def test_cuts(self, s3: Any, store_proxy: FaultProxy, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="a", Body=b"x" * MIB)
        url = f"{store_proxy.url}/{bucket}/a"
        request = store_proxy.cut(Point.REQUEST, "GET", nth=1)
        store_proxy.cut(Point.REPLY, "GET", nth=2)
        store_proxy.cut(Point.REPLY, "GET", nth=3, after_bytes=1_000)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                fetch("GET", url)
        with pytest.raises(http.client.IncompleteRead) as broken:
            fetch("GET", url)
        assert len(broken.value.partial) == 1_000
        assert len(fetch("GET", url)[1]) == MIB
        assert request.struck == 4

    def test_an_upload_that_is_cut_leaves_nothing(
        self, s3: Any, store_proxy: FaultProxy, seaweedfs: SeaweedFS, bucket: str
    ) -> None:
        cut = store_proxy.cut(Point.REQUEST, "PUT", "/a$", after_bytes=1_000)
        with pytest.raises(Exception, match=r"[Cc]onnection"):
            s3.put_object(Bucket=bucket, Key="a", Body=b"x" * MIB)
        assert cut.struck == 1
        assert fetch("GET", f"{seaweedfs.endpoint_url}/{bucket}/a")[0].status == 404

    def test_canned_answers(self, s3: Any, store_proxy: FaultProxy, bucket: str) -> None:
        store_proxy.answer(503, "PUT", nth=1, code="SlowDown")
        with pytest.raises(ClientError, match="SlowDown"):
            s3.put_object(Bucket=bucket, Key="a", Body=b"x" * MIB)
        s3.put_object(Bucket=bucket, Key="a", Body=b"x")
        store_proxy.answer(403, "HEAD")
        with pytest.raises(ClientError, match="403"):
            s3.head_object(Bucket=bucket, Key="a")
        store_proxy.clear()
        assert s3.head_object(Bucket=bucket, Key="a")["ContentLength"] == 1

    def test_a_condition_on_the_head(self, s3: Any, store_proxy: FaultProxy, bucket: str) -> None:
        store_proxy.answer(403, when=lambda head: head.header("range") != "")
        assert s3.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
        assert fetch("GET", f"{store_proxy.url}/{bucket}/a", {"Range": "bytes=0-0"})[0].status == 403

    def test_delays(self, s3: Any, store_proxy: FaultProxy, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="a", Body=b"x")
        store_proxy.delay(Point.REPLY, 0.1, "HEAD")
        begun = time.monotonic()
        s3.head_object(Bucket=bucket, Key="a")
        assert time.monotonic() - begun >= 0.1

    def test_queue_requests_are_told_apart_by_their_heads(self, moto: Moto, queue_proxy: FaultProxy) -> None:
        with contextlib.closing(moto.client("sqs", queue_proxy.url)) as client:
            url = client.create_queue(QueueName="told-apart")["QueueUrl"]
            queue_proxy.answer(503, when=lambda head: head.header("x-amz-target").endswith(".SendMessage"))
            with pytest.raises(ClientError, match="503"):
                client.send_message(QueueUrl=url, MessageBody="x")
            assert "Messages" not in client.receive_message(QueueUrl=url)
        actions = [seen.head.header("x-amz-target").rpartition(".")[2] for seen in queue_proxy.requests]
        assert actions == ["CreateQueue", "SendMessage", "ReceiveMessage"]

    def test_a_store_that_is_gone_gives_no_reply(self) -> None:
        with FaultProxy(f"http://127.0.0.1:{free_port()}") as proxy, pytest.raises(ConnectionError):
            fetch("GET", f"{proxy.url}/bucket/a")
