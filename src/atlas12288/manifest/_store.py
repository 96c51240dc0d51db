# SPDX-License-Identifier: Apache-2.0
"""Keep the listing of a run and the known digests of each file, in little memory.

What comes one by one and in any order is in a `FileTable`. Siblings come in order, and so does what
earlier runs left of small files: they need no database, see `Spool` and `EarlierLines`. The data
for the next run goes to a `StateFile` by a `Keeper`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from time import time_ns
from typing import Final, Self

from .._errors import WitnessError
from .._files import FileError, RegularFile
from .._native import DIGEST_BYTES, WINDOW_BYTES, tree_root
from .._sidecars import WrongLeavesError, checked
from .._subtree import BLOCK_BYTES, FANOUT, window_count
from .._witness import WitnessStream
from ._entries import LINES_AT_ONCE, Entry, Lines, flat_and_tree, names_of, read_line
from ._file_table import FileTable, Fresh, KnownFile, ListingCounts
from ._hashing.file_hash import Checkpoint, Digests, LeafSink
from ._hashing.siblings import Hashed
from ._keeper import KEPT_AFTER_S, Keeper
from ._known_lines import (
    LINE_END,
    EarlierLines,
    Judged,
    KnownLines,
    Piece,
    Single,
    ahead,
    forget_without_leaves,
)
from ._leaves_file import LeavesFile
from ._paths import quoted
from ._sources.siblings import OF_LAST, OF_LOG, READ, Siblings
from ._sources.source import UNTRUSTED, Found
from ._spool import Spool
from ._state_file import StateFile
from ._state_frames import Context, Failed, Known, Part, Roots, StateRecord

# What is modified while it is read may keep its identity where the clock of the file system is
# coarse. FAT has the coarsest, of 2 s. So a file is not taken as known later unless it was modified
# longer before the listing than this.
RACY_NS: Final = 2 * 10**9

_ROWS_AT_ONCE: Final = 1000
_YIELDED_BYTES: Final = 1 << 17  # lines of siblings
# In place of the leaves of siblings: the first one among those under way, how many there are, and
# their SHA-256.
_LEAVES: Final = struct.Struct("=QQ32s")
_DAMAGED_LEAVES: Final = "the leaves are damaged; the next run reads them again"


def _with_known(siblings: Siblings, judged: Judged, of_log: bytes, leaves: bytes) -> Siblings:
    """Return siblings with what earlier runs know of them."""
    known = judged.known
    if known == 0:
        return siblings
    origin = READ
    if known == siblings.files:
        origin = OF_LOG if 1 in of_log else OF_LAST
    return siblings._replace(
        numbers=bytes(judged.numbers), known=bytes(judged.results), leaves=leaves, origin=origin
    )


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
        since_ns: a file that was written then or later, in nanoseconds since 1970, has an identity
            that does not show later changes.

    Raises:
        FileError: also from all methods: the files of the run cannot be read or written.
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
        self._digests = flat_and_tree(digests)
        self._leaves = leaves
        self._keeper = Keeper(self, state, leaves, self._digests, kept_after, failed)
        self._table = FileTable()
        self._known: list[tuple[Digests, int | None, bytes]] = []
        self._reading: dict[bytes, _Progress] = {}
        self._changed: set[bytes] = set()  # of those, the ones with news for the state
        self._count = 0  # of files and links
        self._sidecar: RegularFile | None = None
        self._ignores_ctime = False
        self._together = together
        self._earlier = EarlierLines(self._digests)
        self._has_all = False  # does the table have what earlier lines tell?
        self._read = ahead(self._read_last), ahead(self._read_fresh)
        self._siblings = Spool(Siblings)
        self._hashed = Spool(Hashed)
        # Where `leaves_of` looked last: it is mostly asked in order of path.
        self._near: Hashed | None = None
        self._following: Iterator[Hashed] = iter(())
        self.since_ns = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._keeper.is_kept:
            with suppress(FileError):
                self._keeper.commit()
        if self._sidecar is not None:
            self._sidecar.__exit__(None, None, None)
        for part in (self._siblings, self._hashed, self._earlier, self._table):
            part.close()

    @property
    def is_kept(self) -> bool:
        """Whether the next run could resume this one."""
        return self._keeper.is_kept

    def end(self) -> None:
        """Keep nothing more: the run has ended."""
        self._keeper.end()

    def keep_refused(self) -> None:
        """Keep all results for a run that accepts them, because nothing is written now."""
        self._keeper.refuse()

    # --- Results of earlier runs

    def load_last(self, lines: Iterable[Piece | Single]) -> None:
        """Load the results of the last run for the files of its manifest, in order.

        Args:
            lines: the lines of the manifest. If the iterator raises FileError, nothing is loaded.
        """
        known = KnownLines(self._digests)
        try:
            for some in lines:
                if isinstance(some, Single):
                    self._load(some.entry, some.identity, some.first_leaf, Fresh.NO)
                elif self._together:
                    known.add(some)
                else:
                    self._load_piece(some, Fresh.NO)
            self._table.settle_known()
        except BaseException:
            known.close()
            self._table.clear()
            raise
        self._earlier.set_last(known)

    def load_log(self, records: Iterable[StateRecord], *, refused: bool = False) -> None:
        """Load the results of an interrupted run, which this run resumes.

        Args:
            records: what that run kept.
            refused: whether it read everything and was refused. Then this run keeps nothing of its
                own before its end: what it reads was not refused.
        """
        for record in records:
            if isinstance(record, Known):
                self._table.load(record, Fresh.NEWEST)
            elif isinstance(record, Piece):
                if not self._together or not self._earlier.add(record):
                    self._load_piece(record, Fresh.NEWEST)
            elif isinstance(record, Failed):
                self._table.drop(record.path)
            else:
                self._table.load_progress(record)
        self._table.settle_known()
        if refused:
            self._keeper.wait()
        else:
            self._keeper.go_on()

    def _load_piece(self, piece: Piece, fresh: Fresh) -> None:
        for entry, identity, leaf in piece.entries(self._digests):
            self._load(entry, identity, leaf, fresh)

    def _load(self, entry: Entry, identity: str, leaf: int, fresh: Fresh) -> None:
        """Load what is known of a file, unless its identity does not show later changes."""
        if entry.target is None and not identity.startswith(UNTRUSTED):
            place = None if self._leaves is None else leaf
            self._table.load(Known.of(entry, identity, place), fresh)

    # --- The listing

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
        self._keeper.describe(context, update)
        self._sidecar = sidecar
        self._ignores_ctime = ignore_ctime
        if ignore_ctime:
            self._table.ignore_ctime()
        self.since_ns = time_ns() - RACY_NS
        total = ListingCounts(0, 0, 0, 0, 0)
        for found in founds:
            if isinstance(found, Found):
                if self._earlier and found.target is None and found.size <= BLOCK_BYTES:
                    self._load_earlier()
                self._table.add(found, self.since_ns)
                continue
            for some in self._apart(found):
                if isinstance(some, Siblings):
                    total = total.plus(self._add_siblings(some))
                else:
                    self._table.add(some, self.since_ns)
        if self._table:
            self._table.settle()
            self._forget_damaged()
            self._table.settle_parts()
            total = total.plus(self._table.counts())
        self._count = total.files + total.links
        return total

    def _load_earlier(self) -> None:
        """Load all lines of earlier runs, because a small file did not come with siblings, which is
        rare."""
        if self._has_all:
            return
        self._has_all = True
        had_small = self._table.has_small
        for piece, of_log in self._earlier.pieces():
            self._load_piece(piece, Fresh.LINE if of_log else Fresh.NO)
        self._table.settle_known()
        self._table.has_small = had_small  # of which there are no lines

    def _apart(self, siblings: Siblings) -> Iterator[Siblings | Found]:
        """Yield siblings, but those one by one of which the table knows something."""
        if not self._table.has_small:
            yield siblings
            return
        known = [self._table.has(path) for path in siblings.paths]
        start = 0
        for index, found in enumerate(siblings.founds()):
            if known[index]:
                if start < index:
                    yield siblings.some(start, index)
                yield found
                start = index + 1
        if start < siblings.files:
            yield siblings.some(start, siblings.files)

    def _add_siblings(self, siblings: Siblings) -> ListingCounts:
        """Store siblings with what earlier runs know of them; return their counts."""
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
        return ListingCounts(siblings.files, 0, size, known, left, by_ctime)

    # --- Leaves

    def _forget_damaged(self) -> None:
        """Forget files, and parts of files, whose leaves are missing or wrong."""
        if self._leaves is None:
            return
        useless: list[bytes] = []
        for known in self._table.files(f"residue IS NOT NULL AND size > {WINDOW_BYTES}"):
            if self._has_leaves(known):
                if known.fresh:
                    self._leaves.reserve(window_count(known.size), known.leaf)
                continue
            useless.append(known.path)
            if len(useless) == _ROWS_AT_ONCE:
                self._table.forget(useless)
                useless.clear()
        self._table.forget(useless)
        self._table.forget_parts(
            [
                path
                for path, size, blocks, leaf in self._table.parts()
                if leaf is None or not self._has_blocks(path, size, blocks, leaf)
            ]
        )

    def _has_leaves(self, known: KnownFile) -> bool:
        try:
            for _ in self._kept_leaves(known):
                pass
        except FileError:
            return False
        return True

    def _has_blocks(self, path: bytes, size: int, blocks: int, leaf: int) -> bool:
        assert self._leaves is not None
        windows = window_count(size)
        roots = self._table.roots(path, blocks)
        for first in range(0, min(blocks * FANOUT, windows), FANOUT):
            count = min(FANOUT, windows - first)
            hashes = self._leaves.read(leaf + first, count)
            if len(hashes) != count * DIGEST_BYTES or tree_root(hashes) != next(roots, None):
                return False
        self._leaves.reserve(windows, leaf)
        return True

    def _kept_leaves(self, known: KnownFile) -> Iterator[bytes]:
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
        self.flush()
        if self._leaves is not None:
            self._leaves.flush()
        known = self._table.file(path)
        if known is None:
            yield self._leaves_of_sibling(path)
        elif known.size <= WINDOW_BYTES:
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

    def _leaves_of(self, hashed: Hashed) -> bytes:
        place, count, digest = _LEAVES.unpack(hashed.leaves)
        hashes = self._read_fresh(place, count)
        if WitnessStream(hashes).digest() != digest:
            raise FileError(_DAMAGED_LEAVES)
        return hashes

    def _read_line(self, line: bytes) -> Entry:
        return read_line(line, names_of(self._digests))

    # --- The files to read

    def unknown(self) -> Iterator[Found]:
        """Yield the files to read that are no siblings; see `FileTable.unknown`."""
        return self._table.unknown()

    def siblings(self) -> Iterator[Siblings]:
        """Yield the siblings in order of path, also those that are known."""
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
        self._keeper.hashed(hashed)
        self._keeper.tick()

    def known(self, found: Found, digests: Digests) -> None:
        """Store the digests of a file that was read."""
        path = found.path
        reading = self._reading.pop(path, None)
        self._changed.discard(path)
        leaf = None if reading is None else reading.leaf
        self._known.append((digests, leaf, path))
        if len(self._known) == _ROWS_AT_ONCE:
            self.flush()
        self._keeper.tick()

    def failed(self, found: Found) -> None:
        """Forget a file that could not be read."""
        path = found.path
        self._reading.pop(path, None)
        self._changed.discard(path)
        if found.size > BLOCK_BYTES:
            self._keeper.failed(path)

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
        if self._keeper.wants:
            reading = self._reading.get(found.path)
            if reading is None:
                reading = self._reading[found.path] = _Progress(found)
            reading.checkpoint = checkpoint
            reading.roots += root
            self._changed.add(found.path)
        self._keeper.tick()

    def resume(self, found: Found) -> tuple[Checkpoint, Iterable[bytes]] | None:
        """Return the progress of an earlier run on a file and the roots of its blocks, or None."""
        path = found.path
        part = self._table.part(path)
        if part is None:
            return None
        blocks, residue, flat, leaf = part
        roots = list(self._table.roots(path, blocks)) if self._digests[1] else []
        if len(roots) != blocks * self._digests[1] or not _is_flat_state(flat, blocks, found.size):
            return None
        reading = self._reading.setdefault(path, _Progress(found))
        reading.first = blocks
        reading.leaf = leaf
        reading.windows = blocks * FANOUT
        return Checkpoint(blocks, residue, flat), (b"".join(roots),)

    # --- What the keeper asks for: see `Results`

    def flush(self) -> None:
        """Write new results to the table, and pass them to the keeper."""
        if not self._known:
            return
        known, self._known = self._known, []
        self._table.put(known)
        if self._keeper.is_kept:
            for digests, leaf, path in known:
                row = self._table.file(path)
                assert row is not None
                if row.trusted:
                    self._keeper.known(Known(path, row.size, row.identity, digests, leaf))

    def fresh(self, recent: bool) -> Iterator[Known | Hashed]:
        """Yield what was read by this run or the one that it goes on with; `recent` says whether
        also files whose identity does not show later changes."""
        which = "fresh" if recent else "fresh AND trusted"
        for row in self._table.files(f"{which} AND residue IS NOT NULL AND target IS NULL"):
            digests = Digests(row.residue, row.sha256, row.root)
            yield Known(row.path, row.size, row.kept_identity, digests, row.leaf)
        yield from self._hashed

    def first_leaf(self, hashed: Hashed) -> int:
        """Return the place of the first leaf of siblings among those under way."""
        place: int = _LEAVES.unpack(hashed.leaves)[0]
        return place

    def progress_made(self) -> Iterator[Roots | Part]:
        """Yield how far the run has come in files since the last call."""
        for path in self._changed:
            reading = self._reading[path]
            found, checkpoint = reading.found, reading.checkpoint
            assert checkpoint is not None
            if reading.roots:
                yield Roots(path, reading.first, bytes(reading.roots))
                reading.roots.clear()
            reading.first = checkpoint.blocks
            row = self._table.file(path)
            if row is not None and row.trusted and row.identity:
                yield Part(path, found.size, found.identity, checkpoint, reading.leaf)
        self._changed.clear()

    def drop_progress(self) -> None:
        """Forget what `progress_made` would yield."""
        self._changed.clear()

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
                    identities(LINE_END.join(kept).split(LINE_END))
                yield Lines(b"".join(texts), b"".join(hashes))
                texts, hashes, kept, size = [], [], [], 0
            if isinstance(some, list):
                if identities is not None:
                    identities([identity.encode("utf-8", "surrogatepass") for _, identity in some])
                yield Lines.of([entry.to_json() for entry, _ in some])

    def _in_order(
        self, leaves: Callable[[bytes], object] | None
    ) -> Iterator[Hashed | list[tuple[Entry, str]]]:
        """Yield siblings, and other entries with their identities, in order of path."""
        self.flush()
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
        """Yield the entries of the table with their identities, in order of path."""
        for row in self._table.files():
            identity = row.kept_identity
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


def _is_flat_state(flat: bytes | None, blocks: int, size: int) -> bool:
    """Return whether a state of a flat digest can be the state after that many blocks."""
    if flat is None:
        return True
    try:
        return WitnessStream.from_bytes(flat).witness().length == min(blocks * BLOCK_BYTES, size)
    except WitnessError:
        return False
