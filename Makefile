# Each target sets up what it needs in .venv and needs nothing else done before it.
VENV := $(or $(FERRYMAN_VENV),.venv)
FERRYMAN := $(VENV)/bin/ferryman
ARGS ?=

.PHONY: help demo test check fix bench bench-serving docs setup setup-core lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup-core:
	@scripts/setup core

setup:  ## make .venv with Ferryman, every extra and the test tools
	@scripts/setup all

demo: setup-core  ## from a trained model to a served, verified answer (core packages only; under 5 minutes)
	@$(FERRYMAN) demo --folder build/demo $(ARGS)

test: setup  ## run the tests (ARGS="-k name" for some)
	@scripts/test $(ARGS)

check: setup  ## format, lint, types, layers, house rules, generated pages
	@scripts/check

fix: setup  ## format, write the generated pages, then check
	@scripts/check --fix

bench: setup  ## measure: import cost, then everything in benchmarks/
	@scripts/bench $(ARGS)

bench-serving: setup  ## measure the server beside its peers (ARGS="--peers ferryman,raw")
	@$(VENV)/bin/python benchmarks/serving/run.py $(ARGS)

docs: setup  ## write docs/reference from the code
	@$(VENV)/bin/python scripts/docs.py

lock: setup  ## write constraints/*.txt from what is installed in .venv
	@$(VENV)/bin/python scripts/lock.py

clean:  ## remove .venv and everything generated
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .ferryman
	@find src tests scripts benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
