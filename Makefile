# Everything runs in one virtual environment, which the targets make. With another Python:
# make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CONSTRAINTS ?=
FOLDERS := shards loaders tb bench tests docs

.PHONY: demo test test-slow test-all test-lowest mutations lint check docs gpu-check clean

demo: $(INSTALLED)  ## the whole method on made-up videos, in minutes: demo/report.html
	$(BIN)/tb demo --out demo

test: $(INSTALLED)  ## the default test suite
	@echo "The default test suite; the slow tests: make test-slow"
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow -n 2 --dist loadfile

test-all: test test-slow  ## the default suite, then the slow one

test-lowest:  ## the default suite with the lowest versions that pyproject.toml allows
	$(MAKE) test VENV=.venv-lowest-$(notdir $(PYTHON)) CONSTRAINTS="-c tests/lowest.txt"

mutations: $(INSTALLED)  ## breaks the code in many places, and names what the tests do not notice
	$(BIN)/python -m tests.mutations

lint: $(INSTALLED)  ## format, lint, types
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/mypy

check: lint docs test-all  ## what CI runs

docs: $(INSTALLED)  ## the site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

gpu-check: $(INSTALLED)  ## on a GPU machine: checks and figures that need a GPU, to gpu-check/
	-$(BIN)/pip install --quiet -e '.[gpu-check]'  # without a network, what is already installed
	$(BIN)/python -m bench.gpu_check --out gpu-check --minutes 8

clean:  ## removes the virtual environment, caches and the demo
	rm -rf .venv .venv-* demo gpu-check site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(FOLDERS) -name __pycache__ -prune -exec rm -rf {} +

# Made again only when pyproject.toml has changed.
$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ..." if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	touch $@
