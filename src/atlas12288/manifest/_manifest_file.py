# SPDX-License-Identifier: Apache-2.0
"""Read the lines of a manifest in order, in constant memory where they are as we write them.

What is read is only known to be the manifest after its last line, when root and subject were
compared. Until then a caller keeps what it found to itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from .. import _json
from .._errors import WitnessError
from .._files import STDIN, FileError, RegularFile
from .._native import leaf_hashes, read_lines
from ._entries import Entry, LineDigests, Lines, flat_and_tree, read_line
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


class Block:
    """Some entries of a manifest, in order, which are only taken apart where that is needed.

    Args:
        text: their lines, each ended by one line feed.
        digests: the algorithms of the digests of files.
        found: paths and numbers as `_native.read_lines` returns them, where they are known.

    Attributes:
        text: as above.
    """

    def __init__(
        self, text: bytes, digests: tuple[str, ...], found: tuple[bytes, bytes] | None = None
    ) -> None:
        self.text = text
        self._digests = digests
        self._found = found

    @cached_property
    def lines(self) -> list[bytes]:
        """The canonical JSON of each, without a line feed."""
        return self.text.split(b"\n")[:-1]

    @cached_property
    def _parts(self) -> tuple[list[bytes], array[int]]:
        found = self._found
        if found is None:
            separated = self.text[:-1].replace(b"\n", _SEPARATOR)
            taken = read_lines(separated, *flat_and_tree(self._digests), PATH_MOST_BYTES)
            found = None if taken is None else taken[1:]
        if found is not None:
            paths, numbers = found
            return paths.split(b"\0")[:-1], array("q", numbers)[:-2:2]
        entries = [read_line(line, self._digests) for line in self.lines]
        return [entry.path for entry in entries], _sizes(entries)

    @property
    def paths(self) -> list[bytes]:
        """The path of each."""
        return self._parts[0]

    @property
    def ends(self) -> tuple[bytes, bytes]:
        """The first path and the last one."""
        if self._found is None:
            return self.paths[0], self.paths[-1]
        paths, _ = self._found
        return paths[: paths.index(b"\0")], paths[paths.rfind(b"\0", 0, -1) + 1 : -1]

    @property
    def sizes(self) -> array[int]:
        """The size of each in bytes; `LINK` for a symbolic link."""
        return self._parts[1]


def links_in(text: bytes) -> int:
    """Return the number of symbolic links in the lines of entries."""
    # The key: a quote in a path has a backslash before it.
    return text.count(b',"symlink')


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
    """A manifest in a file in which each byte is as we write it.

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
            wanted = self.options.digests
            found = read_lines(memoryview(text), *flat_and_tree(wanted), PATH_MOST_BYTES)
            block = _parsed(text, wanted) if found is None else _block(found, wanted)
            digests.add(Lines(block.text, leaf_hashes(block.text)))
            first, end = block.ends
            if first <= last:
                raise NotCanonicalError
            last = end
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


def _block(found: tuple[bytes, bytes, bytes], digests: tuple[str, ...]) -> Block:
    """Return what `read_lines` found."""
    text, paths, numbers = found
    try:
        text.decode()
    except UnicodeDecodeError:
        raise NotCanonicalError from None
    return Block(text, digests, (paths, numbers))


def _parsed(text: bytes, digests: tuple[str, ...]) -> Block:
    """Return lines in which a path or target is escaped."""
    lines = text.split(_SEPARATOR)
    try:
        entries = [Entry.of_json(_json.read(line), digests) for line in lines]
    except WitnessError:
        raise NotCanonicalError from None
    if lines != [entry.to_json() for entry in entries]:
        raise NotCanonicalError
    if any(one.path >= other.path for one, other in pairwise(entries)):
        raise NotCanonicalError
    return Block(b"\n".join([*lines, b""]), digests)


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
            lines = [entry.to_json() for entry in some]
            yield Block(b"\n".join([*lines, b""]), self.options.digests)


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
