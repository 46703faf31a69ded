"""The settings: their defaults are those that docs/operating.md tells."""

import dataclasses
import re
from pathlib import Path

import pytest

from cloud_mirror.policy import (
    GIB,
    MIB,
    OnDeadline,
    Policy,
    PoolPolicy,
    QueuePolicy,
    RedisPolicy,
    ServerPolicy,
    SourcePolicy,
    WorkerPolicy,
)

OPERATING = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
SECTIONS = {
    "[server]": ServerPolicy,
    "[redis]": RedisPolicy,
    "[queue]": QueuePolicy,
    "[source]": SourcePolicy,
    "[worker]": WorkerPolicy,
    "[[pool]]": PoolPolicy,
}
NAMES = {"part_bytes": "part_size", "memory_budget_bytes": "memory_budget"}
NOTHING = {"", "none", "none: nothing may be copied", "AWS itself", "the bucket's own address"}
"""How the page puts into words what is not set, or must be."""


def shown(default: object) -> str:
    """A default as the page writes it, but for its marks."""
    match default:
        case bool():
            return str(default).lower()
        case OnDeadline():
            return default.value
        case int() if default >= GIB:
            return f"{default / GIB:g} GiB"
        case int() if default >= MIB:
            return f"{default / MIB:g} MiB"
        case int() | float():
            return f"{default:.10g}"
        case str() if default:
            return default
    return "in words"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_told_with_its_default(section: str) -> None:
    table = OPERATING.partition(f"### `{section}`\n")[2].partition("\n#")[0]
    told: dict[str, str] = {}
    for keys, cell in re.findall(r"^\| (`[^|]+) \| ?([^|]*) ?\|", table, re.MULTILINE):
        names = re.findall(r"`([a-z_]+)`", keys)
        text = re.sub(r'[`"]|(?<=[0-9]),(?=[0-9]{3})', "", cell).strip()
        values = text.split(", ") if ", " in text else [text] * len(names)
        told |= {name: "in words" if value in NOTHING else value for name, value in zip(names, values, strict=True)}
    fields = dataclasses.fields(SECTIONS[section])
    assert told == {NAMES.get(field.name, field.name): shown(field.default) for field in fields}


def test_names_are_made_of_the_settings() -> None:
    queue = QueuePolicy(prefix="mirror")
    assert (queue.name("s3_here"), queue.dead_name("s3_here")) == ("mirror-s3_here", "mirror-s3_here-dead")
    assert PoolPolicy("s3", "here", "bucket").name == "s3_here"


def test_secrets_are_not_shown() -> None:
    policy = Policy(redis=RedisPolicy(url="redis://:hidden@cache.example/0"), admin_token="hidden")
    assert "hidden" not in repr(policy)


def test_nothing_is_allowed_by_default() -> None:
    policy = Policy()
    assert (policy.pools, policy.admin_token) == ((), "")


def test_units_and_words() -> None:
    assert (MIB, GIB) == (2**20, 2**30)
    assert [each.value for each in OnDeadline] == ["origin", "fail"]
