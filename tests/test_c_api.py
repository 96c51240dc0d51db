# SPDX-License-Identifier: Apache-2.0
"""The C API: builds the programs in tests/c against the installed library, and runs them.

What each program proves stands at its top; it prints its cases and the rule of each. The same
programs under sanitizers, under valgrind and on other CPUs: tests/native.
"""

import platform
import re
import shutil
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from support.c_fixtures import (
    ALLOCATORS,
    C_PROGRAMS,
    KERNELGEN_PYTHON,
    ROOT,
    STRICT,
    SYSTEM_CALLS,
    CInstall,
    run,
)
from support.c_inputs import c_blocks, contract_examples, contract_section
from support.kernel_sets import ENDS
from support.slow import slow_but
from support.tools import needs

HEADER = ROOT / "include" / "atlas" / "conservation.h"
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
CXX_COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]


def symbols(library: Path, *options: str) -> list[tuple[str, str]]:
    """Kind and name of each symbol, as nm prints them."""
    lines = run("nm", *options, library).splitlines()
    return [(kind, name) for *_, kind, name in (line.split() for line in lines if " " in line)]


# --- The programs, with every kernel set ---------------------------------------------------------


@ENDS
@pytest.mark.parametrize(
    "name", ["rows", "extensions", "tree", "many", "regions", "threads", "vectors"]
)
def test_program(name: str, c_program: Callable[[str], Path], kernel_set: str) -> None:
    assert f"kernel set {kernel_set}\n" in run(c_program(name), kernel_set)


def test_out_of_memory(c_install: CInstall, tmp_path: Path) -> None:
    source = C_PROGRAMS / "out_of_memory.c"
    run(c_install.compile_static(tmp_path / "out_of_memory", source, ALLOCATORS))


@pytest.mark.skipif(sys.platform != "linux", reason="seals are Linux's")
def test_seal(c_install: CInstall, tmp_path: Path) -> None:
    flags = *c_install.private_includes, SYSTEM_CALLS
    run(c_install.compile_static(tmp_path / "seal", C_PROGRAMS / "seal.c", *flags))


@pytest.mark.parametrize(
    ("compiler", "mode"),
    slow_but(
        zip(COMPILERS, ("threads", "single_thread"), strict=False),
        product(COMPILERS, ("threads", "single_thread")),
    ),
)
def test_runtime_compiles_without_a_warning_and_only_threads_have_storage_of_their_own(
    compiler: str, mode: str, tmp_path: Path
) -> None:
    kernelgen = KERNELGEN_PYTHON, "-B", "-m", "kernelgen", "header", "--family", platform.machine()
    header = tmp_path / "atlas_kernels.h"
    run("env", "-C", ROOT, *kernelgen, "--output", header)
    flags = ["-std=c11", *STRICT, "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wundef"]
    if mode == "single_thread":
        flags.append("-DATLAS_SINGLE_THREAD")
    includes = f"-I{HEADER.parent.parent}", f"-I{tmp_path}"
    sources = sorted((ROOT / "runtime").glob("*.c"))
    assert sources
    thread_local = []
    for source in sources:
        output = tmp_path / f"{source.stem}.o"
        options = '-DATLAS_VERSION="0.0.0"', "-O2", *includes
        run(compiler, *flags, *options, "-c", source, "-o", output)
        thread_local += re.findall(r"\bTLS\b.*", run("readelf", "--symbols", "--wide", output))
    assert bool(thread_local) == (mode == "threads")


# --- What the contract says ----------------------------------------------------------------------


def test_header_has_every_declaration_of_the_contract_letter_for_letter() -> None:
    blocks = c_blocks(contract_section("API Signatures"))
    assert set(blocks) == {
        "Error Codes",
        "Domain Management",
        "Budget Operations",
        "Witness Operations",
        "Conservation Utilities",
    }
    header = HEADER.read_text(encoding="utf-8").splitlines()
    for block in blocks.values():
        declarations = [x for x in block.splitlines() if x.strip() and not x.startswith("//")]
        missing = [line for line in declarations if line not in header]
        assert not missing, f"{HEADER.name} must have these lines of the contract: {missing}"


def test_header_has_the_error_codes_in_one_piece() -> None:
    codes = c_blocks(contract_section("API Signatures"))["Error Codes"]
    assert codes in HEADER.read_text(encoding="utf-8")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_usage_examples_of_the_contract(compiler: str, c_install: CInstall, tmp_path: Path) -> None:
    examples = contract_examples()
    assert len(examples) == 3
    for name, code in examples.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    source = C_PROGRAMS / "contract_examples.c"
    program = tmp_path / "examples"
    output = run(
        c_install.compile_shared(program, source, f"-I{tmp_path}", compiler=compiler)
    ).splitlines()
    assert [line for line in output if line.startswith("ok ")] == [
        "ok basic_domain_lifecycle: Basic Domain Lifecycle",
        "ok budget_management: Budget Management",
        "ok witness_verification: Witness Verification",
    ]
    assert output.count("Buffer unchanged") == 1


@pytest.mark.parametrize("compiler", CXX_COMPILERS)
def test_header_as_cpp(compiler: str, c_install: CInstall, tmp_path: Path) -> None:
    source = C_PROGRAMS / "header.cpp"
    program = c_install.compile_shared(
        tmp_path / "header", source, compiler=compiler, standard="c++17"
    )
    expected = "1 5 atlas_domain_commit: the domain has no region, must have one attached\n"
    assert run(program) == expected


# --- What is installed ---------------------------------------------------------------------------


def test_shared_library_shows_only_atlas_symbols(c_install: CInstall) -> None:
    shown = {name for _, name in symbols(c_install.shared_library, "-D", "--defined-only")}
    assert not [name for name in shown if not name.startswith("atlas")]
    declared = set(re.findall(r"^[\w* ]+?\**\b(atlas_\w+)\(", HEADER.read_text(), re.MULTILINE))
    kernels = {"atlas.conserved.delta", "atlas.conserved.window.check", "atlas.conserved.update"}
    assert shown == declared | kernels


def test_static_library_has_only_atlas_symbols(c_install: CInstall) -> None:
    names = {name for _, name in symbols(c_install.static_library, "-g", "--defined-only")}
    assert "atlas_domain_create" in names
    assert not [name for name in names if not name.startswith("atlas")]


def test_library_needs_libc_alone(c_install: CInstall) -> None:
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", c_install.shared_library))
    assert all(re.match(r"(libc|ld-linux[\w-]*)\.", name) for name in needed), needed


@needs("pkg-config")
def test_pkg_config(c_install: CInstall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKG_CONFIG_PATH", str(c_install.pkgconfig_dir))
    flags = run("pkg-config", "--cflags", "--libs", "atlas12288").split()
    program = tmp_path / "rows"
    run("cc", "-std=c11", *STRICT, C_PROGRAMS / "rows.c", "-o", program, *flags)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(c_install.library_dir))
    assert "cases, kernel set" in run(program)
    version = run("pkg-config", "--modversion", "atlas12288").strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
