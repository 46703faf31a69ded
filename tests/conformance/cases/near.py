"""Objects that lie in the pool's own store: it copies them by itself, and no byte of them comes through a worker."""

from __future__ import annotations

from typing import Final

from cloud_mirror.copy_table import Row as Copy
from tests.conformance.case import case
from tests.conformance.maker import Maker, Settings
from tests.conformance.site import Site, at

STORED: Final[Settings] = {"source": {"allowed_patterns": ["^http://localhost:[0-9]+/"]}}
"""What a site has whose clients may ask for objects of its store."""


def stored(site: Site, name: str, body: bytes) -> str:
    """The URL of an object that lies in the pool's own store."""
    key = f"source{site.path(name)}"
    client = site.fleet.seaweedfs.client()
    try:
        client.put_object(Bucket=site.fleet.bucket, Key=key, Body=body)
    finally:
        client.close()
    return f"{site.store.url}/{site.fleet.bucket}/{key}"


def fetched(site: Site, url: str) -> int:
    """How often its bytes were asked for."""
    return site.store.count("GET", url.removeprefix(site.store.url))


@case(Copy.WRITTEN, Copy.VERIFIED, Copy.PUBLISHED)
def what_lies_in_the_pool_s_own_store_is_copied_by_the_store(make: Maker) -> None:
    site = make.site(STORED)
    url = stored(site, "near.bin", b"near" * 100_000)
    assert site.body(site.copied(url)) == b"near" * 100_000
    assert fetched(site, url) == 0


@case(Copy.STORE_CANNOT, Copy.PUBLISHED)
def what_the_store_does_not_copy_by_itself_is_fetched_and_put(make: Maker) -> None:
    site = make.site(STORED)
    url = stored(site, "kept.bin", b"kept")
    site.store.answer(403, "PUT", at(url), nth=1, code="AccessDenied")
    assert site.body(site.copied(url)) == b"kept"
    assert fetched(site, url) == 1
