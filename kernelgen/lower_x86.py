# SPDX-License-Identifier: Apache-2.0
"""x86-64: SSE2, AVX2 and AVX-512 for bytes, the SHA extensions for SHA-256."""

from collections.abc import Sequence
from typing import ClassVar

from llvmlite import ir

from . import sha256
from .flow import at, i64, intrinsic, loop
from .kernels import I8, I32, VOID
from .lower import VectorLowering


class X86(VectorLowering):
    """`psadbw` against zero adds 8 neighbouring bytes into a 64-bit lane in one instruction."""

    psadbw: ClassVar[str]
    group = 1

    def sum_add(self, b: ir.IRBuilder, sums: ir.Value, vectors: Sequence[ir.Value]) -> ir.Value:
        zero = ir.Constant(self.vector_type, None)
        for vector in vectors:
            sums = b.add(sums, intrinsic(b, self.psadbw, self._lanes(), [vector, zero]))
        return sums

    def end_streaming(self, b: ir.IRBuilder) -> None:
        # Non-temporal stores are not ordered with others; the next reader must not see old bytes.
        intrinsic(b, "llvm.x86.sse.sfence", VOID, [])


class Sse2(X86):
    vector_bytes = 16
    accumulators = 4
    psadbw = "llvm.x86.sse2.psad.bw"


class Avx2(X86):
    vector_bytes = 32
    accumulators = 8
    psadbw = "llvm.x86.avx2.psad.bw"


class Avx512(X86):
    vector_bytes = 64
    accumulators = 8
    psadbw = "llvm.x86.avx512.psad.bw.512"


QUAD = ir.VectorType(I32, 4)
_BYTES = ir.VectorType(I8, 16)


def _shuffle(b: ir.IRBuilder, x: ir.Value, y: ir.Value, lanes: Sequence[int]) -> ir.Value:
    mask = ir.Constant(ir.VectorType(I32, len(lanes)), [I32(lane) for lane in lanes])
    return b.shuffle_vector(x, y, mask)


class ShaExtensions:
    """SHA-256 by SHA-NI; mixed into a lowering in place of its hash.

    `sha256rnds2` does two rounds on the state as (A B E F), (C D G H), highest lane first, which is
    why the state is shuffled on the way in and out. The message schedule stands between the two
    `sha256rnds2` of each four rounds, where it fills the wait for the first; in the plain order
    the same instructions take 1.7 times as long.
    """

    def sha256_blocks(
        self, b: ir.IRBuilder, state: ir.Value, blocks: ir.Value, count: ir.Value
    ) -> None:
        low, high = at(b, state, 0), at(b, state, 16)
        abcd, efgh = (b.load(pointer, align=4, typ=QUAD) for pointer in (low, high))
        abef = _shuffle(b, efgh, abcd, (1, 0, 5, 4))
        cdgh = _shuffle(b, efgh, abcd, (3, 2, 7, 6))
        size = b.mul(count, i64(sha256.BLOCK_BYTES))
        with loop(b, "block", i64(0), size, sha256.BLOCK_BYTES, [abef, cdgh]) as run:
            message = [self._load(b, at(b, blocks, run.index, 16 * k)) for k in range(4)]
            run.next(self._compress(b, run.values, message))
        abef, cdgh = run.values
        b.store(_shuffle(b, abef, cdgh, (3, 2, 7, 6)), low, align=4)
        b.store(_shuffle(b, abef, cdgh, (1, 0, 5, 4)), high, align=4)

    @staticmethod
    def _load(b: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
        """Four big-endian words."""
        swap = [4 * (i // 4) + 3 - i % 4 for i in range(16)]
        raw = b.load(pointer, align=1, typ=_BYTES)
        return b.bitcast(_shuffle(b, raw, raw, swap), QUAD)

    @staticmethod
    def _compress(
        b: ir.IRBuilder, state: Sequence[ir.Value], message: Sequence[ir.Value]
    ) -> list[ir.Value]:
        abef, cdgh = state
        w = list(message)
        for four in range(sha256.ROUNDS // 4):
            constants = ir.Constant(QUAD, [I32(k) for k in sha256.K[4 * four : 4 * four + 4]])
            wk = b.add(w[four], constants)
            cdgh = intrinsic(b, "llvm.x86.sha256rnds2", QUAD, [cdgh, abef, wk])
            # W[t] = sigma1(W[t-2]) + W[t-7] + sigma0(W[t-15]) + W[t-16], four words at a time
            if 3 <= four < 15:
                sigma0 = intrinsic(b, "llvm.x86.sha256msg1", QUAD, [w[four - 3], w[four - 2]])
                seventh = _shuffle(b, w[four - 1], w[four], (1, 2, 3, 4))
                partial = b.add(sigma0, seventh)
                w.append(intrinsic(b, "llvm.x86.sha256msg2", QUAD, [partial, w[four]]))
            wk_high = _shuffle(b, wk, wk, (2, 3, 0, 0))
            abef = intrinsic(b, "llvm.x86.sha256rnds2", QUAD, [abef, cdgh, wk_high])
        return [b.add(abef, state[0]), b.add(cdgh, state[1])]
