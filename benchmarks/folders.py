# SPDX-License-Identifier: Apache-2.0
"""A folder of real files, witnessed by this project and hashed by what people use today.

Prints a table in Markdown. The folder holds copies of the installed packages of this Python, and an
archive of them as one large file, until it has `--gigabytes`; or `--small` files of 300 B to 40 kB,
or `--large` files of 256 MiB.
Everything is read once before, so that all read from memory. Each command runs `--repeat` times, in
turns with the others, with all its processes on as many CPUs as it has threads, and its median
counts. Commands that are not installed are left out, and named.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

_GB: Final = 10**9
SUMS: Final = "sums"  # a list of `sha256sum`, of all files
_MAKE_SUMS: Final = 'find "$1" -type f -print0 | xargs -0 sha256sum > "$2"'

_BLAKE3: Final = """
import sys
from pathlib import Path
from blake3 import blake3
threads = blake3.AUTO if sys.argv[2] == "0" else int(sys.argv[2])
for path in Path(sys.argv[1]).rglob("*"):
    if path.is_file():
        blake3(max_threads=threads).update_mmap(path).hexdigest()
"""
_MODEL_SIGNING: Final = """
import sys
from model_signing import hashing
hashing.Config().use_file_serialization(max_workers=int(sys.argv[2])).hash(sys.argv[1])
"""
_DVC: Final = """
import sys, tempfile
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.local import LocalFileSystem
with tempfile.TemporaryDirectory() as cache:
    fs = LocalFileSystem()
    build(HashFileDB(fs, cache), sys.argv[1], fs, "md5", dry_run=True,
          checksum_jobs=int(sys.argv[2]))
"""
# In parts only where several run at once: one process for all files is the quickest on one CPU.
_XARGS: Final = (
    'find "$1" -type f -print0 | if [ "$2" = 1 ]; then xargs -0 {0}; else '
    'xargs -0 -n 512 -P "$2" {0}; fi > /dev/null'
)
_TOOLS: Final = {
    "sha256sum": "SHA-256",
    "openssl dgst -sha256": "SHA-256",
    "b3sum --num-threads 1": "BLAKE3",
}


class Row(NamedTuple):
    """A command that reads the whole folder.

    Attributes:
        name: what the table calls it.
        digest: what it makes of each file.
        threads: how many it may use.
        needs: the program, or the module of Python, that must be installed; "" for none but ours.
        command: with the folder to be put at the place of None.
    """

    name: str
    digest: str
    threads: int
    needs: str
    command: tuple[str | None, ...]


def _python(program: str, threads: int) -> tuple[str | None, ...]:
    return (sys.executable, "-c", program, None, str(threads))


def rows(place: Path) -> list[Row]:
    """All commands; ours write their manifests to a folder."""
    flat, both = str(place / "flat.atlas.json"), str(place / "both.atlas.json")
    found = []
    for threads in (1, 2):
        for name, digest, output, options in (
            ("atlas12288 witness", "SHA-256", flat, ()),
            (
                "atlas12288 witness --tree --no-flat",
                "tree",
                str(place / "tree.atlas.json"),
                ("--tree", "--no-flat"),
            ),
            (
                "atlas12288 witness --tree",
                "SHA-256 and tree",
                both,
                ("--tree",),
            ),
        ):
            ours = (sys.executable, "-m", "atlas12288", "witness", None, "-o", output, *options)
            found.append(Row(name, digest, threads, "", (*ours, "--threads", str(threads))))
        for digest, manifest in (("SHA-256", flat), ("SHA-256 and tree", both)):
            verify = (sys.executable, "-m", "atlas12288", "verify", manifest, None)
            verify = (*verify, "--threads", str(threads))
            found.append(Row("atlas12288 verify", digest, threads, "", verify))
        sums = str(place / SUMS)
        check = (sys.executable, "-m", "atlas12288", "check-sums", sums, "--threads", str(threads))
        found.append(Row("atlas12288 check-sums", "SHA-256", threads, "", check))
        check = ("sh", "-c", f"sha256sum --quiet --check {sums}", "sh")
        found.append(
            Row("`sha256sum --check`, one process", "SHA-256", threads, "sha256sum", check)
        )
        for tool, digest in _TOOLS.items():
            command = ("sh", "-c", _XARGS.format(tool), "sh", None, str(threads))
            found.append(Row(f"`find \\| xargs {tool}`", digest, threads, tool.split()[0], command))
        found += [
            Row(
                "model-signing",
                "SHA-256",
                threads,
                "model_signing",
                _python(_MODEL_SIGNING, threads),
            ),
            Row("blake3", "BLAKE3", threads, "blake3", _python(_BLAKE3, 1 if threads == 1 else 0)),
            Row("dvc-data", "MD5", threads, "dvc_data", _python(_DVC, threads)),
        ]
    return found


def make_folder(folder: Path, size: int) -> int:
    """Fills the folder with real files.

    Returns:
        How many bytes they have, at least `size`.
    """
    packages = Path(sysconfig.get_path("purelib"))
    total, copy = 0, 0
    while total < size:
        target = folder / f"packages-{copy}"
        shutil.copytree(packages, target, ignore=shutil.ignore_patterns("__pycache__"))
        if copy == 0:
            with tarfile.open(folder / "packages.tar", "w") as archive:
                archive.add(target, arcname="packages")
        copy += 1
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return total


def make_small(folder: Path, count: int) -> int:
    """Fills the folder with small files, 200 in each folder; their sizes are evenly spread in their
    logarithm.

    Returns:
        How many bytes they have.
    """
    numbers = random.Random(1)
    total = 0
    for number in range(count):
        place = folder / f"{number // 200:05}"
        place.mkdir(exist_ok=True)
        content = numbers.randbytes(int(300 * 133 ** numbers.random()))
        (place / f"{number:07}.bin").write_bytes(content)
        total += len(content)
    return total


def make_large(folder: Path, count: int) -> int:
    """Fills the folder with files of 256 MiB.

    Returns:
        How many bytes they have.
    """
    numbers = random.Random(1)
    size = 256 << 20
    for number in range(count):
        with (folder / f"{number:03}.bin").open("wb") as file:
            for _ in range(size >> 20):
                file.write(numbers.randbytes(1 << 20))
    return count * size


def is_installed(row: Row) -> bool:
    """Whether the command can run here."""
    find = shutil.which if row.command[0] == "sh" else find_spec
    return not row.needs or find(row.needs) is not None


def run(row: Row, folder: Path) -> float:
    """Seconds that the command takes, on as many CPUs as it has threads."""
    command = [str(folder) if part is None else part for part in row.command]
    cpus = sorted(os.sched_getaffinity(0))[: row.threads]
    begin = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    return time.perf_counter() - begin


def table(measured: Sequence[tuple[Row, float]], size: int, files: int) -> str:
    """The table in Markdown."""
    base = {row.threads: seconds for row, seconds in measured if "xargs sha256sum" in row.name}
    lines = [
        f"{files:,} files, {size / _GB:.2f} GB.",
        "",
        "| command | digest of each file | threads | s | GB/s | against `sha256sum` |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row, seconds in measured:
        lines.append(
            f"| {row.name} | {row.digest} | {row.threads} | {seconds:.2f} "
            f"| {size / seconds / _GB:.2f} | {base[row.threads] / seconds:.2f}x |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--small", type=int, metavar="N", help="make N small files instead")
    parser.add_argument("--large", type=int, metavar="N", help="make N files of 256 MiB instead")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the seconds of every run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        folder.mkdir()
        if arguments.small is not None:
            size = make_small(folder, arguments.small)
        elif arguments.large is not None:
            size = make_large(folder, arguments.large)
        else:
            size = make_folder(folder, int(arguments.gigabytes * _GB))
        files = sum(path.is_file() for path in folder.rglob("*"))
        all_commands = rows(Path(place))
        commands = [row for row in all_commands if is_installed(row)]
        for row in all_commands:
            if row not in commands:
                print(f"left out, not installed: {row.name}", file=sys.stderr)
        seconds: dict[Row, list[float]] = {row: [] for row in commands}
        make_sums = ("sh", "-c", _MAKE_SUMS, "sh", folder, Path(place) / SUMS)
        subprocess.run(make_sums, check=True)  # also brings the files into memory
        for _ in range(arguments.repeat):
            for row in commands:
                seconds[row].append(run(row, folder))
                print(f"{row.threads} {row.name}: {seconds[row][-1]:.2f} s", file=sys.stderr)
    if arguments.json:
        print(json.dumps([{**row._asdict(), "seconds": seconds[row]} for row in commands]))
    else:
        medians = [(row, statistics.median(seconds[row])) for row in commands]
        print(table(medians, size, files))


if __name__ == "__main__":
    main()
