"""README's picture of the console: it can be drawn from the running page, and is small."""

import re
import struct
from pathlib import Path

from tests.browser.picture import PICTURES, SCHEMES, SIZE, draw
from tests.support.processes import ROOT

MAX_BYTES = 150_000
PALETTE = 3
"""The colour type of an image with a palette (RFC 2083, section 4.1.1)."""


def header(picture: Path) -> tuple[int, int, int]:
    """Return a PNG's width, height and colour type."""
    width, height, _, colours = struct.unpack(">4x4xII2B", picture.read_bytes()[8:26])
    return width, height, colours


def test_readme_shows_a_picture_for_each_scheme() -> None:
    shown = re.findall(r'(?:srcset|src)="(infra/pictures/[^"]+)"', (ROOT / "README.md").read_text("utf-8"))
    pictures = {ROOT / path for path in shown}
    assert pictures == {PICTURES / f"console-{scheme}.png" for scheme in SCHEMES} == set(PICTURES.iterdir())
    for picture in pictures:
        assert header(picture) == (*SIZE, PALETTE)
        assert picture.stat().st_size < MAX_BYTES


def test_the_pictures_are_drawn_from_the_running_page(tmp_path: Path) -> None:
    draw(tmp_path)
    for scheme in SCHEMES:
        picture = tmp_path / f"console-{scheme}.png"
        assert header(picture) == (*SIZE, PALETTE)
        assert picture.stat().st_size < MAX_BYTES
