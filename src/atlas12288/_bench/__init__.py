# SPDX-License-Identifier: Apache-2.0
"""The benchmark: this library and what people use today, side by side in one run.

`families.FAMILIES` defines all of it as data. Operations of C are timed by loops in C (`timing.c`
of the binding), operations of the WebAssembly module by js/bench.mjs under Node, everything else by
`timeit`. The rows of a family and their peers take turns, A B A B, so that when the machine changes
speed all of them are affected alike; figures are medians.
"""

from .families import FAMILIES
from .measuring import (
    FULL,
    QUICK,
    Figure,
    Judged,
    Measurement,
    Peer,
    Sampling,
    left_out,
    measure,
    targets_hold,
    versions,
)
from .node import UnderNode, with_package
from .rows import (
    ALL_SIZES,
    GB_PER_S,
    GOAL_SIZES,
    NS_PER_BYTE,
    Bound,
    Family,
    Row,
    Sizes,
    size_text,
)
from .work import (
    LARGE_BYTES,
    Arena,
    BenchError,
    InC,
    InPython,
    Memory,
    PeakMemory,
    Work,
    run_for_peak,
)

__all__ = [
    "ALL_SIZES",
    "FAMILIES",
    "FULL",
    "GB_PER_S",
    "GOAL_SIZES",
    "LARGE_BYTES",
    "NS_PER_BYTE",
    "QUICK",
    "Arena",
    "BenchError",
    "Bound",
    "Family",
    "Figure",
    "InC",
    "InPython",
    "Judged",
    "Measurement",
    "Memory",
    "PeakMemory",
    "Peer",
    "Row",
    "Sampling",
    "Sizes",
    "UnderNode",
    "Work",
    "left_out",
    "measure",
    "run_for_peak",
    "size_text",
    "targets_hold",
    "versions",
    "with_package",
]
