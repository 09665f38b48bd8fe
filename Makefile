# Everything from a fresh machine: `make demo` shows it, `make test` proves it.
#
# One profile (release) builds the product, the demo and the tests, so dependencies are compiled once.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test sqllogictest bench lint openapi clean

help: ## What one can make
	@sed -nE 's/^([a-z]+): .*## (.*)$$/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## Build, start a warehouse, load TPC-H at scale factor 1, and ask it things
	cargo run --release --locked --package wasmhouse -- demo

test: ## Install what the tests need and run all of them
	@tests/run.sh test

sqllogictest: ## Run DataFusion's whole SQL suite over HTTP and print how it went
	@tests/run.sh sqllogictest

bench: ## TPC-H at scale factor 1 beside DataFusion, DuckDB and Polars
	cargo build --release --locked --package wasmhouse
	@bench/run.sh

lint: ## What must hold before a commit
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- --deny warnings

openapi: ## Write gateway/openapi.json, the HTTP contract, from the code
	@contract=$$(mktemp) && trap 'rm -f "$$contract"' EXIT && \
	cargo run --release --quiet --package wasmhouse -- openapi > "$$contract" && cp "$$contract" gateway/openapi.json

clean: ## Remove what was built and installed here
	cargo clean
	rm -rf .venv bench/.venv
