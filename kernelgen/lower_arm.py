# SPDX-License-Identifier: Apache-2.0
"""aarch64: NEON for bytes, the SHA-2 extension for SHA-256."""

from collections.abc import Sequence

from llvmlite import ir

from . import sha256
from .flow import at, i64, intrinsic, loop
from .kernels import I8, I16, I32, I64
from .lower import VectorLowering

_BYTES = ir.VectorType(I8, 16)
_QUAD = ir.VectorType(I32, 4)


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


class Sha2Extension:
    """SHA-256 by `sha256h`, `sha256h2` and the two schedule instructions, four rounds at a time."""

    def sha256_blocks(
        self, b: ir.IRBuilder, state: ir.Value, blocks: ir.Value, count: ir.Value
    ) -> None:
        low, high = at(b, state, 0), at(b, state, 16)
        start = [b.load(pointer, align=4, typ=_QUAD) for pointer in (low, high)]
        size = b.mul(count, i64(sha256.BLOCK_BYTES))
        with loop(b, "block", i64(0), size, sha256.BLOCK_BYTES, start) as run:
            message = [self._load(b, at(b, blocks, run.index, 16 * k)) for k in range(4)]
            run.next(self._compress(b, run.values, message))
        for pointer, value in zip((low, high), run.values, strict=True):
            b.store(value, pointer, align=4)

    @staticmethod
    def _load(b: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
        """Four big-endian words."""
        raw = b.load(pointer, align=1, typ=_BYTES)
        swap = ir.Constant(
            ir.VectorType(I32, 16), [I32(4 * (i // 4) + 3 - i % 4) for i in range(16)]
        )
        return b.bitcast(b.shuffle_vector(raw, raw, swap), _QUAD)

    @staticmethod
    def _compress(
        b: ir.IRBuilder, state: Sequence[ir.Value], message: Sequence[ir.Value]
    ) -> list[ir.Value]:
        def sha(name: str, *arguments: ir.Value) -> ir.Value:
            return intrinsic(b, f"llvm.aarch64.crypto.{name}", _QUAD, arguments)

        abcd, efgh = state
        w = list(message)
        for four in range(sha256.ROUNDS // 4):
            constants = ir.Constant(_QUAD, [I32(k) for k in sha256.K[4 * four : 4 * four + 4]])
            wk = b.add(w[four], constants)
            if four < 12:
                partial = sha("sha256su0", w[four], w[four + 1])
                w.append(sha("sha256su1", partial, w[four + 2], w[four + 3]))
            abcd, efgh = sha("sha256h", abcd, efgh, wk), sha("sha256h2", efgh, abcd, wk)
        return [b.add(abcd, state[0]), b.add(efgh, state[1])]
