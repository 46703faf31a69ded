"""A maker for each shell, and for a mixture of all three."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from tests.conformance.maker import Maker, installed
from tests.fleet import MIXED, SHELLS
from tests.servers import Moto, SeaweedFS, Valkey

pytest.register_assert_rewrite("tests.conformance.cases")  # a failed case shows its values


@pytest.fixture(scope="package")
def maker_of(
    tmp_path_factory: pytest.TempPathFactory, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto
) -> Iterator[Callable[[str], Maker]]:
    """Gives the maker of a shell, or of the mixture. One at a time: the sites of the last one end with the next one.

    None outlives the suite: other tests count what is connected to the servers.
    """
    with ExitStack() as last:
        made: dict[str, Maker] = {}

        def of(shell: str) -> Maker:
            if shell not in made:
                last.close()
                made.clear()
                kinds = [installed(kind) for kind in (SHELLS if shell == MIXED else (shell,))]
                maker = Maker(tmp_path_factory.mktemp(shell), valkey, seaweedfs, moto, kinds)
                made[shell] = last.enter_context(closing(maker))
            return made[shell]

        yield of


@pytest.fixture
def make(request: pytest.FixtureRequest, maker_of: Callable[[str], Maker]) -> Maker:
    """Makes sites of the processes of the shell that the test is for."""
    shell: str = request.param
    return maker_of(shell)
