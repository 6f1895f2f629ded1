#!/usr/bin/env bash
# Installs what one make target needs on Debian or Ubuntu, and says what and why. Does nothing when all is there.
#
#   tools/setup.sh build|demo|check|test|bench|profile
set -euo pipefail

# One line each: package, the command that proves it is there without the package ("-" for none), what it is for.
build_packages() {
    cat <<'END'
gcc cc linking Rust programs
libc6-dev - the C library's headers
clang clang compiling RocksDB
libstdc++-12-dev - the C++ library's headers
libclang-dev - generating the RocksDB bindings
cmake cmake building C dependencies
END
}
demo_packages() {
    build_packages
    echo "ffmpeg ffmpeg the demo cameras' clip and stills"
}
check_packages() {
    build_packages
    echo "python3 python3 the check of the crate arrows"
}
test_packages() {
    check_packages
    cat <<'END'
ffmpeg ffmpeg decoding what was recorded and exported
python3-gi - the GStreamer test camera
gir1.2-gstreamer-1.0 - the GStreamer test camera
gir1.2-gst-plugins-base-1.0 - the GStreamer test camera
gir1.2-gst-rtsp-server-1.0 - the GStreamer test camera's RTSP server
gstreamer1.0-tools gst-inspect-1.0 looking at the GStreamer test camera
gstreamer1.0-plugins-base - the GStreamer test camera
gstreamer1.0-plugins-good - the GStreamer test camera's RTP
gstreamer1.0-plugins-bad - the GStreamer test camera's H.265
gstreamer1.0-plugins-ugly - the GStreamer test camera's H.264
gstreamer1.0-libav - the GStreamer test camera's AAC
gstreamer1.0-x - the clock in the GStreamer test camera's picture
chromium chromium playing the page in a browser
nodejs node driving the browser
python3-venv - the object store server that has archive classes
npm npm driving the browser
strace strace failing system calls on purpose
faketime faketime setting the clock that the service sees
curl curl talking to the service from outside
jq jq reading its answers
nbdkit nbdkit disks that lose their power
nbdkit-plugin-python - disks that lose their power
nbdfuse nbdfuse disks that lose their power
fuse3 fusermount3 disks that lose their power
e2fsprogs mkfs.ext4 file systems on disks that lose their power
xfsprogs mkfs.xfs file systems on disks that lose their power
END
}
bench_packages() {
    build_packages
    cat <<'END'
ffmpeg ffmpeg the clip to record and the recorder to compare with
nginx-light nginx the file server to compare with
python3 python3 the side-by-side comparisons
util-linux fincore how much of the index the page cache holds
e2fsprogs mkfs.ext4 the disk of the long run
END
}
profile_packages() {
    bench_packages
    echo "linux-perf perf the profile"
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

main() {
    local set="$1" package command purpose
    local -a missing=() lines=()
    while read -r package command purpose; do
        if [ "$command" != - ] && command -v "$command" >/dev/null 2>&1; then continue; fi
        if installed "$package"; then continue; fi
        missing+=("$package")
        lines+=("$package ($purpose)")
    done < <("${set}_packages")

    if ! command -v cargo >/dev/null 2>&1; then
        echo "setup: cargo is not on the PATH; install Rust from https://rustup.rs first" >&2
        exit 1
    fi
    # Go's own installer puts it where not every shell looks.
    if [ "$set" = test ] && ! PATH="$PATH:/usr/local/go/bin" command -v go >/dev/null 2>&1; then
        echo "setup: go is not on the PATH, and the tests build object store servers with it; install Go 1.24 or later from https://go.dev/dl first" >&2
        exit 1
    fi
    if [ "$set" = check ] || [ "$set" = test ]; then
        local component
        for component in fmt clippy; do
            if cargo "$component" --version >/dev/null 2>&1; then continue; fi
            echo "setup: adding the Rust component ${component/fmt/rustfmt} for make $set"
            rustup component add "${component/fmt/rustfmt}"
        done
    fi
    if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

    local -a sudo=()
    if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
    if ! command -v apt-get >/dev/null 2>&1 || { [ ${#sudo[@]} -gt 0 ] && ! command -v sudo >/dev/null 2>&1; }; then
        echo "setup: cannot install ${missing[*]}: needs apt-get, and root or sudo; install them by hand and repeat" >&2
        exit 1
    fi
    local listed
    listed="$(printf ', %s' "${lines[@]}")"
    echo "setup: installing for make $set: ${listed:2}"
    local log
    log="$(mktemp)"
    local -a apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
    if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
        </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "setup: apt-get could not install ${missing[*]}; its last words are above, all of them in $log" >&2
        exit 1
    fi
    rm -f "$log"
    # Debian starts a server as soon as it is installed; the bench starts its own.
    if [[ " ${missing[*]} " == *" nginx-light "* ]] && [ -d /run/systemd/system ]; then
        "${sudo[@]}" systemctl disable --quiet --now nginx
    fi
}

case "${1:-}" in
    build | demo | check | test | bench | profile) main "$1" ;;
    *)
        echo "usage: tools/setup.sh build|demo|check|test|bench|profile" >&2
        exit 2
        ;;
esac
