#!/usr/bin/env bash
# RocksDB is 343 C++ files and takes most of a cold build, so it is compiled once and kept outside the checkout:
# librocksdb-sys links the kept library when ROCKSDB_LIB_DIR and ROCKSDB_STATIC are set.
#
#   tools/rocksdb.sh path     print the directory that holds librocksdb.a for this Cargo.lock and these flags
#   tools/rocksdb.sh ensure   build it there unless it is there already
#
# The directory's name carries all that may change the library: the version in Cargo.lock, the target CPU in
# .cargo/config.toml, and the compression features.
set -euo pipefail
cd "$(dirname "$0")/.."

FEATURES=(bindgen-runtime lz4 static zstd)
cache="${TIERLINE_CACHE:-$HOME/.cache/tierline}"

version() {
    sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock
}

target_cpu() {
    case "$(uname -m)" in
        x86_64) sed -n 's/^rustflags = .*target-cpu=\([a-z0-9-]*\).*/\1/p' .cargo/config.toml ;;
        *) uname -m ;;
    esac
}

directory() {
    local version
    version="$(version 2>/dev/null)" || version=
    if [ -z "$version" ]; then
        echo "tools/rocksdb.sh: Cargo.lock names no librocksdb-sys; run cargo generate-lockfile" >&2
        return 1
    fi
    echo "$cache/rocksdb-$version-$(target_cpu)-lz4-zstd"
}

# The library is only interchangeable with the one cargo would build while the features agree. Features named after a
# crate, such as lz4-sys, follow from the others.
check_features() {
    local wanted actual
    wanted="$(printf '%s\n' "${FEATURES[@]}" | sort | paste -sd,)"
    actual="$(cargo tree --workspace -e normal -i librocksdb-sys --depth 0 -f '{f}' | tr ',' '\n' |
        grep -vxE 'default|.*-sys' | sort | paste -sd,)"
    if [ "$wanted" != "$actual" ]; then
        echo "tools/rocksdb.sh: the workspace asks librocksdb-sys for [$actual], this script builds [$wanted]" >&2
        return 1
    fi
}

build() {
    local version="$1" into="$2" crate="$cache/rocksdb-build"
    echo "tools/rocksdb.sh: building RocksDB $version once into $into (7 minutes on two cores)"
    rm -rf "$crate"
    mkdir -p "$crate/src" "$crate/.cargo" "$into"
    cp .cargo/config.toml "$crate/.cargo/"
    # A throw-away crate with the pinned version. Without debug information the library is 40 MB instead of 1 GB.
    printf '%s\n' '[package]' 'name = "rocksdb-build"' 'version = "0.0.0"' 'edition = "2024"' \
        '[dependencies.librocksdb-sys]' "version = \"=$version\"" 'default-features = false' \
        "features = [$(printf '"%s",' "${FEATURES[@]}")]" \
        '[profile.release]' 'debug = false' 'opt-level = 3' '[workspace]' >"$crate/Cargo.toml"
    echo 'fn main() {}' >"$crate/src/main.rs"
    # Same versions of lz4 and zstd headers as the workspace will link.
    cp Cargo.lock "$crate/Cargo.lock"
    (
        cd "$crate"
        env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS \
            CARGO_TARGET_DIR="$crate/target" cargo build --release
    )
    local library
    library="$(find "$crate/target/release/build" -path '*librocksdb-sys-*/out/librocksdb.a' | head -n 1)"
    if [ -z "$library" ]; then
        echo "tools/rocksdb.sh: the build left no librocksdb.a" >&2
        return 1
    fi
    # Renamed into place so that an interrupted copy is never taken for a library.
    cp "$library" "$into/librocksdb.a.partial"
    mv "$into/librocksdb.a.partial" "$into/librocksdb.a"
    rm -rf "$crate"
}

case "${1:-}" in
    path)
        directory
        ;;
    ensure)
        into="$(directory)"
        if [ -s "$into/librocksdb.a" ]; then exit 0; fi
        check_features
        mkdir -p "$cache"
        # Two makes at once would otherwise build it twice.
        exec 9>"$cache/rocksdb.lock"
        flock 9
        if [ ! -s "$into/librocksdb.a" ]; then build "$(version)" "$into"; fi
        ;;
    *)
        echo "usage: tools/rocksdb.sh path|ensure" >&2
        exit 2
        ;;
esac
