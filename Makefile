# Two commands: `make run` starts the service, `make test` proves it. Both install what they need into .venv.
PYTHON ?= python3
# Where pip takes torch from; empty means the usual index (its CUDA build: several GB). For the CPU build:
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
NODE := tests/test_clients/node
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: run test fuzz faults soak broken audit interop check format lock clean

run: $(VENV)/.engine
	@exec $(BIN)/python -m app --upgrade

# A file at a time to each of as many processes as there are processors; one PostgreSQL each. Python is started hundreds
# of times, and would compile everything each time where the environment forbids it to keep what it compiled.
test: $(VENV)/.dev $(VENV)/.clients
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=loadfile

# Takes minutes: the routes against their description, with many more requests than `make test` has time for.
fuzz: $(VENV)/.dev
	FUZZ_EXAMPLES=200 $(BIN)/python -m pytest tests/test_controller/test_description.py

# Breaks the service on purpose, on the loopback alone, and counts. Wants two cores to itself for a quarter of an hour.
faults: FAULTS := --rounds 50 --soak-seconds 300 --cases 20000
# The same for hours.
soak: FAULTS := --rounds 200 --soak-seconds 3600 --cases 1000000

# The load that lasts leaves most of the machine idle: kills go on beside it. What measures times runs alone.
faults soak: $(VENV)/.dev
	@$(MAKE) --keep-going --jobs=2 broken-test_soak broken-test_chaos FAULTS="$(FAULTS)"; first=$$?; \
	$(MAKE) broken FAULTS="$(FAULTS) --ignore=tests/test_faults/test_soak.py --ignore=tests/test_faults/test_chaos.py" && exit $$first

broken:
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests/test_faults -m faults -s $(FAULTS)

broken-%:
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests/test_faults/$*.py -m faults -s $(FAULTS)

# Secrets in what is committed, a bill of materials, and, over the network, known vulnerabilities.
audit: $(VENV)/.audit
	.ci/audit

# lm-evaluation-harness against the service; its environment takes about 1 GB.
interop: $(VENV)/.dev $(VENV)/.harness
	$(BIN)/python -m pytest tests/test_clients/test_lm_eval.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.admin database check
	$(BIN)/python -m tools.settings_table --check README.md README.zh-CN.md
	$(BIN)/python -m tools.openai_table --check docs/openai.md

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tools.settings_table README.md README.zh-CN.md
	$(BIN)/python -m tools.openai_table docs/openai.md

# torch is pinned in torch.txt without a hash: its CPU and CUDA builds differ, and it pins its own CUDA libraries.
lock: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  pyproject.toml --extra engine $(shell cat requirements/not-locked.txt) -o requirements/engine.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  pyproject.toml --extra engine --extra otel --extra dev $(shell cat requirements/not-locked.txt) -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  pyproject.toml --extra otel -c requirements/dev.txt -o requirements/otel.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group clients -o requirements/clients.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group harness -o requirements/harness.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group audit -o requirements/audit.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.engine: requirements/engine.txt requirements/torch.txt requirements/demo.txt | $(BIN)/python
	@echo "Installing the locked packages into $(VENV) (once; torch's CUDA build is several GB, see README) …"
	@$(PIP) --require-hashes --no-deps -r requirements/engine.txt
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -r requirements/torch.txt
	@$(PIP) --require-hashes --no-deps -r requirements/demo.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.engine
	@$(PIP) --require-hashes --no-deps -r requirements/dev.txt
	@touch $@

# Clients of other makers, which tests set against the service: what is missing here is skipped there, and says so.
$(VENV)/.clients: requirements/clients.txt $(NODE)/package-lock.json | $(BIN)/python
	@$(PYTHON) -m venv $(VENV)/clients
	@$(VENV)/clients/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps \
	  -r requirements/clients.txt
	@if command -v npm >/dev/null; then npm ci --silent --ignore-scripts --prefix $(NODE) || \
	  echo "npm cannot install OpenAI's client; its tests will be skipped." >&2; fi
	@touch $@

$(VENV)/.harness: requirements/harness.txt | $(BIN)/python
	@$(PYTHON) -m venv $(VENV)/harness
	@$(VENV)/harness/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps \
	  -r requirements/harness.txt
	@touch $@

$(VENV)/.audit: requirements/audit.txt | $(BIN)/python
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps \
	  -r requirements/audit.txt
	@touch $@

clean:
	rm -rf $(VENV) $(NODE)/node_modules .mypy_cache .ruff_cache .pytest_cache
