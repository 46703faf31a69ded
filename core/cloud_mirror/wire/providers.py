"""Which class implements a store: found by the pool's service name, in the entry-point group `cloud_mirror.storage`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Final

from cloud_mirror.policy import PoolPolicy
from cloud_mirror.wire.storage import StorageProvider

GROUP: Final = "cloud_mirror.storage"

BUILT_IN: Final = (EntryPoint("s3", "cloud_mirror.wire.s3:S3Provider", GROUP),)
"""For a source tree that is on the path and not installed, which has no entry points."""


def provider_for(pool: PoolPolicy) -> StorageProvider:
    """The pool's store.

    Raises ValueError where no class of that service can be used, or the class refuses the pool's settings.
    """
    stores = {(each.name, each.value): each for each in (*entry_points(group=GROUP), *BUILT_IN)}
    found = [each for each in stores.values() if each.name == pool.service]
    if not found:
        known = ", ".join(sorted({each.name for each in stores.values()}))
        raise ValueError(
            f"pool {pool.name}: no store is called {pool.service!r}: choose {known}, or install its package"
        )
    if len(found) > 1:
        rivals = ", ".join(sorted(each.value for each in found))
        raise ValueError(f"pool {pool.name}: {pool.service!r} is claimed by {rivals}: uninstall all but one")
    try:
        made = found[0].load()(pool)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"pool {pool.name}: {found[0].value} cannot be loaded ({error}): install it again") from error
    if not isinstance(made, StorageProvider):
        raise ValueError(f"pool {pool.name}: {found[0].value} is no StorageProvider: ask its maker")
    return made
