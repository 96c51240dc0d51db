# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 witness`."""

import json

import click

from ..files import FileError, atomic_write, expected_bytes, require_writable, witness_file
from .report import COULD_NOT_CHECK, Report, file_name, files_argument, json_option, shown

_UNREADABLE = "null"  # stands for a file that could not be read: lines and files stay paired


@click.command(
    "witness",
    short_help="Print the witnesses of files.",
    epilog="""\b
Examples:
  atlas12288 witness model.bin -o model.witness.json
  atlas12288 witness *.parquet > tables.witnesses
  tar c folder | atlas12288 witness -
\b
Exit codes: 0 all files witnessed; 2 a file could not be read.""",
)
@files_argument
@click.option(
    "-o",
    "output",
    metavar="OUT",
    type=file_name,
    help="Write the witnesses to this file, whole or not at all.",
)
@json_option
def command(files: tuple[str, ...], output: str | None, as_json: bool) -> int:
    """Print the witness of each FILE: one line of JSON with length, residue, SHA-256 digest, time.

    Where a file cannot be read its line is null, so that lines and files stay paired; with -o
    nothing is written then.
    """
    if output is not None:
        try:
            require_writable(output, list(files))
        except FileError as error:
            raise click.UsageError(f"-o {shown(output)}: {error}") from error
    witnesses: list[str] = []
    with Report(as_json, expected_bytes(list(files))) as report:
        for name in files:
            text, reason = _UNREADABLE, None
            try:
                text = witness_file(name, report.advance).to_json()
            except FileError as error:
                reason = str(error)
                report.error(name, reason)
            if output is not None:
                witnesses.append(text)
            else:
                report.line(text)
            report.item({"file": name, "witness": json.loads(text), "error": reason})
        if output is not None:
            _write(output, witnesses, report)
    return report.code


def _write(output: str, witnesses: list[str], report: Report) -> None:
    if report.code == COULD_NOT_CHECK:
        report.error(output, "not written, because a file could not be read")
        return
    try:
        with atomic_write(output) as file:
            file.writelines(f"{text}\n".encode() for text in witnesses)
    except FileError as error:
        report.error(output, str(error))
