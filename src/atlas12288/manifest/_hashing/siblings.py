# SPDX-License-Identifier: Apache-2.0
"""Hash siblings, the small files of a folder, and write their lines, with native code for what is
done for each file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from time import perf_counter
from typing import Final, NamedTuple

from ..._files import FileError
from ..._native import RESULT_BYTES, entry_lines
from ..._parallel import parallel_map_ahead, thread_count
from ..._subtree import BLOCK_BYTES
from .._entries import Entry, Lines
from .._sources.siblings import Siblings
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
    """

    first: bytes
    last: bytes
    text: bytes
    hashes: bytes
    identities: bytes

    @property
    def lines(self) -> Lines:
        """The lines."""
        return Lines(self.text, self.hashes)


_Result = tuple[list[Siblings], bytes, list[Hashed] | None]


def hash_siblings(
    source: Source,
    all_siblings: Iterable[Siblings],
    digests: tuple[str, ...],
    *,
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
        all_siblings: the files.
        digests: the digests to compute, the flat one alone.
        threads: number of threads; None for one per core that this process may use.
        since_ns: the identity of a file that was modified then or later does not show later
            changes.
        advance: called with the number of bytes read since its last call.
        problem: called for each file that cannot be read, with the reason.
    """
    work = _Work(source, since_ns)
    results = parallel_map_ahead(
        work.hash,
        work.batches(all_siblings),
        thread_count(threads),
        weight=lambda batch: _HELD_BYTES * sum(siblings.files for siblings in batch),
        ahead=_AHEAD_BYTES,
        stop=work.stop,
    )
    with closing(results):
        for batch, found, hashed in results:
            if hashed is None:
                yield from _with_left(source, batch, found, digests, threads, since_ns, problem)
            else:
                yield from hashed
            advance(sum(siblings.size for siblings in batch))


class _Work:
    """What the threads do."""

    def __init__(self, source: Source, since_ns: int) -> None:
        self._source = source
        self._since_ns = since_ns
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

    def hash(self, batch: list[Siblings]) -> _Result:
        begin = perf_counter()
        total = sum(siblings.files for siblings in batch)
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = memoryview(bytearray(BLOCK_BYTES))
        results = b""
        while len(results) < total * RESULT_BYTES and not self._stopped:
            done = len(results) // RESULT_BYTES
            results += self._source.witness_siblings(batch, done, buffer)
        self._buffers.append(buffer)
        if results[::RESULT_BYTES].count(_READ) < total:
            return batch, results, None
        hashed = []
        end = 0
        for siblings in batch:
            start, end = end, end + siblings.files * RESULT_BYTES
            hashed.append(_hashed(siblings, results[start:end], self._since_ns))
        seconds = perf_counter() - begin
        if seconds < _BATCH_SHORT_S:
            self._files = min(2 * self._files, _BATCH_FILES_MOST)
        elif seconds > _BATCH_LONG_S:
            self._files = max(1, self._files // 2)
        return batch, results, hashed


def _hashed(siblings: Siblings, results: bytes, since_ns: int) -> Hashed:
    """Return the lines of files that were all read."""
    parent = siblings.parent
    try:
        (parent + siblings.names).decode()
    except UnicodeDecodeError:  # in JSON, such a path has another form
        founds = zip(siblings.founds(), _digests(results), strict=True)
        return _one_by_one([(found, each) for found, each in founds if each], since_ns)
    text, hashes, identities = entry_lines(
        parent, siblings.names, siblings.numbers, results, since_ns
    )
    return Hashed(siblings.first, siblings.last, text, hashes, identities)


def _digests(results: bytes) -> Iterator[Digests | None]:
    """Yield the digests of each file, or None if it was not read."""
    for start in range(0, len(results), RESULT_BYTES):
        read, residue = results[start : start + 2]
        sha256 = results[start + 2 : start + RESULT_BYTES]
        yield Digests(residue, sha256, None) if read else None


def _with_left(
    source: Source,
    batch: list[Siblings],
    results: bytes,
    digests: tuple[str, ...],
    threads: int | None,
    since_ns: int,
    problem: Callable[[bytes, str], object],
) -> Iterator[Hashed]:
    """Yield the lines of a batch, after reading one by one the files that were left."""
    founds = [found for siblings in batch for found in siblings.founds()]
    known: dict[bytes, Digests | FileError] = {}
    left = []
    for found, read in zip(founds, _digests(results), strict=True):
        if read is None:
            left.append(found)
        else:
            known[found.path] = read
    for found, result in hash_files(source, left, digests, threads=threads):
        known[found.path] = result
    for siblings in batch:
        good: list[tuple[Found, Digests]] = []
        for found in siblings.founds():
            result = known[found.path]
            if isinstance(result, FileError):
                problem(found.path, str(result))
            else:
                good.append((found, result))
        if good:
            yield _one_by_one(good, since_ns)


def _one_by_one(files: list[tuple[Found, Digests]], since_ns: int) -> Hashed:
    lines = [Entry(found.path, found.size, *digests).to_json() for found, digests in files]
    identities = "\n".join(
        found.identity if found.modified_ns < since_ns else UNTRUSTED + found.identity
        for found, _ in files
    )
    first, last = files[0][0].path, files[-1][0].path
    return Hashed(first, last, *Lines.of(lines), identities.encode())
