"""The model of a store by itself: what servers in tests do not check, pages, lifecycles, weather, twins."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import pytest

from cloud_mirror.policy import MIB
from cloud_mirror.simulator.models import SimulatedProvider, StoreModel, denied, throttled, unavailable
from cloud_mirror.wire.calls import HttpReply, HttpRequest
from cloud_mirror.wire.checksums import combine_parts, crc64nvme
from cloud_mirror.wire.storage import (
    BucketObject,
    FaultKind,
    ObjectAttributes,
    PartPage,
    PartReceipt,
    ServiceFault,
    SetupStep,
)
from tests.wire.exchange import KEYS, reply

T = TypeVar("T")

NOW_S = 1_000.0
DAY_S = 86_400.0
PROVIDER = SimulatedProvider()
KEPT = ObjectAttributes("text/x", "gzip", "attachment", "de", (("copy-id", "c"),), (("team", "a"),))


class Asked:
    """A store that is asked through its provider."""

    def __init__(self, model: StoreModel) -> None:
        self.model = model
        self.now_s = NOW_S

    def __call__(self, request: HttpRequest, read: Callable[[HttpReply], T]) -> T:
        return read(self.model.handle(PROVIDER.sign(request, KEYS), self.now_s))

    def put(self, key: str, body: bytes = b"body") -> str:
        return self(PROVIDER.put_request(key, body, KEPT, crc64nvme(body)), PROVIDER.read_put)

    def begin(self, key: str, *bodies: bytes) -> tuple[str, tuple[PartReceipt, ...]]:
        upload_id = self(PROVIDER.create_upload_request(key, KEPT), PROVIDER.read_create_upload)
        parts = []
        for number, body in enumerate(bodies, 1):
            crc = crc64nvme(body)
            request = PROVIDER.upload_part_request(key, upload_id, number, memoryview(body), crc)
            parts.append(PartReceipt(number, self(request, PROVIDER.read_upload_part), len(body), crc))
        return upload_id, tuple(parts)

    def complete(self, key: str, upload_id: str, parts: tuple[PartReceipt, ...], off: int = 0, crc: str = "") -> str:
        size = sum(part.size for part in parts) + off
        request = PROVIDER.complete_upload_request(key, upload_id, parts, size, crc)
        return self(request, PROVIDER.read_complete_upload)


@pytest.fixture
def store() -> Asked:
    return Asked(StoreModel(min_part_bytes=4, page=2))


def test_an_object_is_kept_with_what_it_came_with(store: Asked) -> None:
    etag = store.put("00/a/0/x")
    found = store(PROVIDER.head_request("00/a/0/x"), PROVIDER.read_head)
    assert found is not None
    assert (found.size, found.etag, found.crc64nvme) == (4, etag, crc64nvme(b"body"))
    assert (found.meta("copy-id"), found.life_left_s) == ("c", DAY_S)
    kept = store.model.find("00/a/0/x")
    assert kept is not None
    assert (kept.made_by, kept.meta("copy-id"), kept.meta("url"), kept.created_s) == ("put-1", "c", "", NOW_S)
    assert ("tag-team", "a") in kept.kept
    assert store.put("00/a/0/x") == etag
    assert store.model.objects["00/a/0/x"].made_by == "put-2"
    assert PROVIDER.location("00/a b") == "https://store.simulated/00/a%20b"


def test_a_size_that_was_promised_is_compared(store: Asked) -> None:
    upload_id, parts = store.begin("00/k", b"four", b"x")
    with pytest.raises(ServiceFault, match="InvalidRequest"):
        store.complete("00/k", upload_id, parts, off=1)
    store.complete("00/k", upload_id, parts, crc=combine_parts((part.crc, part.size) for part in parts))
    kept = store.model.find("00/k")
    assert kept is not None
    assert (kept.body, kept.made_by, kept.meta("copy-id")) == (b"fourx", upload_id, "c")


def test_an_upload_that_cannot_be_completed_stays_as_it_is(store: Asked) -> None:
    upload_id, parts = store.begin("00/k", b"four", b"xxx", b"tail")
    one, two, three = parts
    for listed, crc, code in (
        (parts, "", "EntityTooSmall"),
        ((one, one), "", "InvalidPartOrder"),
        ((), "", "MalformedXML"),
        ((one, PartReceipt(4, one.etag, 4)), "", "InvalidPart"),
        ((PartReceipt(1, two.etag, 4),), "", "InvalidPart"),
        ((PartReceipt(1, one.etag, 4, two.crc),), "", "InvalidPart"),
        ((one, three), two.crc, "BadDigest"),
    ):
        with pytest.raises(ServiceFault, match=f"rejected: {code}:"):
            store.complete("00/k", upload_id, listed, crc=crc)
    with pytest.raises(ServiceFault, match="InvalidArgument"):
        store(PROVIDER.upload_part_request("00/k", upload_id, 10_001, b"", one.crc), PROVIDER.read_upload_part)
    with pytest.raises(ServiceFault, match="BadDigest"):
        store(PROVIDER.upload_part_request("00/k", upload_id, 1, b"", two.crc), PROVIDER.read_upload_part)
    with pytest.raises(ServiceFault, match="BadDigest"):
        store(PROVIDER.put_request("00/k", b"", KEPT, two.crc), PROVIDER.read_put)
    (upload,) = store.model.uploads
    assert [part.number for part in upload.parts] == [1, 2, 3]
    assert store.model.find("00/k") is None


def test_an_upload_is_of_its_key_alone_and_ends_once(store: Asked) -> None:
    upload_id, parts = store.begin("00/k", b"x")
    with pytest.raises(ServiceFault, match="NoSuchUpload"):
        store.complete("00/other", upload_id, parts)
    etag = store.complete("00/k", upload_id, parts)
    with pytest.raises(ServiceFault, match="NoSuchUpload"):
        store.complete("00/k", upload_id, parts)
    store(PROVIDER.abort_upload_request("00/k", upload_id), PROVIDER.read_abort_upload)
    again = Asked(StoreModel(repeats=True))
    upload_id, parts = again.begin("00/k", b"x")
    for _ in range(2):
        assert again.complete("00/k", upload_id, parts) == etag
    again.put("00/k")
    with pytest.raises(ServiceFault, match="NoSuchUpload"):
        again.complete("00/k", upload_id, parts)


def test_listings_come_page_by_page(store: Asked) -> None:
    keys = ("00/a", "00/b", "00/é", "01/a")
    for key in reversed(keys):
        store.put(key)
    begun = [store.begin(key)[0] for key in ("00/b", "00/a", "00/b", "01/a", "00/b")]
    listed: list[tuple[str, ...]] = []
    marker = ""
    while not listed or marker:
        page = store(PROVIDER.list_objects_request("00/", marker), PROVIDER.read_list_objects)
        listed.append(page.keys)
        marker = page.next_marker
    assert listed == [keys[:2], keys[2:3]]
    uploads: list[list[str]] = []
    while not uploads or marker:
        found = store(PROVIDER.list_uploads_request("00/", marker), PROVIDER.read_list_uploads)
        uploads.append([upload.upload_id for upload in found.uploads])
        marker = found.next_marker
    assert uploads == [[begun[1], begun[0]], [begun[2], begun[4]]]
    assert store(PROVIDER.list_objects_request("02/"), PROVIDER.read_list_objects).keys == ()


def test_what_is_past_its_life_goes_when_the_rules_are_carried_out(store: Asked) -> None:
    for key in ("00/copy", "purged/epoch", "dead/letter"):
        store.put(key)
    upload_id, _ = store.begin("00/slow")
    assert store.model.expire(NOW_S + DAY_S - 1) == ()
    store.now_s += DAY_S + 1
    late = store(PROVIDER.head_request("00/copy"), PROVIDER.read_head)
    assert late is not None
    assert late.life_left_s == -1.0
    store.model.set_clock(1.0)
    assert store.model.expire(NOW_S + DAY_S - 1) == ("00/copy",)
    store.model.set_clock(0.0)
    assert store.model.expire(NOW_S + 2 * DAY_S) == (upload_id,)
    assert store.model.expire(NOW_S + 3 * DAY_S) == ("purged/epoch",)
    assert store.model.expire(NOW_S + 14 * DAY_S) == ("dead/letter",)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (denied(), FaultKind.DENIED),
        (throttled(), FaultKind.THROTTLED),
        (unavailable(), FaultKind.UNAVAILABLE),
        (reply(409), FaultKind.CONFLICT),
    ],
)
def test_weather_is_told_as_s3_s_provider_tells_it(answer: HttpReply, kind: FaultKind) -> None:
    readers: tuple[Callable[[HttpReply], object], ...] = (
        PROVIDER.read_head,
        PROVIDER.read_get,
        PROVIDER.read_put,
        PROVIDER.read_delete,
        PROVIDER.read_create_upload,
        PROVIDER.read_upload_part,
        PROVIDER.read_complete_upload,
        PROVIDER.read_abort_upload,
        PROVIDER.read_list_objects,
        PROVIDER.read_list_uploads,
    )
    for read in readers:
        with pytest.raises(ServiceFault) as caught:
            read(answer)
        assert caught.value.kind is kind


def test_a_simulated_store_is_ready_and_takes_keys_as_s3_does() -> None:
    assert PROVIDER.setup_steps() == ()
    with pytest.raises(AssertionError, match="no steps"):
        PROVIDER.read_setup(SetupStep("made up", PROVIDER.get_request("k")), reply(200))
    for key in ("", "é" * 513):
        with pytest.raises(ValueError, match="1 to 1,024 bytes"):
            PROVIDER.head_request(key)


def test_a_twin_goes_its_own_way(store: Asked) -> None:
    upload_id, parts = store.begin("00/k", b"x")
    store.put("00/other")
    twin = Asked(store.model.copy())
    assert twin.model.key() == store.model.key()
    assert twin.model.made == 2
    twin.complete("00/k", upload_id, parts)
    assert twin.model.key() != store.model.key()
    assert [each.upload_id for each in store.model.uploads] == [upload_id]
    twin.model.lose("00/k")
    assert store(PROVIDER.get_request("00/k"), PROVIDER.read_get) is None
    assert store(PROVIDER.head_request("00/k"), PROVIDER.read_head) is None
    assert store(PROVIDER.get_request("00/other"), PROVIDER.read_get) == b"body"
    store(PROVIDER.delete_request("00/other"), PROVIDER.read_delete)
    assert store.model.find("00/other") is None


def test_a_part_s_least_size_is_s3_s_unless_another_is_asked_for() -> None:
    store = Asked(StoreModel())
    large = b"L" * (5 * MIB)
    upload_id, parts = store.begin("00/k", large, b"x")
    store.complete("00/k", upload_id, parts)
    kept = store.model.find("00/k")
    assert kept is not None
    assert len(kept.body) == 5 * MIB + 1


@pytest.mark.parametrize("lists_crcs", [False, True])
def test_the_parts_of_an_upload_are_listed_page_by_page(lists_crcs: bool) -> None:
    store = Asked(StoreModel(page=2, lists_crcs=lists_crcs))
    upload_id, parts = store.begin("00/k", b"one", b"two", b"three")
    listed = tuple(PartReceipt(part.number, part.etag, part.size, part.crc if lists_crcs else "") for part in parts)
    twin = Asked(store.model.copy())
    for asked in (store, twin):
        first = asked(PROVIDER.list_parts_request("00/k", upload_id), PROVIDER.read_list_parts)
        assert first == PartPage(listed[:2], "2")
        last = asked(PROVIDER.list_parts_request("00/k", upload_id, first.next_marker), PROVIDER.read_list_parts)
        assert last == PartPage(listed[2:])
    for key, name in (("00/other", upload_id), ("00/k", "upload-9")):
        with pytest.raises(ServiceFault) as caught:
            store(PROVIDER.list_parts_request(key, name), PROVIDER.read_list_parts)
        assert (caught.value.kind, caught.value.code) == (FaultKind.NOT_FOUND, "NoSuchUpload")


def test_an_upload_is_listed_with_the_moment_of_its_beginning(store: Asked) -> None:
    store.begin("00/k")
    (upload,) = store(PROVIDER.list_uploads_request("00/"), PROVIDER.read_list_uploads).uploads
    assert upload.initiated == datetime.fromtimestamp(NOW_S, UTC)


def test_a_copy_within_the_store_keeps_what_it_is_given_and_has_a_checksum(store: Asked) -> None:
    etag = store(PROVIDER.put_request("src", b"body", KEPT), PROVIDER.read_put)
    given = ObjectAttributes("text/y", metadata=(("copy-id", "d"),))
    source = BucketObject("any", "src", etag)
    assert store(PROVIDER.copy_object_request("00/k", source, given), PROVIDER.read_copy_object) == etag
    kept = store.model.find("00/k")
    assert kept is not None
    assert (kept.body, kept.crc) == (b"body", crc64nvme(b"body"))
    assert dict(kept.kept) == {"content-type": "text/y", "meta-copy-id": "d"}


def test_a_part_may_be_a_range_of_an_object_in_the_store(store: Asked) -> None:
    source = BucketObject("any", "src", store.put("src", b"0123456789"))
    upload_id, _ = store.begin("00/k")
    parts = tuple(
        store(
            PROVIDER.copy_part_request("00/k", upload_id, number, source, first, last),
            partial(PROVIDER.read_copy_part, number, last - first + 1),
        )
        for number, first, last in ((1, 0, 4), (2, 5, 9))
    )
    assert [(part.size, part.crc) for part in parts] == [(5, crc64nvme(b"01234")), (5, crc64nvme(b"56789"))]
    store.complete("00/k", upload_id, parts, crc=crc64nvme(b"0123456789"))
    assert store.model.objects["00/k"].body == b"0123456789"


def test_what_a_copy_was_not_looked_at_for_is_not_copied(store: Asked) -> None:
    etag = store.put("src", b"0123456789")
    upload_id, _ = store.begin("00/k")
    for source, last, code in (
        (BucketObject("any", "none", etag), 9, "NoSuchKey"),
        (BucketObject("any", "src", '"other"'), 9, "PreconditionFailed"),
        (BucketObject("any", "src", etag), 10, "InvalidArgument"),
    ):
        request = PROVIDER.copy_part_request("00/k", upload_id, 1, source, 0, last)
        with pytest.raises(ServiceFault, match=code):
            store(request, partial(PROVIDER.read_copy_part, 1, 10))
        if last < 10:
            with pytest.raises(ServiceFault, match=code):
                store(PROVIDER.copy_object_request("00/k", source, KEPT), PROVIDER.read_copy_object)
    with pytest.raises(ServiceFault, match="InvalidArgument"):
        store(
            PROVIDER.copy_part_request("00/k", upload_id, 0, BucketObject("any", "src", etag), 0, 9),
            partial(PROVIDER.read_copy_part, 0, 10),
        )
    with pytest.raises(ValueError, match="needs the ETag of 'src'"):
        PROVIDER.copy_object_request("00/k", BucketObject("any", "src"), KEPT)
    assert store.model.find("00/k") is None
    assert store.model.uploads[0].parts == ()


def test_tags_take_the_place_of_others_and_change_nothing_else(store: Asked) -> None:
    store.put("00/k")
    before = store.model.objects["00/k"]
    store(PROVIDER.put_tags_request("00/k", (("sha256", "abc"),)), PROVIDER.read_put_tags)
    after = store.model.objects["00/k"]
    assert {pair for pair in before.kept if pair not in after.kept} == {("tag-team", "a")}
    assert {pair for pair in after.kept if pair not in before.kept} == {("tag-sha256", "abc")}
    assert (after.body, after.etag, after.made_by, after.created_s) == (b"body", before.etag, "put-1", NOW_S)
    with pytest.raises(ServiceFault) as caught:
        store(PROVIDER.put_tags_request("00/none", ()), PROVIDER.read_put_tags)
    assert caught.value.kind is FaultKind.NOT_FOUND
