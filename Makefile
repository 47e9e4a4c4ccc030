# make demo: environment, installation, the main job on the built-in market, the report.
# make test: environment, installation, lint, types, layers and all tests.
# make mutants: small faults put into rulebook and sim; their tests must notice nine in ten.
# make proof: the long proofs; their figures go to build/proof.md (docs/proof.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test proof mutants lint clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "passline needs Python 3.11 or newer: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/passline demo

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

proof: setup
	PROOF_FACTOR=20 $(BIN)/python -m pytest -m 'proof or hypothesis'

mutants: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt cosmic-ray==8.7.0
	$(BIN)/python tests/mutants.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
