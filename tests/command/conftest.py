"""An environment that says nothing of Cloud Mirror, and an empty working directory."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CLOUD_MIRROR"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
