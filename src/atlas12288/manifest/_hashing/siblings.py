# SPDX-License-Identifier: Apache-2.0
"""Hash siblings, the small files of a folder, and write their lines, with native code for what is
done for each file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from time import perf_counter
from typing import Final, NamedTuple

from ..._files import FileError
from ..._native import DIGEST_BYTES, RESULT_BYTES, entry_lines
from ..._parallel import new_buffer, parallel_map_ahead, thread_count
from ..._subtree import BLOCK_BYTES, window_count
from .._entries import Entry, Lines
from .._sources.siblings import READ, Siblings, Wanted
from .._sources.source import UNTRUSTED, Found, Source
from .engine import hash_files
from .file_hash import Digests

# A batch should take a few milliseconds, and no folder of it is closed meanwhile.
_BATCH_FILES_MOST: Final = 1024
_BATCH_FOLDERS_MOST: Final = 32
_BATCH_SHORT_S: Final = 0.005
_BATCH_LONG_S: Final = 0.02
# Results that wait for an earlier one.
_AHEAD_BYTES: Final = 1 << 23
_HELD_BYTES: Final = 512  # about what is held of a file and its result
_READ: Final = 1  # the first byte of a result


class Hashed(NamedTuple):
    """The lines of files of one folder.

    Attributes:
        first, last: paths of the first and the last of them.
        text, hashes: their lines in a manifest, as in `Lines`.
        identities: their identities, each after `UNTRUSTED` if it does not show later changes, with
            a line feed between one and the next.
        leaves: the leaf hashes of their trees, joined; b"" if they are not wanted.
        origin: as in `Siblings`.
    """

    first: bytes
    last: bytes
    text: bytes
    hashes: bytes
    identities: bytes
    leaves: bytes = b""
    origin: bytes = READ

    @property
    def lines(self) -> Lines:
        """The lines."""
        return Lines(self.text, self.hashes)


class _Outcome(NamedTuple):
    """What was read of some files, as `Source.witness_siblings` returns it."""

    results: bytes
    leaves: bytes


_Result = tuple[list[Siblings], _Outcome, list[Hashed] | None]


def hash_siblings(
    source: Source,
    all_siblings: Iterable[Siblings],
    digests: tuple[str, ...],
    *,
    leaves: bool = False,
    threads: int | None,
    since_ns: int,
    advance: Callable[[int], object],
    problem: Callable[[bytes, str], object],
) -> Generator[Hashed, None, None]:
    """Yield the lines of files, in order, without the files that could not be read.

    The callbacks are called, and the siblings are iterated, in the thread that takes the results.
    Closing the generator, Ctrl-C or an exception ends the work soon, and leaves no thread behind.

    Args:
        source: the source that listed them.
        all_siblings: the files; those that are known are not read.
        digests: the digests to compute, one or both of `entries.DIGESTS`.
        leaves: whether the leaf hashes of the trees are wanted.
        threads: number of threads; None for one per core that this process may use.
        since_ns: the identity of a file that was written then or later does not show later
            changes.
        advance: called with the number of bytes read since its last call.
        problem: called for each file that cannot be read, with the reason.
    """
    work = _Work(source, Wanted.of(digests, leaves), since_ns)
    results = parallel_map_ahead(
        work.hash,
        work.batches(all_siblings),
        thread_count(threads),
        weight=work.weight,
        ahead=_AHEAD_BYTES,
        stop=work.stop,
    )
    with closing(results):
        for batch, read, hashed in results:
            if hashed is None:
                yield from _with_left(work, batch, read, digests, threads, problem)
            else:
                yield from hashed
            advance(sum(part.size for part in _unread(batch)))


class _Work:
    """What the threads do."""

    def __init__(self, source: Source, wanted: Wanted, since_ns: int) -> None:
        self.source = source
        self.wanted = wanted
        self.since_ns = since_ns
        self._buffers: list[memoryview] = []
        self._files = 1  # of a batch
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def batches(self, all_siblings: Iterable[Siblings]) -> Iterator[list[Siblings]]:
        batch: list[Siblings] = []
        count = 0
        for siblings in all_siblings:
            batch.append(siblings)
            count += siblings.files
            if count >= self._files or len(batch) == _BATCH_FOLDERS_MOST:
                yield batch
                batch, count = [], 0
        if batch:
            yield batch

    def weight(self, batch: list[Siblings]) -> int:
        """Return about how many bytes of memory a batch and its results take."""
        weight = _HELD_BYTES * sum(siblings.files for siblings in batch)
        if self.wanted.leaves:
            weight += DIGEST_BYTES * sum(siblings.windows for siblings in batch)
        return weight

    def hash(self, batch: list[Siblings]) -> _Result:
        begin = perf_counter()
        unread = _unread(batch)
        total = sum(siblings.files for siblings in unread)
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = new_buffer(BLOCK_BYTES)
        results = leaves = b""
        while len(results) < total * RESULT_BYTES and not self._stopped:
            done = len(results) // RESULT_BYTES
            more = self.source.witness_siblings(unread, done, buffer, self.wanted)
            results += more[0]
            leaves += more[1]
        self._buffers.append(buffer)
        read = _Outcome(results, leaves)
        if self._stopped:
            return batch, read, None
        if any(siblings.known for siblings in batch):
            read = _with_known(batch, read)
            total = sum(siblings.files for siblings in batch)
        results, leaves = read
        if results[::RESULT_BYTES].count(_READ) < total:
            return batch, read, None
        hashed = []
        end = leaf = 0
        for siblings in batch:
            start, end = end, end + siblings.files * RESULT_BYTES
            first = leaf
            if leaves:
                leaf += siblings.windows * DIGEST_BYTES
            hashed.append(self._hashed(siblings, _Outcome(results[start:end], leaves[first:leaf])))
        seconds = perf_counter() - begin
        if seconds < _BATCH_SHORT_S:
            self._files = min(2 * self._files, _BATCH_FILES_MOST)
        elif seconds > _BATCH_LONG_S:
            self._files = max(1, self._files // 2)
        return batch, read, hashed

    def _hashed(self, siblings: Siblings, read: _Outcome) -> Hashed:
        """Return the lines of files that were all read."""
        parent = siblings.parent
        flat, tree, _ = self.wanted
        try:
            (parent + siblings.names).decode()
        except UnicodeDecodeError:  # in JSON, such a path has another form
            founds = zip(siblings.founds(), self.digests(read), strict=True)
            files = [(found, each) for found, each in founds if each]
            return self.one_by_one(files, read.leaves, siblings.origin)
        text, hashes, identities = entry_lines(
            parent, siblings.names, siblings.numbers, read.results, self.since_ns, flat, tree
        )
        first, last, origin = siblings.first, siblings.last, siblings.origin
        return Hashed(first, last, text, hashes, identities, read.leaves, origin)

    def digests(self, read: _Outcome) -> Iterator[Digests | None]:
        """Yield the digests of each file, or None if it was not read."""
        flat, tree, _ = self.wanted
        for start in range(0, len(read.results), RESULT_BYTES):
            is_read, residue = read.results[start : start + 2]
            middle, end = start + 2 + DIGEST_BYTES, start + RESULT_BYTES
            sha256 = read.results[start + 2 : middle] if flat else None
            root = read.results[middle:end] if tree else None
            yield Digests(residue, sha256, root) if is_read else None

    def one_by_one(
        self, files: list[tuple[Found, Digests]], leaves: bytes, origin: bytes
    ) -> Hashed:
        """Return the lines of files, with the leaves of their trees."""
        lines = [Entry(found.path, found.size, *digests).to_json() for found, digests in files]
        identities = "\n".join(
            found.identity if found.written_ns < self.since_ns else UNTRUSTED + found.identity
            for found, _ in files
        )
        first, last = files[0][0].path, files[-1][0].path
        return Hashed(first, last, *Lines.of(lines), identities.encode(), leaves, origin)


def _unread(batch: list[Siblings]) -> list[Siblings]:
    """Return the files that are not known."""
    return [part for siblings in batch if (part := siblings.unread) is not None]


def _with_known(batch: list[Siblings], read: _Outcome) -> _Outcome:
    """Return what is known of all files of a batch, by what was read of those that were not."""
    results, leaves = bytearray(), bytearray()
    result = leaf = 0  # in what was read

    def take(files: int, windows: int) -> None:
        nonlocal result, leaf
        start, result = result, result + files * RESULT_BYTES
        results.extend(read.results[start:result])
        start, leaf = leaf, leaf + windows * DIGEST_BYTES
        leaves.extend(read.leaves[start:leaf])

    for siblings in batch:
        known = siblings.known
        if not known:
            take(siblings.files, siblings.windows)
            continue
        if siblings.unread is None:
            results += known
            leaves += siblings.leaves
            continue
        end = 0
        for index, size in enumerate(siblings.sizes):
            windows = window_count(size)
            start, end = end, end + windows * DIGEST_BYTES
            at = index * RESULT_BYTES
            if known[at]:
                results += known[at : at + RESULT_BYTES]
                leaves += siblings.leaves[start:end]
            else:
                take(1, windows)
    return _Outcome(bytes(results), bytes(leaves))


def _with_left(
    work: _Work,
    batch: list[Siblings],
    read: _Outcome,
    digests: tuple[str, ...],
    threads: int | None,
    problem: Callable[[bytes, str], object],
) -> Iterator[Hashed]:
    """Yield the lines of a batch, after reading one by one the files that were left."""
    founds = [found for siblings in batch for found in siblings.founds()]
    known: dict[bytes, Digests | FileError] = {}
    leaves: dict[bytes, bytearray] = {}
    left = []
    end = 0
    for found, its_digests in zip(founds, work.digests(read), strict=True):
        start, end = end, end + window_count(found.size) * DIGEST_BYTES
        if its_digests is None:
            left.append(found)
            leaves[found.path] = bytearray()
        else:
            known[found.path] = its_digests
            leaves[found.path] = bytearray(read.leaves[start:end])
    results = hash_files(
        work.source,
        left,
        digests,
        threads=threads,
        leaves=(lambda found: leaves[found.path].extend) if work.wanted.leaves else None,
    )
    for found, result in results:
        known[found.path] = result
    for siblings in batch:
        good: list[tuple[Found, Digests]] = []
        hashes = b""
        for found in siblings.founds():
            result = known[found.path]
            if isinstance(result, FileError):
                problem(found.path, str(result))
            else:
                good.append((found, result))
                hashes += leaves[found.path]
        if good:
            yield work.one_by_one(good, hashes, siblings.origin)
