# SPDX-License-Identifier: Apache-2.0
"""The source archive for C users: its kernels are what the build links, and it builds by hand with
the page's commands. With CMake, meson, clang, musl and on other CPUs: `make check-dist-c`."""

import platform
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelgen import emit, targets
from support.c_fixtures import C_PROGRAMS, STRICT, run
from support.c_inputs import ROOT
from support.dist_c import page_commands, page_files, page_outputs, shell, unpacked
from support.shared import made_once
from support.tools import needs

FAMILY = platform.machine()
SETS = [kernel_set.name for kernel_set in targets.for_family(FAMILY)]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_once(tmp_path_factory, "dist_c", unpacked)
    (archive,) = filter(Path.is_dir, folder.iterdir())
    return archive


def instructions(code: Path) -> list[str]:
    """Return the instructions of an object file, without padding, and what the linker fills in.

    Jumps name the number of the instruction that they go to, and not its address, because
    assemblers pad differently.
    """
    lines = run("objdump", "-dr", "--no-show-raw-insn", code).splitlines()
    number_of: dict[str, int] = {}
    kept = []
    for line in lines:
        if found := re.match(r" *([0-9a-f]+):\t(.*)", line):
            number_of[found[1]] = len(kept)
            if not re.match(r"((cs|data16) )*nop|xchg +%ax,%ax", found[2]):
                kept.append(found[2])
        elif found := re.match(r"\t+[0-9a-f]+: (R_.*)", line):
            kept.append(found[1])
    assert len(kept) > 20
    target = re.compile(r"\b([0-9a-f]+) <[^>]*>")
    return [target.sub(lambda m: f"-> {number_of[m[1]]}", text) for text in kept]


def data(code: Path, directory: Path) -> bytes:
    """Return the constants of an object file."""
    output = directory / "constants.bin"
    run("objcopy", "-O", "binary", "-j", ".rodata*", code, output)
    return output.read_bytes() if output.exists() else b""


@needs("objdump")
@pytest.mark.parametrize("name", [*SETS, "entry"])
def test_the_assembly_is_the_object_that_the_build_links(
    name: str,
    archive: Path,
    kernel_object: Callable[[targets.KernelSet], bytes],
    tmp_path: Path,
) -> None:
    assembled, linked = tmp_path / "assembled.o", tmp_path / "linked.o"
    run("cc", "-c", archive / "kernels" / FAMILY / f"{name}.s", "-o", assembled)
    if name == "entry":
        linked.write_bytes(emit.entry_object(FAMILY, "linux"))
    else:
        linked.write_bytes(kernel_object(targets.find(name)))
    assert instructions(assembled) == instructions(linked)
    assert data(assembled, tmp_path) == data(linked, tmp_path)
    seen = [
        sorted(re.findall(r"(GLOBAL|LOCAL) +(\w+) +\S+ (atlas\S+)", run("readelf", "-sW", code)))
        for code in (assembled, linked)
    ]
    assert seen[0] == seen[1] != []


def test_files_are_those_of_the_repository(archive: Path) -> None:
    for name in "include/atlas/conservation.h", "runtime/witness.c", "docs/c.md", "LICENSE":
        assert (archive / name).read_bytes() == (ROOT / name).read_bytes()
    runtime = {path.name for path in (archive / "runtime").glob("*.[ch]")}
    assert runtime == {path.name for path in (ROOT / "runtime").glob("*.[ch]")}
    # The meson build names its files, the CMake build takes all.
    listed = set(re.findall(r"'(\w+\.c)'", (ROOT / "runtime" / "meson.build").read_text()))
    assert listed == {name for name in runtime if name.endswith(".c")}


def test_programs_of_the_page_with_a_library_built_by_hand(archive: Path, tmp_path: Path) -> None:
    shell(page_commands("By hand"), archive)
    for name, text in page_files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    programs = sorted(tmp_path.glob("*.c"))
    assert len(programs) == 3
    search = f"-L{archive}", f"-Wl,-rpath,{archive}", "-latlas12288"
    for source in programs:
        output = source.with_suffix("")
        run("cc", "-std=c11", *STRICT, f"-I{archive / 'include'}", source, *search, "-o", output)
    outputs = page_outputs()
    assert len(outputs) == len(programs)
    for command, expected in outputs.items():
        assert shell(command, tmp_path) == expected


def test_the_contract_s_examples_compile_with_the_archive_s_header(
    archive: Path, tmp_path: Path
) -> None:
    source = archive / "tests" / "contract_examples.c"
    assert source.read_bytes() == (C_PROGRAMS / source.name).read_bytes()
    include = f"-I{archive / 'include'}"
    run("cc", "-std=c11", *STRICT, include, "-c", source, "-o", tmp_path / "examples.o")
