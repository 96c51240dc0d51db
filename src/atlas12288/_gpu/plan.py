# SPDX-License-Identifier: Apache-2.0
"""What is launched for the leaves, trees and residues of many regions at once.

kernelgen/grid.py describes the kernels, and what a row of a table and a part of a region are. Who
runs them is a `Machine`, so that a plan is the same for a GPU, its simulator and a CPU.
"""

from __future__ import annotations

from array import array
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

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes at a multiple of 256, until the results are there."""

    def upload(self, address: int, data: bytes) -> None: ...

    def launch(self, kernel: str, groups: int, threads: int, *arguments: int) -> None: ...

    def download(self, address: int, size: int, *, last: bool = False) -> R:
        """Return what will have the bytes as they are at this point of the order.

        last: nothing that is launched later writes over them.
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


class _Tables:
    """The tables of a plan, which lie at the start of its memory. One region needs none."""

    def __init__(self, regions: int, tables: int) -> None:
        self._regions = regions
        self._parts: list[bytes] = []
        self.size = 0 if regions == 1 else ROW_BYTES * regions * tables

    def add(
        self, memory: int, starts: Sequence[int], lengths: Sequence[int], firsts: Sequence[int]
    ) -> tuple[int, int, int]:
        """Add a table; return the arguments for it of a kernel."""
        if self._regions == 1:
            return (starts[0], 0, lengths[0]) if starts else (0, 0, 0)
        rows = array("Q", bytes(ROW_BYTES * len(starts)))
        for field, values in enumerate((starts, lengths, firsts)):
            rows[field::3] = array("Q", values)
        offset = sum(map(len, self._parts))
        self._parts.append(rows.tobytes())
        return memory + offset, len(starts), 0

    def upload(self, machine: Machine[R], memory: int) -> None:
        if self._parts:
            machine.upload(memory, b"".join(self._parts))


def _parts(lengths: Sequence[int], size: int) -> list[int]:
    return [-(-length // size) for length in lengths]


def _firsts(counts: Sequence[int]) -> tuple[list[int], int]:
    """Return the sum of the counts before each, and the sum of all."""
    firsts = list(accumulate(counts, initial=0))
    return firsts[:-1], firsts[-1]


def _rounded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _passes(windows: Sequence[int]) -> list[list[int]]:
    """Return the number of parts of each region in each pass over the trees; at the end it is 1."""
    passes = [_parts(windows, TREE_HASHES)]
    while max(passes[-1]) > 1:
        passes.append(_parts(passes[-1], TREE_HASHES))
    return passes


def hash_regions(
    machine: Machine[R], addresses: Sequence[int], lengths: Sequence[int], *, leaves: bool
) -> Hashes[R]:
    """Launch what makes the root and the residue of each region.

    Args:
        machine: where the regions lie.
        addresses, lengths: of the regions; each has a byte or more.
        leaves: also return the leaves and the roots of blocks.
    """
    # Those at multiples of 16 first, because another kernel takes the others.
    order = [n for n, address in enumerate(addresses) if address % QUAD_BYTES == 0]
    aligned = len(order)
    if aligned < len(addresses):
        order += [n for n, address in enumerate(addresses) if address % QUAD_BYTES != 0]
    starts, sizes = [addresses[n] for n in order], [lengths[n] for n in order]
    windows = _parts(sizes, WINDOW_BYTES)
    firsts, total = _firsts(windows)
    split = firsts[aligned] if aligned < len(firsts) else total  # the first window of the others
    passes = _passes(windows)
    counts = [sum(parts) for parts in passes]

    tables = _Tables(len(order), 1 + len(passes))
    sizes_of_all = [tables.size, *((_HASH + 1) * count for count in (total, *counts))]
    offsets, size = _firsts([_rounded(part) for part in sizes_of_all])
    memory = machine.allocate(size)
    hashes = memory + offsets[1]
    residues = hashes + _HASH * total
    aligned_table = tables.add(memory, starts[:aligned], sizes[:aligned], firsts[:aligned])
    others = [first - split for first in firsts[aligned:]]
    other_table = tables.add(memory, starts[aligned:], sizes[aligned:], others)
    pass_tables = []
    elements, begin = windows, firsts
    for parts in passes:
        part_firsts, _ = _firsts(parts)
        pass_tables.append(tables.add(memory, begin, elements, part_firsts))
        elements, begin = parts, part_firsts
    tables.upload(machine, memory)

    for kernel, threads, table, first, count in (
        (*_leaf_kernel(machine, split), aligned_table, 0, split),
        ("leaves_any", HASH_THREADS, other_table, split, total - split),
    ):
        if count:
            out = (hashes + _HASH * first, residues + first)
            machine.launch(kernel, -(-count // threads), threads, *table, count, *out)
    found_leaves = machine.download(hashes, (_HASH + 1) * total) if leaves else None

    blocks = None
    for table, count, offset in zip(pass_tables, counts, offsets[2:], strict=True):
        roots = memory + offset
        out = (roots, roots + _HASH * count)
        machine.launch("trees", count, TREE_THREADS, *table, hashes, residues, *out)
        if leaves and blocks is None:
            blocks = machine.download(roots, (_HASH + 1) * count)
        hashes, residues = out
    found = machine.download(hashes, (_HASH + 1) * len(order), last=True)
    return Hashes(order, windows, found_leaves, blocks, found)


def _leaf_kernel(machine: Machine[R], windows: int) -> tuple[str, int]:
    if windows < LARGE_WINDOWS * machine.multiprocessors:
        return "leaves_small", HASH_THREADS
    return "leaves", LARGE_THREADS


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
    tables = _Tables(len(addresses), len(passes))
    offsets, size = _firsts([_rounded(part) for part in (tables.size, *counts)])
    memory = machine.allocate(size)
    starts, sizes = list(addresses), list(lengths)
    launches = []
    for parts, count, offset in zip(passes, counts, offsets[1:], strict=True):
        firsts, _ = _firsts(parts)
        out = memory + offset
        launches.append((tables.add(memory, starts, sizes, firsts), count, out))
        starts, sizes = [out + first for first in firsts], parts
    tables.upload(machine, memory)
    for table, count, out in launches:
        groups = -(-count * TEAM_THREADS // RESIDUE_THREADS)
        machine.launch("residues", groups, RESIDUE_THREADS, *table, count, out)
    return machine.download(out, count, last=True)
