#!/usr/bin/env python3
"""Compares what serving costs: tierline beside nginx with sendfile, on the same segment files at the same time.

Builds nothing. Makes an hour of 4 Mbit/s video, imports it into a new archive, serves the segment files with both,
and in every round asks both in turn: whole files, of which the server's CPU per GB counts, and random ranges of
1 MiB, of which the time to the first byte of the body counts. Then exports the hour as one MP4 file.

CPU time is utime + stime of the server process, so that other work on the machine disturbs little. Times are as
long as the machine makes them: run it when nothing else does.

    cargo build --release
    benches/serve_compare.py --tierline target/release/tierline --out target/bench
"""

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

from bench import Failed, Farm, describe_machine, free_port, make_clip, tail, wait_for, wait_for_port

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CAMERA = "bench"
START = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)
RANGE_BYTES = 1 << 20
CLIP_SECONDS = 30
ANSWER_SECONDS_MAX = 60
BUFFER = bytearray(1 << 20)


class Client:
    """One connection that stays open. Says how long the first byte of a body took and passes the rest by."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = port

    def get(self, path, headers="", digest=None):
        """(status, length of the body, seconds to its first byte, seconds to its last)."""
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{headers}\r\n".encode()
        view = memoryview(BUFFER)
        begun = time.perf_counter()
        self.socket.sendall(request)
        head = b""
        while True:
            count = self.socket.recv_into(view)
            first = time.perf_counter() - begun
            head += view[:count]
            end = head.find(b"\r\n\r\n") + 4
            if count == 0 or 3 < end < len(head):
                break
        status = int(head.split(b" ", 2)[1]) if head else 0
        length = re.search(rb"^content-length: (\d+)", head[:end], re.M | re.I)
        if status not in (200, 206) or not length:
            raise Failed(f"{path}: {head[:400].decode(errors='replace')}")
        left = int(length[1]) - (len(head) - end)
        if digest:
            digest.update(head[end:])
        while left > 0:
            count = self.socket.recv_into(view, min(left, len(view)))
            if count == 0:
                raise Failed(f"{path}: ended {left} bytes early")
            if digest:
                digest.update(view[:count])
            left -= count
        return status, int(length[1]), first, time.perf_counter() - begun


@dataclasses.dataclass
class Server:
    """A server of the same files; `paths` are what it calls them."""

    name: str
    process: subprocess.Popen
    port: int
    paths: list

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def rss_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+)", status, re.M)[1]) / 1024


def make_hour(options, work):
    """One file of `options.minutes`: the clip again and again."""
    clip = make_clip(options.ffmpeg, options.cache, options.mbit)
    movie = work / "hour.mp4"
    loops = options.minutes * 60 // CLIP_SECONDS
    once = work / "once.mp4"
    quiet = [options.ffmpeg, "-nostdin", "-v", "error", "-y"]
    subprocess.run(quiet + ["-r", "30", "-f", "h264", "-i", clip, "-c", "copy", once], check=True)
    subprocess.run(quiet + ["-stream_loop", str(loops - 1), "-i", once, "-c", "copy", movie], check=True)
    return movie


def start_tierline(farm, options, work):
    config = work / "tierline.toml"
    config.write_text(f'data_dir = "{work / "data"}"\n\n[http]\nlisten = "127.0.0.1:0"\n')
    movie = make_hour(options, work)
    command = [options.tierline, "import", "--config", config, "--camera", CAMERA]
    command += ["--start", START.strftime("%Y-%m-%dT%H:%M:%SZ"), movie]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"the import failed:\n{done.stdout[-2000:]}")
    movie.unlink()
    process = farm.start("tierline", [options.tierline, "serve", "--config", config])
    port = int(wait_for(process, r"listening on http://\S+:(\d+)")[1])
    files = {}
    for path in (work / "data" / "hot").rglob("*Z.*.mp4"):
        files[int(path.name.split(".")[1])] = path
    files = [files[sequence] for sequence in sorted(files)]
    return Server("tierline", process, port, [f"/hls/{CAMERA}/main/seg/{n}.mp4" for n in range(len(files))]), files


def start_nginx(farm, options, work, files):
    prefix = work / "nginx"
    (prefix / "tmp").mkdir(parents=True)
    root, port = work / "data" / "hot", free_port()
    config = prefix / "nginx.conf"
    temporary = "".join(
        f"  {kind}_temp_path {prefix}/tmp/{kind};\n" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    )
    config.write_text(
        f"daemon off;\nmaster_process off;\nuser root;\npid {prefix}/nginx.pid;\nerror_log {prefix}/error.log;\n"
        "events { worker_connections 64; }\n"
        f"http {{\n{temporary}"
        "  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000;\n"
        f"  server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n"
    )
    process = farm.start("nginx", [options.nginx, "-p", prefix, "-c", config])
    wait_for_port(process, port)
    return Server("nginx, sendfile", process, port, [f"/{path.relative_to(root)}" for path in files])


def same_bytes(servers):
    """Whether all servers give the same first file."""
    digests = []
    for server in servers:
        digest = hashlib.sha256()
        Client(server.port).get(server.paths[0], digest=digest)
        digests.append(digest.hexdigest())
    if len(set(digests)) != 1:
        raise Failed(f"the servers differ on {servers[0].paths[0]}")


def forget(files):
    """Drops the files from the page cache."""
    for path in files:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def whole_files(server, bytes_min):
    """CPU seconds of the server and seconds, both per GB, and GB read."""
    client, total = Client(server.port), 0
    cpu, begun = server.cpu_seconds(), time.perf_counter()
    for path in server.paths:
        total += client.get(path)[1]
        if total >= bytes_min:
            break
    gigabytes = total / 1e9
    return {
        "cpu_s_per_gb": (server.cpu_seconds() - cpu) / gigabytes,
        "s_per_gb": (time.perf_counter() - begun) / gigabytes,
        "gb": gigabytes,
    }


def ranges(servers, files, count, dice):
    """The same random ranges of all servers, each in a turn of its own."""
    clients = [Client(server.port) for server in servers]
    sizes = [path.stat().st_size for path in files]
    before = [server.cpu_seconds() for server in servers]
    firsts, lasts = [[] for _ in servers], [[] for _ in servers]
    for _ in range(count):
        file = dice.randrange(len(files))
        start = dice.randrange(sizes[file] - RANGE_BYTES)
        header = f"Range: bytes={start}-{start + RANGE_BYTES - 1}\r\n"
        for turn in dice.sample(range(len(servers)), len(servers)):
            status, length, first, last = clients[turn].get(servers[turn].paths[file], header)
            if (status, length) != (206, RANGE_BYTES):
                raise Failed(f"{servers[turn].name} answered {status} with {length} bytes")
            firsts[turn].append(first * 1000)
            lasts[turn].append(last * 1000)
    results = {}
    for turn, server in enumerate(servers):
        cuts = statistics.quantiles(firsts[turn], n=100)
        results[server.name] = {
            "first_ms_p50": cuts[49],
            "first_ms_p95": cuts[94],
            "whole_ms_p50": statistics.median(lasts[turn]),
            "cpu_ms": (server.cpu_seconds() - before[turn]) * 1000 / count,
        }
    return results


def export(server, minutes):
    """One export of everything: time to its first byte, CPU per GB, and how far memory grew meanwhile."""
    end = START + datetime.timedelta(minutes=minutes)
    query = f"from={START.timestamp() * 1e6:.0f}&to={end.timestamp() * 1e6:.0f}"
    rss_before, done = server.rss_mib(), threading.Event()
    most = [rss_before]

    def watch():
        while not done.wait(0.02):
            most[0] = max(most[0], server.rss_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        cpu = server.cpu_seconds()
        client = Client(server.port)
        _, length, first, last = client.get(f"/api/v1/cameras/{CAMERA}/export.mp4?{query}")
        cpu = server.cpu_seconds() - cpu
    finally:
        done.set()
        watcher.join()
    return {
        "first_ms": first * 1000,
        "cpu_s_per_gb": cpu / (length / 1e9),
        "s_per_gb": last / (length / 1e9),
        "gb": length / 1e9,
        "rss_mib_before": rss_before,
        "rss_mib_growth": most[0] - rss_before,
    }


def run(options, work):
    (work / "logs").mkdir(parents=True)
    farm = Farm(work / "logs")
    dice = random.Random(1)
    try:
        tierline, files = start_tierline(farm, options, work)
        servers = [tierline, start_nginx(farm, options, work, files)]
        same_bytes(servers)
        results = {"files": len(files), "bytes": sum(path.stat().st_size for path in files), "rounds": []}
        bytes_min = options.gigabytes * 1e9
        for server in servers:
            whole_files(server, float("inf"))  # now the page cache holds all
        for number in range(options.rounds):
            turns = servers if number % 2 == 0 else servers[::-1]
            result = {"warm": {server.name: whole_files(server, bytes_min) for server in turns}}
            result["ranges"] = ranges(servers, files, options.ranges, dice)
            result["export"] = export(tierline, options.minutes)
            results["rounds"].append(result)
            farm.check_alive()
            print(f"  round {number + 1}: " + json.dumps(result), file=sys.stderr)
        for number, result in enumerate(results["rounds"]):
            turns = servers if number % 2 == 0 else servers[::-1]
            result["cold"] = {}
            for server in turns:
                forget(files)
                result["cold"][server.name] = whole_files(server, bytes_min)
        return results
    except (OSError, subprocess.CalledProcessError) as error:
        logs = "\n".join(tail(process.log) for process in farm.started)
        raise Failed(f"{error}\n{logs}") from error
    finally:
        farm.stop()


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def table(results):
    rounds = results["rounds"]
    ours, theirs = rounds[0]["ranges"]
    rows = [f"| what | {ours} | {theirs} | ratio |", "|---|---:|---:|---:|"]

    def compare(what, part, key, digits=2):
        mine, other = ([r[part][name][key] for r in rounds] for name in (ours, theirs))
        ratio = spread([a / b for a, b in zip(mine, other)])
        rows.append(f"| {what} | {spread(mine, digits)} | {spread(other, digits)} | {ratio} |")

    compare("whole files in the page cache, CPU-s per GB", "warm", "cpu_s_per_gb")
    compare("… seconds per GB", "warm", "s_per_gb")
    compare("whole files from the disk, CPU-s per GB", "cold", "cpu_s_per_gb")
    compare("… seconds per GB", "cold", "s_per_gb")
    compare("random range of 1 MiB, first byte, p50, ms", "ranges", "first_ms_p50", 3)
    compare("… p95, ms", "ranges", "first_ms_p95", 3)
    compare("… last byte, p50, ms", "ranges", "whole_ms_p50", 3)
    compare("… CPU, ms", "ranges", "cpu_ms")

    def alone(what, key, digits=2):
        rows.append(f"| {what} | {spread([r['export'][key] for r in rounds], digits)} | | |")

    alone("export, first byte, ms", "first_ms", 1)
    alone("… CPU-s per GB", "cpu_s_per_gb")
    alone("… seconds per GB", "s_per_gb")
    alone("… memory before, MiB", "rss_mib_before", 1)
    alone("… growth of memory, MiB", "rss_mib_growth", 1)
    return "\n".join(rows)


def parse_arguments():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tierline", required=True, help="the tierline binary")
    parser.add_argument("--nginx", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--minutes", type=int, default=60, help="length of the footage and of the export")
    parser.add_argument("--mbit", type=float, default=4, help="Mbit/s of the footage")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=1, help="whole files to read in a turn")
    parser.add_argument("--ranges", type=int, default=500)
    parser.add_argument("--cache", type=pathlib.Path, default=cache / "tierline" / "clips", help="where clips are kept")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results, and the archive while it runs")
    parser.add_argument("--keep", action="store_true", help="keep the archive")
    return parser.parse_args()


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    work = out / "serve-bench"
    shutil.rmtree(work, ignore_errors=True)
    machine = describe_machine(out)
    try:
        results = run(options, work)
    except Failed as reason:
        sys.exit(f"serve_compare: {reason}")
    if not options.keep:
        shutil.rmtree(work, ignore_errors=True)
    about = (
        f"{results['files']} segments, {results['bytes'] / 1e9:.2f} GB, one client on loopback; {options.rounds} rounds, "
        f"median [least–most]. {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"{machine['file_system']}."
    )
    text = f"{about}\n\n{table(results)}\n"
    print(text)
    (out / "serve_compare.md").write_text(text)
    (out / "serve_compare.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
