"""What a service told during a long run, and whether all of it is still true at the end.

Claims are taken outside the service. Judging them is pure: what was told, and what is there now, go in; findings come
out. Times are seconds since 1970.
"""

import dataclasses
import statistics

GROWTH_MAX = 1.15
RSS_SLACK_MIB = 8
FILES_SLACK = 12
# Time stamps have microseconds; a float of seconds since 1970 has a quarter of one.
TOUCH_SECONDS = 2e-6


@dataclasses.dataclass(frozen=True)
class Fragment:
    """A fragment that was read, by the hash of its bytes."""

    camera: str
    start: float
    end: float
    sha256: str


class Claims:
    """Everything that the service told."""

    def __init__(self):
        self.durable = {}
        self.first = {}
        self.fragments = []
        self.taken_back = []

    def told(self, camera, durable_until):
        before = self.durable.get(camera)
        if before is not None and durable_until < before:
            self.taken_back.append(f"{camera} was durable until {before:.6f} and then until {durable_until:.6f}")
        self.first.setdefault(camera, durable_until)
        self.durable[camera] = max(durable_until, before or 0)

    def read(self, fragment):
        self.fragments.append(fragment)

    def exaggerated(self, seconds):
        """The same as if each camera had been told to be durable for longer: the judge must find it missing."""
        more = Claims()
        more.first = dict(self.first)
        more.durable = {camera: until + seconds for camera, until in self.durable.items()}
        return more


def joined(spans):
    """Spans in order, made one where they touch."""
    whole = []
    for start, end in sorted(spans):
        if whole and start <= whole[-1][1] + TOUCH_SECONDS:
            whole[-1][1] = max(whole[-1][1], end)
        else:
            whole.append([start, end])
    return whole


def missing(claims, timelines):
    """What was told as durable and is neither recorded nor deleted by a rule. `timelines`: (runs, gaps) by camera,
    runs as (start, end), gaps as (start, end, cause)."""
    found = list(claims.taken_back)
    for camera, until in sorted(claims.durable.items()):
        runs, gaps = timelines.get(camera, ([], []))
        kept = runs + [(start, end) for start, end, cause in gaps if cause == "retention"]
        if not any(start < until <= end + TOUCH_SECONDS for start, end in joined(kept)):
            found.append(f"{camera} was durable until {until:.6f}, which is not there")
    return found


def holes(claims, timelines):
    """Time between the first and the last instant of a camera that is neither recorded nor a gap, or is both twice."""
    found = []
    for camera, (runs, gaps) in sorted(timelines.items()):
        spans = runs + [(start, end) for start, end, _ in gaps]
        begin, end = claims.first.get(camera), claims.durable.get(camera)
        if begin is None:
            found.append(f"{camera} was never durable")
            continue
        at = begin
        for start, stop in joined(spans):
            if start > at + TOUCH_SECONDS and at < end:
                found.append(f"{camera}: {at:.6f} to {min(start, end):.6f} is neither recorded nor a gap")
            at = max(at, stop)
        if at + TOUCH_SECONDS < end:
            found.append(f"{camera}: nothing is known after {at:.6f}, before {end:.6f}")
        ordered = sorted(runs)
        for (_, before), (after, _) in zip(ordered, ordered[1:]):
            if after + TOUCH_SECONDS < before:
                found.append(f"{camera}: runs overlap at {after:.6f}")
    return found


def unexplained(timelines, events):
    """Gaps that no event of the run explains. `events`: (start, end, causes)."""
    found = []
    for camera, (_, gaps) in sorted(timelines.items()):
        for start, end, cause in gaps:
            if cause == "retention":
                continue
            if not any(cause in causes and start <= stop and end >= begin for begin, stop, causes in events):
                found.append(f"{camera}: a gap {start:.3f} to {end:.3f} ({cause}) that nothing explains")
    return found


def causes(timelines):
    """Seconds without media by cause, of all cameras."""
    total = {}
    for _, gaps in timelines.values():
        for start, end, cause in gaps:
            total[cause] = total.get(cause, 0) + end - start
    return {cause: round(seconds, 3) for cause, seconds in sorted(total.items())}


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] if ordered else None


def flat(series, slack):
    """Medians of the first and the last quarter of (time, value), and whether the last is hardly more."""
    values = [value for _, value in series]
    if len(values) < 8:
        return {"first": None, "last": None, "flat": False}
    quarter = len(values) // 4
    first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    return {"first": first, "last": last, "flat": last <= first * GROWTH_MAX + slack}


def controls(claims, timelines, series):
    """What must fail, so that the judges are known to see: footage told that is not there, a hole, and a leak."""
    lying = missing(claims.exaggerated(3600), timelines)
    retained = lambda gaps: [gap for gap in gaps if gap[2] == "retention"]
    hollow = {camera: (runs, retained(gaps)) for camera, (runs, gaps) in timelines.items()}
    leak = [(at, value * (1 + 0.6 * number / len(series))) for number, (at, value) in enumerate(series)]
    leaking = flat(leak, RSS_SLACK_MIB)
    return {
        "claims of an hour more": len(lying),
        "timelines without the gaps of the events": len(holes(claims, hollow)),
        "memory that grows by 60 %": leaking,
        "all_failed": len(lying) == len(claims.durable) > 0
        and len(holes(claims, hollow)) > 0
        and not leaking["flat"],
    }
