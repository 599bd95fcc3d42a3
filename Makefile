# What a person types. Each target installs what it needs and is missing, after saying so.
.PHONY: help demo test test-all check bench setup build clients

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: ## move 200,000 rows between two PostgreSQL servers, and compare them (KEEP=1: stay up)
	@scripts/setup.sh build postgres
	@KEEP=$(KEEP) examples/demo.sh

test: setup ## every test: the workspace's, then those of foreign Kafka clients
	@scripts/test.sh

test-all: setup ## the same with the slow tail
	@scripts/test.sh -- --include-ignored

clients: setup ## the tests of foreign Kafka clients alone
	cargo build -p towline --bin towline
	@scripts/clients.sh

check: ## formatting, lints, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

bench: ## the whole pipeline against `psql COPY | psql COPY`, upsert, latency, memory (RUNS=5)
	@scripts/setup.sh build postgres
	@examples/bench.sh $(RUNS)

build: ## the release binary, target/release/towline
	@scripts/setup.sh build
	cargo build --release -p towline --bin towline

setup: ## install what tests need
	@scripts/setup.sh build postgres clients
