# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 locate`."""

import click

from ..._file_witnesses import compare_file
from ..._files import STDIN, FileError, expected_bytes
from ..._reports import range_to_fields
from ..._sidecars import WindowRange
from ..console import Printer, file_name, json_option
from ..witness_files import leaves_option, open_only_leaves, threads_option


@click.command(
    "locate",
    short_help="Print where a file differs from its tree witness, for scripts.",
    epilog="""\b
Examples:
  atlas12288 locate model.witness.json model.bin
  atlas12288 locate model.witness.json model.bin > ranges   # first: it reads until its end
  while read start end; do
    dd if=good.bin of=model.bin bs=12288 skip=$start seek=$start count=$((end - start)) \\
       iflag=skip_bytes,count_bytes oflag=seek_bytes conv=notrunc
  done < ranges

\b
Exit codes: 0 nothing differs, nothing is printed; 1 all that differs is printed; 2 the file could
not be checked: unreadable, no leaves, not the leaves of WITNESS.""",
)
@click.argument("witness", type=file_name)
@click.argument("file", type=file_name)
@leaves_option
@threads_option
@json_option
def command(
    witness: str, file: str, sidecar: str | None, threads: int | None, as_json: bool
) -> int:
    """Print a line "START END" for each run of windows in which FILE differs from WITNESS.

    These are the bytes START..END-1, in order, counted from 0, in decimal digits. Where FILE is
    shorter or longer than it was, what is missing or added differs.

    WITNESS holds one tree witness (witness --tree -o), and its leaves are beside it.
    """
    if witness == file == STDIN:
        raise click.UsageError("WITNESS and FILE cannot both be standard input (-)")
    fields = dict.fromkeys(("ranges", "holds", "error"))
    with (
        Printer("locate", as_json, expected_bytes([file])) as report,
        report.item(file, fields) as item,
    ):
        holds = True

        def differs(run: WindowRange) -> None:
            nonlocal holds
            holds = False
            report.line(f"{run.start} {run.end}")
            item.extend([range_to_fields(run)])

        try:
            with open_only_leaves(witness, sidecar) as leaves:
                item.begin("ranges")
                now = compare_file(file, leaves, differs, threads=threads, advance=report.advance)
                if holds and leaves.witness.differences(now):
                    raise FileError("has the root of FILE with another length or residue", witness)
        except FileError as error:
            subject = error.name or file
            report.error(subject, error.reason)
            reason = f"{subject}: {error.reason}" if subject != file else error.reason
            item.fields["error"] = reason
        else:
            item.fields["holds"] = holds
            report.verdict(holds)
    return report.code
