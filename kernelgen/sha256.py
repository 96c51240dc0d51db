# SPDX-License-Identifier: Apache-2.0
"""SHA-256 (FIPS 180-4) in the arithmetic of any integer type: one i32, or a vector of them.

The scalar form takes one message; vectors of i32 take one message a lane with the same rounds.
"""

from collections.abc import Sequence
from math import isqrt

from llvmlite import ir

from .flow import at, i64, intrinsic, loop
from .kernels import I8, I32

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


def compress(
    b: ir.IRBuilder, state: Sequence[ir.Value], message: Sequence[ir.Value]
) -> list[ir.Value]:
    """One compression (6.2.2): 8 working variables, 16 message words -> the next 8."""
    kind = state[0].type
    w = list(message)
    a, bb, c, d, e, f, g, h = state
    b_xor_c = b.xor(bb, c)
    for t in range(ROUNDS):
        if t >= 16:
            w.append(
                b.add(
                    b.add(_small_sigma(b, w[t - 2], 17, 19, 10), w[t - 7]),
                    b.add(_small_sigma(b, w[t - 15], 7, 18, 3), w[t - 16]),
                )
            )
        # T1 = h + Sigma1(e) + Ch(e, f, g) + K + W;  Ch = g ^ (e & (f ^ g))
        choose = b.xor(g, b.and_(e, b.xor(f, g)))
        t1 = b.add(b.add(h, b.add(constant(kind, K[t]), w[t])), choose)
        t1 = b.add(t1, _big_sigma(b, e, 6, 11, 25))
        # T2 = Sigma0(a) + Maj(a, b, c);  Maj = b ^ ((a ^ b) & (b ^ c)), a ^ b is the next b ^ c
        a_xor_b = b.xor(a, bb)
        majority = b.xor(bb, b.and_(a_xor_b, b_xor_c))
        t2 = b.add(_big_sigma(b, a, 2, 13, 22), majority)
        b_xor_c = a_xor_b
        h, g, f, e, d, c, bb, a = g, f, e, b.add(d, t1), c, bb, a, b.add(t1, t2)
    return [b.add(old, new) for old, new in zip(state, (a, bb, c, d, e, f, g, h), strict=True)]


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
        run.next(compress(b, run.values, message))
    for pointer, value in zip(words, run.values, strict=True):
        b.store(value, pointer, align=4)
