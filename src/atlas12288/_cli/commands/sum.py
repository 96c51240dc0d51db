# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 sum`."""

import os
from collections.abc import Iterable
from contextlib import closing

import click

from ..._files import FileError
from ..._make_sums import sum_lines
from ..._many_files import Known, witness_in_order
from ..._name_lists import read_names
from ..._sums import sums_line
from ..console import (
    FilesCommand,
    Printer,
    bytes_to_read,
    file_name,
    files_at_once_option,
    json_option,
)


@click.command(
    "sum",
    cls=FilesCommand,
    short_help="Print SHA-256 digests like sha256sum.",
    epilog="""\b
Examples:
  atlas12288 sum *.iso > SHA256SUMS && sha256sum -c SHA256SUMS
  find . -type f -print0 | atlas12288 sum --files0-from - > /tmp/SHA256SUMS

Exit codes: 0 all digests are printed; 2 a file could not be read, or NAMES could not be, or has no
name.""",
)
@click.argument("files", metavar="[FILE...]", nargs=-1, type=file_name)
@click.option(
    "--files0-from",
    "names",
    metavar="NAMES",
    type=file_name,
    help="Read the names of the files from NAMES instead, where each ends with NUL; - is standard "
    "input.",
)
@files_at_once_option
@json_option
def command(files: tuple[str, ...], names: str | None, threads: int | None, as_json: bool) -> int:
    """Print the SHA-256 digest of each FILE, in exactly the format of sha256sum.

    Files are read in parallel, and their lines are in the order of their names.
    """
    if names is None and not files:
        raise click.UsageError("FILE is needed, or --files0-from")
    if names is not None and files:
        raise click.UsageError("--files0-from names all files: not with FILE")
    total = bytes_to_read(files) if names is None else None
    wanted: Iterable[str | FileError] = files if names is None else read_names(names)
    with Printer("sum", as_json, total) as printer:
        if as_json:
            with closing(
                witness_in_order(wanted, threads=threads, advance=printer.advance)
            ) as found:
                for known in found:
                    _item(printer, known)
        else:
            with closing(sum_lines(wanted, threads=threads, advance=printer.advance)) as printed:
                for each in printed:
                    if isinstance(each, bytes):
                        printer.raw_lines(each)
                    else:
                        _line(printer, each)
    return printer.code


def _line(printer: Printer, known: Known) -> None:
    name, outcome = known
    if isinstance(outcome, FileError):
        _error(printer, name, outcome)
    elif name is not None:
        printer.raw_line(sums_line(outcome.digest, os.fsencode(name)))


def _item(printer: Printer, known: Known) -> None:
    name, outcome = known
    fields: dict[str, object] = dict.fromkeys(("sha256", "length", "error"))
    if isinstance(outcome, FileError):
        fields["error"] = str(outcome)
        _error(printer, name, outcome)
    else:
        fields |= {"sha256": outcome.hexdigest(), "length": outcome.length}
    with printer.item(name, fields):
        pass


def _error(printer: Printer, name: str | None, error: FileError) -> None:
    if name is None:  # it is about the list of names
        printer.error(str(error.name), error.reason)
    else:
        printer.error(name, str(error))
