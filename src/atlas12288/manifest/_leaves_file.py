# SPDX-License-Identifier: Apache-2.0
"""The unfinished leaves of a run, in a file beside the manifest, where there is room for them.

The file has no name until the run keeps a state, so a short run that is killed leaves nothing
behind. Each file of the manifest gets a place in it when its first leaves are written.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from .._files import FileError, file_errors, require_regular
from .._native import DIGEST_BYTES
from .._outputs import TEMPORARY, temporary_name
from ._state_frames import Sidecar

_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WAITING_BYTES: Final = 1 << 18  # leaves of small files, which come one after another


class LeavesFile:
    """Leaves by place, counted in leaves.

    Args:
        output: the manifest.
        sidecar: continue with this file from an unfinished run.

    Raises:
        FileError: it cannot be created, or has changed; also from all methods.
    """

    def __init__(self, output: str, sidecar: Sidecar | None = None) -> None:
        self._folder = Path(os.path.realpath(output)).parent
        self._sidecar = sidecar
        self._end = 0
        self._waiting = bytearray()
        self._waiting_at = 0
        with file_errors():
            if sidecar is None:
                import tempfile  # here, as `shutil` below: few runs need them, and they take 4 ms

                with tempfile.TemporaryFile(dir=self._folder) as file:
                    self._descriptor = os.dup(file.fileno())
                return
            descriptor = os.open(self._path_of(sidecar), _FLAGS)
            try:
                _require_same(descriptor, sidecar)
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor = descriptor

    def _path_of(self, sidecar: Sidecar) -> Path:
        # The state may come from a stranger: no other file can be meant.
        if not TEMPORARY.fullmatch(sidecar.name):
            raise FileError("is not the name of leaves under way")
        return self._folder / sidecar.name

    @property
    def sidecar(self) -> Sidecar | None:
        """The identity of the file; None if it has no name yet."""
        return self._sidecar

    @property
    def path(self) -> str | None:
        """The path of the file; None if it has no name yet."""
        return None if self._sidecar is None else str(self._path_of(self._sidecar))

    @property
    def status(self) -> os.stat_result:
        """The status of the file."""
        return os.fstat(self._descriptor)

    def named(self) -> Sidecar:
        """Give the file a name if it has none, and return its identity."""
        if self._sidecar is not None:
            return self._sidecar
        import shutil

        self.flush()
        name = temporary_name()
        path = self._folder / name
        with file_errors():
            descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with (
                    open(self._descriptor, "rb", closefd=False) as before,
                    open(descriptor, "wb", closefd=False) as after,
                ):
                    before.seek(0)
                    shutil.copyfileobj(before, after, _WAITING_BYTES)
                status = os.fstat(descriptor)
            except BaseException:
                os.close(descriptor)
                with suppress(OSError):
                    path.unlink()
                raise
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._sidecar = Sidecar(name, status.st_dev, status.st_ino)
        return self._sidecar

    def reserve(self, leaves: int, place: int | None = None) -> int:
        """Return a place for `count` leaves; with `place`, keep the place that they have."""
        if place is None:
            place = self._end
        self._end = max(self._end, place + leaves)
        return place

    def write(self, place: int, hashes: bytes) -> None:
        """Write leaves, joined, at a place."""
        if place != self._waiting_at + len(self._waiting) // DIGEST_BYTES:
            self.flush()
            self._waiting_at = place
        self._waiting += hashes
        if len(self._waiting) >= _WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write buffered leaves to the file."""
        place = self._waiting_at * DIGEST_BYTES
        with file_errors(), memoryview(bytes(self._waiting)) as view:
            done = 0
            while done < len(view):
                done += os.pwrite(self._descriptor, view[done:], place + done)
        self._waiting_at += len(self._waiting) // DIGEST_BYTES
        self._waiting.clear()

    def read(self, place: int, count: int) -> bytes:
        """Return leaves, joined, or fewer if not all were written; call `flush` first."""
        with file_errors():
            return os.pread(self._descriptor, count * DIGEST_BYTES, place * DIGEST_BYTES)

    def remove(self) -> None:
        """Remove the file; the leaves are no longer needed."""
        if self._sidecar is not None:
            sidecar, self._sidecar = self._sidecar, None
            with suppress(OSError, FileError):
                path = self._path_of(sidecar)
                status = path.lstat()
                if (status.st_dev, status.st_ino) == sidecar.file:
                    path.unlink()

    def close(self) -> None:
        """Close the file; one with a name stays for the run that resumes."""
        os.close(self._descriptor)


def remove_leaves(output: str, sidecar: Sidecar) -> None:
    """Remove the leaves of a run that will not be resumed."""
    with suppress(FileError):
        leaves = LeavesFile(output, sidecar)
        leaves.remove()
        leaves.close()


def _require_same(descriptor: int, sidecar: Sidecar) -> None:
    status = os.fstat(descriptor)
    require_regular(status.st_mode)
    if (status.st_dev, status.st_ino) != sidecar.file or status.st_nlink != 1:
        raise FileError("is another file")
    if status.st_uid != os.geteuid():
        raise FileError("belongs to another user")
