# SPDX-License-Identifier: Apache-2.0
"""A folder of real files, witnessed by this project and hashed by what people use today.

Prints a table in Markdown. The folder holds copies of the installed packages of this Python, and an
archive of them as one large file, until it has `--gigabytes`; or `--small` files of 300 B to 40 kB,
or `--large` files of 256 MiB, or one file of `--one` GiB.
Everything is read once before, so that all read from memory. Each command runs `--repeat` times, in
turns with the others, with all its processes on as many CPUs as it has threads, and its median
counts. Peers that are not installed are left out, and named; `--peers` chooses some.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
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
_FOUND: Final = 'find "$1" -type f -print0 | {} > /dev/null'
_XARGS: Final = _FOUND.format(
    'if [ "$2" = 1 ]; then xargs -0 {0}; else xargs -0 -n 512 -P "$2" {0}; fi'
)
_TOOLS: Final = {
    "sha256sum": "SHA-256",
    "openssl dgst -sha256": "SHA-256",
    "b3sum --num-threads {threads}": "BLAKE3",
}
PEERS: Final = ("sha256sum", "openssl", "b3sum", "model_signing", "blake3", "dvc_data")


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


def rows(place: Path, files: int) -> list[Row]:
    """All commands on a number of files; ours write their manifests to a folder."""
    return [
        row
        for threads in (1, 2)
        for row in (*_ours(place, threads), *_peers(place, threads, files))
    ]


def _ours(place: Path, threads: int) -> Iterator[Row]:
    folder, manifests = None, {"SHA-256": (), "tree": ("--tree", "--no-flat")}
    for digest, options in (manifests | {"SHA-256 and tree": ("--tree",)}).items():
        manifest = str(place / f"{digest}.atlas.json")
        for name, arguments in (
            (" ".join(("witness", *options)), ("witness", folder, "-o", manifest, *options)),
            ("verify", ("verify", manifest, folder)),
        ):
            yield _atlas(name, digest, threads, arguments)
    tool = f"{shlex.quote(sys.executable)} -m atlas12288 sum"
    command = ("sh", "-c", _FOUND.format(f"xargs -0 {tool}"), "sh", folder)
    yield Row("`find \\| xargs atlas12288 sum`", "SHA-256", threads, "", command)
    command = ("sh", "-c", _FOUND.format(f"{tool} --files0-from -"), "sh", folder)
    yield Row("`find \\| atlas12288 sum --files0-from -`", "SHA-256", threads, "", command)
    yield _atlas("check-sums", "SHA-256", threads, ("check-sums", str(place / SUMS)))


def _atlas(name: str, digest: str, threads: int, arguments: tuple[str | None, ...]) -> Row:
    command = (sys.executable, "-m", "atlas12288", *arguments, "--threads", str(threads))
    return Row(f"atlas12288 {name}", digest, threads, "", command)


def _peers(place: Path, threads: int, files: int) -> Iterator[Row]:
    check = ("sh", "-c", f"sha256sum --quiet --check {place / SUMS}", "sh")
    yield Row("`sha256sum --check`, one process", "SHA-256", threads, "sha256sum", check)
    for tool, digest in _TOOLS.items():
        # One process for each CPU, or threads where there is one file.
        text = tool.format(threads=threads if files == 1 else 1)
        command = ("sh", "-c", _XARGS.format(text), "sh", None, str(threads))
        yield Row(f"`find \\| xargs {text}`", digest, threads, tool.split()[0], command)
    for name, digest, program, workers in (
        ("model_signing", "SHA-256", _MODEL_SIGNING, threads),
        ("blake3", "BLAKE3", _BLAKE3, 1 if threads == 1 else 0),
        ("dvc_data", "MD5", _DVC, threads),
    ):
        yield Row(name.replace("_", "-"), digest, threads, name, _python(program, workers))


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


def make_large(folder: Path, count: int, size: int = 256 << 20) -> int:
    """Fills the folder with files of so many bytes, whole MiB.

    Returns:
        How many bytes they have.
    """
    numbers = random.Random(1)
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


def table(measured: dict[Row, list[float]], size: int, files: int) -> str:
    """The table in Markdown."""
    medians = {row: statistics.median(seconds) for row, seconds in measured.items()}
    base = next(row.needs for row in medians if row.needs and "xargs" in row.name)
    against = {row.threads: s for row, s in medians.items() if f"xargs {base}" in row.name}
    lines = [
        f"{files:,} {'file' if files == 1 else 'files'}, {size / _GB:.2f} GB.",
        "",
        f"| command | digest of each file | threads | s | GB/s | against `{base}` |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row, seconds in medians.items():
        spread = (max(measured[row]) - min(measured[row])) / 2 / seconds
        lines.append(
            f"| {row.name} | {row.digest} | {row.threads} | {seconds:.2f} ±{spread:.0%} "
            f"| {size / seconds / _GB:.2f} | {against[row.threads] / seconds:.2f}x |"
        )
    lines += ("", "s: median ± half of what lies between the shortest run and the longest.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--small", type=int, metavar="N", help="make N small files instead")
    parser.add_argument("--large", type=int, metavar="N", help="make N files of 256 MiB instead")
    parser.add_argument("--one", type=int, metavar="GIB", help="make one file of GIB GiB instead")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
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
        elif arguments.one is not None:
            size = make_large(folder, 1, arguments.one << 30)
        else:
            size = make_folder(folder, int(arguments.gigabytes * _GB))
        files = sum(path.is_file() for path in folder.rglob("*"))
        chosen = {"", *arguments.peers}
        all_commands = [row for row in rows(Path(place), files) if row.needs in chosen]
        commands = [row for row in all_commands if is_installed(row)]
        for row in all_commands:
            if row not in commands:
                print(f"left out, not installed: {row.name}", file=sys.stderr)
        measured: dict[Row, list[float]] = {row: [] for row in commands}
        make_sums = ("sh", "-c", _MAKE_SUMS, "sh", folder, Path(place) / SUMS)
        subprocess.run(make_sums, check=True)  # also brings the files into memory
        for _ in range(arguments.repeat):
            for row in commands:
                measured[row].append(run(row, folder))
                print(f"{row.threads} {row.name}: {measured[row][-1]:.2f} s", file=sys.stderr)
    if arguments.json:
        print(json.dumps([{**row._asdict(), "seconds": s} for row, s in measured.items()]))
    else:
        print(table(measured, size, files))


if __name__ == "__main__":
    main()
