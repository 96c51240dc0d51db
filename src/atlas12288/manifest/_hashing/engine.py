# SPDX-License-Identifier: Apache-2.0
"""Compute the digests of many files with threads on all cores, reading each byte once.

Small files are processed in batches, because handing one to a thread costs more than hashing it.
Larger files are cut into blocks, which several threads read and hash for the tree root. The flat
digest is a chain: finished blocks wait in the file for their turn. One thread at a time continues
the chain, and no other thread waits for it while there are other blocks or files.

Where there are more large files than threads, and they are read quickly, each thread takes its
share of them: it reads a block of each in turns, in pieces, and hashes the pieces beside one
another. Which thread that is may change from block to block.

No block of a file is started while its chain is far behind, so memory is bounded by the buffers:
two more than threads, of one block each.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, suppress
from functools import partial
from threading import Condition, Lock
from time import perf_counter
from typing import Final, NamedTuple

from ..._chains import CHAINS_MOST, Chain, hash_in_turns
from ..._files import CHANGED, FileError
from ..._native import residue, tree_leaves, tree_root
from ..._parallel import Crew, most_under_way, new_buffer, thread_count
from ..._subtree import BLOCK_BYTES
from ..._witness import ALGORITHM, TREE_ALGORITHM, Witness
from .._sources.source import Found, Reader, Source
from .file_hash import Checkpoint, Digests, FileHash, LeafSink, Progress, Resume

# A batch should take a few milliseconds, which over a network is one file.
_BATCH_FILES_MOST: Final = 256
_BATCH_SHORT_S: Final = 0.005
_BATCH_LONG_S: Final = 0.02
# Below this size, opening and closing files is most of the work and needs the interpreter's lock;
# two threads that contend for it take twice as long as one. The caller's thread therefore reads
# such files, but only if they come as quickly as from a cache.
_QUICK_BYTES: Final = 32 * 1024
_QUICK_S: Final = 0.0001
_ONE_AT_A_TIME: Final = getattr(sys, "_is_gil_enabled", lambda: True)()
# Results that the caller has not taken yet. The leaves of a block have 8 KiB.
_EVENTS_MOST: Final = 128
# Finished blocks of a file that wait for an earlier one.
_BLOCKS_AHEAD_MOST: Final = 64
# Large files that are open, where they are read in turns: a process may have 256 descriptors.
_OPEN_MOST: Final = 64

# As `hash_files` below, with the choice of who reads and hashes made.
HashFiles = Callable[..., Generator[tuple[Found, Digests | FileError], None, None]]


def hash_files(
    source: Source,
    founds: Iterable[Found],
    digests: tuple[str, ...],
    *,
    threads: int | None = None,
    leaves: Callable[[Found], LeafSink | None] | None = None,
    advance: Callable[[int], None] | None = None,
    progress: Progress | None = None,
    resume: Resume | None = None,
) -> Generator[tuple[Found, Digests | FileError], None, None]:
    """Yield the digests of files, in the order in which they are finished.

    The callbacks are called, and `founds` is iterated, in the thread that takes the results, while
    it takes them. An exception from them ends the work and leaves no thread and no open file
    behind. So do Ctrl-C and closing the generator.

    Args:
        source: the source of the files; several threads use its `open` and readers.
        founds: files that it listed, without symbolic links.
        digests: the digests to compute, one or both of `entries.DIGESTS`.
        threads: number of threads; None for the source's `readers`, or else one per core that this
            process may use. The digests are the same. With 1, no thread is started.
        leaves: called for each file when its turn comes, if tree roots are wanted; returns a
            function for its leaf hashes. After an error, discard the hashes passed so far.
        advance: called with the number of bytes read since its last call.
        progress: called after each block of a file that has more than one.
        resume: called for each file of more than one block; returns where to continue. Earlier
            leaves are not passed again.

    Yields:
        Each file, with its digests or the reason why it could not be read.

    Raises:
        ValueError: `threads` is less than 1.
        TypeError: `threads` is not an int.
    """
    if threads is None:
        threads = source.readers
    callbacks = Callbacks(leaves if TREE_ALGORITHM in digests else None, advance, progress, resume)
    return _Hashing(source, digests, thread_count(threads), callbacks).results(founds)


class Callbacks(NamedTuple):
    """The callbacks of `hash_files`."""

    leaves: Callable[[Found], LeafSink | None] | None
    advance: Callable[[int], None] | None
    progress: Progress | None
    resume: Resume | None

    def sink(self, found: Found) -> LeafSink | None:
        return None if self.leaves is None else self.leaves(found)


_Result = tuple[Found, Digests | FileError]
# Called by the caller's thread; gives the results that are known now.
_Event = Callable[[Callbacks], Iterable[_Result]]


class _SmallFiles(NamedTuple):
    """A batch of files of one block each, for one thread."""

    files: list[tuple[Found, LeafSink | None]]
    size: int


class _Block(NamedTuple):
    """A finished block that waits for its turn."""

    size: int
    hashes: bytes
    root: bytes
    residue: int
    buffer: memoryview | None  # with the bytes, if the flat digest needs them


class _File:
    """A file of several blocks.

    Threads change `begun`, `done`, `ready`, `draining`, `in_turns` and `workers` under the lock of
    the hashing. `hash` belongs to the thread that has set `draining`, or `in_turns`: nobody else
    starts a block then. `error` is never cleared, so a thread that
    sees it late only does unnecessary work.
    """

    def __init__(self, found: Found, sink: LeafSink | None, digests: tuple[str, ...]) -> None:
        self.found = found
        self.sink = sink
        self.hash = FileHash(found.size, digests)
        self.begun = self.done = 0  # how many blocks
        self.ready: dict[int, _Block] = {}
        self.draining = False
        self.in_turns = False  # one thread hashes its next block beside blocks of others
        self.workers = 0  # threads that are in it
        self.context: AbstractContextManager[Reader] | None = None
        self.reader: Reader | None = None
        self.error: FileError | None = None

    def go_on(self, checkpoint: Checkpoint, roots: Iterable[bytes]) -> None:
        self.hash.go_on(checkpoint, roots)
        self.begun = self.done = checkpoint.blocks

    @property
    def has_next(self) -> bool:
        """Return whether a block can be started."""
        return (
            self.reader is not None
            and self.error is None
            and not self.in_turns
            and self.begun < self.hash.blocks
            and self.begun - self.done < _BLOCKS_AHEAD_MOST
        )

    @property
    def is_idle(self) -> bool:
        """Return whether no thread is in it and a block can be started."""
        return self.has_next and self.workers == 0 and self.begun == self.done

    @property
    def ahead(self) -> int:
        """Return the number of buffers that wait, or will wait, for their turn."""
        return max(0, self.begun - self.done - 1) if self.hash.has_flat else 0

    @property
    def is_over(self) -> bool:
        return self.workers == 0 and (self.error is not None or self.done == self.hash.blocks)

    def close(self) -> None:
        context, self.context = self.context, None
        if context is not None:
            context.__exit__(None, None, None)


class _Hashing:
    """Hashes files with several threads, for one call of `hash_files`."""

    def __init__(
        self, source: Source, digests: tuple[str, ...], threads: int, callbacks: Callbacks
    ) -> None:
        self._source = source
        self._digests = digests
        self._flat = ALGORITHM in digests
        self._tree = TREE_ALGORITHM in digests
        self._threads = threads
        self._in_turns = self._flat and source.in_turns
        open_most = min(CHAINS_MOST * threads, _OPEN_MOST) if self._in_turns else 0
        self._open_most = max(threads, open_most)
        self._callbacks = callbacks
        self._batch_files = 1
        self._quick = False
        lock = Lock()
        self._lock = lock
        self._work = Condition(lock)  # there may be more to do
        self._news = Condition(lock)  # for the caller: an event, or room in the feed
        # All below is used under the lock.
        self._feed: deque[_SmallFiles | _File] = deque()
        self._files: list[_File] = []  # that are open, in the order of their opening
        self._events: deque[_Event] = deque()
        self._error: BaseException | None = None
        self._stopped = False
        self._under_way = 0  # batches and files that were fed and are not over
        self._opened = 0  # large files, so far
        self._in_files = 0  # threads that are in large files
        self._free: list[memoryview] = []
        self._unmade = most_under_way(threads)  # buffers

    # The caller's thread

    def results(self, founds: Iterable[Found]) -> Generator[_Result, None, None]:
        items = self._items(founds)
        crew = Crew(self._worker, self._stop)
        try:
            more = True
            for _ in range(self._threads if self._threads > 1 else 0):
                crew.add()
            while True:
                while more and len(self._feed) < most_under_way(self._threads):
                    item = next(items, None)
                    more = item is not None
                    if item is not None:
                        with self._lock:
                            self._feed.append(item)
                            self._under_way += 1
                            self._work.notify()
                task = self._take_quick() if self._threads > 1 else self._take(wait=False)
                if task is not None:
                    task()
                with self._lock:
                    while not self._has_news(more):
                        self._news.wait()
                    if self._error is not None:
                        raise self._error
                    events, self._events = self._events, deque()
                    self._work.notify_all()
                    if not events and not more and self._under_way == 0:
                        return
                for event in events:
                    yield from event(self._callbacks)
        finally:
            crew.end()
            for file in self._files:
                with suppress(FileError):
                    file.close()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._work.notify_all()

    def _take_quick(self) -> Callable[[], None] | None:
        """Return a batch for the caller's thread."""
        with self._lock:
            item = self._quick_batch()
            if item is None:
                return None
            self._feed.remove(item)
            return self._batch_task(item)

    def _quick_batch(self) -> _SmallFiles | None:
        if self._threads == 1 or not (self._free or self._unmade):
            return None
        for item in self._feed:
            if isinstance(item, _SmallFiles) and self._is_quick(item):
                return item
        return None

    def _is_quick(self, batch: _SmallFiles) -> bool:
        return _ONE_AT_A_TIME and self._quick and batch.size <= _QUICK_BYTES * len(batch.files)

    def _has_news(self, more: bool) -> bool:
        return bool(
            self._events
            or self._error is not None
            or self._under_way == 0
            or self._threads == 1
            or self._quick_batch() is not None
            or (more and len(self._feed) < most_under_way(self._threads))
        )

    def _items(self, founds: Iterable[Found]) -> Generator[_SmallFiles | _File, None, None]:
        callbacks = self._callbacks
        batch: list[tuple[Found, LeafSink | None]] = []
        size = 0
        for found in founds:
            if found.size > BLOCK_BYTES:
                file = _File(found, callbacks.sink(found), self._digests)
                known = None if callbacks.resume is None else callbacks.resume(found)
                if known is not None:
                    file.go_on(*known)
                yield file
                continue
            if batch and (len(batch) >= self._batch_files or size + found.size > BLOCK_BYTES):
                yield _SmallFiles(batch, size)
                batch, size = [], 0
            batch.append((found, callbacks.sink(found)))
            size += found.size
        if batch:
            yield _SmallFiles(batch, size)

    # The threads that work

    def _worker(self) -> None:
        try:
            while (task := self._take(wait=True)) is not None:
                task()
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
                self._stopped = True
                self._news.notify()
                self._work.notify_all()

    def _take(self, wait: bool) -> Callable[[], None] | None:
        """Return the next piece of work; None if the hashing stopped or nothing is ready."""
        with self._lock:
            while not self._stopped:
                task = self._next_task()
                if task is not None or not wait:
                    return task
                self._work.wait()
        return None

    def _next_task(self) -> Callable[[], None] | None:
        if len(self._events) >= _EVENTS_MOST or not (self._free or self._unmade):
            return None
        if self._in_turns and (task := self._next_in_turns()) is not None:
            return task
        # Prefer open files, so that reads are sequential and the longest chain never waits. But if
        # a block would have to wait for its turn, other files come first: one buffer per thread
        # stays free for the work in progress.
        ahead = sum(file.ahead for file in self._files)
        room = most_under_way(self._threads) - self._threads
        for file in self._files:
            if file.has_next and (
                file.begun == file.done or ahead < room or not file.hash.has_flat
            ):
                return self._block_task(file)
        for item in self._feed:
            if isinstance(item, _SmallFiles):
                if self._threads > 1 and self._is_quick(item):
                    continue
                task = self._batch_task(item)
            elif len(self._files) < self._open_most:
                task = self._open_task(item)
            else:
                continue
            return self._fed(item, task)
        for file in self._files:
            if file.has_next:
                return self._block_task(file)
        return None

    def _next_in_turns(self) -> Callable[[], None] | None:
        """Return work that makes or uses many chains; None if there are not so many."""
        batch = None
        may_open = len(self._files) < self._open_most
        for item in self._feed:
            if isinstance(item, _SmallFiles):
                batch = batch or item
            elif may_open:
                return self._fed(item, self._open_task(item))
        # Where there were two large files there may be more, behind the small ones, and chains are
        # worth more beside others. But of several threads, one goes on with the longest chain.
        is_gathering = self._opened > 1 and may_open and self._in_files >= self._threads - 1
        if batch is not None and is_gathering:
            if self._threads > 1 and self._is_quick(batch):
                return None
            return self._fed(batch, self._batch_task(batch))
        share = min(CHAINS_MOST, -(-len(self._files) // self._threads))
        idle = [file for file in self._files if file.is_idle][:share]
        return self._turns_task(idle) if len(idle) > 1 else None

    def _fed(self, item: _SmallFiles | _File, task: Callable[[], None]) -> Callable[[], None]:
        self._feed.remove(item)
        self._news.notify()
        return task

    def _buffer(self) -> memoryview:
        if self._free:
            return self._free.pop()
        self._unmade -= 1
        return new_buffer(BLOCK_BYTES)

    def _batch_task(self, batch: _SmallFiles) -> Callable[[], None]:
        return partial(self._hash_batch, batch, self._buffer())

    def _open_task(self, file: _File) -> Callable[[], None]:
        self._files.append(file)
        self._opened += 1
        file.workers += 1
        return partial(self._open, file)

    def _turns_task(self, files: list[_File]) -> Callable[[], None]:
        for file in files:
            file.begun += 1
            file.workers += 1
            file.in_turns = True
        self._in_files += 1
        return partial(self._hash_in_turns, files, self._buffer())

    def _block_task(self, file: _File) -> Callable[[], None]:
        index = file.begun
        file.begun += 1
        file.workers += 1
        self._in_files += 1
        return partial(self._hash_block, file, index, self._buffer())

    def _tell(self, event: _Event) -> None:
        self._events.append(event)
        self._news.notify()

    def _hash_batch(self, batch: _SmallFiles, buffer: memoryview) -> None:
        begin = perf_counter()
        founds = [found for found, _ in batch.files]
        read = self._source.read_files(founds, buffer)
        parts: list[memoryview] = []
        errors: dict[int, FileError] = {}
        end = 0
        for number, found in enumerate(founds):
            start, end = end, end + found.size
            parts.append(buffer[start:end])
            if read[number]:
                continue
            if self._stopped:
                return
            try:
                with self._source.open(found) as reader:
                    if reader.read_into(0, parts[-1]) != found.size:
                        raise FileError(CHANGED)
                    reader.finish()
            except FileError as error:
                errors[number] = error
        good = [part for number, part in enumerate(parts) if number not in errors]
        # Beside one another, which is faster than one after another.
        witnesses = Witness.generate_many(good, threads=1) if self._flat else [None] * len(good)
        digests = map(self._digests_of, good, witnesses)
        results = [
            (found, sink, b"", errors[number])
            if number in errors
            else (found, sink, *next(digests))
            for number, (found, sink) in enumerate(batch.files)
        ]
        size = sum(map(len, good))
        seconds = perf_counter() - begin
        self._quick = seconds < _QUICK_S * len(results) and not any(read)
        if seconds < _BATCH_SHORT_S and len(results) >= self._batch_files:
            self._batch_files = min(2 * self._batch_files, _BATCH_FILES_MOST)
        elif seconds > _BATCH_LONG_S:
            self._batch_files = max(1, self._batch_files // 2)

        def event(callbacks: Callbacks) -> Iterable[_Result]:
            if callbacks.advance is not None and size > 0:
                callbacks.advance(size)
            for found, sink, hashes, result in results:
                if sink is not None and isinstance(result, Digests):
                    sink(hashes)
                yield found, result

        with self._lock:
            self._free.append(buffer)
            self._under_way -= 1
            self._tell(event)

    def _digests_of(self, data: memoryview, flat: Witness | None) -> tuple[bytes, Digests]:
        """Return the leaves and the digests of a small file."""
        hashes, root = b"", None
        if self._tree:
            hashes, _ = tree_leaves(data)
            root = tree_root(hashes)
        if flat is None:
            return hashes, Digests(residue(data), None, root)
        return hashes, Digests(flat.residue, flat.digest, root)

    def _open(self, file: _File) -> None:
        # The blocks before a checkpoint were read by another opening.
        found = file.found._replace(exact=True) if file.begun else file.found
        try:
            context = self._source.open(found)
            reader = context.__enter__()
        except FileError as error:
            file.error = error
        else:
            file.context, file.reader = context, reader
            if file.done:
                reader.begin(file.done * BLOCK_BYTES)
        self._leave(file)
        with self._lock:
            self._work.notify_all()

    def _hash_in_turns(self, files: list[_File], buffer: memoryview) -> None:
        """Hash the next block of each file; none of them is behind."""
        chains = [_chain_of(file) for file in files]
        leaves: dict[Chain, list[bytes]] = {chain: [] for chain in chains}
        for pieces in hash_in_turns(chains, buffer):
            if self._stopped:
                return
            if self._tree:
                for chain, piece in pieces:
                    leaves[chain].append(tree_leaves(piece)[0])
        for file, chain in zip(files, chains, strict=True):
            if chain.error is not None:
                file.error = chain.error
                continue
            hashes = b"".join(leaves[chain])
            size = chain.stop - file.hash.done * BLOCK_BYTES
            block = _Block(size, hashes, tree_root(hashes) if self._tree else b"", 0, None)
            file.hash.take(None, block.residue, block.root)
            self._tell_block(file, block)
        with self._lock:
            self._free.append(buffer)
            self._in_files -= 1
            for file in files:
                file.in_turns = False
        for file in files:
            self._leave(file)
        with self._lock:
            self._work.notify_all()

    def _hash_block(self, file: _File, index: int, buffer: memoryview) -> None:
        assert file.reader is not None
        offset = index * BLOCK_BYTES
        data = buffer[: min(BLOCK_BYTES, file.found.size - offset)]
        block = None
        hashes = root = b""
        part = 0
        try:
            if file.reader.read_into(offset, data) != len(data):
                raise FileError(CHANGED)
            if self._tree:
                hashes, residues = tree_leaves(data)
                root = tree_root(hashes)
                part = residue(residues)
            block = _Block(len(data), hashes, root, part, buffer if self._flat else None)
        except FileError as error:
            file.error = file.error or error
        with self._lock:
            if block is None or not self._flat:
                self._free.append(buffer)
                self._work.notify()
            if block is not None:
                file.ready[index] = block
            drain = not file.draining
            file.draining = True
        if drain:
            self._drain(file)
        with self._lock:
            self._in_files -= 1
        self._leave(file)

    def _drain(self, file: _File) -> None:
        """Process the blocks whose turn has come; this thread has set `file.draining`."""
        while True:
            with self._lock:
                block = file.ready.pop(file.done, None)
                if block is None:
                    file.draining = False
                    return
            data = None if block.buffer is None else block.buffer[: block.size]
            file.hash.take(data, block.residue, block.root)
            self._tell_block(file, block)

    def _tell_block(self, file: _File, block: _Block) -> None:
        """Count a block that the digests of the file have taken."""
        checkpoint = file.hash.checkpoint()
        with self._lock:
            file.done += 1
            if block.buffer is not None:
                self._free.append(block.buffer)
            self._work.notify()
            self._tell(partial(_block_event, file, block, checkpoint))

    def _leave(self, file: _File) -> None:
        """Leave the file after this thread's part; the last thread finishes it."""
        with self._lock:
            file.workers -= 1
            if not file.is_over:
                return
            for block in file.ready.values():
                if block.buffer is not None:
                    self._free.append(block.buffer)
        result: Digests | FileError
        try:
            try:
                if file.error is None and file.reader is not None:
                    file.reader.finish()
            finally:
                file.close()
            result = file.error or file.hash.digests()
        except FileError as error:
            result = error
        with self._lock:
            self._files.remove(file)
            self._under_way -= 1
            self._work.notify_all()
            self._tell(lambda _: ((file.found, result),))


def _chain_of(file: _File) -> Chain:
    """Return the next block of a file; the flat digest has all before."""
    reader, stream = file.reader, file.hash.stream
    assert reader is not None
    assert stream is not None

    def read(offset: int, buffer: memoryview) -> None:
        if reader.read_into(offset, buffer) != len(buffer):
            raise FileError(CHANGED)

    start = file.hash.done * BLOCK_BYTES
    return Chain(stream, read, start, min(file.found.size, start + BLOCK_BYTES))


def _block_event(
    file: _File, block: _Block, checkpoint: Checkpoint, callbacks: Callbacks
) -> Iterable[_Result]:
    if callbacks.advance is not None:
        callbacks.advance(block.size)
    if file.sink is not None:
        file.sink(block.hashes)
    if callbacks.progress is not None:
        callbacks.progress(file.found, checkpoint, block.root)
    return ()
