"""Where mutants live and die: a pytest session that runs no test itself, but for each mutant a process of its own.

The session collects the core's tests once. A mutant of a function's body is put into a fork of it by exchanging the
function's code, which every reference to the function then runs; it meets the tests that were seen to run that
function, the quickest first. Any other mutant (of a table, a default, a class) is met by a fork that imports the core
anew, and runs the module's own test files (for `a.py` and `a_table.py`: `test_a*.py`). A mutant is dead when a test
fails, or takes far longer than it should.
"""

import gc
import importlib.machinery
import inspect
import os
import pickle
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

import pytest
from hypothesis import Phase, settings

from tests.mutation.mutants import CORE, ROOT, Mutant, path_of

TESTS: Final = "tests/core"
WITHOUT: Final = ("cacheprovider", "faulthandler", "logging", "threadexception", "unraisableexception", "warnings")
ARGUMENTS: Final = ("-xqs", "--assert=plain", "-ppytest_timeout", "-otimeout=0", *(f"-pno:{name}" for name in WITHOUT))
"""A mutant meets thousands of tests: pytest does no more for each than it must."""

LONG_S: Final = 0.25
"""A test that takes longer is met last; which functions it runs is taken from its beginning."""

MOST_S: Final = 180.0
MEMORY_BYTES: Final = 4 << 30
SURVIVED: Final = "survived"
HUNG: Final = "hung"


@dataclass
class Fate:
    """What became of a mutant: the test that killed it, or `SURVIVED`, or `HUNG`."""

    mutant: Mutant
    end: str
    took_s: float


@dataclass
class Watch:
    """For each test: how long it takes, and which functions of the core it runs, as (module, qualified name)."""

    took_s: dict[str, float] = field(default_factory=dict)
    runs: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))

    def tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that may notice, the quickest first; a long one's beginning says only which modules it meets."""
        met = [
            test
            for test, ran in self.runs.items()
            if (mutant.module, mutant.scope) in ran
            or (self.took_s[test] > LONG_S and mutant.module in {module for module, _ in ran})
        ]
        return sorted(met, key=self.took_s.__getitem__)

    def limit_s(self, test: str) -> float:
        """The processor time after which a test is taken to hang."""
        took_s = self.took_s[test]
        return MOST_S if took_s > LONG_S else 2.0 + 20.0 * took_s


class Nest:
    """A pytest plugin that has this session kill mutants; `told` hears of each as its fate is known."""

    def __init__(self, mutants: Iterable[Mutant], told: Callable[[Fate], None]) -> None:
        self.mutants = tuple(mutants)
        self.told = told
        self.fates: list[Fate] = []
        self.failed: str | None = None
        self.why = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Once the configuration is read, and before the tests are: no time is spent on making a failure small."""
        settings.register_profile("mutants", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the test that failed."""
        if report.failed:
            self.failed = self.failed or report.nodeid
            self.why = report.longreprtext

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of running the tests."""
        items = {item.nodeid: item for item in session.items}
        watch = in_fork(lambda: self.watched(items))
        assert isinstance(watch, Watch), watch
        gc.freeze()  # so that a fork copies no page only to count references
        for mutant in self.mutants:
            began = time.monotonic()
            tests = watch.tests_of(mutant) if mutant.in_body else []
            end = in_fork(lambda: self.met(mutant, tests, items, watch))  # noqa: B023 - it is over when that changes
            self.fates.append(Fate(mutant, str(end), time.monotonic() - began))
            self.told(self.fates[-1])
        return True

    def watched(self, items: dict[str, pytest.Item]) -> Watch:
        """Run every test as it is, a long one only at its beginning: it fails within the core, and is torn down."""
        watch = Watch()
        core = {str(path): path.stem for path in CORE.glob("*.py")}
        for name, item in items.items():
            ran, began = watch.runs[name], time.process_time()

            def note(
                frame: FrameType, event: str, _: object, ran: set[tuple[str, str]] = ran, began: float = began
            ) -> None:
                if event == "call" and (module := core.get(frame.f_code.co_filename)):
                    ran.add((module, frame.f_code.co_qualname.partition(".<")[0]))
                    if time.process_time() - began > LONG_S:
                        raise TimeoutError

            sys.setprofile(note)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            sys.setprofile(None)
            watch.took_s[name] = time.process_time() - began
            assert self.failed is None or watch.took_s[name] > LONG_S, (
                f"{self.failed} fails without a mutant: {self.why}"
            )
            self.failed = None
        return watch

    def met(self, mutant: Mutant, tests: list[str], items: dict[str, pytest.Item], watch: Watch) -> str:
        """Whether some test notices."""
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        code = compile(mutant.code(), str(path_of(mutant.module)), "exec", dont_inherit=True)
        made_early = mutant.scope.endswith("__init__")  # some are made as the tests are imported
        if tests and _exchanged(mutant, code):
            for test in tests:
                signal.setitimer(signal.ITIMER_VIRTUAL, watch.limit_s(test))
                items[test].config.hook.pytest_runtest_protocol(item=items[test], nextitem=None)
                if self.failed:
                    return self.failed
            if not made_early:
                return SURVIVED
        signal.setitimer(signal.ITIMER_VIRTUAL, MOST_S)
        return _met_by_imports(mutant, code)


def _exchanged(mutant: Mutant, code: CodeType) -> bool:
    """Put the mutated code into the function where it is; whether that can be done."""
    found: Any = sys.modules[f"cloud_mirror.{mutant.module}"]
    for part in mutant.scope.split("."):
        found = inspect.getattr_static(found, part)
    function = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
    mutated = next((inner for inner in _codes(code) if inner.co_qualname == mutant.scope), None)
    if not isinstance(function, FunctionType) or mutated is None:
        return False
    try:
        function.__code__ = mutated
    except ValueError:  # another number of free variables, as without the use of super()
        return False
    return True


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _met_by_imports(mutant: Mutant, code: CodeType) -> str:
    """Import the core anew, with this code for the mutant's module, and run that module's own test files."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file.startswith(f"{ROOT}{os.sep}") and "site-packages" not in file and "mutation" not in name:
            del sys.modules[name]
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: Any, name: str) -> CodeType | None:
        return code if name == f"cloud_mirror.{mutant.module}" else original(loader, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[assignment,method-assign]  # for this process alone
    files = sorted(map(str, Path(TESTS).glob(f"test_{mutant.module.removesuffix('_table')}*.py")))
    runner = Nest((), lambda _: None)
    runner.pytest_runtestloop = None  # type: ignore[assignment]  # these are run as they are
    status = pytest.main([*ARGUMENTS, *files], plugins=[runner])
    return SURVIVED if status == pytest.ExitCode.OK else runner.failed or pytest.ExitCode(status).name


def in_fork(work: Callable[[], object]) -> object:
    """What `work` gives, done in a process of its own, whose output nobody sees; `HUNG` where its time ran out."""
    end, start = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            with os.fdopen(start, "wb") as pipe:
                try:
                    given = work()
                except BaseException as error:  # noqa: BLE001 - whatever a mutant brings about, it is dead of it
                    given = f"{type(error).__name__}: {error}"
                pickle.dump(given, pipe)
        finally:
            os._exit(0)
    os.close(start)
    with os.fdopen(end, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return HUNG
    return pickle.loads(said) if said else "ended its process"  # noqa: S301 - the child's own
