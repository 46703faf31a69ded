"""The house rules about form that a program can check. Each rule is a function, and is seen to fail."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUNCTION_LINES = 70
FILE_LINES = 400
TEST_FILE_LINES = 500

Rule = Callable[[Path, str], Iterator[str]]


def short_file(path: Path, source: str) -> Iterator[str]:
    """A file is read in one sitting."""
    limit = TEST_FILE_LINES if path.parts[0] == "tests" else FILE_LINES
    if (lines := len(source.splitlines())) > limit:
        yield f"{path}: {lines} lines, the limit is {limit}: divide it"


def short_functions(path: Path, source: str) -> Iterator[str]:
    """A function fits on a screen."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, the limit is {FUNCTION_LINES}: divide it"


def frozen_values(path: Path, source: str) -> Iterator[str]:
    """The core's values cannot be changed, and take no attribute that was not declared."""
    if path.parts[0] != "core":
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            call = ast.unparse(decorator)
            if re.match(r"(dataclasses\.)?dataclass\b", call) and not {"frozen=True", "slots=True"} <= set(
                re.findall(r"\w+=\w+", call)
            ):
                yield f"{path}:{node.lineno}: {node.name} is not @dataclass(frozen=True, slots=True)"


def named_exports(path: Path, source: str) -> Iterator[str]:
    """A package says which names it hands on."""
    if path.name != "__init__.py" or path.parts[0] == "tests":
        return
    targets = (
        target
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    )
    if not any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
        yield f"{path}: no __all__: name what the package hands on"


CODES = r"(?:\[[^\]]*\]|:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*)?"
SWITCH = r"#\s*(?:type:\s*ignore|noqa|pragma:\s*no\s+(?:cover|branch))\b" + CODES
SPECIFIC = r"#\s*(?:type:\s*ignore\[|noqa:|pragma:)"


def reasoned_switches(path: Path, source: str) -> Iterator[str]:
    """A check that is switched off names itself, and the line says why."""
    for number, line in enumerate(source.splitlines(), 1):
        for found in re.finditer(SWITCH, line):
            rest = re.sub(SWITCH, "", line[found.end() :])
            if not re.match(SPECIFIC, found.group()) or not re.search(r"\w+ \w+", rest):
                yield f"{path}:{number}: name the check that is switched off, and say why on the same line"


# Written so that this file does not hold what it looks for.
PLACES = "|".join(["/" + name + r"\b(?=[/\"'\s)`]|$)" for name in ("work", "tmp", "root", "opt", "home", "Users")])
HOSTS = "|".join(re.escape(name + ending) for name, ending in (("pypi", ".org"), ("pythonhosted", ".org")))
FOREIGN = re.compile(rf"(?<![\w.:/}}*-])(?:{PLACES})|{HOSTS}")


def at_home_anywhere(path: Path, source: str) -> Iterator[str]:
    """Nothing rests on the machine that it was written on, nor on one package host."""
    for number, line in enumerate(source.splitlines(), 1):
        if FOREIGN.search(line):
            yield f"{path}:{number}: names a place of one machine, or a package host"


def nothing_skipped(path: Path, source: str) -> Iterator[str]:
    """Every test runs, and every test is meant to pass."""
    if path.parts[0] != "tests":
        return
    for node in ast.walk(ast.parse(source)):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in ("skip", "skipif", "xfail", "importorskip", "skipTest", "skipIf", "skipUnless"):
            yield f"{path}:{getattr(node, 'lineno', 0)}: {name}: a test runs and passes, or it is not there"


RULES: tuple[Rule, ...] = (
    short_file,
    short_functions,
    frozen_values,
    named_exports,
    reasoned_switches,
    at_home_anywhere,
    nothing_skipped,
)


def python_files() -> Iterator[Path]:
    for tree in ("core", "shells", "tests", "benchmarks"):
        yield from (path.relative_to(ROOT) for path in sorted((ROOT / tree).rglob("*.py")))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.__name__))
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    paths = list(python_files())
    assert Path("core/cloud_mirror/keys.py") in paths  # otherwise this looks at the wrong place
    found = [line for path in paths for line in rule(path, (ROOT / path).read_text())]
    assert not found, "\n".join(found)


def test_the_source_distribution_holds_every_tree() -> None:
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]
    assert {path.parts[0] for path in python_files()} <= set(packed["include"])


def test_what_is_not_python_is_at_home_anywhere() -> None:
    paths = [ROOT / name for name in ("Makefile", "README.md", "CHANGELOG.md", "pyproject.toml", ".ci/run")]
    files = (path for tree in ("docs", "deploy") for path in (ROOT / tree).rglob("*") if path.is_file())
    paths += [path for path in files if path.suffix != ".pyc"]  # what Python has compiled is left out of the project
    found = [line for path in paths for line in at_home_anywhere(path.relative_to(ROOT), path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (short_file, "core/a.py", "\n" * 401),
        (short_file, "tests/a.py", "\n" * 501),
        (short_functions, "shells/x/a.py", "async def f():\n" + "    g()\n" * 70),
        (frozen_values, "core/a.py", "@dataclass\nclass A: ..."),
        (frozen_values, "core/a.py", "@dataclass(frozen=True)\nclass A: ..."),
        (frozen_values, "core/a.py", "@dataclasses.dataclass(slots=True)\nclass A: ..."),
        (frozen_values, "core/a.py", "@dataclass(frozen=False, slots=True)\nclass A: ..."),
        (named_exports, "core/cloud_mirror/__init__.py", "from cloud_mirror import keys"),
        (reasoned_switches, "core/a.py", "x = y  # type: " + "ignore"),
        (reasoned_switches, "core/a.py", "x = y  # type: " + "ignore  # it is too hard"),
        (reasoned_switches, "core/a.py", "x = y  # type: " + "ignore[misc]"),
        (reasoned_switches, "core/a.py", "x = y  # no" + "qa: S101"),
        (reasoned_switches, "core/a.py", "x = y  # no" + "qa"),
        (reasoned_switches, "core/a.py", "x = y  # pragma: " + "no cover"),
        (reasoned_switches, "core/a.py", "x = y  # type: " + "ignore[misc]  # no" + "qa: S101"),
        (at_home_anywhere, "core/a.py", 'p = "/' + 'tmp/x"'),
        (at_home_anywhere, "core/a.py", "# see /" + "work/main"),
        (at_home_anywhere, "core/a.py", 'u = "https://pypi' + '.org/simple"'),
        (nothing_skipped, "tests/a.py", "@pytest.mark.skip" + "(reason='slow')\ndef test_a(): ..."),
        (nothing_skipped, "tests/a.py", "def test_a():\n    pytest.xfail" + "('later')"),
    ],
)
def test_what_breaks_a_rule_is_found(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Path(path), source)) != []


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (short_file, "tests/a.py", "\n" * 500),
        (short_functions, "core/a.py", "def f():\n" + "    g()\n" * 69),
        (frozen_values, "core/a.py", "@dataclass(frozen=True, slots=True, order=True)\nclass A: ..."),
        (frozen_values, "shells/x/a.py", "@dataclass\nclass A: ..."),
        (named_exports, "core/cloud_mirror/__init__.py", "__all__ = ['keys']"),
        (named_exports, "core/cloud_mirror/__init__.py", "__all__: Final = ()"),
        (reasoned_switches, "core/a.py", "x = y  # type: " + "ignore[misc]  # an enum is made so"),
        (reasoned_switches, "core/a.py", "x = y  # no" + "qa: S101, S102 - the key was checked"),
        (at_home_anywhere, "core/a.py", 'u = "https://a.example/tmp/x"; w = working / "tmp"; v = "/v1/ping"'),
    ],
)
def test_what_keeps_a_rule_passes(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Path(path), source)) == []
