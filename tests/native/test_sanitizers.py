# SPDX-License-Identifier: Apache-2.0
"""The C runtime under the sanitizers. The kernels are made by LLVM without them; guard pages watch
those, in test_kernel_tables.py."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.c_fixtures import C_PROGRAMS, ROOT, CInstall, run
from support.shared import made_once

MEMORY, THREADS = "address,undefined", "thread"
Build = Callable[[str, str, bool], Path]


@pytest.fixture(scope="module")
def build(library: CInstall, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A program of tests/c with a sanitizer, the runtime with or without ATLAS_SINGLE_THREAD."""

    def program(name: str, sanitizer: str, single_thread: bool) -> Path:
        flags = "-std=c11", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"
        definitions = ['-DATLAS_VERSION="0.0.0"', *["-DATLAS_SINGLE_THREAD"] * single_thread]

        def compile_runtime(folder: Path) -> None:
            for source in (ROOT / "runtime").glob("*.c"):
                inputs = *library.private_includes, *definitions, "-c", source
                library.compile(folder / f"{source.stem}.o", *flags, *inputs)

        runtime = made_once(
            tmp_path_factory, f"runtime_{sanitizer}_{single_thread}", compile_runtime
        )
        directory = tmp_path_factory.mktemp("sanitized")
        inputs = C_PROGRAMS / f"{name}.c", *runtime.glob("*.o"), *library.kernel_objects
        return library.compile(directory / name, *flags, *inputs)

    return program


@pytest.mark.parametrize("single_thread", [False, True], ids=["threads", "single_thread"])
@pytest.mark.parametrize("program", ["rows", "extensions", "tree", "many", "regions"])
def test_memory_and_undefined_behaviour(program: str, single_thread: bool, build: Build) -> None:
    run(build(program, MEMORY, single_thread))


@pytest.mark.parametrize("sanitizer", [MEMORY, THREADS])
def test_threads(sanitizer: str, build: Build) -> None:
    run(build("threads", sanitizer, False))
