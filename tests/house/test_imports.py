"""Who may import whom: the layers point in one direction, and the core stays pure."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPURE = frozenset({"time", "random", "uuid", "os", "socket", "ssl", "logging", "threading", "asyncio"})
STDLIB = frozenset(sys.stdlib_module_names)
PURE_STDLIB = STDLIB - IMPURE
SHELLS = frozenset({"cloud_mirror_asyncio", "cloud_mirror_trio", "cloud_mirror_sync"})
COMMAND = "cloud_mirror_command"
OURS = frozenset({"cloud_mirror", *SHELLS, COMMAND})


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, where it stands, and whether only a call of a function brings it in."""

    module: str
    line: int
    lazy: bool

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]

    def within(self, package: str) -> bool:
        return self.module == package or self.module.startswith(package + ".")


def imports(source: str) -> Iterator[Import]:
    """Every import of a file, those for types included; `from a import b` is `a.b`, for b may be a module."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                module = "." * child.level + (child.module or "")
                yield from (Import(f"{module}.{alias.name}", child.lineno, lazy) for alias in child.names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, lazy or inside)

    return walk(ast.parse(source), lazy=False)


def layer_of(path: Path) -> str:
    """The layer that a file belongs to, by where it lies under the project's root."""
    match path.parts:
        case ("core", "cloud_mirror", ("wire" | "simulator") as layer, *_):
            return layer
        case ("core", *_):
            return "core"
        case ("shells", _, package, *_):
            return package
    raise ValueError(f"{path} is in no layer: add it to layer_of, with its rule in allowed")


def allowed(layer: str, found: Import) -> bool:
    """The rule: whether a file of that layer may hold that import."""
    if found.root == "":
        return False  # relative: it would hide what it names
    wire, simulator = found.within("cloud_mirror.wire"), found.within("cloud_mirror.simulator")
    core = found.within("cloud_mirror") and not wire and not simulator
    match layer:
        case "core":
            return core or found.root in PURE_STDLIB
        case "wire":
            # `logging` to silence botocore's loggers, which write bodies, and for what all shells would word alike
            libraries = {"botocore", "awscrt", "prometheus_client", "h11", "logging"}
            return core or wire or found.root in PURE_STDLIB | libraries
        case "simulator":
            return core or wire or simulator or found.root in PURE_STDLIB
        case "cloud_mirror_command":
            return found.root not in SHELLS or found.lazy
        case _:
            return core or wire or found.root == layer or found.root not in OURS


def offences(path: Path, source: str) -> list[str]:
    """What a file, named from the project's root, imports against the rule."""
    layer = layer_of(path)
    return [
        f"{path}:{found.line}: {layer} may not import {found.module}"
        for found in imports(source)
        if not allowed(layer, found)
    ]


def test_every_file_imports_only_what_its_layer_may() -> None:
    paths = [path.relative_to(ROOT) for tree in ("core", "shells") for path in sorted((ROOT / tree).rglob("*.py"))]
    assert Path("core/cloud_mirror/keys.py") in paths  # otherwise this looks at the wrong place
    found = [line for path in paths for line in offences(path, (ROOT / path).read_text())]
    assert not found, "\n".join(found)


def test_the_core_loads_where_nothing_is_installed() -> None:
    files = sorted((ROOT / "core" / "cloud_mirror").glob("*.py"))
    modules = [f"cloud_mirror.{path.stem}" for path in files if path.stem != "__init__"]
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'core')!r}); import {', '.join(modules)}"
    bare = [sys.executable, "-I", "-S", "-W", "error", "-c", program]  # without site-packages
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


CORE = "core/cloud_mirror/made_up.py"
WIRE = "core/cloud_mirror/wire/made_up.py"
SIMULATOR = "core/cloud_mirror/simulator/made_up.py"
SHELL = "shells/asyncio/cloud_mirror_asyncio/made_up.py"
COMMANDS = "shells/command/cloud_mirror_command/made_up.py"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        *((CORE, f"import {name}") for name in sorted(IMPURE)),
        (CORE, "from asyncio import Queue"),
        (CORE, "import os.path"),
        (CORE, "def late():\n    import time"),
        (CORE, "if TYPE_CHECKING:\n    import botocore.model"),
        (CORE, "import botocore"),
        (CORE, "from cloud_mirror import wire"),
        (CORE, "from cloud_mirror.wire.calls import Done"),
        (CORE, "import cloud_mirror.simulator"),
        (CORE, "import cloud_mirror_asyncio"),
        (CORE, "from . import entry"),
        (CORE, "from .entry import Entry"),
        (WIRE, "import aiohttp"),
        (WIRE, "import time"),
        (WIRE, "from cloud_mirror.simulator import world"),
        (WIRE, "import cloud_mirror_asyncio.client"),
        (SIMULATOR, "import botocore"),
        (SIMULATOR, "import asyncio"),
        (SHELL, "import cloud_mirror_trio"),
        (SHELL, "def late():\n    from cloud_mirror_sync import serve"),
        (SHELL, "from cloud_mirror_command import main"),
        (SHELL, "from cloud_mirror.simulator import world"),
        (COMMANDS, "import cloud_mirror_asyncio"),
        (COMMANDS, "class Late:\n    from cloud_mirror_asyncio import serve"),
    ],
)
def test_an_import_against_the_rule_is_found(path: str, source: str) -> None:
    assert len(offences(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (CORE, "import hashlib\nfrom cloud_mirror.entry import Entry\nfrom cloud_mirror import keys"),
        (WIRE, "import botocore.auth\nimport awscrt.checksums\nimport h11\nimport prometheus_client"),
        (WIRE, "from cloud_mirror import entry\nfrom cloud_mirror.wire.calls import Done"),
        (SIMULATOR, "from cloud_mirror.wire import calls\nfrom cloud_mirror.simulator import world"),
        (
            SHELL,
            "import aiohttp, asyncio, time\nfrom cloud_mirror.wire import calls\nimport cloud_mirror_asyncio.client",
        ),
        (COMMANDS, "def serve():\n    from cloud_mirror_asyncio import serve"),
        (COMMANDS, "from cloud_mirror.simulator import world\nimport typer"),
    ],
)
def test_an_import_within_the_rule_passes(path: str, source: str) -> None:
    assert offences(Path(path), source) == []
