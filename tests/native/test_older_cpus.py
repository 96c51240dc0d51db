# SPDX-License-Identifier: Apache-2.0
"""CPUs of this family that have less than this one: qemu stops a program that uses an instruction
which the CPU does not have."""

import platform
from pathlib import Path

import pytest

from support.c_fixtures import C_PROGRAMS, CInstall, run
from support.tools import require

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the CPUs below are all of the family x86_64"
)


@pytest.mark.parametrize(
    ("cpu", "best"), [("qemu64", "x86-64"), ("Nehalem", "x86-64"), ("Haswell", "x86-64-v3")]
)
@pytest.mark.parametrize("program", ["rows", "tree", "kernels"])
def test_the_library_chooses_a_kernel_set_that_the_cpu_has(
    program: str, cpu: str, best: str, library: CInstall, tmp_path: Path
) -> None:
    require("qemu-x86_64")
    built = library.compile_static(
        tmp_path / program, C_PROGRAMS / f"{program}.c", *library.private_includes, "-static"
    )
    assert f"kernel set {best}\n" in run("qemu-x86_64", "-cpu", cpu, built)
