# SPDX-License-Identifier: Apache-2.0
"""The table of files that come one by one and in any order: what was listed, and what is known.

It is in a `TemporaryBase`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from itertools import starmap
from operator import add, itemgetter
from typing import Any, Final, NamedTuple

from .._files import FileError
from .._native import DIGEST_BYTES
from .._subtree import BLOCK_BYTES
from ._hashing.file_hash import Digests
from ._sources.source import UNTRUSTED, Found, same_but_ctime
from ._state_frames import Known, Part, Roots
from ._temporary_base import TemporaryBase

_ROWS_AT_ONCE: Final = 1000
_LISTED_AT_ONCE: Final = 20_000


class Fresh(IntEnum):
    """Which run read a file. A greater one is newer; of equal ones, what comes later is.

    Attributes:
        NO: the one that wrote the manifest.
        LINE: one that this run goes on with, whose line was kept.
        NEWEST: this run, or one that it goes on with which kept no line, or one too many of them.
            A file that is in the table is read one by one from then on: no line of it is newer.
    """

    NO = 0
    LINE = 1
    NEWEST = 2


_SCHEMA: Final = (
    # residue: known where not null. fresh: of `Fresh`, NEWEST where this run read it. leaf: the
    # first of its leaves, in the leaves under way where fresh, else in the sidecar of the manifest
    # that was last written.
    "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, identity TEXT, target BLOB,"
    " trusted INTEGER, listed INTEGER, by_ctime INTEGER, residue INTEGER, sha256 BLOB, root BLOB,"
    " fresh INTEGER, leaf INTEGER) WITHOUT ROWID",
    f"CREATE INDEX large ON files (size) WHERE size > {BLOCK_BYTES}",
    # How far the run before came in files of several blocks, and the roots of these blocks.
    "CREATE TABLE parts (path BLOB PRIMARY KEY, size INTEGER, identity TEXT, blocks INTEGER,"
    " residue INTEGER, flat BLOB, leaf INTEGER) WITHOUT ROWID",
    "CREATE TABLE roots (path BLOB, block INTEGER, root BLOB, PRIMARY KEY (path, block))"
    " WITHOUT ROWID",
)

# A file without an identity is never known.
_SAME: Final = (
    "size = excluded.size AND identity = excluded.identity AND excluded.identity != ''"
    " AND excluded.target IS NULL"
)
# Known, and changed in nothing but the ctime.
_BY_CTIME: Final = (
    "residue IS NOT NULL AND size = excluded.size AND excluded.target IS NULL"
    " AND same_but_ctime(identity, excluded.identity)"
)
_KEPT: Final = ("residue", "sha256", "root", "fresh", "leaf")
_INSERT: Final = (
    "INSERT INTO files (path, size, identity, target, trusted, listed)"
    " VALUES (?, ?, ?, ?, ?, 1)"
    " ON CONFLICT (path) DO UPDATE SET size = excluded.size, target = excluded.target, listed = 1, "
)
_LIST: Final = (
    _INSERT
    + ", ".join(f"{name} = CASE WHEN {_SAME} THEN {name} END" for name in _KEPT)
    + f", by_ctime = {_BY_CTIME}, identity = excluded.identity, trusted = excluded.trusted"
)
# Known digests are bound to the identity that the file had. A part of a file is not kept, because
# the rest could be read from other contents.
_LIST_WITHOUT_CTIME: Final = (
    _INSERT
    + ", ".join(f"{name} = CASE WHEN {_SAME} OR {_BY_CTIME} THEN {name} END" for name in _KEPT)
    + ", by_ctime = 0, "
    + ", ".join(
        f"{name} = CASE WHEN {_BY_CTIME} THEN {name} ELSE excluded.{name} END"
        for name in ("identity", "trusted")
    )
)
_LOAD: Final = (
    "INSERT INTO files (path, size, identity, residue, sha256, root, fresh, leaf, trusted, listed)"
    " VALUES (:path, :size, :identity, :residue, :sha256, :root, :fresh, :leaf, 1, 0)"
    " ON CONFLICT (path) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in ("size", "identity", *_KEPT))
    # What this run has listed counts, and what is newer.
    + " WHERE NOT listed AND excluded.fresh >= fresh"
)
_PUT_PART: Final = (
    "INSERT OR REPLACE INTO parts (path, size, identity, blocks, residue, flat, leaf)"
    " VALUES (:path, :size, :identity, :blocks, :residue, :flat, :leaf)"
)
_PUT_ROOT: Final = "INSERT OR REPLACE INTO roots (path, block, root) VALUES (:path, :block, :root)"
_PUT_DIGESTS: Final = (
    "UPDATE files SET residue = ?, sha256 = ?, root = ?, leaf = ?,"
    f" fresh = {Fresh.NEWEST:d} WHERE path = ?"
)
_FOUND: Final = ", ".join(("path", "size", "identity", "target"))
_UNKNOWN: Final = "residue IS NULL AND target IS NULL"


class ListingCounts(NamedTuple):
    """The counts of a listing.

    Attributes:
        files: number of files.
        links: number of symbolic links.
        bytes: total size of the files.
        known: number of files that need not be read.
        unread: number of bytes to read.
        by_ctime: number of known files whose ctime alone changed.
        parts: number of files to read whose beginning an earlier run has read.
    """

    files: int
    links: int
    bytes: int
    known: int
    unread: int
    by_ctime: int = 0
    parts: int = 0

    def plus(self, other: ListingCounts) -> ListingCounts:
        """Return the counts of both."""
        return ListingCounts(*map(add, self, other))


class KnownFile(NamedTuple):
    """A row of `files`; values not known yet are None."""

    path: bytes
    size: int
    identity: str
    target: bytes | None
    residue: int
    sha256: bytes | None
    root: bytes
    fresh: int
    leaf: int | None
    trusted: int

    @property
    def kept_identity(self) -> str:
        """The identity, after `UNTRUSTED` if it does not show later changes."""
        return self.identity if self.trusted else UNTRUSTED + self.identity


class FileTable:
    """The files; made when the first one comes.

    Attributes:
        has_small: whether it may have what is known of small files.

    Raises:
        FileError: from all methods: the database cannot be read or written.
    """

    def __init__(self) -> None:
        self._base = TemporaryBase(_SCHEMA, {"same_but_ctime": same_but_ctime})
        self._loading: list[dict[str, Any]] = []
        self._listing: list[tuple[object, ...]] = []
        self._list_by = _LIST
        self.has_small = False

    def __bool__(self) -> bool:
        return self._base.opened is not None or bool(self._listing)

    def close(self) -> None:
        """Drop all of it."""
        with suppress(FileError):
            self._base.close()

    # --- What is known of files before they are listed

    def load(self, known: Known, fresh: Fresh) -> None:
        """Load what is known of a file.

        Args:
            known: the file; `settle_known` comes after the last one.
            fresh: the run that it is of.
        """
        self.has_small |= known.size <= BLOCK_BYTES
        row = known._asdict()
        digests = row.pop("digests")
        self._loading.append({**row, **digests._asdict(), "fresh": fresh})
        if len(self._loading) == _ROWS_AT_ONCE:
            self.settle_known()

    def settle_known(self) -> None:
        """Write what `load` got."""
        if self._loading:
            with self._base.errors():
                self._base.use().executemany(_LOAD, self._loading)
            self._loading.clear()

    def load_progress(self, record: Roots | Part) -> None:
        """Load how far a run came in a file."""
        with self._base.errors():
            if isinstance(record, Roots):
                self._base.use().executemany(_PUT_ROOT, _numbered(record))
            else:
                part = record._asdict()
                checkpoint = part.pop("checkpoint")
                self._base.use().execute(_PUT_PART, {**part, **checkpoint._asdict()})

    def drop(self, path: bytes) -> None:
        """Drop all that is known of a file."""
        self.settle_known()
        with self._base.errors():
            for table in ("files", "parts", "roots"):
                self._base.use().execute(f"DELETE FROM {table} WHERE path = ?", (path,))

    def clear(self) -> None:
        """Drop all that was loaded."""
        self._loading.clear()
        if self._base.opened is not None:
            with self._base.errors():
                self._base.use().execute("DELETE FROM files")

    def has(self, path: bytes) -> bool:
        """Return whether something is known of a path."""
        with self._base.errors():
            found = (
                self._base.use().execute("SELECT 1 FROM files WHERE path = ?", (path,)).fetchone()
            )
        return found is not None

    # --- The listing

    def ignore_ctime(self) -> None:
        """Keep known digests of files whose ctime alone changed."""
        self._list_by = _LIST_WITHOUT_CTIME

    def add(self, found: Found, since_ns: int) -> None:
        """Add what was listed, and keep its known digests if it did not change; `settle` comes
        after the last one.

        Args:
            found: a file or link.
            since_ns: as for `Store`.
        """
        # A file without identity is never known, as its content may be anything.
        trusted = bool(found.identity) and found.written_ns < since_ns
        self._listing.append((found.path, found.size, found.identity, found.target, trusted))
        if len(self._listing) == _LISTED_AT_ONCE:
            self._list()

    def _list(self) -> None:
        # The table is in this order: neighbours are on one page.
        self._listing.sort(key=itemgetter(0))
        with self._base.errors():
            self._base.use().executemany(self._list_by, self._listing)
        self._listing.clear()

    def settle(self) -> None:
        """Drop what was not listed."""
        self._list()
        with self._base.errors():
            self._base.use().execute("DELETE FROM files WHERE NOT listed")

    def settle_parts(self) -> None:
        """Drop parts of files that are known, or have changed."""
        with self._base.errors():
            self._base.use().execute(
                "DELETE FROM parts WHERE NOT EXISTS (SELECT 1 FROM files WHERE files.path ="
                " parts.path AND files.size = parts.size AND files.identity = parts.identity"
                f" AND parts.identity != '' AND {_UNKNOWN.replace('residue', 'files.residue')})"
            )
            self._base.use().execute("DELETE FROM roots WHERE path NOT IN (SELECT path FROM parts)")

    def counts(self) -> ListingCounts:
        """Return the counts of what was listed."""
        with self._base.errors():
            row = (
                self._base.use()
                .execute(
                    "SELECT count(*) - count(target), count(target), ifnull(sum(size), 0),"
                    f" count(residue), ifnull(sum(({_UNKNOWN}) * size), 0)"
                    " - (SELECT ifnull(sum(min(size, blocks * ?)), 0)"
                    " FROM parts), total(by_ctime), (SELECT count(*) FROM parts) FROM files",
                    (BLOCK_BYTES,),
                )
                .fetchone()
            )
        return ListingCounts(*map(int, row))

    def forget(self, paths: list[bytes]) -> None:
        """Forget the digests of files."""
        clear = ", ".join(f"{name} = NULL" for name in _KEPT)
        with self._base.errors():
            self._base.use().executemany(
                f"UPDATE files SET {clear} WHERE path = ?", [(path,) for path in paths]
            )

    # --- Parts of files

    def parts(self) -> list[tuple[bytes, int, int, int | None]]:
        """Return path, size, number of blocks and place of the first leaf of each part."""
        with self._base.errors():
            return self._base.use().execute("SELECT path, size, blocks, leaf FROM parts").fetchall()

    def part(self, path: bytes) -> tuple[int, int, bytes | None, int | None] | None:
        """Return number of blocks, residue, state of the flat digest and place of the first leaf of
        the part of a file; None if there is none."""
        query = "SELECT blocks, residue, flat, leaf FROM parts WHERE path = ?"
        with self._base.errors():
            found: tuple[int, int, bytes | None, int | None] | None = (
                self._base.use().execute(query, (path,)).fetchone()
            )
        return found

    def roots(self, path: bytes, blocks: int) -> Iterator[bytes]:
        """Yield the roots of the first blocks of a file."""
        query = "SELECT root FROM roots WHERE path = ? AND block < ? ORDER BY block"
        with self._base.errors():
            yield from (root for (root,) in self._base.use().execute(query, (path, blocks)))

    def forget_parts(self, paths: list[bytes]) -> None:
        """Forget parts of files."""
        with self._base.errors():
            self._base.use().executemany(
                "DELETE FROM parts WHERE path = ?", [(path,) for path in paths]
            )

    # --- The files

    def _pages(self, columns: str, where: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows in order of path; the table may change during the iteration."""
        query = (
            f"SELECT {columns} FROM files WHERE path > ? AND {where} ORDER BY path"
            f" LIMIT {_ROWS_AT_ONCE}"
        )
        last: Any = b""
        while self._base.opened is not None:
            with self._base.errors():
                rows = self._base.opened.execute(query, (last,)).fetchall()
            yield from rows
            if len(rows) < _ROWS_AT_ONCE:
                return
            last = rows[-1][0]

    def files(self, where: str = "TRUE") -> Iterator[KnownFile]:
        """Yield files in order of path; the table may change during the iteration."""
        return map(KnownFile._make, self._pages(", ".join(KnownFile._fields), where))

    def file(self, path: bytes) -> KnownFile | None:
        """Return a file; None if it is not in the table."""
        if self._base.opened is None:
            return None
        query = f"SELECT {', '.join(KnownFile._fields)} FROM files WHERE path = ?"
        with self._base.errors():
            row = self._base.opened.execute(query, (path,)).fetchone()
        return None if row is None else KnownFile._make(row)

    def unknown(self) -> Iterator[Found]:
        """Yield the files to read.

        Files of several blocks come first, the largest ones before the others, so that no single
        large file is left at the end. The others follow in order of path, as on disk.
        """
        query = (
            f"SELECT {_FOUND} FROM files WHERE size > {BLOCK_BYTES} AND (size, path) < (?, ?) AND"
            f" {_UNKNOWN} ORDER BY size DESC, path DESC LIMIT {_ROWS_AT_ONCE}"
        )
        last: tuple[int, Any] = (2**63 - 1, b"")
        while self._base.opened is not None:
            with self._base.errors():
                rows = self._base.opened.execute(query, last).fetchall()
            yield from starmap(Found, rows)
            if len(rows) < _ROWS_AT_ONCE:
                break
            last = (rows[-1][1], rows[-1][0])
        yield from starmap(Found, self._pages(_FOUND, f"size <= {BLOCK_BYTES} AND {_UNKNOWN}"))

    def put(self, known: list[tuple[Digests, int | None, bytes]]) -> None:
        """Write digests, place of the first leaf and path of files that were read."""
        with self._base.errors():
            rows = [(*digests, leaf, path) for digests, leaf, path in known]
            self._base.use().executemany(_PUT_DIGESTS, rows)


def _numbered(roots: Roots) -> Iterator[dict[str, object]]:
    for block, start in enumerate(range(0, len(roots.roots), DIGEST_BYTES), roots.first):
        root = roots.roots[start : start + DIGEST_BYTES]
        yield {"path": roots.path, "block": block, "root": root}
