#!/usr/bin/env python3
"""A long run of the whole service: cameras, viewers and exports, two kills and a full disk, with a picture of it.

Builds nothing; needs root, for a file system of its own that can be filled. Footage and index lie on it, and the
oldest footage gives way to the new. At times that the seed decides the service is killed (SIGKILL) and started again,
twice, and a foreign file takes all the space for a while. Every second memory, open files, threads, CPU time and the
durable lag of every camera are written down; an observer outside the service keeps what it tells as durable and the
hash of fragments. In the end everything that was told must be there, `tierline check --deep` find nothing, recorded
time and gaps tile the run, each gap have its event, and memory and open files be flat.

    cargo build --release
    benches/soak.py --tierline target/release/tierline --out target/bench [--seconds 3600] [--seed 1]

`TIERLINE_SOAK_SECONDS` and `TIERLINE_SOAK_SEED` set what the options of these names do not.
"""

import argparse
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse

import plot
import soak_oracle
import viewer
from bench import (
    GOP_SECONDS,
    Failed,
    Farm,
    camera_name,
    clip_cache,
    describe_machine,
    free_port,
    machine_line,
    make_clip,
    serve_config,
    start_cameras,
    start_service,
    tail,
    time_of,
    usage,
)

SAMPLE_SECONDS = 1.0
# Every so many samples the index is asked what it takes.
INDEX_SAMPLES = 15
# From here on a start counts: buffers and caches have their size.
SETTLE_SECONDS_MAX = 60
# In less there is no life of a process long enough to tell whether it grows.
SECONDS_MIN = 300
# How long after an event its traces are counted as its own.
AFTERMATH_SECONDS = 20
LAG_P99_SECONDS_MAX = GOP_SECONDS + 2
PICTURE_POINTS = 500
VIEWERS = 4
EXPORTERS = 2
MIB = 1 << 20


class SmallDisk:
    """A file system in a file."""

    def __init__(self, folder, bytes_of_it):
        self.image, self.folder = folder / "disk.img", folder / "disk"
        self.folder.mkdir()
        with open(self.image, "wb") as image:
            os.posix_fallocate(image.fileno(), 0, bytes_of_it)
        command(["mkfs.ext4", "-q", "-F", "-m", "0", self.image])
        self.device = command(["losetup", "--find", "--show", "--direct-io=on", self.image]).strip()
        try:
            command(["mount", self.device, self.folder])
        except Failed:
            command(["losetup", "--detach", self.device])
            raise

    def free(self):
        stat = os.statvfs(self.folder)
        return stat.f_bavail * stat.f_frsize

    def fill(self):
        """Takes what space there is, down to the last block."""
        with open(self.folder / "foreign", "ab") as file:
            for step in (MIB, 4096):
                while (left := self.free()) >= step:
                    try:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, left // step * step)
                    except OSError:
                        break

    def relieve(self):
        (self.folder / "foreign").unlink(missing_ok=True)

    def close(self):
        subprocess.run(["umount", self.folder], check=False)
        subprocess.run(["losetup", "--detach", self.device], check=False)
        self.image.unlink(missing_ok=True)


def command(words):
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"{words[0]}: {done.stdout.strip()}")
    return done.stdout


class Api:
    """One connection to the service, opened again when it breaks. Not for several threads."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def get(self, path, headers=None, digest=None):
        """Status, length and, without `digest`, the body."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            self.connection.request("GET", path, headers=headers or {})
            answer = self.connection.getresponse()
            if digest is None:
                body = answer.read()
                return answer.status, len(body), body
            length = 0
            while piece := answer.read(256 << 10):
                length += len(piece)
                digest.update(piece)
            return answer.status, length, b""
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise

    def json(self, path):
        status, _, body = self.get(path)
        if status != 200:
            raise OSError(f"{path} answered {status}")
        return json.loads(body)

    def stream(self, camera):
        return self.json(f"/api/v1/cameras/{camera}/status")["streams"][0]

    def fragment(self, camera, at):
        """The fragment of a camera that holds `at`, with the hash of its bytes."""
        at = round(at * 1e6)
        found = self.json(f"/api/v1/cameras/{camera}/seek?at={at}&stream=main")["fragment"]
        digest = hashlib.sha256()
        span = {"Range": f"bytes={found['offset']}-{found['offset'] + found['len'] - 1}"}
        status, length, _ = self.get(found["url"], span, digest)
        if status != 206 or length != found["len"]:
            raise OSError(f"{found['url']} answered {status} with {length} bytes")
        start, end = time_of(found["from"]), time_of(found["to"])
        return soak_oracle.Fragment(camera, start, end, digest.hexdigest())

    def timeline(self, camera, start, end):
        query = urllib.parse.urlencode({"from": round(start * 1e6), "to": round(end * 1e6), "stream": "main"})
        answer = self.json(f"/api/v1/cameras/{camera}/timeline?{query}")
        runs = [(time_of(run["from"]), time_of(run["to"])) for run in answer["runs"]]
        gaps = [(time_of(gap["from"]), time_of(gap["to"]), gap["cause"]) for gap in answer["gaps"]]
        return runs, gaps


NO_ANSWER = (OSError, http.client.HTTPException, ValueError, KeyError, IndexError)


class Run:
    """The run: its processes, what was sampled, and what happened."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.dice = random.Random(options.seed)
        self.cameras = [camera_name(number) for number in range(options.cameras)]
        self.farm = Farm(work / "logs")
        self.claims = soak_oracle.Claims()
        self.samples, self.events, self.lives, self.faults = [], [], [], []
        self.port = free_port()
        self.service = self.disk = None
        self.stopping = threading.Event()

    def now(self):
        return time.monotonic() - self.begun

    def start(self, clip):
        short = self.options.seconds < 600
        keep, segment = max(20, self.options.seconds // 30), 10 if short else 30
        self.disk = SmallDisk(self.work, int(self.options.disk_gib * (1 << 30)))
        _, farm_url = start_cameras(self.farm, self.options.tierline, self.options.cameras, clip)
        more = ["[recording]", f'segment_duration = "{segment}s"', ""]
        more += ["[retention]", 'reserve = "768MiB"', 'low = "384MiB"', 'floor = "128MiB"', 'interval = "2s"', ""]
        more += ["[[rules]]", f'min = "{keep}s"', ""]
        self.config = serve_config(self.work, farm_url, self.options.cameras, more)
        text = self.config.read_text().replace(str(self.work / "data"), str(self.disk.folder / "data"))
        self.config.write_text(text.replace('"127.0.0.1:0"', f'"127.0.0.1:{self.port}"'))
        self.begun, self.begun_wall = time.monotonic(), time.time()
        self.serve()

    def serve(self):
        """Starts the service; how long that took."""
        since = time.monotonic()
        self.service, _ = start_service(
            self.farm, self.options.tierline, self.config, f"tierline-{len(self.lives)}"
        )
        self.lives.append(self.now())
        return time.monotonic() - since

    def kill(self):
        """Kills the service and starts it at once."""
        at, wall = self.now(), time.time()
        service = self.service
        service.kill()
        service.wait()
        self.farm.started.remove(service)
        ready = self.serve()
        causes = ["service_killed", "connecting", "session_lost"]
        self.events.append({"what": "kill -9", "at": at, "end": self.now(), "wall": wall, "causes": causes,
                            "ready_s": ready})
        print(f"  {at:6.0f} s: killed, ready after {ready:.2f} s", file=sys.stderr)

    def fill_disk(self, seconds):
        at, wall = self.now(), time.time()
        until = time.monotonic() + seconds
        full = 0.0
        while time.monotonic() < until:
            self.disk.fill()
            if self.disk.free() < MIB:
                full += 0.2
            time.sleep(0.2)
        self.disk.relieve()
        event = {"what": "disk full", "at": at, "end": self.now(), "wall": wall,
                 "causes": ["disk_full", "disk_error", "overload"], "full_s": full}
        self.events.append(event)
        print(f"  {at:6.0f} s: the disk was full for {full:.0f} of {seconds} s", file=sys.stderr)

    def sample(self):
        """Once a second, what the service takes; now and then how much of it the index has."""
        api, index = Api(self.port), None
        while not self.stopping.wait(SAMPLE_SECONDS):
            if len(self.samples) % INDEX_SAMPLES == 0:
                index = index_mib(api)
            try:
                taken = usage([self.service.pid])
            except OSError:
                continue  # it was killed
            self.samples.append({"at": self.now(), "life": len(self.lives), "rss_mib": taken.rss_mib,
                                 "files": taken.files, "threads": taken.threads, "cpu_ms": taken.cpu_ms,
                                 "free_gib": self.disk.free() / (1 << 30), "index_mib": index, "lags": None})

    def observe(self):
        """Once a second, what the service tells of every camera; one fragment is read each time."""
        api, turn = Api(self.port), 0
        while not self.stopping.is_set():
            begun, lags = time.monotonic(), []
            for camera in self.cameras:
                try:
                    stream = api.stream(camera)
                except NO_ANSWER:
                    break
                if stream.get("durable_until"):
                    until = time_of(stream["durable_until"])
                    self.claims.told(camera, until)
                    lags.append(time.time() - until)
            if self.samples and len(lags) == len(self.cameras):
                self.samples[-1]["lags"] = sorted(lags)
            camera = self.cameras[turn % len(self.cameras)]
            turn += 1
            if camera in self.claims.durable:
                try:
                    self.claims.read(api.fragment(camera, self.claims.durable[camera] - 1e-5))
                except NO_ANSWER as error:
                    self.fault(f"a fragment of {camera} cannot be read: {error!r}")
            self.stopping.wait(max(0.05, SAMPLE_SECONDS - (time.monotonic() - begun)))

    def export(self, dice):
        """Exports half a minute of a camera, again and again."""
        api = Api(self.port)
        while not self.stopping.wait(2):
            camera = dice.choice(self.cameras)
            until = self.claims.durable.get(camera)
            if until is None or until - self.begun_wall < 20:
                continue
            query = f"from={round((until - 15) * 1e6)}&to={round((until - 1) * 1e6)}&stream=main"
            digest = hashlib.sha256()
            try:
                status, length, _ = api.get(f"/api/v1/cameras/{camera}/export.mp4?{query}", None, digest)
            except NO_ANSWER as error:
                self.fault(f"an export of {camera} broke: {error!r}")
                continue
            # 404: nothing of these seconds is recorded, which gaps explain.
            if status not in (200, 404) or (status == 200 and length == 0):
                self.fault(f"an export of {camera} answered {status} with {length} bytes")

    def fault(self, what):
        self.faults.append((self.now(), what))

    def near_event(self, at):
        return any(event["at"] - 2 <= at <= event["end"] + AFTERMATH_SECONDS for event in self.events)

    def events_due(self):
        """Seeded: two kills in the second fifth of the run, the full disk in its middle."""
        whole = self.options.seconds
        second = self.dice.uniform(0.28, 0.36) * whole
        return [
            (self.dice.uniform(0.14, 0.22) * whole, self.kill),
            (second, self.kill),
            (self.dice.uniform(0.44, 0.50) * whole, lambda: self.fill_disk(60 if whole >= 600 else 15)),
        ]

    def go(self):
        """From the start to the end of the run."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self.sample, self.observe)]
        for number in range(EXPORTERS):
            dice = random.Random(f"{self.options.seed}-{number}")
            threads.append(threading.Thread(target=self.export, args=(dice,), daemon=True))
        for thread in threads:
            thread.start()
        time.sleep(10)
        watched = [self.cameras[0]] * 2 + self.cameras[1 : VIEWERS - 1]
        viewers = viewer.start(self.port, watched)
        try:
            for at, happen in sorted(self.events_due(), key=lambda event: event[0]):
                time.sleep(max(0, at - self.now()))
                self.farm.check_alive()
                happen()
            while self.now() < self.options.seconds:
                time.sleep(min(1, self.options.seconds - self.now() + 0.01))
                self.farm.check_alive()
        finally:
            self.stopping.set()
            viewer.stop(viewers)
            for thread in threads:
                thread.join(30)
        self.watched = {"viewers": len(viewers), "fragments": sum(one.fragments for one in viewers),
                        "errors": sum(len(one.errors) for one in viewers)}

    def judge(self):
        """What was told against what is there: asked of the service, then of the files."""
        api, end = Api(self.port), time.time() + 60
        timelines = {camera: api.timeline(camera, self.begun_wall - 60, end) for camera in self.cameras}
        histogram = durable_histogram(api)
        changed, again = self.read_again(api, timelines)
        events = [(self.begun_wall - 60, self.begun_wall + AFTERMATH_SECONDS, ["connecting"])]
        for event in self.events:
            length = event["end"] - event["at"] + AFTERMATH_SECONDS
            events.append((event["wall"] - GOP_SECONDS, event["wall"] + length, event["causes"]))
        rss = self.settled("rss_mib")
        findings = {
            "missing": soak_oracle.missing(self.claims, timelines),
            "changed": changed,
            "holes": soak_oracle.holes(self.claims, timelines),
            "unexplained": soak_oracle.unexplained(timelines, events),
            "faults": [f"{at:.0f} s: {what}" for at, what in self.faults if not self.near_event(at)],
        }
        self.service.send_signal(signal.SIGTERM)
        if self.service.wait(60) != 0:
            findings["faults"].append(f"SIGTERM ended with {self.service.returncode}:\n{tail(self.service.log)}")
        self.farm.started.remove(self.service)
        check = subprocess.run([self.options.tierline, "check", "--config", self.config, "--deep", "--json"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        report = check.stdout if check.returncode < 2 else check.stderr
        findings["check"] = [] if check.returncode == 0 else [report[-4000:]]
        return findings, {
            "causes_s": soak_oracle.causes(timelines),
            "fragments_read": len(self.claims.fragments),
            "fragments_read_again": again,
            "histogram": histogram,
            "controls": soak_oracle.controls(self.claims, timelines, rss),
        }

    def read_again(self, api, timelines):
        """Fragments that are not any more what they were, though nothing deleted them; and how many were read."""
        changed, again = [], 0
        for known in self.claims.fragments:
            gone = [gap for gap in timelines[known.camera][1] if gap[2] == "retention" and gap[1] > known.start]
            if gone:
                continue
            try:
                again += 1
                if api.fragment(known.camera, known.start + 1e-5) != known:
                    changed.append(f"{known.camera}: the fragment of {known.start:.6f} is not what it was")
            except NO_ANSWER as error:
                changed.append(f"{known.camera}: the fragment of {known.start:.6f} cannot be read: {error!r}")
        return changed, again

    def longest_life(self):
        """The number of the process that lived longest: what grows, grows within one."""
        ends = self.lives[1:] + [self.options.seconds]
        return 1 + max(range(len(self.lives)), key=lambda life: ends[life] - self.lives[life])

    def settled(self, figure):
        """A figure over the longest life of the process, without its beginning and the time after events."""
        settle, life = min(SETTLE_SECONDS_MAX, self.options.seconds / 12), self.longest_life()
        calm = lambda at: not self.near_event(at) and at > self.lives[life - 1] + settle
        samples = [sample for sample in self.samples if sample["life"] == life]
        return [(sample["at"], sample[figure]) for sample in samples if calm(sample["at"])]


def index_mib(api):
    """What the index takes in memory, by part; `None` without an answer."""
    try:
        text = api.get("/metrics")[2].decode()
    except NO_ANSWER:
        return None
    found = re.findall(r'^tierline_index_memory_bytes\{part="(\w+)"\} (\S+)', text, re.M)
    return {part: float(value) / MIB for part, value in found}


def durable_histogram(api):
    """Buckets of the service's own histogram of durable lag, of all streams since its start; `None` without one."""
    try:
        text = api.get("/metrics")[2].decode()
    except NO_ANSWER:
        return None
    buckets = {}
    for name, labels, count in re.findall(r"^(tierline_\w*durable\w*)_bucket\{([^}]*)\} (\S+)", text, re.M):
        edge = re.search(r'le="([^"]+)"', labels)[1]
        of_name = buckets.setdefault(name, {})
        of_name[edge] = of_name.get(edge, 0) + float(count)
    return buckets or None


def figures(run):
    """Flatness and lag."""
    lags = [(sample["at"], lag) for sample in run.samples if sample["lags"] for lag in sample["lags"]]
    calm = [lag for at, lag in lags if not run.near_event(at)]
    cpu = []
    for before, after in zip(run.samples, run.samples[1:]):
        if before["life"] == after["life"] and after["at"] > before["at"]:
            cpu.append((after["cpu_ms"] - before["cpu_ms"]) / (after["at"] - before["at"]) / len(run.cameras))
    numbers = lambda values: {f"p{share * 100:g}": soak_oracle.quantile(values, share) for share in (0.5, 0.99, 1)}
    return {
        "rss_mib": soak_oracle.flat(run.settled("rss_mib"), soak_oracle.RSS_SLACK_MIB),
        "files": soak_oracle.flat(run.settled("files"), soak_oracle.FILES_SLACK),
        "threads": soak_oracle.flat(run.settled("threads"), soak_oracle.FILES_SLACK),
        "rss_mib_most": max(sample["rss_mib"] for sample in run.samples),
        "files_most": max(sample["files"] for sample in run.samples),
        "lag_s": numbers(calm),
        "lag_s_with_events": numbers([lag for _, lag in lags]),
        "cpu_ms_per_camera_second": statistics.median(cpu) if cpu else None,
    }


def thinned(series, pick):
    """At most so many points as a picture shows, each of what `pick` takes from its neighbours."""
    size = max(1, len(series) // PICTURE_POINTS)
    parts = [series[at : at + size] for at in range(0, len(series), size)]
    return [(part[0][0] / 60, pick([value for _, value in part])) for part in parts]


def draw(run, file):
    of = lambda figure: [(sample["at"], sample[figure]) for sample in run.samples]
    lags = [(sample["at"], sample["lags"]) for sample in run.samples if sample["lags"]]
    index = [(sample["at"], sum(sample["index_mib"].values())) for sample in run.samples if sample["index_mib"]]
    worst = thinned([(at, lag[-1]) for at, lag in lags], max)
    typical = thinned([(at, statistics.median(lag)) for at, lag in lags], statistics.median)
    rows = [
        ("durable lag, s", {"worst camera": worst, "median": typical}),
        ("resident memory, MiB", {"memory": thinned(of("rss_mib"), max), "of it the index": thinned(index, max)}),
        ("open files", {"files": thinned(of("files"), max)}),
        ("free space, GiB", {"free": thinned(of("free_gib"), min)}),
    ]
    events = [(event["at"] / 60, event["end"] / 60, event["what"]) for event in run.events]
    title = f"{len(run.cameras)} cameras, {run.options.seconds / 60:g} minutes, seed {run.options.seed}"
    plot.panels(file, title, "minutes", rows, events)


def verdict(findings, numbers, more):
    """Whether all bars are met, and the table."""
    lag = numbers["lag_s"]["p99"]
    rss, files = numbers["rss_mib"], numbers["files"]
    quarters = lambda one, digits: f"{one['first']:.{digits}f} → {one['last']:.{digits}f}"
    rows = [
        ("told as durable and missing", len(findings["missing"]), "0", not findings["missing"]),
        (f"fragments changed, of {more['fragments_read_again']} read again", len(findings["changed"]), "0",
         not findings["changed"]),
        ("time neither recorded nor a gap", len(findings["holes"]), "0", not findings["holes"]),
        ("gaps without an event", len(findings["unexplained"]), "0", not findings["unexplained"]),
        ("requests that failed without an event", len(findings["faults"]), "0", not findings["faults"]),
        ("`tierline check --deep`", "findings" if findings["check"] else "clean", "clean", not findings["check"]),
        ("memory, first → last quarter of the longest life, MiB", quarters(rss, 1), "≤ 1.15 × + 8", rss["flat"]),
        ("open files, first → last quarter of that life", quarters(files, 0), "≤ 1.15 × + 12", files["flat"]),
        ("durable lag of a camera, p99, s", f"{lag:.2f}", f"≤ {LAG_P99_SECONDS_MAX}", lag <= LAG_P99_SECONDS_MAX),
        ("controls that must fail", "failed" if more["controls"]["all_failed"] else "PASSED", "failed",
         more["controls"]["all_failed"]),
    ]
    lines = ["| what | found | bar | |", "|---|---:|---:|---|"]
    lines += [f"| {what} | {found} | {bar} | {'ok' if ok else 'MISSED'} |" for what, found, bar, ok in rows]
    lines.append(f"| durable lag, median, and most with the events, s | {numbers['lag_s']['p50']:.2f}, "
                 f"{numbers['lag_s_with_events']['p100']:.2f} | | |")
    lines.append(f"| CPU, median, ms per camera-second | {numbers['cpu_ms_per_camera_second']:.2f} | | |")
    return all(ok for *_, ok in rows), "\n".join(lines)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tierline", required=True, type=pathlib.Path, help="the tierline binary")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("TIERLINE_SOAK_SECONDS", 3600)),
                        help=f"at least {SECONDS_MIN}")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("TIERLINE_SOAK_SEED", 1)))
    parser.add_argument("--cameras", type=int, default=40)
    parser.add_argument("--mbit", type=float, default=4, help="Mbit/s per camera")
    parser.add_argument("--disk-gib", type=float, default=6, help="size of the file system")
    parser.add_argument("--cache", type=pathlib.Path, default=clip_cache(), help="where clips are kept")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results, and the disk while it runs")
    return parser.parse_args()


def main():
    options = parse_arguments()
    if options.seconds < SECONDS_MIN:
        print(f"soak: {options.seconds} s are too short to tell whether anything grows", file=sys.stderr)
        options.seconds = SECONDS_MIN
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        sys.exit("soak: only root may mount a file system")
    out = options.out.resolve()
    work = out / "soak-work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "logs").mkdir(parents=True)
    clip = make_clip(options.ffmpeg, options.cache, options.mbit).resolve()
    print(f"soak: {options.seconds} s, seed {options.seed}", file=sys.stderr)
    run = Run(options, work)
    try:
        run.start(clip)
        run.go()
        findings, more = run.judge()
    except Failed as reason:
        sys.exit(f"soak: seed {options.seed}: {reason}")
    finally:
        run.farm.stop()
        if run.disk:
            run.disk.close()
    numbers = figures(run)
    good, rows = verdict(findings, numbers, more)
    machine = describe_machine(out)
    about = f"{options.cameras} cameras of {options.mbit:g} Mbit/s, {options.seconds} s, seed {options.seed}; "
    about += f"{VIEWERS} viewers, {EXPORTERS} exporters, {options.disk_gib:g} GiB. {machine_line(machine)}."
    told = "\n".join(f"- {event['at']:.0f} s: {event['what']}" + (
        f", ready after {event['ready_s']:.2f} s" if "ready_s" in event else f", without space for {event['full_s']:.0f} s"
    ) for event in run.events)
    lacking = ", ".join(f"{cause} {seconds:.0f}" for cause, seconds in more["causes_s"].items())
    text = f"{about}\n\n{rows}\n\n{told}\n- camera-seconds without media, by cause: {lacking}\n"
    print(text)
    for kind, found in findings.items():
        for finding in found[:20]:
            print(f"{kind}: {finding}", file=sys.stderr)
    (out / "soak.md").write_text(text)
    record = {"machine": machine, "seconds": options.seconds, "seed": options.seed, "events": run.events,
              "numbers": numbers, "findings": findings, "watched": run.watched, **more, "samples": run.samples}
    (out / "soak.json").write_text(json.dumps(record) + "\n")
    draw(run, out / "soak.svg")
    if good:
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
