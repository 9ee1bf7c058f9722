# The two commands: `make setup` prepares everything once, `make demo` walks one family of data through all stages.
#
#   make demo ARGS="--some.field value"     override fields of the demo's recipe
#   make test ARGS="tests/lam -k masks"     a part of the tests
#   make test MARKS="not gpu"               the slow ones too
#   make setup PYTHON=/usr/bin/python3.12   choose the interpreter

VENV ?= .venv
# The first interpreter that answers and has a version we support.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
JOBS ?= 2
MARKS ?= not slow and not gpu
ARGS ?=

BIN := $(VENV)/bin
STAMPS := $(VENV)/.setup
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
# One thread a process: with $(JOBS) test processes, more threads only wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types format bench test-gpu

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/packages $(STAMPS)/rendering ## virtual environment, pinned packages, libraries for headless rendering

demo: setup ## the whole pipeline on two CPU cores: demonstrations, three stages, rollouts, report
	$(BIN)/vla run recipes/demo/pipeline.yaml $(ARGS)

test: $(STAMPS)/packages ## the fast tests, two at a time
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "$(MARKS)" $(ARGS)

test-gpu: $(STAMPS)/packages ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

lint: $(STAMPS)/packages ## ruff (rules and format) and the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(STAMPS)/packages ## pyright on the whole tree
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(STAMPS)/packages ## rewrite the tree in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMPS)/packages ## measure what must stay fast
	@for file in benchmarks/*.py; do echo "== $$file"; $(ONE_THREAD) $(BIN)/python $$file || exit 1; done

# Stamps: each step is done again only when what it depends on changed. torch comes first and alone: some of the
# other packages look for it while they are built, and the pin must hold on every later line.
$(STAMPS)/venv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found; install one or run: make setup PYTHON=/path/to/python3.12"; exit 1; }
	.ci/system-libraries venv $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/torch: constraints.txt | $(STAMPS)/venv
	$(PIP) $$(grep '^torch==' constraints.txt) -c constraints.txt
	@touch $@

# The server is tested with openpi's own client, which asks for a numpy below 2 but works with later ones: --no-deps.
$(STAMPS)/packages: pyproject.toml constraints.txt | $(STAMPS)/torch
	$(PIP) -e '.[dev]' -c constraints.txt
	$(PIP) --no-deps $$(grep '^openpi-client==' constraints.txt)
	@touch $@

$(STAMPS)/rendering: .ci/system-libraries | $(STAMPS)/packages
	.ci/system-libraries rendering $(BIN)/python
	@touch $@
