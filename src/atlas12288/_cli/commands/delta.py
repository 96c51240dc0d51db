# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 delta`."""

import click

from ..._files import STDIN, FileError, read_chunks
from ..._native import MODULUS, Residue
from ..console import Printer, bytes_to_read, file_name, json_option


def _measure(name: str, printer: Printer) -> tuple[int, int]:
    """Return the length and the residue of a file."""
    residue, length = Residue(), 0
    for chunk in read_chunks(name, printer.advance):
        residue.update(chunk)
        length += len(chunk)
    return length, residue.value


@click.command(
    "delta",
    short_help="Print how the residue changes from one file to another.",
    epilog="""\b
Example:
  atlas12288 delta yesterday.bin today.bin

Exit codes: 0 the delta is 0; 1 it is not; 2 a file could not be read, or the lengths differ.""",
)
@click.argument("before", type=file_name)
@click.argument("after", type=file_name)
@json_option
def command(before: str, after: str, as_json: bool) -> int:
    """Print how the residue changes from the file BEFORE to the file AFTER.

    The delta is (residue of AFTER - residue of BEFORE) mod 96. Both files must have the same
    length.
    """
    if before == after == STDIN:
        raise click.UsageError("BEFORE and AFTER cannot both be standard input (-)")
    with Printer("delta", as_json, bytes_to_read([before, after])) as printer:
        fields: dict[str, object] = {"before": None, "after": None, "delta": None, "error": None}
        measured: list[tuple[int, int]] = []
        for key, name in (("before", before), ("after", after)):
            fields[key] = {"file": name, "length": None, "residue": None}
            try:
                length, residue = _measure(name, printer)
                fields[key] = {"file": name, "length": length, "residue": residue}
                measured.append((length, residue))
                if measured[0][0] != length:
                    raise FileError(f"has {length} bytes, must have the {measured[0][0]} of BEFORE")
            except FileError as error:
                printer.error(name, str(error))
                fields["error"] = str(error)
        if fields["error"] is None:
            (_, first), (_, second) = measured
            value = (second - first) % MODULUS
            fields |= {"delta": value, "holds": value == 0}
            printer.line(
                "", good=value == 0, verdict=f"delta {value}", more=f": residue {first} -> {second}"
            )
            printer.verdict(value == 0)
        printer.document(fields)
    return printer.code
