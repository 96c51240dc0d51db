# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 bench`."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..._native import kernel_set, kernel_set_supported, kernel_sets, select_kernel_set
from ..console import Printer, file_name, shown
from ..plotting import SKETCH, require_plot, write_plot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..._bench import Family

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


# --- The table ---


def _print_table(report: dict[str, Any], families: "Sequence[Family]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..._bench.report import COLUMNS, LEGEND, heads, sections, summary

    def text(cell: str) -> Text:
        styled = Text(cell)
        styled.highlight_words(["pass"], "green")
        styled.highlight_words(["miss"], "red")
        return styled

    # As wide as the table needs, even on a narrow terminal: cut columns would hide figures.
    console = Console(file=sys.stdout, width=240, highlight=False)
    for head in heads(report):
        console.print(head, markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, justify in COLUMNS.items():
        table.add_column(heading, justify=justify, no_wrap=True)
    for lines in sections(report, families):
        for line in lines:
            table.add_row(*map(text, line))
        table.add_section()
    console.print(table)
    for text_line in (*LEGEND, summary(report)):
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
    short_help="Measure the speed and compare it with other libraries.",
    epilog="""\b
Examples:
  atlas12288 bench --quick
  atlas12288 bench --plot throughput.png
  atlas12288 bench --kernels avx2 --no-sha-ni --size 12288 --size 1GiB
  atlas12288 bench --js js

Exit codes: 0 all targets of the contract for these sizes are met; 1 one is missed; 2 the
measurement failed. This library's own goals do not affect the exit code.""",
)
@click.option(
    "--size",
    "sizes",
    type=_Size(),
    multiple=True,
    metavar="BYTES",
    help="Measure buffers of this size; repeatable.  [default: 12288, 6MiB and 256MiB]",
)
@click.option("--all-sizes", is_flag=True, help="Measure six sizes, from one window to 256MiB.")
@click.option(
    "--kernels",
    metavar="NAME",
    shell_complete=_complete_kernels,
    help="Use this kernel set: a name from atlas12288 info, or avx512, avx2, sse2, neon.",
)
@click.option("--no-sha-ni", is_flag=True, help="Do not use the SHA instructions of the CPU.")
@click.option(
    "--js",
    metavar="FOLDER",
    type=file_name,
    help="Measure WebAssembly too, with node and the package in this folder (js in the repository, "
    "after make wasm).",
)
@click.option("--quick", is_flag=True, help="Run fewer rounds: rougher figures in 20 seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--plot",
    metavar="OUT.png",
    type=file_name,
    help="Draw throughput against size in a .png, .svg or .pdf; six sizes unless --size is given.",
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
    """Measure this library, and compare it with other libraries and with the contract's targets.

    Libraries that are not installed are left out; pip install 'atlas12288[bench]' installs all of
    them.
    """
    if sizes and all_sizes:
        raise click.UsageError("--size and --all-sizes exclude each other")
    if plot == SKETCH:
        raise click.UsageError("--plot needs the name of a .png, .svg or .pdf file")
    if plot is not None:
        require_plot(plot, (), [], as_json)
    select_kernel_set(choose_kernel_set(kernels, sha=not no_sha_ni))

    from ... import _bench
    from ..._bench.report import to_fields

    families = _bench.FAMILIES
    if js is not None:
        if not Path(js).is_dir():
            raise click.UsageError(f"--js {shown(js)}: must be a folder")
        families = _bench.with_package(families, Path(js).resolve())
    wanted = sizes or (_bench.ALL_SIZES if all_sizes or plot is not None else _bench.GOAL_SIZES)
    effort = _bench.QUICK if quick else _bench.FULL
    printer = Printer("bench", as_json, None)
    try:
        with _progress() as on_step:
            measurements = list(_bench.measure(wanted, effort, families, on_step))
    except (MemoryError, OverflowError) as error:
        return _refused(f"no memory for two buffers of {max(wanted)} bytes: {error}", printer)
    except _bench.BenchError as error:
        return _refused(str(error), printer)
    document = to_fields(measurements, families)
    printer.verdict(document["holds"])
    if as_json:
        printer.document(document)
    else:
        _print_table(document, families)
    if plot is not None:
        from ..._bench.plot import draw

        title = "{cpu}, {cores} cores, kernel set {kernel_set}, {python}".format(**document)
        write_plot(plot, partial(draw, measurements, title), printer)
    return printer.code


def _refused(reason: str, printer: Printer) -> int:
    """Say that nothing could be measured; return the exit code."""
    printer.error("bench", reason)
    printer.document({"error": reason})
    return printer.code
