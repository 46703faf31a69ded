"""The demo, as a newcomer runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet import MIXED, SHELLS


@pytest.mark.timeout(240)  # it copies 300 MiB through made-up servers, on a machine that may be busy
def test_every_step_of_the_demo_gives_what_it_should(tmp_path: Path, shell: str) -> None:
    one = SHELLS[0] if shell == MIXED else shell  # the demo is one process
    command = [str(Path(sys.executable).with_name("cloud-mirror")), "demo", "--once", "--shell", one]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every step gave what it should." in done.stdout
    assert "failed" not in done.stdout
