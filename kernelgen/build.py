# SPDX-License-Identifier: Apache-2.0
"""Modules of IR: a kernel set's functions and its table, from what describe and lower say."""

from collections.abc import Sequence

from llvmlite import ir

from . import describe
from .grid import GridKernel
from .kernels import I8, I64, KERNELS, POINTER, TABLE_TYPE, VOID, kernel
from .lower import Lowering
from .lower_grid import Grid
from .targets import KernelSet


def define(
    module: ir.Module, symbol: str, kind: ir.FunctionType, names: Sequence[str]
) -> tuple[ir.IRBuilder, *tuple[ir.Argument, ...]]:
    """A function with an empty entry block: its builder and its arguments."""
    function = ir.Function(module, kind, name=symbol)
    function.attributes.add("nounwind")
    if isinstance(kind.return_type, ir.IntType) and kind.return_type.width < 64:
        # Some CPUs' callers read the whole register, and it is the callee that must clear the rest.
        function.return_value.add_attribute("zeroext")
    for argument, name in zip(function.args, names, strict=True):
        argument.name = name
    return ir.IRBuilder(function.append_basic_block("entry")), *function.args


def add_kernel(module: ir.Module, name: str, symbol: str, low: Lowering) -> ir.Function:
    """Adds one kernel of one lowering to a module."""
    entry = kernel(name)
    b, *arguments = define(module, symbol, entry.ir_type(), [n for _, n in entry.parameters])
    describe.BODIES[name](b, low, *arguments)
    return b.function


def kernel_set_module(kernel_set: KernelSet) -> ir.Module:
    """A set's own kernels, and the table that the runtime calls through."""
    module = ir.Module(f"atlas12288.{kernel_set.name}")
    low = kernel_set.lowering()
    for name in kernel_set.own_kernels():
        add_kernel(module, name, kernel_set.symbol(name), low)

    text = bytearray(kernel_set.name.encode() + b"\0")
    name_type = ir.ArrayType(I8, len(text))
    name_global = ir.GlobalVariable(module, name_type, f"atlas.kernel.name.{kernel_set.identifier}")
    name_global.linkage = "internal"
    name_global.global_constant = True
    name_global.initializer = ir.Constant(name_type, text)

    members: list[ir.Value] = [name_global.gep([I64(0), I64(0)])]
    for entry in KERNELS:
        symbol = kernel_set.symbol(entry.name)
        function = module.globals.get(symbol) or ir.Function(module, entry.ir_type(), name=symbol)
        members.append(function)
    members = [member.bitcast(POINTER) for member in members]
    table = ir.GlobalVariable(module, TABLE_TYPE, kernel_set.table_symbol)
    table.global_constant = True
    table.initializer = ir.Constant(TABLE_TYPE, [*members, I64(low.lanes)])
    return module


def grid_module(entry: GridKernel, low: Grid) -> ir.Module:
    """One kernel of a grid. Lowered to a CPU, it has the group's number as one more argument."""
    module = ir.Module(f"atlas12288.{entry.name}")
    names = [*entry.parameters, *(["group"] if not low.convention else [])]
    kind = ir.FunctionType(VOID, [I64] * len(names))
    b, *arguments = define(module, entry.name, kind, names)
    b.function.calling_convention = low.convention
    entry.body(b, low, *arguments[: len(entry.parameters)])
    return module
