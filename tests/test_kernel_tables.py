# SPDX-License-Identifier: Apache-2.0
"""The kernels that no public function reaches at every length: each pointer of each kernel set's
table, called as the runtime calls it; with the optimisation of the build, and with none."""

import ctypes
import hashlib
import platform
import struct
import subprocess
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from llvmlite import binding, ir

import atlas12288 as atlas
from kernelgen import build, emit, kernels, lower_pipelined, sha256, targets
from support import model, strategies
from support.guarded import ALIGNMENTS, Guarded, address_of, region_at, repeated, run_in_child

FAMILY = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
SYSTEM = platform.system().lower()
SETS = targets.for_family(FAMILY)
RUNNABLE = [s for s in SETS if atlas.kernel_set_supported(s.name)]
# A set with a base has no byte kernels of its own.
OWN_BYTES = [s for s in RUNNABLE if s.base is None]

LENGTHS = tuple(sorted({*range(301), *model.SHORT_BITING_LENGTHS}))
PAIR_LENGTHS = (0, 1, 3, 7, 8, 15, 17, 33, 64, 65, 129, 300)
CANARY = 0xA5

_CTYPES = {
    "void": None,
    "uint8_t": ctypes.c_uint8,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
}


def c_type(name: str) -> Any:
    return ctypes.c_void_p if name.endswith("*") else _CTYPES[name]


class Table(ctypes.Structure):
    """atlas_kernels_t, from the generator's own list."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        *(
            (k.name, ctypes.CFUNCTYPE(c_type(k.result), *(c_type(c) for c, _ in k.parameters)))
            for k in kernels.KERNELS
        ),
        ("lanes", ctypes.c_uint64),
    ]


def unoptimised_object(kernel_set: targets.KernelSet) -> bytes:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(targets.triple(FAMILY, SYSTEM)).create_target_machine(
        cpu=kernel_set.cpu, features=kernel_set.features, opt=0, reloc="pic"
    )
    module = build.kernel_set_module(kernel_set)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    data: bytes = machine.emit_object(binding.parse_assembly(str(module)))
    return data


GLUE = """\
#include "atlas_kernels.h"
#define ROW(table, needs, suits) &table,
const atlas_kernels_t *const tables[] = {ATLAS_KERNEL_SETS(ROW)};
"""


def link_tables(folder: Path, make: Callable[[targets.KernelSet], bytes]) -> dict[str, Table]:
    """The table of every kernel set of this CPU family, by name."""
    (folder / "atlas_kernels.h").write_text(emit.header(FAMILY))
    (folder / "glue.c").write_text(GLUE)
    for kernel_set in SETS:
        (folder / f"{kernel_set.identifier}.o").write_bytes(make(kernel_set))
    objects = sorted(path.name for path in folder.glob("*.o"))
    command = ["cc", "-shared", "-fPIC", "-o", "tables.so", "glue.c", *objects]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "tables.so"))
    pointers = (ctypes.POINTER(Table) * len(SETS)).in_dll(library, "tables")
    return {pointer.contents.name.decode(): pointer.contents for pointer in pointers}


@pytest.fixture(scope="session", params=["O3", pytest.param("O0", marks=pytest.mark.slow)])
def tables(
    request: pytest.FixtureRequest,
    kernel_object: Callable[[targets.KernelSet], bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Table]:
    make = kernel_object if request.param == "O3" else unoptimised_object
    return link_tables(tmp_path_factory.mktemp("tables"), make)


@pytest.fixture(params=OWN_BYTES, ids=lambda s: s.name)
def table(request: pytest.FixtureRequest, tables: dict[str, Table]) -> Table:
    """Each table that has byte kernels of its own and that the CPU can run."""
    return tables[request.param.name]


@pytest.fixture(scope="module")
def noise() -> memoryview:
    data = strategies.noise(max(LENGTHS) + len(ALIGNMENTS))
    region = region_at(0, len(data))
    region[:] = data
    return region


@pytest.fixture(scope="module")
def sums(noise: memoryview) -> model.Sums:
    return model.Sums(bytes(noise))


@pytest.fixture(scope="module")
def guarded_pair() -> tuple[Guarded, Guarded]:
    return Guarded(max(LENGTHS)), Guarded(max(LENGTHS))


def test_the_library_holds_the_sets_of_the_generator_best_first() -> None:
    assert atlas.kernel_sets() == tuple(s.name for s in SETS)


def test_a_table_has_its_set_s_name_and_shares_its_base_s_kernels(tables: dict[str, Table]) -> None:
    assert list(tables) == [s.name for s in SETS]
    for kernel_set in SETS:
        if kernel_set.base is not None:
            own, base = tables[kernel_set.name], tables[kernel_set.base]
            for name in targets.BYTE_KERNELS:
                ours, theirs = (
                    ctypes.cast(getattr(t, name), ctypes.c_void_p).value for t in (own, base)
                )
                assert ours == theirs, name


# --- sum, delta ----------------------------------------------------------------------------------


def test_sum_is_exact_at_every_alignment_and_length(
    table: Table, noise: memoryview, sums: model.Sums
) -> None:
    base, add = address_of(noise), table.sum
    for a in ALIGNMENTS:
        for n in LENGTHS:
            assert add(base + a, n) == sums.total(a, a + n), (a, n)


def test_sum_of_0xff_is_exact_beyond_2_to_the_32_and_not_reduced(table: Table) -> None:
    one = -(-(1 << 32) // 255)  # bytes that fill 32 bits
    length = 16 * one + 1
    with repeated(b"\xff" * (4 << 20), length) as region:
        base = address_of(region)
        for n in (one, one + 1, length):
            assert table.sum(base, n) == 255 * n, n


def test_delta_at_every_alignment_and_length(
    table: Table, noise: memoryview, sums: model.Sums
) -> None:
    base, delta = address_of(noise), table.delta
    for a in ALIGNMENTS:
        b = 63 - a
        for n in LENGTHS:
            expected = (sums.total(b, b + n) - sums.total(a, a + n)) % 96
            assert delta(base + a, base + b, n) == expected, (a, b, n)


# --- copy, fill: ordinary and streaming ----------------------------------------------------------


@pytest.mark.parametrize("kernel", ["copy", "copy_stream"])
def test_copy_at_every_pair_of_alignments_writes_the_region_and_nothing_beside_it(
    table: Table, noise: memoryview, kernel: str
) -> None:
    copy = getattr(table, kernel)
    around = 64
    clean = bytes([CANARY]) * (max(PAIR_LENGTHS) + 3 * around)
    target = region_at(0, len(clean))
    source, start = address_of(noise), address_of(target)
    for a in ALIGNMENTS:
        for b in ALIGNMENTS:
            first = around + b
            for n in PAIR_LENGTHS:
                target[:] = clean
                copy(start + first, source + a, n)
                expected = clean[:first] + noise[a : a + n].tobytes() + clean[first + n :]
                assert target == expected, (a, b, n)


@pytest.mark.parametrize("kernel", ["copy", "copy_stream"])
def test_copy_at_every_length_writes_the_region_and_nothing_beside_it(
    table: Table, noise: memoryview, kernel: str
) -> None:
    copy = getattr(table, kernel)
    around = 64
    clean = bytes([CANARY]) * (max(LENGTHS) + 3 * around)
    target = region_at(0, len(clean))
    source, start = address_of(noise), address_of(target)
    for a, b in ((0, 0), (0, 1), (1, 0), (31, 33), (63, 63)):
        first = around + b
        for n in LENGTHS:
            target[:] = clean
            copy(start + first, source + a, n)
            assert target[first : first + n] == noise[a : a + n], (a, b, n)
            assert target[:first] == clean[:first], (a, b, n)
            assert target[first + n :] == clean[first + n :], (a, b, n)


@pytest.mark.parametrize("kernel", ["fill", "fill_stream"])
def test_fill_at_every_alignment_and_length_writes_the_region_and_nothing_beside_it(
    table: Table, kernel: str
) -> None:
    fill = getattr(table, kernel)
    around = 64
    clean = bytes([CANARY]) * (300 + 3 * around)
    target = region_at(0, len(clean))
    start = address_of(target)
    for a in ALIGNMENTS:
        first = around + a
        for n in range(301):
            target[:] = clean
            fill(start + first, n % 256, n)
            expected = clean[:first] + bytes([n % 256]) * n + clean[first + n :]
            assert target == expected, (a, n)


# --- equal ---------------------------------------------------------------------------------------


def test_equal_holds_for_equal_regions_at_every_alignment_and_length(
    table: Table, noise: memoryview
) -> None:
    equal = table.equal
    for a in ALIGNMENTS:
        other = region_at(63 - a, max(LENGTHS))
        other[:] = noise[a : a + max(LENGTHS)]
        # The byte behind differs, so that one that is read too far shows.
        left, right = address_of(noise) + a, address_of(other)
        for n in LENGTHS:
            other[n : n + 1] = bytes([other[n] ^ 1]) if n < len(other) else b""
            assert equal(left, right, n) == 1, (a, n)
            other[n : n + 1] = noise[a + n : a + n + 1] if n < len(other) else b""


def test_equal_finds_every_single_bit_at_every_place(table: Table, noise: memoryview) -> None:
    equal = table.equal
    for n in (1, 7, 8, 9, 31, 32, 33, 100):
        other = region_at(5, n)
        other[:] = noise[:n]
        left, right = address_of(noise), address_of(other)
        for bit in range(8 * n):
            other[bit // 8] ^= 1 << bit % 8
            assert equal(left, right, n) == 0, (n, bit)
            other[bit // 8] ^= 1 << bit % 8
        assert equal(left, right, n) == 1, n


def test_equal_finds_two_equal_changes_which_must_not_cancel_out(
    table: Table, noise: memoryview
) -> None:
    equal = table.equal
    other = region_at(0, 41)
    other[:] = noise[:41]
    left, right = address_of(noise), address_of(other)
    for i in range(41):
        for j in range(i):
            for change in 0x01, 0x80:
                other[i] ^= change
                other[j] ^= change
                assert equal(left, right, 41) == 0, (i, j, change)
                other[i] ^= change
                other[j] ^= change


# --- SHA-256 compression -------------------------------------------------------------------------


def padded(data: bytes) -> bytes:
    """FIPS 180-4, 5.1.1."""
    zeros = -(len(data) + 9) % 64
    return data + b"\x80" + bytes(zeros) + struct.pack(">Q", 8 * len(data))


def initial_state() -> Any:
    return (ctypes.c_uint32 * 8)(*sha256.INITIAL)


def compress_lanes(
    table: Table, addresses: list[int], blocks: int, splits: Sequence[int] = ()
) -> tuple[list[bytes], list[int] | None]:
    """Compress one padded message of `blocks` blocks at each address, in calls split there.

    Returns the digests; and the sums of the bytes, or None where the kernel leaves them to others.
    """
    used, lanes = len(addresses), table.lanes
    # state[8][lanes]: word by word, all lanes of each
    state = (ctypes.c_uint32 * (8 * lanes))(*(w for w in sha256.INITIAL for _ in range(lanes)))
    sums = (ctypes.c_uint64 * lanes)(*range(lanes))
    summed = set()
    for start, stop in pairwise((0, *splits, blocks)):
        slots = [address + 64 * start for address in addresses]
        slots += slots[-1:] * (lanes - used)  # to spare
        pointers = (ctypes.c_void_p * lanes)(*slots)
        summed.add(table.sha256_lanes(state, sums, pointers, stop - start, used))
        assert summed <= {0, 1}
    digests = [struct.pack(">8I", *state[lane::lanes]) for lane in range(used)]
    total = [sums[lane] - lane for lane in range(used)]
    if summed == {1}:
        return digests, total
    if summed == {0}:
        assert total == [0] * used
    return digests, None


@pytest.mark.parametrize("kernel_set", RUNNABLE, ids=lambda s: s.name)
def test_compression_of_any_number_of_blocks_in_any_split_at_every_alignment(
    tables: dict[str, Table], kernel_set: targets.KernelSet
) -> None:
    compress = tables[kernel_set.name].sha256
    for a in ALIGNMENTS:
        for blocks in range(1, 10):
            data = strategies.noise(64 * blocks - 9, seed=a)
            message = region_at(a, 64 * blocks)
            message[:] = padded(data)
            start = address_of(message)
            cut = a % (blocks + 1)
            state = initial_state()
            compress(state, start, cut)
            compress(state, start + 64 * cut, blocks - cut)
            assert struct.pack(">8I", *state) == hashlib.sha256(data).digest(), (a, blocks)


@pytest.mark.parametrize("kernel_set", RUNNABLE, ids=lambda s: s.name)
def test_compression_of_no_block_leaves_the_state(
    tables: dict[str, Table], kernel_set: targets.KernelSet
) -> None:
    state = initial_state()
    tables[kernel_set.name].sha256(state, None, 0)
    assert list(state) == sha256.INITIAL


@pytest.mark.parametrize("kernel_set", RUNNABLE, ids=lambda s: s.name)
def test_compression_of_many_lanes_is_that_of_each_at_every_alignment(
    tables: dict[str, Table], kernel_set: targets.KernelSet
) -> None:
    table = tables[kernel_set.name]
    for a in ALIGNMENTS:
        used = table.lanes - a % table.lanes
        for blocks in (1, 2, 5):
            messages = [strategies.noise(64 * blocks - 9, seed=i) for i in range(used)]
            regions = [region_at((a + 13 * i) % 64, 64 * blocks) for i in range(used)]
            for message, region in zip(messages, regions, strict=True):
                region[:] = padded(message)
            addresses = [address_of(region) for region in regions]
            digests, sums = compress_lanes(table, addresses, blocks)
            assert digests == [hashlib.sha256(m).digest() for m in messages], (a, blocks)
            assert sums is None or sums == [sum(region) for region in regions], (a, blocks)


@pytest.mark.parametrize("kernel_set", RUNNABLE, ids=lambda s: s.name)
def test_compression_of_any_number_of_lanes_in_any_split(
    tables: dict[str, Table], kernel_set: targets.KernelSet
) -> None:
    table = tables[kernel_set.name]
    for used in range(1, table.lanes + 1):
        for blocks in range(10):
            length = max(64 * blocks - 9, 0)
            messages = [strategies.noise(length, seed=i + 97 * used) for i in range(used)]
            regions = [region_at(7 * i % 64, 64 * blocks or 1) for i in range(used)]
            for message, region in zip(messages, regions, strict=True):
                region[:] = padded(message)[: len(region)]
            addresses = [address_of(region) for region in regions]
            for splits in ((), (used % (blocks + 1),), tuple(range(1, blocks))):
                digests, sums = compress_lanes(table, addresses, blocks, splits)
                case = (used, blocks, splits)
                if blocks > 0:
                    assert digests == [hashlib.sha256(m).digest() for m in messages], case
                else:
                    assert digests == [struct.pack(">8I", *sha256.INITIAL)] * used, case
                assert sums is None or sums == [sum(region) for region in regions], case


PIPELINED = "x86-64-v4+sha+vbmi2"


def with_messages_exchanged(pairs: list[ir.Value], b: ir.IRBuilder) -> list[ir.Value]:
    """Each pair of the first message beside the second one's, and the other way round."""
    return [sha256.shuffle(b, pair, pair, (2, 3, 0, 1, 4, 5, 6, 7)) for pair in pairs]


def lanes_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    read = lower_pipelined._read

    def read_swapped(b: ir.IRBuilder, pointers: Sequence[ir.Value]) -> sha256.Steps:
        pairs = yield from read(b, pointers)
        return with_messages_exchanged(pairs, b)

    monkeypatch.setattr(lower_pipelined, "_read", read_swapped)


def sum_of_the_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    add_sums = lower_pipelined._add_sums

    def add_swapped(b: ir.IRBuilder, pairs: Sequence[ir.Value], sums: ir.Value) -> sha256.Steps:
        yield from add_sums(b, with_messages_exchanged(list(pairs), b), sums)
        return []

    monkeypatch.setattr(lower_pipelined, "_add_sums", add_swapped)


def schedule_of_the_next_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_pipelined, "_SLOTS", 1)


@pytest.mark.slow
@pytest.mark.skipif(
    PIPELINED not in [s.name for s in RUNNABLE], reason=f"this CPU has no {PIPELINED}"
)
@pytest.mark.parametrize(
    ("mistake", "digests_differ", "sums_differ"),
    [
        (lanes_swapped, True, True),
        (sum_of_the_neighbour, False, True),
        (schedule_of_the_next_job, True, False),
    ],
)
def test_a_mistake_in_the_pipeline_shows(
    mistake: Callable[[pytest.MonkeyPatch], None],
    digests_differ: bool,
    sums_differ: bool,
    kernel_object: Callable[[targets.KernelSet], bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    mistake(monkeypatch)

    def make(kernel_set: targets.KernelSet) -> bytes:
        if kernel_set.name != PIPELINED:
            return kernel_object(kernel_set)
        return emit.kernel_set_object(kernel_set, FAMILY, SYSTEM)

    faulty = link_tables(tmp_path, make)[PIPELINED]
    messages = [strategies.noise(5 * 64 - 9, seed=i) for i in range(faulty.lanes)]
    regions = [region_at(0, 5 * 64) for _ in messages]
    for message, region in zip(messages, regions, strict=True):
        region[:] = padded(message)
    digests, sums = compress_lanes(faulty, [address_of(region) for region in regions], 5)
    assert (digests != [hashlib.sha256(m).digest() for m in messages]) is digests_differ
    assert (sums != [sum(region) for region in regions]) is sums_differ


# --- guard pages ---------------------------------------------------------------------------------


def checks_of_every_kernel(
    table: Table, guarded_pair: tuple[Guarded, Guarded]
) -> Callable[[], None]:
    def check() -> None:
        left_memory, right_memory = guarded_pair
        for n in range(1, 301):
            for left in left_memory.both(n):
                for right in right_memory.both(n):
                    left[:] = strategies.noise(n)
                    right[:] = bytes(n)
                    a, b = address_of(left), address_of(right)
                    total = sum(left)
                    assert table.sum(a, n) == total, n
                    assert table.delta(b, a, n) == total % 96, n
                    for name in "copy", "copy_stream":
                        right[:] = bytes(n)
                        getattr(table, name)(b, a, n)
                        assert right == left, (name, n)
                    assert table.equal(a, b, n) == 1, n
                    for name in "fill", "fill_stream":
                        getattr(table, name)(b, 0x37, n)
                        assert right == b"\x37" * n, (name, n)

    return check


def test_no_kernel_touches_a_byte_beside_the_region(
    table: Table, guarded_pair: tuple[Guarded, Guarded]
) -> None:
    run_in_child(checks_of_every_kernel(table, guarded_pair))


@pytest.mark.parametrize("kernel_set", RUNNABLE, ids=lambda s: s.name)
def test_compression_touches_no_byte_beside_the_blocks(
    tables: dict[str, Table],
    kernel_set: targets.KernelSet,
    guarded_pair: tuple[Guarded, Guarded],
) -> None:
    table = tables[kernel_set.name]

    def check() -> None:
        for blocks in range(1, 9):
            data = strategies.noise(64 * blocks - 9)
            for view in guarded_pair[0].both(64 * blocks):
                view[:] = padded(data)
                state = initial_state()
                table.sha256(state, address_of(view), blocks)
                expected = hashlib.sha256(data).digest()
                assert struct.pack(">8I", *state) == expected, blocks
                # All lanes read the same message.
                for used in range(1, table.lanes + 1):
                    addresses = [address_of(view)] * used
                    digests, _ = compress_lanes(table, addresses, blocks)
                    assert digests == [expected] * used, (blocks, used)

    run_in_child(check)
