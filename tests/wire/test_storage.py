"""What a store gets that overrides nothing: steps without checks are taken each time, as they stand."""

from cloud_mirror.policy import PoolPolicy
from cloud_mirror.wire.asking import Answered
from cloud_mirror.wire.calls import HttpReply
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.setup import is_done
from cloud_mirror.wire.storage import SetupStep, StorageProvider
from tests.wire.driving import by_hand, drive

PROVIDER = S3Provider(PoolPolicy("s3", "us-west-1", "bucket-one", endpoint_url="http://127.0.0.1:1"))
STEP = SetupStep("make it", PROVIDER.head_request("anything"))


def test_a_step_without_a_check_is_never_done_already_and_asks_nobody() -> None:
    assert drive(is_done(PROVIDER, STEP), by_hand()) == Answered(False)


def test_a_store_without_checks_of_its_own_sends_a_step_as_it_stands() -> None:
    reply = HttpReply(200, ())
    assert StorageProvider.read_setup_check(PROVIDER, STEP, reply) is False
    assert StorageProvider.setup_request(PROVIDER, STEP, reply) is STEP.request
