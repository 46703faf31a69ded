"""Which class a pool's store is."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from cloud_mirror.policy import PoolPolicy
from cloud_mirror.wire import providers
from cloud_mirror.wire.providers import GROUP, provider_for
from cloud_mirror.wire.s3 import S3Provider

POOL = PoolPolicy("s3", "us-west-2", "bucket")


def install(monkeypatch: pytest.MonkeyPatch, *stores: tuple[str, str]) -> None:
    def entry_points(*, group: str) -> tuple[EntryPoint, ...]:
        return tuple(EntryPoint(name, value, group) for name, value in stores if group == GROUP)

    monkeypatch.setattr(providers, "entry_points", entry_points)


def test_s3_is_there_installed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(provider_for(POOL), S3Provider)
    install(monkeypatch)
    assert isinstance(provider_for(POOL), S3Provider)
    install(monkeypatch, ("s3", "cloud_mirror.wire.s3:S3Provider"))
    assert isinstance(provider_for(POOL), S3Provider)


def test_another_store_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("other", "cloud_mirror.wire.s3:S3Provider"))
    assert isinstance(provider_for(PoolPolicy("other", "us-west-2", "bucket")), S3Provider)


@pytest.mark.parametrize(
    ("stores", "service", "message"),
    [
        ([], "gcs", r"pool gcs_us-west-2: no store is called 'gcs': choose s3, or install"),
        ([("s3", "elsewhere:Store")], "s3", r"'s3' is claimed by cloud_mirror.wire.s3:S3Provider, elsewhere:Store"),
        ([("x", "no_such_module:Store")], "x", r"no_such_module:Store cannot be loaded .* install it again"),
        ([("x", "cloud_mirror.keys:Missing")], "x", r"cloud_mirror.keys:Missing cannot be loaded"),
        ([("x", "builtins:repr")], "x", r"builtins:repr is no StorageProvider"),
    ],
)
def test_a_store_that_cannot_be_used_is_named(
    stores: Any, service: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, *stores)
    with pytest.raises(ValueError, match=message):
        provider_for(PoolPolicy(service, "us-west-2", "bucket"))


def test_a_pool_s_own_mistake_is_told_as_it_is() -> None:
    with pytest.raises(ValueError, match="pool s3_us-west-2: bucket is ''"):
        provider_for(PoolPolicy("s3", "us-west-2", ""))
