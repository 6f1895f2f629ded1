#!/usr/bin/env python3
"""Shows what one node carries, on two cores that it shares with the simulated cameras.

`cameras`: 300 cameras at 2 Mbit/s for ten minutes. No session is lost, nothing is missing, every camera's pictures
are counted, the durable lag stays below 2 s for 99 of 100 fragments, and memory is flat.

`idle`: two services record the same 100 cameras at the same time; one of them knows 1,900 streams more, which are
switched off. They cost nothing.

Builds nothing.

    cargo build --release --bin tierline
    benches/scale.py --tierline target/release/tierline --out target/bench
    benches/scale.py --tierline target/release/tierline --out target/bench --seconds 60 cameras
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import sys
import time
import urllib.request

from bench import (
    FPS,
    GOP_SECONDS,
    Failed,
    Farm,
    camera_name,
    clip_cache,
    describe_machine,
    fetch,
    free_port,
    make_clip,
    usage,
    wait_for,
    wait_for_port,
)
from ingest_compare import farm_counts

LAG_P99_MAX = 2.0
MEMORY_GROWTH_MAX = 1.05
MEMORY_SLACK_MIB = 8
# Two services differ by as much when both know the same streams.
IDLE_CPU_MAX = 1.05
# What reading the configuration leaves behind: some KiB a stream, once.
IDLE_KIB_MAX = 10


def config(directory, farm_url, cameras, idle=0):
    """A site whose footage goes after minutes, so that a long run needs a small disk."""
    lines = [f'data_dir = "{directory / "data"}"', "[http]", 'listen = "127.0.0.1:0"']
    lines += ["[recording]", 'segment_duration = "2m"', "[[rules]]", 'hot = "2m"']
    for number in range(cameras + idle):
        lines += ["[[cameras]]", f'id = "{camera_name(number)}"', "[[cameras.streams]]", 'name = "main"']
        lines += [f'url = "{farm_url}{number}"', f"enabled = {str(number < cameras).lower()}"]
    directory.mkdir(parents=True)
    path = directory / "tierline.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def metrics(api):
    with urllib.request.urlopen(f"{api}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def lags(before, after):
    """(upper bound, fragments up to it) of the durable lag between two looks."""
    pattern = re.compile(r'tierline_durable_lag_seconds_bucket\{le="([^"]+)"\}')
    found = ((pattern.match(name), name) for name in after)
    counts = [(float(match[1].replace("+Inf", "inf")), after[name] - before[name]) for match, name in found if match]
    return sorted(counts)


def quantile(counts, share):
    wanted, low, below = counts[-1][1] * share, 0.0, 0.0
    for bound, count in counts:
        if count >= wanted and count > below:
            return low + ((bound if bound != float("inf") else low) - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


def text_of(moment):
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def per_camera(values, name):
    pattern = re.compile(name + r'\{camera="([^"]+)"')
    return {match[1]: value for key, value in values.items() if (match := pattern.match(key))}


def start(farm, options, cameras):
    port = free_port()
    simulator = farm.start("camsim", [
        options.tierline, "camsim", "--listen", f"127.0.0.1:{port}", "--cameras", cameras, "--clip", options.clip,
        "--report-every", "5s",
    ])
    wait_for_port(simulator, port)
    return simulator, f"rtsp://127.0.0.1:{port}/cam/"


def run_cameras(options, work):
    """Many cameras for a long time. Returns figures and what is wrong."""
    farm, problems, series = Farm(work / "logs"), [], []
    n = options.cameras
    try:
        simulator, url = start(farm, options, n)
        service = farm.start("tierline", [options.tierline, "serve", "--config", config(work / "site", url, n)])
        api = wait_for(service, r"listening on (http://\S+)")[1]
        time.sleep(options.warmup)
        farm.check_alive()
        begun = datetime.datetime.now(datetime.timezone.utc)
        first, first_use, since = metrics(api), usage([service.pid]), time.monotonic()
        simulated = usage([simulator.pid])
        farm_first = dict(farm_counts(simulator) or {})
        frames_first = frames(simulator)
        while (passed := time.monotonic() - since) < options.seconds:
            time.sleep(min(options.every, options.seconds - passed))
            farm.check_alive()
            now, use = metrics(api), usage([service.pid])
            series.append({
                "s": time.monotonic() - since,
                "rss_mib": use.rss_mib,
                "files": now["process_open_fds"],
                "behind_s": now["tierline_ingest_behind_seconds"],
                "busy": now["tierline_ingest_busy_ratio"],
                "commit_s": now["tierline_commit_seconds"],
                "shed": now["tierline_streams_shed"],
            })
        last, last_use, seconds = metrics(api), usage([service.pid]), time.monotonic() - since
        ended = datetime.datetime.now(datetime.timezone.utc)
        counts, farm_last = lags(first, last), dict(farm_counts(simulator) or {})
        simulator_ms = (usage([simulator.pid]).cpu_ms - simulated.cpu_ms) / n / seconds
        sent = frames(simulator) - frames_first
        pictures = {
            camera: value - per_camera(first, "tierline_stream_pictures_total").get(camera, 0)
            for camera, value in per_camera(last, "tierline_stream_pictures_total").items()
        }
        # Counts grow by whole GOPs.
        for camera, count in pictures.items():
            if abs(count - seconds * FPS) > 1.5 * GOP_SECONDS * FPS:
                problems.append(f"{camera}: {count:.0f} pictures in {seconds:.1f} s")
        if len(pictures) != n:
            problems.append(f"{len(pictures)} of {n} cameras are recorded")
        for number in range(n):
            camera = camera_name(number)
            stream = fetch(api, f"/api/v1/cameras/{camera}/status")["streams"][0]
            if stream["state"] != "recording" or stream["reconnects"] or stream["packets_lost"]:
                problems.append(f"{camera}: {stream}")
            span = f"from={text_of(begun)}&to={text_of(ended)}"
            gaps = fetch(api, f"/api/v1/cameras/{camera}/timeline?{span}")["gaps"]
            lost = [gap for gap in gaps if gap["cause"] != "retention"]
            if lost:
                problems.append(f"{camera}: {lost}")
    finally:
        farm.stop()
    memory = [look["rss_mib"] for look in series]
    half = max(1, len(memory) // 2)
    early, late = statistics.median(memory[:half]), statistics.median(memory[half:] or memory)
    if options.seconds >= 300 and late > early * MEMORY_GROWTH_MAX + MEMORY_SLACK_MIB:
        problems.append(f"memory grew from {early:.0f} to {late:.0f} MiB")
    p99 = quantile(counts, 0.99)
    if p99 > LAG_P99_MAX:
        problems.append(f"durable lag p99 {p99:.2f} s")
    overruns = (farm_last.get("overruns") or 0) - (farm_first.get("overruns") or 0)
    if overruns:
        problems.append(f"{overruns:.0f} sessions were cut by their cameras")
    result = {
        "cameras": n,
        "seconds": seconds,
        "fragments": counts[-1][1],
        "lag_s": {str(share): quantile(counts, share) for share in (0.5, 0.9, 0.99, 0.999)},
        "pictures": sum(pictures.values()),
        "pictures_sent": sent,
        "cpu_ms_per_camera_second": (last_use.cpu_ms - first_use.cpu_ms) / n / seconds,
        "camsim_ms_per_camera_second": simulator_ms,
        "rss_mib": {"first_half": early, "second_half": late, "most": max(memory)},
        "stalls": (farm_last.get("stalls") or 0) - (farm_first.get("stalls") or 0),
        "series": series,
        "problems": problems,
    }
    return result


def frames(simulator):
    found = re.findall(r"frames (\d+)", simulator.log.read_text(errors="replace"))
    return int(found[-1]) if found else 0


def run_idle(options, work):
    """Two services on the same cameras, one of which knows many streams more."""
    farm, problems, windows = Farm(work / "logs"), [], []
    n, idle = options.active, options.registered - options.active
    try:
        _, url = start(farm, options, n)
        services, starts = [], []
        for name, more in (("few", 0), ("many", idle)):
            began = time.monotonic()
            path = config(work / name, url, n, more)
            service = farm.start(name, [options.tierline, "serve", "--config", path])
            wait_for(service, r"listening on (http://\S+)")
            starts.append(time.monotonic() - began)
            services.append(service)
        time.sleep(options.warmup)
        farm.check_alive()
        for _ in range(options.windows):
            before, since = [usage([service.pid]) for service in services], time.monotonic()
            time.sleep(options.seconds / options.windows)
            after, seconds = [usage([service.pid]) for service in services], time.monotonic() - since
            windows.append([(b.cpu_ms - a.cpu_ms) / n / seconds for a, b in zip(before, after)])
            memory = [use.rss_mib for use in after]
        farm.check_alive()
    finally:
        farm.stop()
    ratio = statistics.median(many / few for few, many in windows)
    if ratio > IDLE_CPU_MAX:
        problems.append(f"idle streams cost CPU: {ratio:.3f} of what it takes without them")
    if (memory[1] - memory[0]) * 1024 > IDLE_KIB_MAX * idle:
        problems.append(f"idle streams take {memory[1] - memory[0]:.1f} MiB")
    return {
        "active": n,
        "registered": options.registered,
        "cpu_ms_per_camera_second": windows,
        "cpu_ratio": ratio,
        "rss_mib": memory,
        "start_s": starts,
        "problems": problems,
    }


def describe(results):
    lines = []
    if r := results.get("cameras"):
        lag, memory = r["lag_s"], r["rss_mib"]
        lines += [
            f"{r['cameras']} cameras for {r['seconds']:.0f} s: {r['fragments']:.0f} fragments, "
            f"{r['pictures']:.0f} pictures recorded of {r['pictures_sent']:.0f} sent meanwhile, {r['stalls']:.0f} stalls",
            f"durable lag: median {lag['0.5']:.2f} s, p90 {lag['0.9']:.2f} s, p99 {lag['0.99']:.2f} s, "
            f"p99.9 {lag['0.999']:.2f} s",
            f"CPU: {r['cpu_ms_per_camera_second']:.2f} ms per camera-second, the simulator "
            f"{r['camsim_ms_per_camera_second']:.2f}",
            f"memory: {memory['first_half']:.0f} MiB in the first half, {memory['second_half']:.0f} in the second, "
            f"{memory['most']:.0f} at most",
        ]
    if r := results.get("idle"):
        lines += [
            f"{r['registered']} streams registered, {r['active']} active: {r['cpu_ratio']:.3f} × the CPU and "
            f"{r['rss_mib'][1] - r['rss_mib'][0]:+.1f} MiB ({r['rss_mib'][0]:.0f} and {r['rss_mib'][1]:.0f}) of a "
            f"service with the active ones alone; ready after {r['start_s'][1]:.2f} s and {r['start_s'][0]:.2f} s",
        ]
    for r in results.values():
        lines += [f"WRONG: {problem}" for problem in r["problems"]]
    return "\n".join(lines)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["cameras", "idle"], help="cameras, idle, or both")
    parser.add_argument("--tierline", required=True, help="the tierline binary")
    parser.add_argument("--cameras", type=int, default=300)
    parser.add_argument("--registered", type=int, default=2000)
    parser.add_argument("--active", type=int, default=100)
    parser.add_argument("--seconds", type=float, help="how long is measured (default: 600 for cameras, 120 for idle)")
    parser.add_argument("--windows", type=int, default=4, help="of the comparison of idle streams")
    parser.add_argument("--warmup", type=float, default=30, metavar="SECONDS")
    parser.add_argument("--every", type=float, default=10, metavar="SECONDS", help="how often memory is looked at")
    parser.add_argument("--mbit", type=float, default=2, help="Mbit/s per camera")
    parser.add_argument("--cores", type=int, default=2, help="cores for everything together")
    parser.add_argument("--clip", type=pathlib.Path, help="use this clip instead of making one")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--cache", type=pathlib.Path, default=clip_cache(), help="where clips are kept")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results, and recordings while it runs")
    return parser.parse_args()


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.clip = (options.clip or make_clip(options.ffmpeg, options.cache, options.mbit)).resolve()
    out, asked = options.out.resolve(), options.seconds
    out.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    machine, results = describe_machine(out), {}
    for what, run, seconds in (("cameras", run_cameras, 600), ("idle", run_idle, 120)):
        if what not in options.what:
            continue
        options.seconds = asked or seconds
        work = out / f"work-scale-{what}"
        shutil.rmtree(work, ignore_errors=True)
        (work / "logs").mkdir(parents=True)
        try:
            results[what] = run(options, work)
        except Failed as reason:
            results[what] = {"problems": [str(reason)]}
        finally:
            shutil.rmtree(work, ignore_errors=True)
    right = {what: r for what, r in results.items() if len(r) > 1}
    print(describe(right))
    wrong = [problem for r in results.values() for problem in r["problems"]]
    print("\n".join(f"WRONG: {problem}" for r in results.values() if len(r) == 1 for problem in r["problems"]))
    (out / "scale.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
