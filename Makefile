# Set-up and use: `make demo` and `make test` need Python >= 3.11 and nothing else.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; \
	done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-slow bench docs notebooks dist lint format types check clean
.DEFAULT_GOAL := help

help:  ## Show these lines.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# One stamp for each set of extras, renewed when pyproject.toml changes.
$(VENV)/.base: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12" \
		if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

demo: $(VENV)/.base  ## Solve held-out problems, train a policy on digits, race it: runs/demo.
	$(BIN)/lbfgs-pi demo

test: $(VENV)/.dev  ## Run the tests (under 15 minutes on two cores).
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

test-slow: $(VENV)/.dev  ## Run the tests that take minutes each.
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.bench  ## Run the benchmarks into runs/bench; ARGS=--quick takes three minutes.
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.docs  ## Fill what pages take from records and cards, and build the site: site/index.html.
	$(BIN)/python -m scripts.fill_docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

notebooks: $(VENV)/.dev  ## Run the notebooks, and keep in them what they show.
	$(BIN)/python -m scripts.run_notebooks

dist: $(VENV)/.dev  ## Build the sdist and the wheel into dist, and check them.
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*

lint: $(VENV)/.dev  ## Check style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev  ## Fix style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev  ## Check types.
	$(BIN)/pyright

check: lint types test  ## All of it, as before a commit.

clean:  ## Remove the environment and all results.
	rm -rf $(VENV) runs site build dist .pytest_cache .ruff_cache
