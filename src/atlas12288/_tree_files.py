# SPDX-License-Identifier: Apache-2.0
"""Tree witnesses of files in constant memory: made, compared with leaves, and windows proven.

Leaves pass by in order and are never all in memory. They can be kept in a sidecar: a file with the
leaf hashes of one witness, or of several one after another, 32 bytes a window and nothing else.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Final, NamedTuple

from ._files import FileError, RegularFile, read_chunks
from ._native import (
    DIGEST_BYTES,
    WINDOW_BYTES,
    TreeStream,
    tree_root,
)
from ._proofs import InclusionProof
from ._subtree import left_part, window_count
from ._tree import TreeWitness
from ._witness import WitnessStream

# 128 windows, so that to pass a chunk between threads costs little beside hashing it.
TREE_CHUNK_BYTES: Final = 128 * WINDOW_BYTES
_LEAVES_AT_ONCE: Final = 4096  # 128 KiB of a sidecar
_LEAVES_OF_MANY: Final = 1 << 15  # 1 MiB, which has the leaves of many small files


def tree_witness_file(
    name: str,
    *,
    threads: int | None = None,
    leaves: Callable[[bytes], object] | None = None,
    flat: WitnessStream | None = None,
    advance: Callable[[int], None] | None = None,
) -> TreeWitness:
    """Return the tree witness of a file, in constant memory, without leaves.

    As `TreeWitness.generate_from`, for the command line: standard input too, and what passes by.

    Args:
        name: a path, or `-` for standard input. A path must be a regular file.
        threads: how many hash; None for one for each core that this process may use. The witness is
            the same. None is started for 1, or for a file of less than 1.5 MiB.
        leaves: called with the next leaf hashes, joined, in order; for example `file.write`.
        flat: takes the same bytes, for the flat witness from the same reading.
        advance: called with the number of bytes after each chunk.

    Raises:
        FileError: not a regular file, not readable, or changed while it was read.
        ValueError: `threads` is less than 1.
        TypeError: `threads` is not an int.
    """

    def read(chunk_bytes: int, buffers: int) -> Generator[memoryview, None, None]:
        with closing(
            read_chunks(name, advance, chunk_bytes=chunk_bytes, buffers=buffers)
        ) as chunks:
            for chunk in chunks:
                if flat is not None:
                    flat.update(chunk)
                yield chunk

    return TreeWitness._of_file(read, threads, False, TREE_CHUNK_BYTES, leaves)


class Leaves:
    """The leaves of a tree witness in a sidecar.

    Args:
        sidecar: the open file.
        first: how many leaves of other witnesses stand before them.
        witness: theirs.
    """

    def __init__(self, sidecar: RegularFile, first: int, witness: TreeWitness) -> None:
        self._sidecar = sidecar
        self._first = first
        self.witness = witness

    def chunks(self) -> Iterator[bytes]:
        """The leaf hashes in order, joined, some at a time.

        Raises:
            FileError: not readable; or, when all were given, they have not the witness's root.
        """
        stream = TreeStream()
        stop = self._first + self.witness.windows
        for at in range(self._first, stop, _LEAVES_AT_ONCE):
            count = min(_LEAVES_AT_ONCE, stop - at)
            chunk = self._sidecar.read(at * DIGEST_BYTES, count * DIGEST_BYTES)
            if len(chunk) != count * DIGEST_BYTES:
                end = at * DIGEST_BYTES + len(chunk)
                raise FileError(f"ended after {end} bytes, must have {stop} leaves")
            stream.append(chunk, 0)
            yield chunk
        root, _, _ = stream.result()
        if root != self.witness.root:
            raise FileError(
                f"has leaves with the root {root.hex()}, must have {self.witness.root.hex()}, "
                "that of the witness: they are damaged, or those of another witness"
            )

    def check(self) -> None:
        """Reads them all.

        Raises:
            FileError: as `chunks`.
        """
        for _ in self.chunks():
            pass


def leaves_of(sidecar: RegularFile, witnesses: Iterable[TreeWitness]) -> list[Leaves]:
    """The leaves of each of the witnesses for which a sidecar was made, in their order.

    Raises:
        FileError: it has not the size that these witnesses need.
    """
    found = []
    first = 0
    for witness in witnesses:
        found.append(Leaves(sidecar, first, witness))
        first += witness.windows
    if sidecar.size != first * DIGEST_BYTES:
        raise FileError(
            f"has {sidecar.size} bytes, must have {first * DIGEST_BYTES}, {DIGEST_BYTES} for each "
            f"of {first} windows: it is damaged, or that of another witness"
        )
    return found


def first_without_leaves(sidecar: RegularFile, trees: Iterable[tuple[int, bytes]]) -> int | None:
    """Hold a sidecar against the trees that it should have the leaves of, in constant memory.

    Args:
        sidecar: the open file.
        trees: the bytes and the root of each, in the order of their leaves.

    Returns:
        The index of the first tree whose leaves are not where they must be, or the number of trees
        where other bytes follow; None where the sidecar has the leaves of all of them, and no more.

    Raises:
        FileError: not readable.
    """
    index = -1
    at = begin = 0  # in leaves: of this tree, and of what is read
    some = b""
    for index, (size, root) in enumerate(trees):
        count = window_count(size)
        if (at + count) * DIGEST_BYTES > sidecar.size:
            return index
        if count > _LEAVES_OF_MANY:
            stream = TreeStream()
            for first in range(at, at + count, _LEAVES_OF_MANY):
                part = min(_LEAVES_OF_MANY, at + count - first)
                stream.append(sidecar.read(first * DIGEST_BYTES, part * DIGEST_BYTES), 0)
            found, _, _ = stream.result()
        else:
            if at + count > begin + len(some) // DIGEST_BYTES:
                begin = at
                some = sidecar.read(at * DIGEST_BYTES, _LEAVES_OF_MANY * DIGEST_BYTES)
            start = (at - begin) * DIGEST_BYTES
            found = tree_root(some[start : start + count * DIGEST_BYTES])
        if found != root:
            return index
        at += count
    return None if sidecar.size == at * DIGEST_BYTES else index + 1


class Run(NamedTuple):
    """Neighbouring windows first..stop-1 that differ: the bytes start..end-1 of the longer one of
    file and witnessed region."""

    first: int
    stop: int
    start: int
    end: int


def compare_file(
    name: str,
    leaves: Leaves,
    changed: Callable[[Run], object],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> TreeWitness:
    """Finds the windows in which a file differs from its witness, in constant memory.

    A window that only one of them has differs, and so does a last window of another length.

    Args:
        name: a path, or `-` for standard input.
        leaves: those of the witness. They should have been checked: if they turn out not to be the
            witness's, some runs have been given by then.
        changed: called with each run of windows that differ, in order, as soon as it is known.
        threads, advance: as for `tree_witness_file`.

    Returns:
        The witness of the file as it is, without leaves.

    Raises:
        FileError: as `tree_witness_file` and `Leaves.chunks`.
        ValueError, TypeError: as `tree_witness_file`.
    """
    comparison = LeafComparison(leaves.chunks(), changed)
    found = tree_witness_file(name, threads=threads, leaves=comparison.write, advance=advance)
    comparison.finish(max(found.length, leaves.witness.length))
    return found


class LeafComparison:
    """Compares leaves that come in chunks with known ones that come in other chunks.

    Args:
        known: the known leaf hashes in order, joined, some at a time.
        changed: called with each run of windows that differ, in order, as soon as it is known.
    """

    def __init__(self, known: Iterator[bytes], changed: Callable[[Run], object]) -> None:
        self._known = known
        self._rest = b""  # of the last known chunk
        self._changed = changed
        self._windows = 0  # compared so far
        self._differ_from: int | None = None  # the first window of the run that goes on

    @property
    def differs(self) -> bool:
        """Does a run go on, which is not given yet?"""
        return self._differ_from is not None

    def write(self, found: bytes) -> None:
        """Takes the next leaf hashes of what is compared, joined."""
        while len(self._rest) < len(found) and (more := next(self._known, b"")):
            self._rest += more
        known, self._rest = self._rest[: len(found)], self._rest[len(found) :]
        if known == found:
            self._next(len(found) // DIGEST_BYTES, differ=False)
            return
        for at in range(0, len(found), DIGEST_BYTES):
            stop = at + DIGEST_BYTES
            self._next(1, differ=known[at:stop] != found[at:stop])

    def finish(self, longer: int) -> None:
        """All leaves were written; `longer` is the greater of both lengths in bytes."""
        while more := self._rest or next(self._known, b""):
            self._next(len(more) // DIGEST_BYTES, differ=True)
            self._rest = b""
        self.stop(longer)

    def stop(self, most: int) -> None:
        """What follows is not compared. A run that goes on ends here, or after `most` bytes."""
        self._end_run(min(most, self._windows * WINDOW_BYTES))

    def _next(self, windows: int, differ: bool) -> None:
        if not differ:
            self._end_run(self._windows * WINDOW_BYTES)
        elif self._differ_from is None:
            self._differ_from = self._windows
        self._windows += windows

    def _end_run(self, end: int) -> None:
        if self._differ_from is not None:
            first, self._differ_from = self._differ_from, None
            self._changed(Run(first, self._windows, first * WINDOW_BYTES, end))


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
        raise FileError("changed while it was read")
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
        """Return the proof when all leaves were written; `root` is the root over them."""
        path = tuple(stream.result()[0] for _, _, stream in reversed(self._siblings))
        return InclusionProof._of(index=self._index, size=self._size, path=path, root=root)
