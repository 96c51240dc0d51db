# SPDX-License-Identifier: Apache-2.0
"""A Zarr store, witnessed by this project and checksummed by zarr-checksum, on one CPU.

Prints a table in Markdown, a row for each size of chunks. Each store is read once before, so that
all read from memory. The commands run `--repeat` times, in turns, and the medians of their CPU
times count, because others may use the machine too. Needs `pip install zarr-checksum` beside this
project; the chunks are files of random bytes in the layout of a Zarr array, so zarr itself is not
needed.
"""

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

_SCRIPTS: Final = Path(sysconfig.get_path("scripts"))
_CHECKSUM: Final = """
import sys
from zarr_checksum import compute_zarr_checksum
from zarr_checksum.generators import yield_files_local
print(compute_zarr_checksum(yield_files_local(sys.argv[1])))
"""


def make_store(store: Path, count: int, size: int) -> None:
    """Write a store of `count` chunks of `size` bytes, 100 in a row."""
    rng = random.Random(size)
    store.mkdir()
    (store / "zarr.json").write_text('{"zarr_format":3,"node_type":"array"}')
    for index in range(count):
        row = store / "c" / str(index // 100)
        row.mkdir(parents=True, exist_ok=True)
        (row / str(index % 100)).write_bytes(rng.randbytes(size))


def seconds(command: tuple[object, ...]) -> float:
    """Run a command to its end and return the CPU time that it took."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def commands(store: Path, place: Path) -> dict[str, tuple[object, ...]]:
    """Return what is timed."""
    ours = (_SCRIPTS / "atlas12288", "witness", "--threads", "1", store, "-o")
    return {
        "zarr-checksum": (sys.executable, "-c", _CHECKSUM, store),
        "witness": (*ours, place / "flat.atlas.json"),
        "witness --tree": (*ours[:2], "--tree", *ours[2:], place / "tree.atlas.json"),
    }


def main() -> None:
    """Make the stores, run the commands in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each command [default: 5]")
    parser.add_argument("--megabytes", type=int, default=512, help="of each store [default: 512]")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["XDG_STATE_HOME"] = str(place / "state")
        print("| chunks | zarr-checksum | `witness` | `witness --tree` | ratio |")
        print("|---|---|---|---|---|")
        for size in (16 << 10, 256 << 10, 4 << 20):
            count = max(1, (arguments.megabytes << 20) // size)
            store = place / f"{size}.zarr"
            make_store(store, count, size)
            rows = commands(store, place)
            times: dict[str, list[float]] = {name: [] for name in rows}
            for turn in range(arguments.repeat + 1):
                for name, command in rows.items():
                    taken = seconds(command)
                    if turn > 0:  # the first turn only reads the files into memory
                        times[name].append(taken)
            medians = {name: statistics.median(each) for name, each in times.items()}
            cells = " | ".join(f"{median:.2f} s" for median in medians.values())
            ratio = medians["zarr-checksum"] / medians["witness"]
            print(f"| {count:,} of {size >> 10:,} KiB | {cells} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
