# SPDX-License-Identifier: Apache-2.0
"""SHA-256 on CPUs that have instructions for it: one message, or a few interleaved."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from llvmlite import ir

from . import sha256
from .flow import at, i64, loop
from .kernels import I8, I32
from .lower import Lowering

QUAD = sha256.QUAD
_BYTES = ir.VectorType(I8, 16)


class HashInstructions(Lowering):
    """SHA-256 four rounds at a time, on a state in two registers of four words.

    One message waits for the latency of each instruction, and others use the wait. Mixed into a
    lowering in place of its hash.
    """

    messages: ClassVar[int]  # at once: the lanes
    fewer: ClassVar[int] = 0  # at once, where no more are used; 0: always all lanes
    state_words: ClassVar[tuple[Sequence[int], Sequence[int]]]  # a..h as 0..7, lowest lane first
    steps_count: ClassVar[int]

    @property
    def lanes(self) -> int:
        return self.messages

    @abstractmethod
    def steps(
        self, b: ir.IRBuilder, state: Sequence[ir.Value], message: Sequence[ir.Value]
    ) -> sha256.Steps:
        """One compression, in steps_count steps that are worth interleaving."""

    def sha256_blocks(
        self, b: ir.IRBuilder, state: ir.Value, blocks: ir.Value, count: ir.Value
    ) -> None:
        self._streams(b, state, [blocks], count, 1)

    def sha256_lanes_blocks(self, b: ir.IRBuilder, lanes: sha256.Lanes) -> ir.Value:
        def streams(count: int) -> None:
            pointers = lanes.pointers(b, count)
            self._streams(b, lanes.state, pointers, lanes.count, self.messages)

        if self.fewer:
            with b.if_else(b.icmp_unsigned("<=", lanes.used, i64(self.fewer))) as (few, many):
                with few:
                    streams(self.fewer)
                with many:
                    streams(self.messages)
        else:
            streams(self.messages)
        return I32(0)

    def _streams(
        self,
        b: ir.IRBuilder,
        state: ir.Value,
        streams: Sequence[ir.Value],
        count: ir.Value,
        width: int,
    ) -> None:
        """Compresses count blocks of each stream into the first columns of state[8][width]."""
        n = len(streams)
        registers = [
            self._gather(b, [at(b, state, 4 * (width * word + lane)) for word in words])
            for lane in range(n)
            for words in self.state_words
        ]
        size = b.mul(count, i64(sha256.BLOCK_BYTES))
        with loop(b, "block", i64(0), size, sha256.BLOCK_BYTES, registers) as run:
            steps = []
            for lane, blocks in enumerate(streams):
                message = [self._load(b, at(b, blocks, run.index, 16 * k)) for k in range(4)]
                pair = run.values[2 * lane : 2 * lane + 2]
                steps.append((self.steps(b, pair, message), self.steps_count))
            run.next([register for pair in sha256.write(*steps) for register in pair])
        for lane in range(n):
            for words, register in zip(
                self.state_words, run.values[2 * lane : 2 * lane + 2], strict=True
            ):
                for k, word in enumerate(words):
                    pointer = at(b, state, 4 * (width * word + lane))
                    b.store(b.extract_element(register, I32(k)), pointer, align=4)

    @staticmethod
    def _gather(b: ir.IRBuilder, words: Sequence[ir.Value]) -> ir.Value:
        register = ir.Constant(QUAD, ir.Undefined)
        for k, word in enumerate(words):
            register = b.insert_element(register, b.load(word, align=4, typ=I32), I32(k))
        return register

    @staticmethod
    def _load(b: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
        """Four big-endian words."""
        swap = [4 * (i // 4) + 3 - i % 4 for i in range(16)]
        raw = b.load(pointer, align=1, typ=_BYTES)
        return b.bitcast(sha256.shuffle(b, raw, raw, swap), QUAD)
