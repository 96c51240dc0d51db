# SPDX-License-Identifier: Apache-2.0
"""wasm32: simd128."""

from collections.abc import Sequence

from llvmlite import ir

from .flow import intrinsic
from .kernels import I16, I32, I64
from .lower import VectorLowering


class Simd128(VectorLowering):
    """`extadd_pairwise` adds neighbouring lanes into lanes of twice the width: 8 -> 16 -> 32 bits.
    For the last step, to 64 bits, there is none: the two halves are widened and added."""

    vector_bytes = 16
    accumulators = 2
    group = 8

    def sum_add(self, b: ir.IRBuilder, sums: ir.Value, vectors: Sequence[ir.Value]) -> ir.Value:
        # A 16-bit lane takes 2 * 255 from each vector: 8 vectors never overflow it.
        assert len(vectors) <= self.group
        sixteen = self._pairs(b, vectors[0], I16)
        for vector in vectors[1:]:
            sixteen = b.add(sixteen, self._pairs(b, vector, I16))
        thirty_two = self._pairs(b, sixteen, I32)
        for half in (0, 1), (2, 3):
            lanes = ir.Constant(ir.VectorType(I32, 2), [I32(lane) for lane in half])
            words = b.shuffle_vector(thirty_two, thirty_two, lanes)
            sums = b.add(sums, b.zext(words, ir.VectorType(I64, 2)))
        return sums

    @staticmethod
    def _pairs(b: ir.IRBuilder, vector: ir.Value, element: ir.IntType) -> ir.Value:
        """Sums of neighbouring lanes, in lanes of twice the width."""
        wide = ir.VectorType(element, vector.type.count // 2)
        name = f"llvm.wasm.extadd.pairwise.unsigned.v{wide.count}i{element.width}"
        return intrinsic(b, name, wide, [vector])
