# SPDX-License-Identifier: Apache-2.0
"""Witnesses real files with the installed command line, damages copies, and shows what is caught.

Usage: python demo/demo.py [FOLDER]      (without FOLDER: the standard library of this Python)

Exits 0 when everything is as it must be.
"""

import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

PROGRAM = Path(sysconfig.get_path("scripts")) / "atlas12288"
BATCH = 1000  # files, so that their names fit on one command line
MOST_TO_COPY = 16 * 2**20  # bytes


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(*arguments: str | Path, must_exit: int, quiet: bool = False) -> None:
    """Runs a command, shows what it prints, and stops the demo on another exit code."""
    words = [str(argument) for argument in arguments]
    line = " ".join(["$ atlas12288", *words])
    print(line if len(line) < 100 else f"{line[:80]} ... ({len(words)} arguments)", flush=True)
    done = subprocess.run([PROGRAM, *words], capture_output=quiet, check=False)
    if done.returncode != must_exit:
        if quiet:
            sys.stderr.buffer.write(done.stdout + done.stderr)
        sys.exit(f"demo: the exit code is {done.returncode}, must be {must_exit}")
    print(f"  (exit code {done.returncode})")


def data_files(folder: Path, inside_python: bool) -> list[Path]:
    skipped = {"__pycache__", "site-packages"} if inside_python else set()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and skipped.isdisjoint(path.relative_to(folder).parts)
    )


def file_to_damage(files: list[Path]) -> Path | None:
    """The largest file that is quickly copied and has two bytes to swap."""
    for path in sorted(files, key=lambda path: path.stat().st_size, reverse=True):
        if path.stat().st_size <= MOST_TO_COPY and len(set(path.read_bytes())) > 1:
            return path
    return None


def throughput(files: list[Path], seconds: float) -> str:
    total = sum(path.stat().st_size for path in files)
    rate = total / seconds / 1e6
    return f"  {len(files)} files, {total / 1e6:.1f} MB, {seconds:.2f} s, {rate:.0f} MB/s"


def witness_and_verify(files: list[Path], work: Path) -> None:
    batches = [files[i : i + BATCH] for i in range(0, len(files), BATCH)]
    heading("Witness every file: length, residue, SHA-256 digest, time")
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        run("witness", "-o", work / f"{number}.witnesses", *batch, must_exit=0)
    print(throughput(files, time.perf_counter() - start))

    heading("Verify every file against its witness")
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        run("verify", work / f"{number}.witnesses", *batch, must_exit=0, quiet=True)
    print(throughput(files, time.perf_counter() - start))


def damage(original: Path, work: Path) -> None:
    data = original.read_bytes()
    copy, witness = work / original.name, work / f"{original.name}.witness.json"
    copy.write_bytes(data)
    middle = len(data) // 2

    heading(f"A copy of {original.name} ({len(data)} bytes), witnessed and verified")
    run("witness", copy, "-o", witness, must_exit=0)
    run("verify", witness, copy, must_exit=0)

    heading(f"One bit of byte {middle} flipped: caught")
    flipped = bytearray(data)
    flipped[middle] ^= 1
    copy.write_bytes(flipped)
    run("verify", witness, copy, must_exit=1)

    heading("Two neighbouring bytes swapped: the residue cannot see it, the digest does")
    place = next(i for i in range(len(data) - 1) if data[i] != data[i + 1])
    swapped = bytearray(data)
    swapped[place], swapped[place + 1] = data[place + 1], data[place]
    copy.write_bytes(swapped)
    run("verify", witness, copy, must_exit=1)

    heading("The last byte lost: caught")
    copy.write_bytes(data[:-1])
    run("verify", witness, copy, must_exit=1)


def main() -> None:
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    inside_python = len(sys.argv) == 1
    folder = Path(sysconfig.get_path("stdlib") if inside_python else sys.argv[1])
    if not folder.is_dir():
        sys.exit(f"demo: {folder} is not a folder")
    files = data_files(folder, inside_python)
    victim = file_to_damage(files)
    if victim is None:
        sys.exit(f"demo: {folder} has no file of at most {MOST_TO_COPY} bytes with two that differ")
    heading(f"{len(files)} files of {folder}")
    run("info", must_exit=0)
    with tempfile.TemporaryDirectory(prefix="atlas12288-demo-") as work:
        witness_and_verify(files, Path(work))
        damage(victim, Path(work))
    heading("All as it must be.")


if __name__ == "__main__":
    main()
