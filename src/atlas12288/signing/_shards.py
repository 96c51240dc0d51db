# SPDX-License-Identifier: Apache-2.0
"""Hash many files in shards, or whole by other algorithms than SHA-256, each byte read once.

Shards are independent messages: a thread reads a piece of each of several in turns and hashes these
pieces beside one another, whether they are of one file or of many. Other algorithms have no kernel
for several messages, and their shards are hashed one after another by each thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from importlib import import_module
from queue import SimpleQueue
from threading import Lock
from typing import Any, Final

from .._chains import CHAINS_MOST, Chain, hash_in_turns
from .._files import CHANGED, FileError
from .._parallel import Crew, new_buffer, thread_count
from .._subtree import BLOCK_BYTES
from .._witness import ALGORITHM, WitnessStream
from ..manifest._sources.source import Found, Reader, Source

# Shards that are open, of all threads together: a process may have 256 descriptors.
_OPEN_MOST: Final = 64
_DONE: Final = object()

# A file, and the digests of its shards or why they are not known.
Hashed = tuple[Found, tuple[bytes, ...] | FileError]


def hash_shards(
    source: Source,
    founds: Sequence[Found],
    algorithm: str,
    shard_size: int | None,
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Generator[Hashed, None, None]:
    """Yield the digests of the shards of files, in the order in which files are finished.

    Args:
        source: the source of the files; several threads open and read them.
        founds: files that it listed, without symbolic links.
        algorithm: the name of the algorithm: "sha256", "blake2b" or "blake3".
        shard_size: size of a shard in bytes; None to hash whole files. A file of 0 bytes has no
            shard, and the digest of no bytes where whole files are hashed.
        threads: number of threads; None for the source's `readers`, or else one per core that this
            process may use. With 1, no thread is started.
        advance: called with the number of bytes read since its last call, by the thread that takes
            the results.

    Raises:
        ImportError: the algorithm needs a package that is not installed.
        ValueError: `threads` is less than 1.
        TypeError: `threads` is not an int.
    """
    count = thread_count(source.readers if threads is None else threads)
    if any(map(source.is_stream, founds)):
        count = 1  # what comes as a stream is read in order
    work = _Work(source, founds, new_hasher(algorithm), shard_size)
    in_turns = algorithm == ALGORITHM and source.in_turns
    if in_turns:
        most = max(1, min(CHAINS_MOST, _OPEN_MOST // count, -(-work.shards // count)))

        def run(buffer: memoryview) -> Iterator[int]:
            for pieces in hash_in_turns(work.chains(), buffer, most):
                yield sum(len(piece) for _, piece in pieces)
    else:

        def run(buffer: memoryview) -> Iterator[int]:
            for shard in work.chains():
                while (piece := shard.next_piece(buffer)) is not None:
                    shard.stream.update(piece)
                    yield len(piece)
                shard.finish()

    try:
        with closing(_events(run, min(count, max(1, work.shards)), work.results)) as events:
            for event in events:
                if not isinstance(event, int):
                    yield event
                elif advance is not None:
                    advance(event)
    finally:
        work.close()


def new_hasher(algorithm: str) -> Callable[[], Any]:
    """Return the function that makes a hasher, with the methods of those of `hashlib`.

    Raises:
        ImportError: the algorithm needs a package that is not installed.
    """
    if algorithm == ALGORITHM:
        return WitnessStream
    if algorithm == "blake2b":
        return hashlib.blake2b
    try:
        found: Callable[[], Any] = import_module("blake3").blake3
    except ImportError:
        raise ImportError("BLAKE3 needs blake3: pip install blake3", name="blake3") from None
    return found


def _events(
    run: Callable[[memoryview], Iterator[int]],
    threads: int,
    results: SimpleQueue[Hashed],
) -> Generator[int | Hashed, None, None]:
    """Yield the numbers of bytes and the results of all threads as they come."""

    def taken() -> Iterator[Hashed]:
        while not results.empty():
            yield results.get()

    if threads == 1:
        for count in run(new_buffer(BLOCK_BYTES)):
            yield count
            yield from taken()
        yield from taken()
        return
    counts: SimpleQueue[int | BaseException | object] = SimpleQueue()
    stopped = False

    def work() -> None:
        try:
            for count in run(new_buffer(BLOCK_BYTES)):
                counts.put(count)
                if stopped:
                    break
            counts.put(_DONE)
        except BaseException as error:
            counts.put(error)

    def stop() -> None:
        nonlocal stopped
        stopped = True

    crew = Crew(work, stop)
    try:
        for _ in range(threads):
            crew.add()
        running = threads
        while running:
            event = counts.get()
            if isinstance(event, BaseException):
                raise event
            if event is _DONE:
                running -= 1
            elif isinstance(event, int):
                yield event
            yield from taken()
    finally:
        crew.end()


class _Work:
    """The shards of all files, given out one by one.

    Attributes:
        shards: number of parts that are given out; a file of 0 bytes is one.
        results: files whose shards are all hashed.
    """

    def __init__(
        self,
        source: Source,
        founds: Sequence[Found],
        new: Callable[[], Any],
        shard_size: int | None,
    ) -> None:
        self._source = source
        self._new = new
        self._size = shard_size
        self._lock = Lock()
        self._open: set[_File] = set()
        self.results: SimpleQueue[Hashed] = SimpleQueue()
        self._next = self._shards(founds)
        sizes = (found.size for found in founds)
        self.shards = sum(1 if shard_size is None else max(1, -(-n // shard_size)) for n in sizes)

    def _shards(self, founds: Sequence[Found]) -> Generator[_Shard, None, None]:
        for found in founds:
            size = found.size if self._size is None else self._size
            starts = range(0, found.size, size) if size else range(0)
            file = _File(self._source, found, len(starts), whole=self._size is None)
            self._open.add(file)
            for number, start in enumerate(starts or (0,)):
                yield _Shard(file, number, self._new(), start, min(start + size, found.size), self)

    def chains(self) -> Iterator[_Shard]:
        """Yield the shards that no other thread has taken."""
        while True:
            with self._lock:
                shard = next(self._next, None)
            if shard is None:
                return
            yield shard

    def ended(self, file: _File, number: int, digest: bytes | None) -> None:
        """Take the digest of a shard, None after an error."""
        with self._lock:
            if not file.take(number, digest):
                return
            self._open.discard(file)
        self.results.put((file.found, file.finish()))

    def close(self) -> None:
        """Close the files that are open, after an exception, and let go of the source."""
        self._next.close()  # its frame holds this object, which holds the source
        for file in self._open:
            with suppress(FileError):
                file.close()


class _File:
    """A file with some of its shards under way.

    Attributes:
        found: the file.
        error: why it cannot be read; None if there is no reason.
    """

    def __init__(self, source: Source, found: Found, shards: int, *, whole: bool) -> None:
        self.found = found
        self.error: FileError | None = None
        self._source = source
        self._left = max(1, shards)
        self._digests: list[bytes] = [b""] * (max(1, shards) if whole else shards)
        self._lock = Lock()
        self._context: AbstractContextManager[Reader] | None = None
        self._reader: Reader | None = None

    def _opened(self) -> Reader:
        with self._lock:
            if self._reader is None:
                self._context = self._source.open(self.found)
                self._reader = self._context.__enter__()
            return self._reader

    def read(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from `offset` on; one error ends all shards of the file."""
        try:
            if self.error is not None:
                raise self.error
            if self._opened().read_into(offset, buffer) != len(buffer):
                raise FileError(CHANGED)
        except FileError as error:
            self.error = self.error or error
            raise

    def take(self, number: int, digest: bytes | None) -> bool:
        """Take the digest of a shard; return whether it was the last one."""
        self._left -= 1
        if digest is not None and self._digests:
            self._digests[number] = digest
        return self._left == 0

    def finish(self) -> tuple[bytes, ...] | FileError:
        """Check and close the file; return its digests."""
        try:
            try:
                if self.error is None:
                    self._opened().finish()
            finally:
                self.close()
        except FileError as error:
            self.error = self.error or error
        return self.error or tuple(self._digests)

    def close(self) -> None:
        context, self._context = self._context, None
        if context is not None and self._reader is not None:
            context.__exit__(None, None, None)


class _Shard(Chain):
    """A shard of a file."""

    __slots__ = ("_file", "_number", "_work")

    def __init__(
        self, file: _File, number: int, stream: Any, start: int, stop: int, work: _Work
    ) -> None:
        super().__init__(stream, file.read, start, stop)
        self._file = file
        self._number = number
        self._work = work

    def finish(self) -> None:
        """Give the digest to the file."""
        digest = None if self.error is not None else self.stream.digest()
        self._work.ended(self._file, self._number, digest)
