# SPDX-License-Identifier: MIT OR Apache-2.0
# What people type. Each target sets up what it needs; the lab makes and caches the rest (see crates/lab).

SHELL := /bin/bash
.DEFAULT_GOAL := help

# rustup's own folder, for shells that have not read its environment yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
ROOT := $(if $(filter 0,$(shell id -u)),,sudo -n)
LAB := cargo run --quiet -p lab --

.PHONY: help
help: ## Show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

.PHONY: demo
demo: lab ## Show the main job on the real kernel, and the same steps on a stock one
	@$(LAB) demo

.PHONY: bench
bench: lab ## Measure the stock drivers and ours side by side (on an idle machine); the samples are in target/benchmarks.json
	@$(LAB) bench

.PHONY: test
test: lint ## Check everything: format, lints, unit tests, tests on the real kernel
	cargo test --workspace

.PHONY: debug-kernel
debug-kernel: lab ## Build a kernel that watches itself, for 'lab walk --kernel debug' (a quarter of an hour)
	$(LAB) prepare --kernel debug

.PHONY: lint
lint: lab components ## Check format and lints alone
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(LAB) modules --fmt-check --clippy

.PHONY: modules
modules: lab ## Build the kernel modules
	$(LAB) modules

TOPOLOGY ?= x2
.PHONY: shell
shell: lab ## Work in a guest: make shell TOPOLOGY=NAME
	$(LAB) shell --topology $(TOPOLOGY)

.PHONY: clean
clean: lab ## Remove everything that was made
	$(LAB) clean
	cargo clean

# Cargo shows how far it is, and the lab itself does so from then on.
.PHONY: lab
lab: toolchain
	@cargo build --locked -p lab

# A minimal rustup brings neither.
.PHONY: components
components: toolchain
	@{ cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 || rustup component add rustfmt clippy || { \
	    echo "make: rustfmt and clippy are not there, and rustup cannot add them: install them beside cargo" >&2; exit 1; }

# Rust comes by rustup and is the user's choice; the linker that it needs is a package like any other. All crates are
# fetched before the first is built: a registry that cannot be reached is told at once, and in one sentence.
APT := apt-get -q -o DPkg::Lock::Timeout=600
.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo "make: cargo is not there: install Rust with rustup (https://rustup.rs)" >&2; exit 1; }
	@command -v cc >/dev/null && [ -e /usr/lib/x86_64-linux-gnu/libc.a ] || { \
	    command -v apt-get >/dev/null || { echo "make: there is no C compiler and no apt-get: use Debian 12 or 13" >&2; exit 1; }; \
	    echo "installing gcc and libc6-dev"; \
	    log=$$($(ROOT) sh -c 'export DEBIAN_FRONTEND=noninteractive; dpkg --configure -a; \
	        $(APT) update; $(APT) install -y --no-install-recommends gcc libc6-dev' 2>&1) || { \
	        echo "$$log" | grep -E '^(E:|sudo:)' >&2; \
	        echo "make: gcc and libc6-dev cannot be installed: this needs root or sudo without password, and the package registry" >&2; exit 1; }; }
	@cargo fetch --locked --target x86_64-unknown-linux-gnu || { \
	    echo "make: the crates cannot be fetched: check the network, and whether it reaches crates.io" >&2; exit 1; }
