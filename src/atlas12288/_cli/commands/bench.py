# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 bench`."""

import platform
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ... import __version__
from ..._native import kernel_set, kernel_set_supported, kernel_sets, select_kernel_set
from ..console import Printer, file_name, shown
from ..plotting import SKETCH, require_plot, write_plot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._bench import Family, Figure, Judged, Measurement

_SIZE_SUFFIXES: Final = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_KERNEL_NAMES: Final = {
    "avx512": "x86-64-v4",
    "avx2": "x86-64-v3",
    "sse2": "x86-64",
    "neon": "aarch64",
}
# The suffix of a kernel set's name if the set uses the CPU's SHA instructions.
_SHA_SUFFIXES: Final = ("+sha", "+sha2")


class _Size(click.ParamType[int]):
    """Bytes: `12288`, `256MiB`."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", str(value))
        if match is None or match[2].lower() not in _SIZE_SUFFIXES or int(match[1]) == 0:
            self.fail(f"{value!r} is not a size such as 12288, 48KiB, 256MiB, 1GiB", param, ctx)
        return int(match[1]) * _SIZE_SUFFIXES[match[2].lower()]


def _complete_kernels(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return what the shell offers for --kernels: the sets of this CPU, and their short names."""
    names = list(filter(kernel_set_supported, kernel_sets()))
    names += [short for short, full in _KERNEL_NAMES.items() if full in names]
    return [name for name in names if name.startswith(incomplete)]


def choose_kernel_set(kernels: str | None, sha: bool) -> str:
    """Return the kernel set for --kernels and --no-sha-ni.

    Args:
        kernels: the name of a kernel set, a short name, or None for the one in use.
        sha: False for the same set without the SHA instructions.

    Returns:
        The name of a kernel set that this CPU can run.

    Raises:
        click.UsageError: there is no such kernel set.
    """
    name = kernel_set() if kernels is None else kernels
    if name in _KERNEL_NAMES:
        name = _KERNEL_NAMES[name]
        # The set in use, where it is one of this name: the best of them that this CPU suits.
        with_sha = [kernel_set()] if kernel_set().startswith(f"{name}+") else []
        with_sha += [name + suffix for suffix in _SHA_SUFFIXES]
        name = next(filter(kernel_set_supported, with_sha), name)
    if not sha:
        name = name.partition("+")[0]
    if not kernel_set_supported(name):
        choices = list(filter(kernel_set_supported, kernel_sets()))
        choices += [short for short, full in _KERNEL_NAMES.items() if full in choices]
        raise click.UsageError(f"--kernels {shown(name)}: must be one of {', '.join(choices)}")
    return name


def _cpu() -> str:
    """Return the system's name for the CPU."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _environment(families: "Sequence[Family]") -> dict[str, Any]:
    from ..._bench import left_out, versions
    from ..._parallel import thread_count

    return {
        "version": __version__,
        "kernel_set": kernel_set(),
        "cpu": _cpu(),
        "cores": thread_count(None),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": versions(families),
        "left_out": left_out(families),
    }


# --- JSON ---


def _figure_json(figure: "Figure") -> dict[str, float]:
    return {"median": figure.median, "q1": figure.q1, "q3": figure.q3}


def _judged_json(judged: "Judged | None") -> dict[str, object] | None:
    if judged is None:
        return None
    bound = judged.bound
    return {
        "comparison": bound.comparison,
        "limit": bound.limit,
        "peer": bound.peer,
        "stretch": bound.stretch,
        "measured": judged.measured,
        "holds": judged.holds,
    }


def _row_json(measured: "Measurement") -> dict[str, object]:
    return {
        "family": measured.family.name,
        "work": measured.row.work,
        "caller": measured.row.caller,
        "size": measured.size if measured.family.sized else None,
        "kernel_set": measured.kernel_set,
        "unit": measured.family.unit.name,
        "ours": _figure_json(measured.ours),
        "peers": [
            {"name": peer.name, "ratio": _figure_json(peer.ratio)} | _figure_json(peer.figure)
            for peer in measured.peers
        ],
        "target": _judged_json(measured.target),
        "goals": [_judged_json(judged) for judged in measured.goals],
    }


# --- The table ---

_HEADINGS: Final = (
    "work, called from",
    "size",
    "unit",
    "ours",
    "contract",
    "goal",
    "peer",
    "peer's",
    "ratio",
    "goal of the ratio",
)
_RIGHT: Final = frozenset({"size", "ours", "peer's", "ratio"})
_LEGEND: Final = (
    "ours, peer's: median ± half the interquartile range.",
    "ratio: how many times as fast as the peer ours is, median of the same rounds.",
    "(…): a stretch goal, more than is asked for.",
)


def _figure_text(figure: "Figure") -> str:
    spread = 100 * (figure.q3 - figure.q1) / figure.median
    return f"{figure.median:.3g} ±{spread / 2:.0f}%"


def _judged_text(*all_judged: "Judged | None") -> str:
    texts = []
    for judged in all_judged:
        if judged is not None:
            text = f"{judged.bound} {'pass' if judged.holds else 'miss'}"
            texts.append(f"({text})" if judged.bound.stretch else text)
    return " ".join(texts)


def _lines(measured: "Measurement") -> Iterator[tuple[str, ...]]:
    """Yield the lines of a row: one, or one for each peer, with a cell for each heading."""
    from ..._bench import size_text

    goals: dict[str | None, list[Judged]] = {}
    for judged in measured.goals:
        goals.setdefault(judged.bound.peer, []).append(judged)
    start: tuple[str, ...] = (
        measured.row.name,
        size_text(measured.size) if measured.family.sized else "",
        measured.family.unit.name,
        _figure_text(measured.ours),
        _judged_text(measured.target),
        _judged_text(*goals.get(None, ())),
    )
    if not measured.peers:
        yield *start, "", "", "", ""
    for peer in measured.peers:
        end = _figure_text(peer.figure), f"{peer.ratio.median:.3g}"
        yield *start, peer.name, *end, _judged_text(*goals.get(peer.name, ()))
        start = ("",) * len(start)


def _sections(
    measurements: "Sequence[Measurement]",
    families: "Sequence[Family]",
    environment: dict[str, Any],
) -> Iterator[list[tuple[str, ...]]]:
    """Yield the lines of each family: measured rows, then rows left out, with the reason."""
    for family in families:
        measured_here = [each for each in measurements if each.family.name == family.name]
        lines = [line for measured in measured_here for line in _lines(measured)]
        names = {measured.row.name for measured in measured_here}
        for row in family.rows:
            if row.name not in names:
                why = environment["left_out"].get(row.name, "not at these sizes")
                # The reason in the last column, where its length widens no other one.
                lines.append((row.name, "", "", "not measured", *[""] * 5, why))
        yield lines


def _summary(measurements: "Sequence[Measurement]") -> str:
    """Return in words how many bounds hold."""

    def count(name: str, all_judged: "list[Judged]") -> str:
        return f"{name}: {sum(judged.holds for judged in all_judged)} of {len(all_judged)}"

    targets = [measured.target for measured in measurements if measured.target is not None]
    goals = [judged for measured in measurements for judged in measured.goals]
    asked = [judged for judged in goals if not judged.bound.stretch]
    stretch = [judged for judged in goals if judged.bound.stretch]
    return "; ".join(
        (count("the contract's targets", targets), count("goals", asked), count("stretch", stretch))
    )


def _heads(environment: dict[str, Any]) -> Iterator[str]:
    """Yield lines of text that say what ran, and where."""
    yield f"cpu: {environment['cpu']}, {environment['cores']} cores"
    yield f"kernel set: {environment['kernel_set']}"
    versions = ", ".join(f"{name} {text}" for name, text in environment["versions"].items())
    yield f"python: {environment['python']}; {versions}"
    by_reason: dict[str, list[str]] = {}
    for name, reason in environment["left_out"].items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"left out: {'; '.join(names)}: {reason}"


def _print_table(
    measurements: "Sequence[Measurement]",
    families: "Sequence[Family]",
    environment: dict[str, Any],
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def text(cell: str) -> Text:
        styled = Text(cell)
        styled.highlight_words(["pass"], "green")
        styled.highlight_words(["miss"], "red")
        return styled

    # As wide as the table needs, even on a narrow terminal: cut columns would hide figures.
    console = Console(file=sys.stdout, width=240, highlight=False)
    for head in _heads(environment):
        console.print(head, markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading in _RIGHT else "left", no_wrap=True)
    for lines in _sections(measurements, families, environment):
        for line in lines:
            table.add_row(*map(text, line))
        table.add_section()
    console.print(table)
    for text_line in (*_LEGEND, _summary(measurements)):
        console.print(text_line, markup=False)


# --- The command ---


@contextmanager
def _progress() -> "Iterator[Callable[[str, int, int], None] | None]":
    """Yield the callback for `measure`, which drives a bar if standard error is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    progress = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,  # a drawing thread would be measured too
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with progress:
        task = progress.add_task("", total=None)

        def on_step(text: str, number: int, steps: int) -> None:
            progress.update(task, description=text, completed=number, total=steps)
            progress.refresh()

        yield on_step


@click.command(
    "bench",
    short_help="Measure the speed beside what people use today.",
    epilog="""\b
Examples:
  atlas12288 bench --quick
  atlas12288 bench --plot throughput.png
  atlas12288 bench --kernels avx2 --no-sha-ni --size 12288 --size 1GiB
  atlas12288 bench --js js
\b
Exit codes: 0 every target of the contract that counts for these sizes is reached; 1 one is missed;
2 could not measure. Goals, which are this library's own, do not change the code.""",
)
@click.option(
    "--size",
    "sizes",
    type=_Size(),
    multiple=True,
    metavar="BYTES",
    help="Size of a buffer; may be given several times.  [default: 12288 and 256MiB]",
)
@click.option("--all-sizes", is_flag=True, help="Six sizes, from one window to 256MiB.")
@click.option(
    "--kernels",
    metavar="NAME",
    shell_complete=_complete_kernels,
    help="Use this kernel set: a name that `info` lists, or avx512, avx2, sse2, neon.",
)
@click.option("--no-sha-ni", is_flag=True, help="Without the SHA instructions of the CPU.")
@click.option(
    "--js",
    metavar="FOLDER",
    type=file_name,
    help="Run the WebAssembly rows too, with node and the package in this folder: js, in the "
    "repository, after make wasm.",
)
@click.option("--quick", is_flag=True, help="Fewer rounds: rougher figures in 20 seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--plot",
    metavar="OUT.png",
    type=file_name,
    help="Draw throughput against size to a .png, .svg or .pdf; six sizes unless --size is given.",
)
def command(
    sizes: tuple[int, ...],
    all_sizes: bool,
    kernels: str | None,
    no_sha_ni: bool,
    js: str | None,
    quick: bool,
    as_json: bool,
    plot: str | None,
) -> int:
    """Measure this library beside what people use today, and against the contract's targets.

    Peers that are not installed are left out: pip install 'atlas12288[bench]' has them all.
    """
    if sizes and all_sizes:
        raise click.UsageError("--size and --all-sizes exclude each other")
    if plot == SKETCH:
        raise click.UsageError("--plot needs the name of a .png, .svg or .pdf file")
    if plot is not None:
        require_plot(plot, (), [], as_json)
    select_kernel_set(choose_kernel_set(kernels, sha=not no_sha_ni))

    from ... import _bench

    families = _bench.FAMILIES
    if js is not None:
        if not Path(js).is_dir():
            raise click.UsageError(f"--js {shown(js)}: must be a folder")
        families = _bench.with_package(families, Path(js).resolve())
    wanted = sizes or (_bench.ALL_SIZES if all_sizes or plot is not None else _bench.GOAL_SIZES)
    effort = _bench.QUICK if quick else _bench.FULL
    report = Printer("bench", as_json, None)
    try:
        with _progress() as on_step:
            measurements = list(_bench.measure(wanted, effort, families, on_step))
    except (MemoryError, OverflowError) as error:
        return _refused(f"no memory for two buffers of {max(wanted)} bytes: {error}", report)
    except _bench.BenchError as error:
        return _refused(str(error), report)
    environment = _environment(families)
    holds = _bench.targets_hold(measurements)
    report.verdict(holds)
    if as_json:
        rows = [_row_json(measured) for measured in measurements]
        report.document({"holds": holds} | environment | {"rows": rows})
    else:
        _print_table(measurements, families, environment)
    if plot is not None:
        from ..._bench.plot import draw

        title = "{cpu}, {cores} cores, kernel set {kernel_set}, {python}".format(**environment)
        write_plot(plot, partial(draw, measurements, title), report)
    return report.code


def _refused(reason: str, report: Printer) -> int:
    """Say that nothing could be measured; return the exit code."""
    report.error("bench", reason)
    report.document({"error": reason})
    return report.code
