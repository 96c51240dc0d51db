# SPDX-License-Identifier: Apache-2.0
"""What earlier runs left of small files: their lines in a manifest, and the identities that they
had. Both come in order of path, as siblings do, so that they are compared without a database.

A file is known from the last run that read it: the newest lines in which it stands decide.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from .._files import FileError
from .._native import (
    DIGEST_BYTES,
    KNOWN_BY_CTIME,
    RESULT_BYTES,
    known_files,
    leaf_places,
    plain_lines,
    tree_root,
)
from .._subtree import BLOCK_BYTES, window_count
from ._entries import Entry, names_of, read_line, read_text
from ._paths import PATH_MOST_BYTES
from ._sources.siblings import Siblings
from ._spool import Spool

# Each run that was stopped and went on begins again at the first path. What was left by more runs
# than these goes to the database.
RUNS_MOST: Final = 8
_NUMBER: Final = struct.Struct("=q")
_READ_AHEAD: Final = 4096  # leaves
_ROOT: Final = RESULT_BYTES - DIGEST_BYTES  # where it begins in a result
LINE_END: Final = b"\n"  # between identities

# Reads `count` leaves, joined, from a place on; fewer if there are no more.
ReadLeaves = Callable[[int, int], bytes]


class Piece(NamedTuple):
    """Some lines, whose leaves follow one another.

    Attributes:
        text: the lines, as `plain_lines` returns them.
        identities: the identities of their files, each after `UNTRUSTED` if it does not show later
            changes, with a line feed between one and the next.
        place: the place of the first of their leaves, as int64.
    """

    text: bytes
    identities: bytes
    place: bytes

    @classmethod
    def of(cls, text: bytes, identities: bytes, first_leaf: int) -> Piece:
        """Return lines with their identities and the place of their first leaf."""
        return cls(text, identities, _NUMBER.pack(first_leaf))

    @property
    def first_leaf(self) -> int:
        """The place as a number."""
        place: int = _NUMBER.unpack(self.place)[0]
        return place

    def entries(self, digests: tuple[bool, bool]) -> Iterator[tuple[Entry, str, int]]:
        """Yield the entries, with identity and the place of the first leaf."""
        entries = read_text(self.text, names_of(digests))
        places = array("q", leaf_places(array("q", [entry.size for entry in entries])))
        identities = self.identities.decode("utf-8", "surrogatepass").split("\n")
        for entry, identity, place in zip(entries, identities, places, strict=False):
            yield entry, identity, self.first_leaf + place

    def bounds(self, digests: tuple[bool, bool]) -> tuple[bytes, bytes]:
        """Return the first and the last path."""
        end = self.text.rfind(b"\n", 0, -1) + 1
        names = names_of(digests)
        first = read_line(self.text[: self.text.index(b"\n")], names)
        return first.path, read_line(self.text[end:-1], names).path


def plain(text: bytes, first: int, digests: tuple[bool, bool]) -> tuple[int, bytes, array[int]]:
    """Return where lines of small files end that begin at `first`, these lines, and the sizes; see
    `_native.plain_lines`."""
    stop, lines, sizes = plain_lines(text, first, *digests, PATH_MOST_BYTES, BLOCK_BYTES)
    return stop, lines, array("q", sizes)


class Single(NamedTuple):
    """The entry of a line that is not among those of `Piece`: a link, a large file, or a path that
    JSON escapes.

    Attributes:
        entry: the entry.
        identity: as in `Piece`.
        first_leaf: the place of its first leaf.
    """

    entry: Entry
    identity: str
    first_leaf: int


def parted(
    text: bytes, identities: list[bytes], first_leaf: int, digests: tuple[bool, bool]
) -> Generator[Piece | Single, None, int]:
    """Yield the lines of a manifest as pieces and single entries; return the place after the last
    leaf.

    Args:
        text: the lines, each ended by a line feed, and by a comma before it or not.
        identities: the identity for each line.
        first_leaf: the place of the first of their leaves.
        digests: whether there are flat digests and trees.

    Raises:
        WitnessError: one is not the line of an entry.
    """
    at = count = 0
    while at < len(text):
        at, lines, sizes = plain(text, at, digests)
        if lines:
            start, count = count, count + len(sizes)
            yield Piece.of(lines, LINE_END.join(identities[start:count]), first_leaf)
            first_leaf += array("q", leaf_places(sizes))[-1]
            continue
        end = text.index(b"\n", at)
        entry = read_line(text[at:end].removesuffix(b","), names_of(digests))
        yield Single(entry, identities[count].decode("utf-8", "surrogatepass"), first_leaf)
        first_leaf += window_count(entry.size)
        at, count = end + 1, count + 1
    return first_leaf


class Judged:
    """Some siblings, and what is known of each."""

    def __init__(self, siblings: Siblings) -> None:
        count = siblings.files
        self.parent = siblings.parent
        self.names = siblings.names
        self.files = count
        self.numbers = bytearray(siblings.numbers)
        self.results = bytearray(count * RESULT_BYTES)
        self.marks = bytearray(count)
        self.places = bytearray(count * _NUMBER.size)

    @property
    def known(self) -> int:
        """Number of files that are known."""
        return self.results[::RESULT_BYTES].count(1)

    @property
    def by_ctime(self) -> int:
        """Number of files of which only the ctime is another."""
        return self.marks.count(KNOWN_BY_CTIME)


class KnownLines:
    """Lines in order of path, which are compared once with files in this order."""

    def __init__(self, digests: tuple[bool, bool]) -> None:
        self._digests = digests
        self._pieces = Spool(Piece)
        self._following: Iterator[Piece] | None = None
        self._piece: Piece | None = None
        self._at = (0, 0, 0)  # text, identity, and place of the first leaf
        self.last = b""  # path

    def add(self, piece: Piece) -> None:
        """Add the next lines."""
        self._pieces.add(piece)

    def close(self) -> None:
        """Drop the lines."""
        self._pieces.close()

    def pieces(self) -> Iterator[Piece]:
        """Yield all lines."""
        return iter(self._pieces)

    def compare(self, judged: Judged, replace: bool) -> None:
        """Say what is known of files, the next ones in order of path.

        Args:
            judged: the files.
            replace: whether a file is known whose ctime alone is another; it keeps the ctime that
                it had.
        """
        if self._following is None:
            self._following = iter(self._pieces)
            self._next()
        done = 0
        while self._piece is not None:
            text, identities, _ = self._piece
            done, *at = known_files(
                judged.parent,
                judged.names,
                judged.numbers,
                judged.results,
                judged.marks,
                judged.places,
                done,
                (text, identities, *self._at),
                *self._digests,
                replace,
            )
            self._at = (at[0], at[1], at[2])
            if self._at[0] < len(text):
                break
            self._next()

    def _next(self) -> None:
        assert self._following is not None
        self._piece = next(self._following, None)
        if self._piece is not None:
            self._at = (0, 0, self._piece.first_leaf)


class EarlierLines:
    """What the last run that wrote the manifest left, and the runs that this one goes on with.

    Args:
        digests: whether there are flat digests and trees.
    """

    def __init__(self, digests: tuple[bool, bool]) -> None:
        self._digests = digests
        self._last: KnownLines | None = None
        self._log: list[KnownLines] = []

    def __bool__(self) -> bool:
        return self._last is not None or bool(self._log)

    def close(self) -> None:
        """Drop all lines."""
        if self._last is not None:
            self._last.close()
        for lines in self._log:
            lines.close()
        self._last, self._log = None, []

    def set_last(self, lines: KnownLines) -> None:
        """Take the lines of the manifest that was last written."""
        self._last = lines

    def add(self, piece: Piece) -> bool:
        """Take the next lines of the run that this one goes on with; return False if there were too
        many runs before, and it was not taken."""
        first, last = piece.bounds(self._digests)
        if not self._log or first <= self._log[-1].last:
            if len(self._log) == RUNS_MOST:
                return False
            self._log.append(KnownLines(self._digests))
        self._log[-1].add(piece)
        self._log[-1].last = last
        return True

    def pieces(self) -> Iterator[tuple[Piece, bool]]:
        """Yield all lines, the oldest first, with whether this run goes on with them."""
        if self._last is not None:
            yield from ((piece, False) for piece in self._last.pieces())
        for lines in self._log:
            yield from ((piece, True) for piece in lines.pieces())

    def judge(self, siblings: Siblings, replace: bool) -> tuple[Judged, bytes]:
        """Return what is known of siblings, the next ones in order; and of each file whether it is
        a run that this one goes on with which tells it, a byte of 0 or 1.

        Args:
            siblings: the siblings.
            replace: as for `KnownLines.compare`.
        """
        judged = Judged(siblings)
        for lines in reversed(self._log):
            lines.compare(judged, replace)
        of_log = judged.results[::RESULT_BYTES]
        if self._last is not None:
            self._last.compare(judged, replace)
        return judged, bytes(of_log)


def forget_without_leaves(
    judged: Judged,
    of_log: bytes,
    read: tuple[ReadLeaves, ReadLeaves],
    used: Callable[[int, int], object],
) -> bytes:
    """Forget files whose leaves are missing or wrong; return the leaves of the others, as many as
    the listed size of each file says, zeros where nothing is known.

    Args:
        judged: the files.
        of_log: as `EarlierLines.judge` returns it.
        read: what reads the leaves of the manifest that was last written, and of the runs that this
            one goes on with.
        used: called with number and place of leaves among the latter that are right.
    """
    sizes = array("q", bytes(judged.numbers))[::3]
    ends = array("q", leaf_places(sizes))
    places = array("q", bytes(judged.places))
    leaves = bytearray()
    for index in range(judged.files):
        count = ends[index + 1] - ends[index]
        at = index * RESULT_BYTES
        hashes = b""
        if judged.results[at]:
            root = bytes(judged.results[at + _ROOT : at + RESULT_BYTES])
            if count == 1:
                hashes = root
            elif count > 1:
                with suppress(FileError):
                    hashes = read[of_log[index]](places[index], count)
                if len(hashes) != count * DIGEST_BYTES or tree_root(hashes) != root:
                    judged.results[at] = 0
                    hashes = b""
                elif of_log[index]:
                    used(count, places[index])
        leaves += hashes or bytes(count * DIGEST_BYTES)
    return bytes(leaves)


def ahead(read: ReadLeaves) -> ReadLeaves:
    """Return what reads leaves that mostly follow one another, many at once."""
    kept, first = b"", 0

    def some(place: int, count: int) -> bytes:
        nonlocal kept, first
        start = (place - first) * DIGEST_BYTES
        end = start + count * DIGEST_BYTES
        if start < 0 or end > len(kept):
            kept, first = read(place, max(count, _READ_AHEAD)), place
            start, end = 0, count * DIGEST_BYTES
        return kept[start:end]

    return some
