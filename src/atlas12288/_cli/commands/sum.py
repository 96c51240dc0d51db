# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 sum`."""

import os

import click

from ..._file_witnesses import witness_in_turn
from ..._files import FileError
from ..._sums import sums_line
from ..._witness import Witness
from ..console import Printer, bytes_to_read, files_argument, json_option


@click.command(
    "sum",
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
        for name, outcome in zip(files, witness_in_turn(files, report.advance), strict=True):
            _print(report, name, outcome)
    return report.code


def _print(report: Printer, name: str, outcome: Witness | FileError) -> None:
    error = str(outcome) if isinstance(outcome, FileError) else None
    if error is not None:
        report.error(name, error)
    if not report.as_json:
        if isinstance(outcome, Witness):
            report.raw_line(sums_line(outcome.digest, os.fsencode(name)))
        return
    fields = dict.fromkeys(("sha256", "length", "error"), None) | {"error": error}
    if isinstance(outcome, Witness):
        fields |= {"sha256": outcome.hexdigest(), "length": outcome.length}
    with report.item(name, fields):
        pass
