# SPDX-License-Identifier: Apache-2.0
"""The C library as a C user has it: built and installed by meson, once for all workers."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.c_inputs import ROOT, vector_rows
from support.shared import made_once

if TYPE_CHECKING:
    from kernelgen.targets import KernelSet  # which needs llvmlite

C_PROGRAMS = ROOT / "tests" / "c"
# A Python that has llvmlite: named so where the one that runs the tests has none.
KERNELGEN_PYTHON = os.environ.get("ATLAS12288_KERNELGEN_PYTHON", sys.executable)
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")


def _wrap(*functions: str) -> str:
    return "-Wl," + ",".join(f"--wrap={name}" for name in functions)


ALLOCATORS = _wrap("malloc", "calloc", "realloc", "free")
SYSTEM_CALLS = _wrap("mmap", "mmap64", "fcntl", "fcntl64", "mprotect", "syscall")


def run(*command: str | Path, path: Path | None = None) -> str:
    """Runs a command that must exit 0, with `path` in front of PATH; returns what it printed."""
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}, must be 0\n{done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class CInstall:
    """An installed library. build: where it was built, if it was built here."""

    prefix: Path
    build: Path | None = None

    @property
    def include_dir(self) -> Path:
        return self.prefix / "include"

    @property
    def kernel_objects(self) -> list[Path]:
        """What kernelgen made for the library."""
        assert self.build is not None
        return sorted(self.build.glob("kernels-*.o"))

    @property
    def private_includes(self) -> tuple[str, str]:
        """Flags for a program that looks inside: internal.h, and the header of the kernels."""
        assert self.build is not None
        return f"-I{ROOT / 'runtime'}", f"-I{self.build}"

    @property
    def library_dir(self) -> Path:
        return self.prefix / "lib"

    @property
    def pkgconfig_dir(self) -> Path:
        return self.library_dir / "pkgconfig"

    @property
    def shared_library(self) -> Path:
        suffix = "dylib" if sys.platform == "darwin" else "so"
        return self.library_dir / f"libatlas12288.{suffix}"

    @property
    def static_library(self) -> Path:
        return self.library_dir / "libatlas12288.a"

    def compile_static(
        self, program: Path, source: Path, *flags: str | Path, compiler: str = "cc"
    ) -> Path:
        """Builds a C11 program with the static library."""
        inputs = source, self.static_library
        return self.compile(program, "-std=c11", *flags, *inputs, compiler=compiler)

    def compile_shared(
        self,
        program: Path,
        source: Path,
        *flags: str | Path,
        compiler: str = "cc",
        standard: str = "c11",
    ) -> Path:
        """Builds a program that loads the shared library from where it is."""
        search = f"-L{self.library_dir}", f"-Wl,-rpath,{self.library_dir}"
        inputs = source, *search, "-latlas12288"
        return self.compile(program, f"-std={standard}", *flags, *inputs, compiler=compiler)

    def compile(self, output: Path, *flags: str | Path, compiler: str = "cc") -> Path:
        """Builds what the flags say, with the header."""
        common = *STRICT, "-O1", "-g", f"-I{self.include_dir}", "-pthread"
        run(compiler, *common, *flags, "-o", output)
        return output


def install(directory: Path, *options: str) -> CInstall:
    """Builds the library with meson options, and installs it below the directory."""
    meson = sys.executable, "-m", "mesonbuild.mesonmain"
    options = (f"-Dkernelgen_python={KERNELGEN_PYTHON}", *options)
    build, prefix = directory / "build", directory / "prefix"
    tools = Path(sys.executable).parent  # ninja, where it is a package of this environment
    run(*meson, "setup", build, ROOT, f"--prefix={prefix}", "--libdir=lib", *options, path=tools)
    run(*meson, "install", "-C", build, path=tools)
    return CInstall(prefix, build)


@pytest.fixture(scope="session")
def c_install(tmp_path_factory: pytest.TempPathFactory) -> CInstall:
    """Return the library; ATLAS12288_PREFIX names one that is installed already, as make does."""
    if prefix := os.environ.get("ATLAS12288_PREFIX"):
        build = Path(prefix).with_name("build")  # where `install` has it
        return CInstall(Path(prefix), build if build.is_dir() else None)
    folder = made_once(tmp_path_factory, "c_install", install)
    return CInstall(folder / "prefix", folder / "build")


@pytest.fixture(scope="session")
def kernel_object(c_install: CInstall) -> "Callable[[KernelSet], bytes]":
    """Return what gives the object of a kernel set of this CPU family that the build links."""

    def read(kernel_set: "KernelSet") -> bytes:
        assert c_install.build is not None, "ATLAS12288_PREFIX names a library without its objects"
        return (c_install.build / f"kernels-{kernel_set.name}.o").read_bytes()

    return read


@pytest.fixture(scope="session")
def c_program(
    c_install: CInstall, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The program of a file in tests/c, by its name; built once, with the shared library."""
    vectors = made_once(
        tmp_path_factory,
        "c_vectors",
        lambda folder: (folder / "vectors.inc").write_text(vector_rows()),
    )

    def build(name: str) -> Path:
        def compile_in(folder: Path) -> None:
            c_install.compile_shared(folder / name, C_PROGRAMS / f"{name}.c", f"-I{vectors}")

        return made_once(tmp_path_factory, f"c_program_{name}", compile_in) / name

    return build


if __name__ == "__main__":
    install(Path(sys.argv[1]).resolve())
