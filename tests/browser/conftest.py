"""Chromium, and the servers for its pages."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.npm import program
from tests.support.stack import Stack, running_stack

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run the machine's Chromium, headless.

    It stops with its module. Until then, Playwright's event loop runs in this thread, so no other test could run one.
    """
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program("chromium", "chromium-browser"), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run one stack for all tests."""
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Iterator[Stack]:
    """Return the stack, and reset its faults and clocks afterwards."""
    yield shared_stack
    shared_stack.s3.clear_faults()
    shared_stack.s3.set_clock(0)
    shared_stack.clock.ahead *= 0


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Open a fresh browser context."""
    fresh = browser.new_context()
    fresh.set_default_timeout(60_000)
    yield fresh
    fresh.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Open a page; a script error or a violation of its Content-Security-Policy fails the test."""
    problems: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda line: problems.append(line.text) if "Content Security Policy" in line.text else None)
    yield opened
    assert problems == []


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a playable mp4 of 20 seconds and some hundred kilobytes."""
    return _film(tmp_path_factory.mktemp("films") / "harbour.mp4", "640x360", 20)


@pytest.fixture(scope="session")
def long_film(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an mp4 of three minutes, which a browser does not load completely before it plays."""
    path = tmp_path_factory.mktemp("films") / "concert.mp4"
    again = ["-stream_loop", "8", "-i", str(film), "-c", "copy", "-movflags", "+faststart"]
    subprocess.run([program("ffmpeg"), "-loglevel", "error", "-y", *again, path], check=True)
    return path


@pytest.fixture
def films(film: Path, tmp_path: Path) -> list[Path]:
    """Return three files of the same film."""
    copies = [tmp_path / f"part {number}.mp4" for number in (1, 2, 3)]
    for copy in copies:
        copy.write_bytes(film.read_bytes())
    return copies


@pytest.fixture(scope="session")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a function that makes a file of a given size, named as an mp4."""
    folder = tmp_path_factory.mktemp("files")

    def make(size: int) -> Path:
        path = folder / f"{size}.mp4"
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return make


def _film(path: Path, size: str, seconds: int) -> Path:
    source = f"testsrc2=size={size}:rate=25:duration={seconds}"
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-movflags", "+faststart"]
    command = [program("ffmpeg"), "-loglevel", "error", "-y", "-f", "lavfi", "-i", source, *encoding, str(path)]
    subprocess.run(command, check=True)
    return path
