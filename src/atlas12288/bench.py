# SPDX-License-Identifier: Apache-2.0
"""The benchmark: what this library does beside what people use today, side by side in one process.

`FAMILIES` is the whole of it as data: add a row, a peer or a goal there. Operations of C are timed
by loops in C (`timing.c` of the binding), everything else by `timeit`. The rows of a family and
their peers take turns, A B A B, so that a machine that changes its speed changes all of them;
figures are medians.
"""

import hashlib
import importlib
import math
import mmap
import operator
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import timeit
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Protocol

from ._native import (
    WINDOW_BYTES,
    Domain,
    fixup,
    kernel_set,
    kernel_set_supported,
    residue,
    select_kernel_set,
    time_operation,
)
from ._parallel import thread_count
from .tree import TreeWitness
from .witness import Witness

_MIB: Final = 2**20
LARGE_BYTES: Final = 256 * _MIB  # far more than the caches hold
# One window, and from DRAM: the sizes that the goals speak of.
GOAL_SIZES: Final = (WINDOW_BYTES, LARGE_BYTES)
# In every level of the caches; whole windows but for the last one.
ALL_SIZES: Final = (*(WINDOW_BYTES * 8**power for power in range(5)), LARGE_BYTES)
_BUDGET_AMOUNT: Final = 10


class BenchError(Exception):
    """Something could not be measured; `str()` is the reason."""


Work = Callable[[int], float]  # repeats -> nanoseconds of all of them; bytes for `PeakMemory`


# --- What is timed, and on what ---


@dataclass(frozen=True)
class Arena:
    """Two page-aligned buffers of one size; the source is conserved."""

    dst: memoryview
    src: memoryview

    @property
    def size(self) -> int:
        return len(self.src)


class Memory:
    """The memory of all arenas, touched beforehand, so that no page fault is timed.

    Args:
        most: bytes of the largest arena.
    """

    def __init__(self, most: int) -> None:
        # One window more between the buffers: addresses that differ by a power of two can look
        # alike to a CPU's cache, and buffers of a program seldom do.
        self._src = -(-most // mmap.PAGESIZE) * mmap.PAGESIZE + WINDOW_BYTES
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        try:
            self._bytes = memoryview(mmap.mmap(-1, self._src + most, flags))
        except OSError as error:
            raise MemoryError(error.strerror) from error
        pattern = random.Random(WINDOW_BYTES).randbytes(WINDOW_BYTES)  # the same in every run
        for start in range(0, len(self._bytes), WINDOW_BYTES):
            part = pattern[: len(self._bytes) - start]
            self._bytes[start : start + len(part)] = part

    def arena(self, size: int) -> Arena:
        """The arena of a size up to `most`; it shares its memory with the others."""
        arena = Arena(self._bytes[:size], self._bytes[self._src : self._src + size])
        fixup(arena.src)
        return arena


class Timed(Protocol):
    """Something that can be measured on an arena."""

    def missing(self) -> str | None:
        """Why it cannot run here, None where it can."""

    def on(self, arena: Arena) -> Work:
        """The work, with all that is made before the clock starts."""


@dataclass(frozen=True)
class InC:
    """An operation of `timing.c` of the binding."""

    operation: str

    def missing(self) -> None:
        return None

    def on(self, arena: Arena) -> Work:
        return partial(time_operation, self.operation, arena.dst, arena.src)


@dataclass(frozen=True)
class InPython:
    """A Python statement on `buf`, the source.

    Args:
        statement: what is timed.
        names: what else the statement may use, made for an arena before the clock starts.
        module: what it needs to import, "" where nothing beyond the standard library.
    """

    statement: str
    names: Callable[[Arena], dict[str, Any]]
    module: str = ""

    def missing(self) -> str | None:
        try:
            if self.module:
                importlib.import_module(self.module)
        except ImportError:
            return f"{self.module} is not installed"
        return None

    def on(self, arena: Arena) -> Work:
        module = {"module": importlib.import_module(self.module)} if self.module else {}
        timer = timeit.Timer(
            self.statement, globals={"buf": arena.src} | module | self.names(arena)
        )
        return lambda repeats: timer.timeit(repeats) * 1e9


def run_for_peak(program: str, *arguments: str) -> tuple[str, int]:
    """What a Python program printed, and the most bytes that it had in memory at one time.

    Args:
        program: its text; `sys` is imported.
        arguments: `sys.argv[1:]`.

    Raises:
        BenchError: it failed.
    """
    # VmHWM, not getrusage: that one also counts the parent, as it was before exec.
    report = (
        "import re\n"
        "found = re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())\n"
        "print(found[1], file=sys.stderr)"
    )
    done = subprocess.run(
        (sys.executable, "-c", f"import sys\n{program}\n{report}", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout, int(done.stderr) * 1024


@dataclass(frozen=True)
class PeakMemory:
    """The most memory that a command had, above an interpreter that does nothing.

    Args:
        arguments: the command; the name of a sparse file of `LARGE_BYTES` follows.
    """

    arguments: tuple[str, ...]

    def missing(self) -> str | None:
        return None if Path("/proc/self/status").exists() else "there is no /proc/self/status"

    def on(self, arena: Arena) -> Work:
        return lambda repeats: float(sum(self._peak() for _ in range(repeats)))

    def _peak(self) -> int:
        with tempfile.NamedTemporaryFile(prefix="atlas12288-") as file:
            file.truncate(LARGE_BYTES)
            program = "from atlas12288.cli import main\nif main(sys.argv[1:]): sys.exit(1)"
            return run_for_peak(program, *self.arguments, file.name)[1] - run_for_peak("")[1]


# --- Units, bounds, rows ---


@dataclass(frozen=True)
class Unit:
    """A unit of the table, and how it comes from one run of a work on `size` bytes."""

    name: str
    convert: Callable[[float, int], float]


GB_PER_S: Final = Unit("GB/s", lambda ns, size: size / ns)
NS_PER_BYTE: Final = Unit("ns/byte", lambda ns, size: ns / size)
NS: Final = Unit("ns", lambda ns, size: ns)
MIB: Final = Unit("MiB", lambda peak, size: peak / _MIB)


@dataclass(frozen=True)
class Sizes:
    """Buffers of `least`..`most` bytes."""

    least: int
    most: float = math.inf

    def __contains__(self, size: int) -> bool:
        return self.least <= size <= self.most


FROM_A_WINDOW: Final = Sizes(WINDOW_BYTES)  # below, the call itself is what takes the time
ONE_WINDOW: Final = Sizes(WINDOW_BYTES, WINDOW_BYTES)
FROM_MANY_WINDOWS: Final = Sizes(_MIB)  # below, too few to fill lanes and cores
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
        sizes: where it counts.
        stretch: more than is asked for.
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
    """One row: our work, and what it is compared with.

    Args:
        work: its name.
        caller: "C" or "Python", who calls ours; a call from Python costs about 0.1 us.
        ours: the work.
        peers: names of peers of the family.
        target: the contract's.
        goals: this library's.
        kernels: the kernel set to use, None for the one in use.
        cores: how many it needs.
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
        """Why it cannot run here, None where it can."""
        if thread_count(None) < self.cores:
            return f"it needs {self.cores} cores"
        if self.kernels is not None and not kernel_set_supported(self.kernels):
            return f"this CPU has no {self.kernels}"
        return self.ours.missing()

    def on(self, arena: Arena) -> Work:
        """Our work, with the row's kernel set."""
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
        sized: False where the work has no buffer: it is measured once, not for each size.
        timed: False where it is not time that is measured, and one run is a sample.
    """

    name: str
    rows: tuple[Row, ...]
    peers: Mapping[str, Timed] = field(default_factory=dict)
    unit: Unit = GB_PER_S
    sized: bool = True
    timed: bool = True


def size_text(size: int) -> str:
    """A number of bytes for people."""
    if size == WINDOW_BYTES:
        return "1 window"
    for suffix, unit in (("GiB", 2**30), ("MiB", _MIB), ("KiB", 2**10)):
        if size % unit == 0:
            return f"{size // unit} {suffix}"
    return f"{size} B"


# --- The table ---


def _budget_names(arena: Arena) -> dict[str, Any]:
    budget = Domain(WINDOW_BYTES, _BUDGET_AMOUNT).budget
    return {"alloc": budget.alloc, "release": budget.release, "amount": _BUDGET_AMOUNT}


def _numpy_names(arena: Arena) -> dict[str, Any]:
    numpy = importlib.import_module("numpy")
    return {"array": numpy.frombuffer(arena.src, dtype=numpy.uint8)}


def _nothing(arena: Arena) -> dict[str, Any]:
    return {}


def _tree(arena: Arena) -> dict[str, Any]:
    return {"tree": TreeWitness}


def _tree_made(arena: Arena) -> dict[str, Any]:
    return {"verify": TreeWitness.generate(arena.src).verify}


_READ: Final = "memory read"
_SHA256: Final = "hashlib.sha256"
_BLAKE3: Final = "blake3, 1 core"
_BLAKE3_CORES: Final = "blake3, all cores"
_AS_HASHLIB: Final = (Bound(">=", 0.97, _SHA256),)
_ONE_CORE: Final = (
    Bound(">=", 1.7, _SHA256, FROM_MANY_WINDOWS),
    Bound(">=", 2.5, _SHA256, FROM_MANY_WINDOWS, stretch=True),
)
_TWO_CORES: Final = (Bound(">=", 3.2, _SHA256, FROM_MANY_WINDOWS),)
_WITNESS_TARGET: Final = Bound(">=", 1)

_HASHLIB: Final = InPython("sha256(buf).digest()", lambda arena: {"sha256": hashlib.sha256})

FAMILIES: tuple[Family, ...] = (
    Family(
        "conserved copy",
        (
            Row(
                "conserved copy",
                "C",
                InC("conserved_memcpy"),
                ("memcpy",),
                # The contract's note: "aligned 12,288-byte windows".
                Bound(">=", 25, sizes=ONE_WINDOW),
                (
                    Bound(">=", 60, sizes=ONE_WINDOW),
                    Bound(">=", 0.6, "memcpy", ONE_WINDOW),
                    Bound(">=", 0.9, "memcpy", FROM_DRAM),
                    Bound(">=", 1.0, "memcpy", FROM_DRAM, stretch=True),
                ),
            ),
        ),
        {"memcpy": InC("memcpy")},
    ),
    Family(
        "conserved fill",
        (
            Row(
                "conserved fill",
                "C",
                InC("conserved_memset"),
                ("memset",),
                Bound(">=", 30, sizes=ONE_WINDOW),
                (Bound(">=", 0.95, "memset"),),
            ),
        ),
        {"memset": InC("memset")},
    ),
    Family(
        "delta",
        (
            Row(
                "delta",
                "C",
                InC("delta"),
                (_READ,),
                Bound("<", 10),
                (
                    Bound("<=", 0.03, sizes=ONE_WINDOW),
                    Bound(">=", 0.9, _READ, FROM_DRAM),
                ),
            ),
        ),
        {_READ: InC("read_both")},
        NS_PER_BYTE,
    ),
    Family(
        "residue",
        (
            Row("residue", "C", InC("residue"), (_READ,)),
            Row(
                "residue",
                "Python",
                InPython("residue(buf)", lambda arena: {"residue": residue}),
                (
                    "xxhash.xxh3_64_intdigest",
                    "google_crc32c.value",
                    "zlib.crc32",
                    "numpy.sum",
                ),
                goals=tuple(
                    Bound(">", 1, peer, ONE_WINDOW)
                    for peer in ("xxhash.xxh3_64_intdigest", "zlib.crc32", "numpy.sum")
                ),
            ),
        ),
        {
            _READ: InC("read"),
            "xxhash.xxh3_64_intdigest": InPython(
                "xxh3(buf)",
                lambda arena: {"xxh3": importlib.import_module("xxhash").xxh3_64_intdigest},
                "xxhash",
            ),
            "google_crc32c.value": InPython(
                "crc32c(data)",  # it takes bytes alone
                lambda arena: {
                    "crc32c": importlib.import_module("google_crc32c").value,
                    "data": bytes(arena.src),
                },
                "google_crc32c",
            ),
            "zlib.crc32": InPython("crc32(buf)", lambda arena: {"crc32": zlib.crc32}),
            "numpy.sum": InPython("array.sum(dtype=module.uint64)", _numpy_names, "numpy"),
        },
    ),
    Family(
        "flat witness",
        (
            Row(
                "witness generate",
                "C",
                InC("witness_generate"),
                (_SHA256,),
                _WITNESS_TARGET,
                _AS_HASHLIB,
            ),
            Row(
                "witness generate",
                "Python",
                InPython("generate(buf)", lambda arena: {"generate": Witness.generate}),
                (_SHA256,),
                _WITNESS_TARGET,
                _AS_HASHLIB,
            ),
            Row(
                "witness verify",
                "C",
                InC("witness_verify"),
                (_SHA256,),
                _WITNESS_TARGET,
                _AS_HASHLIB,
            ),
            Row(
                "witness verify",
                "Python",
                InPython(
                    "verify(buf)", lambda arena: {"verify": Witness.generate(arena.src).verify}
                ),
                (_SHA256,),
                _WITNESS_TARGET,
                _AS_HASHLIB,
            ),
        ),
        {_SHA256: _HASHLIB},
    ),
    Family(
        "tree witness",
        (
            Row("tree root, 1 core", "C", InC("tree"), (_SHA256,), goals=_ONE_CORE),
            Row(
                "tree generate, 1 core",
                "Python",
                InPython("tree.generate(buf, threads=1)", _tree),
                (_SHA256, _BLAKE3),
                goals=_ONE_CORE,
            ),
            Row(
                "tree verify, 1 core",
                "Python",
                InPython("verify(buf, threads=1)", _tree_made),
                (_SHA256, _BLAKE3),
                goals=_ONE_CORE,
            ),
            Row(
                "tree generate, AVX2 only, 1 core",
                "Python",
                InPython("tree.generate(buf, threads=1)", _tree),
                (_SHA256, _BLAKE3),
                goals=(Bound(">=", 1, sizes=FROM_MANY_WINDOWS),),
                kernels="x86-64-v3",
            ),
            Row(
                "tree generate, all cores",
                "Python",
                InPython("tree.generate(buf)", _tree),
                (_SHA256, _BLAKE3_CORES),
                goals=_TWO_CORES,
                cores=2,
            ),
            Row(
                "tree verify, all cores",
                "Python",
                InPython("verify(buf)", _tree_made),
                (_SHA256, _BLAKE3_CORES),
                goals=_TWO_CORES,
                cores=2,
            ),
        ),
        {
            _SHA256: _HASHLIB,
            _BLAKE3: InPython("module.blake3(buf).digest()", _nothing, "blake3"),
            _BLAKE3_CORES: InPython(
                "module.blake3(buf, max_threads=module.blake3.AUTO).digest()", _nothing, "blake3"
            ),
        },
    ),
    Family(
        "budget",
        (
            Row("budget alloc + release", "C", InC("budget"), goals=(Bound("<=", 50),)),
            Row(
                "budget alloc + release",
                "Python",
                InPython("alloc(amount); release(amount)", _budget_names),
                goals=(Bound("<=", 150),),
            ),
        ),
        unit=NS,
        sized=False,
    ),
    Family(
        "memory",
        tuple(
            Row(
                f"memory to {work} a file of {size_text(LARGE_BYTES)}",
                "command line",
                PeakMemory(arguments),
                goals=(Bound("<=", 64),),
            )
            for work, arguments in (
                ("witness", ("witness",)),
                ("tree-witness", ("witness", "--tree")),
            )
        ),
        unit=MIB,
        sized=False,
        timed=False,
    ),
)


# --- Measuring ---


@dataclass(frozen=True)
class Figure:
    """Median and quartiles of the samples of one work, in the row's unit."""

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
    """A peer's figure, and how many times as fast as it ours was in the same rounds."""

    name: str
    figure: Figure
    ratio: Figure


@dataclass(frozen=True)
class Judged:
    """A bound that counts for a measurement, and whether it holds."""

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
        """The verdict on a bound, None where it does not count for this size or lacks its peer."""
        if bound is None or (self.family.sized and self.size not in bound.sizes):
            return None
        ratios = {peer.name: peer.ratio.median for peer in self.peers}
        measured = self.ours.median if bound.peer is None else ratios.get(bound.peer)
        return None if measured is None else Judged(bound, measured, bound.holds(measured))

    @property
    def target(self) -> Judged | None:
        """The verdict on the contract's target, None where it has none for this row and size."""
        return self.judge(self.row.target)

    @property
    def goals(self) -> tuple[Judged, ...]:
        """The verdicts on the goals that count here."""
        return tuple(judged for goal in self.row.goals if (judged := self.judge(goal)))


def targets_hold(measurements: Sequence[Measurement]) -> bool:
    """Is every target of the contract reached that counts for these rows and sizes?"""
    return all(measured.target is None or measured.target.holds for measured in measurements)


@dataclass(frozen=True)
class Effort:
    """How long a family is measured at each size.

    Args:
        rounds: so many, but fewer when they take longer than `family_s`,
        least_rounds: and at least so many.
        family_s: see `rounds`.
        sample_s: a sample repeats its work until it takes this long.
        runs: rounds of what is not timed.
    """

    rounds: int
    least_rounds: int
    family_s: float
    sample_s: float
    runs: int


FULL: Final = Effort(rounds=101, least_rounds=7, family_s=8.0, sample_s=0.002, runs=3)
QUICK: Final = Effort(rounds=5, least_rounds=3, family_s=0.5, sample_s=0.0005, runs=1)


def _repeats(work: Work, sample_s: float) -> int:
    """How often a work must run to take `sample_s`. Also warms it up."""
    repeats = 1
    while (elapsed_ns := work(repeats)) < sample_s * 1e9:
        repeats = max(2 * repeats, min(100 * repeats, int(repeats * sample_s * 1e9 / elapsed_ns)))
    return repeats


def _measure_family(family: Family, arena: Arena, effort: Effort) -> Iterator[Measurement]:
    rows = [row for row in family.rows if row.missing() is None]
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
            kernel_set=row.kernels or kernel_set(),
            ours=figure(row.name),
            peers=tuple(
                Peer(name, figure(name), ratio(row.name, name))
                for name in row.peers
                if name in samples
            ),
        )


def measure(
    sizes: Sequence[int] = GOAL_SIZES,
    effort: Effort = FULL,
    families: Sequence[Family] = FAMILIES,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Iterator[Measurement]:
    """Measures all rows of the families at all sizes, each in turns with its peers.

    Args:
        sizes: bytes of a buffer; memory for two of the largest is taken, and for one more while
            `google_crc32c` is measured, which cannot take a buffer without copying it.
        effort: how long.
        families: what. A row or peer that cannot run here is left out, see `left_out`.
        on_step: called before each family and size with text on them, and the number of this step
            and of all.

    Raises:
        MemoryError, OverflowError: there is no memory for the buffers.
        BenchError: a command whose memory is measured failed.
    """
    memory = Memory(max(sizes))
    steps = [(family, size) for family in families for size in sizes if family.sized]
    steps += [(family, max(sizes)) for family in families if not family.sized]
    for number, (family, size) in enumerate(steps):
        if on_step is not None:
            text = f"{family.name}, {size_text(size)}" if family.sized else family.name
            on_step(text, number, len(steps))
        yield from _measure_family(family, memory.arena(size), effort)


def left_out(families: Sequence[Family] = FAMILIES) -> dict[str, str]:
    """Rows and peers that cannot run here, by name, with the reason."""
    parts = [(row.name, row.missing()) for family in families for row in family.rows]
    parts += [(name, peer.missing()) for family in families for name, peer in family.peers.items()]
    return {name: reason for name, reason in parts if reason is not None}


def versions() -> dict[str, str]:
    """The versions of what the peers come from; of those that are installed."""
    import ssl  # the OpenSSL that hashlib has, too

    found = {
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "openssl": ssl.OPENSSL_VERSION,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }
    modules = {
        peer.module
        for family in FAMILIES
        for peer in family.peers.values()
        if isinstance(peer, InPython) and peer.module and peer.missing() is None
    }
    for module in sorted(modules):
        try:
            found[module] = version(module.replace("_", "-"))
        except PackageNotFoundError:  # installed in another way than as a package
            found[module] = "unknown"
    return found
