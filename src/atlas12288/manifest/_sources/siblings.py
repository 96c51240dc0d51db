# SPDX-License-Identifier: Apache-2.0
"""Files of one folder that are listed and hashed together, without an object for each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import compress
from typing import Final, NamedTuple

from ..._native import RESULT_BYTES, leaf_places
from ..._witness import ALGORITHM, TREE_ALGORITHM
from .source import Found

# Few enough that several threads are busy until the end, where each file takes long.
SIBLINGS_MOST: Final = 256
_NUMBERS: Final = 3  # of a file
# Where the digests of siblings are from: one at least is read by this run, or all are known, one at
# least from the run that it goes on with, or all from the one that wrote the manifest.
READ, OF_LOG, OF_LAST = (bytes((letter,)) for letter in b"RKL")


class Wanted(NamedTuple):
    """What is computed of siblings.

    Attributes:
        flat, tree: the digests.
        leaves: whether the leaf hashes of the trees are kept.
    """

    flat: bool
    tree: bool
    leaves: bool

    @classmethod
    def of(cls, digests: tuple[str, ...], leaves: bool) -> Wanted:
        """Return what is wanted by digests of `entries.DIGESTS`, and leaves where there are any."""
        tree = TREE_ALGORITHM in digests
        return cls(ALGORITHM in digests, tree, leaves and tree)


class Siblings(NamedTuple):
    """Regular files of one folder that follow one another in the order of all paths.

    Attributes:
        folder: path of the folder, relative to the source; b"" for the source itself.
        names: the names of the files in it, each ended by NUL.
        numbers: for each file, its listed size in bytes, and its modification time and ctime in
            nanoseconds since 1970, as int64 in the order of this machine.
        known: what an earlier run knows of each file, in the form of `_native.witness_files`; b""
            where nothing is known of any.
        leaves: the leaf hashes of all files, as many as their sizes say, zeros for those that are
            not known; b"" where they are not wanted or nothing is known.
        origin: READ, or who knows all of them.
    """

    folder: bytes
    names: bytes
    numbers: bytes
    known: bytes = b""
    leaves: bytes = b""
    origin: bytes = READ

    @property
    def parent(self) -> bytes:
        """What their paths begin with: the folder and its slash."""
        return self.folder + b"/" if self.folder else b""

    @property
    def files(self) -> int:
        """Number of files."""
        return len(self.numbers) // (8 * _NUMBERS)

    @property
    def paths(self) -> list[bytes]:
        """Path of each file."""
        parent = self.parent
        return [parent + name for name in self.names.split(b"\0")[:-1]]

    @property
    def sizes(self) -> array[int]:
        """Listed size of each file, in bytes."""
        return array("q", self.numbers)[::_NUMBERS]

    @property
    def size(self) -> int:
        """Total size of the files, in bytes."""
        return sum(self.sizes)

    def some(self, start: int, stop: int) -> Siblings:
        """Return some of the files, of which nothing is known."""
        names = self.names.split(b"\0")[start:stop]
        step = 8 * _NUMBERS
        return Siblings(
            self.folder, b"\0".join([*names, b""]), self.numbers[start * step : stop * step]
        )

    @property
    def unread(self) -> Siblings | None:
        """The files that are not known; None if all are."""
        if not self.known:
            return self
        known = self.known[::RESULT_BYTES]
        if 0 not in known:
            return None
        unknown = [not each for each in known]
        names = compress(self.names.split(b"\0"), unknown)
        step = 8 * _NUMBERS
        each = (self.numbers[at : at + step] for at in range(0, len(self.numbers), step))
        return Siblings(self.folder, b"\0".join([*names, b""]), b"".join(compress(each, unknown)))

    @property
    def windows(self) -> int:
        """Number of windows that the files are listed with."""
        return array("q", leaf_places(self.sizes))[-1]

    @property
    def first(self) -> bytes:
        """Path of the first file."""
        return self.parent + self.names[: self.names.index(b"\0")]

    @property
    def last(self) -> bytes:
        """Path of the last file."""
        return self.parent + self.names[self.names.rfind(b"\0", 0, -1) + 1 : -1]

    def founds(self) -> Iterator[Found]:
        """Yield the files one by one, as a listing does that has no siblings."""
        parent = self.parent
        numbers = iter(array("q", self.numbers))
        for name in self.names.split(b"\0")[:-1]:
            size, modified, changed = next(numbers), next(numbers), next(numbers)
            latest = max(modified, changed)
            yield Found(parent + name, size, f"{modified} {changed}", None, latest)
