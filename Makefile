# The commands live in `tradestack` (infra/cli.py); these targets install what it needs and forward.
STACK ?= local
TRADESTACK := .venv/bin/tradestack
PYTEST := .venv/bin/python -m pytest
OFFLINE := $(addprefix tests/,check components cost monitoring plan policy render settings stacks)

.PHONY: setup setup-test up down status plan demo test test-node test-servers test-offline soak nightly check format bench

setup:
	@infra/setup.sh run

setup-test:
	@infra/setup.sh test

up: setup
	@$(TRADESTACK) up $(STACK)

down: setup
	@$(TRADESTACK) down $(STACK) $(ARGS)

status: setup
	@$(TRADESTACK) status $(STACK)

plan: setup
	@$(TRADESTACK) plan $(STACK)

demo: setup
	@.venv/bin/python -m app run all

# Two at a time: what runs on the embedded node and then what needs no server, beside everything else.
test: check
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target test-node test-servers test-offline

test-node:
	@$(PYTEST) tests/cluster -m "not soak" $(ARGS)

# With + it is shown while it runs; the reports of the others follow at their ends.
test-servers:
	+@$(PYTEST) $(addprefix --ignore=,tests/cluster $(OFFLINE)) -m "not soak" $(ARGS)

test-offline:
	@$(PYTEST) $(OFFLINE) -m "not soak" $(ARGS)

soak: setup-test
	@$(PYTEST) -m soak $(ARGS)

# One line for each 25,000 compared commands, first with the compiled exchange, then with the plain one.
nightly: setup-test
	@$(PYTEST) tests/exchange -m nightly -v $(ARGS)
	@APP_EXCHANGE_PURE=1 $(PYTEST) tests/exchange -m nightly -v $(ARGS)

check: setup-test
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: setup-test
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

bench: setup-test
	@$(TRADESTACK) bench stack
