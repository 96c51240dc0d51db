# SPDX-License-Identifier: Apache-2.0
"""Time the passes of a scrubber beside reads of the same memory, and the first touch of memory.

    python benchmarks/scrubbing.py [MIB] [ROUNDS]

The rows take turns. Prints medians as a table: milliseconds, milliseconds of a processor, which
other programs disturb less, and GB/s and the ratio to `memchr` by the latter. `memchr` is the C
library's search for a byte that is not there, which reads all. Needs three times MIB of memory.
"""

import mmap
import os
import sys
import threading
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time
from typing import Final

import atlas12288 as atlas

_PAGE: Final = os.sysconf("SC_PAGESIZE")
_SHARE: Final = 0.05


def first_touch(buf: memoryview) -> None:
    """Write a byte of each page."""
    buf[::_PAGE] = bytes(len(range(0, len(buf), _PAGE)))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return how many seconds the work takes, and how many of a processor."""
    begin, used = perf_counter(), process_time()
    work()
    return perf_counter() - begin, process_time() - used


def touch_mapping(size: int) -> tuple[float, float]:
    with mmap.mmap(-1, size) as mapping, memoryview(mapping) as view:
        return timed(lambda: first_touch(view))


def touch_region(size: int) -> tuple[float, float]:
    with atlas.Region(size) as region, memoryview(region) as view:
        return timed(lambda: first_touch(view))


def background_pass(buf: bytearray, witness: atlas.TreeWitness) -> tuple[float, float]:
    """Return the seconds of the first pass and a later one within the share, in a thread."""
    seconds: list[float] = []
    scrubber = atlas.Scrubber({"data": (buf, witness)}, every=0, on_damage=print, share=_SHARE)
    wake = threading.Event()
    with scrubber:
        last = None
        while len(seconds) < 2:
            wake.wait(0.05)
            if scrubber.report is not None and scrubber.report is not last:
                last = scrubber.report
                seconds.append(last.seconds)
    return seconds[0], seconds[1]


def main() -> None:
    size = (int(sys.argv[1]) if len(sys.argv) > 1 else 1024) << 20
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    block = os.urandom(1 << 20).replace(b"\xff", b"\xfe")  # so that memchr reads to the end
    buf = bytearray(block * (size >> 20))
    witness = atlas.TreeWitness.generate(buf)
    targets = {"data": (buf, witness)}
    known = atlas.Scrubber(targets)
    known.scan()
    rows: dict[str, Callable[[], tuple[float, float]]] = {
        "first touch of an anonymous mapping": lambda: touch_mapping(size),
        "first touch of a Region": lambda: touch_region(size),
        "memchr": lambda: timed(lambda: buf.find(b"\xff")),
        "residue(buffer)": lambda: timed(lambda: atlas.residue(buf)),
        "a pass: residues, and 1 of 32 digests": lambda: timed(known.scan),
        "the first pass: all digests": lambda: timed(atlas.Scrubber(targets).scan),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, row in rows.items():
            times[name].append(row())
    read = median(used for _, used in times["memchr"])
    print(f"| {size >> 20:,} MiB, medians of {rounds} | ms | processor ms | GB/s | memchr = 1 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, pairs in times.items():
        elapsed, used = (median(column) for column in zip(*pairs, strict=True))
        rate = f"{size / used / 1e9:.1f} | {used / read:.2f}"
        print(f"| {name} | {elapsed * 1e3:,.1f} | {used * 1e3:,.1f} | {rate} |")
    first, later = background_pass(buf, witness)
    print(
        f"\nIn the background, share {_SHARE}: the first pass {first:.2f} s, a later {later:.2f} s"
    )


if __name__ == "__main__":
    main()
