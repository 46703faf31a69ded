"""No checker is unable to fail: each is shown what it must not let pass, and what it must."""

from dataclasses import replace
from functools import partial

import pytest

from cloud_mirror.http_api import Outcome, problem, redirect_answer
from cloud_mirror.keys import object_key
from cloud_mirror.reason import Reason
from cloud_mirror.simulator import invariants
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.faults import Fault, Swarm, Weather
from cloud_mirror.simulator.history import History, Purge, Stand
from cloud_mirror.simulator.invariants import Held, Move, Told

POOL = "simulated_one"
URL = "https://origin.simulated/a"
OTHER = "https://origin.simulated/b"
KEY = object_key(URL, "0")
TOLD = Told(POOL, URL, KEY, asked_s=100.0, answered_s=110.0)
VERIFY_S = 20.0


def history(stand: Stand | None = None, purge: Purge | None = None) -> History:
    """What was seen: perhaps a copy that stands, perhaps a purge."""
    made = History()
    if stand is not None:
        made.put(POOL, KEY, URL, stand)
    if purge is not None:
        made.purges[POOL, URL] = [purge]
    return made


STANDS = Stand(since_s=50.0, expires_s=500.0, version=1)


def test_a_redirect_leads_to_a_copy_that_stands() -> None:
    assert not invariants.redirect_stands(history(STANDS), TOLD, VERIFY_S)
    assert invariants.redirect_stands(history(STANDS), replace(TOLD, key=object_key(OTHER, "0")), VERIFY_S)
    for wrong in (
        None,
        replace(STANDS, version=None),
        replace(STANDS, gone_s=105.0),
        replace(STANDS, expires_s=105.0),
        replace(STANDS, since_s=111.0),
    ):
        assert invariants.redirect_stands(history(wrong), TOLD, VERIFY_S)


def test_a_copy_may_go_by_a_purge_or_a_pause_only_while_the_request_is_answered() -> None:
    gone = replace(STANDS, gone_s=105.0)
    assert not invariants.redirect_stands(history(gone, Purge(104.0, 2, ended_s=106.0)), TOLD, VERIFY_S)
    assert not invariants.redirect_stands(history(gone, Purge(90.0, 2)), TOLD, VERIFY_S)
    assert not invariants.redirect_stands(history(gone), replace(TOLD, paused_s=3.0), VERIFY_S)
    assert invariants.redirect_stands(history(gone, Purge(80.0, 2, ended_s=99.0, done=True)), TOLD, VERIFY_S)
    assert invariants.redirect_stands(history(gone, Purge(111.0, 2)), TOLD, VERIFY_S)
    long_gone = replace(STANDS, gone_s=99.0)
    assert invariants.redirect_stands(history(long_gone, Purge(90.0, 2)), replace(TOLD, paused_s=3.0), VERIFY_S)


def test_a_lie_excuses_a_copy_that_is_gone_for_as_long_as_an_entry_is_believed() -> None:
    seen = history(replace(STANDS, gone_s=60.0))
    seen.lies.append(85.0)
    assert not invariants.redirect_stands(seen, TOLD, VERIFY_S)
    seen.lies[:] = [70.0]
    assert invariants.redirect_stands(seen, TOLD, VERIFY_S)
    seen.lies[:] = [111.0]
    assert invariants.redirect_stands(seen, TOLD, VERIFY_S)


def test_what_was_purged_is_not_served() -> None:
    done = Purge(80.0, version=2, ended_s=99.0, done=True)
    assert invariants.purge_holds(history(STANDS, done), TOLD)
    for fine in (replace(done, done=False), replace(done, ended_s=100.5), replace(done, version=1)):
        assert not invariants.purge_holds(history(STANDS, fine), TOLD)
    assert not invariants.purge_holds(history(replace(STANDS, version=2), done), TOLD)
    assert not invariants.purge_holds(history(None, done), TOLD)


def test_what_stands_under_an_epoch_that_a_purge_found_dead_is_not_served() -> None:
    """Where the origin's bytes did not change, the store tells: the copy of epoch 0 stands, and is whole."""
    began_s, version = 80.0, 1

    def served(key: str, *writes: tuple[float, float, str]) -> bool:
        seen = history(None, Purge(began_s, version, ended_s=99.0, done=True))
        seen.put(POOL, key, URL, STANDS)
        for purge_began_s, now_s, epoch in writes:
            seen.write_epoch(POOL, URL, purge_began_s, now_s, epoch)
        return invariants.purge_holds(seen, replace(TOLD, key=key)) == ""

    first, second = object_key(URL, "0"), object_key(URL, "e1")
    assert served(first)  # whoever said that it is done has written nothing: that is not asked here
    assert not served(first, (began_s, 90.0, "e1"))
    assert served(second, (began_s, 90.0, "e1"))
    assert served(second, (began_s, 90.0, "e1"), (85.0, 95.0, "e2"))  # another purge, not done yet
    assert not served(second, (85.0, 85.0, "e1"), (began_s, 90.0, "e2"))
    assert served(second, (85.0, 85.0, "e1"), (began_s, 90.0, "e2"), (85.0, 105.0, "e1"))  # it came once more, late
    assert not served(second, (85.0, 85.0, "e1"), (began_s, 90.0, "e2"), (85.0, 111.0, "e1"))


def test_an_upload_that_was_taken_over_is_aborted_only_under_a_lease() -> None:
    seen = history()
    assert not invariants.upload_alone(seen, "upload-1", ("w1",), holds=False)
    seen.uploaders["upload-1"] = ("w2",)
    assert invariants.upload_alone(seen, "upload-1", ("w1",), holds=False)
    assert not invariants.upload_alone(seen, "upload-1", ("w1",), holds=True)
    assert not invariants.upload_alone(seen, "upload-1", ("w2",), holds=False)


def test_what_hinders_a_copy_hinders_those_whom_it_concerns_while_it_lasts() -> None:
    weather = Weather(Swarm(), Chance(0))
    weather.hinder(100.0, 110.0, (POOL, URL))
    for place, from_s, to_s, hindered in (
        ((POOL, URL), 90.0, 100.0, True),
        ((POOL, URL), 110.0, 120.0, True),
        ((POOL, URL), 90.0, 99.0, False),
        ((POOL, URL), 111.0, 120.0, False),
        ((POOL, OTHER), 90.0, 120.0, False),
    ):
        assert weather.hindered(place, from_s, to_s) is hindered
    weather.hinder(50.0, 50.0, None)
    assert weather.hindered((POOL, OTHER), 50.0, 60.0)


def test_bytes_are_one_body() -> None:
    assert not invariants.one_whole_body(1, KEY)
    assert invariants.one_whole_body(None, KEY)


def test_places() -> None:
    hosts = frozenset({"origin.simulated"})
    assert not invariants.allowed_place("https", "origin.simulated", hosts)
    assert invariants.allowed_place("http", "origin.simulated", hosts)
    assert invariants.allowed_place("https", "elsewhere.simulated", hosts)
    assert not invariants.allowed_location(URL, URL, "store", None)
    assert not invariants.allowed_location(f"https://store/{KEY}", URL, "store", URL)
    assert invariants.allowed_location(f"https://store/{KEY}", URL, "store", OTHER)
    assert invariants.allowed_location(f"https://elsewhere/{KEY}", URL, "store", URL)
    assert invariants.allowed_location(OTHER, URL, "store", None)


@pytest.mark.parametrize(
    ("move", "right"),
    [
        (Move("w1", "copying", "copy", ("w1",), KEY), True),
        (Move("f1-2", "asking", "flight", ("f1",), KEY), True),
        (Move("w1", "copying", "purge", (), KEY), True),
        (Move("f1-2", "asking", "copy", ("w1",), KEY), True),
        (Move("f1-2", "queued", "letter", ("d1",), KEY), True),
        (Move("w1", "copying", "copy", ("w2",), KEY), False),
        (Move("w1", "copying", "flight", ("f1",), KEY), False),
        (Move("f1-2", "asking", "flight", ("f2",), KEY), False),
        (Move("f1-2", "queued", "flight", ("f2",), KEY), False),
        (Move("f1-2", "asking", "letter", ("d1",), KEY), False),
    ],
)
def test_only_the_holder_moves_an_entry_on(move: Move, right: bool) -> None:
    assert (invariants.holder_alone(move) == "") is right


def test_a_job_is_deleted_when_something_came_of_it() -> None:
    def settled(seen: History, slack_s: float = 0.0, void: bool = False) -> bool:
        return not invariants.acknowledged_when_durable(seen, POOL, URL, 100.0, 110.0, slack_s, void)

    assert not settled(history())
    assert settled(history(), void=True)
    assert settled(history(STANDS))
    assert settled(history(None, Purge(105.0, 2)))
    assert not settled(history(None, Purge(80.0, 2, ended_s=99.0, done=True)))
    gone = history(replace(STANDS, gone_s=95.0))
    assert not settled(gone)
    assert settled(gone, slack_s=10.0)
    for moment_s, right in ((105.0, True), (99.0, False)):
        written, resent = history(), history()
        written.errors[POOL, URL] = [moment_s]
        resent.sent[POOL, URL] = [moment_s]
        assert settled(written) is settled(resent) is right


def test_a_message_is_deleted_when_it_stands_elsewhere() -> None:
    queues = ("jobs", "dead")
    for queue, sent_s, right in (
        ("jobs", 100.0, True),
        ("dead", 105.0, True),
        ("jobs", 99.0, False),
        ("x", 105.0, False),
    ):
        seen = history()
        seen.messages[queue, "{}"] = [sent_s]
        assert (not invariants.moved_before_deleted(seen, queues, "{}", 100.0)) is right
    assert invariants.moved_before_deleted(history(), queues, "{}", 100.0)


def test_a_dead_letter_is_deleted_when_it_is_kept_and_told_of() -> None:
    def settled(kept_s: float, told_s: float, entry_key: str | None) -> bool:
        seen = history()
        seen.letters[POOL, "{}"], seen.given_up[POOL, "entry"] = [kept_s], [told_s]
        return not invariants.letter_kept(seen, POOL, "{}", entry_key, 100.0)

    assert settled(101.0, 102.0, "entry")
    assert settled(101.0, 99.0, None)
    assert not settled(99.0, 102.0, "entry")
    assert not settled(101.0, 99.0, "entry")
    assert not settled(101.0, 102.0, "another")
    assert invariants.letter_kept(history(), POOL, "{}", None, 100.0)


def test_keys_are_one_url_s() -> None:
    seen = history()
    assert not invariants.keys_distinct(seen, POOL, KEY, URL)
    assert not invariants.keys_distinct(seen, POOL, KEY, URL)
    assert invariants.keys_distinct(seen, POOL, KEY, OTHER)


def test_secrets() -> None:
    secrets = ("hidden",)
    assert not invariants.nothing_private(problem(Reason.INTERNAL), secrets)
    assert invariants.nothing_private(problem(Reason.INTERNAL, headers=(("X", "hidden"),)), secrets)
    assert invariants.nothing_private(replace(problem(Reason.INTERNAL), body=b"is hidden"), secrets)
    assert invariants.nothing_private(redirect_answer("https://hidden/", Outcome.HIT, Reason.PRESENT), secrets)


def test_deadlines() -> None:
    assert not invariants.answered_in_time(100.0, 100.0, 500.0, 0.0)
    assert not invariants.answered_in_time(100.0, 105.0, 105.0, 5.0)
    assert invariants.answered_in_time(100.0, 105.0, 105.0, 4.0)
    assert invariants.answered_in_time(100.0, None, 101.0, 0.0)


def test_leases_of_the_dead() -> None:
    assert not invariants.lease_frees(100.0, 105.0, 10.0, 0.0, 115.0)
    assert not invariants.lease_frees(100.0, 90.0, 10.0, 3.0, 113.0)
    assert invariants.lease_frees(100.0, 105.0, 10.0, 0.0, 116.0)


def test_the_end() -> None:
    assert not invariants.jobs_end((), ())
    assert invariants.jobs_end(("m1",), ())
    assert invariants.jobs_end((), (KEY,))
    assert not invariants.nothing_left(0, 6, 2, Held())
    assert invariants.nothing_left(1, 6, 2, Held())
    assert invariants.nothing_left(0, 7, 2, Held())
    assert "bytes" in invariants.nothing_left(0, 6, 2, Held(memory_bytes=1))
    assert "requests" in invariants.nothing_left(0, 6, 2, Held(permits=1))
    assert not invariants.uploads_end("upload-1", noted=True, excused=False)
    assert not invariants.uploads_end("upload-1", noted=False, excused=True)
    assert invariants.uploads_end("upload-1", noted=False, excused=False)
    assert not invariants.all_well("copy", frozenset({"copy"}))
    assert invariants.all_well("origin", frozenset({"copy"}))


@pytest.mark.parametrize(
    ("others", "faults", "purges", "ran_out", "needless", "right"),
    [
        (0, 0, 0, False, False, True),
        (1, 0, 0, False, False, False),
        (1, 0, 0, True, False, True),
        (2, 0, 0, True, False, False),
        (2, 1, 1, False, True, True),
        (3, 1, 1, False, False, False),
        (0, 0, 0, False, True, False),
        (0, 0, 0, True, True, False),
        (0, 1, 0, False, True, True),
        (0, 0, 1, False, True, True),
    ],
)
def test_copies_at_once(others: int, faults: int, purges: int, ran_out: bool, needless: bool, right: bool) -> None:
    assert (invariants.one_copy(others, faults, purges, ran_out, needless) == "") is right


def test_a_copy_ran_out_where_it_stood_to_the_margin_of_its_life() -> None:
    """Also where a purge then took it before its end."""
    ran_out = partial(History.ran_out, pool=POOL, url=URL, margin_s=20.0)
    assert ran_out(history(STANDS), from_s=490.0, now_s=480.0)
    assert ran_out(history(STANDS), from_s=500.0, now_s=510.0)
    assert not ran_out(history(STANDS), from_s=501.0, now_s=510.0)
    assert not ran_out(history(STANDS), from_s=400.0, now_s=479.0)
    assert not ran_out(history(STANDS), from_s=490.0, now_s=510.0, url=OTHER)
    assert ran_out(history(replace(STANDS, gone_s=480.0)), from_s=490.0, now_s=510.0)
    assert not ran_out(history(replace(STANDS, gone_s=479.0)), from_s=490.0, now_s=510.0)
    assert not ran_out(history(replace(STANDS, gone_s=490.0)), from_s=490.0, now_s=479.0)


def test_purges_count_until_they_are_over() -> None:
    for purge, right in (
        (Purge(80.0, 2), 1),
        (Purge(80.0, 2, ended_s=100.0), 1),
        (Purge(80.0, 2, ended_s=99.0, done=True), 0),
    ):
        assert history(None, purge).purges_since(POOL, URL, 100.0) == right
    assert history().purges_since(POOL, URL, 100.0) == 0


def test_leases_that_faults_may_have_taken_are_counted_for_whom_they_concern() -> None:
    weather = Weather(Swarm(), Chance(0))
    for fault, until_s, place in (
        (Fault.REDIS_FLUSH, 100.0, None),
        (Fault.PAUSE, 99.0, None),
        (Fault.CRASH, 105.0, None),
        (Fault.REDIS_EVICTION, 105.0, (POOL, URL)),
        (Fault.REDIS_EVICTION, 105.0, (POOL, OTHER)),
        (Fault.REDIS_REQUEST_LOST, 105.0, (POOL, URL)),
        (Fault.STORE_REQUEST_LOST, 105.0, (POOL, URL)),
    ):
        weather.upset(fault, until_s, place)
    for fault in (Fault.REDIS_LATE, Fault.REDIS_SLOW):  # two single calls count as one, and one alone as well
        assert weather.upsets((POOL, URL), 100.0) == 3
        weather.upset(fault, 105.0, (POOL, URL))
    assert weather.upsets((POOL, URL), 100.0) == 4
    assert weather.upsets((POOL, OTHER), 100.0) == 2
    assert weather.upsets((POOL, "elsewhere"), 100.0) == 1


def test_retries() -> None:
    assert not invariants.bounded(200, 0.0)
    assert invariants.bounded(1_000, 10.0)
