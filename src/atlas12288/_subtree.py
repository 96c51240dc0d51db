# SPDX-License-Identifier: Apache-2.0
"""The tree in memory: immutable subtrees of fan-out 256, so that two trees share what is equal.

A block is the lowest subtree: the leaves of up to 256 windows. A subtree above holds up to 256
subtrees, all full but the last one. RFC 9162 splits a tree after a power of two, so the root over
the roots of such subtrees is the root over their leaves, and each of its subtrees is found in one
of ours. The levels between are not kept: to hash 256 nodes again takes some microseconds.
"""

from __future__ import annotations

from contextlib import closing
from itertools import zip_longest
from typing import TYPE_CHECKING

from . import _native
from ._parallel import parallel_map

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from ._types import Buffer

FANOUT = _native.FANOUT
BLOCK_BYTES = FANOUT * _native.WINDOW_BYTES
_HASH = _native.DIGEST_BYTES


class Subtree:
    """A block, or a subtree above other subtrees.

    Attributes:
        hashes: the leaves of a block, or the roots of the children, joined. Of what a device made
            they are a view of what all blocks have in common, as the residues are.
        children: none for a block.
        residues: residue of each window of a block, b"" above blocks; None if not known.
        residue: residue of all its windows together; None if not known.
        span: number of windows below each of the hashes; also the number of blocks that fit.
        root: root over the hashes.
    """

    __slots__ = ("children", "hashes", "residue", "residues", "root", "span")

    def __init__(
        self, hashes: bytes, residues: bytes | None, children: tuple[Subtree, ...] = ()
    ) -> None:
        self.hashes: bytes | memoryview = hashes
        self.residues: bytes | memoryview | None = residues
        self.children = children
        self.root = _native.tree_root(hashes)
        self.span: int = FANOUT * children[0].span if children else 1
        self.residue: int | None = None
        if residues is not None:
            parts = bytes(child.residue or 0 for child in children) if children else residues
            self.residue = _native.residue(parts)

    @classmethod
    def known(
        cls, hashes: bytes | memoryview, residues: bytes | memoryview, root: bytes, residue: int
    ) -> Subtree:
        """Return a block whose root and residue are made already."""
        block = cls.__new__(cls)
        block.hashes, block.residues, block.children = hashes, residues, ()
        block.root, block.residue, block.span = root, residue, 1
        return block

    def __reduce__(self) -> tuple[type[Subtree], tuple[object, ...]]:
        residues = None if self.residues is None else bytes(self.residues)
        return Subtree, (bytes(self.hashes), residues, self.children)

    @classmethod
    def above(cls, children: tuple[Subtree, ...]) -> Subtree:
        known = children[0].residue is not None
        hashes = b"".join(child.root for child in children)
        return cls(hashes, b"" if known else None, children)

    def blocks(self) -> Iterator[Subtree]:
        """Yield the blocks from left to right."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.blocks()

    def block(self, index: int) -> Subtree | None:
        """Return the block with this index, None past the end. O(log n)."""
        tree = self
        while tree.children:
            child, index = divmod(index, tree.children[0].span)
            if child >= len(tree.children):
                return None
            tree = tree.children[child]
        return None if index > 0 else tree


def tree_of_leaves(
    leaves: Buffer, residues: Buffer, block_roots: Buffer, block_residues: Buffer
) -> Subtree:
    """Return the tree of a region whose blocks are hashed already.

    Args:
        leaves, residues: of the windows, joined. A tree of several blocks keeps them uncopied, so
            they must not change any more.
        block_roots, block_residues: of the blocks, joined; none for an empty region.
    """
    roots, sums = bytes(block_roots), bytes(block_residues)
    if len(sums) == 1:
        return Subtree.known(bytes(leaves), bytes(residues), roots, sums[0])
    all_leaves, all_residues = memoryview(leaves), memoryview(residues)
    step = _HASH * FANOUT
    blocks = {
        index: Subtree.known(
            all_leaves[step * index : step * (index + 1)],
            all_residues[FANOUT * index : FANOUT * (index + 1)],
            roots[_HASH * index : _HASH * (index + 1)],
            residue,
        )
        for index, residue in enumerate(sums)
    }
    return with_blocks(None, len(blocks) or 1, blocks or {0: Subtree(b"", b"")})


def tree_of_windows(leaves: bytes, residues: bytes, root: bytes, residue: int) -> Subtree:
    """Return the tree of a region whose windows are hashed already.

    Args:
        leaves, residues: of the windows, joined.
        root, residue: of the region.
    """
    if len(residues) <= FANOUT:
        return Subtree.known(leaves, residues, root, residue)
    blocks = [
        Subtree(leaves[_HASH * first : _HASH * (first + FANOUT)], residues[first : first + FANOUT])
        for first in range(0, len(residues), FANOUT)
    ]
    return with_blocks(None, len(blocks), dict(enumerate(blocks)))


def blocks_of_chunks(
    chunks: Iterable[memoryview], threads: int
) -> Generator[tuple[Subtree, int], None, None]:
    """Yield the blocks of a region, each with its bytes.

    Args:
        chunks: the region in order, each chunk of whole blocks but the last one.
        threads: how many hash, each a chunk.
    """

    def blocks_of(chunk: memoryview) -> list[tuple[Subtree, int]]:
        starts = range(0, len(chunk), BLOCK_BYTES)
        blocks = (chunk[start : start + BLOCK_BYTES] for start in starts)
        return [(Subtree(*_native.tree_leaves(block)), len(block)) for block in blocks]

    # Closed at once, also after an error: no thread is left.
    with closing(parallel_map(blocks_of, chunks, threads)) as made:
        for blocks in made:
            yield from blocks


def changed_block(
    block: Subtree | None, content: memoryview, first: int, windows: Sequence[int]
) -> Subtree:
    """Return the block of `content` that begins at window `first`, hashing only `windows`.

    Args:
        block: the old block; None if there was none.
        content: the whole region now.
        first: index of the block's first window.
        windows: indices in order, with all that `block` does not have or whose length changed.
    """
    size = min(FANOUT, window_count(len(content)) - first)
    hashes, residues = bytearray(_HASH * size), bytearray(size)
    if block is not None:
        known = min(size, len(block.hashes) // _HASH)
        hashes[: _HASH * known] = block.hashes[: _HASH * known]
        residues[:known] = (block.residues or b"")[:known]
    start = 0
    while start < len(windows):
        stop = start + 1
        while stop < len(windows) and windows[stop] == windows[stop - 1] + 1:
            stop += 1
        begin, end = windows[start], windows[stop - 1] + 1
        part = content[_native.WINDOW_BYTES * begin : _native.WINDOW_BYTES * end]
        new_hashes, new_residues = _native.tree_leaves(part)
        hashes[_HASH * (begin - first) : _HASH * (end - first)] = new_hashes
        residues[begin - first : end - first] = new_residues
        start = stop
    return Subtree(bytes(hashes), bytes(residues))


def updated(
    tree: Subtree, before: int, content: memoryview, windows: Sequence[int], threads: int
) -> Subtree:
    """Return the tree of a region after some windows changed; it shares the other blocks.

    Args:
        tree: of the region before, with its residues.
        before: how many windows it had.
        content: the whole region now.
        windows: their indices, in order; those past its end are ignored.
        threads: how many hash, if there are more windows than in a block.
    """
    count = window_count(len(content))
    of_block: dict[int, list[int]] = {}
    for window in windows:
        if window < count:
            of_block.setdefault(window // FANOUT, []).append(window)
    if count < before:
        of_block.setdefault(block_count(count) - 1, [])

    def remade(item: tuple[int, list[int]]) -> Subtree:
        index, some = item
        return changed_block(tree.block(index), content, FANOUT * index, some)

    blocks = parallel_map(remade, of_block.items(), threads if len(windows) > FANOUT else 1)
    made = dict(zip(of_block, blocks, strict=True))
    return with_blocks(tree, block_count(count), made)


def with_residues(tree: Subtree, residues: bytes) -> Subtree:
    """Return the tree with the residue of each window."""
    blocks = {
        index: Subtree(bytes(block.hashes), residues[FANOUT * index : FANOUT * (index + 1)])
        for index, block in enumerate(tree.blocks())
    }
    return with_blocks(None, len(blocks), blocks)


def window_count(length: int) -> int:
    return -(-length // _native.WINDOW_BYTES)


def block_count(windows: int) -> int:
    """Return the number of blocks of a tree; the tree of an empty region has one empty block."""
    return max(1, -(-windows // FANOUT))


def with_blocks(tree: Subtree | None, count: int, blocks: Mapping[int, Subtree]) -> Subtree:
    """Return `tree` with some blocks replaced, and `count` blocks in all. O(changes x log n).

    Args:
        tree: the old tree; None for a new one.
        count: number of blocks of the result.
        blocks: new blocks by index, at least the ones that `tree` lacks, and the last one if
            `tree` has more than `count`.
    """
    if tree is not None and not blocks:
        return tree
    span = 1
    while span < count:
        span *= FANOUT
    while tree is not None and tree.span > span:
        tree = tree.children[0]
    while tree is not None and tree.span < span:
        tree = Subtree.above((tree,))
    return _with_blocks(tree, span, count, blocks)


def _with_blocks(
    tree: Subtree | None, span: int, count: int, blocks: Mapping[int, Subtree]
) -> Subtree:
    if span == 1:
        return blocks[0]
    span //= FANOUT
    children = [] if tree is None else list(tree.children[: -(-count // span)])
    groups: dict[int, dict[int, Subtree]] = {}
    for index in sorted(blocks):
        groups.setdefault(index // span, {})[index % span] = blocks[index]
    for index, group in groups.items():
        old = children[index] if index < len(children) else None
        new = _with_blocks(old, span, min(span, count - index * span), group)
        children[index : index + 1] = [new]
    return Subtree.above(tuple(children))


def range_root(tree: Subtree, start: int, stop: int) -> bytes:
    """Return the root over the windows start..stop-1, a subtree as RFC 9162 splits trees."""
    while stop - start < tree.span:
        child, first = divmod(start, tree.span)
        stop -= start - first
        start = first
        tree = tree.children[child]
    return _native.tree_root(
        tree.hashes[_HASH * (start // tree.span) : _HASH * -(-stop // tree.span)]
    )


def left_part(windows: int) -> int:
    """Return where RFC 9162 splits two or more windows: the largest power of two below."""
    return 1 << (windows - 1).bit_length() - 1


def changed_windows(one: Subtree, two: Subtree) -> Iterator[int]:
    """Yield in order the indices of the windows whose leaves the two trees do not share."""
    for index, blocks in enumerate(zip_longest(one.blocks(), two.blocks())):
        # As bytes, which are compared faster than views.
        some, others = (b"" if block is None else bytes(block.hashes) for block in blocks)
        if some != others:
            for start in range(0, max(len(some), len(others)), _HASH):
                stop = start + _HASH
                if some[start:stop] != others[start:stop]:
                    yield FANOUT * index + start // _HASH


def prefix_root(tree: Subtree, windows: int) -> bytes:
    """Return the root over the first `windows` windows alone; there is at least one."""
    perfect = []  # subtrees, from left to right
    start = 0
    while start < windows:
        stop = start + (1 << (windows - start).bit_length() - 1)
        perfect.append(range_root(tree, start, stop))
        start = stop
    root = perfect.pop()
    while perfect:
        root = _native.tree_node(perfect.pop(), root)
    return root
