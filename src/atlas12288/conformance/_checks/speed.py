# SPDX-License-Identifier: Apache-2.0
"""Measures the speeds in the contract's table, each for a twentieth of a second."""

import time
from collections.abc import Callable
from typing import Final

from .._numbers import WINDOW_BYTES
from .._outcome import require
from .._subjects import driver
from .._subjects.library import CallerBytes, Library, conserved, noise

_SECONDS: Final = 0.05
_REPEATS: Final = 500  # of one window, in C, which takes long enough to time
_WITNESSED_BYTES: Final = 2**20  # large enough to make the call from Python negligible


def _best(work: Callable[[], float]) -> float:
    """Return the best of all rounds: other work on the machine can only slow a round down."""
    end = time.perf_counter() + _SECONDS
    best = work()  # also warms up
    while True:
        best = min(best, work())
        if time.perf_counter() >= end:
            return best


def _throughput(bytes_per_ns: float, target: float, what: str) -> str:
    """Return the throughput in words; 1 GB/s is one byte per nanosecond."""
    text = f"{what}: {bytes_per_ns:.3g} GB/s, the target is {target:g} GB/s or more"
    require(bytes_per_ns >= target, text)
    return text


def _windows(library: Library) -> tuple[CallerBytes, CallerBytes]:
    """Return two page-aligned windows, the second one conserved."""
    return library.region(WINDOW_BYTES), library.region(conserved(noise(WINDOW_BYTES)))


def copy(library: Library) -> str:
    dst, src = _windows(library)
    library.extension("atlas_conserved_memcpy")
    best = _best(lambda: driver.copy_ns(library, dst, src, _REPEATS))
    require(best > 0, "atlas_conserved_memcpy refuses a conserved window")
    return _throughput(_REPEATS * WINDOW_BYTES / best, 25, "aligned windows")


def fill(library: Library) -> str:
    dst, _ = _windows(library)
    library.extension("atlas_conserved_memset")
    best = _best(lambda: driver.fill_ns(library, dst, 0x5A, _REPEATS))
    require(best > 0, "atlas_conserved_memset refuses a window")
    return _throughput(_REPEATS * WINDOW_BYTES / best, 30, "aligned windows, with fixup")


def generate(library: Library) -> str:
    region = library.region(noise(_WITNESSED_BYTES))

    def work() -> float:
        start = time.perf_counter_ns()
        witness = library.generate(region.address, region.size)
        spent = time.perf_counter_ns() - start
        library.forget(witness)
        return spent

    return _throughput(region.size / _best(work), 1, f"{region.size} bytes")


def verify(library: Library) -> str:
    region = library.region(noise(_WITNESSED_BYTES))
    witness = library.witness(region)

    def work() -> float:
        start = time.perf_counter_ns()
        library.matches(witness, region.address, region.size)
        return time.perf_counter_ns() - start

    return _throughput(region.size / _best(work), 1, f"{region.size} bytes")


def delta(library: Library) -> str:
    before, after = (
        library.region(noise(64 * WINDOW_BYTES, 1)),
        library.region(noise(64 * WINDOW_BYTES, 2)),
    )

    def work() -> float:
        start = time.perf_counter_ns()
        library.delta(before.address, after.address, before.size)
        return time.perf_counter_ns() - start

    ns_per_byte = _best(work) / before.size
    text = f"{before.size} bytes: {ns_per_byte:.3g} ns/byte, the target is below 10 ns/byte"
    require(ns_per_byte < 10, text)
    return text
