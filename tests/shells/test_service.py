"""A process whose mirror has lost a part: it ends, so that whoever keeps it running starts a whole one."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.fleet import SHELLS, Fleet, fleet_of
from tests.servers import Moto, SeaweedFS, Valkey

BROKEN: Final = """
import sys
from importlib import import_module
from cloud_mirror_command.main import main

def broken(*_):
    raise AssertionError("broken on purpose")
    yield

import_module(f"cloud_mirror_{sys.argv.pop(1)}.mirror").await_queues = broken
main()
"""
"""The command, but what looks for the queues breaks off. Its first argument is the shell."""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_process_of_which_a_part_broke_off_ends(
    shell: str, tmp_path: Path, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto
) -> None:
    with fleet_of(Fleet(tmp_path, valkey, seaweedfs, moto, "http://localhost:1", shell=shell)) as fleet:
        words = fleet.command("serve", "--port", "0")[1:]
        ended = subprocess.run(
            [sys.executable, "-c", BROKEN, shell, *words],
            env=fleet.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1, ended.stderr
    assert "a part of the mirror broke off" in ended.stderr
    assert "draining" in ended.stderr
    assert "stopped" in ended.stderr
