# Each target sets up .venv by itself. It needs python3 (3.11 or later) with venv, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed
# If 3 GB of memory are free, the databases of tests are kept in memory, so that they never wait for the disk.
TEST_ROOT := $(shell if [ -w /dev/shm ] && [ "$$(df -Pk /dev/shm | awk 'NR == 2 {print $$4}')" -gt 3000000 ]; \
	then echo /dev/shm; else echo $${TMPDIR:-/tmp}; fi)
CODE := scanner workers notifications tests docs celeryconfig.py

.PHONY: demo sandbox test check run bench attack-table fault-table quiet outage memory-table fuzz look lint format lock migration pins sbom clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo   watch a leak being found, disabled and mailed, on this machine alone"
	@echo "make sandbox   leak tokens yourself, and see them in the console"
	@echo "make test   everything that must pass"
	@echo "make run    the service, with settings from R8SCAN_* variables and .env"
	@echo "make bench  speed and memory, as ratios"
	@echo "make attack-table   what each hostile input costs, into docs/security.md"
	@echo "make fault-table    what the status says when a part fails, and how soon, into docs/operations.md: an hour"
	@echo "make quiet  whether 30 minutes without a fault raise no problem"
	@echo "make outage whether Redis and the logs stay small while Redis is away, and while nobody consumes: two hours"
	@echo "make memory-table   memory and processor time of the idle service: r8scan run, and the services of compose"
	@echo "make fuzz   every parser of hostile bytes, for MINUTES=10"
	@echo "make look   pictures of the mails and the console, in tests/pictures"
	@echo "make lint   formatting, lint and types      make format   repair formatting and lint"
	@echo "make check  lint, and the tests that need no server: within a minute"
	@echo "make migration name=\"…\"                    a migration, from the difference between tables and models"
	@echo "make lock   write the lock files again      make clean    remove everything that make created"
	@echo "make pins   container images by digest      make sbom     what the service is made of, in build/sbom.cdx.json"

demo: $(RUNTIME)
	@$(BIN)/r8scan demo

sandbox: $(RUNTIME)
	@$(BIN)/r8scan sandbox

run: $(RUNTIME)
	@$(BIN)/r8scan run

test: lint
	TMPDIR=$(TEST_ROOT) PYTEST_DEBUG_TEMPROOT=$(TEST_ROOT) $(BIN)/python -m pytest -n 3 --dist worksteal
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$name >/dev/null && exit 0; done; \
		echo "LEFT OUT: the console in a browser (test_browser.py and test_flows.py in tests/workers/web/console): no Chromium on the PATH"

# Skips the tests that need PostgreSQL, Redis, the sandbox or other processes. `make test` runs them.
check: lint
	$(BIN)/python -m pytest -n 2 -m "not servers"

# The revision number follows the newest one. Alembic compares the models with an empty database at that revision.
migration: $(DEVELOPMENT)
	@test -n "$(name)" || { echo 'say what it does: make migration name="a table for …"'; exit 1; }
	rm -f build/migration.db
	$(BIN)/alembic upgrade head
	$(BIN)/alembic revision --autogenerate --message "$(name)" \
		--rev-id $$(printf '%04d' $$(($$(ls scanner/records/migrations/versions/[0-9]*.py | wc -l) + 1)))
	rm -f build/migration.db
	$(BIN)/ruff check --quiet --fix scanner/records/migrations/versions
	$(BIN)/ruff format --quiet scanner/records/migrations/versions

bench: $(DEVELOPMENT)
	$(BIN)/python -m tests.benchmarks

attack-table: $(DEVELOPMENT)
	$(BIN)/python -m tests.benchmarks.table_attacks --write

fault-table: $(DEVELOPMENT)
	$(BIN)/python -m tests.benchmarks.table_faults --write --quiet-minutes 30

quiet: $(DEVELOPMENT)
	$(BIN)/python -m tests.benchmarks.table_faults --only "no fault" --quiet-minutes 30

outage: $(DEVELOPMENT)
	$(BIN)/python -m tests.benchmarks.table_outage

memory-table: $(DEVELOPMENT)
	$(BIN)/python -m tests.benchmarks.table_memory

MINUTES ?= 10
fuzz: $(DEVELOPMENT)
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

look: $(DEVELOPMENT)
	$(BIN)/python -m tests.pictures
	$(BIN)/python -m tests.console_pictures
	$(BIN)/python -m tests.readme_pictures

lint: $(DEVELOPMENT)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# The lock files contain hashes, so that packages need not be trusted by their origin.
lock: $(DEVELOPMENT)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate pyproject.toml --group build -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate pyproject.toml --group dev -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate pyproject.toml --extra sentry --extra traces -c requirements.lock -o requirements-extras.lock

# Needs docker and a network.
pins:
	@sh .ci/pin-images

# CycloneDX is the format that scanners for vulnerabilities and licences read.
sbom: $(DEVELOPMENT)
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --short-PURLs --output-reproducible \
		--output-format JSON --output-file build/sbom.cdx.json

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("r8scan needs Python 3.11 or later; set PYTHON=...") if sys.version_info < (3, 11) else None'
	@echo "Creating a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements.lock requirements-redis.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the locked packages into $(VENV), once: about half a minute"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@echo "Installing r8scan"
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@sh .ci/redis-server $(BIN)
	@touch $@

$(DEVELOPMENT): requirements-dev.lock $(RUNTIME)
	@echo "Installing the packages for tests and checks, once"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench tests/pictures
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
