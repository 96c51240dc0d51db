# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 sum`."""

import os

import click

from ..._file_witnesses import witness_in_turn
from ..._files import FileError
from ..._sums import sum_lines, sums_line
from ..._witness import Witness
from ..console import FilesCommand, Printer, bytes_to_read, files_argument, json_option


@click.command(
    "sum",
    cls=FilesCommand,
    short_help="Print SHA-256 digests like sha256sum.",
    epilog="""\b
Example:
  atlas12288 sum *.iso > SHA256SUMS && sha256sum -c SHA256SUMS

Exit codes: 0 all digests are printed; 2 a file could not be read.""",
)
@files_argument
@json_option
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Print the SHA-256 digest of each FILE, in exactly the format of sha256sum."""
    with Printer("sum", as_json, bytes_to_read(files)) as report:
        if as_json:
            for name, outcome in zip(files, witness_in_turn(files, report.advance), strict=True):
                _item(report, name, outcome)
        else:
            for found in sum_lines(files, report.advance):
                if isinstance(found, bytes):
                    report.raw_lines(found)
                else:
                    _line(report, *found)
    return report.code


def _line(report: Printer, name: str, outcome: Witness | FileError) -> None:
    if isinstance(outcome, FileError):
        report.error(name, str(outcome))
    else:
        report.raw_line(sums_line(outcome.digest, os.fsencode(name)))


def _item(report: Printer, name: str, outcome: Witness | FileError) -> None:
    fields: dict[str, object] = dict.fromkeys(("sha256", "length", "error"))
    if isinstance(outcome, FileError):
        fields["error"] = str(outcome)
        report.error(name, str(outcome))
    else:
        fields |= {"sha256": outcome.hexdigest(), "length": outcome.length}
    with report.item(name, fields):
        pass
