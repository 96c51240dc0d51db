# SPDX-License-Identifier: Apache-2.0
"""Trees and residues of many regions by the kernels for GPUs, run on the CPU; against hashlib."""

import ctypes
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas12288 import TreeWitness, _native, residue, window_residues
from atlas12288._gpu import plan
from atlas12288._subtree import FANOUT
from kernelgen import grid
from support import rfc9162
from support.grids import CpuMachine
from support.strategies import noise

WINDOW = 12288
# Around blocks and windows, and what has more than one pass over its tree.
LENGTHS = (
    *(1, 2, 3, 15, 16, 17, 53, 54, 55, 56, 62, 63, 64, 65, 118, 119, 120, 127, 128, 511, 512, 513),
    *(WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW - 64, 2 * WINDOW + 55, 5 * WINDOW + 3),
    *(FANOUT * WINDOW, FANOUT * WINDOW + 1),
)


@pytest.fixture(scope="module")
def machine() -> CpuMachine:
    return CpuMachine()


def placed(data: bytes, shift: int) -> tuple[int, object]:
    """The address of a copy of the bytes, `shift` bytes behind a multiple of 16; and its keeper."""
    memory = (ctypes.c_char * (len(data) + 32))()
    address = -(-ctypes.addressof(memory) // 16) * 16 + shift
    ctypes.memmove(address, data, len(data))
    return address, memory


def check(machine: CpuMachine, regions: list[tuple[bytes, int]]) -> None:
    """Hash and sum the regions (bytes, shift) in one launch; compare with the CPU's own way."""
    kept = [placed(data, shift) for data, shift in regions]
    addresses = [address for address, _ in kept]
    lengths = [len(data) for data, _ in regions]
    for leaves in (True, False):
        found = plan.hash_regions(machine, addresses, lengths, leaves=leaves)
        windows = sum(found.windows)
        at, block = 0, 0
        for place, number in enumerate(found.order):
            data = regions[number][0]
            expected = TreeWitness.generate(data)
            count = found.windows[place]
            assert count == expected.windows
            root = found.roots[32 * place : 32 * place + 32]
            assert root == expected.root, (number, len(data))
            assert found.roots[32 * len(regions) + place] == expected.residue
            if found.leaves is not None and found.blocks is not None:
                assert found.leaves[32 * at : 32 * (at + count)] == expected.leaves
                residues = found.leaves[32 * windows :]
                assert residues[at : at + count] == window_residues(data)
                for own in expected._tree.blocks():
                    assert found.blocks[32 * block : 32 * block + 32] == own.root
                    block += 1
            at += count
    sums = plan.sum_regions(machine, addresses, lengths, windows=False)
    assert list(sums) == [residue(data) for data, _ in regions]
    each = plan.sum_regions(machine, addresses, lengths, windows=True)
    assert each == b"".join(window_residues(data) for data, _ in regions)
    machine.forget()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_region_of_any_length_has_the_root_and_the_residues_of_the_cpu(
    machine: CpuMachine, length: int
) -> None:
    for shift in (0, 1, 2, 3, 4, 8, 15) if length < FANOUT * WINDOW else (0,):
        check(machine, [(noise(length), shift)])


def test_the_leaf_is_the_hash_of_rfc_9162(machine: CpuMachine) -> None:
    data = noise(3 * WINDOW + 100)
    address, _keeper = placed(data, 0)
    found = plan.hash_regions(machine, [address], [len(data)], leaves=True)
    windows = tuple(data[start : start + WINDOW] for start in range(0, len(data), WINDOW))
    assert found.leaves is not None
    leaves = [found.leaves[32 * k : 32 * k + 32] for k in range(4)]
    assert leaves == [hashlib.sha256(b"\0" + window).digest() for window in windows]
    assert found.roots[:32] == rfc9162.mth(windows)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(1, 300), st.sampled_from(LENGTHS[:-2])), st.integers(0, 15)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_many_regions_in_one_launch_have_each_its_own_results(
    machine: CpuMachine, shapes: list[tuple[int, int]]
) -> None:
    content = noise(sum(length for length, _ in shapes))
    regions, start = [], 0
    for length, shift in shapes:
        regions.append((content[start : start + length], shift))
        start += length
    check(machine, regions)


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 511, 513, 300 * 256 + 1])
def test_trees_of_any_number_of_hashes(machine: CpuMachine, count: int) -> None:
    """One byte a window is too slow to hash for so many: hashes and residues are made up here."""
    hashes, residues = noise(32 * count), bytes(k * 7 % 96 for k in range(count))
    begin = machine.allocate(33 * count)
    sums = begin + 32 * count
    machine.upload(begin, hashes + residues)
    elements = count
    while True:
        parts = -(-elements // plan.TREE_HASHES)
        roots = machine.allocate(33 * parts)
        own = (roots, roots + 32 * parts)
        region = (0, 0, elements)
        machine.launch("trees", parts, plan.TREE_THREADS, *region, begin, sums, *own)
        elements, (begin, sums) = parts, own
        if parts == 1:
            break
    assert machine.download(begin, 32) == _native.tree_root(hashes)
    assert machine.download(sums, 1)[0] == sum(residues) % 96


def test_large_grids_have_a_kernel_of_their_own_and_regions_at_odd_addresses_too() -> None:
    one = CpuMachine(multiprocessors=1)
    small, large = [(noise(WINDOW), 0)], [(bytes(plan.LARGE_WINDOWS * WINDOW), 0)]
    for regions, kernel in ((small, "leaves_small"), (large, "leaves")):
        one.launched.clear()
        check(one, regions)
        assert one.launched[0] == kernel
    one.launched.clear()
    check(one, [(noise(5), 4), (noise(WINDOW + 1), 0)])
    assert one.launched[:3] == ["leaves_small", "leaves_any", "trees"]


def test_where_each_region_is_one_window_no_tree_is_launched() -> None:
    one = CpuMachine(multiprocessors=1)
    check(one, [(noise(WINDOW), 0)])
    check(one, [(noise(5), 4), (noise(7), 0), (noise(WINDOW), 0)])
    assert "trees" not in one.launched


def test_the_plan_and_the_kernels_agree_on_their_numbers() -> None:
    assert tuple(kernel.name for kernel in grid.KERNELS) == plan.KERNELS
    assert (plan.TREE_HASHES, plan.TREE_THREADS) == (grid.TREE_HASHES, grid.TREE_THREADS)
    assert grid.WINDOW_BYTES == WINDOW
