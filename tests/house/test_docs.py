"""The docs say what the code says."""

import re
from pathlib import Path

import typer.main

from cloud_mirror.policy import SourcePolicy
from cloud_mirror.wire.hosts import HostBook
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror_command import config
from cloud_mirror_command.main import app

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()


def test_every_metric_is_listed() -> None:
    listed = set(re.findall(r"^\| `(cloud_mirror_[a-z_]+)` \|", OPERATING, re.MULTILINE))
    metrics = Metrics()
    metrics.watch_origins(HostBook(SourcePolicy(), lambda: 0.0))
    text = metrics.text().decode()
    assert listed == set(re.findall(r"^# TYPE (cloud_mirror_[a-z_]+?) ", text, re.MULTILINE)) - {
        name for name in re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE) if name.endswith("_created")
    }


def test_links_between_the_docs_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_configuration_that_is_shown_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "cloud-mirror.toml"
    file.write_text(OPERATING.partition("```toml\n")[2].partition("```")[0])
    assert [pool.name for pool in config.load(file).pools] == ["s3_us-west-1"]


def test_every_command_that_is_named_exists() -> None:
    known = set(typer.main.get_group(app).commands)
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]:
        text = page.read_text()
        named = set(re.findall(r"[`\s]cloud-mirror (?:--config \S+ )?([a-z]+)", text)) - {"in"}
        assert named <= known, page.name
        for module in re.findall(r"python -m (benchmarks\.[a-z_]+)", text):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
