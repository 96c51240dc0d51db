# SPDX-License-Identifier: Apache-2.0
"""Tree witnesses of a file, its comparison with leaves, and proofs of windows, in constant memory.

Leaves are processed in order and are never all in memory.
"""

from collections.abc import Callable

from ._file_blocks import blocks_of_name
from ._files import CHANGED, FileError, RegularFile
from ._native import DIGEST_BYTES, TreeStream
from ._proofs import InclusionProof
from ._sidecars import LeafComparison, Leaves, WindowRange
from ._subtree import left_part, window_count
from ._tree import TreeWitness


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


def require_window(index: int, size: int) -> None:
    """Raise FileError unless a file of `size` windows has one with this index."""
    if not 0 <= index < size:
        windows = f"has the windows 0..{size - 1}" if size > 0 else "is empty, has no window"
        raise FileError(f"{windows}, not {index}")


class _Prover:
    """PATH(index, D[size]) of RFC 9162, section 2.1.3.1, from leaves that pass by once.

    Each sibling of a node on the way from the root to the leaf is the root over neighbouring
    leaves; a stream of its own computes it.
    """

    def __init__(self, index: int, size: int) -> None:
        require_window(index, size)
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
