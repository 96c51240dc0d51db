# SPDX-License-Identifier: Apache-2.0
"""Runs that make a manifest, and are killed meanwhile; also the program of such a run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from atlas12288.manifest import _keeper as keeper
from atlas12288.manifest._arguments import hasher
from atlas12288.manifest._generate import generate_manifest, read_options
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.source import Found, Reader

KILLED = -signal.SIGKILL


class Disturbed(Folder):
    """A folder that calls something when a file of it is opened, or before it is read."""

    batches = False

    def __init__(
        self,
        root: Path,
        *,
        opened: Callable[[Found], object] = lambda _: None,
        read: Callable[[Found], object] = lambda _: None,
    ) -> None:
        super().__init__(root)
        self._opened = opened
        self._read = read

    @contextmanager
    def open(self, found: Found) -> Iterator[Reader]:  # type: ignore[override]
        with super().open(found) as reader:
            self._opened(found)
            yield _DisturbedReader(reader, found, self._read)


class _DisturbedReader(Reader):
    def __init__(self, reader: Reader, found: Found, read: Callable[[Found], object]) -> None:
        self._reader = reader
        self._found = found
        self._read = read

    def read_into(self, offset: int, buffer: memoryview) -> int:
        self._read(self._found)
        return self._reader.read_into(offset, buffer)

    def finish(self) -> None:
        self._reader.finish()


def start(folder: Path, output: Path, *, reads: int, flat: bool) -> subprocess.Popen[str]:
    """Starts a run that kills itself before its `reads`-th read; its state and sidecar are beside
    the output. When it ends it prints the bytes that it read."""
    arguments = (str(folder), str(output), str(reads), str(int(flat)))
    return subprocess.Popen(
        (sys.executable, __file__, *arguments), stdout=subprocess.PIPE, text=True
    )


def main(folder: str, output: str, reads: str, flat: str) -> None:
    # Often, so that a short run has many moments at which it can be killed.
    keeper._COMMIT_S = 0.0  # type: ignore[misc]
    left = int(reads)
    read = 0
    lock = Lock()

    def before_read(_: Found) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def advance(count: int) -> None:
        nonlocal read
        read += count

    source = Disturbed(Path(folder), read=before_read)
    outcome = generate_manifest(
        source,
        read_options(source, tree=True, flat=flat == "1"),
        output,
        leaves=f"{output}.leaves",
        state=f"{output}.state",
        hash_files=hasher(2),
        listener=FunctionListener(advance=advance),
    )
    assert outcome.errors == 0
    print(read)


if __name__ == "__main__":
    main(*sys.argv[1:])
