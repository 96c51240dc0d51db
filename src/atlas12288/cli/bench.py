# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 bench`."""

import itertools
import json
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .. import __version__
from .._native import kernel_set, select_kernel_set
from ..errors import AtlasError
from .report import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, complain

if TYPE_CHECKING:
    from rich.table import Table

    from ..bench import Figure, Measurement, Target

_SIZE_SUFFIXES: Final = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


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


def _size_text(size: int) -> str:
    for suffix, unit in (("GiB", 2**30), ("MiB", 2**20)):
        if size % unit == 0:
            return f"{size // unit} {suffix}"
    return f"{size} B"


def _cpu() -> str:
    """The CPU as the system calls it."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _environment() -> dict[str, str]:
    return {
        "version": __version__,
        "kernel_set": kernel_set(),
        "cpu": _cpu(),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _figure_json(figure: "Figure") -> dict[str, float]:
    return {"median": figure.median, "q1": figure.q1, "q3": figure.q3}


def _row_json(measured: "Measurement") -> dict[str, object]:
    target = measured.target
    return {
        "work": measured.row.work,
        "caller": measured.row.caller,
        "size": measured.size if measured.row.any_size else None,
        "unit": measured.row.unit.name,
        "ours": _figure_json(measured.ours),
        "peers": [
            {"name": peer.name, "ratio": peer.ratio} | _figure_json(peer.figure)
            for peer in measured.peers
        ],
        "target": None if target is None else {"at_least": target.at_least, "below": target.below},
        "holds": measured.holds,
    }


def _figure_text(figure: "Figure") -> str:
    spread = 100 * (figure.q3 - figure.q1) / figure.median
    return f"{figure.median:.3g} ±{spread / 2:.0f}%"


def _target_text(target: "Target | None") -> str:
    if target is None:
        return ""
    return f">= {target.at_least:g}" if target.at_least is not None else f"< {target.below:g}"


def _table(measurements: "Iterable[Measurement]", size: int) -> "Table":
    """The rows of one size."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.title, table.title_justify = f"buffers of {_size_text(size)}", "left"
    left = {"work", "unit", "peer", ""}
    for heading in ("work", "unit", "ours", "peer", "peer's", "ratio", "contract", ""):
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    verdicts = {None: "", True: "[green]pass[/]", False: "[red]miss[/]"}
    for measured in measurements:
        row = measured.row
        cells = [f"{row.work}, {row.caller}", row.unit.name, _figure_text(measured.ours)]
        end = [_target_text(measured.target), verdicts[measured.holds]]
        if not measured.peers:
            table.add_row(*cells, "", "", "", *end)
        for peer in measured.peers:
            table.add_row(*cells, peer.name, _figure_text(peer.figure), f"{peer.ratio:.2f}", *end)
            cells, end = [""] * len(cells), ["", ""]
    return table


def _print_tables(measurements: "Sequence[Measurement]", environment: dict[str, str]) -> None:
    from rich.console import Console

    # As wide as it needs, whatever the terminal: cut columns would hide figures.
    console = Console(file=sys.stdout, width=200, highlight=False)
    for key in ("cpu", "kernel_set", "python"):
        console.print(f"{key.replace('_', ' ')}: {environment[key]}")
    for size, group in itertools.groupby(measurements, lambda measured: measured.size):
        console.print(_table(group, size))
    console.print(
        "ours, peer's: median ± half the interquartile range. ratio: how many times as fast"
    )
    console.print("as the peer ours is, in the same rounds. C, Python: who calls ours.")


def _with_progress(measurements: "Iterable[Measurement]") -> "Iterator[Measurement]":
    """Passes the rows on; where standard error is a terminal, it shows each one while it is new."""
    wanted = sys.stderr is not None and sys.stderr.isatty()
    for measured in measurements:
        if wanted:
            text = f"{measured.row.work} from {measured.row.caller}, {_size_text(measured.size)}"
            click.echo(f"\r\x1b[Kmeasured {text}", err=True, nl=False)
        yield measured
    if wanted:
        click.echo("\r\x1b[K", err=True, nl=False)


@click.command(
    "bench",
    short_help="Measure the speed beside what people use today.",
    epilog="""\b
Examples:
  atlas12288 bench --quick
  atlas12288 bench --size 12288 --size 1GiB --kernels x86-64-v3
\b
Exit codes: 0 every target of the contract is reached; 1 one is missed; 2 could not measure.""",
)
@click.option(
    "--size",
    "sizes",
    type=_Size(),
    multiple=True,
    metavar="BYTES",
    help="Size of a buffer; may be given several times.  [default: 12288 and 256MiB]",
)
@click.option("--kernels", metavar="NAME", help="Use this kernel set; `info` lists them.")
@click.option("--quick", is_flag=True, help="Fewer rounds: rougher figures in a few seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(sizes: tuple[int, ...], kernels: str | None, quick: bool, as_json: bool) -> int:
    """Measure this library beside what people use today, and against the contract's targets.

    Peers that are not installed are left out: pip install 'atlas12288[bench]' has them all.
    """
    from ..bench import DEFAULT_SIZES, FULL, QUICK, measure

    if kernels is not None:
        try:
            select_kernel_set(kernels)
        except AtlasError as error:
            raise click.UsageError(f"--kernels: {error}") from error
    try:
        measurements = list(
            _with_progress(measure(sizes or DEFAULT_SIZES, QUICK if quick else FULL))
        )
    except (OSError, MemoryError, OverflowError) as error:
        complain("bench", f"no memory for two buffers: {error}")
        return COULD_NOT_CHECK
    environment = _environment()
    if as_json:
        rows = [_row_json(measured) for measured in measurements]
        click.echo(json.dumps(environment | {"rows": rows}, indent=2))
    else:
        _print_tables(measurements, environment)
    missed = any(measured.holds is False for measured in measurements)
    return DOES_NOT_HOLD if missed else HOLDS
