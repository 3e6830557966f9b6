# `make demo` and `make test` do all of their own set-up: Python >= 3.10, make and a C++ compiler are enough.
# Another Python, in a folder of its own: make PYTHON=python3.12 VENV=.venv-3.12 test

PYTHON ?= python3
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= auto

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test pythons lint format docs bench dist clean distclean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## merge four experts into three quants, compare them, talk with one
	@$(BIN)/python tools/run_demo.py

test: lint ## run every check: ruff, mypy, pytest
	$(BIN)/python -m pytest -n $(WORKERS)

pythons: ## make test with every one of PYTHONS that is installed; llama.cpp is compiled once
	@$(PYTHON) tools/run_pythons.py $(PYTHONS)

lint: $(READY) ## ruff and mypy alone
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY) ## regenerate docs/cli.md and the command output in README.md and docs/
	$(BIN)/python tools/make_cli_docs.py
	PYTHONPATH=tests $(BIN)/python tools/make_output.py

bench: $(READY) ## time convert; BENCH="--llama-cpp DIR" compares with llama.cpp's own path
	$(BIN)/python benchmarks/convert.py "$$($(BIN)/python tools/make_demo_model.py)" $(BENCH)

dist: $(READY) ## build the source archive and, from it, the wheel, into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean: ## remove build products; keeps .venv and the downloaded model
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find quantize runner tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove also .venv and .venv-*, the model cache and the demo's files
	rm -rf .venv .venv-* .cache demo

$(READY): pyproject.toml constraints.txt tools/setup_env.py tools/amx.py tools/amx_probe.cpp
	@VENV=$(VENV) $(PYTHON) tools/setup_env.py
