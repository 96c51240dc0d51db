# SPDX-License-Identifier: Apache-2.0
"""SPIR-V of OpenCL, which drivers of Intel and others compile: a thread a message, and a window.

Compiled for tests: no release has these kernels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from .flow import intrinsic
from .kernels import I32, I64, VOID
from .lower_grid import Grid

_GLOBAL = ir.PointerType(addrspace=1)
_GLOBAL_FENCE = I32(2)  # CLK_GLOBAL_MEM_FENCE


def _call(
    b: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Constant]
) -> ir.Value:
    """A function of OpenCL C, by its mangled name; LLVM writes instructions in its place."""
    call = intrinsic(b, name, result, arguments)
    call.callee.calling_convention = call.cconv = "spir_func"
    call.callee.attributes.add("convergent")  # a barrier stays where it is
    return call


class Spirv(Grid):
    """Threads and barriers of OpenCL 1.2. A team is a thread: sums of several need an extension."""

    convention = "spir_kernel"

    def thread(self, b: ir.IRBuilder) -> ir.Value:
        return _call(b, "_Z13get_global_idj", I64, [I32(0)])

    def group(self, b: ir.IRBuilder) -> ir.Value:
        return _call(b, "_Z12get_group_idj", I64, [I32(0)])

    @contextmanager
    def together(self, b: ir.IRBuilder, name: str, count: ir.Value) -> Iterator[ir.Value]:
        own = _call(b, "_Z12get_local_idj", I64, [I32(0)])
        with b.if_then(b.icmp_signed("<", own, count)):
            yield own
        _call(b, "_Z7barrierj", VOID, [_GLOBAL_FENCE])

    def pointer(self, b: ir.IRBuilder, address: ir.Value) -> ir.Value:
        return b.inttoptr(address, _GLOBAL)
