"""What the comparisons and the long run share: processes that leave nothing behind, the figures of a process,
cameras to record, and what a running service says of itself."""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
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
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20


class Failed(Exception):
    """The run cannot give a valid result; the text says why."""


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


@dataclasses.dataclass
class Usage:
    """Totals of some processes at one time."""

    cpu_ms: float = 0
    switches: int = 0
    rss_mib: float = 0
    files: int = 0
    threads: int = 0


def usage(pids):
    total = Usage()
    for pid in pids:
        proc = pathlib.Path("/proc") / str(pid)
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        total.cpu_ms += (int(fields[11]) + int(fields[12])) * 1000 / TICKS_PER_SECOND
        for task in (proc / "task").iterdir():
            try:
                status = (task / "status").read_text()
            except OSError:
                continue  # the thread has just ended
            total.threads += 1
            total.switches += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])
        rollup = (proc / "smaps_rollup").read_text()
        total.rss_mib += int(re.search(r"^Rss:\s+(\d+)", rollup, re.M)[1]) / 1024
        total.files += sum(1 for _ in (proc / "fd").iterdir())
    return total


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


def serve_config(directory, farm_url, cameras, more=()):
    """A configuration that records cameras 0 to `cameras` less one; `more` are further lines."""
    lines = [f'data_dir = "{directory / "data"}"', "", "[http]", 'listen = "127.0.0.1:0"', "", *more]
    for number in range(cameras):
        lines += ["", "[[cameras]]", f'id = "{camera_name(number)}"', f'name = "Camera {number}"', ""]
        lines += ["[[cameras.streams]]", 'name = "main"', f'url = "{farm_url}{number}"', 'transport = "tcp"']
    path = directory / "tierline.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def start_cameras(farm, tierline, cameras, clip, command=None):
    """Simulated cameras; returns their process and the address to which a camera's number is added."""
    port = free_port()
    command = command or [tierline, "camsim"]
    options = ["--listen", f"127.0.0.1:{port}", "--cameras", max(cameras, 1), "--clip", clip]
    process = farm.start("camsim", [*command, *options])
    wait_for_port(process, port)
    return process, f"rtsp://127.0.0.1:{port}/cam/"


def start_service(farm, tierline, config, name="tierline"):
    """The service and the address of its API."""
    process = farm.start(name, [tierline, "serve", "--config", config])
    return process, wait_for(process, r"listening on (http://\S+)")[1]


def fetch(api, path, timeout=10):
    with urllib.request.urlopen(api + path, timeout=timeout) as answer:
        return json.load(answer)


def camera_name(number):
    return f"cam{number:04}"


def time_of(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def main_stream(api, camera):
    """What the status of a camera says of its stream `main`."""
    streams = fetch(api, f"/api/v1/cameras/{camera}/status")["streams"]
    return next(stream for stream in streams if stream["stream"] == "main")


def durable_lags(api, cameras):
    """How long ago the durable end of each camera is, in seconds, and what is wrong with the others."""
    lags, idle = [], []
    for number in range(cameras):
        camera = camera_name(number)
        try:
            stream = main_stream(api, camera)
        except (OSError, ValueError, KeyError, StopIteration) as error:
            idle.append(f"the status of {camera} cannot be had: {error!r}")
            continue
        if stream["state"] != "recording":
            idle.append(f"{camera} is {stream['state']}")
        elif not stream.get("durable_until"):
            idle.append(f"{camera} has nothing durable")
        else:
            lags.append(time.time() - time_of(stream["durable_until"]))
    return lags, idle


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


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


def machine_line(machine):
    return f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['file_system']}"


def clip_cache():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "tierline" / "clips"
