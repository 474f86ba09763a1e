"""The picture of the console in README: `python -m tests.browser.picture` (or `make picture`) draws it, light and dark.

Chromium takes it from the running page, and ffmpeg reduces it to a palette.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from playwright.sync_api import Page, expect, sync_playwright

from broker.dev.s3 import Fault
from tests.browser.conftest import FLAGS
from tests.browser.waiting import until
from tests.support.npm import program
from tests.support.processes import ROOT
from tests.support.stack import Stack, running_stack

PICTURES = ROOT / "infra" / "pictures"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZE = (1200, 860)
COLOURS = 160
ON_ITS_WAY = 24_000_000
"""Bytes of the film whose upload is shown."""
FILMS = ("Harbour at dusk.mp4", "Rooftop concert.mp4", "Keynote.mp4")
SKY = "gradients=size=1280x720:rate=10:duration=24:speed=0.004:seed=5:nb_colors=3:c0=0x16324f:c1=0xe8985e:c2=0x7a4069"


def draw(folder: Path) -> None:
    """Write `console-light.png` and `console-dark.png` into `folder`."""
    with TemporaryDirectory() as made, sync_playwright() as playwright:
        films = _films(Path(made))
        chromium = playwright.chromium.launch(executable_path=program("chromium", "chromium-browser"), args=FLAGS)
        for scheme in SCHEMES:
            records = Path(made) / scheme
            records.mkdir()
            with running_stack(records) as stack:
                width, height = SIZE
                page = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
                page.goto(stack.broker)
                _show(page, stack, films)
                page.screenshot(path=records / "console.png")
                page.close()
            _with_palette(records / "console.png", folder / f"console-{scheme}.png")
        chromium.close()


def _films(folder: Path) -> list[Path]:
    films = [folder / name for name in FILMS]
    encoding = ["-c:v", "libx264", "-preset", "medium", "-crf", "12", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    make = [program("ffmpeg"), "-loglevel", "error", "-y", "-f", "lavfi", "-i", SKY, *encoding, str(films[0])]
    subprocess.run(make, check=True)
    films[1].write_bytes(films[0].read_bytes())
    films[2].write_bytes(films[0].read_bytes() + bytes(ON_ITS_WAY))
    return films


def _show(page: Page, stack: Stack, films: list[Path]) -> None:
    """Upload two films, play the first one, and have the third on its way."""
    page.set_input_files("#files", films[:2])
    expect(page.locator("#queue-count")).to_have_text("2 of 2 uploaded", timeout=60_000)
    expect(page.locator("#queue .row")).to_have_count(0, timeout=60_000)  # both are in the list now
    page.locator("#library").get_by_role("button", name="Play").last.click()
    until(page, "document.querySelector('video').readyState >= 2")
    page.evaluate("Object.assign(document.querySelector('video'), { currentTime: 12 }).pause()")
    until(page, "!document.querySelector('video').seeking")
    stack.s3.order_fault(Fault("PostObject", count=100, delay_seconds=5))
    page.set_input_files("#files", films[2])
    expect(page.locator("#queue")).to_contain_text(" % of ", timeout=60_000)
    page.evaluate("scrollTo(0, 0)")


def _with_palette(picture: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    palette = f"[a]palettegen=max_colors={COLOURS}:stats_mode=single[p]"
    reduce = f"split[a][b];{palette};[b][p]paletteuse=dither=bayer:bayer_scale=4"
    options = ["-frames:v", "1", "-update", "1", "-compression_level", "100", "-map_metadata", "-1"]
    command = [program("ffmpeg"), "-loglevel", "error", "-y", "-i", str(picture), "-vf", reduce, *options, str(target)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES)
