"""The report: tables in plain text or Markdown, and everything as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tests.bench.comparison import Footprint, Line
from tests.bench.growth import Kept, Point
from tests.bench.rounds import Spread
from tests.bench.servers import Contender

ROWS = {"issue": "POST /upload", "playback": "GET /{id}"}


@dataclass(slots=True)
class Report:
    """Hold what one run found."""

    machine: str
    how: str
    contenders: list[Contender] = field(default_factory=list)
    lines: dict[str, list[Line]] = field(default_factory=dict)
    footprints: list[Footprint] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    load_averages: list[float] = field(default_factory=list)

    def as_json(self) -> str:
        """Return all figures as JSON."""
        found = {
            "machine": self.machine,
            "how": self.how,
            "load_averages": self.load_averages,
            "contenders": [
                {"name": one.name, "does": one.does, "leaves_out": one.leaves_out} for one in self.contenders
            ],
            "rows": {row: [asdict(line) for line in lines] for row, lines in self.lines.items()},
            "footprints": [asdict(one) for one in self.footprints],
            "growth": [asdict(one) for one in self.points],
            "kept": [asdict(one) for one in self.kept],
        }
        return json.dumps(found, indent=2)

    def as_text(self, *, markdown: bool) -> str:
        """Return the tables."""
        table = _markdown if markdown else _plain
        parts = [
            f"{self.machine}. {self.how} Load average of the minute before: "
            + ", ".join(f"{one:.1f}" for one in self.load_averages)
            + "."
        ]
        for row, lines in self.lines.items():
            parts += [_heading(ROWS[row], markdown), table(*_comparison(lines))]
        if self.footprints:
            parts += [_heading("Memory and start", markdown), table(*_footprints(self.footprints))]
        if self.kept:
            parts += [_heading("1,024 connections", markdown), table(*_kept(self.kept))]
        if self.points:
            parts += [_heading("Growth", markdown), table(*_growth(self.points))]
        header = ["server", "does", "leaves out"]
        parts += [
            _heading("What each does", markdown),
            table(header, [[one.name, one.does, one.leaves_out] for one in self.contenders])
            if markdown
            else "\n".join(f"{one.name}: {one.does}. Leaves out: {one.leaves_out}." for one in self.contenders),
        ]
        return "\n\n".join(parts) + "\n"


def _comparison(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    ours = list(lines[0].ours_by_it)
    header = ["server", "requests/s", *(f"{one} ÷ it" for one in ours[:2])]
    header += ["p50 ms", "p99 ms", "half: p50", "half: p99", *(f"p99 of {one} ÷ it, full; half" for one in ours[:1])]
    header += ["CPU µs/request", "not 2xx"]
    return header, [
        [
            line.name,
            f"{line.rate:,.0f}",
            *(_spread(line.ours_by_it[one]) for one in ours[:2]),
            *(f"{value:.1f}" for value in (line.p50, line.p99, line.p50_half, line.p99_half)),
            *(f"{line.p99_by_it[one].middle:.2f}; {line.p99_half_by_it[one].middle:.2f}" for one in ours[:1]),
            f"{line.cpu_microseconds:.0f}",
            str(line.failures),
        ]
        for line in lines
    ]


def _footprints(found: Sequence[Footprint]) -> tuple[list[str], list[list[str]]]:
    steps = sorted({step for one in found for step in one.mebibytes})
    ours = found[0]
    header = [
        "server",
        "first 2xx after s",
        *(f"RSS MiB after {step:,}" for step in steps),
        f"RSS of {ours.name} ÷ it, after {steps[0]:,}",
    ]
    return header, [
        [
            one.name,
            f"{one.cold_start:.2f}",
            *(f"{one.mebibytes[step]:.0f}" if step in one.mebibytes else "–" for step in steps),
            f"{ours.mebibytes[steps[0]] / one.mebibytes[steps[0]]:.2f}",
        ]
        for one in found
    ]


def _kept(found: Sequence[Kept]) -> tuple[list[str], list[list[str]]]:
    return ["server", "asked", "answered 201", "recorded", "p99 ms"], [
        [one.name, f"{one.asked:,}", f"{one.answered:,}", f"{one.recorded:,}", f"{one.p99:.0f}"] for one in found
    ]


def _growth(points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    return ["by", "", "curve", "requests/s (quartiles)", "p99 ms", "not 2xx"], [
        [
            point.axis,
            f"{point.at:,}",
            point.curve,
            f"{point.rate.middle:,.0f} ({point.rate.low:,.0f}–{point.rate.high:,.0f})",
            f"{point.p99:.1f}",
            str(point.failures),
        ]
        for point in points
    ]


def _spread(spread: Spread) -> str:
    return f"{spread.middle:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def _heading(words: str, markdown: bool) -> str:
    if not markdown:
        return "\n".join([words, "-" * len(words)])
    return f"### `{words}`" if "/" in words else f"### {words}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in (header, *rows)
    )
