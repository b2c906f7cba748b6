# Everything runs in .venv, which is made from constraints.txt and remade when packaging changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# What tells one interpreter from another: a virtual environment says it of the one that it was made with.
IDENTITY := import sys; print(getattr(sys, "base_prefix", "") + " " + sys.version)

# PYTHON= names an interpreter: where .venv is made with another, it is remade.
ifneq ($(filter environment command,$(firstword $(origin PYTHON))),)
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell $(PYTHON) -c '$(IDENTITY)' 2>&1),$(shell $(BIN)/python -c '$(IDENTITY)' 2>&1))
REMAKE := remake
endif
endif
endif

# Files of the tests are UTF-8, whatever the locale is.
export PYTHONUTF8 := 1

.PHONY: run test test-slow check clean remake

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

$(STAMP): pyproject.toml constraints.txt $(REMAKE)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: $(PYTHON) is Python %d.%d, and ektf-jax needs 3.11 or newer: make PYTHON=python3.12" % sys.version_info[:2])'
	@test "$$($(PYTHON) -c '$(IDENTITY)')" = "$$($(BIN)/python -c '$(IDENTITY)' 2>&1)" || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
