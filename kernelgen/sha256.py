# SPDX-License-Identifier: Apache-2.0
"""SHA-256 (FIPS 180-4) in the arithmetic of any integer type: one i32, or a vector of them.

The scalar form takes one message; vectors of i32 take one message a lane with the same rounds.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from math import isqrt

from llvmlite import ir

from .flow import at, i64, intrinsic, loop
from .kernels import I8, I32, POINTER

BLOCK_BYTES = 64
ROUNDS = 64


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _cube_root(n: int) -> int:
    """The largest integer whose cube is at most n."""
    root: int = round(n ** (1 / 3))
    while root**3 > n:
        root -= 1
    while (root + 1) ** 3 <= n:
        root += 1
    return root


# FIPS 180-4, 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64
# primes; 5.3.3: the same of the square roots of the first 8. In integers: floor(root(p) * 2^32)
# mod 2^32.
K = [_cube_root(p << 96) % 2**32 for p in _primes(ROUNDS)]
INITIAL = [isqrt(p << 64) % 2**32 for p in _primes(8)]


def constant(kind: ir.Type, value: int) -> ir.Constant:
    """The value as i32, or in every lane of a vector of i32."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [I32(value)] * kind.count)
    return ir.Constant(kind, value)


def _rotate_right(b: ir.IRBuilder, x: ir.Value, count: int) -> ir.Value:
    suffix = f"v{x.type.count}i32" if isinstance(x.type, ir.VectorType) else "i32"
    return intrinsic(b, f"llvm.fshr.{suffix}", x.type, [x, x, constant(x.type, count)])


def _big_sigma(b: ir.IRBuilder, x: ir.Value, r1: int, r2: int, r3: int) -> ir.Value:
    once = b.xor(_rotate_right(b, x, r1), _rotate_right(b, x, r2))
    return b.xor(once, _rotate_right(b, x, r3))


def _small_sigma(b: ir.IRBuilder, x: ir.Value, r1: int, r2: int, shift: int) -> ir.Value:
    once = b.xor(_rotate_right(b, x, r1), _rotate_right(b, x, r2))
    return b.xor(once, b.lshr(x, constant(x.type, shift)))


# One compression as it is being written: yields after each step, so that several can be written
# step by step in turn, and returns the next state.
Steps = Generator[None, None, list[ir.Value]]


def write(*runs: tuple[Steps, int]) -> list[list[ir.Value]]:
    """Writes compressions (steps, how many steps they have) at once, each at an even pace, so that
    they overlap in the CPU. Returns their states."""
    states: list[list[ir.Value]] = [[] for _ in runs]
    turns = sorted((turn / count, k) for k, (_, count) in enumerate(runs) for turn in range(count))
    for _, k in turns:
        next(runs[k][0])
    for k, (steps, _) in enumerate(runs):
        try:
            next(steps)
        except StopIteration as stop:
            states[k] = stop.value
        else:
            raise ValueError(f"run {k} has more than {runs[k][1]} steps")
    return states


# How two words are added: `add(b, x, y)` is x + y mod 2^32, by a unit of the machine that has room.
Add = Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]


def plain_add(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.add(x, y)


def _round(
    b: ir.IRBuilder,
    variables: list[ir.Value],
    b_xor_c: ir.Value,
    k_plus_w: ir.Value,
    add: Add = plain_add,
) -> tuple[list[ir.Value], ir.Value]:
    """One round on a..h; b ^ c is handed from round to round."""
    a, bb, c, d, e, f, g, h = variables
    # T1 = h + Sigma1(e) + Ch(e, f, g) + K + W;  Ch = g ^ (e & (f ^ g))
    choose = b.xor(g, b.and_(e, b.xor(f, g)))
    t1 = add(b, add(b, h, k_plus_w), choose)
    t1 = add(b, t1, _big_sigma(b, e, 6, 11, 25))
    # T2 = Sigma0(a) + Maj(a, b, c);  Maj = b ^ ((a ^ b) & (b ^ c)), a ^ b is the next b ^ c
    a_xor_b = b.xor(a, bb)
    majority = b.xor(bb, b.and_(a_xor_b, b_xor_c))
    t2 = add(b, _big_sigma(b, a, 2, 13, 22), majority)
    return [add(b, t1, t2), a, bb, c, add(b, d, t1), e, f, g], a_xor_b


def rounds(
    b: ir.IRBuilder,
    state: Sequence[ir.Value],
    message: Sequence[ir.Value],
    add: Add = plain_add,
) -> Steps:
    """One compression (6.2.2): 8 working variables, 16 message words -> the next 8. Yields after
    each round."""
    kind = state[0].type
    w = list(message)
    variables, b_xor_c = list(state), b.xor(state[1], state[2])
    for t in range(ROUNDS):
        if t >= len(message):
            w.append(
                add(
                    b,
                    add(b, _small_sigma(b, w[t - 2], 17, 19, 10), w[t - 7]),
                    add(b, _small_sigma(b, w[t - 15], 7, 18, 3), w[t - 16]),
                )
            )
        k_plus_w = add(b, w[t], constant(kind, K[t]))
        variables, b_xor_c = _round(b, variables, b_xor_c, k_plus_w, add)
        yield
    return [add(b, old, new) for old, new in zip(state, variables, strict=True)]


def _load_big_endian(b: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    """A 32-bit big-endian word, byte by byte: code generators make one load of it, in any order."""
    word = b.zext(b.load(pointer, typ=I8), I32)
    for k in range(1, 4):
        byte = b.zext(b.load(at(b, pointer, k), typ=I8), I32)
        word = b.or_(b.shl(word, I32(8)), byte)
    return word


def scalar_blocks(b: ir.IRBuilder, state: ir.Value, blocks: ir.Value, count: ir.Value) -> None:
    """Compresses `count` blocks into state[8], one word at a time."""
    words = [at(b, state, 4 * k) for k in range(8)]
    start = [b.load(pointer, align=4, typ=I32) for pointer in words]
    size = b.mul(count, i64(BLOCK_BYTES))
    with loop(b, "block", i64(0), size, BLOCK_BYTES, start) as run:
        block = at(b, blocks, run.index)
        message = [_load_big_endian(b, at(b, block, 4 * k)) for k in range(16)]
        run.next(write((rounds(b, run.values, message), ROUNDS))[0])
    for pointer, value in zip(words, run.values, strict=True):
        b.store(value, pointer, align=4)


# --- one message, its schedule in a vector unit ---

QUAD = ir.VectorType(I32, 4)
_QUAD_BYTES = 16
_MESSAGE_QUADS = 4

# How many quads the schedule is written ahead of the rounds. Its own chain of dependences is a
# third as long as theirs: written whole before them, it would not overlap with them (measured: 2
# ahead 0.52 GB/s, 4 ahead 0.51, all ahead 0.39).
_AHEAD = 2


class Quads:
    """Quads in the frame of the function, by their index. It is made once, also where a loop is
    being written."""

    def __init__(self, b: ir.IRBuilder, count: int) -> None:
        self._b = b
        with b.goto_entry_block():
            self.pointer = b.alloca(ir.ArrayType(QUAD, count))
        self.pointer.align = _QUAD_BYTES
        self.pointer.type = POINTER  # a plain one, as all others here

    def __getitem__(self, index: int) -> ir.Value:
        pointer = at(self._b, self.pointer, _QUAD_BYTES * index)
        return self._b.load(pointer, align=_QUAD_BYTES, typ=QUAD)

    def __setitem__(self, index: int, quad: ir.Value) -> None:
        self._b.store(quad, at(self._b, self.pointer, _QUAD_BYTES * index), align=_QUAD_BYTES)


def quad_constants(four: int) -> ir.Constant:
    """K of the four rounds from 4 * four on."""
    return ir.Constant(QUAD, [I32(k) for k in K[4 * four : 4 * four + 4]])


_PAIR = ir.VectorType(ir.IntType(64), 2)


def _sigma1_of_pair(b: ir.IRBuilder, words: ir.Value, lanes: tuple[int, int]) -> ir.Value:
    """sigma1 of two words of a quad: of words (2, 3) in lanes (0, 1), of (0, 1) in (2, 3); else 0.

    A word beside itself in 64 bits is rotated by a plain shift, in its low half.
    """
    first, second = lanes
    twice = b.bitcast(shuffle(b, words, words, (first, first, second, second)), _PAIR)
    rotated = [
        b.bitcast(b.lshr(twice, ir.Constant(_PAIR, [ir.IntType(64)(r)] * 2)), QUAD)
        for r in (17, 19)
    ]
    shifted = b.lshr(b.bitcast(twice, QUAD), constant(QUAD, 10))
    sigma = b.xor(b.xor(rotated[0], rotated[1]), shifted)
    zero = ir.Constant(QUAD, None)
    return shuffle(b, sigma, zero, (0, 2, 4, 4) if first else (4, 4, 0, 2))


def _next_quad(b: ir.IRBuilder, w: Sequence[ir.Value]) -> ir.Value:
    """W[t .. t+3] from the four quads before: sigma1 comes in two steps, because the last two words
    need the first two."""
    w16, w12, w8, w4 = w
    fifteenth = shuffle(b, w16, w12, (1, 2, 3, 4))
    seventh = shuffle(b, w8, w4, (1, 2, 3, 4))
    partial = b.add(b.add(w16, seventh), _small_sigma(b, fifteenth, 7, 18, 3))
    partial = b.add(partial, _sigma1_of_pair(b, w4, (2, 3)))
    return b.add(partial, _sigma1_of_pair(b, partial, (0, 1)))


def vector_schedule_blocks(
    b: ir.IRBuilder, state: ir.Value, blocks: ir.Value, count: ir.Value
) -> None:
    """As scalar_blocks, on a little-endian CPU with a vector unit: the message schedule is made
    four words at a time beside the scalar rounds, which read K + W from memory. So the rounds have
    the scalar registers for themselves."""
    words = [at(b, state, 4 * k) for k in range(8)]
    start = [b.load(pointer, align=4, typ=I32) for pointer in words]
    scratch = Quads(b, ROUNDS // 4)
    size = b.mul(count, i64(BLOCK_BYTES))
    with loop(b, "block", i64(0), size, BLOCK_BYTES, start) as run:
        w: list[ir.Value] = []
        variables, b_xor_c = list(run.values), b.xor(run.values[1], run.values[2])
        for four in range(ROUNDS // 4 + _AHEAD):
            if four < ROUNDS // 4:
                pointer = at(b, blocks, run.index, 16 * four)
                w.append(
                    _swap_bytes(b, b.load(pointer, align=1, typ=QUAD))
                    if four < _MESSAGE_QUADS
                    else _next_quad(b, w[-4:])
                )
                k_plus_w = b.add(w[four], quad_constants(four))
                scratch[four] = k_plus_w
            for t in range(max(0, 4 * (four - _AHEAD)), 4 * (four - _AHEAD + 1)):
                k_plus_w = b.load(at(b, scratch.pointer, 4 * t), align=4, typ=I32)
                variables, b_xor_c = _round(b, variables, b_xor_c, k_plus_w)
        run.next([b.add(old, new) for old, new in zip(run.values, variables, strict=True)])
    for pointer, value in zip(words, run.values, strict=True):
        b.store(value, pointer, align=4)


# --- many messages at once ---


@dataclass(frozen=True)
class Lanes:
    """The arguments of the kernel `sha256_lanes`."""

    state: ir.Value
    sums: ir.Value
    blocks: ir.Value
    count: ir.Value
    used: ir.Value

    def pointers(self, b: ir.IRBuilder, count: int) -> list[ir.Value]:
        """The first addresses of `blocks`."""
        slots = [b.gep(self.blocks, [i64(k)], source_etype=POINTER) for k in range(count)]
        return [b.load(slot, typ=POINTER) for slot in slots]


def shuffle(b: ir.IRBuilder, x: ir.Value, y: ir.Value, lanes: Sequence[int]) -> ir.Value:
    mask = ir.Constant(ir.VectorType(I32, len(lanes)), [I32(lane) for lane in lanes])
    return b.shuffle_vector(x, y, mask)


def _swap_bytes(b: ir.IRBuilder, words: ir.Value) -> ir.Value:
    """Every 32-bit word of a vector, from big-endian memory on a little-endian CPU."""
    suffix = f"v{words.type.count}i32"
    return intrinsic(b, f"llvm.bswap.{suffix}", words.type, [words])


def _interleave_masks(width: int, unit: int) -> tuple[list[int], list[int]]:
    """Masks that interleave the low (high) halves of each 128-bit part of two vectors of i32, in
    units of `unit` words: what x86 calls unpack, one instruction on every vector width."""
    low: list[int] = []
    high: list[int] = []
    for part in range(0, width, 4):
        for mask, start in (low, part), (high, part + 2):
            for offset in range(0, 2, unit):
                mask += [start + offset + i for i in range(unit)]
                mask += [width + start + offset + i for i in range(unit)]
    return low, high


def transpose(b: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """A square of words: rows[i][j] -> result[j][i], by log2(n) * n shuffles of one instruction."""
    n = len(rows)
    low1, high1 = _interleave_masks(n, 1)
    low2, high2 = _interleave_masks(n, 2)
    result: list[ir.Value] = []
    # 4 x 4 squares within the 128-bit parts
    for i in range(0, n, 4):
        r0, r1, r2, r3 = rows[i : i + 4]
        a0, a1 = shuffle(b, r0, r1, low1), shuffle(b, r0, r1, high1)
        a2, a3 = shuffle(b, r2, r3, low1), shuffle(b, r2, r3, high1)
        result += [shuffle(b, a0, a2, low2), shuffle(b, a0, a2, high2)]
        result += [shuffle(b, a1, a3, low2), shuffle(b, a1, a3, high2)]
    # then squares of 128-bit parts: exchange between vectors that are 4, 8, ... apart
    apart = 4
    while apart < n:
        keep = [c if not c & apart else n + c - apart for c in range(n)]
        cross = [c + apart if not c & apart else n + c for c in range(n)]
        following = list(result)
        for i in range(n):
            if not i & apart:
                x, y = result[i], result[i + apart]
                following[i], following[i + apart] = shuffle(b, x, y, keep), shuffle(b, x, y, cross)
        result = following
        apart *= 2
    return result


def _load_lanes(b: ir.IRBuilder, blocks: Sequence[ir.Value]) -> list[ir.Value]:
    """The 16 message words of one block of each lane, a vector a word, one lane an element."""
    n = len(blocks)
    kind = ir.VectorType(I32, n)
    words: list[ir.Value] = []
    for first in range(0, 16, n):
        rows = [b.load(at(b, block, 4 * first), align=1, typ=kind) for block in blocks]
        words += [_swap_bytes(b, w) for w in transpose(b, rows)]
    return words


def vector_blocks(
    b: ir.IRBuilder, state: ir.Value, pointers: Sequence[ir.Value], count: ir.Value, width: int
) -> None:
    """Compresses count blocks at each pointer into the first columns of state[8][width], a lane of
    a vector each."""
    kind = ir.VectorType(I32, len(pointers))
    words = [at(b, state, 4 * width * k) for k in range(8)]
    start = [b.load(pointer, align=4, typ=kind) for pointer in words]
    size = b.mul(count, i64(BLOCK_BYTES))
    with loop(b, "block", i64(0), size, BLOCK_BYTES, start) as run:
        message = _load_lanes(b, [at(b, pointer, run.index) for pointer in pointers])
        run.next(write((rounds(b, run.values, message), ROUNDS))[0])
    for pointer, value in zip(words, run.values, strict=True):
        b.store(value, pointer, align=4)
