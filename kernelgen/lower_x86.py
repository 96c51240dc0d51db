# SPDX-License-Identifier: Apache-2.0
"""x86-64: SSE2, AVX2 and AVX-512 for bytes, the SHA extensions for SHA-256."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from llvmlite import ir

from . import sha256
from .flow import at, i64, intrinsic, loop
from .kernels import I32, VOID
from .lower import VectorLowering
from .lower_hash import QUAD, HashInstructions


class X86(VectorLowering):
    """`psadbw` against zero adds 8 neighbouring bytes into a 64-bit lane in one instruction."""

    psadbw: ClassVar[str]
    group = 1
    # Measured on Zen 4: 5 to 13 % more from memory; 1 KiB does a little less, 4 KiB harms.
    prefetch_bytes = 2048

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


class ShaExtensions(HashInstructions):
    """SHA-NI. `sha256rnds2` does two rounds on the state as (A B E F) and (C D G H), highest lane
    first.

    The message schedule stands between the two `sha256rnds2` of each four rounds, where it fills
    the wait for the first; in the plain order the same instructions take 1.7 times as long. Words
    of the message are in memory, which leaves the registers to three messages at once. Measured on
    Zen 3, in GB/s: one 1.6; in registers two 2.9, three 3.1, four 3.3; in memory two 3.2, three
    3.7, four 3.3. The bound of the unit that has these instructions is 3.7.
    """

    messages = 3
    state_words = ((5, 4, 1, 0), (7, 6, 3, 2))
    steps_count = sha256.ROUNDS // 4

    def steps(
        self, b: ir.IRBuilder, state: Sequence[ir.Value], message: Sequence[ir.Value]
    ) -> sha256.Steps:
        abef, cdgh = state
        before, w = sha256.Quads(b, 2), sha256.Quads(b, sha256.ROUNDS // 4)
        for index, quad in enumerate(state):
            before[index] = quad
        for index, quad in enumerate(message):
            w[index] = quad
        for four in range(sha256.ROUNDS // 4):
            wk = b.add(w[four], sha256.quad_constants(four))
            cdgh = intrinsic(b, "llvm.x86.sha256rnds2", QUAD, [cdgh, abef, wk])
            # W[t] = sigma1(W[t-2]) + W[t-7] + sigma0(W[t-15]) + W[t-16], four words at a time
            if len(message) - 1 <= four < sha256.ROUNDS // 4 - 1:
                newest = w[four]
                sigma0 = intrinsic(b, "llvm.x86.sha256msg1", QUAD, [w[four - 3], w[four - 2]])
                seventh = sha256.shuffle(b, w[four - 1], newest, (1, 2, 3, 4))
                partial = b.add(sigma0, seventh)
                w[four + 1] = intrinsic(b, "llvm.x86.sha256msg2", QUAD, [partial, newest])
            wk_high = sha256.shuffle(b, wk, wk, (2, 3, 0, 0))
            abef = intrinsic(b, "llvm.x86.sha256rnds2", QUAD, [abef, cdgh, wk_high])
            yield
        return [b.add(abef, before[0]), b.add(cdgh, before[1])]


class ShaBesideLanes(ShaExtensions):
    """Many messages in the lanes of vectors; few, and the rest of some, by the SHA instructions,
    three at a time and then alone.

    Measured on Emerald Rapids in cycles for a block of 64 bytes: one message 131, three 98; in
    lanes eight 80, sixteen 62. `sha256rnds2` starts in every third cycle there, so no code that
    uses it takes less than 96.
    """

    few = 6  # messages that take less time by three and by one than in half of the lanes
    half = 11  # the same of half of the lanes, and the rest by three and by one

    @property
    def lanes(self) -> int:
        return self.vector_bytes // 4

    def sha256_lanes_blocks(self, b: ir.IRBuilder, lanes: sha256.Lanes) -> ir.Value:
        def in_lanes(count: int) -> None:
            pointers = lanes.pointers(b, count)
            sha256.vector_blocks(b, lanes.state, pointers, lanes.count, self.lanes)

        with b.if_else(b.icmp_unsigned("<=", lanes.used, i64(self.half))) as (some, many):
            with some:
                enough = b.icmp_unsigned(">", lanes.used, i64(self.few))
                first = b.select(enough, i64(self.lanes // 2), i64(0))
                with b.if_then(enough):
                    in_lanes(self.lanes // 2)
                    # In use, the upper halves of registers cost each SHA instruction 400 cycles.
                    intrinsic(b, "llvm.x86.avx.vzeroupper", VOID, [])
                for name, messages in ("three", self.messages), ("one", 1):
                    with loop(b, name, first, lanes.used, messages) as run:
                        state = at(b, lanes.state, b.mul(run.index, i64(4)))
                        blocks = at(b, lanes.blocks, b.mul(run.index, i64(8)))
                        pointers = replace(lanes, blocks=blocks).pointers(b, messages)
                        self._streams(b, state, pointers, lanes.count, self.lanes)
                        run.next([])
                    first = run.index
            with many:
                in_lanes(self.lanes)
        return I32(0)
