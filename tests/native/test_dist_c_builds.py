# SPDX-License-Identifier: Apache-2.0
"""The source archive for C users, built and tested as its page says: by gcc, clang and musl-gcc,
for this CPU and for others, with CMake and with meson; then found by each way of the page."""

import platform
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernelgen import targets
from support.c_fixtures import run
from support.dist_c import (
    meson_path,
    page_commands,
    page_files,
    page_outputs,
    shell,
    unpacked,
    without_python,
)
from support.tools import require


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("dist_c"))


@pytest.fixture
def user(archive: Path, tmp_path: Path) -> Path:
    """The folder of a user's project: the files of the page."""
    folder = tmp_path / "user"
    folder.mkdir()
    for name, text in page_files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Compiler:
    """command: with its options. emulator: what runs its programs, for CMake."""

    command: str
    options: str = ""
    family: str = platform.machine()
    emulator: str = ""

    def configure(self) -> list[str]:
        """Return the options of CMake."""
        words = [f"-DCMAKE_C_COMPILER={self.command}", f"-DCMAKE_C_FLAGS={self.options}"]
        if self.emulator:
            words += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={self.family}"]
            root = f"/usr/{self.family}-linux-gnu"
            words.append(f"-DCMAKE_CROSSCOMPILING_EMULATOR={self.emulator};-L;{root}")
        return words


COMPILERS = [
    Compiler("gcc"),
    Compiler("clang"),
    Compiler("musl-gcc"),
    Compiler("aarch64-linux-gnu-gcc", family="aarch64", emulator="qemu-aarch64"),
    Compiler("s390x-linux-gnu-gcc", family="s390x", emulator="qemu-s390x"),
]


@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda compiler: compiler.command)
def test_cmake_builds_and_tests_it_without_python(
    compiler: Compiler, archive: Path, tmp_path: Path
) -> None:
    require("cmake", compiler.command, *filter(None, [compiler.emulator]))
    path = without_python(tmp_path / "bin")
    build = tmp_path / "build"
    run("cmake", "-S", archive, "-B", build, *compiler.configure(), path=path)
    run("cmake", "--build", build, "--parallel", "2", path=path)
    output = run("env", "-C", build, "ctest", "--output-on-failure", "--timeout", "500", path=path)
    assert "100% tests passed" in output
    for kernel_set in targets.for_family(compiler.family):
        assert f"vectors/{kernel_set.name} " in output
    assert "vectors/portable" in output.replace(" .", ".")
    if compiler.emulator:  # its CPU has all that the sets need
        assert "Skipped" not in output


def test_cmake_refuses_a_cpu_without_kernels(archive: Path, tmp_path: Path) -> None:
    require("cmake", "gcc")
    # What the compiler says decides, not the name of this machine.
    flags = "-DCMAKE_C_FLAGS=-U__ELF__"
    with pytest.raises(AssertionError, match="No kernels for this CPU and system"):
        run("cmake", "-S", archive, "-B", tmp_path, flags)


def require_outputs(programs: Path, user: Path, **variables: str | Path) -> None:
    """Run the built program of the page; it must print what the page says."""
    expected = page_outputs()["./domain"]
    assert shell(str(programs / "domain"), user, **variables) == expected


def test_commands_of_the_page_with_cmake(archive: Path, user: Path, tmp_path: Path) -> None:
    require("cmake", "cc", "pkg-config")
    prefix, path = tmp_path / "prefix", without_python(tmp_path / "bin")
    shell(page_commands("With CMake"), archive, path, PREFIX=prefix)
    shell(f"cmake -S . -B build -DCMAKE_PREFIX_PATH='{prefix}' && cmake --build build", user, path)
    require_outputs(user / "build", user)
    shell(page_commands("From pkg-config"), user, path, PREFIX=prefix)
    require_outputs(user, user)

    # An installed tree can be moved; a release that is not there is not found.
    moved = prefix.rename(tmp_path / "moved")
    again = f"cmake -S . -B again -DCMAKE_PREFIX_PATH='{moved}'"
    shell(f"{again} && cmake --build again", user, path)
    require_outputs(user / "again", user)
    cmake = user / "CMakeLists.txt"
    cmake.write_text(cmake.read_text().replace("atlas12288 0.1 ", "atlas12288 0.2 "))
    with pytest.raises(AssertionError, match="compatible"):
        shell(again, user, path)


def test_commands_of_the_page_with_meson(archive: Path, user: Path, tmp_path: Path) -> None:
    require("cmake", "cc", "pkg-config")
    prefix, path = tmp_path / "prefix", meson_path(tmp_path / "bin")
    shell(
        page_commands("With meson").replace(" build", " build-meson"), archive, path, PREFIX=prefix
    )
    pkg_config = prefix / "lib" / "pkgconfig"
    shell("meson setup build && meson compile -C build", user, path, PKG_CONFIG_PATH=pkg_config)
    require_outputs(user / "build", user)
    # What meson installed is found by CMake too.
    shell(f"cmake -S . -B cmake -DCMAKE_PREFIX_PATH='{prefix}' && cmake --build cmake", user, path)
    require_outputs(user / "cmake", user)
    # By the environment, where the program does not name the folder.
    shell(f"cc domain.c -I{prefix}/include -L{prefix}/lib -latlas12288 -o domain", user, path)
    with pytest.raises(AssertionError, match=r"libatlas12288\.so\.0"):
        require_outputs(user, user)
    require_outputs(user, user, LD_LIBRARY_PATH=prefix / "lib")


def test_a_part_of_a_meson_project(archive: Path, user: Path, tmp_path: Path) -> None:
    require("cc")
    (user / "subprojects").mkdir()
    (user / "subprojects" / "atlas12288").symlink_to(archive)
    shell("meson setup build && meson compile -C build", user, meson_path(tmp_path / "bin"))
    require_outputs(user / "build", user)


def test_a_part_of_a_cmake_project(archive: Path, user: Path) -> None:
    require("cmake", "cc")
    cmake = user / "CMakeLists.txt"
    package = "find_package(atlas12288 0.1 REQUIRED)"
    assert package in cmake.read_text()
    part = f"add_subdirectory({archive} atlas12288)"
    cmake.write_text(cmake.read_text().replace(package, part))
    shell("cmake -S . -B build && cmake --build build", user)
    require_outputs(user / "build", user)


def test_two_archives_of_the_same_sources_are_the_same_bytes(tmp_path: Path) -> None:
    archives = []
    for name in "first", "second":
        unpacked(tmp_path / name)
        (found,) = (tmp_path / name).glob("*.tar.gz")
        archives.append(found.read_bytes())
    assert archives[0] == archives[1]
