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
demo: toolchain ## Show the main job on the real kernel, and the same steps on a stock one
	@$(LAB) demo

.PHONY: bench
bench: toolchain ## Measure the stock drivers and ours side by side (on an idle machine)
	@$(LAB) bench

.PHONY: test
test: toolchain ## Check everything: format, lints, unit tests, tests on the real kernel
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(LAB) modules --fmt-check --clippy
	cargo test --workspace

.PHONY: debug-kernel
debug-kernel: toolchain ## Build a kernel that watches itself, for 'lab walk --kernel debug' (a quarter of an hour)
	$(LAB) prepare --kernel debug

.PHONY: lint
lint: toolchain ## Check format and lints alone
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(LAB) modules --fmt-check --clippy

.PHONY: modules
modules: toolchain ## Build the kernel modules
	$(LAB) modules

TOPOLOGY ?= x2
.PHONY: shell
shell: toolchain ## Work in a guest: make shell TOPOLOGY=NAME
	$(LAB) shell --topology $(TOPOLOGY)

.PHONY: clean
clean: toolchain ## Remove everything that was made
	$(LAB) clean
	cargo clean

# Rust comes by rustup and is the user's choice; the linker that it needs is a package like any other.
.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo "make: cargo is not there: install Rust with rustup (https://rustup.rs)" >&2; exit 1; }
	@command -v cc >/dev/null && [ -e /usr/lib/x86_64-linux-gnu/libc.a ] || { \
	    command -v apt-get >/dev/null || { echo "make: there is no C compiler and no apt-get: use Debian 12 or 13" >&2; exit 1; }; \
	    echo "installing gcc and libc6-dev"; \
	    $(ROOT) sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends gcc libc6-dev' >/dev/null || { \
	        echo "make: gcc and libc6-dev cannot be installed: this needs root or sudo without password, and the package registry" >&2; exit 1; }; }
