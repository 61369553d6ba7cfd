# `make run` and `make test` need Python >= 3.11, git and make; they install the rest into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run plan new improve sweep study test faults lint clean

run: .venv/installed
	@$(BIN)/python -m stages.check
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	@$(BIN)/python -m stages.report.headline

# CASE: of params.yaml, all if not given.
plan: .venv/installed
	@$(BIN)/python -m stages.plan $(CASE)

# CASE: its name. DATA: a csv, jsonl or parquet file. MODEL: a name of params.yaml, or a folder.
# Either may be a file of params/ that has its entry.
# COLUMNS: <role>:<column>,… where the columns have other names than text, label …
# In the environment that name is a terminal's width.
new: COLUMNS :=
new: .venv/installed
	@$(BIN)/python -m stages.new "$(CASE)" "$(DATA)" "$(MODEL)" "$(COLUMNS)"

# CASE: of params.yaml. ROUNDS: experiments at most. RUN: where to start, the case's first if not given.
ROUNDS ?= 1
improve: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m stages.improve "$(CASE)" "$(ROUNDS)" $(RUN)

# CASE: with a grid under `sweep` in params.yaml. JOBS: experiments at once.
JOBS ?= 1
sweep: .venv/installed
	@$(BIN)/python -m stages.check
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m stages.sweep "$(CASE)" "$(JOBS)"

# STUDY: a file of studies/. CASES, SEEDS: those to run now, all if not given.
STUDY ?= frontier
study: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m stages.study "$(STUDY)" "$(CASES)" "$(SEEDS)"

# A process a core, four at most: each holds models. A file's tests share what they make, in one.
TESTS := -n logical --maxprocesses 4 --dist loadfile -m "not slow and not faults"
test: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest $(TESTS)

# Interruptions at many random moments; about ten minutes alone on two cores.
faults: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m faults

lint: .venv/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# constraints.txt pins everything, so that two machines get the same environment.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.x")'
	@$(PYTHON) -m venv .venv
	@echo "installing into .venv; minutes, the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .scratch
