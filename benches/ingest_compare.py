#!/usr/bin/env python3
"""Compares what recording costs: tierline beside rawtick and `ffmpeg -c copy`, on the same simulated cameras
at the same time.

Builds nothing. A run per camera count starts the camera farm, then every recorder on all of its cameras, waits
for the warm-up and reads CPU time, memory and context switches of each over several windows. CPU time is
utime + stime of the process (summed over the ffmpegs), so that other work on the machine disturbs little;
ratios are taken within a window, where all recorders met the same conditions.

    cargo build --release && cargo build --release --example rawtick
    benches/ingest_compare.py --tierline target/release/tierline \\
        --rawtick target/release/examples/rawtick --out target/ingest-compare
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
FPS = 30
GOP_SECONDS = 2
DURABLE_LAG_SECONDS_MAX = 3 + GOP_SECONDS
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20
REFERENCE = "rawtick"


class Failed(Exception):
    """The run cannot give a valid result; the text says why."""


@dataclasses.dataclass
class Recorder:
    """The processes that record all cameras in one way."""

    name: str
    processes: list


@dataclasses.dataclass
class Sample:
    """Totals of a recorder's processes at one time."""

    cpu_ms: float
    switches: int
    rss_mib: float


class Farm:
    """Every process this script starts; leaves none behind."""

    def __init__(self, logs):
        self.logs = logs
        self.started = []

    def start(self, name, command):
        log = self.logs / f"{name}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process.log = log
        process.label = name
        self.started.append(process)
        return process

    def stop(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for process in self.started:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.started = []

    def check_alive(self):
        for process in self.started:
            if process.poll() is not None:
                raise Failed(f"{process.label} ended with status {process.returncode}:\n{tail(process.log)}")


def tail(log, lines=15):
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def wait_for(process, pattern):
    """The first match of `pattern` in what `process` printed."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        found = re.search(pattern, process.log.read_text(errors="replace"))
        if found:
            return found
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise Failed(f"{process.label} did not print {pattern!r}:\n{tail(process.log)}")


def wait_for_port(process, port):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Failed(f"{process.label} does not listen on port {port}:\n{tail(process.log)}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sample(processes):
    total = Sample(0.0, 0, 0.0)
    for process in processes:
        proc = pathlib.Path("/proc") / str(process.pid)
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        total.cpu_ms += (int(fields[11]) + int(fields[12])) * 1000 / TICKS_PER_SECOND
        for task in (proc / "task").iterdir():
            try:
                status = (task / "status").read_text()
            except OSError:
                continue  # the thread has just ended
            total.switches += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])
        rollup = (proc / "smaps_rollup").read_text()
        total.rss_mib += int(re.search(r"^Rss:\s+(\d+)", rollup, re.M)[1]) / 1024
    return total


def machine_busy():
    """(busy, total) jiffies of all cores since boot."""
    values = [int(value) for value in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(values) - values[3] - values[4], sum(values)


def farm_counts(process):
    """The counters that the camera farm printed last."""
    lines = [line for line in process.log.read_text(errors="replace").splitlines() if " stalls " in line]
    if not lines:
        return None
    counts = {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)", lines[-1])}
    return {name: counts.get(name) for name in ("active", "stalls", "overruns", "late_max_ms")}


def make_clip(ffmpeg, cache, mbit):
    """A 30 s clip of constant rate, 1080p30 with a GOP of 2 s, as the wire of a camera carries it: slices,
    parameter sets and filler, without delimiters and SEI."""
    clip = cache / f"1080p30-{mbit:g}mbit.h264"
    if clip.exists():
        return clip
    cache.mkdir(parents=True, exist_ok=True)
    print(f"making {clip}", file=sys.stderr)
    rate = f"{round(mbit * 1000)}k"
    unfinished = clip.with_suffix(".part")
    keyint = FPS * GOP_SECONDS
    source = f"testsrc2=size=1920x1080:rate={FPS},noise=alls=6:allf=t"
    subprocess.run(
        [ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", source, "-t", "30"]
        + ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-profile:v", "main", "-bf", "0"]
        + ["-b:v", rate, "-maxrate", rate, "-bufsize", rate, "-x264-params"]
        + [f"keyint={keyint}:min-keyint={keyint}:scenecut=0:nal-hrd=cbr:aud=1:sliced-threads=0"]
        + ["-bsf:v", "filter_units=remove_types=6|9", "-f", "h264", str(unfinished)],
        check=True,
    )
    unfinished.rename(clip)
    return clip


def serve_config(directory, farm_url, cameras):
    lines = [f'data_dir = "{directory / "data"}"', "", "[http]", 'listen = "127.0.0.1:0"']
    for number in range(cameras):
        lines += ["", "[[cameras]]", f'id = "cam{number:04}"', f'name = "Camera {number}"', ""]
        lines += ["[[cameras.streams]]", 'name = "main"', f'url = "{farm_url}{number}"', 'transport = "tcp"']
    path = directory / "tierline.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def start_recorders(farm, options, farm_url, cameras, work):
    """Starts every recorder that was asked for; returns them and the address of tierline's API, if any."""
    recorders, api = [], None
    if options.tierline:
        directory = work / "tierline"
        directory.mkdir()
        config = serve_config(directory, farm_url, cameras)
        process = farm.start("tierline", [options.tierline, "serve", "--config", config])
        api = wait_for(process, r"listening on (http://\S+)")[1]
        recorders.append(Recorder("tierline", [process]))
    command = [options.rawtick, "--url", farm_url, "--n", cameras, "--dir", work / "rawtick"]
    recorders.append(Recorder(REFERENCE, [farm.start(REFERENCE, command)]))
    if cameras in options.ffmpeg_cameras:
        directory = work / "ffmpeg"
        directory.mkdir()
        processes = []
        for number in range(cameras):
            command = [options.ffmpeg, "-nostdin", "-v", "error", "-rtsp_transport", "tcp"]
            command += ["-i", f"{farm_url}{number}", "-c", "copy", "-f", "segment", "-segment_time", "60"]
            command += ["-segment_format", "mp4", "-reset_timestamps", "1"]
            command += [directory / f"cam{number:04}-%05d.mp4"]
            processes.append(farm.start(f"ffmpeg-{number:04}", command))
        recorders.append(Recorder("ffmpeg -c copy", processes))
    return recorders, api


def durability(api, cameras):
    """Asks tierline whether every camera records, and how far behind now the durable end is."""
    late, idle, lags = [], [], []
    for number in range(cameras):
        camera = f"cam{number:04}"
        try:
            with urllib.request.urlopen(f"{api}/api/v1/cameras/{camera}/status", timeout=10) as answer:
                streams = json.load(answer)["streams"]
            now = datetime.datetime.now(datetime.timezone.utc)
            stream = next(stream for stream in streams if stream["stream"] == "main")
            state, until = stream["state"], stream.get("durable_until")
        except (OSError, ValueError, KeyError, StopIteration) as error:
            idle.append(f"the status of {camera} cannot be had: {error!r}")
            continue
        if state != "recording":
            idle.append(f"{camera} is {state}")
        elif not until:
            late.append(f"{camera} has nothing durable")
        else:
            until = datetime.datetime.fromisoformat(until.replace("Z", "+00:00"))
            lags.append((now - until).total_seconds())
            if lags[-1] >= DURABLE_LAG_SECONDS_MAX:
                late.append(f"{camera} is durable until {lags[-1]:.1f} s ago")
    return {
        "cameras": cameras,
        "recording": cameras - len(idle),
        "durable_lag_s_max": max(lags, default=None),
        "durable_lag_s_median": statistics.median(lags) if lags else None,
        "ok": not idle and not late,
        "problems": idle + late,
    }


def measure(farm, recorders, simulator, cameras, options):
    """One dictionary per window: for each recorder what it used per camera and second."""
    groups = recorders + [Recorder("camsim", [simulator])]
    windows = []
    for number in range(options.windows):
        before = [(time.monotonic(), sample(group.processes)) for group in groups]
        busy_before = machine_busy()
        time.sleep(options.window_seconds)
        window = {}
        for group, (since, start) in zip(groups, before):
            end, seconds = sample(group.processes), time.monotonic() - since
            window[group.name] = {
                "cpu_ms": (end.cpu_ms - start.cpu_ms) / cameras / seconds,
                "switches": (end.switches - start.switches) / cameras / seconds,
                "rss_mib": end.rss_mib / cameras,
            }
        busy, total = (after - ahead for after, ahead in zip(machine_busy(), busy_before))
        window["machine_busy"] = busy / total
        farm.check_alive()
        windows.append(window)
        costs = ", ".join(f"{group.name} {window[group.name]['cpu_ms']:.2f}" for group in groups)
        print(f"  window {number + 1}: {costs} ms per camera-second", file=sys.stderr)
    return windows


def run(options, clip, cameras, work):
    """All recorders on a farm of so many cameras."""
    logs = work / "logs"
    logs.mkdir(parents=True)
    farm = Farm(logs)
    try:
        port = free_port()
        command = shlex.split(options.camsim) if options.camsim else [options.tierline, "camsim"]
        command += ["--listen", f"127.0.0.1:{port}", "--cameras", cameras, "--clip", clip]
        simulator = farm.start("camsim", command)
        wait_for_port(simulator, port)
        recorders, api = start_recorders(farm, options, f"rtsp://127.0.0.1:{port}/cam/", cameras, work)
        time.sleep(options.warmup)
        farm.check_alive()
        counts_before = farm_counts(simulator)
        windows = measure(farm, recorders, simulator, cameras, options)
        return {
            "cameras": cameras,
            "recorders": [recorder.name for recorder in recorders],
            "windows": windows,
            "farm_before": counts_before,
            "farm": farm_counts(simulator),
            "durability": durability(api, cameras) if api else None,
        }
    finally:
        farm.stop()


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def state(result, recorder):
    """What is known about whether the recorder kept up."""
    kept = result["durability"]
    if recorder != "tierline" or kept is None:
        return ""
    lag = f", durable lag at most {kept['durable_lag_s_max']:.1f} s" if kept["durable_lag_s_max"] is not None else ""
    verdict = "ok" if kept["ok"] else "NOT KEPT UP"
    return f"{verdict}: {kept['recording']} of {kept['cameras']} recording{lag}"


def table(results):
    rows = [
        "| cameras | recorder | CPU, ms per camera-second | ratio to rawtick | MiB per camera | switches per camera-second | kept up |",
        "|---:|---|---:|---:|---:|---:|---|",
    ]
    for result in results:
        windows = result["windows"]
        for name in result["recorders"]:
            cpu = [window[name]["cpu_ms"] for window in windows]
            ratios = [window[name]["cpu_ms"] / window[REFERENCE]["cpu_ms"] for window in windows]
            memory = statistics.median(window[name]["rss_mib"] for window in windows)
            switches = statistics.median(window[name]["switches"] for window in windows)
            cells = [result["cameras"], name, spread(cpu), spread(ratios), f"{memory:.2f}", f"{switches:.1f}"]
            rows.append("| " + " | ".join(str(cell) for cell in cells + [state(result, name)]) + " |")
    return "\n".join(rows)


def notes(results):
    lines = []
    for result in results:
        windows, counts = result["windows"], result["farm"]
        cost = spread([window["camsim"]["cpu_ms"] for window in windows])
        clients = len(result["recorders"])
        busy = statistics.median(window["machine_busy"] for window in windows)
        line = f"- {result['cameras']} cameras: the farm cost {cost} ms per camera-second with {clients} recorders on it, "
        line += f"all cores were {busy:.0%} busy; "
        if counts is None:
            line += "the farm reported no counters."
        else:
            before = (result["farm_before"] or {}).get("stalls") or 0
            stalls = int(counts["stalls"] - before)
            line += f"{stalls} stalls in the windows ({int(counts['stalls'])} since the start)"
            line += ": no back-pressure." if stalls == 0 else ": a recorder read too slowly at times."
        lines.append(line)
        if result["durability"] and result["durability"]["problems"]:
            lines += [f"  - {problem}" for problem in result["durability"]["problems"][:10]]
    return "\n".join(lines)


def describe_machine(work):
    model = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    covering = [mount for mount in mounts if str(work).startswith(mount[1].rstrip("/") + "/")]
    file_system = max(covering, key=lambda mount: len(mount[1]))[2] if covering else "unknown"
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "file_system": file_system,
    }


def report(results, options, machine):
    header = (
        f"{options.mbit:g} Mbit/s at {FPS} frames per second, GOP {GOP_SECONDS} s, RTSP over TCP on loopback; "
        f"{options.windows} windows of {options.window_seconds:g} s after {options.warmup:g} s; "
        f"median [least–most]. {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"{machine['file_system']}."
    )
    return f"{header}\n\n{table(results)}\n\n{notes(results)}\n"


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def parse_arguments():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tierline", help="the tierline binary; without it only the others run")
    parser.add_argument("--camsim", help="command that serves the cameras (default: TIERLINE camsim)")
    parser.add_argument("--rawtick", required=True, help="the rawtick binary, the reference")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--cameras", type=numbers, default=[10, 40, 100], metavar="N,N,…")
    parser.add_argument("--ffmpeg-cameras", type=numbers, default=[10], metavar="N,N,…",
                        help="camera counts at which ffmpeg takes part, a process per camera (default: 10)")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--window-seconds", type=float, default=40)
    parser.add_argument("--warmup", type=float, default=20, metavar="SECONDS")
    parser.add_argument("--mbit", type=float, default=4, help="Mbit/s per camera")
    parser.add_argument("--clip", type=pathlib.Path, help="use this clip instead of making one")
    parser.add_argument("--cache", type=pathlib.Path, default=cache / "tierline" / "clips", help="where clips are kept")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results, and recordings while it runs")
    parser.add_argument("--keep", action="store_true", help="keep the recordings")
    options = parser.parse_args()
    if not (options.tierline or options.camsim):
        parser.error("give --tierline, or --camsim to do without it")
    return options


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    clip = options.clip or make_clip(options.ffmpeg, options.cache, options.mbit)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    machine, results, failure = describe_machine(out), [], None
    for cameras in options.cameras:
        print(f"{cameras} cameras", file=sys.stderr)
        work = out / f"work-{cameras}"
        shutil.rmtree(work, ignore_errors=True)
        try:
            results.append(run(options, clip.resolve(), cameras, work))
        except Failed as reason:
            failure = f"{cameras} cameras: {reason}"
            print(failure, file=sys.stderr)
            break
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    if results:
        text = report(results, options, machine)
        print(text)
        (out / "ingest_compare.md").write_text(text)
        record = {"machine": machine, "mbit": options.mbit, "results": results}
        (out / "ingest_compare.json").write_text(json.dumps(record, indent=1) + "\n")
    kept = all(result["durability"] is None or result["durability"]["ok"] for result in results)
    sys.exit(1 if failure or not kept else 0)


if __name__ == "__main__":
    main()
