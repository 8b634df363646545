# Everything starts here. `make` alone lists the commands.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := .venv-extras
TORCH := 2.13.0
POSTS ?=
PLATFORM ?=
MAP ?=

.DEFAULT_GOAL := help
.PHONY: help setup run up monitoring down test test-all test-semantic test-names bench bench-scrape bench-rebuild bench-scrubbing bench-embedding bench-labels bench-strategies bench-claims schema dashboards deploy-config check format lock clean clean-data

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.locked ## make the virtual environment from the lock

$(VENV)/.locked: requirements/lock.txt requirements/uv.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH: install Python 3.11, or name it with PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements/lock.txt
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## set up and run the main job: the sample, or POSTS=file.csv PLATFORM=facebook MAP=mapping.yaml
	@$(BIN)/everreach run $(if $(POSTS),--posts "$(POSTS)") $(if $(PLATFORM),--platform "$(PLATFORM)") $(if $(MAP),--map "$(MAP)")

up: setup ## servers, Dagster UI at http://localhost:3000, sensors and schedules, until Ctrl-C
	@$(BIN)/everreach up

monitoring: setup ## Prometheus and Alertmanager beside `make up`, until Ctrl-C, where they are installed
	@$(BIN)/everreach monitoring

down: ## stop what `make up` started
	@if [ -x $(BIN)/everreach ]; then $(BIN)/everreach down; else echo "Nothing is running."; fi

test: setup ## the tests that a change should pass, under five minutes on two cores
	$(BIN)/python -m pytest -q -m "not slow" --numprocesses auto --dist worksteal

test-all: setup check test test-semantic test-names ## every check and every test, the slow ones too
	$(BIN)/python -m pytest -q -m slow

test-semantic: $(EXTRAS)/.installed ## the tests of the extra [semantic], in the environment of the extras: it holds PyTorch
	$(EXTRAS)/bin/python -m pytest -q tests/semantic

test-names: $(EXTRAS)/.installed ## the tests of the extra [names], in the environment of the extras: it holds spaCy
	$(EXTRAS)/bin/python -m pytest -q tests/names

# pip, with the versions of the lock: where PyTorch comes from a folder, only pip finds it.
$(EXTRAS)/.installed: requirements/lock.txt pyproject.toml
	test -x $(EXTRAS)/bin/python || $(PYTHON) -m venv $(EXTRAS)
	sed -n 's/^\([A-Za-z0-9._-]*\)\(\[[a-z,]*\]\)\{0,1\}\(==[^ ;]*\).*/\1\3/p' requirements/lock.txt > $(EXTRAS)/constraints.txt
	$(EXTRAS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(EXTRAS)/constraints.txt setuptools wheel
	$(EXTRAS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(EXTRAS)/constraints.txt \
		--no-build-isolation --editable ".[semantic,names]" torch==$(TORCH) hypothesis pytest pytest-timeout
	@touch $@

bench: setup ## measure search, fill and intake against the raw clients
	$(BIN)/python -m tests.benchmarks

dashboards: setup ## write grafana/*.json from everreach_assets/dashboards
	$(BIN)/python -m everreach_assets.dashboards

schema: setup ## write docs/strategy.schema.json from the models of a strategy
	$(BIN)/python -m everreach_assets.strategy_schema

bench-embedding: setup .venv-peers/.locked ## measure embedding against the bare client, LangChain and LlamaIndex
	$(BIN)/python -m tests.benchmarks.embedding

.venv-peers/.locked: requirements/peers.txt $(VENV)/.locked
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	VIRTUAL_ENV=$(CURDIR)/.venv-peers $(BIN)/uv pip sync --quiet --require-hashes requirements/peers.txt
	@touch $@

deploy-config: ## write Prometheus's and Alertmanager's configuration for containers from the one for one machine
	@sed -e '1i# Made by `make deploy-config` from prometheus/prometheus.yml, with the names of docker-compose.yml.' -e '/^#/d' \
		-e 's|127\.0\.0\.1:9090|service:9090|' -e 's|127\.0\.0\.1:9093|alertmanager:9093|' \
		-e 's|^  - \([a-z]*\.yml\)$$|  - ../prometheus/\1|' prometheus/prometheus.yml > deploy/prometheus.yml
	@sed -e '1i# Made by `make deploy-config` from prometheus/alertmanager.yml, with the names of docker-compose.yml.' -e '/^#/d' \
		-e 's|127\.0\.0\.1:9090|service:9090|' \
		-e 's|credentials_file: .*|credentials_file: /run/secrets/alert_token|' prometheus/alertmanager.yml > deploy/alertmanager.yml

bench-scrape: setup ## measure a scrape of /metrics over a million ledger rows
	$(BIN)/python -m tests.benchmarks.scrape

bench-rebuild: setup ## measure the time from the tenth outcome to the stored strategy
	$(BIN)/python -m tests.benchmarks.rebuild_latency

bench-scrubbing: setup ## measure what the scrubber finds on the labelled sets, and how fast
	$(BIN)/python -m tests.benchmarks.scrubbing

bench-labels: setup ## measure labelling 50,000 posts, and the labels of the shared sets
	$(BIN)/python -m tests.benchmarks.labels

bench-strategies: setup ## measure how well strategies foresee posts that they have not seen, and the gate
	$(BIN)/python -m tests.benchmarks.strategies

bench-claims: setup ## count how often strategies claim what was planted in samples, and what was not
	$(BIN)/python -m tests.benchmarks.claims

check: setup ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup ## resolve the dependencies anew
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-header --extra dev pyproject.toml -o requirements/lock.txt
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/peers.in -o requirements/peers.txt

clean: ## remove what can be made again: environment, caches (never data)
	@if [ -x $(BIN)/everreach ]; then $(BIN)/everreach down; fi
	rm -rf $(VENV) $(EXTRAS) .venv-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Your data stays where it is; 'make clean-data' removes it."

clean-data: setup ## delete the data folder (.everreach, or EVERREACH_HOME), for good
	@$(BIN)/everreach clean-data
