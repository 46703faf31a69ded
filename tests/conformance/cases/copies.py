"""How a copy is made, given up or left to another: what origin, store, cache and queue see of it, and what is left."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.reason import Reason
from tests.conformance.case import case
from tests.conformance.maker import HASTY, Maker
from tests.conformance.site import Site, about, at
from tests.looking import fetch
from tests.servers import Point

MIB = 1024 * 1024
WRONG_MD5 = base64.b64encode(b"\x00" * 16).decode()
ACQUIRE = ("takeable", "renewable")
"""The conditions under which a worker takes a lease, and nobody else writes."""


def error_of(site: Site, url: str) -> Reason:
    """Why there is no copy, once the entry says so; nothing of it may be left in the store."""
    site.wait(lambda: (entry := site.entry(url)) is not None and entry.status is Status.ERROR)
    entry = site.entry(url)
    assert entry is not None
    assert entry.reason is not None
    assert (site.copies(url), site.uploads(url)) == ([], [])
    return entry.reason


@case(
    Copy.FETCHED_FIRST,
    Copy.UPLOAD_CREATED,
    Copy.FETCHED_PART,
    Copy.PART_UPLOADED,
    Copy.WRITTEN,
    Copy.VERIFIED,
    Copy.PUBLISHED,
    each=("known", "chunked"),
)
def an_object_of_several_parts_arrives_byte_for_byte(make: Maker, word: str) -> None:
    site = make.site(fronts=2)
    url = site.put("parts.bin", size=11 * MIB + 1, seed=len(word), chunked=word == "chunked")
    reply = site.copied(url)
    assert fetch(reply.location).sha256 == site.origin.sha256(site.path_of(url))
    assert (site.gets(url), site.uploads(url)) == (1, [])


@case(Copy.FETCHED_FAULT, Copy.RECORDED, each=("small", "in parts"))
def an_object_that_does_not_have_its_digest_is_never_present(make: Maker, word: str) -> None:
    site = make.site(fronts=2)
    size = 1_000 if word == "small" else 11 * MIB
    url = site.put("wrong-md5.bin", size=size, seed=1, headers={"Content-MD5": WRONG_MD5})
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "origin", "checksum-mismatch"), url)
    assert error_of(site, url) is Reason.CHECKSUM_MISMATCH


@case(Copy.FETCH_FAILED, Copy.CLEANED, Copy.RECORDED)
def an_origin_that_breaks_off_in_the_middle_leaves_nothing_behind(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("broken.bin", size=16 * MIB, seed=2, break_after_bytes=11 * MIB)
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "origin", "origin-broke-off"), url)
    assert error_of(site, url) is Reason.ORIGIN_BROKE_OFF


@case(Copy.DECLINED, Copy.RECORDED)
def an_origin_that_gives_by_head_and_not_by_get(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("by-head.bin", b"no", status=404, head_status=200)
    assert site.front.ask(url).said == (404, "error", "origin-not-found")
    assert error_of(site, url) is Reason.ORIGIN_NOT_FOUND


@case(Copy.OPENED_UNDELIMITED, Copy.RECORDED)
def an_object_that_only_the_connection_ends_is_not_copied(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("endless.bin", b"no end", close_delimited=True)
    assert site.front.ask(url).said == (302, "origin", "length-unknown")
    assert error_of(site, url) is Reason.LENGTH_UNKNOWN


@case(Copy.OPENED_TOO_LARGE, Copy.RECORDED)
def a_job_for_an_object_that_is_too_large_fetches_none_of_it(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("large.bin", size=513 * MIB)
    site.send_job(url)
    assert error_of(site, url) is Reason.OBJECT_TOO_LARGE
    assert site.front.ask(url).said == (302, "origin", "object-too-large")
    assert (site.heads(url), site.gets(url)) == (0, 1)


@case(Copy.STORE_FAILED, Copy.CLEANED, Copy.RECORDED)
def a_store_that_refuses_a_part_leaves_no_upload(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("refused-part.bin", size=11 * MIB, seed=3)
    site.store.answer(403, "PUT", at(url, "partNumber=2"), code="AccessDenied")
    assert site.front.ask(url).said == (302, "origin", "store-denied")
    assert error_of(site, url) is Reason.STORE_DENIED


@case(Copy.WRITE_FAILED, Copy.RECORDED)
def a_store_that_refuses_the_object_is_named(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("refused.bin", b"refused")
    site.store.answer(403, "PUT", at(url), code="AccessDenied")
    assert site.front.ask(url).said == (302, "origin", "store-denied")
    assert error_of(site, url) is Reason.STORE_DENIED


@case(Copy.WRITE_UNKNOWN, Copy.VERIFIED, Copy.PUBLISHED)
def an_object_whose_writing_was_never_confirmed_is_looked_for(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("unconfirmed.bin", b"unconfirmed")
    site.store.cut(Point.REPLY, "PUT", at(url))
    reply = site.front.ask(url)
    assert (reply.outcome, site.body(reply), site.gets(url)) == ("copied", b"unconfirmed", 1)


def overwrite(site: Site, url: str, body: bytes, copy_id: str = "") -> None:
    """Put other bytes under the copy's key, past the mirror; with another copy's name if one is given."""
    (key,) = site.copies(url)
    client = site.fleet.seaweedfs.client()
    try:
        metadata = client.head_object(Bucket=site.fleet.bucket, Key=key)["Metadata"]
        metadata |= {"upstream-length": str(len(body))} | ({"copy-id": copy_id} if copy_id else {})
        client.put_object(Bucket=site.fleet.bucket, Key=key, Body=body, Metadata=metadata)
    finally:
        client.close()


@contextmanager
def when_written(site: Site, url: str) -> Iterator[None]:
    """Have a copy made that nobody waits for. It stands in the store; the worker learns of it after the block."""
    hold = site.store.hold(Point.REPLY, "PUT", at(url))
    site.send_job(url)
    hold.wait_reached()
    try:
        yield
    finally:
        hold.release()


@case(Copy.VERIFY_WRONG, Copy.CLEANED, Copy.RECORDED)
def a_copy_that_is_found_wrong_in_the_store_is_deleted(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("spoilt.bin", b"right")
    with when_written(site, url):
        overwrite(site, url, b"not right at all")
    assert error_of(site, url) is Reason.CHECKSUM_MISMATCH


@case(Copy.VERIFY_WRONG, Copy.RETRACTED, Copy.CLEANED)
def a_renewal_that_is_found_wrong_is_served_no_more(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("spoilt-renewal.bin", b"right")
    site.copied(url)
    site.change_entry(url, expires_at=str(site.time_s() + 2_000))
    site.store.expire_in(2_000)
    with when_written(site, url):
        overwrite(site, url, b"not right at all")
    site.wait(lambda: (site.entry(url), site.copies(url)) == (None, []))
    site.store.clear()
    assert site.body(site.copied(url)) == b"right"


@case(Copy.VERIFY_OTHER, Copy.PROBE_FOUND, Copy.PUBLISHED)
def a_copy_that_another_worker_overwrote_is_as_good(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("overwritten.bin", b"one")
    with when_written(site, url):
        overwrite(site, url, b"one", copy_id="anothers")
    reply = site.copied(url)
    assert (site.body(reply), site.gets(url)) == (b"one", 1)
    entry = site.entry(url)
    assert entry is not None
    assert entry.copy_id == "anothers"


@case(Copy.VERIFY_MISSING, Copy.RECORDED)
def a_copy_that_is_not_in_the_store_is_not_published(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("vanished.bin", b"vanished")
    with when_written(site, url):
        site.delete(url)
    assert error_of(site, url) is Reason.STORE_UNAVAILABLE


@case(Copy.VERIFY_FAILED, Copy.RECORDED)
def a_copy_that_cannot_be_looked_at_is_not_published(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("unseen.bin", b"unseen")
    with when_written(site, url):
        site.store.answer(403, "HEAD", at(url))
    site.wait(lambda: (entry := site.entry(url)) is not None and entry.reason is Reason.STORE_DENIED)
    assert site.front.ask(url).said == (302, "origin", "store-denied")


@case(Copy.PROBE_FAILED, Copy.RECORDED)
def a_job_whose_store_denies_is_kept_for_later(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("denied.bin", b"denied")
    site.store.answer(403, "HEAD", at(url))
    site.send_job(url)
    assert error_of(site, url) is Reason.STORE_DENIED
    assert site.gets(url) == 0


@case(Copy.PUBLISH_REFUSED, Copy.EPOCH_ALIVE)
def a_worker_whose_lease_the_cache_forgot_publishes_nothing(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("forgotten.bin", b"forgotten")
    with when_written(site, url):
        site.forget(url)
    site.wait_for_row(Copy.PUBLISH_REFUSED)
    assert site.entry(url) is None
    assert site.front.ask(url).outcome == "backfill"
    assert site.gets(url) == 1


@case(Copy.VERIFY_MISSING, Copy.RECORD_REFUSED, Copy.EPOCH_DEAD, Copy.CLEANED)
def a_worker_that_a_purge_overtook_deletes_its_copy(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("overtaken.bin", b"A")
    with when_written(site, url):
        (old,) = site.copies(url)
        site.change(url, b"B")
        assert site.front.purge(url).status == 204
        new = site.front.ask(url)
        assert site.body(new) == b"B"
    site.wait(lambda: len(site.copies(url)) == 1)
    assert site.copies(url) != [old]
    assert site.front.ask(url).location == new.location


@case(Copy.PUBLISH_FAILED, Copy.SETTLED)
def a_copy_that_the_cache_does_not_hear_of_is_found_in_the_store(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("unpublished.bin", b"unpublished")
    site.cache.cut(Point.REQUEST, about(url, "held", status="present"))
    site.send_job(url)
    site.wait_for_row(Copy.PUBLISH_FAILED)
    site.cache.clear()
    site.forget(url)  # as after the lease
    assert site.front.ask(url).outcome == "backfill"
    assert site.gets(url) == 1


@case(Copy.RECORD_REFUSED, Copy.EPOCH_ALIVE)
def a_worker_whose_lease_the_cache_forgot_records_nothing(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("no-record.bin", b"no", status=404, get_delay_s=0.5)
    site.send_job(url)
    site.wait_for_get(url)
    site.forget(url)
    site.wait_for_row(Copy.RECORD_REFUSED)
    assert site.entry(url) is None


@case(Copy.RECORD_FAILED, Copy.SETTLED)
def a_failure_that_the_cache_does_not_hear_of_gives_the_job_back(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("unrecorded.bin", b"no", status=404)
    site.cache.cut(Point.REQUEST, about(url, "held", status="error"))
    site.send_job(url)
    site.wait_for_row(Copy.RECORD_FAILED)
    entry = site.entry(url)
    assert entry is not None
    assert entry.pending(Holder.COPYING)


@case(Copy.READ_PRESENT, Copy.SETTLED)
def a_job_for_what_is_there_copies_nothing(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("there.bin", b"there")
    site.copied(url)
    site.send_job(url)
    site.wait_for_row(Copy.READ_PRESENT)
    assert (site.gets(url), site.front.ask(url).outcome) == (1, "hit")


@case(Copy.READ_VACANT, Copy.PROBE_FOUND, Copy.PUBLISHED)
def a_job_for_what_only_the_store_knows_copies_nothing(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("stored.bin", b"stored")
    location = site.copied(url).location
    site.forget(url)
    site.send_job(url)
    site.wait(lambda: (entry := site.entry(url)) is not None and entry.status is Status.PRESENT)
    assert (site.gets(url), site.front.ask(url).location) == (1, location)


@case(Copy.READ_COPYING, Copy.PUBLISHED)
def a_job_that_came_twice_makes_one_copy(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("twice.bin", b"twice")
    with when_written(site, url):
        site.send_job(url)
        site.wait_for_row(Copy.READ_COPYING)
    assert site.copied(url).status == 302
    assert site.gets(url) == 1


@case(Copy.PROBE_STALE, Copy.WITHDRAWN)
def a_job_that_a_purge_overtook_in_the_queue_copies_nothing(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("stale.bin", b"stale")
    assert site.front.purge(url).status == 204
    site.send_job(url)
    site.wait_for_row(Copy.WITHDRAWN)
    assert (site.gets(url), site.entry(url), site.copies(url)) == (0, None, [])


@case(Copy.READ_FAILED, Copy.SETTLED)
def a_job_whose_entry_cannot_be_read_is_left_for_later(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("unread.bin", b"unread")
    site.cache.cut(Point.REQUEST, about(url, operation="read"))
    site.send_job(url)
    site.wait_for_row(Copy.READ_FAILED)
    assert site.gets(url) == 0


@case(Copy.READ_OWN, Copy.ACQUIRE_UNKNOWN, Copy.PUBLISHED)
def a_lease_whose_reply_is_lost_stands(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("own.bin", b"own")
    site.cache.cut(Point.REPLY, about(url, *ACQUIRE), times=1)
    assert site.front.ask(url).outcome == "copied"
    assert site.gets(url) == 1


@case(Copy.ACQUIRE_UNKNOWN, Copy.ACQUIRE_IN_VAIN, Copy.SETTLED)
def a_job_whose_lease_cannot_be_had_is_left_for_later(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("in-vain.bin", b"in vain")
    site.cache.cut(Point.REQUEST, about(url, *ACQUIRE))
    site.send_job(url)
    site.wait_for_row(Copy.ACQUIRE_IN_VAIN)
    assert site.gets(url) == 0


def held(url: str) -> Entry:
    """The entry of a copy that another worker makes."""
    return Entry(Status.PENDING, "another", url, holder=Holder.COPYING, since_s=1.0, copy_id="another")


@case(Copy.NOT_ACQUIRED, Copy.READ_COPYING)
def of_two_workers_the_quicker_one_copies(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("slower.bin", b"slower")
    hold = site.cache.hold(Point.REQUEST, about(url, *ACQUIRE))
    site.send_job(url)
    hold.wait_reached()
    site.set_entry(held(url))
    hold.release()
    site.wait_for_row(Copy.READ_COPYING)
    entry = site.entry(url)
    assert entry is not None
    assert (entry.token, site.gets(url)) == ("another", 0)
    site.forget(url)


@case(Copy.READ_AGEING, Copy.NOT_RENEWABLE, Copy.PUBLISHED)
def a_copy_is_renewed_by_one_worker(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("renewed-once.bin", b"renewed")
    location = site.copied(url).location
    site.change_entry(url, expires_at=str(site.time_s() + 2_000))
    site.store.expire_in(2_000)
    with when_written(site, url):
        site.send_job(url)
        site.wait_for_row(Copy.NOT_RENEWABLE)
        site.store.expire_in(100_000)
    site.wait(lambda: site.entry(url, renewal=True) is None)
    assert (site.front.ask(url).location, site.gets(url)) == (location, 2)


@case(Copy.LEASE_LOST, Copy.STOPPED, Copy.IGNORED, Copy.EPOCH_ALIVE)
def a_worker_notices_that_it_lost_its_lease_and_stops(make: Maker) -> None:
    site = make.site(HASTY)
    url = site.put("lost.bin", size=11 * MIB, rate_bytes_per_s=MIB)
    site.send_job(url)
    site.wait_for_get(url)
    site.forget(url)
    site.wait_for_row(Copy.LEASE_LOST)
    site.back.wait_for_metric("cloud_mirror_copying", 0.0)
    assert (site.entry(url), site.copies(url), site.gets(url)) == (None, [], 1)


@case(Copy.STOPPED, Copy.EPOCH_DEAD, Copy.CLEANED)
def a_worker_whose_upload_a_purge_overtook_aborts_it(make: Maker) -> None:
    site = make.site(HASTY)
    url = site.put("overtaken-parts.bin", size=30 * MIB, rate_bytes_per_s=4 * MIB)
    site.send_job(url)
    site.wait(lambda: site.uploads(url) != [])
    assert site.front.purge(url).status == 204
    site.wait_for_row(Copy.EPOCH_DEAD)
    site.back.wait_for_metric("cloud_mirror_copying", 0.0)
    assert (site.entry(url), site.copies(url), site.uploads(url)) == (None, [], [])


@case(Copy.OVERDUE, Copy.STOPPED, Copy.RECORDED)
def a_copy_that_takes_too_long_is_given_up(make: Maker) -> None:
    site = make.site(HASTY)
    url = site.put("trickle.bin", size=11 * MIB, rate_bytes_per_s=MIB / 4)
    site.send_job(url)
    assert error_of(site, url) is Reason.ORIGIN_TIMEOUT
