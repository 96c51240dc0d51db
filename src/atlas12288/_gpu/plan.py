# SPDX-License-Identifier: Apache-2.0
"""What is launched for the leaves, trees and residues of many regions at once.

kernelgen/grid.py describes the kernels, and what a row of a table and a part of a region are. Who
runs them is a `Machine`, so that a plan is the same for a GPU, its simulator and a CPU.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from .._native import DIGEST_BYTES as _HASH
from .._native import WINDOW_BYTES
from .._subtree import FANOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

R = TypeVar("R", covariant=True)

ROW_BYTES = 24  # three numbers of 8 bytes
KERNELS = ("leaves", "leaves_small", "leaves_any", "trees", "residues")
TREE_HASHES = FANOUT  # of a part of a tree: its root is then the root of a block of ours
TREE_THREADS = TREE_HASHES // 2
HASH_THREADS = 128
LARGE_THREADS = 256
TEAM_THREADS = 32
RESIDUE_THREADS = 256
QUAD_BYTES = 16
# From so many windows for each multiprocessor on, other threads hide how long memory takes. On an
# H200 loading ahead is 8 % faster at 165, and 7 % slower at 660.
LARGE_WINDOWS = 400
_ALIGNMENT = 256  # of what lies in the memory of a plan


class Machine(Protocol[R]):
    """Where kernels run, in the order in which they are launched.

    multiprocessors: how many there are, to tell large grids from small ones.
    """

    @property
    def multiprocessors(self) -> int: ...

    def allocate(self, size: int, /) -> int:
        """Return the address of `size` bytes at a multiple of 256, until the results are there."""

    def upload(self, address: int, data: bytes, /) -> None: ...

    def launch(self, kernel: str, groups: int, threads: int, /, *arguments: int) -> None: ...

    def copy(self, target: int, source: int, size: int, /) -> None:
        """Copy bytes as they are at this point of the order."""

    def download(self, address: int, size: int, /) -> R:
        """Return what will have bytes that nothing writes over any more.

        All that is between two downloads is read with them: they lie side by side.
        """


class Hashes(NamedTuple, Generic[R]):
    """Results of `hash_regions`; `R` is what a machine downloads into.

    Attributes:
        order: the numbers of the regions in the order of all results.
        windows: the number of windows of each, in this order.
        leaves: leaf hashes of all windows and then their residues; None where not asked for.
        blocks: the roots of all blocks and then their residues; None where not asked for.
        roots: the root of each region and then the residue of each.
    """

    order: Sequence[int]
    windows: Sequence[int]
    leaves: R | None
    blocks: R | None
    roots: R


def _table(starts: Sequence[int], lengths: Sequence[int], firsts: Sequence[int]) -> bytes:
    """Return the bytes of a table."""
    rows = array("Q", bytes(ROW_BYTES * len(starts)))
    for field, values in enumerate((starts, lengths, firsts)):
        rows[field::3] = array("Q", values)
    return rows.tobytes()


def _parts(lengths: Sequence[int], size: int) -> list[int]:
    return [-(-length // size) for length in lengths]


def _firsts(counts: Sequence[int]) -> tuple[list[int], int]:
    """Return the sum of the counts before each, and the sum of all."""
    firsts = list(accumulate(counts, initial=0))
    return firsts[:-1], firsts[-1]


def _rounded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class _Leaves(NamedTuple):
    """A launch of leaves, of some regions in the order of a layout.

    Attributes:
        kernel, groups, threads: of the launch.
        regions: which ones.
        first_window, windows: the first window of theirs, and how many they have.
        table, hashes, residues: where its table, leaves and residues begin in memory.
    """

    kernel: str
    groups: int
    threads: int
    regions: slice
    first_window: int
    windows: int
    table: int
    hashes: int
    residues: int


class _Trees(NamedTuple):
    """A launch of trees: what is above up to TREE_HASHES hashes of each part.

    Attributes:
        parts: how many.
        elements: hashes of all parts.
        table, hashes, residues: where its table and what it reads begin in memory.
        roots, sums: where the root and the residue of each part are written.
    """

    parts: int
    elements: int
    table: int
    hashes: int
    residues: int
    roots: int
    sums: int


class _Layout(NamedTuple):
    """What `hash_regions` does, where its memory is laid out; the addresses of regions are left.

    Attributes:
        order, windows: as in `Hashes`.
        lengths, firsts: the length and the first window of each region, in this order.
        hashes: where the leaves begin in memory.
        leaves, trees: the launches, in their order. The last tree writes the roots of regions, at
            the end of memory; there is none if each region is a window, whose leaf is its root.
        tables: of the trees, one after another; empty for one region.
        size, whole: bytes of memory, without and with copies of leaves and of roots of blocks.
        blocks_copy, leaves_copy: where these begin.
    """

    order: Sequence[int]
    windows: Sequence[int]
    lengths: Sequence[int]
    firsts: Sequence[int]
    hashes: int
    leaves: Sequence[_Leaves]
    trees: Sequence[_Trees]
    tables: bytes
    size: int
    whole: int
    blocks_copy: int
    leaves_copy: int


# The tensors of a model are hashed again and again; a layout is made in 0.6 us a region.
@lru_cache(maxsize=16)
def _layout(lengths: tuple[int, ...], aligned: tuple[bool, ...], large_windows: int) -> _Layout:
    # Those at multiples of 16 first, because another kernel takes the others.
    order = sorted(range(len(lengths)), key=lambda number: not aligned[number])
    sizes = [lengths[number] for number in order]
    windows = _parts(sizes, WINDOW_BYTES)
    firsts, total = _firsts(windows)

    passes: list[int] = []
    tables: list[bytes] = []
    elements, begin = windows, firsts
    while max(elements) > 1:
        parts = _parts(elements, TREE_HASHES)
        part_firsts, count = _firsts(parts)
        passes.append(count)
        tables.append(_table(begin, elements, part_firsts))
        elements, begin = parts, part_firsts
    table_bytes = ROW_BYTES * len(order) if len(order) > 1 else 0
    counts = (total, *passes)
    rooms = [table_bytes * len(counts), *((_HASH + 1) * count for count in counts)]
    (_, *offsets), size = _firsts([_rounded(room) for room in rooms])
    residues = [start + _HASH * count for start, count in zip(offsets, counts, strict=True)]

    split = sum(aligned)
    others = firsts[split] if split < len(firsts) else total  # the first window of the others
    usual = ("leaves_small", HASH_THREADS) if others < large_windows else ("leaves", LARGE_THREADS)
    leaves = []
    for kernel, threads, regions, first, stop in (
        (*usual, slice(split), 0, others),
        ("leaves_any", HASH_THREADS, slice(split, len(order)), others, total),
    ):
        if first < stop:
            groups, table = -(-(stop - first) // threads), ROW_BYTES * (regions.start or 0)
            where = (table, offsets[0] + _HASH * first, residues[0] + first)
            leaves.append(_Leaves(kernel, groups, threads, regions, first, stop - first, *where))
    trees = [
        _Trees(
            passes[level],
            counts[level],
            table_bytes * (level + 1),
            offsets[level],
            residues[level],
            offsets[level + 1],
            residues[level + 1],
        )
        for level in range(len(passes))
    ]
    joined = b"".join(tables) if table_bytes else b""
    # Trees are made over what is below them. The roots of the only pass are those of the blocks.
    leaves_copy = size + (_rounded((_HASH + 1) * passes[0]) if len(passes) > 1 else 0)
    whole = leaves_copy + (_HASH + 1) * total if passes else size
    copies = (whole, size, leaves_copy)
    return _Layout(order, windows, sizes, firsts, offsets[0], leaves, trees, joined, size, *copies)


def hash_regions(
    machine: Machine[R], addresses: Sequence[int], lengths: Sequence[int], *, leaves: bool
) -> Hashes[R]:
    """Launch what makes the root and the residue of each region.

    Args:
        machine: where the regions lie.
        addresses, lengths: of the regions; each has a byte or more.
        leaves: also return the leaves and the roots of blocks.
    """
    aligned = tuple([address % QUAD_BYTES == 0 for address in addresses])
    layout = _layout(tuple(lengths), aligned, LARGE_WINDOWS * machine.multiprocessors)
    memory = machine.allocate(layout.whole if leaves else layout.size)
    rows = len(addresses) if len(addresses) > 1 else 0  # one region needs no table
    if rows:
        starts = [addresses[number] for number in layout.order]
        tables = [
            _table(
                starts[each.regions],
                layout.lengths[each.regions],
                [first - each.first_window for first in layout.firsts[each.regions]],
            )
            for each in layout.leaves
        ]
        machine.upload(memory, b"".join([*tables, layout.tables]))
    for some in layout.leaves:
        if rows:
            region = (memory + some.table, len(starts[some.regions]), 0)
        else:
            region = (addresses[0], 0, lengths[0])
        out = (memory + some.hashes, memory + some.residues)
        machine.launch(some.kernel, some.groups, some.threads, *region, some.windows, *out)
    if not layout.trees:
        roots = machine.download(memory + layout.hashes, (_HASH + 1) * len(addresses))
        kept = roots if leaves else None
        return Hashes(layout.order, layout.windows, kept, kept, roots)
    return _with_trees(machine, layout, memory, rows, leaves)


def _with_trees(
    machine: Machine[R], layout: _Layout, memory: int, rows: int, leaves: bool
) -> Hashes[R]:
    """Launch what is above the leaves."""
    first, last = layout.trees[0], layout.trees[-1]
    sizes = [(_HASH + 1) * count for count in (first.elements, first.parts, len(layout.order))]
    blocks_at, leaves_at = memory + layout.blocks_copy, memory + layout.leaves_copy
    if leaves:
        machine.copy(leaves_at, memory + first.hashes, sizes[0])
    for each in layout.trees:
        region = (memory + each.table, rows, 0) if rows else (0, 0, each.elements)
        ends = (memory + each.hashes, memory + each.residues)
        out = (memory + each.roots, memory + each.sums)
        machine.launch("trees", each.parts, TREE_THREADS, *region, *ends, *out)
        if leaves and each is first and each is not last:
            machine.copy(blocks_at, memory + each.roots, sizes[1])
    roots = machine.download(memory + last.roots, sizes[2])
    if not leaves:
        return Hashes(layout.order, layout.windows, None, None, roots)
    blocks = roots if first is last else machine.download(blocks_at, sizes[1])
    found = machine.download(leaves_at, sizes[0])
    return Hashes(layout.order, layout.windows, found, blocks, roots)


def sum_regions(
    machine: Machine[R], addresses: Sequence[int], lengths: Sequence[int], *, windows: bool
) -> R:
    """Launch what sums up each region; return one residue a region, or one a window.

    Args:
        machine: where the regions lie.
        addresses, lengths: of the regions; each has a byte or more.
        windows: return the residues of all windows instead.
    """
    # The residue of a region is the residue of the residues of its windows, which are bytes: the
    # same kernel again, until each region has one.
    passes = [_parts(lengths, WINDOW_BYTES)]
    while not windows and max(passes[-1]) > 1:
        passes.append(_parts(passes[-1], WINDOW_BYTES))
    counts = [sum(parts) for parts in passes]
    many = len(addresses) > 1
    table_bytes = ROW_BYTES * len(addresses) if many else 0
    sizes = [table_bytes * len(passes), *counts]
    offsets, size = _firsts([_rounded(part) for part in sizes])
    memory = machine.allocate(size)
    tables, launches = [], []
    starts, elements = list(addresses), list(lengths)
    for number, (parts, offset) in enumerate(zip(passes, offsets[1:], strict=True)):
        firsts, count = _firsts(parts)
        out = memory + offset
        if many:
            tables.append(_table(starts, elements, firsts))
            region = (memory + table_bytes * number, len(starts), 0)
        else:
            region = (starts[0], 0, elements[0])
        launches.append((region, count, out))
        starts, elements = [out + first for first in firsts], parts
    if many:
        machine.upload(memory, b"".join(tables))
    for region, count, out in launches:
        groups = -(-count * TEAM_THREADS // RESIDUE_THREADS)
        machine.launch("residues", groups, RESIDUE_THREADS, *region, count, out)
    return machine.download(out, count)
