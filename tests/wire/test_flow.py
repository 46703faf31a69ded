"""The main job from end to end on real servers, driven by a shell that only blocks: nothing rests on an event loop."""

import base64
import gzip
import hashlib

import pytest

from cloud_mirror import keys
from cloud_mirror.actions import Refuse, ToCopy, ToOrigin
from cloud_mirror.copy_table import Phase
from cloud_mirror.http_api import Outcome
from cloud_mirror.message import Job, to_body
from cloud_mirror.policy import MIB
from cloud_mirror.purge import Phase as PurgePhase
from cloud_mirror.reason import Reason
from cloud_mirror.wire.procedures.purge import purge
from tests.servers import FaultProxy, Origin, Point
from tests.wire.driving import drive
from tests.wire.mirrors import Mirror

KEPT = {
    "Content-Type": "text/x-test",
    "Content-Disposition": 'attachment; filename="x"',
    "Content-Language": "de",
    "ETag": '"upstream"',
}


@pytest.mark.parametrize(
    ("size", "chunked"),
    [
        *((size, False) for size in (0, 1, 5 * MIB - 1, 5 * MIB, 10 * MIB, 12 * MIB + 345)),
        *((size, True) for size in (0, 7, 5 * MIB, 12 * MIB + 345)),
    ],
)
def test_a_first_request_is_copied_and_the_next_is_a_hit(
    mirror: Mirror, origin: Origin, store_proxy: FaultProxy, size: int, chunked: bool
) -> None:
    url = origin.put("/a/some%20file.bin", size=size, seed=size, chunked=chunked, headers=KEPT)
    first = mirror.shell.redirect(url)
    assert isinstance(first, ToCopy)
    assert first.outcome is Outcome.COPIED
    reply = mirror.fetch(url, first)
    assert hashlib.sha256(reply.body).hexdigest() == origin.sha256("/a/some%20file.bin")
    assert (reply.status, len(reply.body)) == (200, size)
    for name in ("Content-Type", "Content-Disposition", "Content-Language"):
        assert reply.header(name.lower()) == KEPT[name]
    assert reply.header("content-encoding") is None
    (state,) = mirror.worked
    assert (state.phase, state.fault) == (Phase.DONE, None)
    assert mirror.depth() == (0, 0)
    assert mirror.stored() == [keys.object_key(url, "0")]
    fields = mirror.cache.fields(keys.entry_key("s3_us-west-1", url))
    assert (fields["status"], fields["size"]) == ("present", str(size))
    assert fields["sha256"] == origin.sha256("/a/some%20file.bin")
    assert reply.header("x-amz-meta-copy-id") == fields["copy_id"] == state.copy_id
    assert reply.header("x-amz-meta-url-sha256") == keys.url_sha256(url)
    assert reply.header("x-amz-meta-upstream-etag") == '"upstream"'
    store_proxy.forget()
    second = mirror.shell.redirect(url)
    assert isinstance(second, ToCopy)
    assert (second.outcome, second.epoch) == (Outcome.HIT, first.epoch)
    assert store_proxy.requests == ()
    assert origin.count("GET", "/a/some%20file.bin") == 1


def test_a_body_stays_encoded_as_it_came(mirror: Mirror, origin: Origin) -> None:
    text = b"again and again " * 1_000
    url = origin.put("/a.txt", text, compress=True)
    reply = mirror.fetch(url, mirror.shell.redirect(url))
    assert reply.header("content-encoding") == "gzip"
    assert gzip.decompress(reply.body) == text
    assert hashlib.sha256(reply.body).hexdigest() == origin.sha256("/a.txt")


@pytest.mark.parametrize("size", [10, 12 * MIB])
def test_a_digest_that_the_origin_gives_decides(mirror: Mirror, origin: Origin, size: int) -> None:
    url = origin.put("/a", size=size)
    right = "sha-256=:" + _base64(bytes.fromhex(origin.sha256("/a"))) + ":"
    origin.put("/a", size=size, headers={"Repr-Digest": right})
    assert isinstance(mirror.shell.redirect(url), ToCopy)
    wrong = origin.put("/b", size=size, headers={"Repr-Digest": "sha-256=:" + _base64(bytes(32)) + ":"})
    assert mirror.shell.redirect(wrong) == ToOrigin(Reason.CHECKSUM_MISMATCH)
    assert mirror.worked[-1].fault is Reason.CHECKSUM_MISMATCH
    assert mirror.stored() == [keys.object_key(url, "0")]
    assert mirror.depth() == (0, 1), "the job is given back"


def test_a_body_that_breaks_off_is_not_kept(mirror: Mirror, origin: Origin) -> None:
    url = origin.put("/a", size=12 * MIB, break_after_bytes=11 * MIB)
    assert mirror.shell.redirect(url, max_wait_s=5.0) == ToOrigin(Reason.ORIGIN_BROKE_OFF)
    assert mirror.stored() == []


@pytest.mark.parametrize("size", [10, 12 * MIB])
@pytest.mark.parametrize("point", [Point.REQUEST, Point.REPLY])
def test_a_store_that_breaks_off_is_asked_again_or_looked_at(
    mirror: Mirror, origin: Origin, store_proxy: FaultProxy, point: Point, size: int
) -> None:
    url = origin.put("/a", size=size, seed=3)
    for method in ("PUT", "POST"):
        store_proxy.cut(point, method, r"^/flow-[0-9a-f]*/[0-9a-f]{2}/", nth=1)
    reply = mirror.fetch(url, mirror.shell.redirect(url))
    assert hashlib.sha256(reply.body).hexdigest() == origin.sha256("/a")
    assert mirror.worked[-1].fault is None


def test_a_reply_that_is_lost_for_good_is_settled_by_looking(
    mirror: Mirror, origin: Origin, store_proxy: FaultProxy
) -> None:
    url = origin.put("/a", size=12 * MIB, seed=4)
    store_proxy.cut(Point.REPLY, "POST", "uploadId")
    reply = mirror.fetch(url, mirror.shell.redirect(url))
    assert hashlib.sha256(reply.body).hexdigest() == origin.sha256("/a")
    assert mirror.worked[-1].fault is None


def test_a_flushed_cache_is_filled_from_the_store(mirror: Mirror, origin: Origin) -> None:
    url = origin.put("/a", b"body")
    mirror.shell.redirect(url)
    mirror.cache.forget()
    origin.forget()
    second = mirror.shell.redirect(url)
    assert isinstance(second, ToCopy)
    assert second.outcome is Outcome.BACKFILL
    assert mirror.fetch(url, second).body == b"body"
    assert origin.requests == ()
    assert len(mirror.worked) == 1


def test_a_purge_leaves_nothing_and_the_next_copy_is_new(mirror: Mirror, origin: Origin) -> None:
    url = origin.put("/a", b"old")
    first = mirror.shell.redirect(url)
    assert mirror.fetch(url, first).body == b"old"
    for number in (1, 2):
        ended = drive(purge(mirror.services, url, f"epoch-{number}"), mirror.shell.perform)
        assert ended.phase is PurgePhase.DONE
        assert mirror.stored() == []
    assert mirror.fetch(url, first).status == 404
    origin.put("/a", b"new")
    second = mirror.shell.redirect(url)
    assert isinstance(second, ToCopy)
    assert (second.epoch, mirror.fetch(url, second).body) == ("epoch-2", b"new")
    assert mirror.stored() == [keys.object_key(url, "epoch-2")]


def test_a_copy_not_confirmed_for_long_is_looked_for_again(
    mirror: Mirror, origin: Origin, store_proxy: FaultProxy
) -> None:
    url, key = origin.put("/a", b"body"), ""
    mirror.shell.redirect(url)
    key = keys.entry_key("s3_us-west-1", url)
    mirror.cache.client.hset(key, "verified_at", f"{mirror.cache.now_s() - 301:.6f}")
    store_proxy.forget()
    again = mirror.shell.redirect(url)
    assert isinstance(again, ToCopy)
    assert again.outcome is Outcome.BACKFILL
    assert store_proxy.count_matching("HEAD", "/a$") == 1
    mirror.cache.client.hset(key, "verified_at", f"{mirror.cache.now_s() - 301:.6f}")
    provider = mirror.services.provider
    mirror.ask_store(provider.delete_request(keys.object_key(url, "0")), provider.read_delete)
    gone = mirror.shell.redirect(url)
    assert isinstance(gone, ToCopy)
    assert gone.outcome is Outcome.COPIED
    assert mirror.fetch(url, gone).body == b"body"


def test_an_ageing_copy_is_made_anew_beside_the_one_that_serves(
    mirror: Mirror, origin: Origin, store_proxy: FaultProxy
) -> None:
    url = origin.put("/a", b"body")
    mirror.shell.redirect(url)
    key, renewal = keys.entry_key("s3_us-west-1", url), keys.renewal_key("s3_us-west-1", url)
    mirror.cache.client.hset(key, "expires_at", f"{mirror.cache.now_s() + 2_000:.6f}")
    store_proxy.lifespan_s = 2_000
    for _ in range(2):  # one of them sends the job
        ageing = mirror.shell.redirect(url)
        assert isinstance(ageing, ToCopy)
        assert ageing.outcome is Outcome.HIT
    assert mirror.depth() == (1, 0)
    assert mirror.cache.fields(renewal)["holder"] == "queued"
    store_proxy.lifespan_s = None
    old = mirror.cache.fields(key)
    provider = mirror.services.provider
    mirror.ask_store(provider.delete_request(keys.object_key(url, "0")), provider.read_delete)
    mirror.work()
    assert mirror.cache.fields(renewal) == {}
    new = mirror.cache.fields(key)
    assert (new["status"], new["copy_id"]) == ("present", mirror.worked[-1].copy_id)
    assert float(new["expires_at"]) > float(old["expires_at"]) + 3_600
    assert mirror.depth() == (0, 0)


def test_what_the_origin_says_no_to_is_not_copied(mirror: Mirror, origin: Origin) -> None:
    assert mirror.shell.redirect(origin.url + "/missing") == Refuse(Reason.ORIGIN_NOT_FOUND, 404)
    assert mirror.shell.redirect(origin.put("/gone", status=410)) == Refuse(Reason.ORIGIN_GONE, 410)
    assert mirror.shell.redirect(origin.put("/out", redirect_to="http://elsewhere.example/x")) == Refuse(
        Reason.HOP_NOT_ALLOWED, 403
    )
    assert mirror.worked == []
    assert mirror.depth() == (0, 0)


def test_an_origin_that_asks_for_time_is_not_asked_again_meanwhile(mirror: Mirror, origin: Origin) -> None:
    url = origin.put("/busy", status=429, headers={"Retry-After": "120"})
    assert mirror.shell.redirect(url) == Refuse(Reason.ORIGIN_BUSY, 429, 120.0)
    again = mirror.shell.redirect(url)
    assert isinstance(again, Refuse)
    assert again.again_in_s is not None
    assert 0.0 < again.again_in_s <= 120.0
    assert origin.count("HEAD", "/busy") == 1


def test_redirects_and_a_head_that_lies_lead_to_the_object(mirror: Mirror, origin: Origin) -> None:
    origin.put("/real", b"body", head_status=403)
    url = origin.put("/a", redirect_to="/b?x=1")
    origin.put("/b", redirect_to=origin.url + "/real", status=307)
    assert mirror.fetch(url, mirror.shell.redirect(url)).body == b"body"


def test_a_job_for_a_url_outside_the_patterns_fetches_nothing(mirror: Mirror, origin: Origin) -> None:
    origin.put("/a", b"body")
    other = origin.url.replace("localhost", "outside.localhost") + "/a"
    queue = mirror.services.queue
    request = queue.send_request(mirror.services.queue_url, to_body(Job("s3_us-west-1", other, "0")))
    mirror.ask_queue(request, queue.read_send)
    mirror.work()
    assert mirror.worked[-1].fault is Reason.URL_NOT_ALLOWED
    assert origin.requests == ()
    assert mirror.depth() == (0, 0)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
