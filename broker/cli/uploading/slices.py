"""Slices of a file as file objects, so that several threads send parts of one file at a time."""

import os
from collections.abc import Callable

from broker.cli.uploading.failure import UploadFailed


class Slice:
    """Read `size` bytes from `offset` on, by positioned reads. `on_read` gets the number of bytes of each read.

    A read raises UploadFailed if the file has become shorter. What `on_read` raises ends the request that reads.
    """

    def __init__(self, descriptor: int, offset: int, size: int, on_read: Callable[[int], object]) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._size = size
        self._on_read = on_read
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes of the slice, at most `size`; none at its end."""
        left = self._size - self._place
        wanted = left if size < 0 else min(size, left)
        if not wanted:
            return b""
        chunk = os.pread(self._descriptor, wanted, self._offset + self._place)
        if not chunk:
            raise UploadFailed("The file changed while it was being sent.")
        self._place += len(chunk)
        self._on_read(len(chunk))
        return chunk

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place in the slice and return it."""
        self._place = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence] + offset
        return self._place

    def tell(self) -> int:
        """Return the place in the slice."""
        return self._place
