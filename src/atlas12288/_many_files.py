# SPDX-License-Identifier: Apache-2.0
"""Flat witnesses of many named files, by several threads, in the order of the names.

Files are looked at by hundreds. One thread takes the small ones of them, which native code reads
many at once, and the large ones are shared evenly. A thread reads its large files in turns.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain, islice
from operator import itemgetter
from threading import Event
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from ._chains import CHAINS_MOST, PIECE_BYTES, Chain, hash_in_turns
from ._files import CHUNK_BYTES, STDIN, FileError, RegularFile, read_chunks
from ._native import FileSums, SumLines, file_sizes, witness_named_files
from ._parallel import new_buffer, parallel_map_ahead, thread_count
from ._witness import Witness, WitnessStream

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")

# Files that are looked at together.
FILES_AT_ONCE: Final = 512
# Up to this size files are read whole, and at least eight of them fit into a buffer.
SMALL_MOST: Final = CHUNK_BYTES // 8
# After so long, native code comes back to Python, which sees Ctrl-C.
STOP_NS: Final = 50_000_000
# What a file without its name, and the result for it, take until that is given.
ITEM_BYTES: Final = 512

_STDIN: Final = os.fsencode(STDIN)
_THREADS_MOST: Final = 32
# All buffers together. With results that wait for their turn, this is less than 64 MiB.
_BUFFERS_BYTES: Final = _THREADS_MOST * CHUNK_BYTES
_AHEAD_BYTES: Final = 16 << 20
# Descriptors of all threads together: a process may have 256 on some systems.
_OPEN_MOST: Final = 64


class Known(NamedTuple):
    """In the place of a name, what is known of it already.

    Attributes:
        name: the file; None if there is none.
        outcome: its witness, or why there is none.
    """

    name: str | None
    outcome: "Witness | FileError"


class Share(NamedTuple, Generic[T]):
    """Some of the files that are looked at together, for one thread.

    Attributes:
        items: stand for the files.
        sizes: as from `sizes_of`.
        places: for each its place among all that are looked at together.
        is_last: no other share has more of them.
    """

    items: list[T]
    sizes: list[int]
    places: list[int]
    is_last: bool


# What a thread has found of the files of a share: whether the share is the last one, and results
# with their places.
Found: TypeAlias = tuple[bool, list[tuple[int, R]]]


def witness_file(name: str, advance: Callable[[int], None] | None = None) -> Witness:
    """Return the witness of a file, in constant memory.

    Like `Witness.generate_from`, but for the command line: also reads standard input.

    Args:
        name: a path, or `-` for standard input.
        advance: called with the number of bytes after each chunk.

    Raises:
        FileError: as `read_chunks`.
    """
    return Witness._of_chunks(read_chunks(name, advance))


def sizes_of(paths: Sequence[bytes]) -> list[int]:
    """Return the sizes of regular files in bytes, links followed; -1 for all that is none.

    Args:
        paths: the files, or `-` for standard input, which is none.
    """
    # No file has the empty path.
    files = [b"" if path == _STDIN or b"\0" in path else path for path in paths]
    sizes: list[int] = []
    while len(sizes) < len(files):
        sizes += file_sizes(files[len(sizes) :], STOP_NS)
    return sizes


def measured(files: FileSums | SumLines) -> list[int]:
    """Take the sizes of files, for what reads them; return those as `sizes_of` does."""
    sizes: list[int] = []
    while len(sizes) < len(files):  # signals are handled in between
        sizes += files.measure(STOP_NS)
    return sizes


def shares(sizes: Sequence[int], threads: int) -> Iterator[list[list[int]]]:
    """Part files so that several threads can witness them: the large ones evenly.

    Args:
        sizes: as from `sizes_of`.
        threads: how many there are.

    Yields:
        One after another, the indices of some files, in lists for one thread each. All lists
        together hold a run of the files: not all, if many are large.
    """
    start = larges = 0
    for stop, size in enumerate(sizes, 1):
        larges += size > SMALL_MOST
        if larges == CHAINS_MOST * threads or stop == len(sizes):
            yield _dealt(range(start, stop), sizes, threads if larges else 1)
            start, larges = stop, 0


def _dealt(indices: range, sizes: Sequence[int], threads: int) -> list[list[int]]:
    if threads == 1:
        return [list(indices)]
    # The longest first, each to whom has the fewest bytes so far.
    small = [index for index in indices if sizes[index] <= SMALL_MOST]
    large = sorted(set(indices).difference(small), key=lambda index: -sizes[index])
    hands: list[tuple[int, int, list[int]]] = [(0, i, []) for i in range(min(threads, len(large)))]
    for index in large:
        total, number, hand = min(hands)
        hand.append(index)
        hands[number] = (total + sizes[index], number, hand)
    return ([small] if small else []) + [hand for _, _, hand in hands]


def dealt(items: Sequence[T], sizes: Sequence[int], threads: int) -> Iterator[Share[T]]:
    """Yield what stands for some files in shares, each for one thread; see `shares`."""
    for hands in shares(sizes, threads):
        for hand in hands:
            some = [items[place] for place in hand]
            yield Share(some, [sizes[place] for place in hand], hand, hand is hands[-1])


def witness_files(
    paths: Sequence[bytes],
    sizes: Sequence[int],
    buffer: memoryview,
    advance: Callable[[int], None] | None = None,
    *,
    open_most: int = CHAINS_MOST,
) -> list[Witness | FileError]:
    """Return the witness of each file, or why there is none; each is as by `witness_file`.

    They are hashed beside one another: small ones are read whole, many at once, and large ones in
    turns. It takes no more memory than one file.

    Args:
        paths: the files, or `-` for standard input; at most `FILES_AT_ONCE`.
        sizes: as from `sizes_of`, a moment ago. What is not so any more is witnessed alone.
        buffer: of `CHUNK_BYTES` or more, for the bytes of several.
        advance: called with the number of bytes after each piece of the work.
        open_most: so many files are open at once, in 1..`CHAINS_MOST`.
    """
    found: list[Witness | FileError | None] = [None] * len(paths)
    small = [index for index, size in enumerate(sizes) if 0 <= size <= SMALL_MOST]
    while small:
        witnesses = witness_named_files(
            Witness,
            [paths[index] for index in small],
            [sizes[index] for index in small],
            buffer,
            STOP_NS,
        )
        done, small = small[: len(witnesses)], small[len(witnesses) :]
        for index, witness in zip(done, witnesses, strict=True):
            found[index] = witness
        if advance is not None:
            advance(sum(sizes[index] for index in done if found[index] is not None))
    large = [index for index, size in enumerate(sizes) if size > SMALL_MOST]
    if len(large) > 1:
        large.sort(key=lambda index: -sizes[index])
        for chain in _in_turns(paths, large, buffer, advance, open_most):
            found[chain.index] = chain.outcome
    return [
        _outcome(path, advance) if each is None else each
        for path, each in zip(paths, found, strict=True)
    ]


def _outcome(path: bytes, advance: Callable[[int], None] | None) -> Witness | FileError:
    try:
        return witness_file(os.fsdecode(path), advance)
    except FileError as error:
        # It may wait for its turn, and the frames of a traceback take more than it does.
        for each in (error, error.__cause__):
            if each is not None:
                each.__traceback__ = None
        return error


class _WholeFile(Chain):
    """A file that is read in turns; it is open until it is finished."""

    __slots__ = ("_file", "index", "outcome")

    def __init__(self, index: int, file: RegularFile) -> None:
        super().__init__(WitnessStream(), file.read_into, 0, file.size)
        self.index = index
        self.outcome: Witness | FileError | None = None
        self._file = file

    def finish(self) -> None:
        """Set the outcome, and close the file."""
        try:
            if self.error is None:
                self._file.finish()
            self.outcome = self.error or self.stream.witness()
        except FileError as error:
            self.outcome = error
        self.close()

    def close(self) -> None:
        self._file.__exit__(None, None, None)


def _in_turns(
    paths: Sequence[bytes],
    indices: Sequence[int],
    buffer: memoryview,
    advance: Callable[[int], None] | None,
    open_most: int,
) -> list[_WholeFile]:
    """Return files that were read in turns, but those that cannot be opened."""
    opened: list[_WholeFile] = []

    def chains() -> Iterator[_WholeFile]:
        for index in indices:
            with suppress(FileError):
                opened.append(_WholeFile(index, RegularFile(os.fsdecode(paths[index]))))
                yield opened[-1]

    try:
        for pieces in hash_in_turns(chains(), buffer, open_most):
            if advance is not None:
                advance(sum(len(piece) for _, piece in pieces))
    finally:
        for chain in opened:
            chain.close()
    return opened


class _StopError(Exception):
    """The result for this file is no longer wanted."""


class FileCrew:
    """Threads that hash files.

    Args:
        threads: how many there are; None for one per core that this process may use. At most 32.
        advance: called with the number of bytes after each piece of the work, by any thread.

    Attributes:
        threads: how many there are.

    Raises:
        TypeError, ValueError: `threads`, as `thread_count`.
    """

    def __init__(self, threads: int | None, advance: Callable[[int], None] | None) -> None:
        self.threads = min(thread_count(threads), _THREADS_MOST)
        self._open_most = max(1, min(CHAINS_MOST, _OPEN_MOST // self.threads))
        self._buffer_bytes = min(CHAINS_MOST * PIECE_BYTES, _BUFFERS_BYTES // self.threads)
        self._told = advance
        self._stopping = Event()
        self._buffers: list[memoryview] = []  # that no thread uses now

    def advance(self, count: int) -> None:
        """Count bytes as read; end the work of this thread if nobody wants its result any more."""
        if self._stopping.is_set():
            raise _StopError
        if self._told is not None:
            self._told(count)

    @contextmanager
    def buffer(self) -> Iterator[memoryview]:
        """Lend a buffer of `CHUNK_BYTES` or more."""
        buffer = self._buffers.pop() if self._buffers else new_buffer(self._buffer_bytes)
        yield buffer
        self._buffers.append(buffer)

    def witnesses(self, paths: Sequence[bytes], sizes: Sequence[int]) -> list[Witness | FileError]:
        """Return what `witness_files` does."""
        with self.buffer() as buffer:
            return witness_files(paths, sizes, buffer, self.advance, open_most=self._open_most)

    def named(self, names: Iterable[str | FileError]) -> Iterator[list[str | Known]]:
        """Yield names of files, so many as are looked at together.

        Standard input, `-`, is read here, and is known: two threads would split its bytes at
        random. An error in the place of a name is known too.
        """
        names = iter(names)
        while some := list(islice(names, FILES_AT_ONCE)):
            yield [
                name if isinstance(name, str) and name != STDIN else self._known(name)
                for name in some
            ]

    def _known(self, name: str | FileError) -> Known:
        if isinstance(name, FileError):
            return Known(None, name)
        (outcome,) = self.witnesses([os.fsencode(name)], [-1])
        return Known(name, outcome)

    def in_order(
        self, shares: Iterable[S], work: Callable[[S], Found[R]], weight: Callable[[S], int]
    ) -> Generator[R, None, None]:
        """Yield the results for all files in their order, whatever share they are in.

        Results of many small files wait while large ones are read, until they take 16 MiB. No
        thread is started for a single share. Close it if not all results are taken.

        Args:
            shares: taken by the calling thread, when threads have little to do.
            work: returns the results for a share. Other threads call it; it calls `advance` often.
            weight: returns the bytes that a share and its results take.
        """
        shares = iter(shares)
        first = list(islice(shares, 2))
        results = parallel_map_ahead(
            work,
            chain(first, shares),
            self.threads if len(first) > 1 else 1,
            weight=weight,
            ahead=_AHEAD_BYTES,
            stop=self._stopping.set,
        )
        waiting: list[tuple[int, R]] = []
        with closing(results):
            for is_last, some in results:
                waiting += some
                if is_last:
                    waiting.sort(key=itemgetter(0))
                    for _, result in waiting:
                        yield result
                    waiting.clear()


def witness_in_order(
    names: Iterable[str | FileError],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Generator[Known, None, None]:
    """Yield the witness of each file, in order, or why there is none; each as by `witness_file`.

    Files are hashed many at once, in constant memory. Close it if not all of them are taken.

    Args:
        names: paths, or `-` for standard input; or errors, which are given in their places.
        threads, advance: as for `FileCrew`.

    Raises:
        TypeError, ValueError: as `FileCrew`.
    """
    crew = FileCrew(threads, advance)

    def parts() -> Iterator[Share[str | Known]]:
        for some in crew.named(names):
            paths = [b"" if isinstance(each, Known) else os.fsencode(each) for each in some]
            yield from dealt(some, sizes_of(paths), crew.threads)

    def work(share: Share[str | Known]) -> Found[Known]:
        files = [index for index, each in enumerate(share.items) if isinstance(each, str)]
        names = [str(share.items[index]) for index in files]
        found = crew.witnesses(list(map(os.fsencode, names)), [share.sizes[i] for i in files])
        outcomes = iter(map(Known, names, found))
        items = [each if isinstance(each, Known) else next(outcomes) for each in share.items]
        return share.is_last, list(zip(share.places, items, strict=True))

    return crew.in_order(parts(), work, lambda share: weight_of(share.items))


def weight_of(items: Sequence[str | Known]) -> int:
    """Return how many bytes names, and the results for them, take at most."""
    # A character takes up to 4 bytes.
    return ITEM_BYTES * len(items) + 4 * sum(map(len, items))
