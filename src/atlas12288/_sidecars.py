# SPDX-License-Identifier: Apache-2.0
"""Read leaf hashes from sidecars, check them against a root, and compare them.

A sidecar is a file with the leaf hashes of one tree, or of several one after another, 32 bytes a
window and nothing else. Leaves are read in order and are never all in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from ._files import FileError, RegularFile
from ._native import DIGEST_BYTES, WINDOW_BYTES, TreeStream, match_leaves
from ._subtree import window_count
from ._words import word

if TYPE_CHECKING:
    from ._tree import TreeWitness

_LEAVES_AT_ONCE: Final = 4096  # 128 KiB of a sidecar
_LEAVES_OF_MANY: Final = 1 << 15  # 1 MiB, which has the leaves of many small files
_TREES_AT_ONCE: Final = 1024
_SIZE_MOST: Final = 2**63 - 1

# Reads `count` leaves from leaf `first`, joined; fewer at the end of a sidecar.
ReadLeaves = Callable[[int, int], bytes]


class WrongLeavesError(FileError):
    """The leaves do not belong to the tree."""


def checked(read: ReadLeaves, first: int, windows: int, root: bytes) -> Iterator[bytes]:
    """Yield the leaf hashes of a tree in order, joined, in batches.

    Args:
        read: reads leaves at a place in the sidecar.
        first: place of the first leaf of the tree.
        windows: number of leaves of the tree.
        root: root of the tree.

    Raises:
        WrongLeavesError: the leaves end early, or (after the last one) do not match the root.
        FileError: not readable.
    """
    stream = TreeStream()
    stop = first + windows
    for place in range(first, stop, _LEAVES_AT_ONCE):
        count = min(_LEAVES_AT_ONCE, stop - place)
        hashes = read(place, count)
        if len(hashes) != count * DIGEST_BYTES:
            end = place * DIGEST_BYTES + len(hashes)
            raise WrongLeavesError(f"ended after {end} bytes, must have {stop} leaves")
        stream.append(hashes, 0)
        yield hashes
    found, _, _ = stream.result()
    if found != root:
        raise WrongLeavesError(
            f"has leaves with the root {found.hex()}, must have {root.hex()}, "
            "the witness's root: they are damaged, or belong to another witness"
        )


class TreeLeaves:
    """The leaves of a tree in a sidecar.

    Args:
        sidecar: the open file.
        first: the number of leaves of other trees before them.
        length: size of the file or region, in bytes.
        root: the root of the tree.
    """

    def __init__(self, sidecar: RegularFile, first: int, length: int, root: bytes) -> None:
        self._sidecar = sidecar
        self._first = first
        self.length = length
        self.root = root

    @property
    def windows(self) -> int:
        """The number of leaves."""
        return window_count(self.length)

    def chunks(self) -> Iterator[bytes]:
        """Yield the leaf hashes in order, joined, in batches.

        Raises:
            FileError: not readable, or (after the last one) they do not match the root.
        """
        return checked(_reader(self._sidecar), self._first, self.windows, self.root)

    def check(self) -> None:
        """Read all leaves and check them against the root.

        Raises:
            FileError: as `chunks`.
        """
        for _ in self.chunks():
            pass


class Leaves(TreeLeaves):
    """The leaves of a tree witness in a sidecar.

    Args:
        sidecar: the open file.
        first: the number of leaves of other witnesses before them.
        witness: the witness of the tree.
    """

    def __init__(self, sidecar: RegularFile, first: int, witness: TreeWitness) -> None:
        super().__init__(sidecar, first, witness.length, witness.root)
        self.witness = witness


def leaves_of(sidecar: RegularFile, witnesses: Iterable[TreeWitness]) -> list[Leaves]:
    """Return the leaves of each witness that a sidecar was made for, in their order.

    Raises:
        FileError: the sidecar does not have the size that these witnesses need.
    """
    each = []
    first = 0
    for witness in witnesses:
        each.append(Leaves(sidecar, first, witness))
        first += witness.windows
    require_size(sidecar, first, "witness")
    return each


def require_size(sidecar: RegularFile, windows: int, owner: str) -> None:
    """Raise FileError unless a sidecar has the size of `windows` leaves.

    Args:
        sidecar: the open file.
        windows: required number of leaves.
        owner: what the leaves belong to, for the message: "witness" or "manifest".
    """
    if sidecar.size != windows * DIGEST_BYTES:
        raise FileError(
            f"has {sidecar.size} bytes, must have {windows * DIGEST_BYTES}, {DIGEST_BYTES} for "
            f"each of {windows} {word(windows, 'window')}: it is damaged, or belongs to another "
            f"{owner}"
        )


class Trees(NamedTuple):
    """Trees that follow one another.

    Attributes:
        sizes: size of the file or region of each, in bytes.
        roots: the root of each, joined.
    """

    sizes: array[int]
    roots: bytes

    @classmethod
    def of(cls, trees: Iterable[tuple[int, bytes]]) -> Iterator[Trees]:
        """Yield trees, given by size and root of each, some at a time."""
        rest = iter(trees)
        while some := list(islice(rest, _TREES_AT_ONCE)):
            # A larger one has more leaves than any file.
            sizes = array("q", (min(size, _SIZE_MOST) for size, _ in some))
            yield cls(sizes, b"".join(root for _, root in some))


def first_without_leaves(sidecar: RegularFile, all_trees: Iterable[Trees]) -> int | None:
    """Compare a sidecar with the trees whose leaves it should have, in constant memory.

    Args:
        sidecar: the open file.
        all_trees: the trees, in the order of their leaves.

    Returns:
        The index of the first tree with missing or wrong leaves, or the number of trees if other
        bytes follow; None if the sidecar has exactly the leaves of all trees.

    Raises:
        FileError: not readable.
    """
    index = place = 0  # of the next tree, and of its first leaf
    leaves = memoryview(b"")  # from there on
    for sizes, roots in all_trees:
        done = 0  # of these trees
        while True:
            found, used = match_leaves(sizes, roots, done, leaves)
            done += found
            index += found
            place += used
            leaves = leaves[used * DIGEST_BYTES :]
            if done == len(sizes):
                break
            # The leaves of the next tree are wrong, or have not all been read yet.
            count = window_count(sizes[done])
            if count * DIGEST_BYTES <= len(leaves) or (place + count) * DIGEST_BYTES > sidecar.size:
                return index
            if count <= _LEAVES_OF_MANY:
                leaves = memoryview(
                    sidecar.read(place * DIGEST_BYTES, _LEAVES_OF_MANY * DIGEST_BYTES)
                )
                if len(leaves) < count * DIGEST_BYTES:
                    return index
                continue
            root = roots[done * DIGEST_BYTES : (done + 1) * DIGEST_BYTES]
            try:
                for _ in checked(_reader(sidecar), place, count, root):
                    pass
            except WrongLeavesError:
                return index
            done += 1
            index += 1
            place += count
            leaves = memoryview(b"")
    return None if sidecar.size == place * DIGEST_BYTES else index


def _reader(sidecar: RegularFile) -> ReadLeaves:
    def read(place: int, count: int) -> bytes:
        return sidecar.read(place * DIGEST_BYTES, count * DIGEST_BYTES)

    return read


class WindowRange(NamedTuple):
    """Neighbouring windows first..stop-1 that differ.

    They are the bytes start..end-1 of the file, or of the witnessed region if that is longer.
    """

    first: int
    stop: int
    start: int
    end: int


class LeafComparison:
    """Compares leaf hashes with known ones; the two may come in different chunks.

    Args:
        known: the known leaf hashes in order, joined, in batches.
        changed: called with each range of windows that differ, in order, as soon as it is known.
    """

    def __init__(self, known: Iterator[bytes], changed: Callable[[WindowRange], object]) -> None:
        self._known = known
        self._rest = b""  # of the last known chunk
        self._changed = changed
        self._windows = 0  # compared so far
        self._differ_from: int | None = None  # the first window of the current range

    @property
    def differs(self) -> bool:
        """Whether the last windows differ; they are not reported yet."""
        return self._differ_from is not None

    def write(self, found: bytes) -> None:
        """Compare the next leaf hashes, joined."""
        while len(self._rest) < len(found) and (more := next(self._known, b"")):
            self._rest += more
        known, self._rest = self._rest[: len(found)], self._rest[len(found) :]
        if known == found:
            self._next(len(found) // DIGEST_BYTES, differ=False)
            return
        for place in range(0, len(found), DIGEST_BYTES):
            stop = place + DIGEST_BYTES
            self._next(1, differ=known[place:stop] != found[place:stop])

    def finish(self, longer: int) -> None:
        """Compare the rest, after all leaves were written.

        Args:
            longer: the greater of both lengths in bytes.
        """
        while more := self._rest or next(self._known, b""):
            self._next(len(more) // DIGEST_BYTES, differ=True)
            self._rest = b""
        self.stop(longer)

    def stop(self, most: int) -> None:
        """Stop comparing. A range of windows that differ ends here, or after `most` bytes."""
        self._end_run(min(most, self._windows * WINDOW_BYTES))

    def _next(self, windows: int, differ: bool) -> None:
        if not differ:
            self._end_run(self._windows * WINDOW_BYTES)
        elif self._differ_from is None:
            self._differ_from = self._windows
        self._windows += windows

    def _end_run(self, end: int) -> None:
        if self._differ_from is not None:
            first, self._differ_from = self._differ_from, None
            self._changed(WindowRange(first, self._windows, first * WINDOW_BYTES, end))
