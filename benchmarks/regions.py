# SPDX-License-Identifier: Apache-2.0
"""What a Region costs beside anonymous memory: to make, to touch first, to balance, to read.

    python benchmarks/regions.py [BYTES]

prints the least of seven times each, in seconds of a processor, which other programs disturb less
than the clock.
"""

import mmap
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import atlas12288 as atlas
from atlas12288 import _native

ROUNDS = 7
_T = TypeVar("_T")
least: dict[str, float] = {}


def timed(name: str, call: Callable[[], _T]) -> _T:
    """Return what a call returns, and note its time if it is the least so far."""
    start = time.process_time()
    result = call()
    least[name] = min(least.get(name, float("inf")), time.process_time() - start)
    return result


def touch(view: memoryview) -> None:
    """Write a byte of each page of the system."""
    view[:: mmap.PAGESIZE] = bytes(-(-len(view) // mmap.PAGESIZE))


def main(nbytes: int) -> None:
    """Measure regions and mappings of `nbytes`, in turns."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    for _ in range(ROUNDS):
        mapping = timed("anonymous: make", lambda: mmap.mmap(-1, nbytes, flags=flags))
        view = memoryview(mapping)
        timed("anonymous: touch", lambda view=view: touch(view))
        timed("anonymous: read", lambda view=view: _native.time_operation("read", view, view, 1))
        timed("anonymous: residue", lambda view=view: atlas.residue(view))
        view.release()
        timed("anonymous: close", mapping.close)

        region = timed("region: make", lambda: atlas.Region(nbytes))
        view = memoryview(region)
        timed("region: touch", lambda view=view: touch(view))
        timed("region: read", lambda view=view: _native.time_operation("read", view, view, 1))
        timed("region: balance", region.balance)
        view.release()
        timed("region: close", region.close)
    for name, seconds in least.items():
        print(f"{name:20}{seconds:12.6f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1 << 30)
