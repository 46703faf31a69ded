"""Copies that the store makes by itself, as calls: what it is told, and what is known of what it made."""

import pytest

from cloud_mirror import keys
from cloud_mirror.copy_actions import CompleteUpload, CopyObject, CopyPart, VerifyCopy
from cloud_mirror.copy_events import CopyDiffers, CopyVerified, CopyWritten, PartUploaded
from cloud_mirror.events import StoreFailed
from cloud_mirror.wire.calls import HttpReply, Reply
from cloud_mirror.wire.cargo import Cargo
from cloud_mirror.wire.checksums import crc64nvme
from cloud_mirror.wire.storage import BucketObject
from tests.wire.carrying import RANGED, Origin, begun, opened, run
from tests.wire.exchange import reply
from tests.wire.pools import BROKEN, URL, Script, completed, error, head, scripted, sent, written

KEY = keys.object_key(URL, "e1")
DENIED = error(403, "AccessDenied")
VERIFY = VerifyCopy("e1", "copy-1")


def copied(name: str) -> HttpReply:
    return reply(200, f"<{name}><ETag>&quot;c&quot;</ETag></{name}>")


def in_a_bucket(length: int, *headers: tuple[str, str]) -> Cargo:
    cargo = begun(Origin(opened(length, *RANGED, *headers)))
    cargo.source = BucketObject("data", "a b", '"v1"')
    return cargo


def test_the_store_is_told_to_copy_an_object() -> None:
    cargo = in_a_bucket(10, ("content-type", "text/x"))
    script = Script(copied("CopyObjectResult"))
    assert run(script, cargo, CopyObject("e1", "copy-1")) == CopyWritten()
    headers, body = sent(script)
    assert script.said == [f"PUT /bucket/{KEY}"]
    assert (headers["x-amz-copy-source"], headers["x-amz-copy-source-if-match"]) == ("data/a%20b", '"v1"')
    assert (headers["content-type"], headers["x-amz-meta-copy-id"], body) == ("text/x", "copy-1", b"")
    assert isinstance(run(Script(head(10, x_amz_checksum_crc64nvme="any")), cargo, VERIFY), CopyVerified)
    assert isinstance(run(Script(head(9)), cargo, VERIFY), CopyDiffers)


@pytest.mark.parametrize(("replies", "settled"), [([DENIED], True), ([BROKEN] * 4, False), ([BROKEN, DENIED], False)])
def test_an_object_that_the_store_does_not_copy(replies: list[Reply], settled: bool) -> None:
    cargo = in_a_bucket(10)
    failed = run(Script(*replies), cargo, CopyObject("e1", "copy-1"))
    assert isinstance(failed, StoreFailed)
    assert failed.settled is settled
    assert isinstance(run(Script(head(10)), cargo, VERIFY), CopyVerified), "it may have been copied all the same"


@pytest.mark.parametrize("promised", [False, True])
def test_the_store_is_told_to_copy_parts(promised: bool) -> None:
    crc = crc64nvme(b"abcdefghij")
    cargo = in_a_bucket(10, *[("x-amz-checksum-crc64nvme", crc)] * promised)
    for number, span in ((2, (5, 9)), (1, (0, 4))):
        script = Script(copied("CopyPartResult"), *[scripted()] * (number == 2))
        assert run(script, cargo, CopyPart("e1", "u1", number, *span)) == PartUploaded(number)
        headers, _ = sent(script)
        assert script.said[0] == f"PUT /bucket/{KEY}?uploadId=u1&partNumber={number}"
        assert headers["x-amz-copy-source-range"] == f"bytes={span[0]}-{span[1]}"
        assert headers["x-amz-copy-source-if-match"] == '"v1"'
        if number == 2:
            assert written(script.calls[1])["bytes_done"] == "5"
    script = Script(completed())
    assert run(script, cargo, CompleteUpload("e1", "u1")) == CopyWritten()
    headers, _ = sent(script)
    assert headers.get("x-amz-checksum-crc64nvme") == (crc if promised else None)
    assert headers["x-amz-mp-object-size"] == "10"
    other = head(10, x_amz_checksum_crc64nvme=crc64nvme(b"abcdefghiJ"))
    assert isinstance(run(Script(other), cargo, VERIFY), CopyDiffers if promised else CopyVerified)


def test_a_part_that_the_store_does_not_copy() -> None:
    failed = run(Script(DENIED), in_a_bucket(10), CopyPart("e1", "u1", 2, 5, 9))
    assert isinstance(failed, StoreFailed)
    assert (failed.part, failed.settled) == (2, True)
