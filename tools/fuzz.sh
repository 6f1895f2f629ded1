#!/bin/bash
# Fuzzes every target for TIERLINE_FUZZ_RUNS runs each (default 10 million), or those that are named.
#
#   tools/fuzz.sh [TARGET…]
#
# Builds without a sanitizer, which needs no nightly compiler; TIERLINE_FUZZ_SANITIZER=address has one, at a fifth of
# the speed. New inputs are kept beside the checkout's in the cache and merged into fuzz/corpus by
# `cargo fuzz cmin TARGET`. What fails is written to fuzz/artifacts: put it into fuzz/regressions/TARGET, where the
# ordinary tests run it.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${TIERLINE_FUZZ_RUNS:-10000000}
sanitizer=${TIERLINE_FUZZ_SANITIZER:-none}
cache=${TIERLINE_CACHE:-$HOME/.cache/tierline}/fuzz
[ "$sanitizer" = none ] || export RUSTC_BOOTSTRAP=1

if ! cargo fuzz --version >/dev/null 2>&1; then
	echo "fuzz: cargo-fuzz is not installed: cargo install --locked cargo-fuzz" >&2
	exit 1
fi
if [ $# -eq 0 ]; then
	set -- $(cargo fuzz list)
fi
export CARGO_TARGET_DIR=$cache/target
cargo fuzz build -s "$sanitizer"
failed=()
for target in "$@"; do
	mkdir -p "$cache/corpus/$target"
	# An input is stuck after a second; nothing that cameras or clients send is worth 64 MiB at once.
	limits=(-runs="$runs" -timeout=1 -malloc_limit_mb=64 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1)
	regressions=()
	[ ! -d "fuzz/regressions/$target" ] || regressions=("fuzz/regressions/$target")
	echo "fuzz: $target"
	log=$cache/$target.log
	if ! cargo fuzz run -s "$sanitizer" "$target" "$cache/corpus/$target" "fuzz/corpus/$target" "${regressions[@]}" \
		-- "${limits[@]}" >"$log" 2>&1; then
		failed+=("$target")
	fi
	grep -aE '^(Done|stat::)|ERROR|SUMMARY|panicked|DONE' "$log" || true
done
if [ ${#failed[@]} -gt 0 ]; then
	echo "fuzz: failed: ${failed[*]}" >&2
	exit 1
fi
