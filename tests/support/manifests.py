# SPDX-License-Identifier: Apache-2.0
"""Folders that are listed and hashed, and runs that are stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from atlas12288._files import FileError
from atlas12288.manifest import ManifestReport
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._hashing.engine import hash_files
from atlas12288.manifest._hashing.file_hash import Digests
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.source import Found

Results = dict[bytes, Digests | str]


class OneByOne(Folder):
    """A folder whose files are read one by one, as no native code does it."""

    batches = False


def founds_in(root: Path) -> list[Found]:
    """Return what a folder lists, which is no problem."""
    return sorted(Folder(root).list(Selection(), pytest.fail))


def results(
    source: Folder, founds: list[Found], digests: tuple[str, ...] = DIGESTS, threads: int = 1
) -> Results:
    """Return the digests of files, or why there are none."""
    return {
        each.path: str(result) if isinstance(result, FileError) else result
        for each, result in hash_files(source, founds, digests, threads=threads)
    }


def kinds(report: ManifestReport) -> list[tuple[bytes, str, bytes | None]]:
    """Return path, kind and new path of each difference."""
    return [(each.path, each.kind, each.moved_to) for each in report.differences]


class StopError(Exception):
    """A run was stopped."""


class StoppedRuns:
    """Runs of which some are stopped.

    Attributes:
        notes: what the last run said.
        read: how many bytes it read.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.read = 0

    def begin(self, stop_after: int | None) -> Callable[[int], None]:
        """Forget the last run; return what is called with the bytes that the next one reads."""
        self.notes.clear()
        self.read = 0

        def advance(count: int) -> None:
            self.read += count
            if stop_after is not None and self.read >= stop_after:
                raise StopError

        return advance
