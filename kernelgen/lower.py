# SPDX-License-Identifier: Apache-2.0
"""What `describe` asks of an instruction set, and the portable answer for any LLVM target."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from llvmlite import ir

from . import sha256
from .flow import i64, intrinsic
from .kernels import I8, I32, I64, VOID


def chunk_type(width: int) -> ir.Type:
    """The IR type of `width` bytes that move as one: an integer up to 8 bytes, then a vector."""
    return ir.IntType(8 * width) if width <= 8 else ir.VectorType(I8, width)


class Lowering(ABC):
    """How one instruction set loads, stores, sums and hashes.

    vector_bytes: bytes that one load moves. accumulators: independent sums in the main loop, so
    that additions overlap. group: vectors that one step adds to one accumulator. masks_tails:
    whether keep_last is there. prefetch_bytes: how far ahead sums of long regions fetch; 0: not.
    in_order: whether instructions are to stay in the order in which they are written.
    """

    vector_bytes: ClassVar[int]
    accumulators: ClassVar[int]
    group: ClassVar[int]
    masks_tails: ClassVar[bool]
    prefetch_bytes: ClassVar[int] = 0
    in_order: ClassVar[bool] = False

    @property
    def vector_type(self) -> ir.Type:
        return chunk_type(self.vector_bytes)

    # --- memory ---

    def load(self, b: ir.IRBuilder, pointer: ir.Value, width: int | None = None) -> ir.Value:
        """The `width` bytes at pointer (default: a vector), at any alignment."""
        kind = chunk_type(width or self.vector_bytes)
        return b.load(pointer, align=1, typ=kind)

    def prefetch(self, b: ir.IRBuilder, pointer: ir.Value) -> None:
        """Asks for the cache line of pointer in the second-level cache; never faults."""
        read, locality, data = (ir.Constant(ir.IntType(32), value) for value in (0, 2, 1))
        intrinsic(b, "llvm.prefetch.p0", VOID, [pointer, read, locality, data])

    def store_streaming(self, b: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
        """Stores a vector to an aligned address past the cache, where the CPU can do so."""
        store = b.store(value, pointer, align=self.vector_bytes)
        store.set_metadata("nontemporal", b.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))

    def end_streaming(self, b: ir.IRBuilder) -> None:
        """Orders streaming stores before all that follows; where they are ordinary, nothing."""
        return

    def splat(self, b: ir.IRBuilder, byte: ir.Value, width: int | None = None) -> ir.Value:
        """`width` copies of a byte."""
        kind = chunk_type(width or self.vector_bytes)
        if isinstance(kind, ir.VectorType):
            one = b.insert_element(ir.Constant(kind, ir.Undefined), byte, ir.IntType(32)(0))
            lanes = ir.VectorType(ir.IntType(32), kind.count)
            return b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(lanes, None))
        ones = ir.Constant(kind, int.from_bytes(b"\x01" * (kind.width // 8), "little"))
        return byte if kind == I8 else b.mul(b.zext(byte, kind), ones)

    # --- sums of bytes ---

    @abstractmethod
    def sum_zero(self) -> ir.Constant:
        """An accumulator that holds 0."""

    @abstractmethod
    def sum_add(self, b: ir.IRBuilder, sums: ir.Value, vectors: Sequence[ir.Value]) -> ir.Value:
        """The accumulator plus all bytes of at most `group` vectors; never overflows."""

    @abstractmethod
    def sum_total(self, b: ir.IRBuilder, sums: Sequence[ir.Value]) -> ir.Value:
        """The accumulators' total as an i64."""

    def keep_last(self, b: ir.IRBuilder, vector: ir.Value, count: ir.Value) -> ir.Value:
        """The vector with all but its last `count` (an i64) bytes cleared."""
        raise NotImplementedError(f"{type(self).__name__} does not mask tails")

    # --- SHA-256 ---

    def sha256_blocks(
        self, b: ir.IRBuilder, state: ir.Value, blocks: ir.Value, count: ir.Value
    ) -> None:
        """Compresses blocks into state[8]; by default in scalar form."""
        sha256.scalar_blocks(b, state, blocks, count)

    @property
    def lanes(self) -> int:
        """How many messages sha256_lanes_blocks takes at once."""
        return 1

    def sha256_lanes_blocks(self, b: ir.IRBuilder, lanes: sha256.Lanes) -> ir.Value:
        """Compresses blocks of `lanes` messages; returns the kernel's result."""
        sha256.scalar_blocks(b, lanes.state, lanes.pointers(b, 1)[0], lanes.count)
        return I32(0)


class Portable(Lowering):
    """Words of 8 bytes, summed within the register; knows neither the CPU nor its byte order."""

    vector_bytes = 8
    accumulators = 1
    group = 8
    masks_tails = False

    def sum_zero(self) -> ir.Constant:
        return i64(0)

    def sum_add(self, b: ir.IRBuilder, sums: ir.Value, vectors: Sequence[ir.Value]) -> ir.Value:
        # 8 bytes -> 4 sums of 16 bits, each at most 2 * 255 a word, so 8 words never overflow.
        assert len(vectors) <= self.group
        quads = [self._fold(b, word, 8, 0x00FF00FF00FF00FF) for word in vectors]
        quad = quads[0]
        for other in quads[1:]:
            quad = b.add(quad, other)
        pair = self._fold(b, quad, 16, 0x0000FFFF0000FFFF)
        return b.add(sums, self._fold(b, pair, 32, 0x00000000FFFFFFFF))

    @staticmethod
    def _fold(b: ir.IRBuilder, word: ir.Value, shift: int, mask: int) -> ir.Value:
        """Adds neighbours: (word & mask) + ((word >> shift) & mask)."""
        low = b.and_(word, i64(mask))
        high = b.and_(b.lshr(word, i64(shift)), i64(mask))
        return b.add(low, high)

    def sum_total(self, b: ir.IRBuilder, sums: Sequence[ir.Value]) -> ir.Value:
        total = sums[0]
        for other in sums[1:]:
            total = b.add(total, other)
        return total


class VectorLowering(Lowering):
    """What all vector units share: accumulators of i64 lanes, and masks by lane number.
    Lane 0 is the lowest address, so these are for little-endian targets."""

    masks_tails = True

    def sha256_blocks(
        self, b: ir.IRBuilder, state: ir.Value, blocks: ir.Value, count: ir.Value
    ) -> None:
        sha256.vector_schedule_blocks(b, state, blocks, count)

    @property
    def lanes(self) -> int:
        return self.vector_bytes // 4  # a 32-bit word each

    def sha256_lanes_blocks(self, b: ir.IRBuilder, lanes: sha256.Lanes) -> ir.Value:
        pointers = lanes.pointers(b, self.lanes)
        sha256.vector_blocks(b, lanes.state, pointers, lanes.count, self.lanes)
        return I32(0)

    def _lanes(self) -> ir.VectorType:
        return ir.VectorType(I64, self.vector_bytes // 8)

    def sum_zero(self) -> ir.Constant:
        return ir.Constant(self._lanes(), None)

    def sum_total(self, b: ir.IRBuilder, sums: Sequence[ir.Value]) -> ir.Value:
        total = sums[0]
        for other in sums[1:]:
            total = b.add(total, other)
        lanes = self._lanes().count
        return intrinsic(b, f"llvm.vector.reduce.add.v{lanes}i64", I64, [total])

    def keep_last(self, b: ir.IRBuilder, vector: ir.Value, count: ir.Value) -> ir.Value:
        width = self.vector_bytes
        lane = ir.Constant(self.vector_type, [I8(i) for i in range(width)])
        first = self.splat(b, b.trunc(b.sub(i64(width), count), I8))
        return b.select(
            b.icmp_unsigned(">=", lane, first), vector, ir.Constant(self.vector_type, None)
        )
