#!/usr/bin/env python3
"""Compares what recording costs: tierline beside rawtick, rawrec and `ffmpeg -c copy`, on the same simulated cameras.

Builds nothing. For each number of cameras a farm of cameras starts, and the recorders take turns on it, A B C, B C A
and so on, so that a machine that drifts does so for all of them. In its turn a recorder records all cameras alone for
the warm-up and one window, of which CPU time, memory and context switches count. CPU time is utime + stime of its
processes, so that other work on the machine disturbs little; ratios are taken within a round. With --together all
record at the same time instead: then they meet the very same packets, and each other.

    cargo build --release && cargo build --release --examples
    benches/ingest_compare.py --tierline target/release/tierline --peers target/release/examples --out target/bench
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shlex
import shutil
import signal
import statistics
import sys
import time

import plot
from bench import (
    FPS,
    GOP_SECONDS,
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
    usage,
)

DURABLE_LAG_SECONDS_MAX = 3 + GOP_SECONDS
REFERENCE = "rawtick"
FFMPEG = "ffmpeg -c copy"
MEMORY_SECONDS = 5


@dataclasses.dataclass
class Recorder:
    """The processes that record all cameras in one way."""

    name: str
    processes: list
    api: str | None = None

    def usage(self):
        return usage(process.pid for process in self.processes)


def farm_counts(process):
    """The counters that the camera farm printed last."""
    lines = [line for line in process.log.read_text(errors="replace").splitlines() if " stalls " in line]
    if not lines:
        return None
    counts = {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)", lines[-1])}
    return {name: counts.get(name) for name in ("active", "stalls", "overruns", "late_max_ms")}


def recorders(options, cameras):
    """The names of those that take part."""
    names = ["tierline"] if options.tierline else []
    names += [REFERENCE, "rawrec"]
    return names + ([FFMPEG] if cameras in options.ffmpeg_cameras else [])


def start(name, farm, options, farm_url, cameras, work):
    """Starts one recorder on all cameras; what it records goes into `work`, which is new."""
    work.mkdir(parents=True)
    if name == "tierline":
        process, api = start_service(farm, options.tierline, serve_config(work, farm_url, cameras))
        return Recorder(name, [process], api)
    if name == FFMPEG:
        processes = []
        for number in range(cameras):
            command = [options.ffmpeg, "-nostdin", "-v", "error", "-rtsp_transport", "tcp"]
            command += ["-i", f"{farm_url}{number}", "-c", "copy", "-f", "segment", "-segment_time", "60"]
            command += ["-segment_format", "mp4", "-reset_timestamps", "1"]
            command += [work / f"{camera_name(number)}-%05d.mp4"]
            processes.append(farm.start(f"ffmpeg-{number:04}", command))
        return Recorder(name, processes)
    command = [options.peers / name, "--url", farm_url, "--n", cameras, "--dir", work]
    return Recorder(name, [farm.start(name, command)])


def durability(recorder, cameras):
    """Whether every camera records, and how far behind now the durable end is."""
    if recorder.api is None:
        return None
    lags, problems = durable_lags(recorder.api, cameras)
    late = [f"a camera is durable until {lag:.1f} s ago" for lag in lags if lag >= DURABLE_LAG_SECONDS_MAX]
    return {
        "cameras": cameras,
        "recording": cameras - len(problems),
        "durable_lag_s_max": max(lags, default=None),
        "durable_lag_s_median": statistics.median(lags) if lags else None,
        "ok": not problems and not late,
        "problems": problems + late,
    }


def window(groups, cameras, seconds):
    """What each group used per camera and second, over one window."""
    before = [(time.monotonic(), group.usage()) for group in groups]
    time.sleep(seconds)
    used = {}
    for group, (since, begin) in zip(groups, before):
        end, passed = group.usage(), time.monotonic() - since
        used[group.name] = {
            "cpu_ms": (end.cpu_ms - begin.cpu_ms) / cameras / passed,
            "switches": (end.switches - begin.switches) / cameras / passed,
            "rss_mib": end.rss_mib / cameras,
            "durability": durability(group, cameras),
        }
    return used


def one_round(number, names, simulator, farm_url, cameras, options, work):
    """Every recorder once: what each used, and the simulator beside it."""
    turn = number % len(names)
    order = names[turn:] + names[:turn]
    result = {}
    for group in [order] if options.together else [[name] for name in order]:
        farm = Farm(work / "logs")
        try:
            started = [start(name, farm, options, farm_url, cameras, work / name.split()[0]) for name in group]
            time.sleep(options.warmup)
            farm.check_alive()
            watched = started + [Recorder("camsim", [simulator])]
            used = window(watched, cameras, options.window_seconds)
            farm.check_alive()
            result.setdefault("camsim", []).append(used.pop("camsim")["cpu_ms"])
            result |= used
        finally:
            farm.stop()
            for name in group:
                if not options.keep:
                    shutil.rmtree(work / name.split()[0], ignore_errors=True)
    costs = ", ".join(f"{name} {result[name]['cpu_ms']:.2f}" for name in names)
    print(f"  round {number + 1}: {costs} ms per camera-second", file=sys.stderr)
    return result


def run(options, clip, cameras, work):
    """All rounds on a farm of so many cameras."""
    logs = work / "logs"
    logs.mkdir(parents=True)
    farm = Farm(logs)
    try:
        command = shlex.split(options.camsim) if options.camsim else None
        simulator, farm_url = start_cameras(farm, options.tierline, cameras, clip, command)
        names, rounds = recorders(options, cameras), []
        for number in range(options.rounds):
            rounds.append(one_round(number, names, simulator, farm_url, cameras, options, work))
            farm.check_alive()
        return {"cameras": cameras, "recorders": names, "rounds": rounds, "farm": farm_counts(simulator)}
    finally:
        farm.stop()


def without_cameras(options, work):
    """MiB that the service takes when it has nothing to record."""
    (work / "logs").mkdir(parents=True)
    farm = Farm(work / "logs")
    try:
        process, _ = start_service(farm, options.tierline, serve_config(work, "", 0))
        time.sleep(MEMORY_SECONDS)
        return usage([process.pid]).rss_mib
    finally:
        farm.stop()
        shutil.rmtree(work, ignore_errors=True)


def kept_up(result, name):
    """What is known about whether the recorder kept up."""
    known = [one[name]["durability"] for one in result["rounds"] if one[name]["durability"]]
    if not known:
        return ""
    verdict = "ok" if all(one["ok"] for one in known) else "NOT KEPT UP"
    lags = [one["durable_lag_s_max"] for one in known if one["durable_lag_s_max"] is not None]
    lag = f", durable lag at most {max(lags):.1f} s" if lags else ""
    return f"{verdict}: {min(one['recording'] for one in known)} of {result['cameras']} recording{lag}"


def costs(result, name):
    """CPU in ms per camera-second, and its ratio to the reference, of each round."""
    cpu = [one[name]["cpu_ms"] for one in result["rounds"]]
    return cpu, [mine / one[REFERENCE]["cpu_ms"] for mine, one in zip(cpu, result["rounds"])]


def table(results):
    rows = [
        "| cameras | recorder | CPU, ms per camera-second | ratio to rawtick | MiB per camera | switches per camera-second | kept up |",
        "|---:|---|---:|---:|---:|---:|---|",
    ]
    for result in results:
        for name in result["recorders"]:
            cpu, ratios = costs(result, name)
            memory = statistics.median(one[name]["rss_mib"] for one in result["rounds"])
            switches = statistics.median(one[name]["switches"] for one in result["rounds"])
            cells = [result["cameras"], name, spread(cpu), spread(ratios), f"{memory:.2f}", f"{switches:.1f}"]
            rows.append("| " + " | ".join(str(cell) for cell in cells + [kept_up(result, name)]) + " |")
    return "\n".join(rows)


def notes(results, empty_mib):
    lines = []
    for result in results:
        simulated = [value for one in result["rounds"] for value in one["camsim"]]
        line = f"- {result['cameras']} cameras: the farm cost {spread(simulated)} ms per camera-second"
        if result["farm"]:
            line += f"; {int(result['farm']['stalls'])} stalls since the start, where a recorder read too slowly"
        lines.append(line + ".")
        known = [one["tierline"]["durability"] for one in result["rounds"] if "tierline" in one]
        lines += [f"  - {problem}" for one in known if one for problem in one["problems"][:10]]
    if empty_mib is not None:
        line = f"- Memory of tierline: {empty_mib:.1f} MiB without a camera (bar: 60)"
        for result in results:
            rss = [one["tierline"]["rss_mib"] for one in result["rounds"]]
            more = [mib - empty_mib / result["cameras"] for mib in rss]
            line += f"; {spread(more)} MiB more for each of {result['cameras']}"
        lines.append(line + " (bar: 1.2).")
    return "\n".join(lines)


def draw(results, file):
    series = {}
    for result in results:
        for name in result["recorders"]:
            cpu, _ = costs(result, name)
            point = (result["cameras"], statistics.median(cpu), min(cpu), max(cpu))
            series.setdefault(name, []).append(point)
    title = "CPU of recording a camera of 4 Mbit/s"
    plot.lines(file, title, "cameras", "ms per camera-second", series, log_x=True, log_y=True)


def report(results, empty_mib, options, machine):
    how = "all at the same time" if options.together else "each alone in its turn"
    header = (
        f"{options.mbit:g} Mbit/s at {FPS} frames per second, GOP {GOP_SECONDS} s, RTSP over TCP on loopback; "
        f"{options.rounds} rounds, {how}, windows of {options.window_seconds:g} s after {options.warmup:g} s; "
        f"median [least–most]. {machine_line(machine)}."
    )
    return f"{header}\n\n{table(results)}\n\n{notes(results, empty_mib)}\n"


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tierline", help="the tierline binary; without it only the others run")
    parser.add_argument("--camsim", help="command that serves the cameras (default: TIERLINE camsim)")
    parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder of the binaries rawtick and rawrec")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--cameras", type=numbers, default=[10, 40, 100], metavar="N,N,…")
    parser.add_argument("--ffmpeg-cameras", type=numbers, default=[10, 40], metavar="N,N,…",
                        help="camera counts at which ffmpeg takes part, a process per camera (default: 10,40)")
    parser.add_argument("--together", action="store_true", help="all recorders at the same time, not in turns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-seconds", type=float, default=20)
    parser.add_argument("--warmup", type=float, default=8, metavar="SECONDS")
    parser.add_argument("--mbit", type=float, default=4, help="Mbit/s per camera")
    parser.add_argument("--clip", type=pathlib.Path, help="use this clip instead of making one")
    parser.add_argument("--cache", type=pathlib.Path, default=clip_cache(), help="where clips are kept")
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
    machine, results, failure, empty_mib = describe_machine(out), [], None, None
    work = out / "ingest-work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        if options.tierline:
            empty_mib = without_cameras(options, work)
        for cameras in options.cameras:
            print(f"{cameras} cameras", file=sys.stderr)
            results.append(run(options, clip.resolve(), cameras, work))
            if not options.keep:
                shutil.rmtree(work, ignore_errors=True)
    except Failed as reason:
        failure = str(reason)
        print(failure, file=sys.stderr)
    if results:
        text = report(results, empty_mib, options, machine)
        print(text)
        (out / "ingest_compare.md").write_text(text)
        draw(results, out / "ingest.svg")
        record = {"machine": machine, "mbit": options.mbit, "empty_mib": empty_mib, "results": results}
        (out / "ingest_compare.json").write_text(json.dumps(record, indent=1) + "\n")
    known = [one.get("tierline", {}).get("durability") for result in results for one in result["rounds"]]
    kept = all(one is None or one["ok"] for one in known)
    sys.exit(1 if failure or not kept else 0)


if __name__ == "__main__":
    main()
