# Everything a contributor or CI runs. Needs python3 (3.11 or newer), pip and make; the rest is made here.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The project is installed again only when its dependencies may have changed.
INSTALLED := $(VENV)/.installed
SOURCES := mesimqtt plugins clients/python
# Tests run beside each other, each on ports and folders of its own: as many as there are processors, and one, because
# some wait for a disk or for a second to pass. A broken one is easier to read with WORKERS=0.
WORKERS ?= $(shell expr 1 + $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal
# Hundreds of servers and commands are started: none compiles all modules again, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE
UNCOMPILE := find mesimqtt -name '*.so' -delete; rm -f mesimqtt/compiled.json
# MQTT.js and the AsyncAPI parser, for the tests that need them; the lock file pins each package by its hash.
JS := tests/interop/js
MQTT_JS := $(JS)/node_modules/.package-lock.json

.PHONY: install format check test test-all test-compiled interop demo bench proof proof-short kill race machines fuzz fuzz-api mutants mutants-random
.PHONY: conform-broken build compile uncompile clean
.DEFAULT_GOAL := test

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mesimqtt needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	@# Debian without python3-venv has no ensurepip: then the pip beside python3 fills the environment.
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(INSTALLED)  ## Make .venv with the project and its tools

format: $(INSTALLED)  ## Rewrite the tree in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(INSTALLED)  ## All that is checked without running the project
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(SOURCES)
	$(BIN)/lint-imports --no-logo

test: $(INSTALLED)  ## The suite, without the tests whose tools are not installed; one file: make test ARGS=tests/test_tidy.py
	$(PYTEST) $(ARGS)

$(MQTT_JS): $(JS)/package-lock.json
	@command -v npm >/dev/null || { echo "npm is not installed: apt-get install nodejs npm"; exit 1; }
	npm ci --prefix $(JS) --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

interop: $(INSTALLED) $(MQTT_JS)  ## The tests that need more than Python: mosquitto, Node, Chromium, strace
	$(PYTEST) --every-tool -m tools $(ARGS)

test-all: $(INSTALLED) $(MQTT_JS)  ## `test` and `interop` in one run: what CI runs
	$(PYTEST) --every-tool $(ARGS)

test-compiled: compile  ## The suite on compiled modules, which are removed again
	$(PYTEST) --compiled $(ARGS); status=$$?; $(UNCOMPILE); exit $$status

demo: $(INSTALLED)  ## The story of one message in one terminal
	$(BIN)/mesimqtt demo

bench: $(INSTALLED)  ## Our figures beside mosquitto's, in one table
	$(BIN)/mesimqtt bench

proof-short: $(INSTALLED)  ## The short form of the proof: a minute or two, what CI runs
	$(BIN)/mesimqtt selftest --form short --report build/proof-short

proof: $(INSTALLED)  ## The long form of the proof, an hour or two: build/proof.md, .json, and the figures of PROOF.md
	$(BIN)/mesimqtt selftest --form long --report build/proof; status=$$?; \
		$(BIN)/python -m mesimqtt.proof.page PROOF.md build/proof.json $(wildcard build/mutants.json) && exit $$status

kill: $(INSTALLED)  ## 50 times kill -9 at any moment of start, load and stop: nothing lost, nothing doubled
	$(BIN)/python -m mesimqtt.proof kills --count 50 $(ARGS)

race: $(INSTALLED)  ## 10 000 times a member is removed while he and others write: no later seq ever reaches him
	RACE_ROUNDS=2500 $(PYTEST) --hangs-after=0 tests/attacks/test_b_groups.py $(ARGS)

machines: $(INSTALLED)  ## Long random lives of a server in virtual time, and resends by every door: MACHINE_EXAMPLES=3000 of each
	MACHINE_EXAMPLES=$${MACHINE_EXAMPLES:-3000} $(PYTEST) --hangs-after=0 \
		tests/unit/messaging/test_model.py tests/unit/messaging/test_resends.py $(ARGS)

fuzz: $(INSTALLED)  ## atheris on every parser of untrusted bytes, FUZZ_SECONDS=30 each; ARGS='json params' for some; Linux
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m mesimqtt.proof.fuzz --seconds $${FUZZ_SECONDS:-30} --found build/fuzz --corpus build/fuzz-corpus $(ARGS)

fuzz-api: $(INSTALLED)  ## schemathesis on the HTTP API, two minutes, as an admin and as a user; FUZZ_SEED=2 for other data
	FUZZ_SECONDS=$${FUZZ_SECONDS:-120} $(PYTEST) --hangs-after=0 tests/integration/test_fuzz_api.py $(ARGS)

mutants: $(INSTALLED)  ## Plant every bug of tests/mutants/bugs in a copy, one by one: the suite must notice each
	PYTHONPATH=tests $(BIN)/python -m mutants.planted --workers $(WORKERS) $(ARGS)

mutants-random: $(INSTALLED)  ## COUNT small changes of the heart at random, from SEED: what no test notices is listed
	PYTHONPATH=tests $(BIN)/python -m mutants.sampled --count $${COUNT:-50} --seed $${SEED:-1} --workers $(WORKERS) $(ARGS)

conform-broken: $(INSTALLED)  ## The whole conformance kit against each server of tests/conform/broken: what it finds in each
	PYTHONPATH=tests $(BIN)/python -m conform.proven

build: $(INSTALLED)  ## The wheel, in dist/; with COMPILE=1 for this platform, its hot path compiled
	@rm -f dist/mesimqtt-*.whl
	MESIMQTT_COMPILE=$(COMPILE) $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/mesimqtt-*.whl

compile: $(INSTALLED) uncompile  ## Compile the hot path in this tree; needs a C compiler, and again after every change of it
	MESIMQTT_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .

uncompile:  ## Back to plain Python
	$(UNCOMPILE)

clean: uncompile  ## Remove what make made; the data folder stays
	rm -rf $(VENV) $(JS)/node_modules dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
