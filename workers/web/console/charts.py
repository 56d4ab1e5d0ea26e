"""Draws charts as inline SVG: bars for daily numbers, lines for durations."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from workers.web.console.queries.figures import Day, Speed
from workers.web.console.rendering import number, span

WIDTH, HEIGHT, BASE, TOP = 560, 150, 126, 18


def bars(days: Sequence[Day], what: str) -> Markup:
    """Return a bar chart with one bar a day. `what` names the counted things."""
    most = max((day.number for day in days), default=0)
    total = sum(day.number for day in days)
    label = f"{what}: {number(total)} in {len(days)} days, at most {number(most)} a day"
    step = WIDTH / max(len(days), 1)
    parts = []
    for place, day in enumerate(days):
        height = (BASE - TOP) * day.number / most if most else 0
        parts.append(
            Markup(
                '<g><title>{0}: {1}</title><rect class="hit" x="{2:.1f}" y="0" width="{3:.1f}" height="{4}"/>'
                '<rect class="bar" x="{5:.1f}" y="{6:.1f}" width="{7:.1f}" height="{8:.1f}"/></g>'
            ).format(
                *(day.day, number(day.number), place * step, step, BASE),
                *(place * step + step * 0.12, BASE - height, step * 0.76, height),
            )
        )
    ends = _ends(days[0].day, days[-1].day) if days else Markup("")
    return _svg(label, _grid(number(most)) + Markup("").join(parts) + ends)


def lines(speeds: Sequence[Speed]) -> Markup:
    """Return a line chart of how long it took to disable tokens: median and 95th percentile of each day."""
    most = max((speed.p95 for speed in speeds), default=0.0)
    newest = f", on {speeds[-1].day} {span(speeds[-1].p50)} and {span(speeds[-1].p95)}" if speeds else ""
    label = f"Time from public to disabled, median and 95th percentile{newest}"
    step = WIDTH / max(len(speeds), 1)
    spots, tops, middles = [], [], []
    for place, speed in enumerate(speeds):
        x = (place + 0.5) * step
        high, middle = (BASE - (BASE - TOP) * value / most if most else BASE for value in (speed.p95, speed.p50))
        tops.append(f"{x:.1f},{high:.1f}")
        middles.append(f"{x:.1f},{middle:.1f}")
        spots.append(
            Markup(
                "<g><title>{0}: median {1}, 95th percentile {2}, {3} incidents</title>"
                '<rect class="hit" x="{4:.1f}" y="0" width="{5:.1f}" height="{6}"/>'
                '<circle class="dot p95" cx="{7:.1f}" cy="{8:.1f}" r="3"/>'
                '<circle class="dot p50" cx="{7:.1f}" cy="{9:.1f}" r="3"/></g>'
            ).format(
                *(speed.day, span(speed.p50), span(speed.p95), number(speed.number)),
                *(place * step, step, BASE, x, high, middle),
            )
        )
    drawn = Markup('<polyline class="line p95" points="{0}"/><polyline class="line p50" points="{1}"/>').format(
        " ".join(tops), " ".join(middles)
    )
    ends = _ends(speeds[0].day, speeds[-1].day) if speeds else Markup("")
    return _svg(label, _grid(span(most)) + drawn + Markup("").join(spots) + ends)


def _grid(most: str) -> Markup:
    return Markup(
        '<line class="grid" x1="0" y1="{0}" x2="{1}" y2="{0}"/><line class="grid" x1="0" y1="{2}" x2="{1}" y2="{2}"/>'
        '<text class="tick" x="{1}" y="{3}" text-anchor="end">{4}</text>'
    ).format(BASE, WIDTH, TOP, TOP - 5, most)


def _ends(first: str, last: str) -> Markup:
    return Markup(
        '<text class="tick" x="0" y="{0}">{1}</text><text class="tick" x="{2}" y="{0}" text-anchor="end">{3}</text>'
    ).format(HEIGHT - 4, first, WIDTH, last)


def _svg(label: str, content: Markup) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}</svg>').format(
        WIDTH, HEIGHT, label, content
    )
