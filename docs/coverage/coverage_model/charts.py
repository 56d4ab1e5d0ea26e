"""The two charts as SVG. They are readable in light and dark mode, have labels for screen readers, and need no script
or fonts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from coverage_model.results import Results
from coverage_model.sources import WEEK
from coverage_model.words import percent

WIDTH, HEIGHT = 800, 440
LEFT, RIGHT, TOP, BOTTOM = 62, 570, 92, 384
LABEL_GAP = 17.0
"""The minimum distance between two labels, in pixels."""

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.quiet { fill: #57606a; font-size: 12px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.paper { fill: #ffffff; stroke: #d0d7de; }
.grid { stroke: #d8dee4; }
.own { fill: #eef1f4; }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.later { stroke-dasharray: 7 4; }
.lead { fill: none; stroke-width: 1; }
.grey { stroke: #6e7781; } .blue { stroke: #1f5fd0; } .green { stroke: #0f7b6c; }
.orange { stroke: #b8500f; } .violet { stroke: #7b3fc4; } .ink { stroke: #57606a; }
.dot { fill: #ffffff; stroke-width: 2.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #9da7b3; }
  .paper { fill: #0d1117; stroke: #30363d; }
  .grid { stroke: #262c34; }
  .own { fill: #1a2029; }
  .grey { stroke: #8b949e; } .blue { stroke: #6aa5ff; } .green { stroke: #3fc4ae; }
  .orange { stroke: #f0954f; } .violet { stroke: #b58cf5; } .ink { stroke: #9da7b3; }
  .dot { fill: #0d1117; }
}
""".strip()


@dataclass(frozen=True)
class Line:
    """A curve: its points in pixels, and the label at its right end. `look` names classes of STYLE."""

    label: str
    look: str
    points: tuple[tuple[float, float], ...]


def firehose_chart(results: Results) -> str:
    """Draw the share of the firehose against the number of installations."""
    shares, most = results.shares, results.inputs.simulation.most_installations

    def x(count: float) -> float:
        return LEFT + 14 + (count - 1) / max(1, most - 1) * (RIGHT - LEFT - 14)

    kinds = (
        ("evenly spread", "green", shares.staggered),
        ("uncoordinated", "blue", shares.uncoordinated),
        ("one list for all", "grey", shares.same_windows),
    )
    lines = []
    for label, colour, values in kinds:
        for more, look in ((True, f"{colour} later"), (False, colour)):
            points = [results.with_archive(share) if more else share for share in values]
            lines.append(
                Line(
                    f"{label}{', archive' if more else ''}: {percent(points[-1])}",
                    look,
                    tuple((x(number + 1), _y(share)) for number, share in enumerate(points)),
                )
            )
    single = shares.uncoordinated[0]
    archive = results.with_archive(single)
    body = [
        f'<rect class="own" x="{LEFT}" y="{TOP}" width="28" height="{BOTTOM - TOP}"/>',
        *_grid(),
        *(_tick(x(count), str(count)) for count in sorted({1, 2, 5, 10, 15, most}) if count <= most),
        f'<text class="quiet middle" x="{(LEFT + RIGHT) / 2:.0f}" y="424">'
        "N, separate installations that poll /events</text>",
        *_key(),
        *_curves(lines),
        *(f'<circle class="dot {look}" cx="{x(1):.1f}" cy="{_y(share):.1f}" r="4.5"/>'
          for look, share in (("ink", single), ("ink", archive))),
        f'<text x="{LEFT + 34}" y="{_y(single) + 14:.1f}">one operator: {percent(single)}</text>',
        f'<text x="{LEFT + 34}" y="{_y(archive) + 18:.1f}">{percent(archive)}</text>',
    ]  # fmt: skip
    description = (
        f"One installation sees {percent(single)} within minutes and {percent(archive)} with the archive. "
        + _description(f"With {most}", lines)
        + " The lines of pollers that are all shown one list stay flat."
    )
    return _svg("Share of GitHub's public events seen", "by N installations, and with the archive", description, body)


def delay_chart(results: Results) -> str:
    """Draw the share of all leaks that are disabled against the time since the leak."""
    first, last = 10.0, WEEK

    def x(seconds: float) -> float:
        return LEFT + math.log(seconds / first) / math.log(last / first) * (RIGHT - LEFT)

    looks = {
        "all sources": "violet",
        "partner alerts alone": "orange",
        "all that is polled, N = 5": "green later",
        "all that is polled": "green",
        "public events, archive": "blue",
        "public events": "grey",
    }
    lines = []
    for name, look in looks.items():
        found = results.named(name).delays
        steps = [first * (last / first) ** (number / 240) for number in range(241)]
        points = tuple((x(seconds), _y(found.share_within(seconds))) for seconds in steps)
        lines.append(Line(f"{name}: {percent(found.share_within(last))}", look, points))
    ticks = {10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 21600: "6 h", 86400: "1 day", WEEK: "a week"}
    body = [
        *_grid(),
        *(_tick(x(seconds), label) for seconds, label in ticks.items()),
        f'<text class="quiet middle" x="{(LEFT + RIGHT) / 2:.0f}" y="424">'
        "time since the token became public, logarithmic</text>",
        *_curves(lines),
    ]
    description = _description("After a week", lines)
    return _svg("Share of leaked tokens disabled", "by the sources that are on", description, body)


def _svg(title: str, subtitle: str, description: str, body: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'role="img" aria-labelledby="title description">',
            f'<title id="title">{escape(title)}, {escape(subtitle)}</title>',
            f'<desc id="description">{escape(description)}</desc>',
            f"<style>\n{STYLE}\n</style>",
            f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="6"/>',
            f'<text class="title" x="24" y="32">{escape(title)}</text>',
            f'<text class="quiet" x="24" y="52">{escape(subtitle)}; a model, not a measurement</text>',
            *body,
            "</svg>",
            "",
        ]
    )


def _description(beginning: str, lines: Sequence[Line]) -> str:
    return f"{beginning}: {'; '.join(line.label for line in lines)}."


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


def _grid() -> list[str]:
    parts = []
    for quarter in range(5):
        at = _y(quarter / 4)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{RIGHT}" y2="{at:.1f}"/>')
        parts.append(f'<text class="quiet end" x="{LEFT - 8}" y="{at + 4:.1f}">{25 * quarter} %</text>')
    return parts


def _tick(at: float, label: str) -> str:
    return f'<text class="quiet middle" x="{at:.1f}" y="{BOTTOM + 19}">{escape(label)}</text>'


def _key() -> list[str]:
    """Draw the key: the meaning of solid and dashed lines."""
    parts = []
    meanings = (("ink", "within minutes"), ("ink later", "after about an hour, with the event archive"))
    for left, (look, label) in zip((LEFT, LEFT + 160), meanings, strict=True):
        parts.append(f'<line class="line {look}" x1="{left}" y1="72" x2="{left + 34}" y2="72"/>')
        parts.append(f'<text class="quiet" x="{left + 42}" y="76">{label}</text>')
    return parts


def _curves(lines: Sequence[Line]) -> list[str]:
    """Draw the lines, and their labels beside their ends. Move labels apart if they would overlap."""
    parts = []
    for line in lines:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line.points)
        parts.append(f'<polyline class="line {line.look}" points="{path}"/>')
    for line, at in zip(lines, label_heights([line.points[-1][1] for line in lines]), strict=True):
        end = line.points[-1][1]
        colour = line.look.split()[0]
        parts.append(f'<polyline class="lead {colour}" points="{RIGHT + 2},{end:.1f} {RIGHT + 10},{at:.1f}"/>')
        parts.append(f'<text x="{RIGHT + 14}" y="{at + 4.5:.1f}">{escape(line.label)}</text>')
    return parts


def label_heights(wanted: Sequence[float]) -> list[float]:
    """Return heights for the labels, as near to the wanted ones as possible.

    They keep their order, are LABEL_GAP apart, and stay inside the plot's frame.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    heights = list(wanted)
    for before, after in pairwise(order):
        heights[after] = max(heights[after], heights[before] + LABEL_GAP)
    lowest = float(BOTTOM)
    for index in reversed(order):
        heights[index] = min(heights[index], lowest)
        lowest = heights[index] - LABEL_GAP
    return heights
