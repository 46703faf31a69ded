"""What runs these tests."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The shell's own."""
    return "asyncio"
