# SPDX-License-Identifier: Apache-2.0
"""The generator: modules that verify for every target, the contract's kernels under its own
`declare` lines, no branch on secret bytes, the same bytes from every run, snapshots of the IR."""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from llvmlite import binding, ir

from kernelgen import build, contract, emit, facts, lower, sha256, targets
from support import model, strategies
from support.c_fixtures import ROOT, CInstall
from support.guarded import address_of, region_at

SNAPSHOTS = Path(__file__).parent / "snapshots"

# CPU family and system, as meson names them, and how an object file begins there.
PLATFORMS = {
    ("x86_64", "linux"): b"\x7fELF",
    ("aarch64", "linux"): b"\x7fELF",
    ("aarch64", "darwin"): b"\xcf\xfa\xed\xfe",
    ("wasm32", "wasi"): b"\0asm",
    ("s390x", "linux"): b"\x7fELF",  # big-endian
}
SETS_OF_PLATFORMS = [
    pytest.param(
        *(kernel_set, *platform),
        id=f"{'-'.join(platform)}-{kernel_set.name}",
        marks=[pytest.mark.slow] if 0 < place < len(sets) - 1 else [],
    )
    for platform in PLATFORMS
    if platform != ("aarch64", "darwin")  # the same code as for Linux, in another wrapping
    for sets in [targets.for_family(platform[0])]
    for place, kernel_set in enumerate(sets)
]


def kernelgen(*arguments: str, **environment: str) -> bytes:
    """What the build's command prints."""
    command = (sys.executable, "-B", "-m", "kernelgen", *arguments)
    environment = os.environ | environment
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE
    ).stdout


# --- every target --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel_set", "family", "system"), SETS_OF_PLATFORMS)
def test_every_set_verifies_and_becomes_an_object_of_its_platform(
    kernel_set: targets.KernelSet, family: str, system: str
) -> None:
    data = emit.kernel_set_object(kernel_set, family, system)  # verifies the module first
    assert data.startswith(PLATFORMS[family, system])


@pytest.mark.parametrize(("family", "system"), PLATFORMS)
def test_the_contract_s_kernels_become_an_object_of_every_platform(
    family: str, system: str
) -> None:
    assert emit.entry_object(family, system).startswith(PLATFORMS[family, system])


@pytest.mark.parametrize("family", ["x86_64", "aarch64", "wasm32", "no-such-cpu"])
def test_every_family_ends_with_the_portable_set(family: str) -> None:
    names = [s.name for s in targets.for_family(family)]
    assert names[-1] == "portable"
    assert len(set(names)) == len(names)


def test_a_base_needs_nothing_that_its_set_does_not() -> None:
    for kernel_set in targets.KERNEL_SETS:
        if kernel_set.base is not None:
            base = targets.find(kernel_set.base)
            assert base.base is None
            assert set(base.needs) <= set(kernel_set.needs)


def test_an_unknown_set_family_or_system_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(LookupError, match=r"no kernel set 'mmx'.*portable"):
        targets.find("mmx")
    with pytest.raises(LookupError, match=r"no cpu family 'z80'.*x86_64"):
        targets.triple("z80", "linux")
    with pytest.raises(LookupError, match=r"no system 'plan9'.*linux"):
        targets.triple("x86_64", "plan9")


def test_the_generator_s_modulus_is_the_contract_s() -> None:
    assert facts.MODULUS == model.MODULUS


def test_the_constants_of_sha_256_are_those_of_fips_180_4() -> None:
    assert len(sha256.K) == 64
    assert (sha256.K[0], sha256.K[1], sha256.K[63]) == (0x428A2F98, 0x71374491, 0xC67178F2)
    assert (sha256.INITIAL[0], sha256.INITIAL[7]) == (0x6A09E667, 0x5BE0CD19)


# --- the build's command line --------------------------------------------------------------------


def test_the_command_gives_the_same_bytes_in_every_run() -> None:
    for arguments in (
        ("header", "--family", "x86_64"),
        ("object", "--family", "x86_64", "--set", "x86-64-v3+sha"),
        ("module", "--format", "bc"),
    ):
        once, again = (kernelgen(*arguments, PYTHONHASHSEED=seed) for seed in ("1", "2"))
        assert once == again, arguments


def test_the_command_lists_the_sets_and_writes_files(tmp_path: Path) -> None:
    names = kernelgen("sets", "--family", "aarch64").decode().split()
    assert names == [s.name for s in targets.for_family("aarch64")]
    file = tmp_path / "conservation.ll"
    assert kernelgen("module", "--format", "ll", "--output", str(file)) == b""
    assert file.read_bytes() == kernelgen("module")


def test_the_header_has_a_row_for_each_set_and_a_flag_for_each_need() -> None:
    for family in ("x86_64", "aarch64", "wasm32"):
        header = emit.header(family)
        for kernel_set in targets.for_family(family):
            assert f"SET({kernel_set.table_symbol}, " in header
            for flag in kernel_set.needs + kernel_set.suits:
                assert f"#define ATLAS_CPU_{flag} " in header


def test_a_set_that_suits_few_cpus_has_one_below_it_that_needs_no_more_and_suits_all() -> None:
    for number, kernel_set in enumerate(targets.KERNEL_SETS):
        assert not set(kernel_set.suits) & set(kernel_set.needs)
        below = [s for s in targets.KERNEL_SETS[number:] if s.family in ("", kernel_set.family)]
        assert any(not s.suits and set(s.needs) <= set(kernel_set.needs) for s in below)


# --- the contract's kernels ----------------------------------------------------------------------

NAMES_AND_TYPES = {
    "atlas.conserved.delta": "i7 (ptr, ptr, i64)",
    "atlas.conserved.window.check": "i1 (ptr, i64)",
    "atlas.conserved.update": "void (ptr, ptr, i64)",
}

# Calls the three with C's types around them: i7 and i1 mean nothing to C.
CALLER = """
define i32 @call_delta(ptr %before, ptr %after, i64 %len) {
  %small = call i7 @atlas.conserved.delta(ptr %before, ptr %after, i64 %len)
  %wide = zext i7 %small to i32
  ret i32 %wide
}
define i32 @call_check(ptr %data, i64 %len) {
  %bit = call i1 @atlas.conserved.window.check(ptr %data, i64 %len)
  %wide = zext i1 %bit to i32
  ret i32 %wide
}
define void @call_update(ptr %state, ptr %chunk, i64 %n) {
  call void @atlas.conserved.update(ptr %state, ptr %chunk, i64 %n)
  ret void
}
"""


def contract_declarations() -> list[str]:
    """The contract's `declare` lines, verbatim."""
    text = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    return re.findall(r"^declare .*$", text, re.MULTILINE)


def as_ir(declaration: str) -> str:
    """The same line for LLVM's parser, which wants a % before the name of a parameter."""
    return re.sub(r"\b(ptr|i64) (\w+)", r"\1 %\2", declaration)


def caller_with_the_contract_s_declarations() -> binding.ModuleRef:
    declarations = "\n".join(map(as_ir, contract_declarations()))
    return binding.parse_assembly(declarations + CALLER)


def test_the_contract_declares_three_kernels() -> None:
    assert len(contract_declarations()) == 3
    module = caller_with_the_contract_s_declarations()
    for name, kind in NAMES_AND_TYPES.items():
        assert str(module.get_function(name).global_value_type) == kind


@pytest.mark.parametrize(
    "make",
    [lambda: contract.entry_module(pointer_bytes=8), contract.standalone_module],
    ids=("entry", "standalone"),
)
def test_the_contract_s_kernels_have_exactly_its_names_and_types(
    make: Callable[[], ir.Module],
) -> None:
    module = binding.parse_assembly(str(make()))
    for name, kind in NAMES_AND_TYPES.items():
        function = module.get_function(name)
        assert not function.is_declaration
        assert str(function.global_value_type) == kind


def test_the_standalone_module_needs_no_other_module_and_names_no_target() -> None:
    for module in (
        binding.parse_assembly(emit.standalone(binary=False).decode()),
        binding.parse_bitcode(emit.standalone(binary=True)),
    ):
        assert module.triple in ("", "unknown-unknown-unknown")
        assert [f.name for f in module.functions if f.is_declaration] == []
        public = {f.name for f in module.functions if f.linkage.name != "internal"}
        assert public == set(NAMES_AND_TYPES)


Kernels = tuple[
    Callable[[int, int, int], int], Callable[[int, int], int], Callable[[int, int, int], None]
]


@pytest.fixture(scope="module", params=["conservation.ll", "conservation.bc"])
def linked_kernels(request: pytest.FixtureRequest, c_install: CInstall) -> Iterator[Kernels]:
    """The caller, linked by LLVM with the installed module, compiled in memory."""
    installed = (c_install.prefix / "share" / "atlas12288" / request.param).read_bytes()
    if request.param.endswith(".ll"):
        conservation = binding.parse_assembly(installed.decode())
    else:
        conservation = binding.parse_bitcode(installed)
    module = caller_with_the_contract_s_declarations()
    module.link_in(conservation)
    module.verify()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine()
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    with binding.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        pointer, length = ctypes.c_void_p, ctypes.c_uint64
        delta = ctypes.CFUNCTYPE(ctypes.c_uint32, pointer, pointer, length)
        check = ctypes.CFUNCTYPE(ctypes.c_uint32, pointer, length)
        update = ctypes.CFUNCTYPE(None, pointer, pointer, length)
        yield (
            delta(engine.get_function_address("call_delta")),
            check(engine.get_function_address("call_check")),
            update(engine.get_function_address("call_update")),
        )


def test_a_caller_with_the_contract_s_declarations_links_with_the_installed_ir_and_runs(
    linked_kernels: Kernels,
) -> None:
    delta, check, update = linked_kernels
    data = strategies.noise(max(model.SHORT_BITING_LENGTHS) + 64)
    region = region_at(0, len(data))
    region[:] = data
    start, sums = address_of(region), model.Sums(data)
    # Any i64 is a valid state; 2^64 is 64 mod 96, so one that wraps would show.
    states = (0, 95, 96, 2**63, 2**64 - 1)
    for n in (*range(100), *model.SHORT_BITING_LENGTHS):
        for a, b in ((0, 0), (1, 0), (0, 63), (7, 5)):
            expected = (sums.total(b, b + n) - sums.total(a, a + n)) % 96
            assert delta(start + a, start + b, n) == expected, (a, b, n)
            residue = sums.residue(a, a + n)
            assert check(start + a, n) == (residue == 0), (a, n)
            for before in states:
                state = ctypes.c_uint64(before)
                update(ctypes.addressof(state), start + a, n)
                assert state.value == (before + residue) % 96, (before, a, n)


PROGRAM = """\
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Defined in LLVM IR; the linker finds what they call. */
uint32_t call_delta(const void *before, const void *after, uint64_t len);
uint32_t call_check(const void *data, uint64_t len);
void call_update(void *state, const void *chunk, uint64_t n);

/* A line an argument n: delta(zeros, data), check(data), update(95, data) of n bytes of input. */
int main(int argc, char **argv)
{
    static unsigned char data[65536], zeros[65536];
    uint64_t size = fread(data, 1, sizeof data, stdin);
    for (int i = 1; i < argc; i++) {
        uint64_t n = strtoull(argv[i], NULL, 10), state = 95;
        if (n > size)
            return 1;
        call_update(&state, data, n);
        printf("%" PRIu32 " %" PRIu32 " %" PRIu64 "\\n", call_delta(zeros, data, n),
               call_check(data, n), state);
    }
    return 0;
}
"""


@pytest.mark.parametrize("library", ["shared", "static"])
def test_a_caller_with_the_contract_s_declarations_links_with_the_library_by_the_c_compiler(
    library: str, c_install: CInstall, tmp_path: Path
) -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(
        reloc="pic", codemodel="default"
    )
    caller = caller_with_the_contract_s_declarations()
    caller, source, program = (tmp_path / name for name in ("caller.o", "program.c", "program"))
    caller.write_bytes(machine.emit_object(caller_with_the_contract_s_declarations()))
    source.write_text(PROGRAM)
    build_program = c_install.compile_shared if library == "shared" else c_install.compile_static
    build_program(program, source, caller)

    data = strategies.conserved_everywhere(300) + strategies.noise(24000)
    lengths = (*range(400), *(n for n in model.SHORT_BITING_LENGTHS if n <= len(data)))
    sums = model.Sums(data)
    command = [str(program), *map(str, lengths)]
    printed = subprocess.run(command, input=data, check=True, stdout=subprocess.PIPE).stdout
    lines = printed.decode().splitlines()
    for n, line in zip(lengths, lines, strict=True):
        residue = sums.residue(0, n)
        assert line == f"{residue} {int(residue == 0)} {(95 + residue) % 96}", n


# --- constant time -------------------------------------------------------------------------------


def steered_by_memory(function: binding.ValueRef) -> list[str]:
    """Instructions whose branch, choice or address depends on a loaded value."""
    instructions = [
        (i, i.opcode, i.name, [o.name for o in i.operands])
        for block in function.blocks
        for i in block.instructions
    ]
    tainted: set[str] = set()
    while True:  # until nothing is added: loops carry values backwards
        more = {
            name
            for _, opcode, name, operands in instructions
            if name and (opcode == "load" or not tainted.isdisjoint(operands))
        }
        if more <= tainted:
            break
        tainted |= more

    def steering(opcode: str, operands: list[str]) -> list[str]:
        if opcode == "br":
            return operands[:1] if len(operands) > 1 else []  # one operand: unconditional
        if opcode in ("switch", "select"):
            return operands[:1]
        if opcode == "store":
            return operands[1:]
        return operands if opcode in ("load", "getelementptr") else []

    return [
        str(i)
        for i, opcode, _, operands in instructions
        if not tainted.isdisjoint(steering(opcode, operands))
    ]


def test_what_finds_branches_on_memory_finds_one() -> None:
    module = binding.parse_assembly("""
        define i32 @early_exit(ptr %p) {
        entry:
          %byte = load i8, ptr %p
          %zero = icmp eq i8 %byte, 0
          br i1 %zero, label %yes, label %no
        yes:
          ret i32 1
        no:
          ret i32 0
        }""")
    assert len(steered_by_memory(module.get_function("early_exit"))) == 1


@pytest.mark.parametrize("kernel_set", targets.KERNEL_SETS, ids=lambda s: s.name)
def test_no_branch_and_no_address_depends_on_the_bytes(kernel_set: targets.KernelSet) -> None:
    module = binding.parse_assembly(str(build.kernel_set_module(kernel_set)))
    for kernel in kernel_set.own_kernels():
        if kernel == "sha256_lanes":
            continue  # its table of addresses is in memory; the arithmetic is that of sha256
        function = module.get_function(kernel_set.symbol(kernel))
        assert not function.is_declaration, kernel
        assert steered_by_memory(function) == [], kernel


# --- snapshots -----------------------------------------------------------------------------------


def portable_kernel(name: str) -> ir.Module:
    module = ir.Module(f"snapshot.{name}")
    build.add_kernel(module, name, f"atlas.kernel.{name}", lower.Portable())
    return module


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("equal", lambda: portable_kernel("equal")),
        ("fill", lambda: portable_kernel("fill")),
    ],
)
def test_the_ir_of_small_kernels_is_the_snapshot(name: str, make: Callable[[], ir.Module]) -> None:
    """A change that is meant: run with UPDATE_SNAPSHOTS=1 and review the difference."""
    file = SNAPSHOTS / f"{name}.ll"
    text = str(make())
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.write_text(text)
    assert text == file.read_text()
