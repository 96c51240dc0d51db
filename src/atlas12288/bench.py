# SPDX-License-Identifier: Apache-2.0
"""The benchmark: what this library does beside what people use today, side by side in one process.

`ROWS` is the whole of it as data: add a row or a peer there. Operations of C are timed by loops in
C (`_timing.c`), everything else by `timeit`. Ours and the peers take turns, A B A B, so that a
machine that changes its speed changes all of them; figures are medians.
"""

import hashlib
import importlib
import mmap
import random
import statistics
import timeit
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from ._native import WINDOW_BYTES, Domain, fixup, residue, time_operation
from .witness import Witness

DEFAULT_SIZES: Final = (WINDOW_BYTES, 256 * 2**20)
_BUDGET_AMOUNT: Final = 10

Work = Callable[[int], float]  # repeats -> nanoseconds of all of them


@dataclass(frozen=True)
class Arena:
    """Two page-aligned buffers of one size; the source is conserved."""

    dst: mmap.mmap
    src: mmap.mmap

    @classmethod
    def of_size(cls, size: int) -> "Arena":
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        arena = cls(mmap.mmap(-1, size, flags), mmap.mmap(-1, size, flags))
        pattern = random.Random(WINDOW_BYTES).randbytes(WINDOW_BYTES)  # the same in every run
        for start in range(0, size, WINDOW_BYTES):
            part = pattern[: size - start]
            arena.src[start : start + len(part)] = part
            arena.dst[start : start + len(part)] = part  # no page fault is left to the first round
        fixup(arena.src)
        return arena


class Timed(Protocol):
    """Something that can be timed on an arena."""

    def on(self, arena: Arena) -> Work | None:
        """The work, None where it needs a package that is not installed."""


@dataclass(frozen=True)
class InC:
    """An operation of `_timing.c`."""

    operation: str

    def on(self, arena: Arena) -> Work:
        return partial(time_operation, self.operation, arena.dst, arena.src)


@dataclass(frozen=True)
class InPython:
    """A Python statement on `buf`, the source.

    Args:
        statement: what is timed.
        names: what the statement may use, made for an arena before the clock starts; an
            ImportError there leaves the row out.
    """

    statement: str
    names: Callable[[Arena], dict[str, Any]]

    def on(self, arena: Arena) -> Work | None:
        try:
            names = self.names(arena)
        except ImportError:
            return None
        timer = timeit.Timer(self.statement, globals={"buf": arena.src} | names)
        return lambda repeats: timer.timeit(repeats) * 1e9


@dataclass(frozen=True)
class Unit:
    """A unit of the table, and how it comes from the nanoseconds of one run on `size` bytes."""

    name: str
    convert: Callable[[float, int], float]


GB_PER_S: Final = Unit("GB/s", lambda ns, size: size / ns)
NS_PER_BYTE: Final = Unit("ns/byte", lambda ns, size: ns / size)
NS: Final = Unit("ns", lambda ns, size: ns)


@dataclass(frozen=True)
class Target:
    """A target of the contract's table of performance characteristics."""

    at_least: float | None = None
    below: float | None = None
    windows_only: bool = False  # the contract's note "aligned 12,288-byte windows"

    def holds(self, figure: float) -> bool:
        return (self.at_least is None or figure >= self.at_least) and (
            self.below is None or figure < self.below
        )


@dataclass(frozen=True)
class Row:
    """One row: our work, its peers by name, the unit, and the contract's target."""

    work: str
    caller: str  # "C" or "Python": who calls ours; a call from Python costs about 0.1 us
    ours: Timed
    peers: dict[str, Timed] = field(default_factory=dict)
    unit: Unit = GB_PER_S
    target: Target | None = None
    any_size: bool = True  # False: the work has no buffer; one row, not one for each size


def _numpy_names(arena: Arena) -> dict[str, Any]:
    numpy = importlib.import_module("numpy")
    return {"array": numpy.frombuffer(arena.src, dtype=numpy.uint8), "uint64": numpy.uint64}


def _budget_names(arena: Arena) -> dict[str, Any]:
    budget = Domain(WINDOW_BYTES, _BUDGET_AMOUNT).budget
    return {"alloc": budget.alloc, "release": budget.release, "amount": _BUDGET_AMOUNT}


_SHA256: Final[dict[str, Timed]] = {
    "hashlib.sha256": InPython("sha256(buf).digest()", lambda arena: {"sha256": hashlib.sha256})
}
ROWS: Final = (
    Row(
        "conserved copy",
        "C",
        InC("conserved_memcpy"),
        {"memcpy": InC("memcpy")},
        target=Target(at_least=25, windows_only=True),
    ),
    Row(
        "conserved fill",
        "C",
        InC("conserved_memset"),
        {"memset": InC("memset")},
        target=Target(at_least=30, windows_only=True),
    ),
    Row("delta", "C", InC("delta"), unit=NS_PER_BYTE, target=Target(below=10)),
    Row("residue", "C", InC("residue")),
    Row(
        "residue",
        "Python",
        InPython("residue(buf)", lambda arena: {"residue": residue}),
        {
            "xxhash.xxh3_64": InPython(
                "xxh3(buf)",
                lambda arena: {"xxh3": importlib.import_module("xxhash").xxh3_64_intdigest},
            ),
            "zlib.crc32": InPython("crc32(buf)", lambda arena: {"crc32": zlib.crc32}),
            "numpy.sum": InPython("array.sum(dtype=uint64)", _numpy_names),
        },
    ),
    Row("witness generate", "C", InC("witness_generate"), target=Target(at_least=1)),
    Row(
        "witness generate",
        "Python",
        InPython("generate(buf)", lambda arena: {"generate": Witness.generate}),
        _SHA256,
        target=Target(at_least=1),
    ),
    Row("witness verify", "C", InC("witness_verify"), target=Target(at_least=1)),
    Row(
        "witness verify",
        "Python",
        InPython("verify(buf)", lambda arena: {"verify": Witness.generate(arena.src).verify}),
        _SHA256,
        target=Target(at_least=1),
    ),
    Row("budget alloc + release", "C", InC("budget"), unit=NS, any_size=False),
    Row(
        "budget alloc + release",
        "Python",
        InPython("alloc(amount); release(amount)", _budget_names),
        unit=NS,
        any_size=False,
    ),
)


@dataclass(frozen=True)
class Figure:
    """Median and quartiles of the samples of one work, in the row's unit."""

    median: float
    q1: float
    q3: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Figure":
        q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, q1, q3)


@dataclass(frozen=True)
class Peer:
    """A peer's figure, and how many times as fast ours was in the same rounds (median)."""

    name: str
    figure: Figure
    ratio: float


@dataclass(frozen=True)
class Measurement:
    """A row, measured at one size."""

    row: Row
    size: int
    ours: Figure
    peers: tuple[Peer, ...]

    @property
    def target(self) -> Target | None:
        """The contract's target, None where it has none for this row and size."""
        target = self.row.target
        if target is None or not self.row.any_size:
            return target
        if self.size < WINDOW_BYTES or (target.windows_only and self.size > WINDOW_BYTES):
            return None  # below a window the call itself is what takes the time
        return target

    @property
    def holds(self) -> bool | None:
        """Is the target reached? None where there is none."""
        return None if self.target is None else self.target.holds(self.ours.median)


@dataclass(frozen=True)
class Effort:
    """How long a row is measured: so many rounds, fewer when they take longer than `row_s`."""

    rounds: int
    least_rounds: int
    row_s: float
    sample_s: float  # a sample repeats its work until it takes this long


FULL: Final = Effort(rounds=31, least_rounds=7, row_s=4.0, sample_s=0.002)
QUICK: Final = Effort(rounds=5, least_rounds=3, row_s=0.5, sample_s=0.0005)


def _repeats(work: Work, sample_s: float) -> int:
    """How often a work must run to take `sample_s`. Also warms it up."""
    repeats = 1
    while (elapsed_ns := work(repeats)) < sample_s * 1e9:
        repeats = max(2 * repeats, min(100 * repeats, int(repeats * sample_s * 1e9 / elapsed_ns)))
    return repeats


def _measure_row(row: Row, arena: Arena, effort: Effort) -> Measurement:
    size = len(arena.src)
    works = {"": row.ours.on(arena)} | {name: peer.on(arena) for name, peer in row.peers.items()}
    present = {name: work for name, work in works.items() if work is not None}
    repeats = {name: _repeats(work, effort.sample_s) for name, work in present.items()}
    samples: dict[str, list[float]] = {name: [] for name in present}  # ns of one run
    start = timeit.default_timer()
    for done in range(effort.rounds):
        if done >= effort.least_rounds and timeit.default_timer() - start > effort.row_s:
            break
        for name, work in present.items():
            samples[name].append(work(repeats[name]) / repeats[name])

    def figure(name: str) -> Figure:
        return Figure.of([row.unit.convert(ns, size) for ns in samples[name]])

    ours = samples.pop("")
    return Measurement(
        row=row,
        size=size,
        ours=Figure.of([row.unit.convert(ns, size) for ns in ours]),
        peers=tuple(
            Peer(
                name,
                figure(name),
                statistics.median(
                    theirs_ns / ours_ns for theirs_ns, ours_ns in zip(theirs, ours, strict=True)
                ),
            )
            for name, theirs in samples.items()
        ),
    )


def measure(
    sizes: Sequence[int] = DEFAULT_SIZES, effort: Effort = FULL, rows: Sequence[Row] = ROWS
) -> Iterator[Measurement]:
    """Measures the rows, one after the other.

    Args:
        sizes: bytes of a buffer; two buffers of each size are made.
        effort: how long.
        rows: which rows.

    Yields:
        The rows at the first size, then at the next; works without a buffer come with the first.
    """
    for size in sizes:
        arena = Arena.of_size(size)
        for row in rows:
            if row.any_size or size == sizes[0]:
                yield _measure_row(row, arena, effort)
