# The commands live in `tradestack` (infra/cli.py); these targets install what it needs and forward.
STACK ?= local
TRADESTACK := .venv/bin/tradestack
PYTEST := .venv/bin/python -m pytest

.PHONY: setup setup-test up down status plan demo test soak check format bench

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

test: check
	@$(PYTEST) -n 2 --dist loadgroup -m "not soak" $(ARGS)

soak: setup-test
	@$(PYTEST) -m soak $(ARGS)

check: setup-test
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: setup-test
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

bench: setup-test
	@$(TRADESTACK) bench stack
