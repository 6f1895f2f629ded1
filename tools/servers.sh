#!/usr/bin/env bash
# Builds the object store servers that tests and benches run against, from pinned sources, and says where they are.
#
#   tools/servers.sh path minio|versitygw|mc|moto_server     the program; built first where it is missing
#
# They stay in the cache (TIERLINE_CACHE, default ~/.cache/tierline), each in a folder of its version.
set -euo pipefail

# Where Go's own installer puts it, which not every shell looks into.
export PATH="$PATH:/usr/local/go/bin"
cache=${TIERLINE_CACHE:-$HOME/.cache/tierline}/servers

case "${2:-}" in
minio) module=github.com/minio/minio version=v0.0.0-20260212201848-7aac2a2c5b7c ;;
versitygw) module=github.com/versity/versitygw/cmd/versitygw version=v1.8.0 ;;
mc) module=github.com/minio/mc version=v0.0.0-20250313080218-cf909e1063a9 ;;
# Python: what it is made of, to the version, stands in one file.
moto_server)
    pins=$(dirname "$0")/moto-requirements.txt
    version=$(sed -n 's/^moto\[.*\]==//p' "$pins")-$(cksum <"$pins" | cut -d' ' -f1)
    ;;
*)
    echo "usage: tools/servers.sh path minio|versitygw|mc|moto_server" >&2
    exit 2
    ;;
esac

folder=$cache/$2-$version
program=$folder/$2
# A virtual environment cannot be moved: a file says that it is whole.
whole=$program
if [ "$2" = moto_server ]; then
    program=$folder/bin/$2
    whole=$folder/whole
fi
if [ -e "$whole" ]; then
    echo "$program"
    exit
fi
# One at a time: tests that need the same server wait for the one that builds it.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ "$2" = moto_server ]; then
    if [ ! -e "$whole" ]; then
        rm -rf "$folder"
        echo "servers: installing $2, once" >&2
        log=$(mktemp)
        if ! { python3 -m venv "$folder" && "$folder/bin/pip" install --disable-pip-version-check -r "$pins"; } \
            >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            echo "servers: $2 could not be installed (it needs python3 with venv, which Debian has in python3-venv); the last words are above, all of them in $log" >&2
            exit 1
        fi
        rm -f "$log"
        touch "$whole"
    fi
    echo "$program"
    exit
fi
if [ ! -x "$program" ]; then
    if ! command -v go >/dev/null 2>&1; then
        echo "servers: $2 is built from source with Go 1.24 or later, which is not on the PATH; install it from https://go.dev/dl" >&2
        exit 1
    fi
    echo "servers: building $2, once, which takes a few minutes" >&2
    log=$(mktemp)
    if ! GOBIN=$folder.part go install "$module@$version" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "servers: $2 could not be built; the last words are above, all of them in $log" >&2
        exit 1
    fi
    rm -f "$log"
    mv "$folder.part" "$folder"
fi
echo "$program"
