# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs (amdgcn): a thread a message for SHA-256, a wavefront a team for sums.

Compiled for tests, and never run: no release has these kernels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from .flow import at, i64, intrinsic
from .kernels import I1, I32, I64, VOID
from .lower_grid import Grid

_GLOBAL = ir.PointerType(addrspace=1)
_CONSTANT = ir.PointerType(addrspace=4)
_THREADS_OFFSET = 4  # in a dispatch packet of HSA: the threads of a group in x, 16 bits


class Amdgcn(Grid):
    """Threads, barriers and sums of wavefronts of 64, as CDNA (gfx9) has them."""

    team = 64
    convention = "amdgpu_kernel"

    def thread(self, b: ir.IRBuilder) -> ir.Value:
        packet = intrinsic(b, "llvm.amdgcn.dispatch.ptr", _CONSTANT, [])
        threads = b.load(at(b, packet, _THREADS_OFFSET), align=4, typ=ir.IntType(16))
        return b.add(b.mul(self.group(b), b.zext(threads, I64)), self._own(b))

    def group(self, b: ir.IRBuilder) -> ir.Value:
        return b.zext(intrinsic(b, "llvm.amdgcn.workgroup.id.x", I32, []), I64)

    def member(self, b: ir.IRBuilder) -> ir.Value:
        return b.and_(self._own(b), i64(self.team - 1))

    def _own(self, b: ir.IRBuilder) -> ir.Value:
        """The number of this thread in its group."""
        return b.zext(intrinsic(b, "llvm.amdgcn.workitem.id.x", I32, []), I64)

    @contextmanager
    def together(self, b: ir.IRBuilder, name: str, count: ir.Value) -> Iterator[ir.Value]:
        own = self._own(b)
        with b.if_then(b.icmp_signed("<", own, count)):
            yield own
        b.fence("release", "workgroup")
        intrinsic(b, "llvm.amdgcn.s.barrier", VOID, [])
        b.fence("acquire", "workgroup")

    def team_sum(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        return intrinsic(b, "llvm.amdgcn.wave.reduce.add", I32, [value, I32(0)])

    def pointer(self, b: ir.IRBuilder, address: ir.Value) -> ir.Value:
        return b.inttoptr(address, _GLOBAL)

    def add_bytes(self, b: ir.IRBuilder, total: ir.Value, word: ir.Value) -> ir.Value:
        return intrinsic(b, "llvm.amdgcn.udot4", I32, [word, I32(0x01010101), total, I1(0)])
