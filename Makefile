# `make demo` and `make test` work on a bare machine: Python 3.11+, pip, make, gcc. Nothing is installed outside .venv.
PYTHON ?= python3
BIN := .venv/bin

# Real data sets, where a checkout has them beside it; otherwise the user's cache, or nothing (tests say what they skip).
ifneq ($(wildcard ../shared/data/manifest.json),)
export ACCORD_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test check format clean

demo: .venv/.bench
	$(BIN)/accord demo --out demo

test: check
	$(BIN)/python -m pytest -n 2 -m "not slow"

check: .venv/.dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

clean:
	rm -rf .venv

.venv/.python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "Accord needs Python 3.11 or newer; found `$(PYTHON) --version 2>&1`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	touch $@

# The extra decides what is installed; constraints.txt decides the versions.
.venv/.bench .venv/.dev: .venv/.%: .venv/.python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@
