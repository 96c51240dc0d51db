# SPDX-License-Identifier: Apache-2.0
"""Keep the listing of a run and the known digests of each file, in little memory.

What comes one by one and in any order is in SQLite, so that only files are read that are not known.
The database is a private, unnamed file that is gone after the run, so SQLite never opens a file
that somebody else could have written. Siblings come in order and nothing is known of them, so that
they need no database: see `Spool`. The data for the next run goes to a `StateFile`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, starmap
from operator import add, itemgetter
from time import monotonic, time, time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from .._errors import WitnessError
from .._files import FileError, RegularFile
from .._native import DIGEST_BYTES, WINDOW_BYTES, tree_root
from .._sidecars import WrongLeavesError, checked
from .._subtree import BLOCK_BYTES, FANOUT, window_count
from .._witness import ALGORITHM, TREE_ALGORITHM, WitnessStream
from ._entries import LINES_AT_ONCE, Entry, Lines, read_line
from ._hashing.file_hash import Checkpoint, Digests, LeafSink
from ._hashing.siblings import Hashed
from ._known_lines import (
    EarlierLines,
    Judged,
    KnownLines,
    Piece,
    Single,
    ahead,
    forget_without_leaves,
    names_of,
    parted,
)
from ._leaves_file import LeavesFile
from ._paths import quoted
from ._sources.siblings import OF_LAST, OF_LOG, READ, Siblings
from ._sources.source import UNTRUSTED, Found, same_but_ctime
from ._spool import Spool
from ._state_file import StateFile
from ._state_frames import REFUSED, Begun, Context, Failed, Known, Part, Roots, StateRecord

if TYPE_CHECKING:
    import sqlite3

# What is modified while it is read may keep its identity where the clock of the file system is
# coarse. FAT has the coarsest, of 2 s. So a file is not taken as known later unless it was modified
# longer before the listing than this.
RACY_NS: Final = 2 * 10**9
# A run that is killed before costs no more than this to repeat, and most runs end before: they
# have nothing to write but their manifest.
KEPT_AFTER_S: Final = 5.0

_COMMIT_S: Final = 1.0
_ROWS_AT_ONCE: Final = 1000
_LISTED_AT_ONCE: Final = 20_000
_CACHE_KIB: Final = 16 * 1024
_YIELDED_BYTES: Final = 1 << 17  # lines of siblings

_SCHEMA: Final = (
    # residue: known where not null. fresh: by this run or the one that it goes on with. leaf: the
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
    "UPDATE files SET residue = ?, sha256 = ?, root = ?, leaf = ?, fresh = 1 WHERE path = ?"
)
# In place of the leaves of siblings: the first one among those under way, how many there are, and
# their SHA-256.
_LEAVES: Final = struct.Struct("=QQ32s")
_DAMAGED_LEAVES: Final = "the leaves are damaged; the next run reads them again"
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


def _with_known(siblings: Siblings, judged: Judged, of_log: bytes, leaves: bytes) -> Siblings:
    """Return siblings with what earlier runs know of them."""
    known = judged.known
    if known == 0:
        return siblings
    origin = READ
    if known == siblings.files:
        origin = OF_LAST if 0 in of_log else OF_LOG
    return siblings._replace(
        numbers=bytes(judged.numbers), known=bytes(judged.results), leaves=leaves, origin=origin
    )


class _KnownFile(NamedTuple):
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


class _Progress:
    """A file that is being read: its place in the leaves, and data not yet in the state."""

    __slots__ = ("checkpoint", "first", "found", "leaf", "roots", "windows")

    def __init__(self, found: Found) -> None:
        self.found = found
        self.leaf: int | None = None
        self.windows = 0  # whose leaves were taken
        self.checkpoint: Checkpoint | None = None  # None if the state has it
        self.first = 0  # the block of the first of the roots
        self.roots = bytearray()


class Store:
    """The files of one run; a context manager. Used by one thread.

    Args:
        digests: digests of the run.
        state: keeps the data for the next run; None to keep nothing.
        leaves: takes the leaves of siblings, and of other files of more than one window; None if
            they are not wanted.
        kept_after: seconds until it starts to keep results.
        failed: called with the error when nothing more can be kept; may raise it.
        together: whether small files may come as siblings.

    Attributes:
        since_ns: a file that was modified then or later, in nanoseconds since 1970, has an identity
            that does not show later changes.

    Raises:
        FileError: also from all methods: the database cannot be read or written.
    """

    def __init__(
        self,
        digests: tuple[str, ...],
        state: StateFile | None = None,
        leaves: LeavesFile | None = None,
        *,
        kept_after: float = KEPT_AFTER_S,
        failed: Callable[[FileError], object] = lambda _: None,
        together: bool = True,
    ) -> None:
        self._digests = (ALGORITHM in digests, TREE_ALGORITHM in digests)
        self._state = state
        self._leaves = leaves
        self._failed = failed
        self._due = monotonic() + kept_after
        self._context: Context = {}
        self._update = False
        self._keeping = False
        self._known: list[tuple[Digests, int | None, bytes]] = []
        self._reading: dict[bytes, _Progress] = {}
        self._changed: set[bytes] = set()  # of those, the ones with news for the state
        self._count = 0  # of files and links
        self._sidecar: RegularFile | None = None
        self._ignores_ctime = False
        self._together = together
        self._earlier = EarlierLines(self._digests)
        # Has the database what is known of small files without lines, and of all small files?
        self._has_small = self._has_all = False
        self._opened: sqlite3.Connection | None = None
        self._read = ahead(self._read_last), ahead(self._read_fresh)
        self._siblings = Spool(Siblings)
        self._hashed = Spool(Hashed)
        # Where `leaves_of` looked last: it is mostly asked in order of path.
        self._near: Hashed | None = None
        self._following: Iterator[Hashed] = iter(())
        self.since_ns = 0

    @property
    def _base(self) -> sqlite3.Connection:
        """The database, which is made when it is needed."""
        if self._opened is None:
            import sqlite3  # here, because many runs do without

            with self._errors():
                # A name that is empty: a private file that SQLite deletes.
                base = sqlite3.connect("", isolation_level=None)
                try:
                    base.create_function("same_but_ctime", 2, same_but_ctime, deterministic=True)
                    base.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                    base.execute("PRAGMA temp_store = FILE")
                    base.execute("PRAGMA journal_mode = OFF")
                    base.execute("BEGIN")
                    for statement in _SCHEMA:
                        base.execute(statement)
                except BaseException:
                    base.close()
                    raise
            self._opened = base
        return self._opened

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            import sqlite3

            if not isinstance(error, sqlite3.Error):
                raise
            raise FileError(f"the temporary database cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._keeping:
            with suppress(FileError):
                self._commit()
        if self._sidecar is not None:
            self._sidecar.__exit__(None, None, None)
        self._siblings.close()
        self._hashed.close()
        self._earlier.close()
        if self._opened is not None:
            with suppress(FileError), self._errors():
                self._opened.close()

    @property
    def is_kept(self) -> bool:
        """Whether the next run could resume this one."""
        return self._keeping

    def end(self) -> None:
        """Keep nothing more: the run has ended."""
        self._keeping = False

    def keep_refused(self) -> None:
        """Keep all results for a run that accepts them, because nothing is written now."""
        if self._state is not None:
            self._context = {**self._context, REFUSED: True}
            self._keeping = False  # the records begin anew, with this
            self._commit()

    # --- Results of earlier runs

    def load_last(self, lines: Iterable[Piece | Single]) -> None:
        """Load the results of the last run for the files of its manifest, in order.

        Args:
            lines: the lines of the manifest. If the iterator raises FileError, nothing is loaded.
        """
        known = KnownLines(self._digests)
        rows: list[dict[str, Any]] = []
        try:
            for some in lines:
                if isinstance(some, Single):
                    self._add_row(rows, some.entry, some.identity, some.first_leaf, fresh=False)
                elif self._together:
                    known.add(some)
                else:
                    self._add_rows(rows, some, fresh=False)
            self._load(rows)
        except BaseException:
            known.close()
            if self._opened is not None:
                with self._errors():
                    self._base.execute("DELETE FROM files")
            raise
        self._earlier.set_last(known)

    def load_log(self, records: Iterable[StateRecord]) -> None:
        """Load the results of an interrupted run, which this run resumes."""
        rows: list[dict[str, Any]] = []
        for record in records:
            if isinstance(record, Known):
                known = record._asdict()
                digests = known.pop("digests")
                self._has_small |= record.size <= BLOCK_BYTES
                rows.append({**known, **digests._asdict(), "fresh": 1})
                if len(rows) == _ROWS_AT_ONCE:
                    self._load(rows)
                continue
            if isinstance(record, Piece):
                if not self._together or not self._earlier.add(record):
                    self._has_small = True
                    self._add_rows(rows, record, fresh=True)
                continue
            execute, many = self._base.execute, self._base.executemany
            with self._errors():
                if isinstance(record, Roots):
                    many(_PUT_ROOT, _numbered(record))
                elif isinstance(record, Part):
                    part = record._asdict()
                    checkpoint = part.pop("checkpoint")
                    execute(_PUT_PART, {**part, **checkpoint._asdict()})
                else:
                    self._load(rows)
                    for table in ("files", "parts", "roots"):
                        execute(f"DELETE FROM {table} WHERE path = ?", (record.path,))
        self._load(rows)
        self._keeping = self._state is not None

    def _add_rows(self, rows: list[dict[str, Any]], piece: Piece, fresh: bool) -> None:
        for entry, identity, leaf in piece.entries(self._digests):
            self._add_row(rows, entry, identity, leaf, fresh)

    def _add_row(
        self, rows: list[dict[str, Any]], entry: Entry, identity: str, leaf: int, fresh: bool
    ) -> None:
        """Add what is known of a file, unless its identity does not show later changes."""
        if entry.target is not None or identity.startswith(UNTRUSTED):
            return
        self._has_small |= entry.size <= BLOCK_BYTES
        rows.append(
            {
                "path": entry.path,
                "size": entry.size,
                "identity": identity,
                "residue": entry.residue,
                "sha256": entry.sha256,
                "root": entry.root,
                "fresh": fresh,
                "leaf": leaf,
            }
        )
        if len(rows) == _ROWS_AT_ONCE:
            self._load(rows)

    def _load(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            with self._errors():
                self._base.executemany(_LOAD, rows)
            rows.clear()

    def begin(
        self,
        founds: Iterable[Found | Siblings],
        context: Context,
        update: bool,
        sidecar: RegularFile | None = None,
        *,
        ignore_ctime: bool = False,
    ) -> ListingCounts:
        """Store the listing, and keep the known digests of files that did not change.

        Args:
            founds: the listing.
            context: context of the run; the loaded runs had the same.
            update: whether results of a finished run were loaded.
            sidecar: leaves of the manifest that was last written; the store closes it.
            ignore_ctime: keep known digests of files whose ctime alone changed.
        """
        self._context, self._update = context, update
        self._sidecar = sidecar
        self._ignores_ctime = ignore_ctime
        self._list_by = _LIST_WITHOUT_CTIME if ignore_ctime else _LIST
        self.since_ns = time_ns() - RACY_NS
        total = ListingCounts(0, 0, 0, 0, 0)
        rows: list[tuple[object, ...]] = []
        for found in founds:
            if isinstance(found, Siblings):
                for some in self._apart(found):
                    if isinstance(some, Siblings):
                        total = self._add_siblings(some, total)
                    else:
                        self._add_found(rows, some)
                continue
            if self._earlier and found.target is None and found.size <= BLOCK_BYTES:
                self._load_earlier()
            self._add_found(rows, found)
        self._count = total.files
        if not rows and self._opened is None:
            return total
        self._list(rows)
        execute = self._base.execute
        with self._errors():
            execute("DELETE FROM files WHERE NOT listed")
            self._forget_damaged()
            execute(
                "DELETE FROM parts WHERE NOT EXISTS (SELECT 1 FROM files WHERE files.path ="
                " parts.path AND files.size = parts.size AND files.identity = parts.identity"
                f" AND parts.identity != '' AND {_UNKNOWN.replace('residue', 'files.residue')})"
            )
            execute("DELETE FROM roots WHERE path NOT IN (SELECT path FROM parts)")
            row = execute(
                "SELECT count(*) - count(target), count(target), ifnull(sum(size), 0),"
                f" count(residue), ifnull(sum(({_UNKNOWN}) * size), 0)"
                " - (SELECT ifnull(sum(min(size, blocks * ?)), 0)"
                " FROM parts), total(by_ctime), (SELECT count(*) FROM parts) FROM files",
                (BLOCK_BYTES,),
            ).fetchone()
        listed = ListingCounts(*map(int, row))
        self._count += listed.files + listed.links
        return listed.plus(total)

    def _add_found(self, rows: list[tuple[object, ...]], found: Found) -> None:
        # A file without identity is never known, as its content may be anything.
        trusted = bool(found.identity) and found.modified_ns < self.since_ns
        rows.append((found.path, found.size, found.identity, found.target, trusted))
        if len(rows) == _LISTED_AT_ONCE:
            self._list(rows)

    def _list(self, rows: list[tuple[object, ...]]) -> None:
        rows.sort(key=itemgetter(0))  # the table is in this order: neighbours are on one page
        with self._errors():
            self._base.executemany(self._list_by, rows)
        rows.clear()

    def _load_earlier(self) -> None:
        """Load all lines of earlier runs, because a small file did not come with siblings, which is
        rare."""
        if self._has_all:
            return
        self._has_all = True
        rows: list[dict[str, Any]] = []
        had_small = self._has_small
        for piece, fresh in self._earlier.pieces():
            self._add_rows(rows, piece, fresh)
        self._load(rows)
        self._has_small = had_small

    def _apart(self, siblings: Siblings) -> Iterator[Siblings | Found]:
        """Yield siblings, but those one by one of which the database knows something."""
        if not self._has_small:
            yield siblings
            return
        find = "SELECT 1 FROM files WHERE path = ?"
        with self._errors():
            known = [
                self._base.execute(find, (path,)).fetchone() is not None for path in siblings.paths
            ]
        start = 0
        for index, found in enumerate(siblings.founds()):
            if known[index]:
                if start < index:
                    yield siblings.some(start, index)
                yield found
                start = index + 1
        if start < siblings.files:
            yield siblings.some(start, siblings.files)

    def _add_siblings(self, siblings: Siblings, total: ListingCounts) -> ListingCounts:
        """Store siblings with what earlier runs know of them; return the counts with them."""
        known = by_ctime = 0
        if self._earlier:
            judged, of_log = self._earlier.judge(siblings, self._ignores_ctime)
            leaves = b""
            if self._leaves is not None:
                leaves = forget_without_leaves(judged, of_log, self._read, self._leaves.reserve)
            known = judged.known
            by_ctime = 0 if self._ignores_ctime else judged.by_ctime
            siblings = _with_known(siblings, judged, of_log, leaves)
        self._siblings.add(siblings)
        unread, size = siblings.unread, siblings.size
        left = 0 if unread is None else size if unread is siblings else unread.size
        return total.plus(ListingCounts(siblings.files, 0, size, known, left, by_ctime))

    def _forget_damaged(self) -> None:
        """Forget files, and parts of files, whose leaves are missing or wrong."""
        if self._leaves is None:
            return
        useless: list[tuple[bytes]] = []
        where = f"residue IS NOT NULL AND size > {WINDOW_BYTES}"
        for known in self._known_files(where):
            if self._has_leaves(known):
                if known.fresh:
                    self._leaves.reserve(window_count(known.size), known.leaf)
                continue
            useless.append((known.path,))
            if len(useless) == _ROWS_AT_ONCE:
                self._forget(useless)
        self._forget(useless)
        useless = []
        for path, size, blocks, leaf in self._base.execute(
            "SELECT path, size, blocks, leaf FROM parts"
        ).fetchall():
            if leaf is None or not self._has_blocks(path, size, blocks, leaf):
                useless.append((path,))
        self._base.executemany("DELETE FROM parts WHERE path = ?", useless)

    def _forget(self, paths: list[tuple[bytes]]) -> None:
        clear = ", ".join(f"{name} = NULL" for name in _KEPT)
        with self._errors():
            self._base.executemany(f"UPDATE files SET {clear} WHERE path = ?", paths)
        paths.clear()

    def _has_leaves(self, known: _KnownFile) -> bool:
        try:
            for _ in self._kept_leaves(known):
                pass
        except FileError:
            return False
        return True

    def _has_blocks(self, path: bytes, size: int, blocks: int, leaf: int) -> bool:
        assert self._leaves is not None
        windows = window_count(size)
        roots = self._roots(path, blocks)
        for first in range(0, min(blocks * FANOUT, windows), FANOUT):
            count = min(FANOUT, windows - first)
            hashes = self._leaves.read(leaf + first, count)
            if len(hashes) != count * DIGEST_BYTES or tree_root(hashes) != next(roots, None):
                return False
        self._leaves.reserve(windows, leaf)
        return True

    def _roots(self, path: bytes, blocks: int) -> Iterator[bytes]:
        query = "SELECT root FROM roots WHERE path = ? AND block < ? ORDER BY block"
        return (root for (root,) in self._base.execute(query, (path, blocks)))

    def _kept_leaves(self, known: _KnownFile) -> Iterator[bytes]:
        """Yield the leaves of a file, joined, in batches.

        Raises:
            FileError: the leaves are missing, or do not match the root.
        """
        if known.leaf is None:
            raise FileError("there are no leaves of the last run")
        read = self._read_fresh if known.fresh and self._leaves is not None else self._read_last
        try:
            yield from checked(read, known.leaf, window_count(known.size), known.root)
        except WrongLeavesError as error:
            raise FileError(_DAMAGED_LEAVES) from error

    def _read_fresh(self, place: int, count: int) -> bytes:
        assert self._leaves is not None
        return self._leaves.read(place, count)

    def _read_last(self, place: int, count: int) -> bytes:
        if self._sidecar is None:
            raise FileError("there are no leaves of the last run")
        return self._sidecar.read(place * DIGEST_BYTES, count * DIGEST_BYTES)

    def leaves_of(self, path: bytes) -> Iterator[bytes]:
        """Yield the leaves of a file that was read or is known, joined, in batches.

        Raises:
            FileError: the leaves are missing, or do not match the root.
        """
        self._flush()
        if self._leaves is not None:
            self._leaves.flush()
        row = None
        if self._opened is not None:
            query = f"SELECT {', '.join(_KnownFile._fields)} FROM files WHERE path = ?"
            with self._errors():
                row = self._opened.execute(query, (path,)).fetchone()
        if row is None:
            yield self._leaves_of_sibling(path)
            return
        known = _KnownFile._make(row)
        if known.size <= WINDOW_BYTES:
            yield known.root if known.size else b""
        elif self._leaves is not None:
            yield from self._kept_leaves(known)

    def _leaves_of_sibling(self, path: bytes) -> bytes:
        """Return the leaves of a file that was read with its siblings."""
        hashed = self._near
        if hashed is None or path < hashed.first:
            self._following = iter(self._hashed)
            hashed = next(self._following, None)
        while hashed is not None and hashed.last < path:
            hashed = next(self._following, None)
        self._near = hashed
        if hashed is not None and self._leaves is not None:
            hashes = self._leaves_of(hashed)
            end = 0
            for entry in map(self._read_line, hashed.text.split(b"\n")[:-1]):
                start, end = end, end + window_count(entry.size) * DIGEST_BYTES
                if entry.path == path:
                    return hashes[start:end]
        raise FileError(f"there are no leaves of {quoted(path)}")

    def _pages(self, columns: str, where: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows in order of path; the table may change during the iteration."""
        query = (
            f"SELECT {columns} FROM files WHERE path > ? AND {where} ORDER BY path"
            f" LIMIT {_ROWS_AT_ONCE}"
        )
        last: Any = b""
        while self._opened is not None:
            with self._errors():
                rows = self._opened.execute(query, (last,)).fetchall()
            yield from rows
            if len(rows) < _ROWS_AT_ONCE:
                return
            last = rows[-1][0]

    def _known_files(self, where: str) -> Iterator[_KnownFile]:
        return map(_KnownFile._make, self._pages(", ".join(_KnownFile._fields), where))

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
        while self._opened is not None:
            with self._errors():
                rows = self._opened.execute(query, last).fetchall()
            yield from starmap(Found, rows)
            if len(rows) < _ROWS_AT_ONCE:
                break
            last = (rows[-1][1], rows[-1][0])
        yield from starmap(Found, self._pages(_FOUND, f"size <= {BLOCK_BYTES} AND {_UNKNOWN}"))

    def siblings(self) -> Iterator[Siblings]:
        """Yield the siblings in order of path; all of them are to be read."""
        return iter(self._siblings)

    # --- Results for a file

    def hashed(self, hashed: Hashed) -> None:
        """Store the lines and the leaves of siblings that were read, in order of path."""
        if self._leaves is not None:
            count = len(hashed.leaves) // DIGEST_BYTES
            place = self._leaves.reserve(count)
            self._leaves.write(place, hashed.leaves)
            digest = WitnessStream(hashed.leaves).digest()
            hashed = hashed._replace(leaves=_LEAVES.pack(place, count, digest))
        self._hashed.add(hashed)
        if self._keeping and hashed.origin == READ:  # the others are kept already
            self._keep_hashed(hashed)
        self._tick()

    def known(self, found: Found, digests: Digests) -> None:
        """Store the digests of a file that was read."""
        path = found.path
        reading = self._reading.pop(path, None)
        self._changed.discard(path)
        leaf = None if reading is None else reading.leaf
        self._known.append((digests, leaf, path))
        if len(self._known) == _ROWS_AT_ONCE:
            self._flush()
        self._tick()

    def failed(self, found: Found) -> None:
        """Forget a file that could not be read."""
        path = found.path
        self._reading.pop(path, None)
        self._changed.discard(path)
        if found.size > BLOCK_BYTES:
            self._keep(lambda state: state.add(Failed(path)))

    def sink(self, found: Found) -> LeafSink | None:
        """Return the sink for the leaves of a file; None for one window, whose leaf is the root."""
        if found.size <= WINDOW_BYTES or self._leaves is None:
            return None
        leaves = self._leaves
        reading = self._reading[found.path] = _Progress(found)

        def take(hashes: bytes) -> None:
            if reading.leaf is None:
                reading.leaf = leaves.reserve(window_count(found.size))
            leaves.write(reading.leaf + reading.windows, hashes)
            reading.windows += len(hashes) // DIGEST_BYTES

        return take

    def progress(self, found: Found, checkpoint: Checkpoint, root: bytes) -> None:
        """Store the progress of reading a file."""
        if self._state is not None:
            reading = self._reading.get(found.path)
            if reading is None:
                reading = self._reading[found.path] = _Progress(found)
            reading.checkpoint = checkpoint
            reading.roots += root
            self._changed.add(found.path)
        self._tick()

    def resume(self, found: Found) -> tuple[Checkpoint, Iterable[bytes]] | None:
        """Return the progress of an earlier run on a file and the roots of its blocks, or None."""
        path = found.path
        query = "SELECT blocks, residue, flat, leaf FROM parts WHERE path = ?"
        with self._errors():
            row = self._base.execute(query, (path,)).fetchone()
            if row is None:
                return None
            blocks, residue, flat, leaf = row
            roots = list(self._roots(path, blocks)) if self._digests[1] else []
        if len(roots) != blocks * self._digests[1] or not _is_flat_state(flat, blocks, found.size):
            return None
        reading = self._reading.setdefault(path, _Progress(found))
        reading.first = blocks
        reading.leaf = leaf
        reading.windows = blocks * FANOUT
        return Checkpoint(blocks, residue, flat), (b"".join(roots),)

    def _flush(self) -> None:
        """Write new results to the database, and pass them to the state."""
        if not self._known:
            return
        known, self._known = self._known, []
        with self._errors():
            rows = [(*digests, leaf, path) for digests, leaf, path in known]
            self._base.executemany(_PUT_DIGESTS, rows)
            if self._keeping:
                find = "SELECT size, identity, trusted FROM files WHERE path = ?"
                for digests, leaf, path in known:
                    size, identity, trusted = self._base.execute(find, (path,)).fetchone()
                    if trusted:
                        self._keep_known(Known(path, size, identity, digests, leaf))

    def _keep_known(self, known: Known) -> None:
        self._keep(lambda state: state.known(known))

    # --- Data for the next run

    def _tick(self) -> None:
        """Save results, about once a second."""
        if self._state is not None and monotonic() >= self._due:
            self._commit()
            self._due = monotonic() + _COMMIT_S

    def _keep(self, act: Callable[[StateFile], object]) -> None:
        """Do something with the state, if there is one; the run continues if that fails."""
        if self._state is None or not self._keeping:
            return
        try:
            act(self._state)
        except FileError as error:
            self._give_up(error)

    def _give_up(self, error: FileError) -> None:
        self._keeping = False
        self._state = None
        self._changed.clear()
        self._failed(error)

    def _commit(self) -> None:
        state = self._state
        if state is None:
            return
        self._flush()
        try:
            if not self._keeping:
                self._begin_to_keep(state)
            self._keep_parts(state)
            if self._leaves is not None:
                self._leaves.flush()  # before what says that they are there
            if self._keeping:
                state.commit()
        except FileError as error:
            self._give_up(error)

    def _begin_to_keep(self, state: StateFile) -> None:
        sidecar = None if self._leaves is None else self._leaves.named()
        try:
            state.begin(Begun(self._context, int(time()), self._update, sidecar))
        except FileError:
            if self._leaves is not None:
                self._leaves.remove()  # nobody would find them
            raise
        self._keeping = True
        where = "fresh AND trusted AND residue IS NOT NULL AND target IS NULL"
        for row in self._known_files(where):
            digests = Digests(row.residue, row.sha256, row.root)
            self._keep_known(Known(row.path, row.size, row.identity, digests, row.leaf))
            self._commit_if_full(state)
        for hashed in self._hashed:
            if hashed.origin != OF_LAST:  # these are known from the manifest
                self._keep_hashed(hashed)
                self._commit_if_full(state)

    def _commit_if_full(self, state: StateFile) -> None:
        if state.is_full:
            if self._leaves is not None:
                self._leaves.flush()  # before what says that they are there
            state.commit()

    def _keep_hashed(self, hashed: Hashed) -> None:
        """Pass the results of siblings to the state."""
        place = 0 if self._leaves is None else _LEAVES.unpack(hashed.leaves)[0]

        def keep(state: StateFile) -> None:
            identities = hashed.identities.split(b"\n")
            for some in parted(hashed.text, identities, place, self._digests):
                if isinstance(some, Piece):
                    state.known_small(some)
                    continue
                entry, identity, first = some
                if not identity.startswith(UNTRUSTED):
                    has_leaves = self._leaves is not None and entry.size > WINDOW_BYTES
                    digests = Digests(entry.residue, entry.sha256, entry.root)
                    leaf = first if has_leaves else None
                    state.known(Known(entry.path, entry.size, identity, digests, leaf))

        self._keep(keep)

    def _read_line(self, line: bytes) -> Entry:
        return read_line(line, names_of(self._digests))

    def _keep_parts(self, state: StateFile) -> None:
        for path in self._changed:
            reading = self._reading[path]
            found, checkpoint = reading.found, reading.checkpoint
            assert checkpoint is not None
            if reading.roots:
                state.add(Roots(path, reading.first, bytes(reading.roots)))
                reading.roots.clear()
            reading.first = checkpoint.blocks
            if self._is_trusted(path):
                state.add(Part(path, found.size, found.identity, checkpoint, reading.leaf))
        self._changed.clear()

    def _is_trusted(self, path: bytes) -> bool:
        query = "SELECT trusted AND identity != '' FROM files WHERE path = ?"
        with self._errors():
            return bool(self._base.execute(query, (path,)).fetchone()[0])

    # --- The results

    def lines(
        self,
        leaves: Callable[[bytes], object] | None = None,
        identities: Callable[[list[bytes]], object] | None = None,
    ) -> Iterator[Lines]:
        """Yield the lines of the entries in order of path; all files are known.

        Args:
            leaves: called with the leaves of all files, in this order.
            identities: called with the identities of the entries, in this order; see
                `StateFile.keep`.
        """
        texts: list[bytes] = []  # of siblings
        hashes: list[bytes] = []
        kept: list[bytes] = []  # identities
        size = 0
        for some in chain(self._in_order(leaves), (None,)):
            if isinstance(some, Hashed):
                if leaves is not None:
                    leaves(self._leaves_of(some))
                texts.append(some.text)
                hashes.append(some.hashes)
                kept.append(some.identities)
                size += len(some.text)
                if size < _YIELDED_BYTES:
                    continue
            if texts:
                if identities is not None:
                    identities(b"\n".join(kept).split(b"\n"))
                yield Lines(b"".join(texts), b"".join(hashes))
                texts, hashes, kept, size = [], [], [], 0
            if isinstance(some, list):
                if identities is not None:
                    identities([identity.encode("utf-8", "surrogatepass") for _, identity in some])
                yield Lines.of([entry.to_json() for entry, _ in some])

    def _leaves_of(self, hashed: Hashed) -> bytes:
        place, count, digest = _LEAVES.unpack(hashed.leaves)
        hashes = self._read_fresh(place, count)
        if WitnessStream(hashes).digest() != digest:
            raise FileError(_DAMAGED_LEAVES)
        return hashes

    def _in_order(
        self, leaves: Callable[[bytes], object] | None
    ) -> Iterator[Hashed | list[tuple[Entry, str]]]:
        """Yield siblings, and other entries with their identities, in order of path."""
        self._flush()
        if self._leaves is not None:
            self._leaves.flush()
        rows = self._rows(leaves)
        following = next(rows, None)
        count = 0
        last = b""

        def require_after(path: bytes) -> None:
            if path <= last:
                raise FileError(f"the listing has the path {quoted(path)} out of order")

        for hashed in chain(self._hashed, (None,)):
            while following is not None and (hashed is None or following[0].path < hashed.first):
                some: list[tuple[Entry, str]] = []
                while (
                    following is not None
                    and len(some) < LINES_AT_ONCE
                    and (hashed is None or following[0].path < hashed.first)
                ):
                    require_after(following[0].path)
                    last = following[0].path
                    some.append(following)
                    following = next(rows, None)
                count += len(some)
                yield some
            if hashed is not None:
                require_after(hashed.first)
                last = hashed.last
                count += len(hashed.hashes) // DIGEST_BYTES
                yield hashed
        if count != self._count:
            raise FileError("the temporary database is damaged")

    def _rows(self, leaves: Callable[[bytes], object] | None) -> Iterator[tuple[Entry, str]]:
        """Yield the entries of the database with their identities, in order of path."""
        for row in self._known_files("TRUE"):
            identity = row.identity if row.trusted else UNTRUSTED + row.identity
            if row.target is not None:
                yield Entry(row.path, target=row.target), identity
                continue
            yield Entry(row.path, row.size, row.residue, row.sha256, row.root), identity
            if leaves is None:
                continue
            windows = window_count(row.size)
            if windows == 1:
                leaves(row.root)
            elif windows > 1:
                for hashes in self._kept_leaves(row):
                    leaves(hashes)


def _numbered(roots: Roots) -> Iterator[dict[str, object]]:
    for block, start in enumerate(range(0, len(roots.roots), DIGEST_BYTES), roots.first):
        root = roots.roots[start : start + DIGEST_BYTES]
        yield {"path": roots.path, "block": block, "root": root}


def _is_flat_state(flat: bytes | None, blocks: int, size: int) -> bool:
    """Return whether a state of a flat digest can be the state after that many blocks."""
    if flat is None:
        return True
    try:
        return WitnessStream.from_bytes(flat).witness().length == min(blocks * BLOCK_BYTES, size)
    except WitnessError:
        return False
