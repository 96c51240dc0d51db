# SPDX-License-Identifier: Apache-2.0
"""The C runtime under the sanitizers. The kernels are made by LLVM without them; guard pages watch
those, in test_kernel_tables.py."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.c_fixtures import C_PROGRAMS, CInstall, install, run
from support.tools import require

MEMORY, THREADS = "address,undefined", "thread"
Build = Callable[[str, str, bool], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A program of tests/c with a sanitizer, the library with or without ATLAS_SINGLE_THREAD."""
    require("cc")
    libraries: dict[tuple[str, bool], CInstall] = {}

    def program(name: str, sanitizer: str, single_thread: bool) -> Path:
        directory = tmp_path_factory.mktemp("sanitized")
        library = libraries.get((sanitizer, single_thread)) or install(
            directory,
            f"-Db_sanitize={sanitizer}",
            "-Db_lundef=false",
            f"-Dsingle_thread={str(single_thread).lower()}",
        )
        libraries[sanitizer, single_thread] = library
        flags = f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"
        return library.compile_static(directory / name, C_PROGRAMS / f"{name}.c", *flags)

    return program


@pytest.mark.parametrize("single_thread", [False, True], ids=["threads", "single_thread"])
@pytest.mark.parametrize("program", ["rows", "extensions", "tree", "many", "regions"])
def test_memory_and_undefined_behaviour(program: str, single_thread: bool, build: Build) -> None:
    run(build(program, MEMORY, single_thread))


@pytest.mark.parametrize("sanitizer", [MEMORY, THREADS])
def test_threads(sanitizer: str, build: Build) -> None:
    run(build("threads", sanitizer, False))
