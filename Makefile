# Every target sets up what it needs, from nothing but Python >= 3.11 and a package registry. `make` alone explains itself.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PROCESSES ?= 2
PYTEST := $(BIN)/pytest -n $(PROCESSES) --dist worksteal
# Tests start hundreds of processes: without bytecode each of them compiles Stoker first.
export PYTHONDONTWRITEBYTECODE :=

$(READY): constraints/dev.txt worker/pyproject.toml operator/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Stoker needs Python >= 3.11; say which with PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints/dev.txt uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints/dev.txt -r constraints/dev.in
	@touch $@

.PHONY: help setup demo up test nightly proof cluster-test lint check bench manifests constraints clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment

demo: $(READY) ## the main job on this machine: 0 -> N -> 0 workers, one of them killed, nothing lost
	@$(BIN)/python examples/demo.py

up: $(READY) ## the same stack kept running, with the gateway on http://127.0.0.1:8080/docs
	@PYTHONPATH=examples/shop $(BIN)/stoker up -f k8s/samples/emails.yaml

test: $(READY) ## what a change must pass: real Valkey, Redis and kube-apiserver, no pods (ARGS=tests/laws, PROCESSES=2)
	@tests/prepare
	@tests/cluster/prepare apiserver
	@$(PYTEST) $(ARGS)

nightly: $(READY) ## all of `test` on every kind of server, what takes long, pods that misbehave, and `proof`
	@tests/prepare
	@tests/cluster/prepare apiserver
	@$(PYTEST) -m "not cluster" $(ARGS)
	@tests/cluster/run -m cluster
	@$(MAKE) --no-print-directory proof

proof: $(READY) ## 20,000 new histories of the engine and every state of the search (ARGS, STOKER_PROOF_*)
	@STOKER_PROOF_SEEDS=$${STOKER_PROOF_SEEDS:-20000} STOKER_PROOF_FIRST=$${STOKER_PROOF_FIRST:-$$(date +%s)} \
		STOKER_PROOF_DEPTH=$${STOKER_PROOF_DEPTH:-40} $(BIN)/pytest tests/proof -rP $(ARGS)

cluster-test: $(READY) ## the main job on a real Kubernetes: yours if KUBECONFIG is set, else one of its own
	@tests/cluster/run $(ARGS)

bench: $(READY) ## Stoker against its peers, every figure in one interleaved run (long; ARGS=--quick for a taste)
	@benchmarks/run $(ARGS)

lint: $(READY) ## style, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint test ## what a change must pass before it is offered

manifests: $(READY) ## k8s/install.yaml from the chart, and docs/reference/taskqueue.md from the CRD
	@charts/render
	@$(BIN)/python charts/reference

constraints: $(READY) ## pin the newest versions of everything
	@constraints/update --upgrade

clean: ## forget the virtual environment and all caches in this folder
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .stoker
