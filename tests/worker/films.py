"""Films of every kind, made by ffmpeg once for all tests."""

import struct
import subprocess
from pathlib import Path

from tests.support.npm import program

TEST_CARD = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def film(folder: Path, name: str, *arguments: str, seconds: float = 2) -> Path:
    """Make a film with these options of ffmpeg; it is left alone where it was made before."""
    path = folder / name
    if not path.exists():
        command = [program("ffmpeg"), "-v", "error", "-y", *TEST_CARD, "-t", str(seconds), *arguments, str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def rotated(path: Path, degrees: int, name: str) -> Path:
    """Return a copy of an mp4 whose track is displayed rotated clockwise, as phones write it.

    Source: ISO/IEC 14496-12, section 8.3.2 (track header box): the matrix follows 40 bytes of other fields.
    """
    turns = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = (turn << 16 for turn in turns[degrees])
    content = bytearray(path.read_bytes())
    struct.pack_into(">9i", content, content.index(b"tkhd") + 4 + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    copy = path.parent / name
    copy.write_bytes(content)
    return copy


def padded(path: Path, size: int) -> Path:
    """Return an mp4 of a minute and of this size whose index (moov) lies at its end, behind a box of free space.

    Source: ISO/IEC 14496-12, section 8.1.2 (free space box).
    """
    content = film(path.parent, "minute.mp4", *H264, seconds=60).read_bytes()
    index_at = content.rindex(b"moov") - 4
    free = size - len(content)
    path.write_bytes(content[:index_at] + struct.pack(">I4s", free, b"free") + bytes(free - 8) + content[index_at:])
    return path
