# What a developer or a user runs. `make` alone lists it.

PARTS := victoria-logs vmauth journal-remote
CARGO := cargo
# Of `soak`: debug or release.
PROFILE ?= release
RELEASE := $(if $(filter debug,$(PROFILE)),,--release)

.PHONY: help run test test-kube soak soak-kube soak-pods bench check fmt clippy doc deny fuzz parts

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

run: ## the main job on this machine, until Ctrl-C: agent, gateway with embedded journal, files; no server needed
	@deploy/local/run.sh

test: parts ## all tests, against the real VictoriaLogs, vmauth and journal (installed into a cache outside the tree)
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --exclude sluice-kube-tests --all-features

test-kube: ## tests on a real Kubernetes node on this machine: root on Debian; MINUTES=… SEED=… (see tests/kube/run.sh)
	@tests/kube/run.sh

soak: parts ## long fault runs: SEED=… MINUTES=… (default: a random seed, 10 minutes)
	$(CARGO) build $(RELEASE) --workspace --bins
	$(CARGO) run $(RELEASE) -p sluice-tests --bin sluice-soak -- --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

soak-kube: ## the same again and again: RUNS=… (default 10) MINUTES=… SEED=… (of the first run; then counted up)
	@tests/kube/run.sh --soak

soak-pods: ## 500 pods come and go beside a real API server, and leave nothing behind in the agent: MINUTES=… (20)
	@RUNS=1 MINUTES=$(or $(MINUTES),20) tests/kube/run.sh --soak five_hundred

bench: ## agent and gateway beside an OpenTelemetry Collector and a noisy tenant; writes target/bench/latest.json
	@tests/parts/install.sh otelcol
	$(CARGO) build --release --workspace --bins
	$(CARGO) run --release -p sluice-bench -- all

check: fmt clippy doc deny ## what CI checks beside the tests

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

deny:
	@tests/parts/install.sh cargo-deny
	@.ci/deny

fuzz: ## every decoder's fuzz target: SECONDS_EACH=… (default 300); needs a nightly toolchain and cargo-fuzz
	@.ci/fuzz $(or $(SECONDS_EACH),300)

parts:
	@tests/parts/install.sh $(PARTS)
