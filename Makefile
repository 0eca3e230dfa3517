.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Bytecode is kept, whatever the environment says: else each of the many processes that tests start compiles its sources.
export PYTHONDONTWRITEBYTECODE :=
INSTALLED := $(VENV)/.installed

.PHONY: help
help: ## List what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

$(INSTALLED): requirements.txt pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Laurel needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Create the environment with the pinned dependencies

.PHONY: proto
proto: $(INSTALLED) ## Generate the stubs under shared/gen, the generated pages and the help of `laurel operate`
	@$(BIN)/python -m deploy.generate

.PHONY: format
format: $(INSTALLED) ## Format code and contracts
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/buf format -w

LINTS := lint-style lint-types lint-architecture lint-contracts

.PHONY: lint $(LINTS)
lint: $(INSTALLED) ## ruff, mypy strict, architecture rules, buf
	@$(MAKE) --no-print-directory -j $(WORKERS) $(LINTS)

lint-style:
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

lint-types:
	@$(BIN)/mypy

lint-architecture:
	@$(BIN)/lint-imports

lint-contracts:
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code

# What needs no order among its tests runs in so many processes, each with servers of its own.
WORKERS := 2
PARALLEL := -n $(WORKERS)

.PHONY: check quick
check: $(INSTALLED) ## The short way: lint and the unit tests at once, with few examples of each property
	@$(MAKE) --no-print-directory --output-sync -j 3 $(LINTS) quick

quick:
	@$(BIN)/pytest -q $(PARALLEL) --hypothesis-profile quick tests/unit tests/load

.PHONY: test collected
test: $(INSTALLED) ## Everything: lint, then the tests of every layer
	@$(MAKE) --no-print-directory -j $(WORKERS) lint-types collected lint-style lint-architecture lint-contracts
	@$(BIN)/pytest $(PARALLEL)

# Every test can be imported; what takes time in that is kept for the processes of the run. One core would be idle beside mypy.
collected:
	@$(BIN)/pytest -q --collect-only tests > /dev/null

.PHONY: unit
unit: $(INSTALLED) ## The rules as sentences and properties: tests/unit, tests/load
	@$(BIN)/pytest $(PARALLEL) tests/unit tests/load

.PHONY: service
service: $(INSTALLED) ## Each service alone with its database, and the contracts: tests/service, tests/contract
	@$(BIN)/pytest $(PARALLEL) -m "not servers" tests/service tests/contract

.PHONY: servers
servers: $(INSTALLED) ## What `make service` leaves out: servers that are started, killed and started again
	@$(BIN)/pytest $(PARALLEL) -m servers tests/service

.PHONY: kafka
kafka: ## Fetch a broker of Kafka, by Maven, for the tests of streams, which are skipped without it
	@mvn -q -B -f tests/fixtures/kafka_pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.kafka/libs

.PHONY: e2e
e2e: $(INSTALLED) ## The processes as a user starts them: tests/e2e
	@$(BIN)/pytest tests/e2e

.PHONY: fuzz
fuzz: $(INSTALLED) ## Every odd value of every field of every request; `make test` tries one in nine
	@$(BIN)/pytest tests/e2e/test_fuzzing.py --fuzz-all

.PHONY: history
history: $(INSTALLED) ## All fifteen years of a real history, compared with slow folds; `make test` takes the last two
	@$(BIN)/pytest tests/e2e/test_history.py --whole-history

.PHONY: crash
crash: $(INSTALLED) ## The processes killed, frozen and restarted: tests/crash, tests/chaos
	@$(BIN)/pytest tests/crash tests/chaos

# A Monday whose last week is final and that ends a month, the six days after it, and a Monday whose last week is open.
WEEKDAYS := 20250630T1330 20250701T0030 20250702T1200 20250703T1200 20250704T2330 20250705T1200 20250706T1200 \
	20250707T0900
LIVED := $(WEEKDAYS:%=weekday-%)

.PHONY: weekdays $(LIVED)
weekdays: $(LIVED) ## What depends on the calendar, on seven weekdays; two at a time: make -j2 weekdays

$(LIVED): weekday-%: $(INSTALLED)
	@$(BIN)/pytest -q -m calendar --live-at $* tests/e2e

.PHONY: chart
chart: $(INSTALLED) ## Render deploy/chart into deploy/kubernetes; it needs helm
	@$(BIN)/python -m deploy.kubernetes

.PHONY: clients
clients: $(INSTALLED) ## Build and run the guides' programs in Go, Java and TypeScript, each where its tools are
	@PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/pytest tests/clients/languages.py

.PHONY: demo
demo: $(INSTALLED) ## Fifteen years of a real project's activity through a fresh system
	@$(BIN)/python -m deploy.demo

.PHONY: up
up: $(INSTALLED) ## Start the whole system with the demo's configuration and leave it running
	@$(BIN)/laurel up
	@$(BIN)/laurel apply -f deploy/demo/laurel.yaml

.PHONY: down
down: $(INSTALLED) ## Stop it; data stays
	@$(BIN)/laurel down

.PHONY: chaos
chaos: $(INSTALLED) ## Break everything at random under load, a tenth voided: make chaos SEED=7 EVENTS=20000 VOIDS=0.1
	@$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED)) $(if $(EVENTS),--events $(EVENTS)) \
		$(if $(VOIDS),--voids $(VOIDS))

.PHONY: upgrade
upgrade: $(INSTALLED) ## Replace every replica of an earlier commit under load: make upgrade FROM=COMMIT
	@$(BIN)/python -m tests.upgrade.run $(if $(FROM),--from $(FROM))

BENCHED := $(VENV)/.installed-bench

$(BENCHED): $(INSTALLED) requirements-bench.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.txt
	@touch $@

.PHONY: bench
bench: $(BENCHED) ## Measure against the ceilings of this machine: make bench [QUICK=1] [ONLY="closed batch"]
	@$(BIN)/python -m deploy.bench $(if $(QUICK),--quick) $(foreach profile,$(ONLY),--only $(profile))

.PHONY: profile
profile: $(BENCHED) ## Sample all services under load, flame graphs and a table by kind: make profile [ONLY="callers batches alone"]
	@$(BIN)/python -m deploy.bench.profile $(foreach load,$(ONLY),--only $(load))

.PHONY: turns
turns: $(INSTALLED) ## Measure what an event costs against another checkout, in turns: make turns OTHER=DIRECTORY [ROUNDS=6] [ONLY="alone batches"]
	@$(BIN)/python -m deploy.bench.turns $(OTHER) $(if $(ROUNDS),--rounds $(ROUNDS)) $(foreach load,$(ONLY),--only $(load))

.PHONY: growth
growth: $(INSTALLED) ## Measure what size costs, with a million users; twenty minutes, 50 GB: make growth [USERS=20000 EVENTS=200000]
	@$(BIN)/python -m deploy.bench.growth $(if $(USERS),--users $(USERS)) $(if $(EVENTS),--events $(EVENTS))

.PHONY: scale
scale: $(INSTALLED) ## Measure one against two replicas of each service by CPU for each event: make scale [ROUNDS=5]
	@$(BIN)/python -m deploy.bench.scale $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: restoring
restoring: $(INSTALLED) ## Measure how long the doctor takes for a lost database: make restoring [USERS=5000 DAYS=7 ONLY=points]
	@$(BIN)/python -m deploy.bench.restore $(if $(USERS),--users $(USERS)) $(if $(DAYS),--days $(DAYS)) \
		$(foreach service,$(ONLY),--only $(service))

.PHONY: load
load: $(INSTALLED) ## Load a running stack with ghz: make load [PROFILE=unary-closed] [TARGET=HOST:PORT] [COUNT=20000] [SECONDS=60] [RATE=200]
	@$(BIN)/python -m deploy.load $(if $(PROFILE),--profile $(PROFILE)) $(if $(TARGET),--target $(TARGET)) \
		$(if $(COUNT),--count $(COUNT)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE))
