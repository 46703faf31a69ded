"""What an operator sees: whether a process is well, what it counts, and what it logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote

from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.maker import Maker
from tests.fleet import ADMIN_TOKEN, POOL, REGION, Process, request
from tests.looking import base64_of, say
from tests.servers import Point

SECRET = "QsecretQ4711"


@case()
def a_process_says_that_it_lives_and_is_ready(make: Maker) -> None:
    site = make.site(fronts=2)
    for process in site.running:
        for path in ("/v1/ping", "/healthz"):
            reply = request(process.base_url, path)
            assert (reply.status, json.loads(reply.body)) == (200, {"alive": True})
            assert reply.headers["content-type"] == "application/json"
        ready = request(process.base_url, "/readyz")
        assert (ready.status, json.loads(ready.body)["ready"]) == (200, True)
    redirect = site.back.ask(f"{site.origin.url}/x")
    assert redirect.said == (404, "error", "route-unknown")  # a back end answers for itself alone


@case(
    Redirect.READ_PRESENT,
    Redirect.BACKFILL_WRITTEN,
    Redirect.ORIGIN_NEGATIVE,
    Redirect.READ_ERROR,
    Copy.PUBLISHED,
    Copy.RECORDED,
)
def the_metrics_count_what_happened(make: Maker) -> None:
    site = make.own()
    front, worker = site.front, site.back
    url = site.put("counted", b"x" * 1_000)
    assert [front.ask(url).outcome for _ in range(4)] == ["copied", "hit", "hit", "hit"]
    site.forget(url)
    assert front.ask(url).outcome == "backfill"
    assert front.ask(site.put("missing", status=404)).status == 404
    assert front.ask(site.put("broken", b"abc", break_after_bytes=1)).reason == "origin-broke-off"
    assert front.purge(url).status == 204
    reply = request(front.base_url, "/metrics")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    expected = {
        ("copied", "just-copied"): 1,
        ("hit", "present"): 3,
        ("backfill", "found-in-store"): 1,
        ("refused", "origin-not-found"): 1,
        ("origin", "origin-broke-off"): 1,
    }
    for (outcome, reason), count in expected.items():
        counted = front.metric("cloud_mirror_requests_total", pool=POOL, outcome=outcome, reason=reason)
        assert counted == count, (outcome, reason)
    assert front.metric("cloud_mirror_requests_total") == sum(expected.values())
    assert front.metric("cloud_mirror_request_seconds_count") == sum(expected.values())
    assert front.metric("cloud_mirror_waiters") == 0
    assert front.metric("cloud_mirror_purges_total", pool=POOL, result="done") == 1
    worker.wait_for_metric("cloud_mirror_copies_total", 2)
    assert worker.metric("cloud_mirror_copies_total", result="done", reason="") == 1
    assert worker.metric("cloud_mirror_copies_total", result="failed", reason="origin-broke-off") == 1
    assert worker.metric("cloud_mirror_jobs_total", event="received") == 2
    assert worker.metric("cloud_mirror_copying") == 0
    assert worker.metric("cloud_mirror_copy_bytes_total") >= 1_000


def log_lines(process: Process) -> Iterator[dict[str, object]]:
    """The lines of a process's log; each must be a JSON object with what every line has."""
    for line in process.log.read_text().splitlines():
        fields = json.loads(line)
        assert {"time", "level", "logger", "event"} <= fields.keys(), line
        assert fields["level"] in ("debug", "info", "warning", "error", "critical")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields["time"])
        datetime.fromisoformat(fields["time"])
        yield fields


@case(Copy.FETCH_FAILED, Redirect.PROBE_FAILED)
def logs_are_json_lines_without_secrets(make: Maker) -> None:
    site = make.own(words=("--log-level", "debug"))
    front, worker = site.front, site.back
    url = site.put("signed", b"signed") + f"?name='x'&X-Amz-Signature={SECRET}&token={SECRET}"
    site.copied(url)
    request(front.base_url, f"/v1/redirect/s3/{REGION}/{base64_of(url)}")
    for path in (f"/v1/redirect/s3/{REGION}/{url}", f"/v1/ping?{SECRET}", f"/nowhere/{SECRET}"):
        request(front.base_url, path)
    say(front, f"GET /{SECRET} nonsense\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode(), end=True)
    broken = site.put("broken", b"abc", break_after_bytes=1) + f"?{SECRET}='{SECRET}'&{SECRET}"
    front.ask(broken)
    site.store.cut(Point.REQUEST, "PUT|GET|HEAD")
    front.ask(site.put("unstored", b"abc") + f"?key={SECRET}")
    assert front.purge(url).status == 503
    site.store.clear()
    assert front.purge(url).status == 204
    assert front.purge(url, SECRET).status == 403
    site.wait(lambda: worker.metric("cloud_mirror_copies_total", result="failed") >= 1)
    for process in site.running:
        assert "ready" in {line["event"] for line in log_lines(process)}
        text = process.log.read_text()
        hidden = [SECRET, ADMIN_TOKEN, site.fleet.seaweedfs.secret_key, base64_of(url)[:40], quote(SECRET)]
        assert [secret for secret in hidden if secret in text] == []
    assert "PRIVATE ADDRESSES ARE ALLOWED" in front.log.read_text()
    ended = [line for line in log_lines(worker) if line["event"] == "a copy ended"]
    assert {(line["url"], line["result"]) for line in ended} >= {
        (url.partition("?")[0], "done"),
        (broken.partition("?")[0], "failed"),
    }
