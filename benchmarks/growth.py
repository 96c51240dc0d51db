# SPDX-License-Identifier: Apache-2.0
"""How costs grow: of a file's tree witness with the file, of a folder's manifest with its files.

Prints two tables in Markdown. Each row is measured in two processes, with one core and with all.
Files are sparse, so that the time goes into reading from the page cache and hashing, not into the
disk. Files of a folder have 1 KiB each, 1,000 in each of its subfolders. Rows with `--update` are
of this option where nothing has changed: all files are listed, and none is read.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Final

from atlas12288._bench import run_for_peak, size_text

_KIB: Final = 2**10
_MIB: Final = 2**20
SIZES: Final = (_KIB, 96 * _KIB, *(size * _MIB for size in (1, 8, 64, 512, 4096, 16384)))
FILES: Final = (10, 1_000, 50_000, 1_000_000)
_IN_A_FOLDER: Final = 1_000
THREADS: Final = {"1 core": "1", "all cores": "0"}

# Prints the median of the seconds. Small files are read often, large ones at least three times.
_PROGRAM: Final = """
import statistics, time
from atlas12288._file_witnesses import tree_witness_file
name, threads = sys.argv[1], int(sys.argv[2]) or None
tree_witness_file(name, threads=threads)
seconds, begin = [], time.perf_counter()
while len(seconds) < 3 or (len(seconds) < 51 and time.perf_counter() - begin < 2):
    start = time.perf_counter()
    tree_witness_file(name, threads=threads)
    seconds.append(time.perf_counter() - start)
print(statistics.median(seconds))
"""

# Prints the median of the seconds of the command, imports left out. What it says on standard error
# is kept apart: the peak is printed there.
_MANIFEST: Final = """
import io, os, re, statistics, time
from contextlib import redirect_stderr
from atlas12288._cli import main
from atlas12288.manifest import _store
_store.RACY_NS = 0  # an update knows files that were just made, too
folder, output, threads, known, *more = sys.argv[1:]
if threads == "1":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
seconds, begin = [], time.perf_counter()
while len(seconds) < 3 or (len(seconds) < 21 and time.perf_counter() - begin < 2):
    said = io.StringIO()
    start = time.perf_counter()
    with redirect_stderr(said):
        assert main(["witness", folder, "-o", output, "--threads", threads, *more]) == 0
    seconds.append(time.perf_counter() - start)
    found = re.search(r": ([0-9,]+) files known$", said.getvalue(), re.MULTILINE)
    assert (found[1] if found else "0") == known, said.getvalue()
print(statistics.median(seconds[1:]))
"""


def print_head(first: str, columns: tuple[str, ...]) -> None:
    headings = [f"{what}, {cores}" for cores in THREADS for what in columns]
    print(f"| {first} | {' | '.join(headings)} |")
    print(f"|{' ---: |' * (len(headings) + 1)}")


def print_files(most: int, folder: Path | None, interpreter: int, updates: bool) -> None:
    """Print how a folder's manifest grows up to `most` files, with rows of its updates or not."""
    print_head("files", ("s", "us/file", "MiB"))
    with tempfile.TemporaryDirectory(prefix="atlas12288-", dir=folder) as place:
        data = Path(place) / "data"
        os.environ["XDG_STATE_HOME"] = str(Path(place) / "state")
        made = 0
        for count in FILES:
            if count > most:
                break
            for number in range(made, count):
                name = data / str(number // _IN_A_FOLDER) / str(number % _IN_A_FOLDER)
                if number % _IN_A_FOLDER == 0 or number == made:
                    name.parent.mkdir(parents=True, exist_ok=True)
                name.write_bytes(b"%1024d" % number)
            made = count
            for option in ("", "--update") if updates else ("",):
                cells = [f"{count:,} {option}".rstrip()]
                for threads in THREADS.values():
                    number_of = threads if threads != "0" else str(len(os.sched_getaffinity(0)))
                    output = str(Path(place) / "out.atlas.json")
                    more = (f"{count:,}", option) if option else ("0",)
                    printed, peak = run_for_peak(_MANIFEST, str(data), output, number_of, *more)
                    seconds = float(printed.splitlines()[-1])
                    cells += (
                        f"{seconds:.3f}",
                        f"{seconds / count * 1e6:.1f}",
                        f"{(peak - interpreter) / _MIB:.1f}",
                    )
                print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most", type=int, default=SIZES[-1] // _MIB, metavar="MIB", help="the largest file"
    )
    parser.add_argument(
        "--files", type=int, default=FILES[-1], metavar="N", help="the most files of a folder"
    )
    parser.add_argument("--folder", type=Path, help="where the files are made")
    parser.add_argument("--no-updates", action="store_true", help="leave out the rows of --update")
    arguments = parser.parse_args()
    print_head("file", ("ns/byte", "GB/s", "MiB"))
    interpreter = run_for_peak("")[1]
    for size in SIZES:
        if size > arguments.most * _MIB:
            break
        cells = [size_text(size)]
        with tempfile.NamedTemporaryFile(prefix="atlas12288-", dir=arguments.folder) as file:
            file.truncate(size)
            for threads in THREADS.values():
                printed, peak = run_for_peak(_PROGRAM, file.name, threads)
                ns = float(printed) * 1e9
                cells += (
                    f"{ns / size:.3f}",
                    f"{size / ns:.2f}",
                    f"{(peak - interpreter) / _MIB:.1f}",
                )
        print(f"| {' | '.join(cells)} |", flush=True)
    print()
    print_files(arguments.files, arguments.folder, interpreter, not arguments.no_updates)
    print(
        "\nMedians. MiB: the most that was resident at one time, above an interpreter that does"
        " nothing."
    )


if __name__ == "__main__":
    main()
