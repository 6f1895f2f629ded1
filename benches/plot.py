"""Plots as SVG, by hand: lines with their spread against a number, and panels over time that share an axis."""

import html
import math
import pathlib

WIDTH = 720
LEFT, RIGHT = 64, 150
TOP, BOTTOM = 44, 44
# Told apart by people who do not see all colours, too (Okabe and Ito).
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
BAR = "#b00020"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:14px;font-weight:600}"
    ".grid{stroke:#e4e4e4}.axis{stroke:#888}.small{font-size:11px;fill:#666}"
)


class Scale:
    """From values to pixels, evenly or by powers."""

    def __init__(self, low, high, start, end, log=False):
        self.log, self.start, self.end = log, start, end
        self.low, self.high = (math.log10(low), math.log10(high)) if log else (low, high)
        if self.high <= self.low:
            self.high = self.low + 1

    def __call__(self, value):
        value = math.log10(value) if self.log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self):
        if self.log:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            steps = [1] if self.high - self.low > 3 else [1, 2, 5]
            values = [step * 10.0**power for power in powers for step in steps]
            inside = [value for value in values if self.low - 1e-9 <= math.log10(value) <= self.high + 1e-9]
            return inside
        step = 10 ** math.floor(math.log10((self.high - self.low) / 3))
        step = next(step * by for by in (1, 2, 5, 10) if (self.high - self.low) / (step * by) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def number(value):
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == ' k' else size):g}{unit}"
    return f"{value:g}"


def text(x, y, words, anchor="start", kind=""):
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{html.escape(str(words))}</text>'


def line(x1, y1, x2, y2, kind="", colour="", dash=""):
    kind = f' class="{kind}"' if kind else f' stroke="{colour}"'
    dash = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{kind}{dash}/>'


def path_of(points, colour, width=1.8):
    way = " ".join(f"{'ML'[at > 0]}{x:.1f} {y:.1f}" for at, (x, y) in enumerate(points))
    return f'<path d="{way}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'


def axes(x, y, x_label, y_label, x_ticks=None):
    parts = []
    for tick in y.ticks():
        parts.append(line(x.start, y(tick), x.end, y(tick), "grid"))
        parts.append(text(x.start - 6, y(tick) + 4, number(tick), "end"))
    for tick in x_ticks if x_ticks is not None else x.ticks():
        parts.append(line(x(tick), y.start, x(tick), y.start + 4, "axis"))
        if x_label:
            parts.append(text(x(tick), y.start + 17, number(tick), "middle"))
    parts.append(line(x.start, y.start, x.end, y.start, "axis"))
    if x_label:
        parts.append(text((x.start + x.end) / 2, y.start + 34, x_label, "middle", "small"))
    parts.append(text(x.start, y.end - 8, y_label, "start", "small"))
    return parts


def apart(wanted, distance=14):
    """The heights of labels, moved so that none covers another."""
    placed = {}
    last = -math.inf
    for key, y in sorted(wanted.items(), key=lambda item: item[1]):
        last = placed[key] = max(y, last + distance)
    return placed


def write(file, height, parts):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    body = "\n".join([head, f"<style>{STYLE}</style>", '<rect width="100%" height="100%" fill="#fff"/>', *parts])
    pathlib.Path(file).write_text(body + "\n</svg>\n")


def lines(file, title, x_label, y_label, series, log_x=False, log_y=False, bar=None):
    """`series`: for each name its points (x, value, least, most). `bar`: (value, words)."""
    height = 380
    points = [point for of_one in series.values() for point in of_one]
    ends = [value for point in points for value in point[1:]] + ([bar[0]] if bar else [])
    xs = sorted({point[0] for point in points})
    x = Scale(xs[0] if log_x else 0, xs[-1], LEFT, WIDTH - RIGHT, log_x)
    low, high = (min(ends) / 1.3, max(ends) * 1.3) if log_y else (0, max(ends) * 1.1)
    y = Scale(low, high, height - BOTTOM, TOP + 14, log_y)
    parts = [text(LEFT, 20, title, kind="title")] + axes(x, y, x_label, y_label, xs)
    names = {}
    if bar:
        parts.append(line(x.start, y(bar[0]), x.end, y(bar[0]), colour=BAR, dash="5 4"))
        names[bar[1]] = y(bar[0]) + 4
    for name, of_one in series.items():
        names[name] = y(of_one[-1][1]) + 4
    heights = apart(names)
    if bar:
        parts.append(text(x.end + 10, heights[bar[1]], bar[1]).replace("<text", f'<text style="fill:{BAR}"'))
    for (name, of_one), colour in zip(series.items(), COLOURS):
        for at, value, least, most in of_one:
            parts.append(line(x(at), y(least), x(at), y(most), colour=colour))
            parts.append(f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>')
        parts.append(path_of([(x(at), y(value)) for at, value, _, _ in of_one], colour))
        parts.append(text(x.end + 10, heights[name], name).replace("<text", f'<text style="fill:{colour}"'))
    write(file, height, parts)


def panels(file, title, x_label, rows, events):
    """One panel below the other over the same x. `rows`: (label, {name: [(x, value)]}); `events`: (x, end, words)."""
    panel, space = 120, 34
    top = TOP + 14
    height = top + len(rows) * (panel + space) + 20
    xs = [at for _, series in rows for of_one in series.values() for at, _ in of_one]
    x = Scale(0, max(xs), LEFT, WIDTH - RIGHT)
    bottom = top + len(rows) * (panel + space) - space
    parts = [text(LEFT, 20, title, kind="title")]
    for at, end, words in events:
        width = max(x(end) - x(at), 1.5)
        parts.append(
            f'<rect x="{x(at):.1f}" y="{top - 14}" width="{width:.1f}" height="{bottom - top + 14}" '
            f'fill="{BAR}" opacity="0.22"/>'
        )
        parts.append(text(x(at), top - 18, words, "middle", "small"))
    for number_of, (label, series) in enumerate(rows):
        low = top + number_of * (panel + space)
        most = max((value for of_one in series.values() for _, value in of_one), default=1)
        y = Scale(0, (most or 1) * 1.1, low + panel, low + 10)
        parts += axes(x, y, x_label if number_of == len(rows) - 1 else "", label)
        heights = apart({name: y(of_one[-1][1]) + 4 for name, of_one in series.items() if of_one})
        for (name, of_one), colour in zip(series.items(), COLOURS):
            if of_one:
                parts.append(path_of([(x(at), y(value)) for at, value in of_one], colour, 1.2))
                label_of = text(x.end + 10, heights[name], name)
                parts.append(label_of.replace("<text", f'<text style="fill:{colour}"'))
    write(file, height, parts)
