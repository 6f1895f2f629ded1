#!/usr/bin/env python3
"""What a live viewer costs, and how soon the service is back after a kill.

Builds nothing. Records simulated cameras and, in every round, takes the service's CPU time over a window without
viewers, one with all viewers on one camera, one without, one with the viewers spread over the cameras, and one
without. A viewer polls the live playlist and fetches every fragment, as hls.js does. What it costs is the difference
to the windows before and after. Then kills the service (SIGKILL) in the middle of recording many cameras, and takes
the time until it says that it is ready and until all cameras record again.

    cargo build --release
    benches/live_viewers.py --tierline target/release/tierline --out target/bench
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import statistics
import sys
import time
import urllib.error
import urllib.request

import viewer
from bench import (
    FPS,
    GOP_SECONDS,
    START_SECONDS_MAX,
    Failed,
    Farm,
    camera_name,
    clip_cache,
    describe_machine,
    durable_lags,
    machine_line,
    make_clip,
    serve_config,
    spread,
    start_cameras,
    start_service,
    tail,
    usage,
)

SETTLE_SECONDS = 6
MS_PER_VIEWER_SECOND_MAX = 0.5
READY_SECONDS_MAX = 2
RECORDING_SECONDS_MAX = 10


def cpu_of(process, seconds):
    """CPU in ms a second over a window."""
    since, before = time.monotonic(), usage([process.pid]).cpu_ms
    time.sleep(seconds)
    return (usage([process.pid]).cpu_ms - before) / (time.monotonic() - since)


def with_viewers(process, port, cameras, options):
    """CPU in ms a second while somebody watches each of `cameras`, and what the viewers got."""
    viewers = viewer.start(port, cameras)
    time.sleep(SETTLE_SECONDS)
    before = [(one.bytes, one.missed, len(one.errors)) for one in viewers]
    since = time.monotonic()
    cost = cpu_of(process, options.window_seconds)
    seconds = time.monotonic() - since
    got = [one.bytes - was for one, (was, _, _) in zip(viewers, before)]
    missed = sum(one.missed - was for one, (_, was, _) in zip(viewers, before))
    errors = [error for one, (_, _, was) in zip(viewers, before) for error in one.errors[was:]]
    viewer.stop(viewers)
    if errors or missed:
        raise Failed(f"viewers missed {missed} fragments and met {len(errors)} errors: {errors[:3]}")
    rates = [bytes_of_one * 8 / 1e6 / seconds for bytes_of_one in got]
    return cost, {"mbit_median": statistics.median(rates), "mbit_least": min(rates)}


def live(options, clip, work):
    farm = Farm(work / "logs")
    try:
        _, farm_url = start_cameras(farm, options.tierline, options.cameras, clip)
        process, api = start_service(farm, options.tierline, serve_config(work, farm_url, options.cameras))
        port = int(api.rpartition(":")[2])
        time.sleep(options.warmup)
        one = [camera_name(0)] * options.viewers
        many = [camera_name(number % options.cameras) for number in range(options.viewers)]
        rounds = []
        alone = cpu_of(process, options.window_seconds)
        for number in range(options.rounds):
            result = {}
            turns = [("one", one), ("many", many)]
            for name, cameras in turns if number % 2 == 0 else turns[::-1]:
                before = alone
                cost, got = with_viewers(process, port, cameras, options)
                time.sleep(SETTLE_SECONDS / 2)
                alone = cpu_of(process, options.window_seconds)
                without = (before + alone) / 2
                result[name] = got | {
                    "with": cost,
                    "without": without,
                    "ms_per_viewer_second": (cost - without) / options.viewers,
                }
            farm.check_alive()
            rounds.append(result)
            print(f"  round {number + 1}: " + json.dumps(result), file=sys.stderr)
        return rounds
    finally:
        farm.stop()
        shutil.rmtree(work / "data", ignore_errors=True)


def is_ready(api):
    try:
        with urllib.request.urlopen(api + "/readyz", timeout=1) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def restarts(options, clip, work):
    """Kills the service again and again at a random time, and starts it anew."""
    farm, dice, results = Farm(work / "logs"), random.Random(options.seed), []
    try:
        _, farm_url = start_cameras(farm, options.tierline, options.restart_cameras, clip)
        config = serve_config(work, farm_url, options.restart_cameras)
        process, api = start_service(farm, options.tierline, config)
        for number in range(options.restarts):
            deadline = time.monotonic() + START_SECONDS_MAX
            while durable_lags(api, options.restart_cameras)[1] and time.monotonic() < deadline:
                time.sleep(0.5)
            time.sleep(options.restart_seconds + dice.random() * 4)
            process.kill()
            process.wait()
            farm.started.remove(process)
            begun, wall = time.monotonic(), time.time()
            process, api = start_service(farm, options.tierline, config, f"tierline-{number + 1}")
            ready = time.monotonic() - begun
            if not is_ready(api):
                raise Failed(f"it printed its address and is not ready:\n{tail(process.log)}")
            recording = everyone = None
            while everyone is None and time.monotonic() - begun < START_SECONDS_MAX:
                lags, problems = durable_lags(api, options.restart_cameras)
                if recording is None and not problems:
                    recording = time.monotonic() - begun
                # Recorded since the start, and on disk.
                if not problems and all(time.time() - lag > wall for lag in lags):
                    everyone = time.monotonic() - begun
                time.sleep(0.1)
            if everyone is None:
                raise Failed(f"{len(problems)} cameras did not come back: {problems[:5]}")
            results.append({"ready_s": ready, "all_recording_s": recording, "all_durable_s": everyone})
            print(f"  kill {number + 1}: " + json.dumps(results[-1]), file=sys.stderr)
        return results
    finally:
        farm.stop()
        shutil.rmtree(work / "data", ignore_errors=True)


def table(rounds, kills, options):
    rows = ["| what | median [least–most] | bar |", "|---|---:|---:|"]
    for name, where in (("one", "on one camera"), ("many", "spread over the cameras")):
        costs = [result[name]["ms_per_viewer_second"] for result in rounds]
        if costs:
            what = f"{options.viewers} live viewers {where}, CPU, ms per viewer-second"
            rows.append(f"| {what} | {spread(costs, 3)} | ≤ {MS_PER_VIEWER_SECOND_MAX} |")
            rates = [result[name]["mbit_median"] for result in rounds]
            rows.append(f"| … Mbit/s that a viewer got | {spread(rates)} | |")
    if rounds:
        without = [result[name]["without"] / options.cameras for result in rounds for name in result]
        rows.append(f"| recording alone, CPU, ms per camera-second | {spread(without)} | |")
    if kills:
        what = f"ready after a kill -9 with {options.restart_cameras} cameras, s"
        rows.append(f"| {what} | {spread([one['ready_s'] for one in kills])} | ≤ {READY_SECONDS_MAX} |")
        recording = spread([one["all_recording_s"] for one in kills])
        rows.append(f"| … all cameras recording, s | {recording} | ≤ {RECORDING_SECONDS_MAX} |")
        durable = spread([one["all_durable_s"] for one in kills])
        rows.append(f"| … new footage of all cameras durable, s | {durable} | |")
    return "\n".join(rows)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tierline", required=True, help="the tierline binary")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--cameras", type=int, default=40, help="recorded while somebody watches")
    parser.add_argument("--viewers", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-seconds", type=float, default=15)
    parser.add_argument("--warmup", type=float, default=15, metavar="SECONDS")
    parser.add_argument("--restart-cameras", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=5, help="how often the service is killed; 0 for never")
    parser.add_argument("--restart-seconds", type=float, default=5, help="recording before each kill, at least")
    parser.add_argument("--seed", type=int, default=1, help="of the times of the kills")
    parser.add_argument("--mbit", type=float, default=4, help="Mbit/s per camera")
    parser.add_argument("--cache", type=pathlib.Path, default=clip_cache(), help="where clips are kept")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results, and recordings while it runs")
    return parser.parse_args()


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    clip = make_clip(options.ffmpeg, options.cache, options.mbit).resolve()
    out = options.out.resolve()
    work = out / "live-work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "logs").mkdir(parents=True)
    machine, rounds, kills = describe_machine(out), [], []
    try:
        rounds = live(options, clip, work) if options.rounds else []
        kills = restarts(options, clip, work) if options.restarts else []
    except Failed as reason:
        sys.exit(f"live_viewers: {reason}")
    shutil.rmtree(work, ignore_errors=True)
    about = (
        f"{options.cameras} cameras of {options.mbit:g} Mbit/s at {FPS} frames per second, GOP {GOP_SECONDS} s; "
        f"{options.rounds} rounds, windows of {options.window_seconds:g} s; {len(kills)} kills, seed {options.seed}; "
        f"median [least–most]. {machine_line(machine)}."
    )
    text = f"{about}\n\n{table(rounds, kills, options)}\n"
    print(text)
    (out / "live_viewers.md").write_text(text)
    record = {"machine": machine, "viewers": options.viewers, "rounds": rounds, "kills": kills}
    (out / "live_viewers.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
