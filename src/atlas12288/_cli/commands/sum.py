# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 sum`."""

import os

import click

from ..._file_witnesses import witness_file
from ..._files import FileError, expected_bytes
from ..._sums import sums_line
from ..console import Printer, files_argument, json_option


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
    with Printer("sum", as_json, expected_bytes(list(files))) as report:
        for name in files:
            with report.item(name, dict.fromkeys(("sha256", "length", "error"))) as item:
                try:
                    witness = witness_file(name, report.advance)
                except FileError as error:
                    report.error(name, str(error))
                    item.fields["error"] = str(error)
                else:
                    report.raw_line(sums_line(witness.digest, os.fsencode(name)))
                    item.fields |= {"sha256": witness.hexdigest(), "length": witness.length}
    return report.code
