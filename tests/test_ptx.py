# SPDX-License-Identifier: Apache-2.0
"""The PTX of the kernels for GPUs in the simulator: results, bounds, alignment and order."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from atlas12288 import TreeWitness, residue, window_residues
from atlas12288._gpu import plan
from kernelgen import grid
from support.grids import SimulatedMachine, ptx_of
from support.ptx import PtxError
from support.slow import slow_but
from support.strategies import noise

WINDOW = 12288
# A region: its length, and how far it begins behind a multiple of 16.
Placement = tuple[int, int]
# One of each class of lengths: bytes, blocks, padding with and without a block of its own, windows.
SAMPLE: tuple[Sequence[Placement], ...] = (
    [(1, 0)],
    [(54, 0), (55, 0), (63, 0), (64, 0), (119, 0)],
    [(WINDOW - 1, 0), (WINDOW, 0), (WINDOW + 1, 0)],
    [(3 * WINDOW + 77, 0)],
    [(5, 1), (64, 3), (129, 2), (WINDOW + 3, 9)],
    [(200, 4), (1, 0), (2 * WINDOW, 0), (16, 0), (3, 15)],
    [(257 * WINDOW, 0)],
)
# Faster ones that see each mistake below; most are seen by the first, which has no whole window.
SEEN: tuple[Sequence[Placement], ...] = (
    [(1, 0), (700, 0), (63, 0), (64, 0), (700, 3), (64, 2)],
    [(1, 0), (5000, 0), (63, 0), (3 * WINDOW + 119, 0), (64, 0)],
    [(700, 3), (64, 2), (WINDOW + 9, 1)],
    [(7 * WINDOW, 0)],
)


def check(machine: SimulatedMachine, regions: Sequence[Placement]) -> None:
    data = [noise(length, seed) for seed, (length, _) in enumerate(regions)]
    addresses = [
        machine.region(each, shift) for each, (_, shift) in zip(data, regions, strict=True)
    ]
    lengths = [length for length, _ in regions]
    expected = [TreeWitness.generate(each) for each in data]
    found = plan.hash_regions(machine, addresses, lengths, leaves=True)
    ordered = [expected[number] for number in found.order]
    for place, (each, number) in enumerate(zip(ordered, found.order, strict=True)):
        assert found.roots[32 * place : 32 * place + 32] == each.root, regions[number]
    assert found.leaves is not None
    assert found.blocks is not None
    assert list(found.roots[32 * len(data) :]) == [each.residue for each in ordered]
    leaves = b"".join(each.leaves or b"" for each in ordered)
    assert found.leaves[: len(leaves)] == leaves
    windows = b"".join(window_residues(data[number]) for number in found.order)
    assert found.leaves[len(leaves) :] == windows
    each = plan.sum_regions(machine, addresses, lengths, windows=True)
    assert each == b"".join(map(window_residues, data))
    assert list(plan.sum_regions(machine, addresses, lengths, windows=False)) == [
        residue(part) for part in data
    ]


@pytest.fixture(scope="module")
def machine() -> SimulatedMachine:
    return SimulatedMachine()


@pytest.mark.parametrize("number", slow_but([0, 1, 3, 5, 6], range(len(SAMPLE))))
def test_the_ptx_gives_the_witnesses_of_the_cpu(machine: SimulatedMachine, number: int) -> None:
    machine.seed = None
    check(machine, SAMPLE[number])


def test_large_grids_take_the_form_with_multiply_adds() -> None:
    machine = SimulatedMachine(multiprocessors=0)
    check(machine, [(2 * WINDOW + 130, 0), (64, 0)])
    assert machine.launched[0] == "leaves"


def test_no_order_of_groups_warps_and_threads_changes_a_result(machine: SimulatedMachine) -> None:
    machine.seed = 7
    check(machine, [(33 * 64, 0), (WINDOW, 0), (700, 3)])


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0, 4, 1, 2, 3, 15])
@pytest.mark.parametrize("lengths", [range(1, 140), range(183, 200), range(440, 520)], ids=str)
def test_every_length_around_blocks_and_padding(
    machine: SimulatedMachine, lengths: range, shift: int
) -> None:
    machine.seed = None
    check(machine, [(length, shift) for length in lengths])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 31, 32, 33, 127, 128, 129, 255, 256, 512, 513])
def test_every_number_of_windows_around_warps_groups_and_parts(
    machine: SimulatedMachine, count: int
) -> None:
    machine.seed = None
    check(machine, [(count * WINDOW - 1, 0)])
    check(machine, [(100 + k, 0) for k in range(count)])


KINDS = (*SAMPLE[:-1], *SEEN)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_random_orders_of_all_kinds_of_regions(machine: SimulatedMachine, seed: int) -> None:
    """All in one launch, which takes little longer than the longest alone; and one kind alone."""
    machine.seed = seed
    check(machine, [placement for regions in KINDS for placement in regions])
    check(machine, KINDS[seed])


# --- mistakes ---

# Which kernel, what is there, what is put in its place, and which one of several it is (from 0 on).
MISTAKES = {
    "the grid has a thread too many": ("leaves_small", r"setp\.ge\.u64", "setp.gt.u64", 0),
    "windows begin a block late": ("leaves_small", r"(mul\.lo\.s64 .*) 12288;", r"\1 12352;", 0),
    "the last window is whole": (
        *("leaves_small", r"min\.s64 (\S+) %\w+, 12288;", r"mov.b64 \1 12288;", 0),
    ),
    "windows end a byte early": ("leaves_small", r"(min\.s64 .*) 12288;", r"\1 12287;", 0),
    "a quad is loaded twice": ("leaves_small", r"(ld\.global\.nc\.v4\.b32 .*)\+16\];", r"\1];", 0),
    "a quad is loaded from the next block": (
        *("leaves_small", r"(ld\.global\.nc\.v4\.b32 .*)\+48\];", r"\1+64];", 0),
    ),
    "a word is in the order of memory": ("leaves_small", "0x3456U", "0x6543U", 20),
    "the byte before is not shifted in": ("leaves_small", "0x3456U", "0x4567U", 0),
    "the padding's bit is one lower": ("leaves_small", r"(selp\.b32 \S+) 128,", r"\1 64,", 0),
    "a ragged block has no padding": ("leaves_small", r"(selp\.b32 \S+) 128,", r"\1 0,", 1),
    "a byte of each word is not summed": ("leaves_small", "16843009", "16843008", 0),
    "a residue is mod 97": ("leaves_small", r"(mul\.lo\.s32 .*) 96;", r"\1 97;", 0),
    "a constant of the rounds is another": (
        *("leaves_small", r"(add\.s32 \S+ \S+) -?\d{9,};", r"\1 1;", 40),
    ),
    "a rotation is one less": ("leaves_small", r"(shf\.l\.wrap\.b32 .*) 26;", r"\1 25;", 9),
    "a word at an odd address is shifted the other way": (
        *("leaves_any", r"prmt\.b32\.f4e", "prmt.b32.b4e", 3),
    ),
    "a word is read behind the block": (
        *("leaves_any", r"(ld\.global\.b32 \S+ \[%\w+)\+60\];", r"\1+68];", 0),
    ),
    "additions are of another number": ("leaves", r"%nctaid\.y", "%tid.x", 0),
    "nobody waits between two levels": ("trees", r"bar\.sync 0;", "", 0),
    "a level has a pair too many": ("trees", r"setp\.lt\.s64 %p6,", r"setp.le.s64 %p6,", 0),
    "an odd last hash is hashed with the next": (
        *("trees", r"add\.s64 (\S+) (\S+) -1;", r"add.s64 \1 \2 0;", 2),
    ),
    "a level is left out": ("trees", r"(sub\.s64 \S+) 63,", r"\1 62,", 1),
    "the node has the prefix of a leaf": ("trees", r"(prmt\.b32 \S+) 16777216,", r"\1 0,", 0),
    "the root goes to the next part": (
        *(
            "trees",
            r"(st\.global\.v4\.b32 \[%\w+)\](, .*\s+st.global.v4\S+ \S+ .*\s+ld)",
            r"\1+32]\2",
            0,
        ),
    ),
    "the lanes of a warp read the same": ("residues", r"(mul\.wide\.u32 .*) 16;", r"\1 0;", 0),
    "lanes are not added up": (
        *("residues", r"redux\.sync\.add\.s32 (\S+) (%\w+), %\w+;", r"mov.b32 \1 \2;", 0),
    ),
    "no lane stores the residue": ("residues", r"(setp\.ne\.b64 \S+ %rd6,) 0;", r"\1 32;", 0),
    "bytes before the first quad are left out": ("residues", r"(and\.b64 .*) 15;", r"\1 7;", 0),
    "a lane loads a quad behind the end": ("residues", r"(add\.s64 .*) -16;", r"\1 0;", 0),
}


def mistaken(kernel: str, there: str, instead: str, which: int) -> str:
    """Return the PTX of a kernel with one place replaced."""
    text = ptx_of(kernel)
    places = list(re.finditer(there.replace(" ", r"\s+"), text))
    assert len(places) > which, f"{kernel} has {len(places)} places {there}"
    place = places[which]
    changed = text[: place.start()] + place.expand(instead) + text[place.end() :]
    assert changed != text
    return changed


def check_all(machine: SimulatedMachine) -> None:
    for regions in SEEN:
        check(machine, regions)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_ptx_is_seen(mistake: str) -> None:
    kernel, there, instead, which = MISTAKES[mistake]
    large = 0 if kernel == "leaves" else 1
    machine = SimulatedMachine(large, {kernel: mistaken(kernel, there, instead, which)})
    with pytest.raises((PtxError, AssertionError, MemoryError)):
        check_all(machine)


@pytest.mark.slow
def test_what_sees_the_mistakes_finds_none_in_the_kernels() -> None:
    for multiprocessors in (0, 1):
        check_all(SimulatedMachine(multiprocessors))


class Launched(NamedTuple):
    """What `plan.Machine.launch` takes."""

    kernel: str
    groups: int
    threads: int
    arguments: tuple[int, ...]


class Mistaken(SimulatedMachine):
    """Launches of one kernel, changed by a function."""

    def __init__(self, kernel: str, change: Callable[["Mistaken", Launched], object]) -> None:
        super().__init__()
        self._kernel, self._change = kernel, change

    def launch(self, kernel: str, groups: int, threads: int, *arguments: int) -> None:
        if kernel == self._kernel:
            self._change(self, Launched(kernel, groups, threads, arguments))
        else:
            self.run(Launched(kernel, groups, threads, arguments))

    def run(self, launch: Launched, **changes: object) -> None:
        changed = launch._replace(**changes)
        super().launch(changed.kernel, changed.groups, changed.threads, *changed.arguments)

    def argument(self, launch: Launched, name: str, by: int) -> None:
        """Run a launch with a number added to an argument."""
        place = grid.find(launch.kernel).parameters.index(name)
        values = list(launch.arguments)
        values[place] += by
        self.run(launch, arguments=tuple(values))

    def exchanged(self, launch: Launched, one: str, two: str) -> None:
        names = list(grid.find(launch.kernel).parameters)
        values = list(launch.arguments)
        i, j = names.index(one), names.index(two)
        values[i], values[j] = values[j], values[i]
        self.run(launch, arguments=tuple(values))


MISTAKEN_LAUNCHES: dict[str, tuple[str, Callable[[Mistaken, Launched], object]]] = {
    "a group too few": ("leaves_small", lambda m, x: m.run(x, groups=x.groups - 1)),
    "half of the threads": ("leaves_small", lambda m, x: m.run(x, threads=x.threads // 64)),
    "a window too few": ("leaves_small", lambda m, x: m.argument(x, "windows", -1)),
    "a window too many": ("leaves_small", lambda m, x: m.argument(x, "windows", 1)),
    "hashes of the next window": ("leaves_small", lambda m, x: m.argument(x, "hashes", 32)),
    "residues of the next window": ("leaves_small", lambda m, x: m.argument(x, "residues", 1)),
    "a row too few": ("leaves_small", lambda m, x: m.argument(x, "rows", -1)),
    "the kernel for aligned regions": (
        *("leaves_any", lambda m, x: m.run(x, kernel="leaves_small")),
    ),
    "a group of a tree too many": ("trees", lambda m, x: m.run(x, groups=x.groups + 1)),
    "half of the threads of a tree": ("trees", lambda m, x: m.run(x, threads=2)),
    "roots over the hashes": ("trees", lambda m, x: m.exchanged(x, "hashes", "roots")),
    "a tree twice": ("trees", lambda m, x: [m.run(x), m.run(x)]),
    "no tree": ("trees", lambda m, x: None),
    "a warp too few": ("residues", lambda m, x: m.run(x, threads=x.threads // 8, groups=1)),
    "the table of another launch": ("residues", lambda m, x: m.argument(x, "table", -24)),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKEN_LAUNCHES)
def test_a_mistake_in_a_launch_is_seen(mistake: str) -> None:
    with pytest.raises((PtxError, AssertionError, MemoryError)):
        check_all(Mistaken(*MISTAKEN_LAUNCHES[mistake]))
