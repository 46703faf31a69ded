"""The store's procedures: epochs, probes, purges and what a failed write is worth."""

import pytest

from cloud_mirror import keys
from cloud_mirror.copy_events import CleanedUp, EpochRead
from cloud_mirror.events import CopyFound, CopyNotFound, EpochWritten, FoundCopy, ProbeFailed, StoreFailed, Swept
from cloud_mirror.reason import Reason
from cloud_mirror.wire.asking import Failed
from cloud_mirror.wire.calls import Backoff, FailureKind, HttpExchange, HttpReply, Reply, TransportFailure
from cloud_mirror.wire.procedures import store
from cloud_mirror.wire.storage import FaultKind
from tests.wire.exchange import reply
from tests.wire.pools import BROKEN, SERVICES, URL, Script, error, head, missing

EPOCH = f"GET /bucket/{keys.epoch_key(URL)}"
COPY = f"HEAD /bucket/{keys.object_key(URL, '0')}"
DENIED = error(403, "AccessDenied")


@pytest.mark.parametrize(
    ("answers", "event"),
    [
        ([missing()], EpochRead("0")),
        ([reply(200, "epoch-1")], EpochRead("epoch-1")),
        ([BROKEN, reply(200, "epoch-1")], EpochRead("epoch-1")),
        ([DENIED, missing()], EpochRead("0")),
        ([error(503, "SlowDown"), reply(200, "epoch-1")], EpochRead("epoch-1")),
        ([BROKEN, BROKEN], ProbeFailed(Reason.STORE_UNAVAILABLE, "broken: reset")),
        ([BROKEN, DENIED], ProbeFailed(Reason.STORE_DENIED, "AccessDenied: GetObject (403): said the store")),
        ([DENIED, BROKEN], ProbeFailed(Reason.STORE_UNAVAILABLE, "broken: reset")),
    ],
)
def test_the_epoch_is_asked_for_at_most_twice(answers: list[Reply], event: object) -> None:
    script = Script(*answers)
    assert script.run(store.read_epoch(SERVICES, URL)) == event
    assert script.said == [EPOCH] * len(answers)
    assert script.waits == [Backoff(0.2)] * (len(answers) - 1)


@pytest.mark.parametrize("body", [b"", b"a/b", b"a\n", b"\xff", b"x" * 65, b"two words"])
def test_an_epoch_that_is_none_is_unknown(body: bytes) -> None:
    assert Script(reply(200, body)).run(store.read_epoch(SERVICES, URL)) == ProbeFailed(
        Reason.STORE_UNAVAILABLE, "the epoch object does not hold an epoch"
    )


def test_probing() -> None:
    script = Script(missing(), head())
    found = FoundCopy(3, '"e"', 82_800.0, "copy-1")
    assert script.run(store.probe_copy(SERVICES, URL)) == CopyFound("0", found)
    assert script.said == [EPOCH, COPY]
    script = Script(reply(200, "e1"), missing())
    assert script.run(store.probe_copy(SERVICES, URL)) == CopyNotFound("e1")
    assert script.said[1] == f"HEAD /bucket/{keys.object_key(URL, 'e1')}"


@pytest.mark.parametrize("other", ["", keys.url_sha256(URL + "x"), keys.url_sha256(URL).upper()])
def test_an_object_of_another_url_is_no_copy(other: str) -> None:
    script = Script(missing(), head(x_amz_meta_url_sha256=other))
    assert script.run(store.probe_copy(SERVICES, URL)) == CopyNotFound("0")


@pytest.mark.parametrize("length", ["1000", "2", "03", "three"])
def test_an_object_of_another_length_than_its_origin_gave_is_no_copy(length: str) -> None:
    cut = head(3, x_amz_meta_upstream_length=length)
    assert Script(missing(), cut).run(store.probe_copy(SERVICES, URL)) == CopyNotFound("0")
    whole = head(3, x_amz_meta_upstream_length="3")
    assert isinstance(Script(missing(), whole).run(store.probe_copy(SERVICES, URL)), CopyFound)


def test_a_copy_id_that_is_none_is_left_out() -> None:
    found = Script(missing(), head(x_amz_meta_copy_id="not one")).run(store.probe_copy(SERVICES, URL))
    assert isinstance(found, CopyFound)
    assert found.copy.copy_id == ""


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([DENIED, DENIED], Reason.STORE_DENIED),
        ([missing(), reply(403), reply(403)], Reason.STORE_DENIED),
        ([missing(), BROKEN, reply(500)], Reason.STORE_UNAVAILABLE),
        ([missing(), head(date="never"), head(etag="")], Reason.STORE_UNAVAILABLE),
    ],
)
def test_unknown_is_not_absent(answers: list[Reply], reason: Reason) -> None:
    failed = Script(*answers).run(store.probe_copy(SERVICES, URL))
    assert isinstance(failed, ProbeFailed)
    assert failed.reason is reason


@pytest.mark.parametrize(
    ("kind", "attempts", "reason", "settled"),
    [
        (FaultKind.REJECTED, 1, Reason.STORE_UNAVAILABLE, True),
        (FaultKind.DENIED, 1, Reason.STORE_DENIED, True),
        (FaultKind.CONFLICT, 1, Reason.STORE_UNAVAILABLE, True),
        (FaultKind.NOT_FOUND, 1, Reason.STORE_UNAVAILABLE, True),
        (FaultKind.REJECTED, 2, Reason.STORE_UNAVAILABLE, False),
        (FaultKind.DENIED, 2, Reason.STORE_DENIED, False),
        (FaultKind.CONFLICT, 3, Reason.STORE_UNAVAILABLE, False),
        (FaultKind.NOT_FOUND, 2, Reason.STORE_UNAVAILABLE, False),
        (FaultKind.THROTTLED, 4, Reason.STORE_UNAVAILABLE, False),
        (FaultKind.UNAVAILABLE, 1, Reason.STORE_UNAVAILABLE, False),
        (FailureKind.TIMEOUT, 1, Reason.STORE_UNAVAILABLE, False),
        (FailureKind.CREDENTIALS, 2, Reason.STORE_DENIED, False),
    ],
)
def test_a_failed_write_is_settled_only_if_no_earlier_try_can_have_worked(
    kind: FaultKind | FailureKind, attempts: int, reason: Reason, settled: bool
) -> None:
    failed = Failed(kind, "Code", "why", attempts)
    assert store.failure(failed, 3) == StoreFailed(reason, "Code: why", settled, 3)


@pytest.mark.parametrize("answers", [[reply(204)], [missing()], [DENIED], [BROKEN] * 4])
def test_a_copy_is_deleted_as_far_as_can_be(answers: list[Reply]) -> None:
    script = Script(*answers)
    assert script.run(store.delete_copy(SERVICES, URL, "e1")) == CleanedUp()
    assert script.said[0] == f"DELETE /bucket/{keys.object_key(URL, 'e1')}"


def test_writing_an_epoch() -> None:
    script = Script(reply(200, etag='"e"'))
    assert script.run(store.write_epoch(SERVICES, URL, "e1")) == EpochWritten("e1")
    assert script.said == [f"PUT /bucket/{keys.epoch_key(URL)}"]


def test_each_try_to_write_an_epoch_has_a_name_of_its_own() -> None:
    script = Script(BROKEN, error(503, "SlowDown"), reply(200, etag='"e"'))
    assert script.run(store.write_epoch(SERVICES, URL, "e1")) == EpochWritten("e1-3")
    assert [bytes(call.request.body) for call in script.calls if isinstance(call, HttpExchange)] == [
        b"e1",
        b"e1-2",
        b"e1-3",
    ]
    assert script.waits == [Backoff(0.1), Backoff(0.2)]


def test_an_epoch_that_cannot_be_written() -> None:
    for answers, reason in (([DENIED], Reason.STORE_DENIED), ([BROKEN] * 4, Reason.STORE_UNAVAILABLE)):
        failed = Script(*answers).run(store.write_epoch(SERVICES, URL, "e1"))
        assert isinstance(failed, StoreFailed)
        assert failed.reason is reason


PREFIX = keys.object_prefix(URL)


def uploads(*named: tuple[str, str], more: str = "") -> HttpReply:
    each = "".join(f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId></Upload>" for key, upload_id in named)
    cut = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
    after = f"<NextKeyMarker>{more}</NextKeyMarker><NextUploadIdMarker>{more}</NextUploadIdMarker>" if more else ""
    return reply(200, f"<ListMultipartUploadsResult>{cut}{after}{each}</ListMultipartUploadsResult>")


def objects(*named: str, more: str = "") -> HttpReply:
    each = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in named)
    cut = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
    after = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return reply(200, f"<ListBucketResult>{cut}{after}{each}</ListBucketResult>")


GONE = reply(204)
CURRENT = reply(200, "e3")


def test_sweeping_goes_through_every_page_and_leaves_the_epochs_that_are_in_use() -> None:
    """e2 is this purge's; e3 is another's that overtook it."""
    old, new, newer = f"{PREFIX}e1/file.bin", f"{PREFIX}e2/file.bin", f"{PREFIX}e3/file.bin"
    like_new = f"{PREFIX}e22/file.bin"
    script = Script(
        uploads((old, "u1"), (new, "u2"), (newer, "u3"), more="next"),
        CURRENT,
        GONE,
        uploads((like_new, "u4")),
        CURRENT,
        GONE,
        objects(old, new, newer, more="next"),
        CURRENT,
        GONE,
        objects(like_new, f"{PREFIX}e2"),
        CURRENT,
        GONE,
        GONE,
    )
    assert script.run(store.sweep(SERVICES, URL, "e2")) == Swept()
    assert [said for said in script.said if said.startswith("DELETE")] == [
        f"DELETE /bucket/{old}?uploadId=u1",
        f"DELETE /bucket/{like_new}?uploadId=u4",
        f"DELETE /bucket/{old}",
        f"DELETE /bucket/{like_new}",
        f"DELETE /bucket/{PREFIX}e2",
    ]
    listed = [said for said in script.said if said.startswith("GET") and said != EPOCH]
    assert ["uploads" in said for said in listed] == [True, True, False, False]
    assert ["next" in said for said in listed] == [False, True, False, True]


def test_sweeping_asks_for_no_epoch_where_there_is_nothing_else() -> None:
    script = Script(uploads((f"{PREFIX}e2/a", "u1")), objects(f"{PREFIX}e2/a"))
    assert script.run(store.sweep(SERVICES, URL, "e2")) == Swept()
    assert len(script.said) == 2


@pytest.mark.parametrize(
    "answers",
    [
        [DENIED],
        [uploads((f"{PREFIX}e1/a", "u1")), DENIED, DENIED],
        [uploads((f"{PREFIX}e1/a", "u1")), CURRENT, DENIED],
        [uploads(), DENIED],
        [uploads(), objects(f"{PREFIX}e1/a"), DENIED, DENIED],
        [uploads(), objects(f"{PREFIX}e1/a"), CURRENT, DENIED],
    ],
)
def test_a_sweep_that_cannot_be_ended_says_so(answers: list[Reply]) -> None:
    failed = Script(*answers).run(store.sweep(SERVICES, URL, "e2"))
    assert isinstance(failed, StoreFailed)
    assert failed.reason is Reason.STORE_DENIED


def test_an_upload_that_is_gone_already_and_an_empty_store_are_fine() -> None:
    gone = error(404, "NoSuchUpload")
    script = Script(uploads((f"{PREFIX}e1/a", "u1")), CURRENT, gone, objects())
    assert script.run(store.sweep(SERVICES, URL, "e2")) == Swept()
    silent = TransportFailure(FailureKind.TIMEOUT)
    script = Script(silent, silent, uploads(), objects())
    assert script.run(store.sweep(SERVICES, URL, "e2")) == Swept()
