# SPDX-License-Identifier: Apache-2.0
"""Control flow as context managers, so that Python's indentation is the nesting of the IR."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from llvmlite import ir

from .kernels import I8, I64


def i64(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def at(b: ir.IRBuilder, base: ir.Value, *offsets: ir.Value | int) -> ir.Value:
    """base + the sum of the offsets, in bytes."""
    for offset in offsets:
        if not isinstance(offset, int):
            base = b.gep(base, [offset], source_etype=I8)
        elif offset:
            base = b.gep(base, [i64(offset)], source_etype=I8)
    return base


@dataclass
class Loop:
    """Inside the loop: its index and carried values; call next() once, at the body's end.
    After the loop: the index that it stopped at and the last carried values."""

    index: ir.Value
    values: list[ir.Value]
    _next: list[ir.Value] = field(default_factory=list)

    def next(self, values: Sequence[ir.Value]) -> None:
        self._next = list(values)


@contextmanager
def loop(
    b: ir.IRBuilder,
    name: str,
    start: ir.Value,
    limit: ir.Value,
    step: int,
    values: Sequence[ir.Value] = (),
) -> Iterator[Loop]:
    """for (index = start; index + step <= limit; index += step), with carried values.

    The test stands at the bottom, behind a guard, which is the form that code generators like.
    `start` and `limit` must be less than 2^63: the test is index <= limit - step, in signed
    arithmetic, so that a limit below the step is no iteration.
    """
    entry = b.block
    last_start = b.sub(limit, i64(step), name=f"{name}.last")
    body, end = b.append_basic_block(f"{name}.body"), b.append_basic_block(f"{name}.end")
    b.cbranch(b.icmp_signed("<=", start, last_start), body, end)

    b.position_at_end(body)
    index = b.phi(I64, name=f"{name}.index")
    carried = [b.phi(v.type, name=f"{name}.value") for v in values]
    run = Loop(index, list(carried))
    yield run

    assert len(run._next) == len(carried), f"{name}: next() not called with {len(carried)} values"
    last = b.block
    index_next = b.add(index, i64(step), name=f"{name}.index.next")
    b.cbranch(b.icmp_signed("<=", index_next, last_start), body, end)
    for phi, first, following in zip(
        [index, *carried], [start, *values], [index_next, *run._next], strict=True
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(following, last)

    b.position_at_end(end)
    results = []
    for first, following in zip([start, *values], [index_next, *run._next], strict=True):
        result = b.phi(first.type, name=f"{name}.result")
        result.add_incoming(first, entry)
        result.add_incoming(following, last)
        results.append(result)
    run.index, run.values = results[0], results[1:]


def intrinsic(
    b: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Value]
) -> ir.CallInstr:
    """Calls an LLVM intrinsic, declared on first use under its full (mangled) name."""
    function = b.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(result, [a.type for a in arguments])
        function = ir.Function(b.module, kind, name=name)
    return b.call(function, arguments)
