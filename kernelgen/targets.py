# SPDX-License-Identifier: Apache-2.0
"""The table of kernel sets: which lowering, for which CPU, and what that CPU must have.

To add an instruction set: a lowering, a row here and, for a new CPU feature, its detection in
runtime/dispatch.c. A test runs every kernel for every row.
"""

from dataclasses import dataclass

from . import lower_arm, lower_pipelined, lower_wasm, lower_x86
from .kernels import KERNELS
from .lower import Lowering, Portable

HASH_KERNELS = ("sha256", "sha256_lanes")
BYTE_KERNELS = tuple(k.name for k in KERNELS if k.name not in HASH_KERNELS)


class Avx512PipelinedSha(lower_pipelined.PipelinedSha, lower_x86.Avx512): ...


class Avx512Sha(lower_x86.ShaBesideLanes, lower_x86.Avx512): ...


class Avx2Sha(lower_x86.ShaExtensions, lower_x86.Avx2): ...


class Sse2Sha(lower_x86.ShaExtensions, lower_x86.Sse2): ...


class NeonSha(lower_arm.Sha2Extension, lower_arm.Neon): ...


@dataclass(frozen=True)
class KernelSet:
    """One row: its name, the CPU as LLVM names it, and the CPU features that it needs.

    family: meson's cpu_family, or "" for any. needs: names of ATLAS_CPU_* flags. base: the set
    whose byte kernels it shares, so that they are compiled once. suits: flags without which the set
    runs, but slower than one below it.
    """

    name: str
    family: str
    lowering: type[Lowering]
    cpu: str = ""
    features: str = ""
    needs: tuple[str, ...] = ()
    base: str | None = None
    suits: tuple[str, ...] = ()

    @property
    def identifier(self) -> str:
        """The name as a C identifier."""
        return self.name.replace("-", "_").replace("+", "_")

    def own_kernels(self) -> tuple[str, ...]:
        """The kernels that this set defines itself."""
        return HASH_KERNELS if self.base else BYTE_KERNELS + HASH_KERNELS

    def symbol(self, kernel: str) -> str:
        """The symbol of a kernel of this set, wherever it is defined."""
        if kernel in self.own_kernels():
            return f"atlas.kernel.{kernel}.{self.identifier}"
        assert self.base is not None
        return find(self.base).symbol(kernel)

    @property
    def table_symbol(self) -> str:
        return f"atlas_kernels_{self.identifier}"


# LLVM would split 512-bit vectors for the generic x86-64-v4.
_WIDE = "-prefer-256-bit"
_SHA_NI = "+sha,+ssse3,+sse4.1"

# For each CPU family the best set first; the portable one, which runs anywhere, last.
KERNEL_SETS = (
    KernelSet(
        "x86-64-v4+sha+vbmi2", "x86_64", Avx512PipelinedSha, "x86-64-v4",
        f"{_WIDE},{_SHA_NI},+avx512vbmi2", ("X86_64_V4", "SHA", "VBMI2"), "x86-64-v4", ("AMD",),
    ),
    KernelSet(
        "x86-64-v4+sha", "x86_64", Avx512Sha, "x86-64-v4", f"{_WIDE},{_SHA_NI}",
        ("X86_64_V4", "SHA"), "x86-64-v4",
    ),
    KernelSet("x86-64-v4", "x86_64", lower_x86.Avx512, "x86-64-v4", _WIDE, ("X86_64_V4",)),
    KernelSet(
        "x86-64-v3+sha", "x86_64", Avx2Sha, "x86-64-v3", _SHA_NI,
        ("X86_64_V3", "SHA"), "x86-64-v3",
    ),
    KernelSet("x86-64-v3", "x86_64", lower_x86.Avx2, "x86-64-v3", "", ("X86_64_V3",)),
    KernelSet("x86-64+sha", "x86_64", Sse2Sha, "x86-64", _SHA_NI, ("SHA",), "x86-64"),
    KernelSet("x86-64", "x86_64", lower_x86.Sse2, "x86-64"),
    KernelSet("aarch64+sha2", "aarch64", NeonSha, "generic", "+sha2", ("SHA2",), "aarch64"),
    KernelSet("aarch64", "aarch64", lower_arm.Neon, "generic"),
    KernelSet("wasm32+simd128", "wasm32", lower_wasm.Simd128, "generic", "+simd128"),
    KernelSet("portable", "", Portable),
)  # fmt: skip


def for_family(family: str) -> tuple[KernelSet, ...]:
    """The sets that a library for this CPU family holds, best first."""
    return tuple(s for s in KERNEL_SETS if s.family in ("", family))


def find(name: str) -> KernelSet:
    for kernel_set in KERNEL_SETS:
        if kernel_set.name == name:
            return kernel_set
    raise LookupError(f"no kernel set {name!r}; there are {[s.name for s in KERNEL_SETS]}")


# What LLVM's generic wasm32 has and engines of 2020 have not. With it, the number of the table that
# an indirect call names is padded, which those refuse.
WASM_WITHOUT = ("reference-types", "call-indirect-overlong")

# LLVM's names for the CPU families and systems of meson, and each family's own default CPU.
_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "aarch64", "wasm32": "wasm32", "s390x": "s390x"}
_SYSTEMS = {"linux": "unknown-linux-gnu", "darwin": "apple-macosx11.0", "wasi": "unknown-wasi"}


def triple(family: str, system: str) -> str:
    """The LLVM target triple for meson's cpu_family and system."""
    for value, table, what in (family, _ARCHITECTURES, "cpu family"), (system, _SYSTEMS, "system"):
        if value not in table:
            raise LookupError(f"no {what} {value!r}; there are {sorted(table)}")
    return f"{_ARCHITECTURES[family]}-{_SYSTEMS[system]}"
