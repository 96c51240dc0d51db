# SPDX-License-Identifier: Apache-2.0
# Each target sets up all that it needs, in .venv.
#
#   make demo            build, install, then witness, verify and damage real files (DATA=folder)
#   make test            all tests of the core
#   make lint            ruff, mypy
#   make bench           the benchmark, side by side with what people use today
#   make docs-performance  measure, and write the tables and the picture of docs/performance.md
#   make clean           remove what these targets made

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?=

SOURCES := pyproject.toml meson.build meson.options \
	$(shell find include kernelgen runtime src -type f -not -path '*/__pycache__/*')

.PHONY: demo test lint bench docs-performance clean

demo: $(VENV)/.package
	$(BIN)/python demo/demo.py $(DATA)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/atlas12288 bench $(BENCH_ARGS)

docs-performance: $(VENV)/.bench
	$(BIN)/python benchmarks/performance_docs.py

clean:
	rm -rf $(VENV)

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.package: $(VENV)/.venv $(SOURCES)
	$(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)/.test: $(VENV)/.package
	$(BIN)/python -m pip install --quiet --group test
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group lint
	touch $@

$(VENV)/.bench: $(VENV)/.package
	$(BIN)/python -m pip install --quiet '.[bench,plot]'
	touch $@
