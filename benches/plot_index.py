#!/usr/bin/env python3
"""Draws what `cargo bench --bench index` measured: the latency of a seek against the number of rows.

    benches/plot_index.py target/bench/index.json target/bench/index.svg
"""

import json
import statistics
import sys

import plot

BAR_US = 50


def points(figures, what):
    """(rows, median, least, most) of a figure at every size."""
    found = [figure for figure in figures if figure["what"] == what]
    return [(one["rows"], statistics.median(one["values"]), min(one["values"]), max(one["values"])) for one in found]


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        figures = json.load(file)["figures"]
    own = "segment at an instant, its own cache"
    series = {
        "p50": points(figures, f"{own}, p50"),
        "p99": points(figures, f"{own}, p99"),
        "p50, as filled": points(figures, "segment at an instant, as filled, p50"),
        "p99, as filled": points(figures, "segment at an instant, as filled, p99"),
    }
    title = "Segment at an instant"
    plot.lines(target, title, "segments in the index", "µs", series, log_x=True, log_y=True, bar=(BAR_US, "bar for p99"))


if __name__ == "__main__":
    main()
