# `make demo` and `make test` set up all that they need: a virtual environment in .venv, filled from the package index.
# `make demo SHELL_NAME=trio` (or sync) shows another shell. `make mutants` tests the core's tests (docs/mutants.md).

PYTHON := $(shell for name in python3.11 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
SHELL_NAME ?= asyncio
WORKERS ?= 2

# Python keeps what it has compiled, whatever the machine's setting: tests start some hundred processes, each of which
# would else compile the core and its shell anew.
export PYTHONDONTWRITEBYTECODE :=

.DELETE_ON_ERROR:
.PHONY: demo test conformance mutants format

demo: .venv/.has-demo
	@$(BIN)/cloud-mirror demo --shell $(SHELL_NAME)

# The last line of the output is pytest's own. `make test WORKERS=0` runs the tests one after another; many more than there
# are processors disturb those that time a copy.
test: .venv/.has-test
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Run 'make format' to lay the code out."; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal --cov --cov-report=term-missing

# The cases of the conformance suite, which take turns at the shells in `make test`, over every shell and a mixture.
conformance: .venv/.has-test
	@$(BIN)/pytest tests/conformance --shell every

# Changes the core in thousands of small ways, one at a time, and tells which of them its tests do not notice.
mutants: .venv/.has-test
	@$(BIN)/python -m tests.mutation

format: .venv/.has-test
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

# The stamp is newer than pyproject.toml as long as what that asks for is installed.
.venv/.has-%: pyproject.toml | $(BIN)/python
	@echo "Installing what 'make $*' needs into .venv; the first time this takes a minute or two."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Cloud Mirror needs Python 3.11 or later: install it, so that 'python3' starts it."; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "No virtual environment could be made: install Python's venv module (on Debian: python3-venv)."; exit 1; }
