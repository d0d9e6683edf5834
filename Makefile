# Two commands: `make demo` and `make test`; each installs what is missing first.

PYTHON ?= python3
# cpu, gpu or none; empty means what is installed already, else cpu.
EXTRA ?=
# An extra package index for machines whose pip cannot find torch's CPU build (README, "Install").
TORCH_INDEX ?=
# What `make test` runs, in this order.
TESTS ?= $(wildcard tests/unit tests/test_imports.py tests/brokers tests/ray tests/e2e tests/serving tests/gpu)
# Further arguments of demo and bench, for example ARGS="--dry-run" or ARGS="loop.units=1".
ARGS ?=

RUN := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help install demo serve test faults lint bench bench-async bench-serve clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: EXTRA=cpu|gpu|none  TORCH_INDEX=<url>  PYTHON=python3.12  ARGS=\"...\"  TESTS=tests/unit"

# The version is asked for in words that every Python understands; the rest of the install needs 3.11.
install: ## Install everything into .venv (does nothing where that is done)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 15) else "install: %s is Python %d.%d; this needs 3.11 to 3.14: make PYTHON=python3.12 ..." % (sys.executable, v[0], v[1]))'
	@$(PYTHON) .ci/install.py --extra "$(EXTRA)" --torch-index "$(TORCH_INDEX)"

demo: install ## Co-train on the AWS SDK's operations and print the comparison (about 25 minutes on two cores)
	@$(RUN) -m pipelines.cotrain --config configs/demo.yaml $(ARGS)

serve: install ## Serve the newest release (the frozen models where there is none) on this machine
	@$(RUN) -m pipelines.serve $(ARGS)

test: install ## Run all tests, the fast ones first
	@$(RUN) -m pytest $(TESTS)

faults: install ## Kill parts of a continual run, on a cluster of three nodes
	@$(RUN) -m pytest -m faults -s tests/faults tests/ray

lint: install ## Check style, formatting and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy actors configs pipelines serve_app

bench: install ## Measure the parts; the last line is one JSON object
	@$(RUN) -m pipelines.speed.parts $(ARGS)

bench-async: install ## Measure what overlapping the stages gains; the last line is one JSON object
	@$(RUN) -m pipelines.speed.overlap $(ARGS)

bench-serve: install ## Measure the server against two others; the last line is one JSON object
	@$(RUN) -m pipelines.speed.serving $(ARGS)

clean: ## Remove .venv and everything made by tools; runs/ stays
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find actors configs pipelines serve_app tests .ci -name __pycache__ -type d -prune -exec rm -rf {} +
