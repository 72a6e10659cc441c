# The commands live in `tradestack` (infra/cli.py); these targets install what it needs and forward.
STACK ?= local
TRADESTACK := .venv/bin/tradestack
PYTEST := .venv/bin/python -m pytest

.PHONY: setup setup-test up down status plan demo test soak nightly check format bench

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

# Two lanes side by side: what runs on the embedded node, and everything else. The node's report follows at the end.
test: check
	@report=$$(mktemp); \
	$(PYTEST) tests/cluster -m "not soak" $(ARGS) >$$report 2>&1 & node=$$!; \
	trap 'kill $$node' INT TERM; \
	$(PYTEST) --ignore=tests/cluster -m "not soak" $(ARGS); rest=$$?; \
	wait $$node; node=$$?; \
	cat $$report; rm -f $$report; \
	test $$rest -eq 0 && test $$node -eq 0

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
