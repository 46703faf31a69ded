"""Objects that are read in parts, each by itself: what is gone on with where something breaks off."""

from __future__ import annotations

import signal
from typing import Any, Final

from cloud_mirror.copy_table import Row as Copy
from tests.conformance.case import case
from tests.conformance.cases.ends import MIB, SHORT, get, kept, sha256_of
from tests.conformance.maker import Maker
from tests.conformance.site import Site
from tests.fleet import sends_message
from tests.servers import Point

IN_RANGES: Final[dict[str, Any]] = {"etag": '"e"', "accept_ranges": True}


def arrives(site: Site, url: str) -> None:
    """The copy is made, and has every byte of the object; nothing is left of how it was made."""
    reply = site.copied(url)
    assert sha256_of(reply) == site.origin.sha256(site.path_of(url))
    assert site.uploads(url) == []


@case(
    Copy.UPLOAD_NOT_FOUND,
    Copy.UPLOAD_CREATED,
    Copy.RESERVED,
    Copy.FETCHED_PART,
    Copy.PART_UPLOADED,
    Copy.WRITTEN,
    Copy.PUBLISHED,
    Copy.TAGGED,
)
def parts_are_asked_for_beside_one_another(make: Maker) -> None:
    """The first comes out of the answer to the whole, the others by their ranges."""
    site = make.site(fronts=2)
    url = site.put("ranges.bin", size=11 * MIB + 1, seed=4, **IN_RANGES)
    arrives(site, url)
    assert site.gets(url) == 3


@case(Copy.FETCH_BROKE_OFF, Copy.PUBLISHED)
def a_download_that_breaks_off_is_gone_on_with(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("breaks.bin", size=11 * MIB + 1, seed=5, break_after_bytes=MIB + 7, break_times=5, **IN_RANGES)
    arrives(site, url)


@case(Copy.FETCH_APART, Copy.CLEANED, Copy.FETCHED_FIRST, Copy.PUBLISHED)
def an_origin_that_does_not_keep_to_its_word_is_read_in_one_stream(make: Maker) -> None:
    """It promises ranges, and answers each with the whole."""
    site = make.site(fronts=2)
    url = site.put("whole.bin", size=11 * MIB + 1, seed=6, etag='"e"', headers={"Accept-Ranges": "bytes"})
    arrives(site, url)


@case(Copy.FETCH_APART, Copy.CLEANED, Copy.PUBLISHED)
def parts_of_two_objects_are_put_together_by_nobody(make: Maker) -> None:
    """Each body breaks off, so that there are more to be asked for when the object changes."""
    site = make.site(fronts=2)
    url = site.put("changes.bin", size=11 * MIB, seed=8, break_after_bytes=MIB, **IN_RANGES)
    site.send_job(url)
    site.wait(lambda: site.uploads(url) != [])
    site.change(url, size=11 * MIB, seed=9, etag='"another"', accept_ranges=True)
    arrives(site, url)


@case(Copy.DRAINED, Copy.REQUEUED, Copy.UPLOAD_FOUND, Copy.PUBLISHED)
def what_a_worker_has_uploaded_that_is_told_to_end_is_not_fetched_again(make: Maker) -> None:
    site = make.own({"worker": {"concurrency": 1}})  # without a poll, see SHORT
    size = 30 * MIB
    url = site.put("ended.bin", size=size, seed=10, rate_bytes_per_s=size / 24, **IN_RANGES)
    ending = site.back
    with kept(ending) as connection:
        site.send_job(url)
        site.wait(lambda: (entry := site.entry(url)) is not None and (entry.bytes_done or 0) > 0)
        site.start_back()
        site.change(url, size=size, seed=10, **IN_RANGES)
        site.origin.forget()
        hold = site.queue.hold(Point.REQUEST, when=sends_message)
        ending.signal(signal.SIGTERM)
        hold.wait_reached()
        site.note(get(connection, "/metrics")[1])
        hold.release()
        assert ending.wait_ended() == 0
    arrives(site, url)
    assert 0 < site.gets(url) < 6


@case(Copy.UPLOAD_FOUND, Copy.PUBLISHED)
def what_a_killed_worker_has_uploaded_is_not_fetched_again(make: Maker) -> None:
    """Its parts stand in the store: the next worker asks for the others alone, and not for the whole."""
    site = make.own(SHORT)
    size = 30 * MIB
    url = site.put("killed.bin", size=size, seed=7, rate_bytes_per_s=size / 24, **IN_RANGES)
    site.send_job(url)
    site.wait(lambda: (entry := site.entry(url)) is not None and (entry.bytes_done or 0) > 0)
    site.start_back()
    site.change(url, size=size, seed=7, **IN_RANGES)
    site.origin.forget()
    site.back.signal(signal.SIGKILL)
    site.back.wait_ended()
    arrives(site, url)
    assert 0 < site.gets(url) < 6
