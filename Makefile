# Everything runs in .venv, which is made from constraints.txt and remade when packaging changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ONNX := .venv-onnx
AUDIT := .venv-audit
DOCS := $(VENV)/.docs

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

# A file of tests stays with one worker, which makes what the tests of the file share once. One worker more than
# cores: tests of kills wait for their children.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help run test test-all test-long test-onnx coverage format check audit docs clean remake

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1\t\2/p' Makefile | expand -t 20

run: $(STAMP)  ## train the quickstart on embedded synthetic data
	$(BIN)/python -m experiments.quickstart --workdir=runs/quickstart

test: $(STAMP)  ## the fast tests: no test of minutes, and something of everything
	$(PYTEST)

test-all: $(STAMP)  ## all tests that CI runs: also kills, meshes and large compilations
	$(PYTEST) -m "not long"

test-long: $(STAMP)  ## the other tests: more than CI has time for, and datasets that ML1M_DIR, FRAPPE_DIR, KDD12_DIR, CRITEO_DIR name
	$(BIN)/python -m pytest -m long

test-onnx: $(ONNX)/.installed  ## bundles as ONNX, in an environment of their own: jax2onnx wants an older orbax-checkpoint
	$(ONNX)/bin/python -m pytest -m "not long" tests/bundle/test_onnx.py

coverage: $(STAMP)  ## test-all, then the lines of ektf_jax/ that no test touches
	$(PYTEST) -m "not long" --cov --cov-report=term-missing:skip-covered

format: $(STAMP)  ## mend what the linter can mend, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(STAMP)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy

audit: $(STAMP)  ## known vulnerabilities of the pinned dependencies
	$(BIN)/python -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --upgrade pip pip-audit
	$(AUDIT)/bin/pip-audit --no-deps --disable-pip -r constraints.txt

docs: $(DOCS)  ## the documentation as a site in build/site; a link to nothing is an error
	rm -rf build/site
	$(BIN)/python -m docs.pages
	$(BIN)/python -m zensical build --strict

clean:  ## delete what is made
	rm -rf $(VENV) $(ONNX) $(AUDIT) build .cache *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

$(STAMP): pyproject.toml setup.py constraints.txt $(REMAKE)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: $(PYTHON) is Python %d.%d, and ektf-jax needs 3.11 or newer: make PYTHON=python3.12" % sys.version_info[:2])'
	@test "$$($(PYTHON) -c '$(IDENTITY)')" = "$$($(BIN)/python -c '$(IDENTITY)' 2>&1)" || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(ONNX)/.installed: $(STAMP)
	$(BIN)/python -m venv $(ONNX)
	grep -v '^orbax-checkpoint=' constraints.txt > $(ONNX)/constraints.txt
	$(ONNX)/bin/python -m pip install --quiet --upgrade pip
	$(ONNX)/bin/python -m pip install --quiet --constraint $(ONNX)/constraints.txt --editable ".[dev,onnx]"
	touch $@

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@
