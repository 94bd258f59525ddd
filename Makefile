# A thin index: each target names the script or the cargo command that does the work.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo run check test test-rabbitmq4 torture lint schemas bench image broker broker-stop clean

# nextest where it is installed, since it runs the tests of all binaries side by side.
TEST := $(if $(shell command -v cargo-nextest),nextest run,test)
# Most tests wait for a broker or for a deadline, so that twice as many as there are processors keep them busy.
export NEXTEST_TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
# The broker that answers, or a new one; its progress goes to stderr.
BROKER_URL = url=$$(deploy/local/broker.sh up | tail -n 1); export GROUPMQ_AMQP__URL=$$url

# Built together with the tests, so that it shares their dependencies: `cargo run` would compile all
# of them once more, with fewer features.
GROUPMQ = cargo build --locked --quiet --workspace --tests --bins && $${CARGO_TARGET_DIR:-target}/debug/groupmq

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

# Not a release build: `make test` goes on with what this one built.
demo: ## show groupmq at work, end to end, on a local broker
	@deploy/local/setup.sh build
	@cargo build --locked --workspace --bins --example demo
	@$(BROKER_URL); $${CARGO_TARGET_DIR:-target}/debug/examples/demo

run: ## run the worker on a local broker (sandbox engine; Ctrl-C stops it)
	@deploy/local/setup.sh build
	@cargo build --locked --quiet --release
	@$(BROKER_URL); exec $${CARGO_TARGET_DIR:-target}/release/groupmq run

check: ## what to run after each small change: lints, unit tests, and the tests of the modules that changed
	@tests/check.sh

test: ## everything that CI checks: lints, tests, documentation, generated files
	@deploy/local/setup.sh test
	@$(MAKE) --no-print-directory lint
	deploy/build.sh
	deploy/local/postgres.sh with deploy/local/broker.sh with tests/slowest.sh cargo $(TEST) --locked --workspace
	cargo test --locked --workspace --doc
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
	$(GROUPMQ) schemas --check

# Whatever starts a node (deploy/local/node.sh) does so in that root.
test-rabbitmq4: ## the tests that use a broker, against RabbitMQ 4 (needs root or sudo, once)
	@deploy/local/setup.sh test
	export RABBITMQ_ROOT=$$(deploy/local/rabbitmq4.sh root); \
	deploy/local/postgres.sh with deploy/local/broker.sh with tests/slowest.sh cargo $(TEST) --locked --workspace \
		--test broker --test webhooks --test gateway --test clients --test deploy --test rabbitmq

# The same tests as in `make test`, much longer. GROUPMQ_TORTURE_SEED repeats what a failure names.
torture: export NEXTEST_PROFILE = torture
torture: export GROUPMQ_TORTURE_KILLS ?= 100
torture: export GROUPMQ_TORTURE_SEEDS ?= 50
torture: export GROUPMQ_TORTURE_SECONDS ?= 600
torture: export GROUPMQ_TORTURE_EVENTS ?= 20000
torture: export PROPTEST_CASES ?= 1000
torture: ## kill workers a hundred times over, try many seeds, ten minutes of an operator's deeds (an hour)
	@deploy/local/setup.sh test
	deploy/local/postgres.sh with deploy/local/broker.sh with \
		tests/slowest.sh cargo $(TEST) --locked --workspace --lib --test broker --test webhooks -- \
		histories:: kills:: handovers:: order:: sharing:: deeds:: breaker::

lint: ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

schemas: ## write schemas/ anew from the Rust types
	$(GROUPMQ) schemas

bench: ## measure groupmq beside other programs, its gateway and its webhooks, on a local broker
	@deploy/local/setup.sh build
	@$(BROKER_URL); cargo bench --locked --bench throughput --bench webhooks --bench gateway

image: ## build the container image groupmq (needs Docker)
	docker build --file deploy/Dockerfile --tag groupmq .

broker: ## start a local RabbitMQ if none answers, and print its URL
	@deploy/local/broker.sh up

broker-stop: ## stop the RabbitMQ that `make broker` started
	@deploy/local/broker.sh down

clean: broker-stop ## remove everything that was built or downloaded
	cargo clean
	rm -rf tests/tools/node_modules
