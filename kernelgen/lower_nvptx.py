# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs (PTX): a thread a message for SHA-256, a warp a team for sums.

Figures are of one H200, by kernels of single instructions: a multiprocessor starts 62.6 additions,
logic operations or shifts in a cycle beside 62.6 multiply-adds; of mul.hi and mul.wide, half as
many.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from . import sha256
from .flow import intrinsic
from .kernels import I32, I64, VOID
from .lower_grid import QUAD, QUAD_BYTES, Grid

_GLOBAL = ir.PointerType(addrspace=1)
_EVERYONE = I32(0xFFFFFFFF)


def _special(b: ir.IRBuilder, name: str) -> ir.Value:
    """A special register, as i32: tid.x, ntid.x, ctaid.x, nctaid.y, laneid."""
    return intrinsic(b, f"llvm.nvvm.read.ptx.sreg.{name}", I32, [])


def _permute(b: ir.IRBuilder, low: ir.Value, high: ir.Value, selector: int) -> ir.Value:
    """prmt: four bytes of eight, a hexadecimal digit each, the last digit the lowest byte."""
    return intrinsic(b, "llvm.nvvm.prmt", I32, [low, high, I32(selector)])


class Nvptx(Grid):
    """prmt for the order of bytes, dp4a for their sums."""

    team = 32
    convention = "ptx_kernel"

    def thread(self, b: ir.IRBuilder) -> ir.Value:
        threads = b.zext(_special(b, "ntid.x"), I64)
        return b.add(b.mul(self.group(b), threads), self._own(b))

    def group(self, b: ir.IRBuilder) -> ir.Value:
        return b.zext(_special(b, "ctaid.x"), I64)

    def member(self, b: ir.IRBuilder) -> ir.Value:
        return b.zext(_special(b, "laneid"), I64)

    def _own(self, b: ir.IRBuilder) -> ir.Value:
        """The number of this thread in its group."""
        return b.zext(_special(b, "tid.x"), I64)

    @contextmanager
    def together(self, b: ir.IRBuilder, name: str, count: ir.Value) -> Iterator[ir.Value]:
        own = self._own(b)
        with b.if_then(b.icmp_signed("<", own, count)):
            yield own
        intrinsic(b, "llvm.nvvm.barrier.cta.sync.aligned.all", VOID, [I32(0)])

    def team_sum(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        return intrinsic(b, "llvm.nvvm.redux.sync.add", I32, [value, _EVERYONE])

    def pointer(self, b: ir.IRBuilder, address: ir.Value) -> ir.Value:
        return b.inttoptr(address, _GLOBAL)

    def load_quad(self, b: ir.IRBuilder, pointer: ir.Value, *, constant: bool) -> ir.Value:
        quad = b.load(pointer, align=QUAD_BYTES, typ=QUAD)
        if constant:  # ld.global.nc
            quad.set_metadata("invariant.load", b.module.add_metadata([]))
        return quad

    def swap(self, b: ir.IRBuilder, word: ir.Value) -> ir.Value:
        return _permute(b, word, word, 0x0123)

    def shift_in(self, b: ir.IRBuilder, before: ir.Value, word: ir.Value) -> ir.Value:
        return _permute(b, before, word, 0x3456)

    def add_bytes(self, b: ir.IRBuilder, total: ir.Value, word: ir.Value) -> ir.Value:
        return intrinsic(b, "llvm.nvvm.idp4a.u.u", I32, [word, I32(0x01010101), total])


class NvptxMad(Nvptx):
    """Additions of the rounds as multiply-adds by 1, on the pipe beside shifts and logic.

    ptxas leaves most additions on the pipe that the rounds are short of (790 GB/s where this makes
    865). The 1 is a number of the launch, so that neither LLVM nor ptxas sees that it is 1, and the
    instruction is given as such: a multiplication and an addition would be turned back.
    """

    def rounds(
        self, b: ir.IRBuilder, state: Sequence[ir.Value], message: Sequence[ir.Value]
    ) -> list[ir.Value]:
        one = _special(b, "nctaid.y")

        def add(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
            kind = ir.FunctionType(I32, [I32] * 3)
            return b.asm(kind, "mad.lo.u32 $0, $1, $2, $3;", "=r,r,r,r", [x, one, y], False)

        return sha256.write((sha256.rounds(b, state, message, add), sha256.ROUNDS))[0]
