# `make help` lists what there is. Everything sets itself up first.

PYTHON ?= python3
UP_FLAGS := $(if $(OFFLINE),--offline) $(if $(CONFIG),--config $(CONFIG)) $(if $(PORT),--port $(PORT))

.PHONY: help setup setup-dev setup-peers serve examples stop test test-parts test-stacks test-cluster \
	test-jobs test-aarch64 lint format openapi schema bench bench-full bench-docs lock

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Virtual environment with locked packages
	@$(PYTHON) scripts/bootstrap.py

setup-dev: ## The same, with what tests and checks need
	@$(PYTHON) scripts/bootstrap.py --dev

serve: setup ## Start the graph and try it on a photo (OFFLINE=1, CONFIG=file, PORT=n)
	@.venv/bin/cl-serve up $(UP_FLAGS)

examples: setup-dev ## Run every curl line of the README (STAND_INS=1: made-up weights where needed)
	@PYTHONPATH=. .venv/bin/python scripts/examples.py $(if $(STAND_INS),--stand-ins)

stop: ## End all that `make serve` started
	@if [ -x .venv/bin/cl-serve ]; then .venv/bin/cl-serve down; else echo "Nothing is running."; fi

test: setup-dev ## Every test but those of test-cluster and test-jobs, with coverage
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-parts test-stacks
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report --skip-covered

# Two halves of about the same length: tests that start a stack wait for it most of the time.
PYTEST := .venv/bin/pytest -m "not cluster and not jobs" --cov --cov-report= --cov-fail-under=0
STACKS := tests/e2e tests/examples tests/serve_app/cli/tune tests/serve_app/cli/quantize

test-parts: setup-dev
	@COVERAGE_FILE=.coverage.parts $(PYTEST) $(addprefix --ignore=,$(STACKS))

test-stacks: setup-dev
	@COVERAGE_FILE=.coverage.stacks $(PYTEST) $(STACKS)

test-cluster: setup-dev ## Redeploys and faults under load, several machines in network namespaces (root)
	@.venv/bin/pytest -m cluster tests/cluster

test-jobs: setup-dev ## Jobs while everything is killed, and their figures (FULL=1: 200 jobs, 50 kills; root)
	@FULL=$(FULL) .venv/bin/pytest -m jobs tests/jobs

test-aarch64: setup-dev ## The locked packages and the face models on an emulated Raspberry Pi 4
	@.venv/bin/python -m scripts.smoke_aarch64

lint: setup-dev ## Format, lint, types, layers, wheels
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/basedpyright
	.venv/bin/lint-imports
	.venv/bin/python scripts/check_aarch64.py

format: setup-dev ## Write the format and the safe fixes
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

openapi: setup-dev ## Write docs/openapi.json anew
	@.venv/bin/python scripts/write_openapi.py

schema: setup-dev ## Write config/serve.schema.json anew
	@.venv/bin/python scripts/write_schema.py

setup-peers: setup-dev
	@$(PYTHON) scripts/bootstrap.py --peers || echo "LitServe and BentoML are left out."

bench: setup-peers ## The numbers to reach, against bare processes and other services: ten minutes
	@.venv/bin/python -m benchmarks

bench-full: setup-peers ## Every workload, load and subject: 45 minutes
	@.venv/bin/python -m benchmarks --full

bench-docs: setup-dev ## Write docs/benchmarks.md, its plots and the README's figures from the last one
	@.venv/bin/python -m benchmarks document

lock: setup-dev ## Write the lock files anew from pyproject.toml
	@scripts/lock
