# Every target sets up what it needs by itself; nothing needs root, Docker or a service.
# Variables: PYTHON (3.11 or newer, makes .venv), ARGS (passed on to the command), P (a plugin),
# SECONDS (of soak and fuzz).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
ARGS ?=
SECONDS ?=
VENV := .venv
BIN := $(VENV)/bin

# The pins hold for what is installed and for what the isolated builds use. The only warning
# of an editable build is about editable builds.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore $(BIN)/python -m pip
INSTALL := $(PIP) install --quiet --constraint constraints.txt --build-constraint constraints.txt
RUNTIME := --editable . --editable plugins/backend-fs --editable plugins/codec-xdelta3
DEVELOP := $(RUNTIME) --editable plugins/sink-jsonl --editable plugins/testkit --group dev

# An editable install follows the Python files by itself. It is repeated when dependencies,
# entry points or the C extension may have changed.
INPUTS := constraints.txt pyproject.toml $(wildcard plugins/*/pyproject.toml plugins/*/setup.py) \
	$(wildcard plugins/codec-xdelta3/src/*/_build.py plugins/codec-xdelta3/src/*/csrc/*)
RUNTIME_READY := $(VENV)/.runtime-ready
DEVELOP_READY := $(VENV)/.develop-ready
BENCH_READY := $(VENV)/.bench-ready
# S3 clients of the tests that need an environment of their own.
CLIENT_INPUTS := scripts/install_clients.py $(wildcard tests/clients/s3fs/*.txt) \
	$(wildcard tests/clients/js/package*.json)
CLIENTS_READY := .cache/clients/.ready

.PHONY: help setup run test test-plugin compatibility soak fuzz lint type format docs demo bench big dist \
	lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) scripts/check_host.py
	@echo "Creating $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.pip-ready: constraints.txt | $(BIN)/python
	@$(BIN)/python scripts/check_host.py || { echo "After that, run make clean."; exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(BIN)/python -m ensurepip > /dev/null
	@$(PIP) install --quiet --constraint constraints.txt pip
	@touch $@

$(RUNTIME_READY): $(INPUTS) | $(VENV)/.pip-ready
	@echo "Installing DeltaGlider into $(VENV); the first time takes about a minute ..."
	@$(INSTALL) $(RUNTIME)
	@touch $@

$(DEVELOP_READY): $(INPUTS) | $(VENV)/.pip-ready
	@echo "Installing DeltaGlider and the development tools into $(VENV); the first time takes" \
		"about two minutes ..."
	@$(INSTALL) $(DEVELOP)
	@touch $(RUNTIME_READY) $@

$(BENCH_READY): $(DEVELOP_READY)
	@$(INSTALL) --group bench
	@touch $@

$(CLIENTS_READY): $(CLIENT_INPUTS) | $(BIN)/python
	@echo "Installing the S3 clients that tests run: JavaScript, s3fs, restic ..."
	@$(BIN)/python scripts/install_clients.py
	@touch $@

setup: $(DEVELOP_READY) ## Create or update .venv with everything
	@echo "$(VENV) is ready."

run: $(RUNTIME_READY) ## Serve on 127.0.0.1:9000 from ./data
	@exec $(BIN)/deltaglider_proxy quickstart $(ARGS)

test: $(DEVELOP_READY) $(CLIENTS_READY) ## Run every test
	@$(BIN)/pytest --quiet --numprocesses 2 --dist worksteal $(ARGS)

test-plugin: ## Run the tests of one package in an environment of its own: P=backend-fs
	@$(PYTHON) scripts/check_host.py
	@$(PYTHON) scripts/isolated_tests.py "$(P)" $(ARGS)

compatibility: $(DEVELOP_READY) $(CLIENTS_READY) ## Run S3 clients, write the table in docs/reference
	@$(BIN)/python scripts/compatibility.py $(ARGS)

soak: $(DEVELOP_READY) ## Kill servers under load for an hour, or SECONDS=...
	@$(BIN)/python scripts/soak.py --seconds $(or $(SECONDS),3600) $(ARGS)

fuzz: $(DEVELOP_READY) ## Send requests with faults for ten minutes, or SECONDS=...
	@$(BIN)/python scripts/fuzz.py --seconds $(or $(SECONDS),600) $(ARGS)

lint: $(DEVELOP_READY) ## Check style, formatting and layering
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Not formatted: run make format."; exit 1; }
	@$(BIN)/python scripts/check_layout.py

type: $(DEVELOP_READY) ## Check types
	@$(BIN)/mypy
	@MYPYPATH=tests:scripts $(BIN)/mypy scripts benchmarks tests/support tests/conftest.py

format: $(DEVELOP_READY) ## Sort imports and format the code
	@$(BIN)/ruff check --select I --fix --quiet
	@$(BIN)/ruff format

docs: $(DEVELOP_READY) ## Generate docs/reference from the code
	@$(BIN)/python scripts/generate_docs.py

demo: $(DEVELOP_READY) ## Upload six real releases with the aws CLI and show what they cost
	@$(BIN)/python scripts/demo.py $(ARGS)

bench: $(BENCH_READY) ## Measure a running server; figures are ratios within one run
	@$(BIN)/python benchmarks/run.py $(ARGS)
	@$(BIN)/python benchmarks/state.py

big: $(DEVELOP_READY) ## Try 5 GiB in one PUT, 50 GiB in 10,000 parts, 200,000 keys
	@$(BIN)/python benchmarks/big.py $(ARGS)

dist: $(DEVELOP_READY) ## Build source archives and wheels of all packages into dist/
	@$(BIN)/python scripts/build_dist.py

lock: ## Resolve all dependencies anew into the files of pins
	@$(PYTHON) scripts/lock.py

clean: ## Remove the environment, the caches and what was built; never the data
	@rm -rf $(VENV) .cache tests/clients/js/node_modules build dist plugins/*/build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./data -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -type d -prune -exec rm -rf {} +
	@find plugins -name '*.so' -delete
