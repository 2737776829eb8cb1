SHELL := /bin/bash
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format docs fidelity failures soak compose-test clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## create or refresh .venv from the lock files
	@deploy/setup.sh

run: setup ## run the demo
	$(BIN)/vasbus demo

test: lint ## lint, then the short tests
	$(BIN)/pytest

lint: setup ## ruff check, ruff format --check, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## print the pages that come from the code
	$(BIN)/python -m vasbus.reference_pages
	$(BIN)/python -m vasbus.reference_trace

fidelity: setup ## run the tests of docs/fidelity.md and print the page
	$(BIN)/python -m tests.fidelity.page

failures: setup ## run the tests of docs/failures.md and print the page with their figures
	$(BIN)/python -m tests.failures.page

soak: setup ## the long tests
	$(BIN)/pytest -m soak

compose-test: setup ## the containers: build, use, scale, kill and cut off each role; needs a Docker engine with Compose v2
	$(BIN)/pytest -m compose -s --timeout=600 tests/compose

clean: ## remove the environment, caches and build output
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
