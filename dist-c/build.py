# SPDX-License-Identifier: Apache-2.0
"""Makes the source archive for C users, who need a C compiler and neither Python nor llvmlite.

    python dist-c/build.py --output dist

writes atlas12288-c-VERSION.tar.gz: the header, the runtime, the kernels of each CPU family as
assembly for GNU as and clang, two builds (CMake and meson), tests, and the page for C users. Two
runs on the same sources write the same bytes.
"""

import argparse
import gzip
import io
import re
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from kernelgen import emit, targets  # noqa: E402  (the build's own package)
from support.c_inputs import contract_examples, vector_rows  # noqa: E402

# CPU families, as meson names them, on systems whose objects are ELF files.
FAMILIES = ("aarch64", "s390x", "x86_64")
SYSTEM = "linux"
# Programs of tests/c that need the library and nothing else.
PROGRAMS = (
    "contract_examples",
    "extensions",
    "kernels",
    "many",
    "regions",
    "rows",
    "threads",
    "tree",
    "vectors",
)
# Patterns of the files that the archive has as they are, and its folder for them.
COPIED = {
    "LICENSE": "",
    "dist-c/CMakeLists.txt": "",
    "dist-c/README.md": "",
    "dist-c/meson*": "",
    "dist-c/package/*": "package/",
    "docs/c.md": "docs/",
    "docs/contract.md": "docs/",
    "include/atlas/*.h": "include/atlas/",
    "runtime/*.[ch]": "runtime/",
    "runtime/meson.build": "runtime/",
    "tests/c/check.h": "tests/",
    **{f"tests/c/{name}.c": "tests/" for name in PROGRAMS},
}


def project_version() -> str:
    """Return the version that meson.build names."""
    found = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text(encoding="utf-8"))
    if found is None:
        raise LookupError("meson.build: no line \"version: '...'\"")
    return found.group(1)


def kernel_files(family: str) -> dict[str, str]:
    """Return what a folder kernels/FAMILY holds, by file name."""
    sets = targets.for_family(family)
    files = {
        "atlas_kernels.h": emit.header(family),
        "entry.s": emit.entry_assembly(family, SYSTEM),
        "sets.txt": "".join(f"{kernel_set.name}\n" for kernel_set in sets),
    }
    for kernel_set in sets:
        files[f"{kernel_set.name}.s"] = emit.kernel_set_assembly(kernel_set, family, SYSTEM)
    return files


def archive_files() -> dict[str, bytes]:
    """Return all files of the archive by their paths in it."""
    copied = {}
    for pattern, folder in COPIED.items():
        found = sorted(ROOT.glob(pattern))
        if not found:
            raise LookupError(f"no file {pattern}")
        copied |= {folder + path.name: path.read_bytes() for path in found}

    made = {
        "VERSION": f"{project_version()}\n",
        "tests/programs.txt": "".join(f"{name}\n" for name in PROGRAMS),
        "tests/vectors.inc": vector_rows(),
    }
    made |= {f"tests/{name}": code for name, code in contract_examples().items()}
    for family in FAMILIES:
        made |= {f"kernels/{family}/{name}": text for name, text in kernel_files(family).items()}
    return copied | {name: text.encode() for name, text in made.items()}


def archive(top: str, files: dict[str, bytes]) -> bytes:
    """Return a .tar.gz of files below the folder `top`, the same bytes on each run."""
    output = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=output, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(f"{top}/{name}")  # owner root, mode 644, time 0
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return output.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the archive")
    output: Path = parser.parse_args().output
    top = f"atlas12288-c-{project_version()}"
    data = archive(top, archive_files())
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{top}.tar.gz").write_bytes(data)
    print(f"{output / top}.tar.gz: {len(data) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
