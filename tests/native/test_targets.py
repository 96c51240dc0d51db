# SPDX-License-Identifier: Apache-2.0
"""The library on CPUs that are not this one: cross-compiled, with and without ATLAS_SINGLE_THREAD,
and run by qemu. Every kernel set of each CPU runs every C program, the vectors included."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from kernelgen import targets
from support.c_fixtures import C_PROGRAMS, CInstall, install, run
from support.c_inputs import vector_rows
from support.tools import require

PROGRAMS = ("rows", "extensions", "tree", "many", "regions", "threads", "kernels", "vectors")


@dataclass(frozen=True)
class Machine:
    """family: as meson names it. best: the kernel set that the emulated CPU must get."""

    family: str
    endian: str
    best: str

    @property
    def compiler(self) -> str:
        return f"{self.family}-linux-gnu-gcc"

    @property
    def emulator(self) -> str:
        return f"qemu-{self.family}"

    def cross_file(self) -> str:
        """What meson must know of it."""
        return f"""\
[binaries]
c = '{self.compiler}'
ar = '{self.family}-linux-gnu-ar'
strip = '{self.family}-linux-gnu-strip'

[host_machine]
system = 'linux'
cpu_family = '{self.family}'
cpu = '{self.family}'
endian = '{self.endian}'
"""


MACHINES = [Machine("aarch64", "little", "aarch64+sha2"), Machine("s390x", "big", "portable")]


@pytest.fixture(scope="module", params=MACHINES, ids=lambda machine: machine.family)
def machine(request: pytest.FixtureRequest) -> Machine:
    found: Machine = request.param
    require(found.compiler, found.emulator)
    return found


@pytest.fixture(scope="module", params=["threads", "single_thread"])
def build(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def library(machine: Machine, build: str, tmp_path_factory: pytest.TempPathFactory) -> CInstall:
    directory = tmp_path_factory.mktemp(machine.family)
    cross_file = directory / "cross.ini"
    cross_file.write_text(machine.cross_file())
    single_thread = str(build == "single_thread").lower()
    return install(directory, f"--cross-file={cross_file}", f"-Dsingle_thread={single_thread}")


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(
    program: str, machine: Machine, build: str, library: CInstall, tmp_path: Path
) -> None:
    if (program, build) == ("threads", "single_thread"):
        pytest.skip("all calls come from one thread")
    (tmp_path / "vectors.inc").write_text(vector_rows())
    built = library.compile_static(
        tmp_path / program,
        C_PROGRAMS / f"{program}.c",
        *library.private_includes,
        f"-I{tmp_path}",
        "-static",
        compiler=machine.compiler,
    )
    assert f"kernel set {machine.best}\n" in run(machine.emulator, built)
    if program == "threads":
        return  # a thousand emulated ones; which kernels they use changes nothing
    for kernel_set in targets.for_family(machine.family):
        assert f"kernel set {kernel_set.name}\n" in run(machine.emulator, built, kernel_set.name)
