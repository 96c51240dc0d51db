# SPDX-License-Identifier: Apache-2.0
"""Look for open files and threads that a call leaves behind."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["nothing_left", "open_files"]

DESCRIPTORS = Path("/proc/self/fd")


def open_files(folder: Path | None = None) -> dict[int, str]:
    """Return what each descriptor of this process is open on, all or those within `folder`."""
    found = {}
    for descriptor in DESCRIPTORS.iterdir():
        try:
            target = descriptor.readlink()
        except FileNotFoundError:  # the one of this listing
            continue
        if folder is None or target.is_relative_to(folder):
            found[int(descriptor.name)] = str(target)
    return found


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if the block leaves a file open or a thread running that were not there before it.

    Names are compared and not numbers: a file of an earlier test may be closed at any time, when
    its garbage is collected, and a library may end a thread of its own.
    """
    files, threads = open_files(), set(threading.enumerate())
    yield
    assert open_files().items() - files.items() == set()
    assert set(threading.enumerate()) - threads == set()
