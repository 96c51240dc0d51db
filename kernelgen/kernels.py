# SPDX-License-Identifier: Apache-2.0
"""The table of kernels: one C prototype each, from which the C header and the IR types follow."""

from dataclasses import dataclass

from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(width) for width in (1, 8, 16, 32, 64))
POINTER = ir.PointerType()
VOID = ir.VoidType()

_IR_TYPES = {"void": VOID, "uint8_t": I8, "uint32_t": I32, "uint64_t": I64}


@dataclass(frozen=True)
class Kernel:
    """A kernel's name, C types and meaning; every kernel set has one function of this type."""

    name: str
    result: str
    parameters: tuple[tuple[str, str], ...]  # (C type, name)
    meaning: str

    def ir_type(self) -> ir.FunctionType:
        return ir.FunctionType(_ir_type(self.result), [_ir_type(c) for c, _ in self.parameters])

    def c_member(self) -> str:
        """The kernel as a member of the C struct of kernels."""
        parameters = ", ".join(_c_declaration(c, name) for c, name in self.parameters)
        return f"{self.result} (*{self.name})({parameters});"


def _ir_type(c_type: str) -> ir.Type:
    return POINTER if c_type.endswith("*") else _IR_TYPES[c_type]


def _c_declaration(c_type: str, name: str) -> str:
    return f"{c_type}{name}" if c_type.endswith("*") else f"{c_type} {name}"


_DATA = ("const void *", "data")
_DST, _SRC = ("void *", "dst"), ("const void *", "src")
_LEN = ("uint64_t", "len")

KERNELS = (
    Kernel("sum", "uint64_t", (_DATA, _LEN), "sum of the bytes, not reduced; exact for len < 2^56"),
    Kernel(
        "delta",
        "uint64_t",
        (("const void *", "before"), ("const void *", "after"), _LEN),
        "(sum(after) - sum(before)) mod 96",
    ),
    Kernel("copy", "void", (_DST, _SRC, _LEN), "copies; the regions do not overlap"),
    Kernel("copy_stream", "void", (_DST, _SRC, _LEN), "copies past the cache (non-temporal)"),
    Kernel("fill", "void", (_DST, ("uint8_t", "value"), _LEN), "sets every byte to value"),
    Kernel("fill_stream", "void", (_DST, ("uint8_t", "value"), _LEN), "fills past the cache"),
    Kernel(
        "equal",
        "uint32_t",
        (("const void *", "a"), ("const void *", "b"), _LEN),
        "1 when all bytes are equal, else 0; time depends on len alone",
    ),
    Kernel(
        "sha256",
        "void",
        (("uint32_t *", "state"), ("const void *", "blocks"), ("uint64_t", "count")),
        "SHA-256 compression (FIPS 180-4, 6.2.2) of count blocks of 64 bytes into state[8]",
    ),
    Kernel(
        "sha256_lanes",
        "uint32_t",
        (
            ("uint32_t *", "state"),
            ("uint64_t *", "sums"),
            ("const void *const *", "blocks"),
            ("uint64_t", "count"),
            ("uint64_t", "used"),
        ),
        "the same of count blocks at each of `lanes` pointers into state[8][lanes]; of the first "
        "`used` messages alone is the result needed. 1 where the sums of their bytes are added to "
        "sums[lanes], else 0, and sums is as before",
    ),
)

# The C struct of kernels as IR sees it: the set's name, a pointer for each kernel, and `lanes`.
TABLE_TYPE = ir.LiteralStructType([*[POINTER] * (1 + len(KERNELS)), I64])


def table_index(name: str) -> int:
    """Position of a kernel's pointer in TABLE_TYPE."""
    return 1 + [kernel.name for kernel in KERNELS].index(name)


def kernel(name: str) -> Kernel:
    return next(k for k in KERNELS if k.name == name)
