# SPDX-License-Identifier: Apache-2.0
"""Read the lines of a manifest in order, in constant memory where they are as we write them.

What is read is only known to be the manifest after its last line, when root and subject were
compared. Until then a caller keeps what it found to itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from .. import _json
from .._errors import WitnessError
from .._files import STDIN, FileError, RegularFile
from .._native import leaf_hashes, read_lines
from .._witness import ALGORITHM, TREE_ALGORITHM
from ._entries import Entry, LineDigests, Lines
from ._paths import PATH_MOST_BYTES
from ._statement import (
    MANIFEST_BEGIN,
    MANIFEST_MOST_BYTES,
    OPTIONS_BEGIN,
    Options,
    read_statement,
    statement_end,
)

LINK: Final = -1  # in the place of a size
_CHUNK_BYTES: Final = 1 << 20
_SEPARATOR: Final = b",\n"
_ENTRIES_AT_ONCE: Final = 1000


class Block(NamedTuple):
    """Some entries of a manifest, in order.

    Attributes:
        paths: the path of each.
        lines: the canonical JSON of each, without a line feed.
        sizes: the size of each in bytes; `LINK` for a symbolic link.
    """

    paths: list[bytes]
    lines: list[bytes]
    sizes: array[int]


class Listed(Protocol):
    """A manifest whose entries come in order."""

    @property
    def options(self) -> Options:
        """Its options."""

    @property
    def root(self) -> bytes:
        """Its root."""

    def blocks(self) -> Iterator[Block]:
        """Yield its entries."""


class NotCanonicalError(Exception):
    """The text is not byte for byte as we write it; `in_memory` may read it."""


class ManifestFile:
    """A manifest in a file, each byte of which is as we write it.

    Args:
        file: the open file.
        read: called with the bytes of the file in order, while `blocks` reads them.

    Attributes:
        options: its options.
        root: its root; b"" until `blocks` has ended.

    Raises:
        NotCanonicalError: the text is written in another way, or is no manifest; also from
            `blocks`.
        FileError: not readable, or it changed meanwhile; likewise.
    """

    def __init__(self, file: RegularFile, read: Callable[[bytes], object] | None = None) -> None:
        self._file = file
        self._read = read or (lambda _: None)
        self._start = len(MANIFEST_BEGIN)
        self.root = b""
        if file.read(0, self._start) != MANIFEST_BEGIN:
            raise NotCanonicalError
        self._middle, tail = self._tail()
        self._chosen, _, self._end = tail.removeprefix(OPTIONS_BEGIN).partition(b"\n")
        self._rest = tail
        try:
            self.options = Options.of_json(_json.read(self._chosen))
        except (WitnessError, UnicodeDecodeError):
            raise NotCanonicalError from None
        if self.options.to_json() != self._chosen:
            raise NotCanonicalError

    def _tail(self) -> tuple[int, bytes]:
        """Return where the entries end, and all bytes from there on."""
        size = self._file.size
        count = _CHUNK_BYTES
        while True:
            begin = max(self._start, size - count)
            text = self._file.read(begin, size - begin)
            found = text.rfind(OPTIONS_BEGIN)
            if found >= 0:
                return begin + found, text[found:]
            if begin == self._start or count > MANIFEST_MOST_BYTES:
                raise NotCanonicalError
            count *= 4

    def blocks(self) -> Iterator[Block]:
        """Yield the entries."""
        digests = LineDigests()
        digests.add(Lines.of([self._chosen]))
        last = b""
        self._read(MANIFEST_BEGIN)
        for text in self._texts():
            found = read_lines(
                memoryview(text),
                ALGORITHM in self.options.digests,
                TREE_ALGORITHM in self.options.digests,
                PATH_MOST_BYTES,
            )
            block, lines = _parsed(text, self.options.digests) if found is None else _of(*found)
            digests.add(lines)
            if block.paths[0] <= last:
                raise NotCanonicalError
            last = block.paths[-1]
            yield block
        self._read(self._rest)
        root = digests.root()
        if self._end != statement_end(root, digests.sha256()):
            raise NotCanonicalError
        self._file.finish()
        self.root = root

    def _texts(self) -> Iterator[bytes]:
        """Yield whole lines, without the separator after the last one."""
        place = self._start
        rest = b""
        while place < self._middle:
            part = self._file.read(place, min(_CHUNK_BYTES, self._middle - place))
            if not part:
                raise NotCanonicalError
            self._read(part)
            place += len(part)
            text, separator, after = (rest + part).rpartition(_SEPARATOR)
            if not separator:
                rest = after
                continue
            yield text
            rest = after
        if not rest:
            raise NotCanonicalError
        yield rest


def _of(text: bytes, paths: bytes, numbers: bytes) -> tuple[Block, Lines]:
    """Return what `read_lines` found."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise NotCanonicalError from None
    sizes = array("q", numbers)[:-2:2]
    block = Block(paths.split(b"\0")[:-1], text.split(b"\n")[:-1], sizes)
    return block, Lines(text, leaf_hashes(text))


def _parsed(text: bytes, digests: tuple[str, ...]) -> tuple[Block, Lines]:
    """Return lines in which a path or target is escaped."""
    lines = text.split(_SEPARATOR)
    try:
        entries = [Entry.of_json(_json.read(line), digests) for line in lines]
    except WitnessError:
        raise NotCanonicalError from None
    paths = [entry.path for entry in entries]
    if lines != [entry.to_json() for entry in entries]:
        raise NotCanonicalError
    if any(one >= other for one, other in pairwise(paths)):
        raise NotCanonicalError
    return Block(paths, lines, _sizes(entries)), Lines.of(lines)


def _sizes(entries: Iterable[Entry]) -> array[int]:
    return array("q", [entry.size if entry.target is None else LINK for entry in entries])


class Entries(NamedTuple):
    """A manifest whose entries are in memory."""

    options: Options
    entries: tuple[Entry, ...]
    root: bytes

    def blocks(self) -> Iterator[Block]:
        """Yield the entries."""
        for start in range(0, len(self.entries), _ENTRIES_AT_ONCE):
            some = self.entries[start : start + _ENTRIES_AT_ONCE]
            paths = [entry.path for entry in some]
            yield Block(paths, [entry.to_json() for entry in some], _sizes(some))


# A manifest in JSON: a file, or its bytes where they come from no file.
Text = RegularFile | bytes


def opened(manifest: Text) -> Listed:
    """Return a manifest, as a `ManifestFile` where it begins and ends like one.

    Raises:
        FileError: not a manifest, or not readable; it knows the file.
    """
    if isinstance(manifest, RegularFile):
        with suppress(NotCanonicalError):
            return ManifestFile(manifest)
    return in_memory(manifest)


def in_memory(manifest: Text) -> Entries:
    """Return a manifest in any form that is accepted.

    Raises:
        FileError: not a manifest, or not readable; it knows the file.
    """
    name = manifest.name if isinstance(manifest, RegularFile) else STDIN
    try:
        text = _whole(manifest) if isinstance(manifest, RegularFile) else manifest
        options, entries, root = read_statement(text)
    except (FileError, WitnessError) as error:
        raise FileError(str(error), name) from error
    return Entries(options, entries, root)


def _whole(file: RegularFile) -> bytes:
    if file.size > MANIFEST_MOST_BYTES:
        raise FileError(f"is not a manifest of at most {MANIFEST_MOST_BYTES:,} bytes: too long")
    text = file.read(0, file.size)
    file.finish()
    return text
