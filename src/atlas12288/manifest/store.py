# SPDX-License-Identifier: Apache-2.0
"""The state of a run, in SQLite: what was listed, and what is known of each file.

It is what makes a run take little memory, go on after it was killed, and read only what changed.
It is not authenticated, as the files that it is about are not; accidents are found: each row has a
checksum, and leaves are held against the root of their file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import starmap
from time import monotonic, time_ns
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from zlib import crc32

from .._native import DIGEST_BYTES, WINDOW_BYTES, TreeStream
from .._subtree import BLOCK_BYTES, FANOUT, window_count
from ..files import FileError, RegularFile, require_writable, shown
from .engine import Checkpoint, Digests, LeafSink
from .entries import Entry
from .sources import Found

# What is modified while it is read may keep its identity where the clock of the file system is
# coarse. FAT has the coarsest, of 2 s. So a file is not taken as known later unless it was modified
# longer before the listing than this.
RACY_NS: Final = 2 * 10**9

_APPLICATION_ID: Final = 0x41544C53  # "ATLS"
_VERSION: Final = 1
_COMMIT_S: Final = 1.0
_ROWS_AT_ONCE: Final = 1000
_LISTED_AT_ONCE: Final = 20_000
_LEAVES_AT_ONCE: Final = 4096
_CACHE_KIB: Final = 16 * 1024

_SCHEMA: Final = (
    "CREATE TABLE run (options TEXT, number INTEGER, finished INTEGER)",
    # residue: known where not null. part_*: the checkpoint of a file of several blocks. leaf: the
    # first of its leaves in the sidecar that was last finished; null where `leaves` has them.
    "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, identity TEXT, target BLOB,"
    " trusted INTEGER, number INTEGER, residue INTEGER, sha256 BLOB, root BLOB, checksum INTEGER,"
    " leaf INTEGER, part_blocks INTEGER, part_residue INTEGER, part_flat BLOB,"
    " part_checksum INTEGER) WITHOUT ROWID",
    f"CREATE INDEX large ON files (size) WHERE size > {BLOCK_BYTES}",
    # The roots of the blocks before a checkpoint.
    "CREATE TABLE roots (path BLOB, block INTEGER, root BLOB, PRIMARY KEY (path, block))"
    " WITHOUT ROWID",
    "CREATE TABLE leaves (path BLOB, first INTEGER, hashes BLOB)",
    "CREATE UNIQUE INDEX leaves_of ON leaves (path, first)",
)

_SAME: Final = (
    "trusted AND size = excluded.size AND identity = excluded.identity"
    " AND target IS excluded.target"
)
_KEPT: Final = (
    "residue",
    "sha256",
    "root",
    "checksum",
    "leaf",
    "part_blocks",
    "part_residue",
    "part_flat",
    "part_checksum",
)
_LIST: Final = (
    "INSERT INTO files (path, size, identity, target, trusted, number) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (path) DO UPDATE SET "
    + ", ".join(f"{name} = CASE WHEN {_SAME} THEN {name} END" for name in _KEPT)
    + ", size = excluded.size, identity = excluded.identity, target = excluded.target,"
    " trusted = excluded.trusted, number = excluded.number"
)
_FOUND: Final = "path, size, identity, target"
_KNOWN: Final = f"{_FOUND}, residue, sha256, root, checksum, leaf"
_UNKNOWN: Final = "residue IS NULL AND target IS NULL"


class Listed(NamedTuple):
    """What a listing came to.

    Attributes:
        files: how many files.
        links: how many symbolic links.
        bytes: of all files.
        known: how many files need no reading.
        unread: the bytes to be read.
    """

    files: int
    links: int
    bytes: int
    known: int
    unread: int


class Store:
    """The state of one run. A context manager; used by one thread.

    Args:
        name: of the file, which is made where there is none. None: a temporary one.

    Raises:
        FileError: also from all methods: the file is another's, damaged, in use by another run, or
            cannot be read or written; the message names it.
    """

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._due = monotonic() + _COMMIT_S
        self._known: list[tuple[Any, ...]] = []
        self._parts: dict[bytes, tuple[Any, ...]] = {}
        self._roots: list[tuple[bytes, int, bytes]] = []
        self._leaves: list[tuple[bytes, int, bytes]] = []
        self._checksums: dict[bytes, int] = {}  # of the roots before the checkpoints
        self._windows: dict[bytes, int] = {}  # whose leaves were taken
        self._number = 0
        self._count = 0  # of files and links
        self._writing = False
        self._sidecar: RegularFile | None = None
        if name is not None:
            try:
                require_writable(name, [])
            except FileError as error:
                raise self._error(f"cannot be used: {error}") from error
        with self._errors():
            # A name that is empty: a private file that SQLite deletes.
            self._base = sqlite3.connect(name or "", timeout=0, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._base.close()
                raise

    def _open(self) -> None:
        run = self._base.execute
        # One run at a time: the lock that the first access takes is kept. It ends with the process.
        run("PRAGMA locking_mode = EXCLUSIVE")
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        tables = run("SELECT count(*) FROM sqlite_master").fetchone() != (0,)
        if application != _APPLICATION_ID and (tables or application or version):
            raise self._error("is not the state of a manifest, and is not replaced")
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        run("PRAGMA temp_store = FILE")
        run(f"PRAGMA journal_mode = {'OFF' if self._name is None else 'WAL'}")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN IMMEDIATE")
        self._version = version if tables else _VERSION
        if not tables:
            self._create()

    def _create(self) -> None:
        run = self._base.execute
        for statement in _SCHEMA:
            run(statement)
        run(f"PRAGMA application_id = {_APPLICATION_ID}")
        run(f"PRAGMA user_version = {_VERSION}")
        run("INSERT INTO run VALUES (NULL, 0, 0)")

    def _error(self, reason: str) -> FileError:
        where = "the temporary state" if self._name is None else f"the state {shown(self._name)}"
        return FileError(f"{where} {reason}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", None) or ""
            reason = f"cannot be used: {error}"
            if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                reason = "is in use by another run, must be used by one alone"
            elif code.startswith("SQLITE_NOTADB"):
                reason = "is not the state of a manifest, and is not replaced"
            elif not isinstance(error, sqlite3.OperationalError) or "CORRUPT" in code:
                reason = f"is damaged ({error}); remove it to begin anew"
            raise self._error(reason) from error

    def _damaged(self) -> FileError:
        return self._error("is damaged; remove it to begin anew")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with self._errors():
                if self._base.in_transaction:
                    if self._writing:
                        self._base.execute("ROLLBACK")
                    else:
                        self._flush()
                        self._base.execute("COMMIT")
        except FileError:
            if error is None:
                raise
        finally:
            if self._sidecar is not None:
                self._sidecar.__exit__(None, None, None)
            with suppress(sqlite3.Error):
                self._base.close()

    # --- A run

    @property
    def is_usable(self) -> bool:
        """Is it of this version? If not, all that can be done is `clear`."""
        return self._version == _VERSION

    @property
    def options(self) -> str | None:
        """Those of the last run; None where there was none."""
        return self._run_row()[0]

    @property
    def finished(self) -> bool:
        """Was the manifest of the last run written?"""
        return bool(self._run_row()[2])

    def _run_row(self) -> tuple[str | None, int, int]:
        with self._errors():
            row = self._base.execute("SELECT options, number, finished FROM run").fetchone()
        if row is None:
            raise self._damaged()
        options, number, finished = row
        return options, int(number), int(finished)

    def clear(self) -> None:
        """Forgets everything."""
        with self._errors():
            rows = self._base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (name,) in rows.fetchall():
                quoted = name.replace('"', '""')
                self._base.execute(f'DROP TABLE "{quoted}"')
            self._create()
        self._version = _VERSION

    def begin(
        self,
        options: str,
        founds: Iterable[Found],
        sidecar: RegularFile | None = None,
    ) -> Listed:
        """Begins a run: takes what is there now, and keeps what is known of files that are as they
        were.

        Args:
            options: of the run; those of the runs before were the same.
            founds: the listing.
            sidecar: with the leaves of the last run that was finished; the store closes it.
        """
        self._sidecar = sidecar
        begin = time_ns() - RACY_NS
        self._number = self._run_row()[1] + 1
        run = self._base.execute
        with self._errors():
            run("UPDATE run SET options = ?, number = ?, finished = 0", (options, self._number))
        rows: list[tuple[Any, ...]] = []
        for found in founds:
            # What has no identity is never known: its empty one is that of any other content too.
            trusted = bool(found.identity) and found.modified_ns < begin
            rows.append((*found[:4], trusted, self._number))
            if len(rows) == _LISTED_AT_ONCE:
                self._list(rows)
        self._list(rows)
        with self._errors():
            run("DELETE FROM files WHERE number != ?", (self._number,))
            self._check_known()
            for table in ("leaves", "roots"):
                run(
                    f"DELETE FROM {table} WHERE NOT EXISTS (SELECT 1 FROM files WHERE files.path ="
                    f" {table}.path AND (residue IS NOT NULL OR part_blocks IS NOT NULL))"
                )
            row = run(
                "SELECT count(*) - count(target), count(target), sum(size),"
                f" count(residue), sum(({_UNKNOWN}) * (size - ifnull(part_blocks, 0) * ?))"
                " FROM files",
                (BLOCK_BYTES,),
            ).fetchone()
            self._commit()
        files, links, size, known, unread = row
        self._count = files + links
        return Listed(files, links, size or 0, known, unread or 0)

    def _list(self, rows: list[tuple[Any, ...]]) -> None:
        rows.sort()  # the table is in this order: neighbours are on one page
        with self._errors():
            self._base.executemany(_LIST, rows)
        rows.clear()
        self.commit_if_due()

    def _check_known(self) -> None:
        """Forgets what cannot be used: rows with another checksum, leaves that are damaged."""
        useless: list[tuple[bytes]] = []
        for row in self._pages(_KNOWN, "residue IS NOT NULL"):
            path, size, *_, root, checksum, leaf = row
            if checksum != _checksum(*row[:-2]) or not self._has_leaves(size, root, leaf):
                useless.append((path,))
                if len(useless) == _ROWS_AT_ONCE:
                    self._forget(useless)
        self._forget(useless)

    def _forget(self, paths: list[tuple[bytes]]) -> None:
        clear = ", ".join(f"{name} = NULL" for name in _KEPT)
        self._base.executemany(f"UPDATE files SET {clear} WHERE path = ?", paths)
        paths.clear()

    def _has_leaves(self, size: int, root: bytes, leaf: int | None) -> bool:
        if leaf is None:
            return True
        try:
            self._check_leaves(size, root, self._sidecar_leaves(size, leaf))
        except FileError:
            return False
        return True

    def _check_leaves(
        self,
        size: int,
        root: bytes,
        pieces: Iterable[bytes],
        take: Callable[[bytes], object] | None = None,
    ) -> None:
        stream = TreeStream()
        windows = 0
        for piece in pieces:
            stream.append(piece, 0)
            windows += len(piece) // DIGEST_BYTES
            if take is not None:
                take(piece)
        if windows != window_count(size) or stream.result()[0] != root:
            raise self._damaged()

    def _sidecar_leaves(self, size: int, leaf: int) -> Iterator[bytes]:
        if self._sidecar is None:
            raise FileError("there are no leaves of the last run")
        stop = leaf + window_count(size)
        for at in range(leaf, stop, _LEAVES_AT_ONCE):
            count = DIGEST_BYTES * min(_LEAVES_AT_ONCE, stop - at)
            some = self._sidecar.read(at * DIGEST_BYTES, count)
            if len(some) != count:
                raise FileError("the leaves of the last run are cut short")
            yield some

    def _pages(self, columns: str, where: str) -> Iterator[tuple[Any, ...]]:
        """Rows in order of path, which may be changed meanwhile."""
        query = (
            f"SELECT {columns} FROM files WHERE path > ? AND {where} ORDER BY path"
            f" LIMIT {_ROWS_AT_ONCE}"
        )
        last: Any = b""
        while True:
            with self._errors():
                rows = self._base.execute(query, (last,)).fetchall()
            yield from rows
            if len(rows) < _ROWS_AT_ONCE:
                return
            last = rows[-1][0]

    def unknown(self) -> Iterator[Found]:
        """The files to read: first those of several blocks, the largest first, so that none of them
        is alone at the end; then the others in order of path, as they are on a disk."""
        query = (
            f"SELECT {_FOUND} FROM files WHERE size > {BLOCK_BYTES} AND (size, path) < (?, ?) AND"
            f" {_UNKNOWN} ORDER BY size DESC, path DESC LIMIT {_ROWS_AT_ONCE}"
        )
        last: tuple[int, Any] = (2**63 - 1, b"")
        while True:
            with self._errors():
                rows = self._base.execute(query, last).fetchall()
            yield from starmap(Found, rows)
            if len(rows) < _ROWS_AT_ONCE:
                break
            last = (rows[-1][1], rows[-1][0])
        yield from starmap(Found, self._pages(_FOUND, f"size <= {BLOCK_BYTES} AND {_UNKNOWN}"))

    # --- What is found of a file

    def known(self, found: Found, digests: Digests) -> None:
        """A file was read."""
        residue, sha256, root = digests
        checksum = _checksum(*found[:4], residue, sha256, root)
        self._known.append((residue, sha256, root, checksum, found.path))
        if found.size > WINDOW_BYTES:
            self._forget_part(found.path)
        if len(self._known) == _ROWS_AT_ONCE:
            with self._errors():
                self._flush()
        self.commit_if_due()

    def failed(self, found: Found) -> None:
        """A file could not be read."""
        with self._errors():
            self._flush()
            self._forget([(found.path,)])
            self._base.execute("DELETE FROM roots WHERE path = ?", (found.path,))
            self._base.execute("DELETE FROM leaves WHERE path = ?", (found.path,))
        self._forget_part(found.path)

    def _forget_part(self, path: bytes) -> None:
        self._windows.pop(path, None)
        self._checksums.pop(path, None)

    def sink(self, found: Found) -> LeafSink | None:
        """Takes the leaves of a file. A file of one window has its root as its leaf."""
        if found.size <= WINDOW_BYTES:
            return None
        path = found.path
        self._windows[path] = 0

        def take(hashes: bytes) -> None:
            first = self._windows[path]
            self._leaves.append((path, first, hashes))
            self._windows[path] = first + len(hashes) // DIGEST_BYTES
            if len(self._leaves) == _ROWS_AT_ONCE:
                with self._errors():
                    self._flush()

        return take

    def progress(self, found: Found, checkpoint: Checkpoint, root: bytes) -> None:
        """A block of a file was read."""
        path = found.path
        checksum = crc32(root, self._checksums.get(path, 0))
        self._checksums[path] = checksum
        if root:
            self._roots.append((path, checkpoint.blocks - 1, root))
        self._parts[path] = (*checkpoint, _part_checksum(checksum, *checkpoint), path)
        self.commit_if_due()

    def resume(self, found: Found) -> tuple[Checkpoint, Iterable[bytes]] | None:
        """How far a file was read by a run before."""
        path = found.path
        query = (
            "SELECT part_blocks, part_residue, part_flat, part_checksum FROM files WHERE path = ?"
        )
        with self._errors():
            self._flush()
            blocks, residue, flat, checksum = self._base.execute(query, (path,)).fetchone()
            if blocks is not None:
                roots = self._base.execute(
                    "SELECT root FROM roots WHERE path = ? AND block < ? ORDER BY block",
                    (path, blocks),
                )
                joined = b"".join(root for (root,) in roots)
                whole = crc32(joined)
                checkpoint = Checkpoint(blocks, residue, flat)
                if checksum == _part_checksum(whole, *checkpoint):
                    self._checksums[path] = whole
                    self._windows[path] = blocks * FANOUT
                    self._base.execute(
                        "DELETE FROM leaves WHERE path = ? AND first >= ?", (path, blocks * FANOUT)
                    )
                    return checkpoint, (joined,)
            self._base.execute("DELETE FROM roots WHERE path = ?", (path,))
            self._base.execute("DELETE FROM leaves WHERE path = ?", (path,))
        return None

    def commit_if_due(self) -> None:
        """Makes what is known last, where the last time was about a second ago."""
        if monotonic() >= self._due:
            with self._errors():
                self._commit()

    def _commit(self) -> None:
        self._flush()
        self._base.execute("COMMIT")
        self._base.execute("BEGIN IMMEDIATE")
        self._due = monotonic() + _COMMIT_S

    def _flush(self) -> None:
        many = self._base.executemany
        many("INSERT OR REPLACE INTO roots VALUES (?, ?, ?)", self._roots)
        many("INSERT OR REPLACE INTO leaves VALUES (?, ?, ?)", self._leaves)
        many(
            "UPDATE files SET part_blocks = ?, part_residue = ?, part_flat = ?, part_checksum = ?"
            " WHERE path = ?",
            self._parts.values(),
        )
        many(
            "UPDATE files SET residue = ?, sha256 = ?, root = ?, checksum = ?, leaf = NULL,"
            " part_blocks = NULL WHERE path = ?",
            self._known,
        )
        for waiting in (self._roots, self._leaves, self._parts, self._known):
            waiting.clear()

    # --- The results

    def entries(self, leaves: Callable[[bytes], object] | None = None) -> Iterator[Entry]:
        """The entries in order of path, when all files are known.

        Args:
            leaves: takes the leaves of all files in this order, and where they are is kept for the
                next run.
        """
        with self._errors():
            self._commit()
            self._writing = leaves is not None
        at = count = 0
        places: list[tuple[int, bytes]] = []
        for row in self._pages(_KNOWN, "TRUE"):
            path, size, identity, target, residue, sha256, root, checksum, leaf = row
            count += 1
            if target is not None:
                yield Entry(path, target=target)
                continue
            if checksum != _checksum(path, size, identity, target, residue, sha256, root):
                raise self._damaged()
            yield Entry(path, size, residue, sha256, root)
            if leaves is None:
                continue
            windows = window_count(size)
            if windows == 1:
                leaves(root)
            elif windows > 1:
                kept = leaf is None
                pieces = self._kept_leaves(path) if kept else self._sidecar_leaves(size, leaf)
                self._check_leaves(size, root, pieces, leaves)
                places.append((at, path))
            at += windows
            if len(places) == _ROWS_AT_ONCE:
                self._place(places)
        self._place(places)
        if count != self._count:
            raise self._damaged()

    def _place(self, places: list[tuple[int, bytes]]) -> None:
        with self._errors():
            self._base.executemany("UPDATE files SET leaf = ? WHERE path = ?", places)
        places.clear()

    def _kept_leaves(self, path: bytes) -> Iterator[bytes]:
        query = "SELECT hashes FROM leaves WHERE path = ? ORDER BY first"
        with self._errors():
            for (hashes,) in self._base.execute(query, (path,)):
                yield hashes

    def finish(self) -> None:
        """The manifest was written: the next run may update it. Leaves are in the sidecar now."""
        with self._errors():
            self._flush()
            run = self._base.execute
            parts = run("SELECT EXISTS (SELECT 1 FROM leaves UNION SELECT 1 FROM roots)").fetchone()
            run("DELETE FROM leaves")
            run("DELETE FROM roots")
            run("UPDATE run SET finished = 1")
            run("COMMIT")
            self._writing = False
            if parts != (0,):
                with suppress(sqlite3.OperationalError):  # it would be smaller, no more
                    run("VACUUM")


def _checksum(
    path: bytes,
    size: int,
    identity: str,
    target: bytes | None,
    residue: int,
    sha256: bytes | None,
    root: bytes | None,
) -> int:
    text = f"{size} {residue} {identity}".encode()
    try:
        values = b"%b\0%b%b%b" % (text, sha256 or b"-", root or b"-", target or b"")
        return crc32(values, crc32(path))
    except TypeError:
        return -1  # that of no row


def _part_checksum(roots: int, blocks: int, residue: int, flat: bytes | None) -> int:
    return crc32(f"{roots} {blocks} {residue} {flat!r}".encode())
