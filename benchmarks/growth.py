# SPDX-License-Identifier: Apache-2.0
"""How the cost of a file's tree witness grows with the file: time per byte, and memory.

Prints a table in Markdown. Each size is a process of its own, on a sparse file: what counts is
reading from the page cache and hashing, not the disk.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Final

from atlas12288._bench import run_for_peak, size_text

_MIB: Final = 2**20
SIZES: Final = tuple(size * _MIB for size in (1, 8, 64, 512, 1024, 4096, 8192))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most", type=int, default=SIZES[-1] // _MIB, metavar="MIB", help="the largest file"
    )
    parser.add_argument("--folder", type=Path, help="where the sparse files are made")
    arguments = parser.parse_args()
    headings = [f"{what}, {cores}" for cores in THREADS for what in ("ns/byte", "GB/s", "MiB")]
    print(f"| file | {' | '.join(headings)} |")
    print(f"|{' ---: |' * (len(headings) + 1)}")
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
    print(
        "\nMedians. MiB: the most that was resident at one time, above an interpreter that does"
        " nothing."
    )


if __name__ == "__main__":
    main()
