"""Where a request is sent: by the entry, by the store, by the origin."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.entry import Status
from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.maker import HASTY, Maker
from tests.conformance.site import Site, at
from tests.crowd import Crowd
from tests.fleet import at_once, sends_message
from tests.looking import fetch
from tests.servers import Origin, Point

MIB = 1024 * 1024
HURRIED = {"server": {"start_wait_s": 2.0}}
"""A site that soon sends its clients to the origin."""

LONG_S, WITHIN_REFRESH_MARGIN_S, WITHIN_EXPIRY_MARGIN_S = 100_000.0, 2_000.0, 599.0


@case(
    Redirect.JOINED_FIRST,
    Redirect.READ_ABSENT,
    Redirect.CLAIM_WON,
    Redirect.PROBE_NOT_FOUND,
    Redirect.ORIGIN_APPROVED,
    Redirect.JOB_SENT,
    Redirect.MARKED,
    Redirect.READ_PENDING,
    Redirect.CHANGE_DUE,
    Redirect.READ_PRESENT,
    Copy.RECEIVED,
    Copy.READ_VACANT,
    Copy.ACQUIRED,
    Copy.PROBE_NOT_FOUND,
    Copy.OPENED,
    Copy.FETCHED_WHOLE,
    Copy.WRITTEN,
    Copy.VERIFIED,
    Copy.PUBLISHED,
    Copy.SETTLED,
)
def the_first_request_copies_and_the_second_is_a_hit(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("small.bin", b"a small object", get_delay_s=0.2)
    first = site.front.ask(url)
    assert (first.status, *first.said) == (302, 302, "copied", "just-copied")
    assert site.body(first) == b"a small object"
    for front in site.fronts:
        again = front.ask(url)
        assert (again.said, again.location) == ((302, "hit", "present"), first.location)
    assert (site.heads(url), site.gets(url)) == (1, 1)


@case(Redirect.JOINED, Redirect.READ_PENDING, each=("100 ms", "20 ms", "0 ms"))
def two_hundred_clients_of_two_front_ends_make_one_copy(make: Maker, word: str) -> None:
    """So long does the origin take to say that it has the object."""
    site = make.site(fronts=2)
    crowd = Crowd(site.fleet, site.fronts, site.back, site.origin, site.queue)
    path = site.path("crowd.bin")
    tally = crowd.ask(path, int(word.partition(" ")[0]) / 1_000)
    assert (tally.heads, tally.gets, tally.jobs) == (1, 1, 1)
    assert {reply.said for reply in tally.replies} <= {(302, "copied", "just-copied"), (302, "hit", "present")}
    assert len({reply.location for reply in tally.replies}) == 1
    assert site.body(tally.replies[0]) == path.encode()


@case(Redirect.PROBE_FOUND, Redirect.BACKFILL_WRITTEN)
def a_flushed_cache_is_filled_from_the_store(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("flushed.bin", b"flushed")
    location = site.copied(url).location
    site.origin.forget()
    site.fleet.valkey.flush()
    for front, said in zip(site.fronts, ((302, "backfill", "found-in-store"), (302, "hit", "present")), strict=True):
        reply = front.ask(url)
        assert (reply.said, reply.location) == (said, location)
    assert site.origin.requests == ()


@case(Redirect.READ_UNVERIFIED, Redirect.BACKFILL_WRITTEN)
def a_present_entry_that_nobody_has_confirmed_for_long_is_confirmed_by_one_front_end(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("unverified.bin", b"unverified")
    location = site.copied(url).location
    site.change_entry(url, verified_at=str(site.time_s() - 301))
    site.store.forget()
    site.origin.forget()
    replies = at_once(20, lambda number: site.fronts[number % 2].ask(url))
    assert {(reply.status, reply.location) for reply in replies} == {(302, location)}
    assert "backfill" in {reply.outcome for reply in replies} <= {"hit", "backfill"}
    assert site.store.count_matching("^HEAD$", at(url)) == 1
    assert site.origin.requests == ()
    entry = site.entry(url)
    assert entry is not None
    assert (entry.verified_at_s or 0.0) > site.time_s() - 60


@case(Redirect.READ_UNVERIFIED, Redirect.PROBE_NOT_FOUND)
def a_copy_deleted_behind_the_mirrors_back_is_noticed_and_made_again(make: Maker) -> None:
    site = make.site(HASTY)
    url = site.put("deleted.bin", b"deleted")
    first = site.copied(url)
    site.delete(url)
    again = site.until(url, ("copied",))
    assert again.location == first.location
    assert site.body(again) == b"deleted"
    assert site.gets(url) == 2


def made_anew(site: Site, url: str) -> str:
    """Ask for a URL whose copy is about to end, and say of the new one that it has a long life; the outcome."""
    hold = site.store.hold(Point.REQUEST, "PUT", at(url))
    with ThreadPoolExecutor() as clients:
        asked = clients.submit(site.front.ask, url)
        hold.wait_reached()
        site.store.expire_in(LONG_S)
        hold.release()
        return asked.result().outcome


@case(Redirect.READ_EXPIRING, Redirect.PROBE_NOT_FOUND, Copy.READ_VACANT, Copy.PROBE_NOT_FOUND)
def a_copy_that_is_about_to_expire_is_not_served_but_made_anew(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("short-lived.bin", b"short-lived")
    site.copied(url)
    site.change_entry(url, expires_at=str(site.time_s() + WITHIN_EXPIRY_MARGIN_S))
    site.store.expire_in(WITHIN_EXPIRY_MARGIN_S)
    assert made_anew(site, url) == "copied"
    assert site.front.ask(url).outcome == "hit"
    assert site.gets(url) == 2
    entry = site.entry(url)
    assert entry is not None
    assert (entry.expires_at_s or 0.0) > site.time_s() + LONG_S / 2


@case(Redirect.READ_NEGATIVE, Redirect.ORIGIN_NEGATIVE, Redirect.RECORDED)
def what_the_origin_does_not_give_is_answered_at_once_and_sends_no_job(make: Maker) -> None:
    """No back end runs: a job would lie in its queue still."""
    site = make.site(HURRIED, backs=0)
    expected = {
        404: (404, "error", "origin-not-found"),
        410: (410, "error", "origin-gone"),
        429: (429, "error", "origin-busy"),
        500: (500, "error", "origin-error"),
        503: (503, "error", "origin-error"),
    }
    site.queue.forget()
    for status, said in expected.items():
        url = site.put(str(status), b"sorry", status=status)
        for _ in range(2):
            reply = site.front.ask(url)
            assert (reply.said, reply.headers["content-type"]) == (said, "application/problem+json")
        assert site.heads(url) == 1
    assert site.queue.count_matching("", "") == 0


@case(Redirect.READ_ERROR, Redirect.ORIGIN_UNREACHABLE, Redirect.RECORDED)
def an_origin_that_refuses_the_mirror_gets_its_clients_itself(make: Maker) -> None:
    site = make.site(HURRIED, backs=0)
    url = site.put("refused", b"sorry", status=403)
    for _ in range(2):
        reply = site.front.ask(url)
        assert (reply.said, reply.location) == ((302, "origin", "origin-refused"), url)
    assert site.heads(url) == 1


@case(Redirect.ORIGIN_NOT_ALLOWED, Redirect.READ_NEGATIVE)
def nothing_is_sent_to_a_hop_that_is_not_allowed(make: Maker) -> None:
    site = make.site(fronts=2)
    with Origin() as stranger:
        url = site.put("leads-out", redirect_to=stranger.put("/inside", b"not for the world"))
        for front in site.fronts:
            reply = front.ask(url)
            assert reply.said == (403, "error", "hop-not-allowed")
            assert "location" not in reply.headers
        assert stranger.requests == ()
    assert site.heads(url) == 1


@case(Redirect.READ_NOT_STARTED)
def without_a_back_end_a_client_is_sent_to_the_origin(make: Maker) -> None:
    site = make.site(HURRIED, backs=0)
    url = site.put("untaken.bin", b"untaken")
    begun = time.monotonic()
    reply = site.front.ask(url)
    assert time.monotonic() - begun < 5.0  # 2 of `start_wait_s`, and what a busy machine adds
    assert (reply.said, reply.location) == ((302, "origin", "not-started"), url)
    assert site.front.ask(url).said == (302, "origin", "not-started")
    assert site.gets(url) == 0


@case(Redirect.DEADLINE)
def a_request_is_answered_by_its_deadline(make: Maker) -> None:
    site = make.site(HASTY)
    url = site.put("late.bin", b"late", get_delay_s=4.0)
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "origin", "deadline"), url)
    assert site.copied(url).status == 302
    assert site.gets(url) == 1


@case(Redirect.READ_TOO_SLOW)
def a_client_for_whom_the_copy_comes_too_late_is_sent_to_the_origin_early(make: Maker) -> None:
    site = make.own({"server": {"max_wait_s": 10.0}})
    url = site.put("slow.bin", size=31 * MIB, rate_bytes_per_s=2 * MIB)  # one part in 2.5 s, all of it in 15
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "origin", "copy-too-slow"), url)
    assert site.front.purge(url).status == 204


@case(Redirect.READ_DUE_SOON, Redirect.READ_DUE, Redirect.PROBE_FAILED, Redirect.RELEASED, each=("503", "403"))
def a_store_that_fails_sends_clients_to_the_origin_until_it_is_back(make: Maker, word: str) -> None:
    site = make.site(fronts=2)
    url = site.put("store.bin", b"store")
    site.store.answer(int(word), target=f"{at(url)}|purged/")
    reason = {"503": "store-unavailable", "403": "store-denied"}[word]
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "origin", reason), url)
    assert (site.heads(url), site.gets(url)) == (0, 0)
    site.store.clear()
    assert site.fronts[1].ask(url).outcome == "copied"


@case(Redirect.JOB_FAILED, Redirect.RECORDED, Redirect.READ_DUE)
def a_queue_that_fails_sends_clients_to_the_origin_until_it_is_back(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("queue.bin", b"queue")
    site.queue.answer(503, when=sends_message)
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "origin", "queue-unavailable"), url)
    assert site.gets(url) == 0
    site.queue.clear()
    assert site.front.ask(url).outcome == "copied"


@case(Redirect.READ_AGEING, Redirect.REFRESHED, Redirect.READ_PRESENT, Copy.READ_AGEING, Copy.PUBLISHED)
def a_copy_within_the_refresh_margin_is_served_and_renewed_by_one_job(make: Maker) -> None:
    site = make.site(fronts=2)
    url, location = aged(site)
    site.queue.forget()
    hold = site.store.hold(Point.REQUEST, "PUT", at(url))
    replies = at_once(20, lambda number: site.fronts[number % 2].ask(url))
    assert {(reply.outcome, reply.location) for reply in replies} == {("hit", location)}
    hold.wait_reached()
    assert site.fronts[1].ask(url).outcome == "hit"
    site.store.expire_in(LONG_S)
    hold.release()
    far_s = site.time_s() + LONG_S / 2
    site.wait(lambda: (entry := site.entry(url)) is not None and (entry.expires_at_s or 0) > far_s)
    assert [front.ask(url).outcome for front in site.fronts] == ["hit", "hit"]
    assert site.entry(url, renewal=True) is None
    assert site.jobs_sent() == 1
    assert site.gets(url) == 2


def aged(site: Site) -> tuple[str, str]:
    """A URL whose copy is within the refresh margin, as the cache knows, and where the copy is."""
    url = site.put("ageing.bin", b"ageing")
    location = site.copied(url).location
    site.store.expire_in(WITHIN_REFRESH_MARGIN_S)
    site.forget(url)
    assert site.front.ask(url).outcome == "backfill"
    return url, location


@case(Redirect.READ_AGEING, Copy.DECLINED)
def a_renewal_that_fails_takes_nothing_away(make: Maker) -> None:
    site = make.site(fronts=2)
    url, location = aged(site)
    site.change(url, b"gone by now", status=404)
    assert site.front.ask(url).outcome == "hit"
    site.wait(lambda: (entry := site.entry(url, renewal=True)) is not None and entry.status is Status.ERROR)
    assert [front.ask(url).outcome for front in (*site.fronts, *site.fronts)] == ["hit"] * 4
    assert fetch(location).size == len(b"ageing")
    assert site.gets(url) == 2
