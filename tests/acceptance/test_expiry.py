"""A copy's life: how it is made anew before it ends, and how it is noticed that it ended early.

The proxy before the store says when objects expire, as S3 does; moments are by the cache's own clock.
"""

from concurrent.futures import ThreadPoolExecutor

from cloud_mirror import keys
from cloud_mirror.entry import Entry, Status
from tests.acceptance.conftest import MakeFleet
from tests.acceptance.looking import PATIENCE_S, cache_time_s, entry_of, fetch
from tests.fleet import Fleet, Process, Reply, at_once
from tests.servers import FaultProxy, Hold, Origin, Point
from tests.servers.processes import wait_until

LONG_S = 100_000.0
"""Longer than every margin."""

BODY = b"an object that does not change"
COPIES = r"^/[^/]+/[0-9a-f]{2}/"
"""The targets of copies at the store, and of no other objects."""


def present(fleet: Fleet, url: str) -> Entry:
    """The entry, which says present."""
    entry = entry_of(fleet, url)
    assert entry is not None
    assert entry.status is Status.PRESENT
    return entry


def expires_at_s(fleet: Fleet, url: str) -> float:
    """When the copy's life ends, as the entry has it."""
    moment_s = present(fleet, url).expires_at_s
    assert moment_s is not None
    return moment_s


def wait_for_moment(fleet: Fleet, moment_s: float) -> None:
    """Return once the cache's clock shows that moment."""
    wait_until(lambda: cache_time_s(fleet) >= moment_s, PATIENCE_S, lambda: f"{moment_s} is too far away")


def let_live(store_proxy: FaultProxy, hold: Hold) -> None:
    """Once the new copy is on its way into the store, say of it that it has a long life."""
    hold.wait_reached()
    store_proxy.expire_in(LONG_S)
    hold.release()


def ask_while_renewed(front: Process, url: str, store_proxy: FaultProxy) -> Reply:
    """Ask for a URL whose old copy is about to expire; the new one will not."""
    hold = store_proxy.hold(Point.REQUEST, "PUT", COPIES)
    with ThreadPoolExecutor() as clients:
        asked = clients.submit(front.ask, url)
        let_live(store_proxy, hold)
        return asked.result()


def copied_and_aged(fleet: Fleet, front: Process, url: str, store_proxy: FaultProxy) -> Reply:
    """Have a URL copied, then let its copy have 500 s of life left, of which the cache knows."""
    first = front.ask(url)
    store_proxy.expire_in(500)
    fleet.valkey.flush()
    assert (first.outcome, front.ask(url).outcome) == ("copied", "backfill")
    return first


def jobs_sent(queue_proxy: FaultProxy) -> int:
    """How many jobs were sent."""
    return sum(seen.head.header("x-amz-target").endswith(".SendMessage") for seen in queue_proxy.requests)


def test_a_copy_about_to_expire_is_not_served_but_made_anew(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy
) -> None:
    margin_s = 60.0
    margins = {"expiry_margin_s": margin_s, "refresh_margin_s": margin_s}
    fleet = make_fleet(store_url=store_proxy.url, settings={"pool": margins})
    front, _ = fleet.start("serve"), fleet.start("work")
    url = origin.put("/short-lived", BODY)
    store_proxy.expire_in(margin_s + 6)
    first = front.ask(url)
    assert (first.outcome, front.ask(url).outcome) == ("copied", "hit")
    old_s = expires_at_s(fleet, url)
    wait_for_moment(fleet, old_s - margin_s)

    again = ask_while_renewed(front, url, store_proxy)
    assert (again.outcome, again.location) == ("copied", first.location)
    assert origin.count("GET", "/short-lived") == 2
    assert expires_at_s(fleet, url) > old_s + margin_s
    assert front.ask(url).outcome == "hit"


def test_a_copy_in_the_store_that_is_about_to_expire_is_no_backfill(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy
) -> None:
    fleet = make_fleet(store_url=store_proxy.url)
    front, _ = fleet.start("serve"), fleet.start("work")
    url = origin.put("/short-lived", BODY)
    assert front.ask(url).outcome == "copied"
    fleet.valkey.flush()
    assert front.ask(url).outcome == "backfill"
    fleet.valkey.flush()
    store_proxy.expire_in(599)  # a second within the margin
    assert ask_while_renewed(front, url, store_proxy).outcome == "copied"
    assert origin.count("GET", "/short-lived") == 2


def test_a_copy_within_the_refresh_margin_is_served_and_renewed_by_one_job(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy, queue_proxy: FaultProxy
) -> None:
    margins = {"expiry_margin_s": 60.0, "refresh_margin_s": 1_000.0}
    fleet = make_fleet(store_url=store_proxy.url, queue_url=queue_proxy.url, settings={"pool": margins})
    fronts = [fleet.start("serve") for _ in range(2)]
    worker = fleet.start("work")
    url = origin.put("/ageing", BODY)
    first = copied_and_aged(fleet, fronts[0], url, store_proxy)
    old_s = expires_at_s(fleet, url)
    queue_proxy.forget()

    hold = store_proxy.hold(Point.REQUEST, "PUT", COPIES)
    replies: list[Reply] = at_once(20, lambda number: fronts[number % 2].ask(url))
    assert {(reply.outcome, reply.location) for reply in replies} == {("hit", first.location)}
    hold.wait_reached()
    assert fronts[1].ask(url).outcome == "hit"
    assert fetch(first.location).sha256 == origin.sha256("/ageing")
    let_live(store_proxy, hold)
    wait_until(lambda: expires_at_s(fleet, url) > old_s + 1_000, PATIENCE_S, lambda: "The entry's life is the old one")

    assert [front.ask(url).outcome for front in fronts] == ["hit", "hit"]
    assert fronts[0].ask(url).location == first.location
    assert jobs_sent(queue_proxy) == 1
    assert origin.count("GET", "/ageing") == 2
    wait_until(
        lambda: worker.metric("cloud_mirror_copies_total", result="done") == 2, PATIENCE_S, lambda: "No renewal ended"
    )
    assert fleet.valkey.command("EXISTS", keys.renewal_key("s3_us-west-1", url)) == b":0"


def test_a_renewal_that_fails_takes_nothing_away(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy
) -> None:
    margins = {"expiry_margin_s": 60.0, "refresh_margin_s": 1_000.0}
    fleet = make_fleet(store_url=store_proxy.url, settings={"pool": margins})
    front, worker = fleet.start("serve"), fleet.start("work")
    url = origin.put("/ageing", BODY)
    first = copied_and_aged(fleet, front, url, store_proxy)
    origin.put("/ageing", b"gone by now", status=404)
    assert front.ask(url).outcome == "hit"
    wait_until(
        lambda: worker.metric("cloud_mirror_copies_total", result="failed", reason="origin-not-found") == 1,
        PATIENCE_S,
        lambda: "The renewal was not tried",
    )
    assert [front.ask(url).outcome for _ in range(3)] == ["hit"] * 3
    assert fetch(first.location).size == len(BODY)
    assert origin.count("GET", "/ageing") == 2


def test_an_entry_not_verified_for_long_is_probed_by_one_front_end(
    make_fleet: MakeFleet, origin: Origin, store_proxy: FaultProxy
) -> None:
    verify_s = 3.0
    fleet = make_fleet(store_url=store_proxy.url, settings={"server": {"verify_s": verify_s}})
    fronts = [fleet.start("serve") for _ in range(2)]
    fleet.start("work")
    url = origin.put("/verified", BODY)
    first = fronts[0].ask(url)
    origin.forget()
    verified_s = present(fleet, url).verified_at_s or 0.0
    assert fronts[1].ask(url).outcome == "hit"
    store_proxy.forget()
    wait_for_moment(fleet, verified_s + verify_s)
    replies: list[Reply] = at_once(20, lambda number: fronts[number % 2].ask(url))
    assert {reply.location for reply in replies} == {first.location}
    assert "backfill" in {reply.outcome for reply in replies} <= {"hit", "backfill"}
    assert store_proxy.count_matching("^HEAD$", COPIES) == 1
    assert (present(fleet, url).verified_at_s or 0.0) >= verified_s + verify_s
    assert origin.requests == ()


def test_a_copy_deleted_behind_the_mirrors_back_is_noticed_and_made_again(
    make_fleet: MakeFleet, origin: Origin
) -> None:
    verify_s = 1.5
    fleet = make_fleet(settings={"server": {"verify_s": verify_s}})
    front, _ = fleet.start("serve"), fleet.start("work")
    url = origin.put("/deleted", BODY)
    first = front.ask(url)
    verified_s = present(fleet, url).verified_at_s or 0.0
    (key,) = fleet.keys(keys.object_prefix(url))
    client = fleet.seaweedfs.client()
    try:
        client.delete_object(Bucket=fleet.bucket, Key=key)
    finally:
        client.close()
    assert fetch(first.location).status == 404
    wait_for_moment(fleet, verified_s + verify_s)
    again = front.ask(url)
    assert (again.outcome, again.location) == ("copied", first.location)
    assert fetch(again.location).sha256 == origin.sha256("/deleted")
    assert origin.count("GET", "/deleted") == 2
