# SPDX-License-Identifier: Apache-2.0
"""Builds the WebAssembly modules: the C runtime, single-threaded, with the kernels of kernelgen.

    python js/wasm/build.py --output build/wasm

needs llvmlite and ziglang, whose clang, linker and wasi-libc it uses. It writes atlas12288.wasm,
which any engine with 64-bit integers runs, and atlas12288-simd.wasm, which needs simd128; and
parts.json, how many bytes of each module its parts take.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from kernelgen import contract, emit, facts, targets  # noqa: E402  (the build's own package)

SYSTEM = "wasi"
CPU = "-".join(("generic", *(name.replace("-", "_") for name in targets.WASM_WITHOUT)))
# Output file: the CPU family whose kernel sets it holds; "" is for the portable set alone.
MODULES = {"atlas12288.wasm": "", "atlas12288-simd.wasm": "wasm32"}
KERNELS = (contract.DELTA, contract.WINDOW_CHECK, contract.UPDATE)
HOST = ("atlas_host_alloc", "atlas_host_free")  # js/wasm/host.c
STACK_BYTES = 64 << 10  # the deepest call, atlas_tree_stream_update, takes 16 KiB

_CUSTOM_SECTION, _CODE_SECTION, _DATA_SECTION = 0, 10, 11
_FUNCTION_NAMES = 1  # subsection of the section "name"


def contract_functions() -> list[str]:
    """The functions that conservation.h declares: all of them are exported."""
    declared = re.findall(r"\b(atlas_\w+)\([^)]*\);", facts.HEADER.read_text(encoding="utf-8"))
    return sorted(set(declared))


def project_version() -> str:
    found = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text(encoding="utf-8"))
    if found is None:
        raise LookupError("meson.build: no line \"version: '...'\"")
    return found.group(1)


def compile_and_link(
    sources: Sequence[Path], exports: Iterable[str], output: Path, *arguments: str
) -> None:
    """Makes a module of C sources and objects, single-threaded, with names of functions.

    Args:
        sources: beside the module's host functions.
        exports: functions to export; all must be there.
        output: the module.
        arguments: more ones of the compiler.
    """
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", f"wasm32-{SYSTEM}", f"-mcpu={CPU}"),
            *("-std=c11", "-O3", "-g0", "-mexec-model=reactor"),
            *("-DATLAS_SINGLE_THREAD", f'-DATLAS_VERSION="{project_version()}"'),
            *("-I", str(ROOT / "include"), *arguments),
            # First, so that the linker takes its timespec_get and not the C library's.
            str(ROOT / "js" / "wasm" / "host.c"),
            *map(str, sources),
            *(f"-Wl,--export={name}" for name in exports),
            f"-Wl,-z,stack-size={STACK_BYTES}",  # first in memory: one that is too deep traps
            *("-o", str(output)),
        ],
        check=True,
    )


def link(family: str, output: Path, scratch: Path) -> None:
    """Compiles and links the module with the kernel sets of a family, with names of functions."""
    (scratch / "atlas_kernels.h").write_text(emit.header(family), encoding="utf-8")
    objects = {"entry": emit.entry_object("wasm32", SYSTEM)}
    for kernel_set in targets.for_family(family):
        objects[kernel_set.identifier] = emit.kernel_set_object(kernel_set, "wasm32", SYSTEM)
    for name, code in objects.items():
        (scratch / f"{name}.o").write_bytes(code)
    sources = [
        *sorted((ROOT / "runtime").glob("*.c")),
        *(scratch / f"{name}.o" for name in objects),
    ]
    exports = (*contract_functions(), *KERNELS, *HOST)
    compile_and_link(sources, exports, output, "-I", str(scratch))


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned integer at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _sections(data: bytes, at: int = 8) -> Iterator[tuple[int, bytes, bytes]]:
    """Identifier, whole and content of each section, or subsection, from an offset on."""
    while at < len(data):
        size, start = _leb128(data, at + 1)
        yield data[at], data[at : start + size], data[start : start + size]
        at = start + size


def _items(content: bytes, *, named: bool) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each function's code, or name (each with its number)."""
    count, at = _leb128(content, 0)
    for position in range(count):
        number, at = _leb128(content, at) if named else (position, at)
        size, at = _leb128(content, at)
        yield number, content[at : at + size]
        at += size


def stripped(module: bytes) -> tuple[bytes, dict[str, int]]:
    """The module without custom sections, and how many bytes of it each part takes."""
    parts = {"kernels": 0, "runtime": 0, "C library": 0, "data": 0, "types and names": 8}
    code: dict[int, int] = {}
    names: dict[int, str] = {}
    kept = [module[:8]]
    for kind, whole, content in _sections(module):
        if kind == _CUSTOM_SECTION:
            size, at = _leb128(content, 0)
            if content[at : at + size] == b"name":
                for part, _, items in _sections(content, at + size):
                    if part == _FUNCTION_NAMES:
                        names = {n: name.decode() for n, name in _items(items, named=True)}
            continue
        kept.append(whole)
        if kind == _CODE_SECTION:
            code = {number: len(body) for number, body in _items(content, named=False)}
        else:
            parts["data" if kind == _DATA_SECTION else "types and names"] += len(whole)
    imported = len(names) - len(code)  # imports are numbered first
    files = [*(ROOT / "runtime").glob("*.c"), ROOT / "js" / "wasm" / "host.c"]
    sources = "".join(path.read_text(encoding="utf-8") for path in files)
    own = set(re.findall(r"^(?:static )?[a-z][\w ]*[ *]+(\w+)\(", sources, re.MULTILINE))
    for number, size in code.items():
        name = names[number + imported]
        if name.startswith("atlas."):
            parts["kernels"] += size
        else:
            parts["runtime" if name in own else "C library"] += size
    return b"".join(kept), parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the modules")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    parts_of = {}
    for name, family in MODULES.items():
        with tempfile.TemporaryDirectory() as scratch:
            linked = Path(scratch) / name
            link(family, linked, Path(scratch))
            module, parts = stripped(linked.read_bytes())
        (output / name).write_bytes(module)
        parts_of[name] = parts
        text = ", ".join(f"{part} {size / 1024:.1f}" for part, size in parts.items())
        print(f"{output / name}: {len(module) / 1024:.1f} KiB ({text})")
    (output / "parts.json").write_text(json.dumps(parts_of, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
