"""What a client gets while cache, store or queue fail it, and when somebody is quicker."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.maker import Maker
from tests.conformance.site import about, at
from tests.fleet import REGION, Process, at_once
from tests.servers import Point

CLAIM = ("vacant", "same")
"""The conditions under which a front end claims an entry, and nobody else writes one."""


@case(Redirect.CLAIM_UNKNOWN, Redirect.READ_OWN_CLAIM)
def a_claim_whose_reply_is_lost_stands(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("unknown-claim.bin", b"claimed")
    site.cache.cut(Point.REPLY, about(url, *CLAIM), times=1)
    assert site.front.ask(url).outcome == "copied"
    assert (site.heads(url), site.gets(url)) == (1, 1)


@case(Redirect.CLAIM_UNKNOWN, Redirect.CLAIM_UNKNOWN_AGAIN, Redirect.ALONE_NOT_FOUND, Redirect.ALONE_APPROVED)
def a_claim_that_cannot_be_made_sends_the_client_to_the_origin(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("no-claim.bin", b"unclaimed")
    site.cache.cut(Point.REQUEST, about(url, *CLAIM))
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "origin", "cache-unavailable"), url)
    assert (site.heads(url), site.gets(url), site.entry(url)) == (1, 0, None)
    site.cache.clear()
    assert site.front.ask(url).outcome == "copied"


@case(Redirect.CLAIM_LOST, Redirect.READ_PENDING)
def of_two_front_ends_that_find_nothing_one_claims(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("claimed-once.bin", b"once", get_delay_s=0.3)
    hold = site.cache.hold(Point.REQUEST, about(url, *CLAIM))
    with ThreadPoolExecutor() as clients:
        late = clients.submit(site.fronts[0].ask, url)
        hold.wait_reached()
        early = clients.submit(site.fronts[1].ask, url)
        site.wait_for_get(url)
        hold.release()
        assert {late.result().outcome, early.result().outcome} == {"copied"}
    assert (site.heads(url), site.gets(url)) == (1, 1)


@case(
    Redirect.READ_FAILED, Redirect.ALONE_FOUND, Redirect.ALONE_APPROVED, Redirect.ALONE_DECLINED, Redirect.ALONE_FAILED
)
def without_a_cache_the_store_is_asked_and_then_the_origin(make: Maker) -> None:
    site = make.site(fronts=2)
    there, new, missing, hidden = (site.put(name, name.encode()) for name in ("there", "new", "missing", "hidden"))
    location = site.copied(there).location
    site.change(missing, status=404)
    site.origin.forget()
    for url in (there, new, missing, hidden):
        site.cache.cut(Point.REQUEST, about(url))
    site.store.answer(503, target=f"{at(hidden)}|purged/")
    reply = site.front.ask(hidden)
    assert (reply.said, reply.location) == ((302, "origin", "store-unavailable"), hidden)
    site.store.clear()
    found, unknown = site.front.ask(there), site.front.ask(new)
    assert (found.said, found.location) == ((302, "backfill", "found-in-store"), location)
    assert (unknown.said, unknown.location) == ((302, "origin", "cache-unavailable"), new)
    assert site.front.ask(missing).said == (404, "error", "origin-not-found")
    assert site.origin.count_matching("GET", "") == 0
    site.cache.clear()
    assert site.front.ask(there).said == (302, "hit", "present")
    assert site.front.ask(new).outcome == "copied"


@case(Redirect.BACKFILL_FAILED, Redirect.ALONE_FOUND)
def a_copy_that_is_found_is_served_though_the_cache_cannot_be_told(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("untold.bin", b"untold")
    location = site.copied(url).location
    site.forget(url)
    site.cache.cut(Point.REQUEST, about(url, "held"))
    reply = site.front.ask(url)
    assert (reply.said, reply.location) == ((302, "backfill", "found-in-store"), location)
    assert site.gets(url) == 1


@case(Redirect.PROBE_FOUND, Redirect.BACKFILL_REFUSED)
def a_purge_while_the_store_is_being_asked_holds(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("purged-meanwhile.bin", b"A")
    old = site.copied(url).location
    site.forget(url)
    site.change(url, b"B")
    hold = site.store.hold(Point.REPLY, "HEAD", at(url))
    with ThreadPoolExecutor() as clients:
        asked = clients.submit(site.fronts[0].ask, url)
        hold.wait_reached()
        assert site.fronts[1].purge(url).status == 204
        hold.release()
        reply = asked.result()
    assert (reply.outcome, reply.location != old) == ("copied", True)
    assert site.body(reply) == b"B"


def ask_and_leave_open(front: Process, url: str) -> socket.socket:
    """A connection on which a request was sent, and no answer read."""
    target = f"/v1/redirect/s3/{REGION}/{quote(url, safe='')}"
    client = socket.create_connection(("127.0.0.1", urlsplit(front.base_url).port or 0), timeout=10)
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: mirror\r\n\r\n".encode())
    return client


@case(Redirect.ABANDONED)
def clients_that_leave_are_forgotten_and_the_copy_is_made(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("left.bin", b"left")
    hold = site.store.hold(Point.REQUEST, "PUT", at(url))
    clients = [ask_and_leave_open(site.front, url) for _ in range(50)]
    site.front.wait_for_metric("cloud_mirror_waiters", 50)
    hold.wait_reached()  # before that, a flight that nobody waits for any more need not ask for a copy
    for client in clients:
        client.close()
    site.front.wait_for_metric("cloud_mirror_waiters", 0)
    hold.release()
    assert site.copied(url).status == 302
    assert site.gets(url) == 1


@case(Redirect.ABANDONED, Redirect.READ_FOR_NOBODY)
def a_client_that_leaves_before_anything_was_found_out_costs_nothing(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("left-at-once.bin", b"left")
    hold = site.cache.hold(Point.REQUEST, about(url, operation="read"))
    client = ask_and_leave_open(site.front, url)
    hold.wait_reached()
    client.close()
    site.front.wait_for_metric("cloud_mirror_waiters", 0)
    hold.release()
    site.wait_for_row(Redirect.READ_FOR_NOBODY)
    assert (site.entry(url), site.heads(url)) == (None, 0)


@case(Redirect.CHANGE_DUE, Redirect.READ_PRESENT)
def a_message_that_is_lost_is_made_up_for_by_polling(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("deaf.bin", b"deaf", get_delay_s=0.3)
    before = site.cache.lost
    site.cache.deaf = True
    assert site.front.ask(url).outcome == "copied"
    assert site.cache.lost - before >= 3  # the claim, its marking or the worker's lease, and the copy


@case(Redirect.CHANGE_DUE)
def a_subscription_that_is_cut_comes_back(make: Maker) -> None:
    """Polling is so far away here that only messages can wake a waiter in time."""
    site = make.site({"server": {"poll_s": 25.0}})
    first, second = site.put("cut.bin", b"a"), site.put("after.bin", b"b")
    hold = site.store.hold(Point.REQUEST, "PUT", at(first))
    with ThreadPoolExecutor() as clients:
        waiter = clients.submit(site.front.ask, first)
        hold.wait_reached()
        assert site.cache.cut_subscriptions() == 2
        site.wait(lambda: site.cache.listeners == 2)
        hold.release()
        assert waiter.result(20).outcome == "copied"
    assert site.front.ask(second).outcome == "copied"


@case(Redirect.READ_FAILED, Redirect.ALONE_FOUND, Redirect.READ_PRESENT, Copy.PUBLISHED)
def a_cache_that_is_stopped_and_comes_back_empty_needs_nobody(make: Maker) -> None:
    site = make.site({"server": {"poll_s": 25.0}})
    url, other = site.put("kept.bin", b"kept"), site.put("new.bin", b"new")
    location = site.copied(url).location
    site.cache.stop()
    found, unknown = site.front.ask(url), site.front.ask(other)
    assert (found.said, found.location) == ((302, "backfill", "found-in-store"), location)
    assert (unknown.said, unknown.location) == ((302, "origin", "cache-unavailable"), other)
    refused = site.front.purge(url)
    assert (refused.said, refused.headers["retry-after"]) == ((503, "error", "cache-unavailable"), "2")
    site.fleet.valkey.flush()
    site.cache.clear()
    site.wait(lambda: site.cache.listeners == 2)
    site.wait(lambda: site.front.purge(url).status == 204)
    assert site.copies(url) == []
    assert site.copied(other).status == 302
    assert site.copied(url).location != location
    assert site.front.ask(url).outcome == "hit"


@case(Redirect.JOINED)
def five_hundred_waiters_are_answered_together(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("five-hundred.bin", b"for all")
    hold = site.store.hold(Point.REQUEST, "PUT", at(url))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(at_once, 500, lambda _: site.front.ask(url))
        site.front.wait_for_metric("cloud_mirror_waiters", 500)
        turned_away = site.front.ask(url)
        hold.release()
        replies = asked.result(30)
    assert (turned_away.said, turned_away.location) == ((302, "origin", "too-many-waiters"), url)
    assert {reply.said for reply in replies} == {(302, "copied", "just-copied")}
    assert len({reply.location for reply in replies}) == 1
    assert (site.heads(url), site.gets(url)) == (1, 1)
    site.front.wait_for_metric("cloud_mirror_waiters", 0)
