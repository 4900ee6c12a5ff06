# Every target sets up what it needs: on a fresh Debian with python3 and make, `make run` is enough.
PORT ?= 7837
DATA ?= stepwell-data
URL ?= http://127.0.0.1:$(PORT)
BIN := .venv/bin
.PHONY: help run demo test check bench bench-peers bench-sdk soak clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile

run: .venv/.ready ## serve on http://127.0.0.1:7837 (PORT=, DATA=)
	@$(BIN)/python -m stepwell serve --port $(PORT) --data $(DATA)

demo: .venv/.examples ## train the examples against the running server (URL=)
	@$(BIN)/python -m examples --url $(URL)

test: .venv/.examples ## run every suite, the long ones in bounded form (ARGS=)
	@sh scripts/test-tools
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

check: .venv/.ready ## lint, types, import contracts, file sizes; no tests
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/check_sizes.py

bench: .venv/.ready ## measure throughput, latency, disk and memory (ARGS=)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: .venv/.ready ## the same work on MLflow and FastTrackML, installed aside (ARGS=)
	@$(BIN)/python -m benchmarks.peers $(ARGS)

bench-sdk: .venv/.ready ## our client beside the others', each installed aside (ARGS=)
	@$(BIN)/python -m benchmarks.sdk $(ARGS)

soak: .venv/.ready ## run the long crash and load tests
	@sh scripts/test-tools
	@$(BIN)/python -m pytest -m slow --timeout 0 $(ARGS)

clean: ## remove what setting up and testing made; data stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# An installation builds the web UI, so it is made again when the UI's sources change.
.venv/.ready: pyproject.toml hatch_build.py scripts/setup tracker/ui/package-lock.json tracker/ui/vite.config.ts $(shell find tracker/ui/src -type f)
	@sh scripts/setup

.venv/.examples: .venv/.ready
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["examples"])' | xargs $(BIN)/python -m pip install --quiet --disable-pip-version-check
	@touch $@
