"""A maker for each shell, and for a mixture of all three."""

from collections.abc import Iterator

import pytest

from tests.conformance.maker import Maker, installed
from tests.fleet import MIXED, SHELLS
from tests.servers import Moto, SeaweedFS, Valkey

pytest.register_assert_rewrite("tests.conformance.cases")  # a failed case shows its values


@pytest.fixture(scope="module")
def make(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    valkey: Valkey,
    seaweedfs: SeaweedFS,
    moto: Moto,
) -> Iterator[Maker]:
    """Makes sites of the shell's processes."""
    kinds = [installed(shell) for shell in (SHELLS if request.param == MIXED else (request.param,))]
    maker = Maker(tmp_path_factory.mktemp(request.param), valkey, seaweedfs, moto, kinds)
    yield maker
    maker.close()
