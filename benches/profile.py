#!/usr/bin/env python3
"""Where the CPU goes: samples the service with `perf` while it records and while it serves, and adds the samples up
by what the code is for.

Builds nothing. Needs `perf` (Debian: linux-perf) and the rights to use it.

    cargo build --release
    benches/profile.py --tierline target/release/tierline --out target/bench
"""

import argparse
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import serve_compare
from bench import Failed, Farm, clip_cache, describe_machine, machine_line, make_clip, serve_config, start_cameras, start_service

SAMPLES_PER_SECOND = 997
# The first that matches a symbol counts. Copies come before what copies.
GROUPS = [
    ("SHA-256", r"sha2|sha256|Sha256"),
    ("copying", r"memcpy|memmove|copy_to_iter|copy_from_iter|copy_user|rep_movs|_copy_|copyin|copyout|skb_copy"),
    ("RTP, RTSP and NAL units", r"retina|memchr|rtp|rtsp|annexb|AnnexB|h264|fragmenter"),
    ("index (RocksDB)", r"rocksdb|LZ4|ZSTD|crc32c"),
    ("sockets", r"tcp|sock|skb|inet|ip_|ip4|netif|net_rx|loopback|dev_queue|__dev|nf_|recv|send|epoll|ep_|poll|mio"),
    ("disk", r"ext4|iomap|jbd2|blk|bio|gup_|iowrite|vring|vp_|dio|virtio|virtqueue|sync|filemap|writeback|folio|xas_|page_cache|dquot|mpage|splice"),
    ("memory", r"alloc|free|clear_page|page_fault|handle_mm|mmu|mm_|malloc|drop_in_place|zap_|lru_|charge|memset"),
    ("scheduling", r"sched|switch|softirq|futex|wake|hrtimer|timer|idle|rcu|spin|clock|tick|rseq|entry_SYSCALL|syscall|entry_"),
    ("HTTP", r"hyper|http|axum|tower|tokio"),
]


def record(perf, pid, seconds, file):
    """Symbols with their share, from `seconds` of all threads of a process."""
    command = [perf, "record", "-q", "-F", str(SAMPLES_PER_SECOND), "-p", str(pid), "-o", file, "--", "sleep"]
    done = subprocess.run(command + [str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"perf record: {done.stdout.strip()}")
    command = [perf, "report", "-i", file, "--stdio", "--no-children", "-F", "sample,symbol", "--percent-limit", "0"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    symbols = {}
    for line in done.stdout.splitlines():
        found = re.match(r"\s*(\d+)\s+\[([.k])\]\s+(.+?)\s*$", line)
        if found:
            name = ("" if found[2] == "." else "kernel: ") + found[3]
            symbols[name] = symbols.get(name, 0) + int(found[1])
    if not symbols:
        raise Failed("perf saw no samples")
    return symbols


def grouped(symbols):
    """Shares by group, the largest first, and what each group consists of."""
    total = sum(symbols.values())
    groups = {}
    for symbol, samples in symbols.items():
        name = next((name for name, pattern in GROUPS if re.search(pattern, symbol)), "the rest")
        share, parts = groups.setdefault(name, [0.0, []])
        groups[name][0] = share + samples / total
        parts.append((samples / total, symbol))
    for _, parts in groups.values():
        parts.sort(reverse=True)
    return sorted(groups.items(), key=lambda group: -group[1][0])


def table(title, symbols):
    rows = [f"**{title}** ({sum(symbols.values())} samples)", "", "| what | share | most of it |", "|---|---:|---|"]
    for name, (share, parts) in grouped(symbols):
        most = ", ".join(f"`{symbol[:60]}` {part:.0%}" for part, symbol in parts[:3] if part >= 0.01)
        rows.append(f"| {name} | {share:.0%} | {most} |")
    return "\n".join(rows)


def recording(options, work):
    farm = Farm(work / "logs")
    try:
        clip = make_clip(options.ffmpeg, options.cache, options.mbit).resolve()
        _, farm_url = start_cameras(farm, options.tierline, options.cameras, clip)
        process, _ = start_service(farm, options.tierline, serve_config(work, farm_url, options.cameras))
        time.sleep(options.warmup)
        return record(options.perf, process.pid, options.seconds, work / "perf.data")
    finally:
        farm.stop()
        shutil.rmtree(work / "data", ignore_errors=True)


def serving(options, work):
    farm, done = Farm(work / "logs"), threading.Event()
    try:
        server, _ = serve_compare.start_tierline(farm, options, work)
        serve_compare.whole_files(server, float("inf"))

        def read():
            while not done.is_set():
                serve_compare.whole_files(server, 1e9)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        symbols = record(options.perf, server.process.pid, options.seconds, work / "perf.data")
        done.set()
        reader.join(30)
        return symbols
    finally:
        done.set()
        farm.stop()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tierline", required=True, help="the tierline binary")
    parser.add_argument("--perf", default=shutil.which("perf") or "perf")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--cameras", type=int, default=40)
    parser.add_argument("--minutes", type=int, default=10, help="length of the footage that is served")
    parser.add_argument("--seconds", type=float, default=30, help="how long to take samples of each")
    parser.add_argument("--warmup", type=float, default=10)
    parser.add_argument("--mbit", type=float, default=4)
    parser.add_argument("--cache", type=pathlib.Path, default=clip_cache(), help="where clips are kept")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results")
    return parser.parse_args()


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = options.out.resolve()
    work = out / "profile-work"
    shutil.rmtree(work, ignore_errors=True)
    results = {}
    try:
        for title, sampled in ((f"recording {options.cameras} cameras", recording), ("serving whole files", serving)):
            (work / "logs").mkdir(parents=True, exist_ok=True)
            results[title] = sampled(options, work)
    except Failed as reason:
        sys.exit(f"profile: {reason}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    text = machine_line(describe_machine(out)) + "\n\n"
    text += "\n\n".join(table(title, symbols) for title, symbols in results.items()) + "\n"
    print(text)
    (out / "profile.md").write_text(text)
    (out / "profile.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
