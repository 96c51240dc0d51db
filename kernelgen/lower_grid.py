# SPDX-License-Identifier: Apache-2.0
"""What `grid` asks of a machine of many threads; the answers here run on any LLVM target.

A thread takes one message: a window, or a pair of hashes. Threads come in groups that can wait for
each other, and in teams that add up sums together. With its number as the function's last argument
a group is one thread of a CPU, and does the work of all its threads in turn: so the kernels are
tested where there is no GPU.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from . import sha256
from .flow import at, i64, intrinsic, loop
from .kernels import I8, I32, POINTER

QUAD = ir.VectorType(I32, 4)
QUAD_BYTES = 16
WORD_BYTES = 4


class Grid:
    """One group of one thread, in plain IR.

    team: threads of a team, which a sum is spread over. convention: how kernels are called.
    """

    team = 1
    convention = ""

    # --- threads ---

    def thread(self, b: ir.IRBuilder) -> ir.Value:
        """The number (i64) of this thread in the grid."""
        return b.function.args[-1]

    def group(self, b: ir.IRBuilder) -> ir.Value:
        """The number (i64) of this thread's group in the grid."""
        return b.function.args[-1]

    def member(self, b: ir.IRBuilder) -> ir.Value:
        """The number (i64) of this thread in its team."""
        return i64(0)

    @contextmanager
    def together(self, b: ir.IRBuilder, name: str, count: ir.Value) -> Iterator[ir.Value]:
        """Give the numbers 0..count-1 to the threads of the group; then all wait for each other.

        count (i64) is at most the number of threads of a group, and the same in all of them.
        """
        with loop(b, name, i64(0), count, 1) as turns:
            yield turns.index
            turns.next([])

    def team_sum(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """The sum of a value (i32) of each thread of the team, in all of them."""
        return value

    # --- memory ---

    def pointer(self, b: ir.IRBuilder, address: ir.Value) -> ir.Value:
        """The pointer of an address (i64)."""
        return b.inttoptr(address, POINTER)

    def load_quad(self, b: ir.IRBuilder, pointer: ir.Value, *, constant: bool) -> ir.Value:
        """16 bytes at a pointer of 16-byte alignment; constant: nobody writes them meanwhile."""
        return b.load(pointer, align=QUAD_BYTES, typ=QUAD)

    def load_byte(self, b: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
        """A byte as i32."""
        return b.zext(b.load(pointer, align=1, typ=I8), I32)

    def load_words(
        self, b: ir.IRBuilder, pointer: ir.Value, count: int, *, constant: bool = True
    ) -> list[ir.Value]:
        """`count` words of 4 bytes at a pointer of 16-byte alignment."""
        words = []
        for offset in range(0, WORD_BYTES * count, QUAD_BYTES):
            quad = self.load_quad(b, at(b, pointer, offset), constant=constant)
            words += [b.extract_element(quad, I32(lane)) for lane in range(4)]
        return words

    def store_words(self, b: ir.IRBuilder, pointer: ir.Value, words: Sequence[ir.Value]) -> None:
        for first in range(0, len(words), 4):
            quad = ir.Constant(QUAD, ir.Undefined)
            for lane in range(4):
                quad = b.insert_element(quad, words[first + lane], I32(lane))
            b.store(quad, at(b, pointer, WORD_BYTES * first), align=QUAD_BYTES)

    # --- words ---

    def swap(self, b: ir.IRBuilder, word: ir.Value) -> ir.Value:
        """The word with its bytes in the other order."""
        return intrinsic(b, "llvm.bswap.i32", I32, [word])

    def shift_in(self, b: ir.IRBuilder, before: ir.Value, word: ir.Value) -> ir.Value:
        """The big-endian word of the last byte of `before` and the first three of `word`: what the
        prefix byte of a leaf or node makes of two neighbouring words of memory."""
        return self.swap(b, intrinsic(b, "llvm.fshl.i32", I32, [word, before, I32(8)]))

    def add_bytes(self, b: ir.IRBuilder, total: ir.Value, word: ir.Value) -> ir.Value:
        """The total plus the four bytes of a word."""
        mask = I32(0x00FF00FF)
        halves = b.add(b.and_(word, mask), b.and_(b.lshr(word, I32(8)), mask))
        both = b.add(b.and_(halves, I32(0xFFFF)), b.lshr(halves, I32(16)))
        return b.add(total, both)

    def rounds(
        self, b: ir.IRBuilder, state: Sequence[ir.Value], message: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """One compression of SHA-256."""
        return sha256.write((sha256.rounds(b, state, message), sha256.ROUNDS))[0]
