"""The bytes of an object or a part on disk: one file, or a directory of files that follow one another.

A composed object keeps the files of its parts: its directory holds a hard link to each, named by the offset of its
first byte. Composing therefore writes no byte again, and the object outlasts the upload and the sources of its parts.
A link takes about 0.03 ms, so 10,000 parts take 0.3 s; a read of all of them takes as long to begin.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _File(NamedTuple):
    """A file, and the offset of its first byte within the whole."""

    start: int
    path: Path


def compose(parts: Iterable[tuple[Path, int]], directory: Path) -> None:
    """Link the files of parts, given with their sizes, into a new directory. An empty part has no file there."""
    directory.mkdir()
    offset = 0
    for path, size in parts:
        if size:
            _link(((offset + file.start, file.path) for file in _files(path)), directory)
        offset += size


def link(path: Path, target: Path) -> None:
    """Give the bytes at a path a second name."""
    if path.is_dir():
        target.mkdir()
        _link(_files(path), target)
    else:
        os.link(path, target)


def link_range(path: Path, directory: Path, first: int, size: int) -> None:
    """Link the files that hold a range of the bytes at a path into a new directory."""
    directory.mkdir()
    _link(_holding(path, first, size), directory)


def open_range(
    path: Path, first: int, size: int, *, on_close: Callable[[], object] = lambda: None
) -> io.BufferedReader:
    """Open the bytes at a path for reading from `first` on. One of the files that hold the range is open at a time."""
    return io.BufferedReader(_Joined(_opened(_holding(path, first, size), first), on_close))


class _Joined(io.RawIOBase):
    """The bytes of several files, read as one. The first file is open from the beginning."""

    def __init__(self, files: Iterator[io.FileIO], on_close: Callable[[], object]) -> None:
        self._files, self._on_close = files, on_close
        self._file = next(files, None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        while self._file is not None:
            if count := self._file.readinto(buffer):
                return count
            self._file.close()
            self._file = next(self._files, None)
        return 0

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._file is not None:
                self._file.close()
            self._on_close()


def _files(path: Path) -> list[_File]:
    """Return the files that hold the bytes at a path, in their order."""
    if not path.is_dir():
        return [_File(0, path)]
    return sorted(_File(int(file.name), file) for file in path.iterdir())


def _holding(path: Path, first: int, size: int) -> list[_File]:
    """Return the files that hold a range of the bytes at a path."""
    files = _files(path)
    begun = [file for file in files if file.start <= first]
    return begun[-1:] + [file for file in files if first < file.start < first + size]


def _opened(files: Iterable[_File], first: int) -> Iterator[io.FileIO]:
    for start, path in files:
        file = path.open("rb", buffering=0)
        file.seek(max(0, first - start))
        yield file


def _link(files: Iterable[tuple[int, Path]], directory: Path) -> None:
    for start, path in files:
        os.link(path, directory / f"{start:016d}")
