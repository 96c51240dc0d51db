# SPDX-License-Identifier: Apache-2.0
"""The option `--plot [OUT.png]`, which several commands have."""

import importlib.util
import sys
from collections.abc import Callable
from typing import BinaryIO, Final

import click

from .._files import FileError
from .._outputs import Target, atomic_write
from .console import FilesCommand, Printer, shown
from .drawings.figures import IMAGE_FORMATS, format_of, picture_at

SKETCH: Final = "-"  # the value of --plot without a file name
_IMAGE_SUFFIXES: Final = tuple(f".{image_format}" for image_format in IMAGE_FORMATS)


class PlotCommand(FilesCommand):
    """Takes the word after `--plot` as its file name only if it names an image.

    `check --plot data.bin` asks for a sketch of data.bin. Click alone would write over data.bin.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        for i, arg in enumerate(args[:end]):
            following = args[i + 1] if i + 1 < end else ""
            if arg == "--plot" and not following.lower().endswith(_IMAGE_SUFFIXES):
                args[i] = f"--plot={SKETCH}"
        return super().parse_args(ctx, args)


def require_plot(plot: str, files: tuple[str, ...], inputs: list[str], as_json: bool) -> None:
    """Refuse a plot that cannot be made, before any work is done.

    Args:
        plot: the value of the option.
        files: the files that it shows.
        inputs: all files that are read; none of them may be replaced.
        as_json: whether JSON is printed.

    Raises:
        click.UsageError: the plot cannot be made.
    """
    if plot == SKETCH:
        if as_json:
            raise click.UsageError("--plot without a file name and --json exclude each other")
        if not sys.stdout.isatty():
            raise click.UsageError(
                "--plot without a file name needs a terminal; name a .png, .svg or .pdf file"
            )
        return
    if not plot.lower().endswith(_IMAGE_SUFFIXES):
        raise click.UsageError(f"--plot {shown(plot)}: must end in .png, .svg or .pdf")
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install 'atlas12288[plot]'")
    from .drawings.residue_map import MAX_PANELS

    if len(files) > MAX_PANELS:
        raise click.UsageError(f"--plot draws at most {MAX_PANELS} files, not {len(files)}")
    try:
        Target(plot, picture_at(plot), inputs).close()
    except FileError as error:
        raise click.UsageError(f"--plot {shown(plot)}: {error}") from error


def write_plot(plot: str, draw: Callable[[BinaryIO, str], None], printer: Printer) -> None:
    """Draw into a file, which is written completely or not at all.

    Args:
        plot: its name.
        draw: called with the file and with its format: "png", "svg" or "pdf".
        printer: prints the errors.
    """
    try:
        with atomic_write(plot, picture_at(plot)) as file:
            draw(file, format_of(plot))
    except FileError as error:
        printer.error(plot, str(error))
