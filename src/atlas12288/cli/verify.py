# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 verify`."""

import json
from typing import Final

import click

from ..errors import WitnessError
from ..files import STDIN, FileError, expected_bytes, read_chunks, witness_file
from ..witness import Witness
from .report import COULD_NOT_CHECK, Report, complain, file_name, files_argument, json_option, shown

# A canonical witness has less than 300 bytes; a file with more for each FILE is something else.
_MAX_LINE_BYTES: Final = 1024


def _read_witnesses(name: str, count: int) -> list[str]:
    """The lines of a witness file.

    Raises:
        FileError: not readable, or not `count` lines of text.
    """
    data = bytearray()
    for chunk in read_chunks(name):
        data += chunk
        if len(data) > count * _MAX_LINE_BYTES:
            raise FileError(f"is not a witness file of {count} lines, one for each FILE: too long")
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FileError(f"is not a witness file: {error}") from error
    if len(lines) != count:
        raise FileError(f"has {len(lines)} witnesses for {count} files, must have one for each")
    return lines


def _verify_file(name: str, line: str, report: Report) -> None:
    fields: dict[str, object] = {"file": name, "holds": None, "differences": None}
    fields |= {"witness": None, "found": None, "error": None}
    try:
        if line.strip() == "null":
            raise FileError("has no witness: it could not be read when the witnesses were made")
        expected = Witness.from_json(line)
        fields["witness"] = json.loads(expected.to_json())
        found = witness_file(name, report.advance)
        fields["found"] = json.loads(found.to_json())
    except (FileError, WitnessError) as error:
        report.error(name, str(error))
        fields["error"] = str(error)
    else:
        differences = expected.differences(found)
        fields |= {"holds": not differences, "differences": list(differences)}
        report.verdict(not differences)
        if not differences:
            report.line(f"{shown(name)}: ", good=True, verdict="matches its witness")
        else:
            report.line(f"{shown(name)}: ", good=False, verdict="does not match its witness")
            for difference in differences:
                report.line(f"  {difference:8} witnessed {_field(expected, difference)}")
                report.line(f"  {'':8} found     {_field(found, difference)}")
    report.item(fields)


def _field(witness: Witness, difference: str) -> str:
    if difference == "digest":
        return witness.hexdigest()
    return str({"length": witness.length, "residue": witness.residue}[difference])


@click.command(
    "verify",
    short_help="Say whether files match their witnesses, and what differs.",
    epilog="""\b
Examples:
  atlas12288 verify model.witness.json model.bin
  atlas12288 verify tables.witnesses *.parquet
\b
Exit codes: 0 every file matches; 1 a file differs; 2 a file or WITNESS could not be read.""",
)
@click.argument("witnesses", metavar="WITNESS", type=file_name)
@files_argument
@json_option
def command(witnesses: str, files: tuple[str, ...], as_json: bool) -> int:
    """Say of each FILE whether it is what WITNESS says, and if not, what differs.

    WITNESS is what the witness command printed; its k-th line is the witness of the k-th FILE.
    """
    if witnesses == STDIN and STDIN in files:
        raise click.UsageError("WITNESS and FILE cannot both be standard input (-)")
    try:
        lines = _read_witnesses(witnesses, len(files))
    except FileError as error:
        complain(witnesses, str(error))
        return COULD_NOT_CHECK
    with Report(as_json, expected_bytes(list(files))) as report:
        for name, line in zip(files, lines, strict=True):
            _verify_file(name, line, report)
    return report.code
