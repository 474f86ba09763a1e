"""A plot of how the broker grows, drawn as SVG: a panel for each axis, logarithmic from left to right."""

from collections.abc import Sequence
from html import escape
from math import log10

from tests.bench.growth import Point

WIDTH, HEIGHT = 330, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 34, 40
COLOURS = ("#0b62a4", "#c2410c", "#15803d", "#7e22ce")
STYLE = "font-family:system-ui,sans-serif;font-size:11px;fill:#222"


def draw(points: Sequence[Point]) -> str:
    """Return an SVG with one panel for each axis that the points have."""
    axes = list(dict.fromkeys(point.axis for point in points))
    curves = list(dict.fromkeys(point.curve for point in points))
    colours = {curve: COLOURS[number % len(COLOURS)] for number, curve in enumerate(curves)}
    highest = max(point.rate.high for point in points) * 1.1
    panels = [
        f'<g transform="translate({number * WIDTH},0)">{_panel(axis, points, colours, highest)}</g>'
        for number, axis in enumerate(axes)
    ]
    width, height = WIDTH * len(axes), HEIGHT + 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Requests per second by {escape(", ".join(axes))}" style="{STYLE}">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(panels) + f"\n{_legend(colours)}\n</svg>\n"
    )


def _panel(axis: str, points: Sequence[Point], colours: dict[str, str], highest: float) -> str:
    own = [point for point in points if point.axis == axis]
    places = sorted({point.at for point in own})

    def x(at: int) -> float:
        low, high = log10(places[0]), log10(places[-1])
        return LEFT + (WIDTH - LEFT - RIGHT) * ((log10(at) - low) / (high - low) if high > low else 0.5)

    def y(rate: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - rate / highest)

    marks = [_text(WIDTH / 2, 18, f"requests per second, by {axis}", "middle", bold=True)]
    for rate in _ticks(highest):
        marks.append(f'<path d="M{LEFT} {y(rate):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        marks.append(_text(LEFT - 6, y(rate) + 4, f"{rate:,.0f}", "end"))
    marks += [_text(x(at), HEIGHT - BOTTOM + 18, f"{at:,}", "middle") for at in places]
    for curve, colour in colours.items():
        found = sorted((point for point in own if point.curve == curve), key=lambda point: point.at)
        if not found:
            continue
        line = " ".join(f"{x(point.at):.1f},{y(point.rate.middle):.1f}" for point in found)
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in found:
            marks.append(f'<circle cx="{x(point.at):.1f}" cy="{y(point.rate.middle):.1f}" r="3" fill="{colour}"/>')
            marks.append(
                f'<path d="M{x(point.at):.1f} {y(point.rate.low):.1f}V{y(point.rate.high):.1f}" stroke="{colour}"/>'
            )
    return "".join(marks)


def _legend(colours: dict[str, str]) -> str:
    return "".join(
        f'<rect x="{LEFT + number * 170}" y="{HEIGHT + 6}" width="12" height="4" fill="{colour}"/>'
        + _text(LEFT + 18 + number * 170, HEIGHT + 12, curve, "start")
        for number, (curve, colour) in enumerate(colours.items())
    )


def _ticks(highest: float) -> list[float]:
    """Return round numbers from nought to at most `highest`, five or so."""
    rough = highest / 5
    unit = 10.0 ** int(log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(int(highest / step) + 1)]


def _text(x: float, y: float, words: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
