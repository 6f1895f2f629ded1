#!/usr/bin/env python3
"""Compares what it costs to copy segments to MinIO and to read them back: tierline beside `mc cp`, MinIO's own client.

Builds nothing. Makes footage of 4 Mbit/s, imports it into an archive, and starts MinIO with a folder of its own. In
every round, in turns: tierline copies all segments into a new bucket, each verified, and lets go of the disk's copies;
`mc cp` puts the same files into another. Then both read everything back: tierline through its API with an empty cache,
`mc cp` into a folder. What counts is the client's CPU time, utime + stime, per GB, and the time that it takes.

Then single fragments: the time to the first byte of a range that lies in MinIO alone, with an empty cache and again.
Last, everything in order once more, while the cache on the disk fills and out of it.

    cargo build --release
    benches/tiers_compare.py --tierline target/release/tierline --minio MINIO --mc MC --out target/bench
"""

import argparse
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

from bench import Failed, Farm, describe_machine, free_port, machine_line, spread, tail, wait_for, wait_for_port
from serve_compare import CAMERA, RANGE_BYTES, START, Client, make_hour

KEY, SECRET = "tierline-bench", "not-a-secret-at-all"
COPY_SECONDS_MAX = 300
# Another copy is looked for as soon as one ends; passes only find what is new.
RETENTION = '[retention]\ninterval = "200ms"\ngrace = "0s"\n[[rules]]\nhot = "1s"\n'


def minio(farm, options, work):
    port, console = free_port(), free_port()
    environment = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off", "MINIO_CI_CD": "1"}
    os.environ.update(environment)
    command = [options.minio, "server", "--quiet", "--address", f"127.0.0.1:{port}"]
    process = farm.start("minio", [*command, "--console-address", f"127.0.0.1:{console}", work / "minio"])
    wait_for_port(process, port)
    time.sleep(1)  # it listens before it is ready
    return process, f"http://127.0.0.1:{port}"


class Mc:
    """MinIO's client, with a configuration of its own."""

    def __init__(self, program, work, endpoint):
        self.command = [program, "--config-dir", work / "mc", "--quiet"]
        self.run("alias", "set", "bench", endpoint, KEY, SECRET)

    def run(self, *words):
        """CPU seconds and seconds of one call."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [str(word) for word in [*self.command, *words]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seconds = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise Failed(f"mc {' '.join(map(str, words))} failed:\n{done.stdout[-2000:]}")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


def template(options, work):
    """An archive whose footage lies on its disk alone."""
    config = work / "template.toml"
    config.write_text(f'data_dir = "{work / "template"}"\n')
    movie = make_hour(options, work)
    command = [options.tierline, "import", "--config", config, "--camera", CAMERA]
    command += ["--start", START.strftime("%Y-%m-%dT%H:%M:%SZ"), movie]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"the import failed:\n{done.stdout[-2000:]}")
    movie.unlink()
    return sorted((work / "template" / "hot").rglob("*Z.*.mp4"))


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def metric(api, name):
    with urllib.request.urlopen(f"{api}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.search(rf"^tierline_{name}(?:_total)? (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0


class Round:
    """One archive and one bucket, which nobody has used before."""

    def __init__(self, number, farm, options, work, endpoint, files):
        self.options, self.files, self.farm = options, files, farm
        self.site = work / f"site-{number}"
        self.bucket = f"round-{number}"
        self.bytes = sum(path.stat().st_size for path in files)
        data = self.site / "data"
        data.mkdir(parents=True)
        # The same files under new names of folders: what is removed here stays there.
        shutil.copytree(work / "template", data, copy_function=os.link, dirs_exist_ok=True)
        shutil.rmtree(data / "index")
        shutil.copytree(work / "template" / "index", data / "index")
        keys = self.site / "keys"
        keys.write_text(f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
        self.config = self.site / "tierline.toml"
        self.settings = (
            f'data_dir = "{data}"\n[http]\nlisten = "127.0.0.1:0"\n'
            f'[tiers.warm]\nurl = "s3://{self.bucket}/site"\nendpoint = "{endpoint}"\nallow_http = true\n'
            f'credentials_file = "{keys}"\n{RETENTION}[tiers.cache]\nmemory = "64MiB"\n'
        )
        self.cache_on_disk("0B")

    def cache_on_disk(self, size):
        """From the next start on."""
        self.config.write_text(f'{self.settings}disk = "{size}"\n')

    def start(self):
        process = self.farm.start("tierline", [self.options.tierline, "serve", "--config", self.config])
        return process, int(wait_for(process, r"listening on http://\S+:(\d+)")[1])

    def up(self):
        """Until every segment was copied and verified."""
        begun = time.perf_counter()
        process, port = self.start()
        api = f"http://127.0.0.1:{port}"
        while metric(api, "tier_copies") < len(self.files):
            if time.perf_counter() - begun > COPY_SECONDS_MAX:
                raise Failed(f"not everything was copied:\n{tail(process.log)}")
            time.sleep(0.02)
        seconds, cpu = time.perf_counter() - begun, cpu_seconds(process)
        while metric(api, "tier_evictions") < len(self.files):
            if time.perf_counter() - begun > COPY_SECONDS_MAX:
                raise Failed(f"not everything left the disk:\n{tail(process.log)}")
            time.sleep(0.05)
        self.process, self.port = process, port
        return cpu, seconds

    def paths(self):
        return [f"/hls/{CAMERA}/main/seg/{number}.mp4" for number in range(len(self.files))]

    def down(self):
        client, total = Client(self.port), 0
        cpu, begun = cpu_seconds(self.process), time.perf_counter()
        for path in self.paths():
            total += client.get(path)[1]
        if total != self.bytes:
            raise Failed(f"{total} bytes came back of {self.bytes}")
        return cpu_seconds(self.process) - cpu, time.perf_counter() - begun

    def restart(self):
        """With nothing in the memory's cache."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process, self.port = self.start()

    def ranges(self, dice):
        """The first and the last byte of random ranges, with an empty cache and once more, in ms."""
        client, found = Client(self.port), {"cold": [], "again": [], "cold whole": [], "again whole": []}
        for _ in range(self.options.ranges):
            number = dice.randrange(len(self.files))
            start = dice.randrange(self.files[number].stat().st_size - RANGE_BYTES)
            header = f"Range: bytes={start}-{start + RANGE_BYTES - 1}\r\n"
            for kind in ("cold", "again"):
                _, _, first, last = client.get(self.paths()[number], header)
                found[kind].append(first * 1000)
                found[f"{kind} whole"].append(last * 1000)
        return {kind: statistics.median(values) for kind, values in found.items()}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        shutil.rmtree(self.site)


def one_round(number, farm, options, work, mc, endpoint, files, dice):
    of = Round(number, farm, options, work, endpoint, files)
    gigabytes = of.bytes / 1e9
    other = f"other-{number}"
    for bucket in (of.bucket, other):
        mc.run("mb", f"bench/{bucket}")
    result = {"gb": gigabytes}

    def note(name, direction, found):
        cpu, seconds = found
        result[f"{name} {direction}"] = {"cpu_s_per_gb": cpu / gigabytes, "s_per_gb": seconds / gigabytes}

    back = work / "back"
    turns = {
        "tierline": (of.up, of.down),
        "mc": (
            lambda: mc.run("cp", "--recursive", f"{work / 'template' / 'hot'}/", f"bench/{other}/"),
            lambda: mc.run("cp", "--recursive", f"bench/{other}/", f"{back}/"),
        ),
    }
    names = list(turns) if number % 2 == 0 else list(turns)[::-1]
    for name in names:
        note(name, "up", turns[name][0]())
    of.restart()
    for name in names:
        shutil.rmtree(back, ignore_errors=True)
        note(name, "down", turns[name][1]())
    of.restart()
    result["ranges"] = of.ranges(dice)
    of.cache_on_disk(f"{2 * of.bytes}B")
    of.restart()
    note("tierline", "filling", of.down())
    note("tierline", "again", of.down())
    of.stop()
    for bucket in (of.bucket, other):
        mc.run("rb", "--force", f"bench/{bucket}")
    return result


def table(rounds):
    rows = ["| what | tierline | mc cp | ratio | bar |", "|---|---:|---:|---:|---:|"]

    def compare(what, direction, key, bar):
        mine, other = ([one[f"{name} {direction}"][key] for one in rounds] for name in ("tierline", "mc"))
        ratios = [a / b for a, b in zip(mine, other)]
        rows.append(f"| {what} | {spread(mine)} | {spread(other)} | {spread(ratios)} | {bar} |")

    compare("up, each copy verified: client's CPU-s per GB", "up", "cpu_s_per_gb", "≤ 0.5")
    compare("… seconds per GB", "up", "s_per_gb", "≤ 1.0")
    compare("down, each block checked: client's CPU-s per GB", "down", "cpu_s_per_gb", "≤ 1.0")
    compare("… seconds per GB", "down", "s_per_gb", "≤ 1.0")
    for what, kind in [
        ("a random range of 1 MiB that lies in MinIO alone, first byte, ms", "cold"),
        ("… last byte, ms", "cold whole"),
        ("the same again, first byte, ms", "again"),
        ("… last byte, ms", "again whole"),
    ]:
        rows.append(f"| {what} | {spread([one['ranges'][kind] for one in rounds])} | | | |")
    for what, direction in [
        ("everything in order while the cache on the disk fills", "filling"),
        ("everything in order once more, from that cache", "again"),
    ]:
        mine = [one[f"tierline {direction}"] for one in rounds]
        rows.append(f"| {what}: CPU-s per GB | {spread([one['cpu_s_per_gb'] for one in mine])} | | | |")
        rows.append(f"| … seconds per GB | {spread([one['s_per_gb'] for one in mine])} | | | |")
    return "\n".join(rows)


def parse_arguments():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tierline", required=True, help="the tierline binary")
    parser.add_argument("--minio", required=True, help="the MinIO server")
    parser.add_argument("--mc", required=True, help="MinIO's client")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--minutes", type=int, default=40, help="length of the footage")
    parser.add_argument("--mbit", type=float, default=4, help="Mbit/s of the footage")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranges", type=int, default=100)
    parser.add_argument("--cache", type=pathlib.Path, default=cache / "tierline" / "clips", help="where clips are kept")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results, and the archives while it runs")
    return parser.parse_args()


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    work = out / "tiers-bench"
    shutil.rmtree(work, ignore_errors=True)
    (work / "logs").mkdir(parents=True)
    machine, rounds, dice, farm = describe_machine(out), [], random.Random(1), Farm(work / "logs")
    try:
        files = template(options, work)
        _, endpoint = minio(farm, options, work)
        mc = Mc(options.mc, work, endpoint)
        for number in range(options.rounds):
            rounds.append(one_round(number, farm, options, work, mc, endpoint, files, dice))
            print(f"  round {number + 1}: " + json.dumps(rounds[-1]), file=sys.stderr)
    except (Failed, OSError, subprocess.CalledProcessError) as reason:
        sys.exit(f"tiers_compare: {reason}")
    finally:
        farm.stop()
    shutil.rmtree(work, ignore_errors=True)
    about = (
        f"{len(files)} segments, {rounds[0]['gb']:.2f} GB, MinIO on loopback on the same cores and disk; "
        f"{options.rounds} rounds, median [least–most]. {machine_line(machine)}."
    )
    text = f"{about}\n\n{table(rounds)}\n"
    print(text)
    (out / "tiers_compare.md").write_text(text)
    results = {"machine": machine, "rounds": rounds}
    (out / "tiers_compare.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
