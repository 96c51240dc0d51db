# SPDX-License-Identifier: Apache-2.0
"""Witness files, compare them with leaves, and prove windows, all in constant memory.

Leaves are processed in order and are never all in memory.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from ._chains import CHAINS_MOST, Chain, hash_in_turns
from ._file_blocks import blocks_of_name
from ._files import CHANGED, CHUNK_BYTES, STDIN, FileError, RegularFile, read_chunks
from ._native import DIGEST_BYTES, TreeStream, file_sizes, witness_named_files
from ._proofs import InclusionProof
from ._sidecars import LeafComparison, Leaves, WindowRange
from ._subtree import left_part, window_count
from ._tree import TreeWitness
from ._witness import Witness, WitnessStream

# Files that are looked at together.
FILES_AT_ONCE: Final = 512
_STDIN: Final = os.fsencode(STDIN)
# Up to this size files are read whole, and at least eight of them fit into a buffer.
SMALL_MOST: Final = CHUNK_BYTES // 8


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
    return file_sizes([b"" if path == _STDIN or b"\0" in path else path for path in paths])


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


def witness_in_turn(
    names: Sequence[str], advance: Callable[[int], None] | None = None
) -> Iterator[Witness | FileError]:
    """Yield the witness of each file, in order, or why there is none; each as by `witness_file`.

    Files are hashed many at once, in constant memory, by one thread.

    Args:
        names: paths, or `-` for standard input.
        advance: called with the number of bytes after each piece of the work.
    """
    for start in range(0, len(names), FILES_AT_ONCE):
        paths = list(map(os.fsencode, names[start : start + FILES_AT_ONCE]))
        sizes = sizes_of(paths)
        for (run,) in shares(sizes, 1):
            first, stop = run[0], run[-1] + 1
            yield from witness_files(paths[first:stop], sizes[first:stop], advance)


def witness_files(
    paths: Sequence[bytes],
    sizes: Sequence[int],
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
        advance: called with the number of bytes after each piece of the work.
        open_most: so many files are open at once, in 1..`CHAINS_MOST`.
    """
    buffer = memoryview(bytearray(CHUNK_BYTES))
    found: list[Witness | FileError | None] = [None] * len(paths)
    small = [index for index, size in enumerate(sizes) if 0 <= size <= SMALL_MOST]
    witnesses = witness_named_files(
        Witness, [paths[index] for index in small], [sizes[index] for index in small], buffer
    )
    for index, witness in zip(small, witnesses, strict=True):
        found[index] = witness
    if advance is not None:
        advance(sum(sizes[index] for index in small if found[index] is not None))
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


def tree_witness_file(
    name: str,
    *,
    threads: int | None = None,
    leaves: Callable[[bytes], object] | None = None,
    advance: Callable[[int], None] | None = None,
) -> TreeWitness:
    """Return the tree witness of a file, in constant memory, without leaves.

    Like `TreeWitness.generate_from`, for the command line: also accepts standard input, and passes
    on leaves as they come.

    Args:
        name: a path, or `-` for standard input. A path must be a regular file.
        threads: number of threads that read and hash; None for one per core that this process may
            use. The witness is the same. No thread is started for 1, or for a file of at most
            3 MiB.
        leaves: called with the next leaf hashes, joined, in order; for example `file.write`.
        advance: called with the number of bytes after each block.

    Raises:
        FileError: not a regular file, not readable, or changed while it was read.
        ValueError: `threads` is less than 1.
        TypeError: `threads` is not an int.
    """
    return TreeWitness._of_blocks(blocks_of_name(name, threads, advance), False, leaves)


def compare_file(
    name: str,
    leaves: Leaves,
    changed: Callable[[WindowRange], object],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> TreeWitness:
    """Find the windows in which a file differs from its witness, in constant memory.

    A window that only one of them has counts as different, as does a last window of another length.

    Args:
        name: a path, or `-` for standard input.
        leaves: the leaves of the witness. Check them first, because ranges are reported before it
            is known that the leaves belong to the witness.
        changed: called with each range of windows that differ, in order, as soon as it is known.
        threads, advance: as for `tree_witness_file`.

    Returns:
        The present witness of the file, without leaves.

    Raises:
        FileError: as `tree_witness_file` and `Leaves.chunks`.
        ValueError, TypeError: as `tree_witness_file`.
    """
    comparison = LeafComparison(leaves.chunks(), changed)
    found = tree_witness_file(name, threads=threads, leaves=comparison.write, advance=advance)
    comparison.finish(max(found.length, leaves.witness.length))
    return found


def prove_in_file(
    name: str,
    window: int,
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> InclusionProof:
    """Return the proof that a window is in the tree of a file, in constant memory.

    Args:
        name: a path of a regular file.
        window: its index.
        threads, advance: as for `tree_witness_file`.

    Raises:
        FileError: as `tree_witness_file`, or the file has no such window.
        ValueError, TypeError: as `tree_witness_file`.
    """
    with RegularFile(name) as file:
        size = window_count(file.size)
    prover = _Prover(window, size)
    witness = tree_witness_file(name, threads=threads, leaves=prover.write, advance=advance)
    if witness.windows != size:
        raise FileError(CHANGED)
    return prover.proof(witness.root)


def prove_in_leaves(leaves: Leaves, window: int) -> InclusionProof:
    """Return the proof that a window is in the tree of a witness, from its leaves alone.

    Raises:
        FileError: as `Leaves.chunks`, or the witnessed region has no such window.
    """
    prover = _Prover(window, leaves.witness.windows)
    for chunk in leaves.chunks():
        prover.write(chunk)
    return prover.proof(leaves.witness.root)


class _Prover:
    """PATH(index, D[size]) of RFC 9162, section 2.1.3.1, from leaves that pass by once.

    Each sibling of a node on the way from the root to the leaf is the root over neighbouring
    leaves; a stream of its own computes it.
    """

    def __init__(self, index: int, size: int) -> None:
        if not 0 <= index < size:
            windows = f"has the windows 0..{size - 1}" if size > 0 else "is empty, has no window"
            raise FileError(f"{windows}, not {index}")
        self._index = index
        self._size = size
        self._written = 0
        self._siblings: list[tuple[int, int, TreeStream]] = []  # from the root down
        start, stop = 0, size
        while stop - start > 1:
            middle = start + left_part(stop - start)
            if index < middle:
                self._siblings.append((middle, stop, TreeStream()))
                stop = middle
            else:
                self._siblings.append((start, middle, TreeStream()))
                start = middle

    def write(self, leaves: bytes) -> None:
        begin = self._written
        self._written += len(leaves) // DIGEST_BYTES
        for start, stop, stream in self._siblings:
            some = range(max(start, begin), min(stop, self._written))
            if some:
                offset = (some.start - begin) * DIGEST_BYTES
                stream.append(leaves[offset : offset + len(some) * DIGEST_BYTES], 0)

    def proof(self, root: bytes) -> InclusionProof:
        """Return the proof, once all leaves were written; `root` is the root over them."""
        path = tuple(stream.result()[0] for _, _, stream in reversed(self._siblings))
        return InclusionProof._of(index=self._index, size=self._size, path=path, root=root)
