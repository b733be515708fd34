# expunge: everything a developer types. `make` alone lists the targets.
# Paths below are relative on purpose: the checkout may lie in a folder with spaces in its name.

PYTHON ?= python3
UV ?= uv
JOBS ?= auto
DEMO_DIR ?= .demo
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make requirements' $(ARGS)

export DEMO_DIR
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help install tpm demo test lab lab-all faults check bench requirements clean FORCE

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

install: $(STAMP)  ## create .venv with everything, pinned by hash (PYTHON=python3.12 picks another Python)

# A virtual environment remembers where it lies; after a move or a copy it must be made again.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif
$(STAMP): pyproject.toml requirements/build.txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("expunge needs Python 3.11 or newer, not " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@if [ "$$(cat $(STAMP) 2>/dev/null)" != "$$(pwd)" ]; then echo "$(PYTHON) -m venv --clear $(VENV)"; $(PYTHON) -m venv --clear $(VENV); fi
	$(BIN)/python -m pip install --quiet --only-binary :all: --require-hashes -r requirements/build.txt -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@pwd > $(STAMP)

tpm: install  ## build tpm2-pytss into .venv, for vaults whose root key is in a TPM (needs libtss2-dev and a C compiler)
	$(BIN)/python -m pip install --quiet --only-binary :all: --require-hashes -r requirements/tpm-build.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --require-hashes -r requirements/tpm.txt

demo: install  ## the main job for real, in .demo/ (DEMO_DIR=folder picks another); needs no root
	$(BIN)/python demo/run.py

test: install  ## all tests; those that need root or loop devices say so when they are skipped
	$(BIN)/python -m pytest -n $(JOBS) -ra $(ARGS) tests

lab: install  ## virtual machines with disks of every kind and their faults; writes lab-report.md (Debian, QEMU; no KVM)
	$(BIN)/python tests/lab/build.py
	$(BIN)/python -m pytest -ra -m "lab and not slow" -n 2 --lab-report lab-report.md $(ARGS) tests/lab

lab-all: install  ## the same with every row of its tables
	$(BIN)/python tests/lab/build.py
	$(BIN)/python -m pytest -ra -m lab -n 2 --lab-report lab-report.md $(ARGS) tests/lab

faults: install  ## writes docs/drive-faults.md anew from a run of every drive command with every fault
	PYTHONPATH=tests $(BIN)/python -m lab.table

check: install  ## lint, format, types, import rules, documents, units
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -ra tests/unit/test_repository.py tests/unit/test_docs.py tests/unit/test_systemd.py
	$(BIN)/python tools/check_units.py

bench: install  ## measure beside the peers (loop and zram need root; ARGS="--size 256M --rounds 1" for a short run)
	$(BIN)/python bench/run.py $(ARGS)

requirements:  ## pin the requirements anew (needs uv; ARGS=--upgrade takes newer versions)
	$(LOCK) pyproject.toml requirements/build.in --extra controller --extra dev -o requirements/dev.txt
	$(LOCK) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) pyproject.toml -c requirements/dev.txt -o requirements/agent.txt
	$(LOCK) pyproject.toml --extra controller -c requirements/dev.txt -o requirements/controller.txt
	$(LOCK) requirements/tpm.in -c requirements/dev.txt -o requirements/tpm.txt
	$(LOCK) requirements/tpm-build.in -c requirements/dev.txt -o requirements/tpm-build.txt

clean:  ## remove .venv, .demo and caches
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find agent controller profiles tests demo tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

FORCE:
