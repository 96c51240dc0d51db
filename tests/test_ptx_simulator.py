# SPDX-License-Identifier: Apache-2.0
"""The simulator of PTX: each instruction against plain Python, and the mistakes that it finds."""

import random
from collections.abc import Callable, Sequence

import pytest

from support.ptx import (
    AccessError,
    BarrierError,
    GlobalMemory,
    Module,
    PtxError,
    RaceError,
    UnknownInstructionError,
)

HEAD = ".version 7.8\n.target sm_80\n.address_size 64\n"
REGISTERS = "\n".join(
    f"    .reg .{kind} %{name}<40>;"
    for kind, name in (("pred", "p"), ("b16", "rs"), ("b32", "r"), ("b64", "rd"))
)
SEEDS = (None, 1, 2, 3)


def kernel(body: str, parameters: int = 2, before: str = "") -> str:
    """Return a module with a kernel `k` whose parameters %rd0, %rd1, .. hold; %r0 is the thread's
    number in the block and %r1 that of the block."""
    names = ", ".join(f".param .u64 k_{n}" for n in range(parameters))
    loads = "\n".join(f"    ld.param.u64 %rd{n}, [k_{n}];" for n in range(parameters))
    numbers = "    mov.u32 %r0, %tid.x;\n    mov.u32 %r1, %ctaid.x;"
    return (
        f"{HEAD}{before}\n.visible .entry k({names})\n{{\n{REGISTERS}\n{loads}\n{numbers}\n{body}\n"
        "    ret;\n}\n"
    )


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


# --- instructions ---


def signed(x: int, bits: int) -> int:
    return x - (1 << bits) if x >> bits - 1 else x


def prmt(x: int, y: int, selector: int) -> int:
    both, result = x | y << 32, 0
    for k in range(4):
        pick = selector >> 4 * k & 15
        byte = both >> 8 * (pick & 7) & 255
        if pick & 8:
            byte = 255 * (byte >> 7)
        result |= byte << 8 * k
    return result


def dot(x: int, y: int, z: int, x_signed: bool, y_signed: bool) -> int:
    total = z
    for k in range(4):
        a, b = x >> 8 * k & 255, y >> 8 * k & 255
        total += (signed(a, 8) if x_signed else a) * (signed(b, 8) if y_signed else b)
    return total


def quotient(x: int, y: int) -> int:
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def extract(x: int, start: int, length: int, bits: int, is_signed: bool) -> int:
    start, length = start & 255, length & 255
    if length == 0:
        return 0
    sign = 0
    if is_signed:
        sign = x >> min(start + length - 1, bits - 1) & 1
    return sum(
        (x >> start + k & 1 if k < length and start + k < bits else sign) << k for k in range(bits)
    )


def lop3(x: int, y: int, z: int, table: int) -> int:
    return sum(
        (table >> ((x >> k & 1) << 2 | (y >> k & 1) << 1 | z >> k & 1) & 1) << k for k in range(32)
    )


def funnel(x: int, y: int, n: int, left: bool) -> int:
    both = x | y << 32
    return both << n >> 32 if left else both >> n


def bfind(x: int, bits: int, is_signed: bool) -> int:
    if is_signed and x >> bits - 1:
        x ^= (1 << bits) - 1
    return x.bit_length() - 1


Rule = Callable[..., int]
# Instruction, the sizes in bits of its result and sources, and what it computes.
INSTRUCTIONS: dict[str, tuple[int, Sequence[int], Rule]] = {
    "mov.b32 {0}, {1}": (32, [32], lambda x: x),
    "add.s32 {0}, {1}, {2}": (32, [32, 32], lambda x, y: x + y),
    "add.s64 {0}, {1}, {2}": (64, [64, 64], lambda x, y: x + y),
    "add.s32 {0}, {1}, -7": (32, [32], lambda x: x - 7),
    "sub.s16 {0}, {1}, {2}": (16, [16, 16], lambda x, y: x - y),
    "sub.s64 {0}, {1}, {2}": (64, [64, 64], lambda x, y: x - y),
    "mul.lo.s32 {0}, {1}, {2}": (32, [32, 32], lambda x, y: x * y),
    "mul.lo.s64 {0}, {1}, 12288": (64, [64], lambda x: x * 12288),
    "mul.hi.u32 {0}, {1}, {2}": (32, [32, 32], lambda x, y: x * y >> 32),
    "mul.hi.s32 {0}, {1}, {2}": (
        32, [32, 32], lambda x, y: signed(x, 32) * signed(y, 32) >> 32,
    ),
    "mul.hi.u64 {0}, {1}, {2}": (64, [64, 64], lambda x, y: x * y >> 64),
    "mul.hi.s64 {0}, {1}, {2}": (
        64, [64, 64], lambda x, y: signed(x, 64) * signed(y, 64) >> 64,
    ),
    "mul.wide.u16 {0}, {1}, {2}": (32, [16, 16], lambda x, y: x * y),
    "mul.wide.u32 {0}, {1}, {2}": (64, [32, 32], lambda x, y: x * y),
    "mul.wide.s32 {0}, {1}, {2}": (
        64, [32, 32], lambda x, y: signed(x, 32) * signed(y, 32),
    ),
    "mad.lo.u32 {0}, {1}, {2}, {3}": (32, [32, 32, 32], lambda x, y, z: x * y + z),
    "mad.lo.s64 {0}, {1}, {2}, {3}": (64, [64, 64, 64], lambda x, y, z: x * y + z),
    "mad.hi.u32 {0}, {1}, {2}, {3}": (32, [32, 32, 32], lambda x, y, z: (x * y >> 32) + z),
    "mad.wide.u32 {0}, {1}, {2}, {3}": (64, [32, 32, 64], lambda x, y, z: x * y + z),
    "div.u32 {0}, {1}, {2}": (32, [32, 32], lambda x, y: x // y if y else 0),
    "div.u64 {0}, {1}, 12288": (64, [64], lambda x: x // 12288),
    "div.s64 {0}, {1}, 96": (64, [64], lambda x: quotient(signed(x, 64), 96)),
    "rem.u64 {0}, {1}, 96": (64, [64], lambda x: x % 96),
    "rem.s32 {0}, {1}, 96": (
        32, [32], lambda x: signed(x, 32) - 96 * quotient(signed(x, 32), 96),
    ),
    "and.b32 {0}, {1}, {2}": (32, [32, 32], lambda x, y: x & y),
    "or.b64 {0}, {1}, {2}": (64, [64, 64], lambda x, y: x | y),
    "xor.b32 {0}, {1}, {2}": (32, [32, 32], lambda x, y: x ^ y),
    "not.b64 {0}, {1}": (64, [64], lambda x: ~x),
    "neg.s32 {0}, {1}": (32, [32], lambda x: -x),
    "abs.s32 {0}, {1}": (32, [32], lambda x: abs(signed(x, 32))),
    "min.s64 {0}, {1}, 12288": (64, [64], lambda x: min(signed(x, 64), 12288)),
    "min.u32 {0}, {1}, {2}": (32, [32, 32], min),
    "max.s32 {0}, {1}, {2}": (32, [32, 32], lambda x, y: max(signed(x, 32), signed(y, 32))),
    "max.u64 {0}, {1}, {2}": (64, [64, 64], max),
    "shl.b32 {0}, {1}, {2}": (32, [32, 32], lambda x, n: x << n if n < 32 else 0),
    "shl.b64 {0}, {1}, 5": (64, [64], lambda x: x << 5),
    "shr.u32 {0}, {1}, {2}": (32, [32, 32], lambda x, n: x >> n),
    "shr.u64 {0}, {1}, {2}": (64, [64, 32], lambda x, n: x >> n),
    "shr.s32 {0}, {1}, {2}": (32, [32, 32], lambda x, n: signed(x, 32) >> n),
    "shr.s64 {0}, {1}, 63": (64, [64], lambda x: signed(x, 64) >> 63),
    "shf.l.wrap.b32 {0}, {1}, {2}, 26": (32, [32, 32], lambda x, y: funnel(x, y, 26, True)),
    "shf.l.wrap.b32 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, y, n: funnel(x, y, n & 31, True),
    ),
    "shf.r.wrap.b32 {0}, {1}, {2}, 7": (32, [32, 32], lambda x, y: funnel(x, y, 7, False)),
    "shf.r.wrap.b32 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, y, n: funnel(x, y, n & 31, False),
    ),
    "shf.l.clamp.b32 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, y, n: funnel(x, y, min(n, 32), True),
    ),
    "shf.r.clamp.b32 {0}, {1}, {2}, 40": (32, [32, 32], lambda x, y: y),
    "prmt.b32 {0}, {1}, {2}, {3}": (32, [32, 32, 32], prmt),
    "prmt.b32 {0}, {1}, {2}, 0x3456U": (32, [32, 32], lambda x, y: prmt(x, y, 0x3456)),
    "prmt.b32 {0}, {1}, {2}, 0x0123U": (32, [32, 32], lambda x, y: prmt(x, y, 0x0123)),
    "prmt.b32 {0}, {1}, {2}, 0x4567U": (32, [32, 32], lambda x, y: prmt(x, y, 0x4567)),
    "prmt.b32 {0}, {1}, {2}, 0x5432U": (32, [32, 32], lambda x, y: prmt(x, y, 0x5432)),
    "prmt.b32 {0}, {1}, {2}, 0xBA98U": (32, [32, 32], lambda x, y: prmt(x, y, 0xBA98)),
    "prmt.b32 {0}, {1}, {2}, 0x7610U": (32, [32, 32], lambda x, y: prmt(x, y, 0x7610)),
    "prmt.b32.f4e {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, y, n: (x | y << 32) >> 8 * (n & 3),
    ),
    "prmt.b32.rc8 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, y, n: (x >> 8 * (n & 3) & 255) * 0x01010101,
    ),
    "dp4a.u32.u32 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, y, z: dot(x, y, z, False, False),
    ),
    "dp4a.s32.u32 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, y, z: dot(x, y, z, True, False),
    ),
    "dp4a.s32.s32 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, y, z: dot(x, y, z, True, True),
    ),
    "mov.b32 %r30, 16843009; dp4a.u32.u32 {0}, {1}, %r30, {2}": (
        32, [32, 32], lambda x, z: dot(x, 0x01010101, z, False, False),
    ),
    **{
        f"lop3.b32 {{0}}, {{1}}, {{2}}, {{3}}, {table:#x}": (
            32, [32, 32, 32], lambda x, y, z, table=table: lop3(x, y, z, table),
        )
        for table in (0x96, 0xE8, 0xCA, 0x00, 0xFF, 0x1B, 0x80, 0x6A)
    },
    "bfe.u32 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, s, n: extract(x, s, n, 32, False),
    ),
    "bfe.s32 {0}, {1}, {2}, {3}": (
        32, [32, 32, 32], lambda x, s, n: extract(x, s, n, 32, True),
    ),
    "bfe.u64 {0}, {1}, 6, 30": (64, [64], lambda x: x >> 6 & (1 << 30) - 1),
    "bfi.b32 {0}, {1}, {2}, 4, 8": (
        32, [32, 32], lambda x, y: y & ~0xFF0 | (x & 255) << 4,
    ),
    "bmsk.wrap.b32 {0}, {1}, {2}": (
        32, [32, 32], lambda s, n: ((1 << (n & 31)) - 1) << (s & 31),
    ),
    "bmsk.clamp.b32 {0}, {1}, {2}": (
        32, [32, 32], lambda s, n: ((1 << min(n, 32)) - 1) << min(s, 32),
    ),
    "popc.b64 {0}, {1}": (32, [64], int.bit_count),
    "clz.b32 {0}, {1}": (32, [32], lambda x: 32 - x.bit_length()),
    "clz.b64 {0}, {1}": (32, [64], lambda x: 64 - x.bit_length()),
    "brev.b32 {0}, {1}": (32, [32], lambda x: int(f"{x:032b}"[::-1], 2)),
    "bfind.u64 {0}, {1}": (32, [64], lambda x: bfind(x, 64, False)),
    "bfind.s32 {0}, {1}": (32, [32], lambda x: bfind(x, 32, True)),
    "cvt.u64.u32 {0}, {1}": (64, [32], lambda x: x),
    "cvt.s64.s32 {0}, {1}": (64, [32], lambda x: signed(x, 32)),
    "cvt.u32.u64 {0}, {1}": (32, [64], lambda x: x),
    "cvt.u32.u16 {0}, {1}": (32, [16], lambda x: x),
    "cvt.u32.u8 {0}, {1}": (32, [32], lambda x: x & 255),
    "cvt.s32.s8 {0}, {1}": (32, [32], lambda x: signed(x & 255, 8)),
    "mov.b64 {0}, {{{1}, {2}}}": (64, [32, 32], lambda x, y: x | y << 32),
    "mov.b64 {{_, {0}}}, {1}": (32, [64], lambda x: x >> 32),
    "mov.b64 {{{0}, %r30}}, {1}": (32, [64], lambda x: x),
    "setp.lt.s64 %p1, {1}, {2}; selp.b32 {0}, 5, -6, %p1": (
        32, [64, 64], lambda x, y: 5 if signed(x, 64) < signed(y, 64) else -6,
    ),
    "setp.hi.u32 %p1, {1}, {2}; selp.b32 {0}, {1}, {2}, %p1": (32, [32, 32], max),
    "setp.ne.b32 %p1, {1}, 0; setp.eq.and.b32 %p2, {1}, {2}, !%p1; not.pred %p3, %p2; "
    "selp.b32 {0}, 1, 2, %p3": (32, [32, 32], lambda x, y: 2 if x == y == 0 else 1),
    "setp.ge.u32 %p1, {1}, {2}; mov.b32 {0}, 3; @%p1 add.s32 {0}, {1}, 1": (
        32, [32, 32], lambda x, y: x + 1 if x >= y else 3,
    ),
}  # fmt: skip

REGISTER = {16: "%rs", 32: "%r", 64: "%rd"}


def interesting(rng: random.Random, bits: int) -> int:
    edges = (
        0,
        1,
        7,
        31,
        32,
        33,
        63,
        64,
        255,
        256,
        (1 << bits - 1) - 1,
        1 << bits - 1,
        (1 << bits) - 1,
    )
    return rng.choice((*edges, rng.getrandbits(bits), rng.getrandbits(bits))) % (1 << bits)


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_an_instruction_computes_what_plain_python_computes(instruction: str) -> None:
    bits, sources, rule = INSTRUCTIONS[instruction]
    rng = random.Random(instruction)
    count = 256
    rows = [[interesting(rng, size) for size in sources] for _ in range(count)]
    if instruction.startswith("div.u32"):
        rows = [[x, max(y, 1)] for x, y in rows]
    loads = "".join(
        f"    ld.global.b{size} {REGISTER[size]}{10 + k}, [%rd9+{8 * k}];\n"
        for k, size in enumerate(sources)
    )
    names = [f"{REGISTER[size]}{10 + k}" for k, size in enumerate(sources)]
    result = f"{REGISTER[bits]}20"
    body = f"""
    mad.lo.s32 %r2, %r1, 64, %r0;
    mul.wide.u32 %rd8, %r2, 24;
    add.s64 %rd9, %rd0, %rd8;
{loads}
    {instruction.format(result, *names)};
    mul.wide.u32 %rd7, %r2, 8;
    add.s64 %rd6, %rd1, %rd7;
    st.global.b{bits} [%rd6], {result};"""
    memory = GlobalMemory(1 << 20)
    words = b"".join(x.to_bytes(8, "little") for row in rows for x in [*row, 0, 0][:3])
    source, results = memory.allocate(words), memory.allocate(bytes(8 * count))
    Module(kernel(body), memory).launch("k", count // 64, 64, [source, results])
    for k, row in enumerate(rows):
        got = int.from_bytes(memory.read(results + 8 * k, bits // 8), "little")
        assert got == rule(*row) % (1 << bits), [hex(x) for x in row]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("instruction", "rule"),
    [
        ("redux.sync.add.s32 %r3, %r2, -1", lambda v, k: sum(v)),
        ("redux.sync.max.u32 %r3, %r2, -1", lambda v, k: max(v)),
        ("redux.sync.xor.b32 %r3, %r2, -1", lambda v, k: v[0] ^ lop_all(v[1:])),
        ("shfl.sync.bfly.b32 %r3, %r2, 5, 31, -1", lambda v, k: v[k ^ 5]),
        ("shfl.sync.idx.b32 %r3, %r2, 9, 31, -1", lambda v, k: v[9]),
        ("shfl.sync.down.b32 %r3, %r2, 4, 31, -1", lambda v, k: v[k + 4 if k < 28 else k]),
        ("shfl.sync.up.b32 %r3, %r2, 4, 0, -1", lambda v, k: v[k - 4 if k >= 4 else k]),
        (
            "shfl.sync.down.b32 %r4|%p1, %r2, 4, 31, -1; selp.b32 %r3, 1, 0, %p1",
            lambda v, k: int(k < 28),
        ),
        (
            "setp.gt.u32 %p1, %r2, 2147483647; vote.sync.ballot.b32 %r3, %p1, -1",
            lambda v, k: sum((x >> 31) << n for n, x in enumerate(v)),
        ),
        (
            "setp.ne.b32 %p1, %r2, 0; vote.sync.all.pred %p2, %p1, -1; selp.b32 %r3, 1, 0, %p2",
            lambda v, k: int(all(v)),
        ),
    ],
)  # fmt: skip
def test_lanes_of_a_warp_exchange_values(
    instruction: str, rule: Callable[[list[int], int], int], seed: int | None
) -> None:
    body = f"""
    mul.wide.u32 %rd8, %r0, 4;
    add.s64 %rd9, %rd0, %rd8;
    ld.global.nc.b32 %r2, [%rd9];
    {instruction};
    add.s64 %rd7, %rd1, %rd8;
    st.global.b32 [%rd7], %r3;"""
    rng, memory = random.Random(instruction), GlobalMemory(1 << 16)
    values = [rng.getrandbits(32) for _ in range(64)]
    source = memory.allocate(b"".join(x.to_bytes(4, "little") for x in values))
    results = memory.allocate(256)
    Module(kernel(body), memory).launch("k", 1, 64, [source, results], seed=seed)
    for k in range(64):
        warp = values[k // 32 * 32 :][:32]
        got = int.from_bytes(memory.read(results + 4 * k, 4), "little")
        assert got == rule(warp, k % 32) % (1 << 32)


def lop_all(values: list[int]) -> int:
    result = 0
    for value in values:
        result ^= value
    return result


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", ["b8", "b16", "b32", "b64", "v2.b32", "v4.b32", "v2.b64"])
def test_loads_and_stores_of_all_widths_move_the_bytes(width: str, seed: int | None) -> None:
    count = int(width[1]) if width[0] == "v" else 1
    bits = int(width.rsplit("b", 1)[1])
    size = count * bits // 8
    names = [f"{REGISTER[max(16, bits)]}{20 + k}" for k in range(count)]
    values = f"{{{', '.join(names)}}}" if count > 1 else names[0]
    body = f"""
    mul.wide.u32 %rd8, %r0, {size};
    add.s64 %rd9, %rd0, %rd8;
    ld.global.nc.L1::no_allocate.{width} {values}, [%rd9];
    add.s64 %rd7, %rd1, %rd8;
    st.global.{width} [%rd7+0], {values};"""
    memory = GlobalMemory(1 << 16)
    content = random.Random(1).randbytes(33 * size)
    source, to = memory.allocate(content), memory.allocate(33 * size)
    Module(kernel(body), memory).launch("k", 1, 33, [source, to], seed=seed)
    assert memory.read(to, len(content)) == content


@pytest.mark.parametrize("seed", SEEDS)
def test_threads_that_part_come_together_again(seed: int | None) -> None:
    """Each thread runs as many rounds as its number says."""
    body = """
    mov.b32 %r2, 0;
    mov.b32 %r3, 0;
$again:
    setp.ge.u32 %p1, %r2, %r0;
    @%p1 bra $done;
    add.s32 %r2, %r2, 1;
    add.s32 %r3, %r3, %r2;
    bra.uni $again;
$done:
    bar.warp.sync -1;
    mad.lo.s32 %r4, %r1, 70, %r0;
    mul.wide.u32 %rd2, %r4, 4;
    add.s64 %rd3, %rd0, %rd2;
    st.global.b32 [%rd3], %r3;"""
    memory = GlobalMemory(1 << 16)
    results = memory.allocate(3 * 70 * 4)
    Module(kernel(body, 1), memory).launch("k", 3, 70, [results], seed=seed, resident=140)
    got = [int.from_bytes(memory.read(results + 4 * k, 4), "little") for k in range(210)]
    assert got == [n * (n + 1) // 2 for n in range(70)] * 3


def test_constant_arrays_are_read() -> None:
    before = ".const .align 4 .b32 table[3] = {7, 8, 0xFFFFFFFF};"
    body = """
    ld.const.b32 %r2, [table+8];
    st.global.b32 [%rd0], %r2;"""
    memory = GlobalMemory(1 << 16)
    results = memory.allocate(4)
    Module(kernel(body, 1, before), memory).launch("k", 1, 1, [results])
    assert memory.read(results, 4) == b"\xff" * 4


@pytest.mark.parametrize("seed", SEEDS)
def test_atomic_operations_lose_nothing(seed: int | None) -> None:
    body = """
    atom.global.add.u64 %rd2, [%rd0], 3;
    red.global.max.u32 [%rd1], %r0;"""
    memory = GlobalMemory(1 << 16)
    total, most = memory.allocate(bytes(8)), memory.allocate(bytes(4))
    Module(kernel(body), memory).launch("k", 5, 40, [total, most], seed=seed, resident=40)
    assert memory.read(total, 8) == (600).to_bytes(8, "little")
    assert memory.read(most, 4) == (39).to_bytes(4, "little")


# --- mistakes ---

ADDRESS = """
    mul.wide.u32 %rd8, %r0, 4;
    add.s64 %rd9, %rd0, %rd8;"""


@pytest.mark.parametrize("size", [4 * 32 - 4, 4 * 32 - 1])
def test_an_access_behind_the_end_is_found(size: int) -> None:
    text = kernel(f"{ADDRESS}\n    ld.global.nc.b32 %r2, [%rd9];", 1)
    memory = GlobalMemory(1 << 16)
    data = memory.allocate(bytes(size))
    line = line_of(text, "ld.global")
    with pytest.raises(AccessError, match=f"kernel k, line {line}: thread 31 reads 4 bytes"):
        Module(text, memory).launch("k", 1, 32, [data])


def test_an_access_before_the_start_is_found() -> None:
    text = kernel(f"{ADDRESS}\n    st.global.b32 [%rd9+-4], %r0;", 1)
    memory = GlobalMemory(1 << 16)
    data = memory.allocate(128)
    with pytest.raises(AccessError, match="thread 0 writes 4 bytes"):
        Module(text, memory).launch("k", 1, 32, [data])


def test_an_access_that_is_not_aligned_is_found() -> None:
    text = kernel("    ld.global.v4.b32 {%r2, %r3, %r4, %r5}, [%rd0];", 1)
    memory = GlobalMemory(1 << 16)
    data = memory.allocate(bytes(64), shift=8)
    with pytest.raises(AccessError, match="not aligned"):
        Module(text, memory).launch("k", 1, 1, [data])


def test_a_read_of_bytes_that_nobody_wrote_is_found() -> None:
    text = kernel("    ld.global.b32 %r2, [%rd0];", 1)
    memory = GlobalMemory(1 << 16)
    data = memory.allocate(4)
    with pytest.raises(AccessError, match="nobody wrote"):
        Module(text, memory).launch("k", 1, 1, [data])


def test_bytes_that_no_thread_wrote_are_no_result() -> None:
    memory = GlobalMemory(1 << 16)
    data = memory.allocate(8)
    Module(kernel("    st.global.b32 [%rd0], %r0;", 1), memory).launch("k", 1, 1, [data])
    with pytest.raises(AccessError, match="byte 4 of 8"):
        memory.read(data, 8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_barrier_that_some_threads_do_not_reach_is_found(seed: int | None) -> None:
    text = kernel(
        """
    setp.lt.u32 %p1, %r0, 40;
    @%p1 bra $a;
    bar.sync 0;
    bra.uni $b;
$a:
    bar.sync 0;
$b:"""
    )
    with pytest.raises(BarrierError, match="not all threads come to a barrier"):
        Module(text, GlobalMemory(1 << 16)).launch("k", 1, 64, [0, 0], seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_exchange_with_a_thread_that_ended_is_found(seed: int | None) -> None:
    text = kernel(
        """
    setp.lt.u32 %p1, %r0, 3;
    @%p1 bra $end;
    redux.sync.add.s32 %r2, %r0, -1;
$end:"""
    )
    with pytest.raises(BarrierError):
        Module(text, GlobalMemory(1 << 16)).launch("k", 1, 32, [0, 0], seed=seed)


SHARED = ".shared .align 16 .b8 buffer[256];"
EXCHANGE = """
    mov.b64 %rd5, buffer;
    mul.wide.u32 %rd6, %r0, 4;
    add.s64 %rd7, %rd5, %rd6;
    st.shared.b32 [%rd7], %r0;
    {barrier}
    xor.b32 %r2, %r0, {partner};
    mul.wide.u32 %rd8, %r2, 4;
    add.s64 %rd9, %rd5, %rd8;
    ld.shared.b32 %r3, [%rd9];
    add.s64 %rd10, %rd0, %rd6;
    mad.lo.s32 %r5, %r1, 256, 0;
    cvt.u64.u32 %rd11, %r5;
    add.s64 %rd12, %rd10, %rd11;
    st.global.b32 [%rd12], %r3;"""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("barrier", "partner", "right"),
    [
        ("bar.sync 0;", 33, True),
        ("bar.warp.sync -1;", 1, True),
        ("", 0, True),
        ("", 1, False),
        ("bar.warp.sync -1;", 32, False),
        ("membar.gl;", 33, False),
    ],
)
def test_shared_memory_is_exchanged_behind_a_barrier(
    barrier: str, partner: int, right: bool, seed: int | None
) -> None:
    text = kernel(EXCHANGE.format(barrier=barrier, partner=partner), 1, SHARED)
    memory = GlobalMemory(1 << 16)
    results = memory.allocate(2 * 256)
    module = Module(text, memory)
    if right:
        module.launch("k", 2, 64, [results], seed=seed)
        words = [int.from_bytes(memory.read(results + 4 * k, 4), "little") for k in range(128)]
        assert words == [k ^ partner for k in range(64)] * 2
    else:
        with pytest.raises((RaceError, AccessError), match=r"nothing orders the two|nobody wrote"):
            module.launch("k", 2, 64, [results], seed=seed)


def test_shared_memory_of_another_block_is_not_reached() -> None:
    text = kernel("    mov.b64 %rd5, buffer;\n    st.shared.b32 [%rd5+256], %r0;", 1, SHARED)
    with pytest.raises(AccessError, match="shared memory"):
        Module(text, GlobalMemory(1 << 16)).launch("k", 2, 1, [0])


# The last block to finish adds what all blocks wrote.
LAST_BLOCK = """
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd0, %rd2;
    add.s32 %r2, %r1, 1;
    st.global.b32 [%rd3], %r2;
    {release}
    {atomic} %r3, [%rd1], 1;
    mov.u32 %r4, %nctaid.x;
    add.s32 %r5, %r4, -1;
    setp.ne.b32 %p1, %r3, %r5;
    @%p1 bra $end;
    {acquire}
    mov.b32 %r6, 0;
    mov.b32 %r7, 0;
$next:
    mul.wide.u32 %rd4, %r6, 4;
    add.s64 %rd5, %rd0, %rd4;
    ld.global.b32 %r8, [%rd5];
    add.s32 %r7, %r7, %r8;
    add.s32 %r6, %r6, 1;
    setp.lt.u32 %p2, %r6, %r4;
    @%p2 bra $next;
    st.global.b32 [%rd1+4], %r7;
$end:"""
PLAIN = "atom.global.add.u32"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("release", "atomic", "acquire", "right"),
    [
        ("membar.gl;", PLAIN, "membar.gl;", True),
        ("fence.acq_rel.gpu;", PLAIN, "fence.acq_rel.gpu;", True),
        ("", "atom.acq_rel.gpu.global.add.u32", "", True),
        ("", PLAIN, "membar.gl;", False),
        ("membar.gl;", PLAIN, "", False),
        ("membar.cta;", PLAIN, "membar.gl;", False),
    ],
)
def test_blocks_see_each_other_s_writes_behind_fence_and_atomic_operation(
    release: str, atomic: str, acquire: str, right: bool, seed: int | None
) -> None:
    text = kernel(LAST_BLOCK.format(release=release, atomic=atomic, acquire=acquire))
    memory = GlobalMemory(1 << 16)
    parts, state = memory.allocate(4 * 6), memory.allocate(bytes(8))
    module = Module(text, memory)
    if right:
        module.launch("k", 6, 1, [parts, state], seed=seed, resident=3)
        assert memory.read(state, 8) == bytes([6, 0, 0, 0, 21, 0, 0, 0])
    else:
        with pytest.raises(RaceError, match="nothing orders the two"):
            module.launch("k", 6, 1, [parts, state], seed=seed, resident=3)


# All threads of a block write; its first thread passes that on, behind a barrier or before it.
PASSED_ON = """
    mad.lo.s32 %r2, %r1, 64, %r0;
    mul.wide.u32 %rd2, %r2, 4;
    add.s64 %rd3, %rd0, %rd2;
    st.global.b32 [%rd3], %r2;
    {first}
    {second}
    setp.ne.b32 %p1, %r0, 0;
    @%p1 bra $end;
    atom.global.add.u32 %r3, [%rd1], 1;
    setp.ne.b32 %p2, %r3, 1;
    @%p2 bra $end;
    membar.gl;
    ld.global.b32 %r4, [%rd0+252];
    ld.global.b32 %r5, [%rd0+508];
    add.s32 %r6, %r4, %r5;
    st.global.b32 [%rd1+4], %r6;
$end:"""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("right", [True, False])
def test_a_thread_that_passes_on_what_its_block_wrote_fences_behind_the_barrier(
    right: bool, seed: int | None
) -> None:
    steps = ["bar.sync 0;", "membar.gl;"] if right else ["membar.gl;", "bar.sync 0;"]
    text = kernel(PASSED_ON.format(first=steps[0], second=steps[1]))
    memory = GlobalMemory(1 << 16)
    words, state = memory.allocate(4 * 128), memory.allocate(bytes(8))
    module = Module(text, memory)
    if right:
        module.launch("k", 2, 64, [words, state], seed=seed)
        assert memory.read(state + 4, 4) == (63 + 127).to_bytes(4, "little")
    else:
        with pytest.raises(RaceError, match="nothing orders the two"):
            module.launch("k", 2, 64, [words, state], seed=seed)


def test_two_threads_that_write_one_byte_are_found() -> None:
    text = kernel("    st.global.b32 [%rd0], %r0;", 1)
    memory = GlobalMemory(1 << 16)
    data = memory.allocate(4)
    with pytest.raises(RaceError, match="writes the byte"):
        Module(text, memory).launch("k", 1, 2, [data])


def test_a_constant_load_of_what_the_launch_writes_is_found() -> None:
    text = kernel("    st.global.b32 [%rd0], 1;\n    ld.global.nc.b32 %r2, [%rd0];", 1)
    memory = GlobalMemory(1 << 16)
    data = memory.allocate(4)
    with pytest.raises(RaceError, match=r"constant \(\.nc\)"):
        Module(text, memory).launch("k", 1, 1, [data])


def test_a_launch_sees_what_the_launch_before_wrote() -> None:
    text = kernel("    ld.global.nc.b32 %r2, [%rd0];\n    st.global.b32 [%rd1], %r2;")
    memory = GlobalMemory(1 << 16)
    a, b, c = memory.allocate(b"word"), memory.allocate(4), memory.allocate(4)
    module = Module(text, memory)
    module.launch("k", 1, 1, [a, b])
    module.launch("k", 1, 1, [b, c])
    assert memory.read(c, 4) == b"word"


@pytest.mark.parametrize(
    "instruction",
    [
        "add.f32 %r2, %r3, %r4",
        "ex2.approx.f32 %r2, %r3",
        "cp.async.cg.shared.global [%rd0], [%rd1], 16",
        "ld.local.b32 %r2, [%rd0]",
        "prmt.b32.xyz %r2, %r3, %r4, 0",
        "add.s32 %r2, %rd3, %r4",
        "shfl.b32 %r2, %r3, 0, 31",
    ],
)
def test_an_unknown_instruction_is_one_error_with_its_line(instruction: str) -> None:
    text = kernel(f"    {instruction};")
    with pytest.raises(UnknownInstructionError, match=f"line {line_of(text, instruction)}: "):
        Module(text, GlobalMemory(1 << 16))


def test_a_kernel_that_does_not_end_is_found() -> None:
    text = kernel("$again:\n    bra.uni $again;")
    with pytest.raises(PtxError, match="does not end"):
        Module(text, GlobalMemory(1 << 16)).launch("k", 1, 1, [0, 0], steps=100)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(PtxError, match="no PTX module"):
        Module("hello", GlobalMemory(1 << 16))
