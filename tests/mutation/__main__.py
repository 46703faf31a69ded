"""`python -m tests.mutation`: whether the core's tests notice when the core is changed. docs/mutants.md says more."""

import argparse
import ast
import difflib
import hashlib
import os
import random
import re
import sys
from collections.abc import Sequence
from typing import Final

import pytest

from tests.mutation.mutants import CORE, ROOT, Mutant, mutants_of, parsed
from tests.mutation.nest import ARGUMENTS, HUNG, SURVIVED, TESTS, Fate, Nest, in_fork

PAGE: Final = ROOT / "docs" / "mutants.md"
MACHINES: Final = ("redirect", "redirect_table", "copy", "copy_table", "lease", "purge", "responses", "waiters")
AT_LEAST: Final = 0.95


def listed() -> frozenset[str]:
    """The survivors that are known, each with its reason."""
    return frozenset(re.findall(r"^- `(.+)`$", PAGE.read_text(), re.MULTILINE))


def text_seed() -> str:
    """A seed that changes with the core's text, and with nothing else."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(CORE.glob("*.py")))).hexdigest()[:12]


def difference(mutant: Mutant) -> str:
    """What the mutant changes; its module is mutated for good."""
    before = ast.unparse(parsed(mutant.module)).splitlines()
    after = ast.unparse(mutant.code()).splitlines()
    return "\n".join(difflib.unified_diff(before, after, f"{mutant.module}.py", mutant.name, lineterm=""))


def complaints(fates: Sequence[Fate], known: frozenset[str], names: frozenset[str]) -> list[str]:
    """What is not as the page says, of the mutants that were met and of all that there are."""
    found = [
        f"{fate.mutant.name} survived: write the test that notices it, or list it in docs/{PAGE.name} with the reason\n"
        f"{in_fork(lambda mutant=fate.mutant: difference(mutant))}"  # type: ignore[misc]  # mypy infers no defaults
        for fate in fates
        if fate.end == SURVIVED and fate.mutant.name not in known
    ]
    killed = {fate.mutant.name: fate.end for fate in fates if fate.end != SURVIVED}
    found += [
        f"{name} is listed as a survivor, and was killed by {killed[name]}" for name in sorted(known & set(killed))
    ]
    found += [f"{name} is listed as a survivor, and there is no such mutant any more" for name in sorted(known - names)]
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", default="", help="those whose name this regular expression finds")
    parser.add_argument("--sample", type=int, help="so many of the machines' mutants, without the known survivors")
    parser.add_argument("--seed", default=text_seed(), help="which of them (by default as the core's text has it)")
    parser.add_argument("--verbose", action="store_true", help="tell each one's fate")
    asked = parser.parse_args()
    every = [mutant for path in sorted(CORE.glob("*.py")) for mutant in mutants_of(path.stem)]
    known, names = listed(), frozenset(mutant.name for mutant in every)
    mutants = [mutant for mutant in every if re.search(asked.only, mutant.name)]
    if asked.sample:
        mutants = [mutant for mutant in mutants if mutant.module in MACHINES and mutant.name not in known]
        mutants = random.Random(asked.seed).sample(mutants, min(asked.sample, len(mutants)))
        print(f"{len(mutants)} mutants of the machines, drawn with --seed {asked.seed}", flush=True)

    def told(fate: Fate) -> None:
        if asked.verbose:
            print(f"{fate.took_s:6.2f} s  {fate.mutant.name}: {fate.end}", flush=True)

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what the core's tests do not use only takes time
    nest = Nest(mutants, told)
    status = pytest.main([*ARGUMENTS, TESTS], plugins=[nest])
    if len(nest.fates) < len(mutants):
        return int(status) or 1
    hung, survived = (sum(fate.end == end for fate in nest.fates) for end in (HUNG, SURVIVED))
    killed = len(mutants) - survived
    rate = killed / max(1, len(mutants))
    print(f"{len(mutants)} mutants, {killed} killed ({hung} of them by hanging), {survived} survived: {rate:.2%}")
    wrong = complaints(nest.fates, known, names)
    print(*wrong, sep="\n\n")
    return 1 if wrong or rate < AT_LEAST else 0


if __name__ == "__main__":
    sys.exit(main())
