# SPDX-License-Identifier: Apache-2.0
"""Measures rows in turns with their peers, A B A B, and judges their bounds."""

import platform
import statistics
import timeit
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from .._native import kernel_set
from .families import FAMILIES
from .node import UnderNode, node_version
from .rows import GOAL_SIZES, Bound, Family, Row, size_text
from .work import Arena, InPython, Memory, Work


@dataclass(frozen=True)
class Figure:
    """Median and quartiles of one work's samples, in the row's unit."""

    median: float
    q1: float
    q3: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Figure":
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, q1, q3)


@dataclass(frozen=True)
class Peer:
    """A peer's figure, and how many times faster ours was in the same rounds."""

    name: str
    figure: Figure
    ratio: Figure


@dataclass(frozen=True)
class Judged:
    """A bound that applies to a measurement, and whether it holds."""

    bound: Bound
    measured: float
    holds: bool


@dataclass(frozen=True)
class Measurement:
    """A row, measured at one size."""

    family: Family
    row: Row
    size: int
    kernel_set: str
    ours: Figure
    peers: tuple[Peer, ...]

    def judge(self, bound: Bound | None) -> Judged | None:
        """Return the verdict on a bound; None if it does not apply here or lacks its peer."""
        if bound is None or (self.family.sized and self.size not in bound.sizes):
            return None
        ratios = {peer.name: peer.ratio.median for peer in self.peers}
        measured = self.ours.median if bound.peer is None else ratios.get(bound.peer)
        return None if measured is None else Judged(bound, measured, bound.holds(measured))

    @property
    def target(self) -> Judged | None:
        """The verdict on the contract's target; None if it has none for this row and size."""
        return self.judge(self.row.target)

    @property
    def goals(self) -> tuple[Judged, ...]:
        """The verdicts on the goals that apply to this size."""
        return tuple(judged for goal in self.row.goals if (judged := self.judge(goal)))


def targets_hold(measurements: Sequence[Measurement]) -> bool:
    """Return whether every target of the contract for these rows and sizes is reached."""
    return all(measured.target is None or measured.target.holds for measured in measurements)


@dataclass(frozen=True)
class Sampling:
    """How long a family is measured at each size.

    Args:
        rounds: the most rounds; there are fewer when they would take longer than `family_s`.
        least_rounds: the fewest rounds, even if they take longer.
        family_s: seconds for all rounds of a family at one size.
        sample_s: a sample repeats its work until it takes this many seconds.
        runs: rounds for families that are not timed.
    """

    rounds: int
    least_rounds: int
    family_s: float
    sample_s: float
    runs: int


FULL: Final = Sampling(rounds=101, least_rounds=7, family_s=8.0, sample_s=0.002, runs=3)
QUICK: Final = Sampling(rounds=5, least_rounds=3, family_s=0.5, sample_s=0.0005, runs=1)


def _repeats(work: Work, sample_s: float) -> int:
    """Return how often a work must run to take `sample_s`; this also warms it up."""
    repeats = 1
    while (elapsed_ns := work(repeats)) < sample_s * 1e9:
        repeats = max(2 * repeats, min(100 * repeats, int(repeats * sample_s * 1e9 / elapsed_ns)))
    return repeats


def _kernel_set(row: Row) -> str:
    """Return the kernel set that a row is measured with."""
    under_node = row.ours.kernels if isinstance(row.ours, UnderNode) else None
    return under_node or row.kernels or kernel_set()


def rows_of(family: Family) -> list[Row]:
    """Return the rows that can run here."""
    return [row for row in family.rows if row.missing() is None]


def _measure_family(family: Family, arena: Arena, effort: Sampling) -> Iterator[Measurement]:
    rows = rows_of(family)
    wanted = {name for row in rows for name in row.peers}
    works = {row.name: row.on(arena) for row in rows} | {
        name: peer.on(arena)
        for name, peer in family.peers.items()
        if name in wanted and peer.missing() is None
    }
    repeats = dict.fromkeys(works, 1)
    if family.timed:
        repeats = {name: _repeats(work, effort.sample_s) for name, work in works.items()}
    samples: dict[str, list[float]] = {name: [] for name in works}  # of one run
    start = timeit.default_timer()
    for done in range(effort.rounds if family.timed else effort.runs):
        if done >= effort.least_rounds and timeit.default_timer() - start > effort.family_s:
            break
        for name, work in works.items():
            samples[name].append(work(repeats[name]) / repeats[name])

    def figure(name: str) -> Figure:
        return Figure.of([family.unit.convert(sample, arena.size) for sample in samples[name]])

    def ratio(ours: str, theirs: str) -> Figure:
        pairs = zip(samples[ours], samples[theirs], strict=True)
        return Figure.of([theirs_ns / ours_ns for ours_ns, theirs_ns in pairs])

    for row in rows:
        yield Measurement(
            family=family,
            row=row,
            size=arena.size,
            kernel_set=_kernel_set(row),
            ours=figure(row.name),
            peers=tuple(
                Peer(name, figure(name), ratio(row.name, name))
                for name in row.peers
                if name in samples
            ),
        )


def measure(
    sizes: Sequence[int] = GOAL_SIZES,
    effort: Sampling = FULL,
    families: Sequence[Family] = FAMILIES,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Iterator[Measurement]:
    """Measure all rows of the families at all sizes, each taking turns with its peers.

    Args:
        sizes: bytes of a buffer; memory for two of the largest is taken, and for one more while
            `google_crc32c` is measured, which cannot take a buffer without copying it.
        effort: how long to measure.
        families: what to measure. A row or peer that cannot run here is left out, see `left_out`;
            a family is measured only at sizes that it supports.
        on_step: called before each family and size with a description of the step, its number,
            and the number of all steps.

    Raises:
        MemoryError, OverflowError: there is no memory for the buffers.
        BenchError: a command failed while its memory was measured.
    """
    memory = Memory(max(sizes))
    steps = [
        (family, size)
        for family in families
        for size in sizes
        if family.sized and size in family.sizes and rows_of(family)
    ]
    steps += [(family, max(sizes)) for family in families if not family.sized]
    for number, (family, size) in enumerate(steps):
        if on_step is not None:
            text = f"{family.name}, {size_text(size)}" if family.sized else family.name
            on_step(text, number, len(steps))
        yield from _measure_family(family, memory.arena(size), effort)


def left_out(families: Sequence[Family] = FAMILIES) -> dict[str, str]:
    """Return rows and peers that cannot run here, by name, with the reason."""
    parts = [(row.name, row.missing()) for family in families for row in family.rows]
    parts += [(name, peer.missing()) for family in families for name, peer in family.peers.items()]
    return {name: reason for name, reason in parts if reason is not None}


def versions(families: Sequence[Family] = FAMILIES) -> dict[str, str]:
    """Return the versions of the installed packages that the families' peers come from."""
    import ssl  # also the OpenSSL that hashlib uses

    found = {
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "openssl": ssl.OPENSSL_VERSION,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }
    works = [row.ours for family in families for row in family.rows]
    if any(isinstance(work, UnderNode) and work.missing() is None for work in works):
        found["node"] = node_version() or "unknown"
    modules = {
        peer.module
        for family in families
        for peer in family.peers.values()
        if isinstance(peer, InPython) and peer.module and peer.missing() is None
    }
    for module in sorted(modules):
        try:
            found[module] = version(module.replace("_", "-"))
        except PackageNotFoundError:  # installed, but not as a package
            found[module] = "unknown"
    return found
