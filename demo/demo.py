# SPDX-License-Identifier: Apache-2.0
"""Witnesses and verifies a real folder with the installed command line, then damages a copy of some
of its files and shows what is found.

Usage: python demo/demo.py [FOLDER]      (without FOLDER: the standard library of this Python)

Nothing is written into FOLDER. Exits 0 when everything is as it must be.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

PROGRAM = Path(sysconfig.get_path("scripts")) / "atlas12288"
MOST_TO_COPY = 16 * 2**20  # bytes of a file
# The standard library would else get new files while it is compared.
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(*arguments: str | Path, must_exit: int, cwd: Path | None = None) -> None:
    """Run a command, show what it prints, and stop the demo on another exit code."""
    print(" ".join(["$ atlas12288", *map(str, arguments)]), flush=True)
    done = subprocess.run([PROGRAM, *arguments], cwd=cwd, env=ENVIRONMENT, check=False)
    if done.returncode != must_exit:
        sys.exit(f"demo: the exit code is {done.returncode}, must be {must_exit}")
    print(f"  (exit code {done.returncode})")


def files_to_copy(folder: Path) -> list[Path]:
    """Return the largest files that are quickly copied; the first has two bytes to swap."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    found = sorted(
        (path for path, size in sizes.items() if size <= MOST_TO_COPY and os.access(path, os.R_OK)),
        key=lambda path: sizes[path],
        reverse=True,
    )
    while found and len(set(found[0].read_bytes())) < 2:
        del found[0]
    return found[:3]


def witness_and_verify(folder: Path, manifest: Path) -> None:
    heading("Witness the folder: SHA-256 and tree root of every file, in one manifest")
    start = time.perf_counter()
    run("witness", "--tree", folder, "-o", manifest, must_exit=0)
    print(f"  {time.perf_counter() - start:.2f} s")

    heading("Verify the folder against its manifest")
    start = time.perf_counter()
    run("verify", manifest, folder, must_exit=0)
    print(f"  {time.perf_counter() - start:.2f} s")


def damage(originals: list[Path], work: Path) -> None:
    copies = work / "copies"
    copies.mkdir()
    names = [f"{number}-{ascii(path.name)[1:-1]}" for number, path in enumerate(originals)]
    for name, path in zip(names, originals, strict=True):
        shutil.copyfile(path, copies / name)
    victim, *others = (copies / name for name in names)
    data = victim.read_bytes()
    middle = len(data) // 2

    def verify() -> None:
        run("verify", "copies.atlas.json", must_exit=1, cwd=work)

    heading(f"Copies of {len(names)} of its files, witnessed and verified")
    run("witness", "--tree", "copies", "-o", "copies.atlas.json", must_exit=0, cwd=work)
    run("verify", "copies.atlas.json", must_exit=0, cwd=work)

    heading(f"One bit of byte {middle} of {victim.name} flipped: its window is found")
    flipped = bytearray(data)
    flipped[middle] ^= 1
    victim.write_bytes(flipped)
    verify()

    heading("Two neighbouring bytes swapped: the residue cannot see it, the digests do")
    place = next(i for i in range(len(data) - 1) if data[i] != data[i + 1])
    swapped = bytearray(data)
    swapped[place], swapped[place + 1] = data[place + 1], data[place]
    victim.write_bytes(swapped)
    verify()

    heading("The last byte lost")
    victim.write_bytes(data[:-1])
    verify()

    heading("One file removed, and one added")
    victim.write_bytes(data)
    for gone in others[:1]:
        gone.unlink()
    (copies / "new").write_text("Nobody witnessed this.")
    verify()


def main() -> None:
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1] if len(sys.argv) == 2 else sysconfig.get_path("stdlib"))
    if not folder.is_dir():
        sys.exit(f"demo: {folder} is not a folder")
    originals = files_to_copy(folder)
    if not originals:
        sys.exit(f"demo: {folder} has no file of at most {MOST_TO_COPY} bytes with two that differ")
    heading("This library and this machine")
    run("info", must_exit=0)
    with tempfile.TemporaryDirectory(prefix="atlas12288-demo-") as work:
        witness_and_verify(folder, Path(work, "folder.atlas.json"))
        damage(originals, Path(work))
    heading("All as it must be.")


if __name__ == "__main__":
    main()
