# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 check`."""

from functools import partial
from typing import TYPE_CHECKING

import click

from ..._files import FileError, read_chunks
from ..._native import WINDOW_BYTES, Residue, window_residues
from ..._words import word
from ..console import Item, Printer, bytes_to_read, file_name, files_argument, json_option, shown
from ..plotting import SKETCH, PlotCommand, require_plot, write_plot

if TYPE_CHECKING:
    from ..drawings.residue_map import ResidueMap


class _WindowList:
    """Prints the residue of each window while a file is read, as there can be too many to hold."""

    def __init__(self, name: str, printer: Printer, item: Item) -> None:
        self.count = 0
        self.conserved = 0
        self._printer = printer
        self._item = item
        item.begin("windows")
        printer.line(f"{shown(name)}:")
        printer.line(f"{'window':>10} {'offset':>16} {'residue':>8}")

    def update(self, residues: bytes) -> None:
        self._item.extend(residues)
        for index, residue in enumerate(residues, self.count):
            self._printer.line(
                f"{index:10} {index * WINDOW_BYTES:16} {residue:8}",
                good=True,
                verdict="  conserved" if residue == 0 else "",
            )
        self.count += len(residues)
        self.conserved += residues.count(0)

    def summary(self) -> str:
        return f"; {self.conserved} of {self.count} {word(self.count, 'window')} conserved"


def _check_file(
    name: str, printer: Printer, with_windows: bool, residue_map: "ResidueMap | None"
) -> bool:
    """Report on a file. Return False if it could not be read to its end."""
    fields = dict.fromkeys(("length", "residue", "holds", "error"))
    with printer.item(name, fields) as item:
        windows = _WindowList(name, printer, item) if with_windows else None
        return _check(name, printer, item, windows, residue_map)


def _check(
    name: str,
    printer: Printer,
    item: Item,
    windows: _WindowList | None,
    residue_map: "ResidueMap | None",
) -> bool:
    residue, length = Residue(), 0
    try:
        for chunk in read_chunks(name, printer.advance):
            residue.update(chunk)
            length += len(chunk)
            if windows is not None or residue_map is not None:
                residues = window_residues(chunk)
                if windows is not None:
                    windows.update(residues)
                if residue_map is not None:
                    residue_map.update(residues)
    except FileError as error:
        printer.error(name, str(error))
        item.fields["error"] = str(error)
        return False
    conserved = residue.value == 0
    holds = conserved and (windows is None or windows.conserved == windows.count)
    item.fields |= {"length": length, "residue": residue.value, "holds": holds}
    printer.line(
        f"{shown(name)}: {length} {word(length, 'byte')}, residue {residue.value}, ",
        good=conserved,
        verdict="conserved" if conserved else "not conserved",
        more=windows.summary() if windows is not None else "",
    )
    printer.verdict(holds)
    return True


@click.command(
    "check",
    cls=PlotCommand,
    short_help="Check whether the bytes of files sum to 0 mod 96.",
    epilog="""\b
Examples:
  atlas12288 check --windows weights.bin
  atlas12288 check --plot map.png weights.bin
  atlas12288 check --tensors model.safetensors

Exit codes: 0 all files are conserved (with --windows, all their windows; with --tensors, all their
tensors); 1 one is not; 2 a file could not be read.""",
)
@files_argument
@click.option("--windows", is_flag=True, help="Check each window of 12,288 bytes too.")
@click.option(
    "--plot",
    metavar="[OUT.png]",
    type=file_name,
    help="Draw the residue of each window, in a .png, .svg or .pdf or on the terminal.",
)
@click.option(
    "--tensors",
    is_flag=True,
    help="Check each tensor of a .safetensors or .npz file, or of the shards of an index.",
)
@json_option
def command(
    files: tuple[str, ...], windows: bool, plot: str | None, tensors: bool, as_json: bool
) -> int:
    """Check whether the bytes of each FILE are conserved, that is, sum to 0 mod 96."""
    if tensors:
        from . import check_tensors

        if windows or plot is not None:
            raise click.UsageError("--windows and --plot are for files: not with --tensors")
        return check_tensors.check(files, as_json)
    if plot is not None:
        require_plot(plot, files, list(files), as_json)
    maps: list[ResidueMap] = []
    with Printer("check", as_json, bytes_to_read(files)) as printer:
        for name in files:
            residue_map = _new_map(name) if plot is not None else None
            done = _check_file(name, printer, windows, residue_map)
            if done and residue_map is not None:
                maps.append(residue_map)
                if plot == SKETCH:
                    for line in residue_map.sketch(printer.colour):
                        printer.line(line)
        if maps and plot is not None and plot != SKETCH:
            from ..drawings.residue_map import draw

            write_plot(plot, partial(draw, maps), printer)
    return printer.code


def _new_map(name: str) -> "ResidueMap":
    from ..drawings.residue_map import ResidueMap

    return ResidueMap(shown(name))
