# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark: units, bounds, rows, and families of rows."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .._native import WINDOW_BYTES, kernel_set, kernel_set_supported, select_kernel_set
from .._parallel import thread_count
from .work import LARGE_BYTES, MIB_BYTES, Arena, Timed, Work

# One window, a buffer that caches hold, and one too large for them: the sizes that the goals name.
GOAL_SIZES: Final = (WINDOW_BYTES, 512 * WINDOW_BYTES, LARGE_BYTES)
# Sizes for every cache level; whole windows except for the last size.
ALL_SIZES: Final = (*(WINDOW_BYTES * 8**power for power in range(5)), LARGE_BYTES)


@dataclass(frozen=True)
class Unit:
    """A unit of the table, and how to compute it from one run of a work on `size` bytes."""

    name: str
    convert: Callable[[float, int], float]


GB_PER_S: Final = Unit("GB/s", lambda ns, size: size / ns)
NS_PER_BYTE: Final = Unit("ns/byte", lambda ns, size: ns / size)
NS: Final = Unit("ns", lambda ns, size: ns)
MIB: Final = Unit("MiB", lambda peak, size: peak / MIB_BYTES)


@dataclass(frozen=True)
class Sizes:
    """Buffers of `least`..`most` bytes."""

    least: int
    most: float = math.inf

    def __contains__(self, size: int) -> bool:
        return self.least <= size <= self.most


ANY_SIZE: Final = Sizes(0)
FROM_A_WINDOW: Final = Sizes(WINDOW_BYTES)  # below, the call itself is what takes the time
ONE_WINDOW: Final = Sizes(WINDOW_BYTES, WINDOW_BYTES)
FEW_WINDOWS: Final = Sizes(8 * WINDOW_BYTES, MIB_BYTES - 1)  # too few to fill lanes and cores
FROM_MANY_WINDOWS: Final = Sizes(MIB_BYTES)
FROM_CACHE: Final = Sizes(MIB_BYTES, 8 * MIB_BYTES)
FROM_DRAM: Final = Sizes(LARGE_BYTES)

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Bound:
    """A number to reach: a target of the contract, or a goal of this library.

    Args:
        comparison: ">=", ">", "<=" or "<".
        limit: in the unit of the row; with `peer`, how many times as fast as that peer.
        peer: the name of a peer of the row.
        sizes: the sizes that it applies to.
        stretch: a goal beyond what is required.
    """

    comparison: str
    limit: float
    peer: str | None = None
    sizes: Sizes = FROM_A_WINDOW
    stretch: bool = False

    def holds(self, measured: float) -> bool:
        return _COMPARE[self.comparison](measured, self.limit)

    def __str__(self) -> str:
        return f"{self.comparison} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """One row: our work, and the peers that it is compared with.

    Args:
        work: its name.
        caller: who calls ours: "C", "Python", "Node", "command line"; a call from Python costs
            about 0.1 us.
        ours: the work.
        peers: names of peers of the family.
        target: the contract's.
        goals: this library's.
        kernels: the kernel set to use; None for the one in use.
        cores: how many cores it needs.
    """

    work: str
    caller: str
    ours: Timed
    peers: tuple[str, ...] = ()
    target: Bound | None = None
    goals: tuple[Bound, ...] = ()
    kernels: str | None = None
    cores: int = 1

    @property
    def name(self) -> str:
        return f"{self.work}, {self.caller}"

    def missing(self) -> str | None:
        """Return why the row cannot run here; None if it can."""
        if thread_count(None) < self.cores:
            return f"it needs {self.cores} cores"
        if self.kernels is not None and not kernel_set_supported(self.kernels):
            return f"this CPU has no {self.kernels}"
        return self.ours.missing()

    def on(self, arena: Arena) -> Work:
        """Return our work on an arena, with the row's kernel set."""
        work, kernels = self.ours.on(arena), self.kernels
        if kernels is None:
            return work

        def run(repeats: int) -> float:
            before = kernel_set()
            select_kernel_set(kernels)
            try:
                return work(repeats)
            finally:
                select_kernel_set(before)

        return run


@dataclass(frozen=True)
class Family:
    """Rows that are measured together, in turns with their peers.

    Args:
        name: of the family.
        rows: at least one.
        peers: by name.
        unit: of all figures.
        sizes: of the buffers that it is measured on.
        sized: False if the work has no buffer: it is measured once, not for each size.
        timed: False if the figure is not a time; one run is then one sample.
    """

    name: str
    rows: tuple[Row, ...]
    peers: Mapping[str, Timed] = field(default_factory=dict)
    unit: Unit = GB_PER_S
    sizes: Sizes = ANY_SIZE
    sized: bool = True
    timed: bool = True


def size_text(size: int) -> str:
    """Return a number of bytes in human-readable form."""
    if size == WINDOW_BYTES:
        return "1 window"
    for suffix, unit in (("GiB", 2**30), ("MiB", MIB_BYTES), ("KiB", 2**10)):
        if size % unit == 0:
            return f"{size // unit} {suffix}"
    return f"{size} B"
