# Everything runs in .venv, which is made from constraints.txt and remade when packaging changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test test-slow check clean

run: $(STAMP)  ## train the quickstart on embedded synthetic data
	$(BIN)/python -m experiments.quickstart --workdir=runs/quickstart

test: $(STAMP)  ## all tests but the slow ones
	$(BIN)/python -m pytest -n auto

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

check: $(STAMP)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
