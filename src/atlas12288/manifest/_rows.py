# SPDX-License-Identifier: Apache-2.0
"""Go through the entries of a manifest, one after another or many equal ones at once, with what
else is known of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from .._subtree import window_count
from ._manifest_file import (
    LINK,
    Block,
    Listed,
)

# An entry with what else is known of it: path, line, size or LINK, fact.
Row = tuple[bytes, bytes, int, str]


class Facts:
    """What else is known of the entries of a manifest: a text for each, in their order.

    The default knows nothing.
    """

    def take(self) -> str:
        """Return the next text."""
        return ""

    def skip(self, count: int) -> None:
        """Pass over some texts."""


NOTHING: Final = Facts()


class Places(Facts):
    """The manifest's blocks, and the place of the first leaf of each entry in its sidecar."""

    def __init__(self, manifest: Listed) -> None:
        self._manifest = manifest
        self._sizes: deque[int] = deque()
        self.leaves = 0

    def blocks(self) -> Iterator[Block]:
        for block in self._manifest.blocks():
            self._sizes.extend(block.sizes)
            yield block

    def take(self) -> str:
        place = self.leaves
        if (size := self._sizes.popleft()) != LINK:
            self.leaves += window_count(size)
        return str(place)

    def skip(self, count: int) -> None:
        for _ in range(count):
            self.take()


class Cursor:
    """The place in one of two manifests that are merged."""

    def __init__(self, blocks: Iterable[Block], facts: Facts) -> None:
        self._blocks = iter(blocks)
        self._facts = facts
        self.block: Block | None = None
        self._begin()

    def _begin(self) -> None:
        self.block = next(self._blocks, None)
        self._start = 0
        self._records: list[tuple[bytes, bytes, int]] | None = None
        self._index = 0

    @property
    def rest(self) -> int:
        """The number of bytes of the block that are left."""
        return 0 if self.block is None else len(self.block.text) - self._start

    def text(self, size: int) -> bytes:
        """Return the next bytes of the block."""
        return b"" if self.block is None else self.block.text[self._start : self._start + size]

    def skip(self, size: int, lines: int) -> None:
        """Pass over some bytes, which are whole lines."""
        self._facts.skip(lines)
        self._index += lines
        self._move(size)

    def _move(self, size: int) -> None:
        self._start += size
        if self.rest == 0:
            self._begin()

    @property
    def _lines(self) -> list[tuple[bytes, bytes, int]]:
        if self._records is None:
            assert self.block is not None
            block = self.block
            self._records = list(zip(block.paths, block.lines, block.sizes, strict=True))
        return self._records

    @property
    def path(self) -> bytes:
        """The path of the next entry."""
        return self._lines[self._index][0]

    def take(self) -> Row:
        """Return the next entry."""
        path, line, size = self._lines[self._index]
        self._index += 1
        self._move(len(line) + 1)
        return path, line, size, self._facts.take()
