# SPDX-License-Identifier: Apache-2.0
"""The entries of a manifest, one for each file and symbolic link, and the digests of its lines.

    {"path":"a.bin","residue":3,"sha256":"<64 hex>","sha256-merkle-12288":"<64 hex>","size":12288}
    {"path":"latest","symlink":"a.bin"}

An entry has one form: the canonical JSON of RFC 8785. A path or target that is not UTF-8 is written
as `pathHex` or `symlinkHex`, in lowercase hex. Entries are sorted by the bytes of their paths.

The lines of a manifest are the canonical JSON of its options, then of each entry. Its root is
the Merkle Tree Hash of RFC 9162, section 2.1, over the lines, and the digest of its subject is the
SHA-256 of the lines, each ended by one line feed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from json.encoder import encode_basestring as _quoted
from typing import Final, NamedTuple

from .. import _json
from .._errors import WitnessError
from .._native import MODULUS, TreeStream, leaf_hashes, read_entries
from .._witness import ALGORITHM, TREE_ALGORITHM, WitnessStream
from . import _paths

DIGESTS: Final = (ALGORITHM, TREE_ALGORITHM)
# JSON numbers above are not the same everywhere (RFC 8785, section 3.2.2.3).
SIZE_MOST: Final = 2**53 - 1
# The size in an entry whose origin tells none, as a signature over digests alone. Where sizes stand
# in an array, -1 is a symbolic link.
UNKNOWN_SIZE: Final = -2
_SYMLINK_KEYS: Final = (*_paths.keys("path"), *_paths.keys("symlink"))
_KEYS: Final = (*_SYMLINK_KEYS, "residue", "size", *DIGESTS)
LINES_AT_ONCE: Final = 32  # few, because a path may be long
# The root and the size at the end of an entry with a tree. In no text: a quote in one is escaped.
_TREE: Final = rb'"%s":"([0-9a-f]{64})","size":([0-9]{1,16})\}' % TREE_ALGORITHM.encode()
_TREE_MOST_BYTES: Final = 128


class Entry(NamedTuple):
    """A file or a symbolic link.

    Attributes:
        path: relative to the folder, its parts joined by slashes; any bytes but NUL.
        size: size of a file, in bytes.
        residue: residue of a file, in 0..95.
        sha256: flat digest of a file; None if it was not wanted.
        root: tree root of a file; None if it was not wanted.
        target: target text of a symbolic link; None for a file.
    """

    path: bytes
    size: int = 0
    residue: int = 0
    sha256: bytes | None = None
    root: bytes | None = None
    target: bytes | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        """The algorithms of the digests that it has."""
        values = (self.sha256, self.root)
        return tuple(name for name, value in zip(DIGESTS, values, strict=True) if value is not None)

    def to_json(self) -> bytes:
        """Return the canonical JSON, in UTF-8."""
        # For a million files: three times as fast as a dict that `json` writes. The keys are in the
        # order of RFC 8785.
        key, value = _paths.to_json("path", self.path)
        text = f'{{"{key}":{_quoted(value)}'
        if self.target is not None:
            key, value = _paths.to_json("symlink", self.target)
            return f'{text},"{key}":{_quoted(value)}}}'.encode()
        text += f',"residue":{self.residue}'
        if self.sha256 is not None:
            text += f',"{ALGORITHM}":"{self.sha256.hex()}"'
        if self.root is not None:
            text += f',"{TREE_ALGORITHM}":"{self.root.hex()}"'
        return f'{text},"size":{self.size}}}'.encode()

    @classmethod
    def of_json(cls, value: object, digests: tuple[str, ...]) -> Entry:
        """Return the entry of a JSON object.

        Args:
            value: the object, as `_json.read` returns it.
            digests: the algorithms that each file must have.

        Raises:
            WitnessError: not an entry; the message names the key, its value and the rule.
        """
        fields = _json.Fields.of(value, "entry", (), *_KEYS)
        path = _paths.from_json(fields, "path")
        if path is None:
            raise WitnessError("key 'path' is missing, must be there")
        _paths.check_path(path, "path")
        target = _paths.from_json(fields, "symlink")
        if target is not None:
            _json.Fields.of(value, "entry", (), *_SYMLINK_KEYS)
            if not target or b"\0" in target:
                raise WitnessError(
                    f"symlink is {_paths.quoted(target)}, must have a character, and no NUL"
                )
            return cls(path, target=target)
        fields = _json.Fields.of(
            value, "entry", ("residue", "size", *digests), *_paths.keys("path")
        )
        found = {name: fields.digest(name) for name in digests}
        size = fields.integer("size", SIZE_MOST)
        residue = fields.integer("residue", MODULUS - 1)
        fields.check("residue", residue == 0 or size > 0, "0 where size is 0")
        return cls(path, size, residue, found.get(ALGORITHM), found.get(TREE_ALGORITHM))


def trees_in(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield size and root of each entry with a tree, in constant memory.

    Args:
        chunks: canonical entries as bytes, split anywhere.
    """
    rest = b""
    for chunk in chunks:
        text = rest + chunk
        end = 0
        for match in re.finditer(_TREE, text):
            end = match.end()
            yield int(match[2]), bytes.fromhex(match[1].decode("ascii"))
        rest = text[max(end, len(text) - _TREE_MOST_BYTES) :]


def read_line(line: bytes, digests: tuple[str, ...]) -> Entry:
    """Return the entry of a line that `Entry.to_json` wrote.

    Most have a path without escapes and are parsed by one regular expression, in a fifth of the
    time.

    Raises:
        WitnessError: as `Entry.of_json`.
    """
    found = _plain(digests).fullmatch(line)
    if found is None:
        return Entry.of_json(_json.read(line), digests)
    path, residue, *values, size = found.groups()
    hashes = dict(zip(digests, (bytes.fromhex(value.decode()) for value in values), strict=True))
    return Entry(path, int(size), int(residue), hashes.get(ALGORITHM), hashes.get(TREE_ALGORITHM))


def flat_and_tree(digests: tuple[str, ...]) -> tuple[bool, bool]:
    """Return whether there are flat digests and trees among the algorithms."""
    return ALGORITHM in digests, TREE_ALGORITHM in digests


def names_of(digests: tuple[bool, bool]) -> tuple[str, ...]:
    """Return the algorithms, for whether there are flat digests and trees."""
    return tuple(name for name, on in zip(DIGESTS, digests, strict=True) if on)


def read_text(text: bytes, digests: tuple[str, ...]) -> list[Entry]:
    """Return the entries of lines that `Entry.to_json` wrote, each ended by one line feed.

    Like `read_line` for each, in a tenth of the time.

    Raises:
        WitnessError: as `Entry.of_json`.
    """
    flat, tree = flat_and_tree(digests)

    def other(line: bytes) -> Entry:
        return Entry.of_json(_json.read(line), digests)

    return read_entries(text, flat, tree, _paths.PATH_MOST_BYTES, Entry, other)


@cache
def _plain(digests: tuple[str, ...]) -> re.Pattern[bytes]:
    """Return the expression for a file whose path is printable ASCII.

    It only matches numbers that an entry can have.
    """
    hashes = "".join(f',"{re.escape(name)}":"([0-9a-f]{{64}})"' for name in digests)
    path = r'"path":"([ !#-\[\]-~]+)"'
    numbers = r'"residue":([0-9]|[1-8][0-9]|9[0-5])', '"size":([1-9][0-9]{0,14})'
    return re.compile(rf"\{{{path},{numbers[0]}{hashes},{numbers[1]}\}}".encode())


def require_sorted(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries unchanged, and check their order.

    Raises:
        WitnessError: they are not sorted by path, each path once.
    """
    last: bytes | None = None
    for entry in entries:
        if last is not None and entry.path <= last:
            where = f"path {_paths.quoted(entry.path)} follows {_paths.quoted(last)}"
            raise WitnessError(f"{where}, must be sorted, each once")
        last = entry.path
        yield entry


class Lines(NamedTuple):
    """Some lines of a manifest, in order.

    Attributes:
        text: the lines, each ended by one line feed.
        hashes: their leaf hashes, joined.
    """

    text: bytes
    hashes: bytes

    @classmethod
    def of(cls, lines: list[bytes]) -> Lines:
        """Return lines, at least one, that are given without their line feeds."""
        text = b"\n".join(lines) + b"\n"
        return cls(text, leaf_hashes(text))


def lines_of(entries: Iterable[Entry]) -> Iterator[Lines]:
    """Yield the canonical JSON of entries, some at a time.

    Raises:
        WitnessError: they are not sorted by path, each path once.
    """
    ordered = require_sorted(entries)
    while lines := [entry.to_json() for entry in islice(ordered, LINES_AT_ONCE)]:
        yield Lines.of(lines)


class LineDigests:
    """Computes the root and the SHA-256 of lines, in order and in constant memory."""

    def __init__(self) -> None:
        self._stream = TreeStream()
        self._sha256 = WitnessStream()

    def add(self, lines: Lines) -> None:
        """Add the next lines."""
        self._stream.append(lines.hashes, 0)
        self._sha256.update(lines.text)

    def root(self) -> bytes:
        """Return the root over all lines so far; more may follow."""
        root, _, _ = self._stream.result()
        return root

    def sha256(self) -> bytes:
        """Return the SHA-256 of all lines so far; more may follow."""
        return self._sha256.digest()
