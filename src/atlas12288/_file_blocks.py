# SPDX-License-Identifier: Apache-2.0
"""The blocks of a file, for its tree.

Each thread reads for itself where the file can be read at any offset: a piece that fits into its
core's cache, which it hashes there before it reads the next one. So reading is shared by the
threads as hashing is, and no byte comes from memory twice. A pipe is read by one thread for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from threading import Lock
from time import perf_counter
from typing import Final

from ._files import STDIN, RegularFile, named_path, naming, read_chunks, source_chunks
from ._native import WINDOW_BYTES, tree_leaves
from ._parallel import most_under_way, new_buffer, parallel_map, thread_count
from ._subtree import BLOCK_BYTES, Subtree, blocks_of_chunks
from ._types import Readable

Blocks = Generator[tuple[Subtree, int], None, None]

# 384 KiB: it fits into a second-level cache, and system calls cost little beside it.
PIECE_BYTES: Final = 32 * WINDOW_BYTES
# So many take less than 64 MiB for a file of any size: a piece and a block's leaves each.
_THREADS_MOST: Final = 64
# The same where one thread reads for all: 18 buffers of a block. From about ten threads on they
# wait for it.
_CHUNK_THREADS_MOST: Final = 16
# A device may deliver more to several readers than to one for each core. So where reading takes
# most of the time one more is added, and another one for as long as each brings that much more.
_MEASURED_S: Final = 0.25
_READING_MOST: Final = 0.5
_BRINGS: Final = 1.05


def source_blocks(source: str | os.PathLike[str] | Readable, threads: int | None) -> Blocks:
    """Yield the blocks of a path or binary file, each with its bytes.

    Args:
        source: as for `source_chunks`.
        threads: how many read and hash; None for one per core that this process may use.

    Raises:
        FileError, BlockingIOError, TypeError, ValueError: as `source_chunks`, or `threads` is not
            an int, or less than 1.
    """
    name = named_path(source)
    if name is None:
        yield from _stream_blocks(partial(source_chunks, source), threads)
        return
    with naming("source", name), closing(_file_blocks(name, threads)) as blocks:
        yield from blocks


def blocks_of_name(
    name: str, threads: int | None, advance: Callable[[int], None] | None = None
) -> Blocks:
    """Yield the blocks of a file, each with its bytes.

    Args:
        name: a path, or `-` for standard input.
        threads: as for `source_blocks`.
        advance: called with the number of bytes after each piece of the work.

    Raises:
        FileError, TypeError, ValueError: as `source_blocks`.
    """
    if name != STDIN:
        with closing(_file_blocks(name, threads)) as blocks:
            for block, size in blocks:
                yield block, size
                if advance is not None:
                    advance(size)
        return
    yield from _stream_blocks(partial(read_chunks, name, advance), threads)


def _stream_blocks(
    read: Callable[..., Generator[memoryview, None, None]], threads: int | None
) -> Blocks:
    """Yield the blocks of bytes that one thread reads for all.

    Args:
        read: returns the chunks for `chunk_bytes` and `buffers`, as `read_chunks` does.
        threads: as for `source_blocks`.
    """
    count = min(thread_count(threads), _CHUNK_THREADS_MOST)
    buffers = most_under_way(count) if count > 1 else 1
    with closing(read(chunk_bytes=BLOCK_BYTES, buffers=buffers)) as chunks:
        yield from blocks_of_chunks(chunks, count)


def _file_blocks(name: str, threads: int | None) -> Blocks:
    """Yield the blocks of a regular file, read and hashed by several threads."""
    count = min(thread_count(threads), _THREADS_MOST)
    buffers: list[memoryview] = []
    readers = _Readers(count, _THREADS_MOST if threads is None and count > 1 else count)
    with RegularFile(name) as file:

        def block_at(start: int) -> tuple[Subtree, int]:
            stop = min(file.size, start + BLOCK_BYTES)
            begin, reading_s = perf_counter(), 0.0
            parts = []
            buffer = buffers.pop() if buffers else new_buffer(PIECE_BYTES)
            for offset in range(start, stop, PIECE_BYTES):
                piece = buffer[: min(PIECE_BYTES, stop - offset)]
                before = perf_counter()
                file.read_into(offset, piece)
                reading_s += perf_counter() - before
                parts.append(tree_leaves(piece))
            buffers.append(buffer)
            readers.add(stop - start, reading_s, perf_counter() - begin)
            hashes, residues = (b"".join(some) for some in zip(*parts, strict=True))
            return Subtree(hashes, residues), stop - start

        starts = range(0, file.size, BLOCK_BYTES)
        with closing(parallel_map(block_at, starts, count, readers.wanted)) as blocks:
            yield from blocks
        file.finish()


class _Readers:
    """Decides by measuring how many threads are of use.

    Args:
        count: how many there are at first.
        most: how many there may be.
    """

    def __init__(self, count: int, most: int) -> None:
        self._count = count
        self._most = most
        self._lock = Lock()
        self._best = 0.0  # bytes in a second
        self._begin()

    def _begin(self) -> None:
        self._since = perf_counter()
        self._bytes = 0
        self._reading_s = self._busy_s = 0.0

    def add(self, size: int, reading_s: float, busy_s: float) -> None:
        """Count the bytes that a thread has done, and the seconds that it took."""
        with self._lock:
            self._bytes += size
            self._reading_s += reading_s
            self._busy_s += busy_s

    def wanted(self) -> int:
        """Return how many threads are of use by now."""
        with self._lock:
            passed = perf_counter() - self._since
            if self._count < self._most and passed >= _MEASURED_S:
                rate = self._bytes / passed
                reads = self._reading_s > _READING_MOST * self._busy_s
                if reads and rate > _BRINGS * self._best:
                    self._best = rate
                    self._count += 1
                else:
                    self._most = self._count
                self._begin()
            return self._count
