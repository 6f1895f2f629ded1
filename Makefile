# Tierline: everything a person or a build machine types. `make` alone lists it.
#
# Build output and the prebuilt RocksDB live outside the checkout, so that a fresh clone builds quickly:
# TIERLINE_CACHE moves them (default ~/.cache/tierline), CARGO_TARGET_DIR moves cargo's part alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-index bench-playlist bench-rebuild bench-serve bench-ingest bench-live bench-tiers bench-tick bench-scale profile soak soak-run check build
.PHONY: fuzz soak-faults fmt-check clippy arrows deny rocksdb
.NOTPARALLEL:

export TIERLINE_CACHE ?= $(HOME)/.cache/tierline
export CARGO_TARGET_DIR ?= $(TIERLINE_CACHE)/target
ifeq ($(origin ROCKSDB_LIB_DIR),undefined)
export ROCKSDB_LIB_DIR := $(shell tools/rocksdb.sh path 2>/dev/null)
export ROCKSDB_STATIC := 1
endif

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: setup-demo rocksdb ## build, start with four simulated cameras, and print the page's address
	cargo build --locked --release --bin tierline
	exec "$$CARGO_TARGET_DIR/release/tierline" demo $(DEMO_ARGS)

# Most tests wait for cameras, clocks and stores most of the time.
test: export RUST_TEST_THREADS ?= 4
test: setup-test fmt-check arrows clippy ## what CI runs: format, crate arrows, lints, and all tests
	cargo test --locked --workspace

# Results go there, as tables and as JSON; docs/benchmarks.md explains them.
export TIERLINE_BENCH_OUT ?= $(CURDIR)/target/bench

bench: bench-index bench-playlist bench-rebuild bench-serve bench-live bench-ingest ## all benches, one after another: half an hour
	@echo "bench: all results are in $$TIERLINE_BENCH_OUT"

bench-index: setup-bench rocksdb ## the index at 1 and 10 million segments; TIERLINE_BENCH_ROWS=n,m for other numbers
	cargo bench --locked --bench index
	benches/plot_index.py "$$TIERLINE_BENCH_OUT/index.json" "$$TIERLINE_BENCH_OUT/index.svg"

bench-playlist: setup-bench rocksdb ## the HLS playlist of a whole day
	cargo bench --locked --bench playlist

bench-rebuild: setup-bench rocksdb ## the index made anew from segments; TIERLINE_BENCH_SEGMENTS=n for another number
	cargo bench --locked --bench rebuild

bench-tick: setup-bench rocksdb ## a pass of moving and deleting over 10 million segments
	cargo bench --locked --bench tick

bench-serve: setup-bench build ## media and export throughput beside nginx
	benches/serve_compare.py --tierline "$$CARGO_TARGET_DIR/release/tierline" --out "$$TIERLINE_BENCH_OUT" $(BENCH_ARGS)

bench-ingest: setup-bench build ## recording 10, 40 and 100 cameras beside rawtick, rawrec and ffmpeg
	cargo build --locked --release --example rawtick --example rawrec
	benches/ingest_compare.py --tierline "$$CARGO_TARGET_DIR/release/tierline" \
		--peers "$$CARGO_TARGET_DIR/release/examples" --out "$$TIERLINE_BENCH_OUT" $(BENCH_ARGS)

bench-live: setup-bench build ## what a live viewer costs, and a start after kill -9 with 200 cameras
	benches/live_viewers.py --tierline "$$CARGO_TARGET_DIR/release/tierline" --out "$$TIERLINE_BENCH_OUT" $(BENCH_ARGS)

bench-tiers: setup-bench build ## copies to MinIO and back beside MinIO's own client; needs Go to build both once
	minio=$$(tools/servers.sh path minio) && mc=$$(tools/servers.sh path mc) && \
	benches/tiers_compare.py --tierline "$$CARGO_TARGET_DIR/release/tierline" --minio "$$minio" --mc "$$mc" \
		--out "$$TIERLINE_BENCH_OUT" $(BENCH_ARGS)

profile: setup-profile build ## where the CPU goes while recording and serving, by perf
	benches/profile.py --tierline "$$CARGO_TARGET_DIR/release/tierline" --out "$$TIERLINE_BENCH_OUT" $(BENCH_ARGS)

bench-scale: setup-bench build ## 300 cameras for ten minutes on two cores, and 2,000 streams with 100 active
	benches/scale.py --tierline "$$CARGO_TARGET_DIR/release/tierline" --out "$$TIERLINE_BENCH_OUT" $(BENCH_ARGS)

# What this machine cannot do is a failure here, and not passed over.
soak soak-faults: export TIERLINE_REQUIRE_RIGS = 1
soak: setup-test rocksdb ## the long forms of the tests, for hours
	@echo "soak: running the long forms, that is the tests marked as ignored, one at a time"
	cargo test --locked --workspace --no-fail-fast -- --ignored --test-threads=1 --nocapture
	$(MAKE) fuzz
	$(MAKE) soak-run

# TIERLINE_SOAK_SECONDS and TIERLINE_SOAK_SEED set its length and its seed.
soak-run: setup-bench build ## an hour of 40 cameras with two kills and a full disk, as a picture; needs root
	benches/soak.py --tierline "$$CARGO_TARGET_DIR/release/tierline" --out "$$TIERLINE_BENCH_OUT" $(SOAK_ARGS)

fuzz: setup-test rocksdb ## every fuzz target for TIERLINE_FUZZ_RUNS runs (default 10 million): hours
	tools/fuzz.sh $(FUZZ_TARGETS)

check: setup-check fmt-check arrows clippy deny ## format, crate arrows, lints and licences, no tests

build: setup-build rocksdb ## the release binary
	cargo build --locked --release --bin tierline
	@echo "built $$CARGO_TARGET_DIR/release/tierline"

setup-%:
	@tools/setup.sh $*

rocksdb:
	@tools/rocksdb.sh ensure

soak-faults: setup-test rocksdb ## faults at every step, crashes inside recovery and power cuts, with their controls: a quarter of an hour
	cargo test --locked --test faults -- --ignored --test-threads=1 --nocapture

fmt-check:
	cargo fmt --all --check

arrows:
	@python3 tools/arrows.py --self-test
	@python3 tools/arrows.py

clippy: rocksdb
	cargo clippy --locked --workspace --all-targets -- -D warnings

deny:
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --workspace check; \
	else echo "deny: cargo-deny is not installed, licences and advisories not checked"; fi
