# SPDX-License-Identifier: Apache-2.0
"""aarch64: NEON for bytes, the SHA-2 extension for SHA-256."""

from collections.abc import Sequence

from llvmlite import ir

from . import sha256
from .flow import intrinsic
from .kernels import I16, I32, I64
from .lower import VectorLowering
from .lower_hash import QUAD, HashInstructions


class Neon(VectorLowering):
    """`uadalp` adds neighbouring lanes into lanes of twice the width: 8 -> 16 -> 32 -> 64 bits."""

    vector_bytes = 16
    accumulators = 2
    group = 4

    def sum_add(self, b: ir.IRBuilder, sums: ir.Value, vectors: Sequence[ir.Value]) -> ir.Value:
        # A 16-bit lane takes 2 * 255 from each vector: 4 vectors never overflow it.
        assert len(vectors) <= self.group
        sixteen = self._pairs(b, vectors[0], I16)
        for vector in vectors[1:]:
            sixteen = b.add(sixteen, self._pairs(b, vector, I16))
        return b.add(sums, self._pairs(b, self._pairs(b, sixteen, I32), I64))

    @staticmethod
    def _pairs(b: ir.IRBuilder, vector: ir.Value, element: ir.IntType) -> ir.Value:
        """Sums of neighbouring lanes, in lanes of twice the width."""
        old = vector.type
        wide = ir.VectorType(element, old.count // 2)
        name = f"llvm.aarch64.neon.uaddlp.v{wide.count}i{element.width}"
        return intrinsic(b, f"{name}.v{old.count}i{old.element.width}", wide, [vector])


class Sha2Extension(HashInstructions):
    """`sha256h`, `sha256h2` and the two schedule instructions.

    Not measured; by llvm-mca 19, in cycles for a block of 64 bytes with one, two, three and four
    messages: Neoverse N1, N2 and V2 98, 57, 57 and 57; V1 98, 49, 44 and 44; Apple M1 130, 65, 57
    and 57; Cortex-A55 146, 141, 141 and 131. A block has 56 of these instructions, and all but V1
    start one in a cycle.
    """

    messages = 4
    fewer = 2
    state_words = ((0, 1, 2, 3), (4, 5, 6, 7))
    steps_count = sha256.ROUNDS // 4

    def steps(
        self, b: ir.IRBuilder, state: Sequence[ir.Value], message: Sequence[ir.Value]
    ) -> sha256.Steps:
        def sha(name: str, *arguments: ir.Value) -> ir.Value:
            return intrinsic(b, f"llvm.aarch64.crypto.{name}", QUAD, arguments)

        abcd, efgh = state
        w = list(message)
        for four in range(sha256.ROUNDS // 4):
            wk = b.add(w[four], sha256.quad_constants(four))
            if len(w) < sha256.ROUNDS // 4:
                partial = sha("sha256su0", w[four], w[four + 1])
                w.append(sha("sha256su1", partial, w[four + 2], w[four + 3]))
            abcd, efgh = sha("sha256h", abcd, efgh, wk), sha("sha256h2", efgh, abcd, wk)
            yield
        return [b.add(abcd, state[0]), b.add(efgh, state[1])]
