"""Purge: after the 204 nothing that was begun before it is served. `tests/acceptance/test_purge.py` looks for more."""

from __future__ import annotations

from cloud_mirror import keys
from cloud_mirror.copy_table import Row as Copy
from cloud_mirror.redirect_table import Row as Redirect
from tests.conformance.case import case
from tests.conformance.maker import Maker
from tests.conformance.site import at, problem
from tests.fleet import at_once
from tests.looking import fetch
from tests.servers import Point


@case(Redirect.READ_ABSENT, Copy.PUBLISHED)
def a_purge_holds_at_every_front_end(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("purged.bin", b"A")
    old = site.copied(url).location
    site.change(url, b"B")
    assert site.fronts[1].purge(url, "another").status == 403
    assert site.fronts[1].purge(url).status == 204
    assert fetch(old).status == 404
    new = site.front.ask(url)
    assert (new.outcome, site.body(new)) == ("copied", b"B")
    assert site.fronts[1].ask(url).location == new.location


@case()
def a_purge_of_what_was_never_copied_is_done_at_once(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.origin.url + site.path("never.bin")
    site.origin.forget()
    for front in site.fronts:
        reply = front.purge(url)
        assert (reply.status, reply.body) == (204, b"")
    assert site.fleet.keys(keys.epoch_key(url)) == [keys.epoch_key(url)]
    assert (site.copies(url), site.origin.requests) == ([], ())


@case(Redirect.READ_ABSENT, Copy.PUBLISHED)
def purges_at_once_leave_one_good_copy_to_be_made(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("many.bin", b"A")
    assert site.body(site.copied(url)) == b"A"
    for version in (b"B", b"C", b"D", b"E"):
        site.change(url, version)
        purges = at_once(4, lambda number: site.fronts[number % 2].purge(url))
        assert [reply.status for reply in purges] == [204] * 4
        for front in site.fronts:
            assert site.body(front.ask(url)) == version
        assert len(site.copies(url)) == 1


@case(Redirect.READ_AGEING, Copy.READ_AGEING, Copy.EPOCH_DEAD)
def a_purge_while_a_copy_is_being_renewed(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("renewed.bin", b"A")
    old = site.copied(url)
    site.change_entry(url, expires_at=str(site.time_s() + 2_000))
    site.store.lifespan_s = 2_000.0  # within the refresh margin, beyond the expiry margin
    hold = site.store.hold(Point.REQUEST, "PUT", at(url))
    assert site.front.ask(url).location == old.location
    hold.wait_reached()
    site.store.lifespan_s = None
    site.change(url, b"B")
    assert site.front.purge(url).status == 204
    assert site.entry(url, renewal=True) is None
    new = site.front.ask(url)
    assert new.outcome == "copied"
    hold.release()
    site.wait_for_row(Copy.EPOCH_DEAD)
    site.wait(lambda: len(site.copies(url)) == 1)
    assert site.body(new) == b"B"
    assert fetch(old.location).status == 404
    assert site.front.ask(url).location == new.location


@case(Redirect.READ_PRESENT)
def without_the_store_a_purge_is_refused_and_can_be_sent_again(make: Maker) -> None:
    site = make.site(fronts=2)
    url = site.put("no-store.bin", b"A")
    location = site.copied(url).location
    for method in (".*", "DELETE"):  # all of it; then only the sweep, when the new epoch stands already
        site.store.answer(403, method, f"{keys.url_sha256(url)}|list-type|uploads", code="AccessDenied")
        refused = site.front.purge(url)
        assert (problem(refused), refused.headers["retry-after"]) == ((503, "store-denied"), "2")
        site.store.clear()
        assert fetch(location).status == 200
    site.change(url, b"B")
    assert site.body(site.copied(url)) == b"B"
    assert site.front.purge(url).status == 204
    assert site.copies(url) == []
