#!/bin/bash
# Fuzzes every target for TIERLINE_FUZZ_RUNS runs each (default 10 million), or those that are named.
#
#   tools/fuzz.sh [TARGET…]
#   tools/fuzz.sh keep [TARGET…]    takes a few inputs that reach the same into fuzz/corpus
#
# Builds without a sanitizer, which needs no nightly compiler; TIERLINE_FUZZ_SANITIZER=address has one, at a fifth of
# the speed. TIERLINE_FUZZ_BUILD_ARGS are handed on to `cargo fuzz build`: with --no-trace-compares it does not look at
# what is compared, which helps little where inputs are lists of instructions, and took `chain` a third of its time.
# TIERLINE_FUZZ_JOBS targets run at a time (default 1). New inputs stay in the cache until they are kept.
# `tools/fuzz_coverage.py` tells what the kept inputs reach. What fails is written to fuzz/artifacts: put it into
# fuzz/regressions/TARGET, where the ordinary tests run it.
set -euo pipefail
case "${1:-}" in
-h | --help)
	sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"
	exit
	;;
esac
cd "$(dirname "$0")/.."

runs=${TIERLINE_FUZZ_RUNS:-10000000}
sanitizer=${TIERLINE_FUZZ_SANITIZER:-none}
jobs=${TIERLINE_FUZZ_JOBS:-1}
cache=${TIERLINE_CACHE:-$HOME/.cache/tierline}/fuzz
export CARGO_TARGET_DIR=$cache/target-$sanitizer
host=$(rustc -vV | sed -n 's/^host: //p')
# Targets that work on files do so in memory.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then export TMPDIR=${TMPDIR:-/dev/shm}; fi

# The longest input of a target: what is a list of instructions says all it can in little.
longest() {
	case "$1" in
	align | chain | clock_map | fragmenter | layout | playlists | query | segment | thinned | timeline) echo 1024 ;;
	config | rtsp_session) echo 4096 ;;
	*) echo 16384 ;;
	esac
}

program() {
	echo "$CARGO_TARGET_DIR/$host/release/$1"
}

# Fuzzes one target; what it says goes to its log, the figures of its end to standard output.
fuzz_one() {
	local target=$1 log=$cache/$1.log status=0
	mkdir -p "$cache/corpus/$target" "fuzz/artifacts/$target"
	# An input is stuck after ten seconds, which a busy machine may take from it too; nothing that cameras or clients send is worth 64 MiB at once.
	local limits=(-runs="$runs" -timeout=10 -malloc_limit_mb=64 -rss_limit_mb=1024 -max_len="$(longest "$target")"
		-print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/")
	local folders=("$cache/corpus/$target" "fuzz/corpus/$target")
	[ ! -d "fuzz/regressions/$target" ] || folders+=("fuzz/regressions/$target")
	local begun=$SECONDS
	"$(program "$target")" "${limits[@]}" "${folders[@]}" >"$log" 2>&1 || status=$?
	local executed
	executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	echo "fuzz: $target: ${executed:-0} runs in $((SECONDS - begun)) s, $(ls "$cache/corpus/$target" | wc -l) inputs"
	if [ $status -ne 0 ]; then
		echo "fuzz: $target: FAILED with status $status" >&2
		grep -aE 'ERROR|SUMMARY|panicked|Test unit written' "$log" >&2 || true
	fi
	return $status
}

# A few inputs that reach every branch that all do, in place of those that the checkout has.
keep_one() {
	local target=$1 kept
	kept=$(mktemp -d)
	"$(program "$target")" -set_cover_merge=1 -use_counters=0 -max_len="$(longest "$target")" "$kept" "fuzz/corpus/$target" \
		"$cache/corpus/$target" >"$cache/$target.keep.log" 2>&1
	rm -rf "fuzz/corpus/$target"
	mv "$kept" "fuzz/corpus/$target"
	chmod 755 "fuzz/corpus/$target"
	echo "fuzz: $target: $(ls "fuzz/corpus/$target" | wc -l) inputs kept"
}

what=fuzz_one
if [ "${1:-}" = keep ]; then
	what=keep_one
	shift
fi
[ "$sanitizer" = none ] || export RUSTC_BOOTSTRAP=1
if ! cargo fuzz --version >/dev/null 2>&1; then
	echo "fuzz: cargo-fuzz is not installed: cargo install --locked cargo-fuzz" >&2
	exit 1
fi
targets=$(cargo fuzz list)
for target; do
	if ! grep -qxF -- "$target" <<<"$targets"; then
		echo "fuzz: there is no target $target; there are: $(echo $targets)" >&2
		exit 2
	fi
done
[ $# -gt 0 ] || set -- $targets
cargo fuzz build -s "$sanitizer" ${TIERLINE_FUZZ_BUILD_ARGS:-}
export runs cache host
export -f longest program fuzz_one keep_one
printf '%s\n' "$@" | xargs -P "$jobs" -I{} bash -c "set -euo pipefail; $what {}"
