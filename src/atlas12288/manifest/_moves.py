# SPDX-License-Identifier: Apache-2.0
"""Find the files that were moved: their content is missing at one path and was added at another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ._temporary_base import TemporaryBase

_ROWS_AT_ONCE: Final = 1000
_MISSING, _ADDED = range(2)
_SCHEMA: Final = (
    "CREATE TABLE files (path BLOB, digest BLOB, side INTEGER)",
    "CREATE TABLE moves (start BLOB, stop BLOB)",
)

# A digest that is missing under exactly one path and was added under exactly one other. Where there
# are more, nobody can tell which became which, and they stay missing and added.
_FIND: Final = (
    "INSERT INTO moves SELECT max(CASE WHEN side = 0 THEN path END),"
    " max(CASE WHEN side = 1 THEN path END) FROM files GROUP BY digest"
    " HAVING sum(side = 0) = 1 AND sum(side = 1) = 1"
)


class Moves:
    """Pairs the missing files with the added ones that have their content, in little memory.

    A move is a digest of more than 0 bytes that is missing under exactly one path and was added
    under exactly one other. Used by one thread; `close` drops everything.

    Raises:
        FileError: the temporary database cannot be used; also from all methods.
    """

    def __init__(self) -> None:
        self._base = TemporaryBase(_SCHEMA)
        self._waiting: list[tuple[bytes, bytes, int]] = []
        self._sides = {_MISSING: False, _ADDED: False}  # is there a file?
        self._found = False

    def close(self) -> None:
        """Drop all files."""
        self._waiting.clear()
        self._base.close()

    def missing(self, path: bytes, digest: bytes) -> None:
        """Add a missing file of more than 0 bytes."""
        self._add(path, digest, _MISSING)

    def added(self, path: bytes, digest: bytes) -> None:
        """Add an added file of more than 0 bytes; its digest is of the same kind."""
        self._add(path, digest, _ADDED)

    def _add(self, path: bytes, digest: bytes, side: int) -> None:
        self._sides[side] = True
        self._waiting.append((path, digest, side))
        # Without a missing file there is no move, and without an added one neither.
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        with self._base.errors():
            self._base.use().executemany("INSERT INTO files VALUES (?, ?, ?)", self._waiting)
        self._waiting.clear()

    def find(self) -> None:
        """Find the moves, after all files were added."""
        if all(self._sides.values()):
            self._flush()
            with self._base.errors():
                self._base.use().execute(_FIND)
            self._found = True

    def __bool__(self) -> bool:
        return next(self.by_start(), None) is not None

    def by_start(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the path before and the path after of each move, sorted by the path before."""
        return ((start, stop) for start, stop in self._rows("start, stop", "start"))

    def stops(self) -> Iterator[bytes]:
        """Yield the path after each move, sorted."""
        return (stop for (stop,) in self._rows("stop", "stop"))

    def _rows(self, columns: str, order: str) -> Iterator[tuple[bytes, ...]]:
        if not self._found:
            return
        with self._base.errors():
            yield from self._base.use().execute(f"SELECT {columns} FROM moves ORDER BY {order}")
