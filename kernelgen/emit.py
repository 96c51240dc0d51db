# SPDX-License-Identifier: Apache-2.0
"""What leaves the generator: objects and assembly by LLVM, the standalone IR, the C header."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import binding, ir

from . import sha256
from .build import grid_module, kernel_set_module
from .contract import ACTIVE_TABLE, DELTA, UPDATE, WINDOW_CHECK, entry_module, standalone_module
from .grid import GridKernel
from .kernels import KERNELS, POINTER
from .lower_amdgcn import Amdgcn
from .lower_nvptx import Nvptx, NvptxMad
from .lower_spirv import Spirv
from .targets import WASM_WITHOUT, KernelSet, for_family, triple


def _parse(module: ir.Module) -> binding.ModuleRef:
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    parsed.name = module.name
    return parsed


def _machine(target_triple: str, cpu: str, features: str) -> binding.TargetMachine:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    # For a file that is linked later: position-independent, the platform's usual code model. A
    # WebAssembly module has an address space for itself, and there it would cost a table.
    reloc = "pic"
    if target_triple.startswith("wasm"):
        reloc = "static"
        absent = (f"-{feature}" for feature in WASM_WITHOUT)
        features = ",".join(filter(None, (*absent, features)))
    return binding.Target.from_triple(target_triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc=reloc, codemodel="default"
    )


def _prepare(
    module: ir.Module, target_triple: str, cpu: str, features: str, public: set[str]
) -> tuple[binding.TargetMachine, binding.ModuleRef]:
    """Return the code generator for a target, and the module as that generator takes it."""
    machine = _machine(target_triple, cpu, features)
    module.triple = target_triple
    module.data_layout = str(machine.target_data)
    parsed = _parse(module)
    for symbol in (*parsed.functions, *parsed.global_variables):
        own = not symbol.name.startswith("llvm.") and symbol.linkage.name == "external"
        if own and symbol.name not in public:
            symbol.visibility = "hidden"
    return machine, parsed


def _prepare_kernel_set(
    kernel_set: KernelSet, family: str, system: str
) -> tuple[binding.TargetMachine, binding.ModuleRef]:
    module = kernel_set_module(kernel_set)
    return _prepare(module, triple(family, system), kernel_set.cpu, kernel_set.features, set())


def _prepare_entry(family: str, system: str) -> tuple[binding.TargetMachine, binding.ModuleRef]:
    target_triple = triple(family, system)
    pointer_bytes = POINTER.get_abi_size(_machine(target_triple, "", "").target_data)
    module = entry_module(pointer_bytes)
    return _prepare(module, target_triple, "", "", {DELTA, WINDOW_CHECK, UPDATE})


@contextmanager
def _scheduler(kernel_set: KernelSet) -> Iterator[None]:
    """Keep LLVM's scheduler from instructions that are written in the order that they are to have.

    The option is the process's, hence reset at the end.
    """
    binding.set_option("kernelgen", f"-enable-misched={int(not kernel_set.lowering.in_order)}")
    try:
        yield
    finally:
        binding.set_option("kernelgen", "-enable-misched=1")


def kernel_set_object(kernel_set: KernelSet, family: str, system: str) -> bytes:
    """Return the object file of one kernel set; all its symbols are hidden."""
    machine, module = _prepare_kernel_set(kernel_set, family, system)
    with _scheduler(kernel_set):
        code: bytes = machine.emit_object(module)
    return code


def entry_object(family: str, system: str) -> bytes:
    """Return the object file of the contract's kernels, public under the contract's names."""
    machine, module = _prepare_entry(family, system)
    code: bytes = machine.emit_object(module)
    return code


def kernel_set_assembly(kernel_set: KernelSet, family: str, system: str) -> str:
    """Return the object of `kernel_set_object` as text, for GNU as and for clang."""
    machine, module = _prepare_kernel_set(kernel_set, family, system)
    with _scheduler(kernel_set):
        text: str = machine.emit_assembly(module)
    return _arch_extensions(kernel_set, family) + text


def entry_assembly(family: str, system: str) -> str:
    """Return the object of `entry_object` as text, for GNU as and for clang."""
    machine, module = _prepare_entry(family, system)
    text: str = machine.emit_assembly(module)
    return text


def _arch_extensions(kernel_set: KernelSet, family: str) -> str:
    """Return the directives without which an assembler refuses a set's instructions.

    LLVM leaves them out, because its own assembler takes the features from the target machine.
    Assemblers for x86-64 know all instructions anyway.
    """
    if family != "aarch64":
        return ""
    features = [name.removeprefix("+") for name in kernel_set.features.split(",") if name]
    return "".join(f"\t.arch_extension {name}\n" for name in features)


def standalone(binary: bool) -> bytes:
    """conservation.ll or conservation.bc."""
    parsed = _parse(standalone_module())
    return parsed.as_bitcode() if binary else str(parsed).encode()


# The driver compiles PTX for the GPU at hand, so the target need only be old enough: Ampere, which
# has all that the kernels use, and the PTX of CUDA 11.8.
_PTX_TARGET = ("nvptx64-nvidia-cuda", "sm_80", "+ptx78")


# Other GPUs: their kernels are compiled by tests and are in no release. AMD's code is for one chip,
# here the MI300's.
OTHER_GPUS = {
    "amdgcn": (Amdgcn, ("amdgcn-amd-amdhsa", "gfx942", "")),
    "spirv": (Spirv, ("spirv64-unknown-unknown", "", "")),
}


def _has_target(target_triple: str) -> bool:
    binding.initialize_all_targets()
    try:
        binding.Target.from_triple(target_triple)
    except RuntimeError:
        return False
    return True


def has_ptx() -> bool:
    """Return whether this LLVM writes PTX."""
    return _has_target(_PTX_TARGET[0])


def has_other_gpu(name: str) -> bool:
    """Return whether this LLVM writes code for a GPU of OTHER_GPUS."""
    return _has_target(OTHER_GPUS[name][1][0])


def _other_gpu_kernel(
    entry: GridKernel, name: str
) -> tuple[binding.TargetMachine, binding.ModuleRef]:
    lowering, target = OTHER_GPUS[name]
    return _prepare(grid_module(entry, lowering()), *target, {entry.name})


def other_gpu_assembly(entry: GridKernel, name: str) -> str:
    """Return one kernel of the grid for a GPU of OTHER_GPUS, as text."""
    machine, parsed = _other_gpu_kernel(entry, name)
    text: str = machine.emit_assembly(parsed)
    return text


def other_gpu_object(entry: GridKernel, name: str) -> bytes:
    """Return the same as its driver takes it: an ELF object, or a module of SPIR-V."""
    machine, parsed = _other_gpu_kernel(entry, name)
    code: bytes = machine.emit_object(parsed)
    return code


def ptx(entry: GridKernel) -> str:
    """Return the text of a module with one kernel of the grid."""
    module = grid_module(entry, NvptxMad() if entry.mad else Nvptx())
    machine, parsed = _prepare(module, *_PTX_TARGET, {entry.name})
    text: str = machine.emit_assembly(parsed)
    return text


_HEADER = """\
/* Generated by kernelgen; do not edit. The kernels of one set, and the sets in this library. */
#ifndef ATLAS_KERNELS_H
#define ATLAS_KERNELS_H

#include <stdint.h>

typedef struct atlas_kernels {{
    const char *name; /* of the set */
{members}
    uint64_t lanes; /* of sha256_lanes, at most ATLAS_LANES_MAX */
}} atlas_kernels_t;
#define ATLAS_LANES_MAX {lanes_max}

/* What a CPU has; runtime/dispatch.c finds out. */
{flags}

/* SET(table, needed flags, flags of the CPUs that it suits) for every set in this library, best
 * first; the last runs anywhere, and suits any. */
#define ATLAS_KERNEL_SETS(SET) \\
{sets}

{tables}

/* The set in use. Defined in runtime/dispatch.c; the contract's kernels below go through it. */
#define ATLAS_KERNELS_ACTIVE {active}

/* The contract's kernels, by their names in LLVM IR. Of an i7 or i1 result only the low 7 bits or
 * the low bit are defined. */
#define ATLAS_IR_STRING_(text) #text
#define ATLAS_IR_PREFIX_(prefix) ATLAS_IR_STRING_(prefix)
#define ATLAS_IR_NAME(name) __asm__(ATLAS_IR_PREFIX_(__USER_LABEL_PREFIX__) name)
uint8_t atlas_kernel_conserved_delta(const void *before, const void *after, uint64_t len)
    ATLAS_IR_NAME("{delta}");
uint8_t atlas_kernel_conserved_window_check(const void *data, uint64_t len)
    ATLAS_IR_NAME("{check}");
void atlas_kernel_conserved_update(uint64_t *state, const void *chunk, uint64_t n)
    ATLAS_IR_NAME("{update}");

/* FIPS 180-4, 5.3.3. */
#define ATLAS_SHA256_INITIAL {{ {initial} }}
#define ATLAS_SHA256_BLOCK_BYTES {block}

#endif
"""


def header(family: str) -> str:
    """atlas_kernels.h for a library that holds the sets of a CPU family."""
    sets = for_family(family)
    flags = sorted({flag for s in sets for flag in s.needs + s.suits})

    def mask(flags: Sequence[str]) -> str:
        return " | ".join(f"ATLAS_CPU_{flag}" for flag in flags) or "0"

    return _HEADER.format(
        members="\n".join(f"    {k.c_member()} /* {k.meaning} */" for k in KERNELS),
        flags="\n".join(f"#define ATLAS_CPU_{flag} {1 << bit}u" for bit, flag in enumerate(flags)),
        sets=" \\\n".join(
            f"    SET({s.table_symbol}, {mask(s.needs)}, {mask(s.suits)})" for s in sets
        ),
        tables="\n".join(f"extern const atlas_kernels_t {s.table_symbol};" for s in sets),
        active=ACTIVE_TABLE,
        delta=DELTA,
        check=WINDOW_CHECK,
        update=UPDATE,
        lanes_max=max(s.lowering().lanes for s in sets),
        initial=", ".join(f"0x{word:08x}u" for word in sha256.INITIAL),
        block=sha256.BLOCK_BYTES,
    )
