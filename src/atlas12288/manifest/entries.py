# SPDX-License-Identifier: Apache-2.0
"""The entries of a manifest: one for each file and symbolic link, and the root over them.

    {"path":"a.bin","residue":3,"sha256":"<64 hex>","sha256-merkle-12288":"<64 hex>","size":12288}
    {"path":"latest","symlink":"a.bin"}

An entry has one form: the canonical JSON of RFC 8785. A path or target that is not UTF-8 stands as
`pathHex` or `symlinkHex`, in lowercase hex. Entries are sorted by the bytes of their paths. The
root is the Merkle Tree Hash of RFC 9162, section 2.1, over the bytes of the entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from json.encoder import encode_basestring as _quoted
from typing import Final, NamedTuple

from .. import _json
from .._native import DIGEST_BYTES, MODULUS, TreeStream
from ..errors import WitnessError
from ..witness import ALGORITHM, TREE_ALGORITHM
from . import paths

DIGESTS: Final = (ALGORITHM, TREE_ALGORITHM)
# JSON numbers above are not the same everywhere (RFC 8785, section 3.2.2.3).
SIZE_MOST: Final = 2**53 - 1
_SYMLINK_KEYS: Final = (*paths.keys("path"), *paths.keys("symlink"))
_KEYS: Final = (*_SYMLINK_KEYS, "residue", "size", *DIGESTS)
_LEAF_PREFIX: Final = b"\x00"  # RFC 9162, section 2.1.1
_LEAVES_AT_ONCE: Final = 1024


class Entry(NamedTuple):
    """A file or a symbolic link.

    Attributes:
        path: relative to the folder, its parts joined by slashes; any bytes but NUL.
        size: of a file, in bytes.
        residue: of a file, in 0..95.
        sha256: the flat digest of a file; None where it was not wanted.
        root: the tree root of a file; None where it was not wanted.
        target: what a symbolic link holds; None for a file.
    """

    path: bytes
    size: int = 0
    residue: int = 0
    sha256: bytes | None = None
    root: bytes | None = None
    target: bytes | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        """The algorithms of its digests."""
        values = (self.sha256, self.root)
        return tuple(name for name, value in zip(DIGESTS, values, strict=True) if value is not None)

    def to_json(self) -> bytes:
        """The canonical JSON, in UTF-8."""
        # For a million files: three times as fast as a dict that `json` writes. The keys are in the
        # order of RFC 8785.
        key, value = paths.to_json("path", self.path)
        text = f'{{"{key}":{_quoted(value)}'
        if self.target is not None:
            key, value = paths.to_json("symlink", self.target)
            return f'{text},"{key}":{_quoted(value)}}}'.encode()
        text += f',"residue":{self.residue}'
        if self.sha256 is not None:
            text += f',"{ALGORITHM}":"{self.sha256.hex()}"'
        if self.root is not None:
            text += f',"{TREE_ALGORITHM}":"{self.root.hex()}"'
        return f'{text},"size":{self.size}}}'.encode()

    @classmethod
    def of_json(cls, value: object, digests: tuple[str, ...]) -> Entry:
        """The entry of a JSON object.

        Args:
            value: the object, as `_json.read` gives it.
            digests: the algorithms that each file must have.

        Raises:
            WitnessError: no such object; the message names the key, its value and the rule.
        """
        fields = _json.Fields.of(value, "entry", (), *_KEYS)
        path = paths.from_json(fields, "path")
        if path is None:
            raise WitnessError("key 'path' is missing, must be there")
        paths.check_path(path, "path")
        target = paths.from_json(fields, "symlink")
        if target is not None:
            _json.Fields.of(value, "entry", (), *_SYMLINK_KEYS)
            if not target or b"\0" in target:
                raise WitnessError(
                    f"symlink is {paths.quoted(target)}, must have a character, and no NUL"
                )
            return cls(path, target=target)
        fields = _json.Fields.of(value, "entry", ("residue", "size", *digests), *paths.keys("path"))
        found = {name: fields.digest(name) for name in digests}
        size = fields.integer("size", SIZE_MOST)
        residue = fields.integer("residue", MODULUS - 1)
        fields.check("residue", residue == 0 or size > 0, "0 where size is 0")
        return cls(path, size, residue, found.get(ALGORITHM), found.get(TREE_ALGORITHM))


def read_line(line: bytes, digests: tuple[str, ...]) -> Entry:
    """Return the entry of a line that `Entry.to_json` wrote.

    Most have a path without escapes, and are taken apart by one expression: for a million entries
    that takes a fifth of the time.

    Raises:
        WitnessError: as `Entry.of_json`.
    """
    found = _plain(digests).fullmatch(line)
    if found is None:
        return Entry.of_json(_json.read(line), digests)
    path, residue, *values, size = found.groups()
    hashes = dict(zip(digests, (bytes.fromhex(value.decode()) for value in values), strict=True))
    return Entry(path, int(size), int(residue), hashes.get(ALGORITHM), hashes.get(TREE_ALGORITHM))


@cache
def _plain(digests: tuple[str, ...]) -> re.Pattern[bytes]:
    """A file with a path in printable ASCII. Where a number could be none of an entry's it does not
    match."""
    hashes = "".join(f',"{re.escape(name)}":"([0-9a-f]{{64}})"' for name in digests)
    path = r'"path":"([ !#-\[\]-~]+)"'
    numbers = r'"residue":([0-9]|[1-8][0-9]|9[0-5])', '"size":([1-9][0-9]{0,14})'
    return re.compile(rf"\{{{path},{numbers[0]}{hashes},{numbers[1]}\}}".encode())


def in_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries as they come.

    Raises:
        WitnessError: they are not sorted by path, each path once.
    """
    last: bytes | None = None
    for entry in entries:
        if last is not None and entry.path <= last:
            where = f"path {paths.quoted(entry.path)} follows {paths.quoted(last)}"
            raise WitnessError(f"{where}, must be sorted, each once")
        last = entry.path
        yield entry


class EntriesRoot:
    """The root over entries that pass by in order, in constant memory."""

    def __init__(self) -> None:
        self._stream = TreeStream()
        self._leaves = bytearray()

    def add(self, entry: bytes) -> None:
        """Takes the canonical JSON of the next entry."""
        self._leaves += sha256(_LEAF_PREFIX + entry).digest()
        if len(self._leaves) == _LEAVES_AT_ONCE * DIGEST_BYTES:
            self._flush()

    def digest(self) -> bytes:
        """The root over all entries so far; more may follow."""
        self._flush()
        root, _, _ = self._stream.result()
        return root

    def _flush(self) -> None:
        self._stream.append(self._leaves, 0)
        self._leaves.clear()
