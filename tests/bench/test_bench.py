"""The benchmark still runs: ours and the bare handler, for a moment. No time is judged here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.generator import PROGRAM
from tests.bench.growth import Point
from tests.bench.plot import draw
from tests.bench.rounds import Spread
from tests.bench.workplace import ROOT

SHORT = ("--quick", "--rounds", "1", "--seconds", "0.5", "--parts", "comparison", "--only", "bare", "--no-postgresql")


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """Return where one short run wrote its figures."""
    if shutil.which(PROGRAM) is None:
        reason = f"this machine has no {PROGRAM} (Debian: nghttp2-client)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    path = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *SHORT, "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return path


def test_the_benchmark_measures_both_rows_and_every_request_is_answered(figures: Path) -> None:
    rows = json.loads(figures.read_text())["rows"]
    assert {row: [line["name"] for line in lines] for row, lines in rows.items()} == {
        row: ["broker, SQLite", "bare ASGI"] for row in ("issue", "playback")
    }
    for line in (line for lines in rows.values() for line in lines):
        assert line["failures"] == 0
        assert line["rate"] > 0
        assert line["cpu_microseconds"] > 0
        assert line["p99"] >= line["p50"] > 0


def test_the_ablation_measures_a_shortcut_with_and_without() -> None:
    command = [sys.executable, "-m", "tests.bench.ablation", "signer", "--rounds=1", "--requests=64"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["shortcut", "signer"]


def test_the_plot_has_a_panel_for_each_axis_and_a_line_for_each_curve() -> None:
    points = [
        Point(axis, curve, at, rate=Spread(at * 90, at * 100, at * 110), p99=1.0, failures=0)
        for axis in ("connections", "rows")
        for curve in ("issue, SQLite", "issue, PostgreSQL")
        for at in (1, 16)
    ]
    drawn = draw(points)
    assert drawn.count("<polyline") == 4
    assert drawn.count("<circle") == 8
    assert ">requests per second, by rows<" in drawn
