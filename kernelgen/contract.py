# SPDX-License-Identifier: Apache-2.0
"""The contract's three kernels, under its names and types.

They are written once and made twice: for the library, where they go through the table of the
kernel set in use; and as conservation.ll/.bc, a module that is complete in itself.
"""

from collections.abc import Sequence
from typing import Protocol

from llvmlite import ir

from . import describe
from .build import add_kernel, define
from .flow import i64
from .kernels import I64, POINTER, TABLE_TYPE, VOID, kernel, table_index
from .lower import Portable

I1, I7 = ir.IntType(1), ir.IntType(7)

ACTIVE_TABLE = "atlas_kernels_active"  # defined in runtime/dispatch.c

DELTA = "atlas.conserved.delta"
WINDOW_CHECK = "atlas.conserved.window.check"
UPDATE = "atlas.conserved.update"


class CallKernel(Protocol):
    """Calls the kernel of that name, wherever it is."""

    def __call__(self, b: ir.IRBuilder, name: str, arguments: Sequence[ir.Value]) -> ir.Value: ...


def _define_all(module: ir.Module, call: CallKernel) -> None:
    b, before, after, length = define(
        module, DELTA, ir.FunctionType(I7, [POINTER, POINTER, I64]), ("before", "after", "len")
    )
    b.ret(b.trunc(call(b, "delta", [before, after, length]), I7))

    b, data, length = define(
        module, WINDOW_CHECK, ir.FunctionType(I1, [POINTER, I64]), ("data", "len")
    )
    total = call(b, "sum", [data, length])
    b.ret(b.icmp_unsigned("==", describe.residue_of(b, total), i64(0)))

    b, state, chunk, length = define(
        module, UPDATE, ir.FunctionType(VOID, [POINTER, POINTER, I64]), ("state", "chunk", "n")
    )
    # Reduced before it is added to: any i64 is a valid state, and no sum can wrap.
    residue = describe.residue_of(b, b.load(state, typ=I64, align=1))
    total = b.add(residue, call(b, "sum", [chunk, length]))
    b.store(describe.residue_of(b, total), state, align=1)
    b.ret_void()


def entry_module(pointer_bytes: int) -> ir.Module:
    """The library's own: each goes to the kernel set in use."""
    module = ir.Module("atlas12288.entry")
    active = ir.GlobalVariable(module, POINTER, ACTIVE_TABLE)

    def through_table(b: ir.IRBuilder, name: str, arguments: Sequence[ir.Value]) -> ir.Value:
        # Relaxed, as in C: any set gives the same results, and the tables never change.
        table = b.load_atomic(active, "monotonic", pointer_bytes, typ=POINTER)
        slot = b.gep(table, [i64(0), ir.IntType(32)(table_index(name))], source_etype=TABLE_TYPE)
        function = b.load(slot, typ=kernel(name).ir_type().as_pointer())
        return b.call(function, arguments)

    _define_all(module, through_table)
    return module


def standalone_module() -> ir.Module:
    """conservation.ll: the portable kernels inside, no target, no other module needed."""
    module = ir.Module("atlas12288.conservation")
    module.triple = ""  # any target
    functions = {
        name: add_kernel(module, name, f"atlas.kernel.{name}", Portable())
        for name in ("sum", "delta")
    }
    for function in functions.values():
        function.linkage = "internal"

    def direct(b: ir.IRBuilder, name: str, arguments: Sequence[ir.Value]) -> ir.Value:
        return b.call(functions[name], arguments)

    _define_all(module, direct)
    for name in DELTA, WINDOW_CHECK, UPDATE:
        # The library's strong definitions win where both are linked statically.
        module.get_global(name).linkage = "weak_odr"
    return module
