# SPDX-License-Identifier: Apache-2.0
"""memcheck: no invalid access and no leak; and no branch or address made of the bytes of a digest
that is compared. With every kernel set that the CPU which valgrind emulates can run."""

import re
from pathlib import Path

import pytest

from support.c_fixtures import ALLOCATORS, C_PROGRAMS, SYSTEM_CALLS, CInstall, run
from support.tools import require

VALGRIND = "valgrind", "--quiet", "--error-exitcode=9"
LEAKS = "--leak-check=full", "--errors-for-leak-kinds=all"
LIST_SETS = """\
#include <atlas/conservation.h>
#include <stdio.h>
int main(void)
{
    const char* name;
    for (size_t i = 0; (name = atlas_kernel_set_name(i)) != NULL; i++)
        if (atlas_kernel_set_supported(name))
            puts(name);
    return 0;
}
"""


@pytest.fixture(scope="module")
def sets(library: CInstall, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The kernel sets that valgrind's CPU can run."""
    require("valgrind")
    source = tmp_path_factory.mktemp("sets") / "sets.c"
    source.write_text(LIST_SETS)
    names = run(*VALGRIND, library.compile_static(source.with_suffix(""), source)).split()
    assert names[-1] == "portable"
    print(names)
    return names


@pytest.mark.parametrize("program", ["rows", "extensions", "tree", "many", "regions", "kernels"])
def test_memcheck(program: str, library: CInstall, sets: list[str], tmp_path: Path) -> None:
    source = C_PROGRAMS / f"{program}.c"
    built = library.compile_static(tmp_path / program, source, *library.private_includes)
    for name in sets:
        assert f"kernel set {name}\n" in run(*VALGRIND, *LEAKS, built, name)


def test_memcheck_when_memory_runs_out(library: CInstall, tmp_path: Path) -> None:
    require("valgrind")
    source = C_PROGRAMS / "out_of_memory.c"
    run(*VALGRIND, *LEAKS, library.compile_static(tmp_path / "program", source, ALLOCATORS))


def test_memcheck_when_a_region_is_sealed(library: CInstall, tmp_path: Path) -> None:
    require("valgrind")
    flags = *library.private_includes, SYSTEM_CALLS
    built = library.compile_static(tmp_path / "seal", C_PROGRAMS / "seal.c", *flags)
    run(*VALGRIND, "--child-silent-after-fork=yes", *LEAKS, built)


def test_digests_are_compared_in_constant_time(
    library: CInstall, sets: list[str], tmp_path: Path
) -> None:
    source = C_PROGRAMS / "constant_time.c"
    built = library.compile_static(tmp_path / "constant_time", source, *library.private_includes)
    for name in sets:
        run(*VALGRIND, built, name)
    # The method finds what it looks for.
    with pytest.raises(AssertionError, match="exit code 9") as found:
        run(*VALGRIND, built, "memcmp")
    report = str(found.value)
    assert "Conditional jump or move depends on uninitialised value" in report
    for case in "case_kernel", "case_witness_verify":
        assert re.search(rf"by .*: {case} \(", report), report
