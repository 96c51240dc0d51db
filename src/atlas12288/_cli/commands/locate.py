# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 locate`."""

import click

from ..._file_witnesses import compare_file
from ..._files import STDIN, FileError, shown
from ..._reports import range_to_fields
from ..._sidecars import WindowRange
from ..._words import counted
from ..console import (
    Item,
    Printer,
    bytes_to_read,
    file_name,
    json_option,
    printable,
    threads_option,
)
from ..file_kinds import TENSORS
from ..witness_files import Opened, errors_about, leaves_option, open_only_leaves, open_witnesses


@click.command(
    "locate",
    short_help="Print the byte ranges that changed, for scripts.",
    epilog="""\b
Examples:
  atlas12288 locate model.witness.json model.bin
  atlas12288 locate model.witness.json model.bin > ranges  # first read all
  while read start end; do
    dd if=good.bin of=model.bin bs=12288 conv=notrunc \\
       skip=$start seek=$start count=$((end - start)) \\
       iflag=skip_bytes,count_bytes oflag=seek_bytes
  done < ranges

Exit codes: 0 nothing differs and nothing is printed; 1 all differing ranges are printed; 2 the file
could not be checked: it is unreadable, or the leaves are missing or not those of WITNESS.""",
)
@click.argument("witness", type=file_name)
@click.argument("file", type=file_name)
@leaves_option
@threads_option
@json_option
def command(
    witness: str, file: str, sidecar: str | None, threads: int | None, as_json: bool
) -> int:
    """Print the byte ranges of FILE that differ from WITNESS, one line "START END" each.

    A range covers whole windows, the bytes START..END-1, counted from 0, in decimal. Ranges are in
    order. Bytes that were appended or cut off count as different.

    WITNESS must hold one tree witness, made by witness --tree -o, with its leaves beside it. If it
    is of tensors, each line is "START END TENSOR", and the bytes count from the start of the
    tensor.
    """
    if witness == file == STDIN:
        raise click.UsageError("WITNESS and FILE cannot both be standard input (-)")
    fields = dict.fromkeys(("ranges", "holds", "error"))
    with (
        Printer("locate", as_json, bytes_to_read([file])) as printer,
        printer.item(file, fields) as item,
    ):
        try:
            with errors_about(witness):
                opened = open_witnesses(witness)
            locate = _in_tensors if opened[0] == TENSORS else _in_file
            holds = locate(witness, opened, file, sidecar, threads, printer, item)
        except FileError as error:
            subject = error.name or file
            printer.error(subject, error.reason)
            reason = f"{subject}: {error.reason}" if subject != file else error.reason
            item.fields["error"] = reason
        else:
            item.fields["holds"] = holds
            printer.verdict(holds)
    return printer.code


def _in_file(
    witness: str,
    opened: Opened,
    file: str,
    sidecar: str | None,
    threads: int | None,
    printer: Printer,
    item: Item,
) -> bool:
    """Print the ranges of a file that differ; return whether none does."""
    holds = True

    def differs(changed: WindowRange) -> None:
        nonlocal holds
        holds = False
        printer.line(f"{changed.start} {changed.end}")
        item.extend([range_to_fields(changed)])

    with open_only_leaves(witness, sidecar, opened) as leaves:
        item.begin("ranges")
        now = compare_file(file, leaves, differs, threads=threads, advance=printer.advance)
        if holds and leaves.witness.differences(now):
            raise FileError("has the root of FILE with another length or residue", witness)
    return holds


def _in_tensors(
    witness: str,
    opened: Opened,
    file: str,
    sidecar: str | None,
    threads: int | None,
    printer: Printer,
    item: Item,
) -> bool:
    """Print the ranges of tensors that differ; return whether none does."""
    from ..tensor_files import open_trees, tensor_errors

    with open_trees(witness, opened, sidecar) as (witnessed, trees):
        how = witnessed._how(threads)._replace(leaves=True, advance=printer.advance)
        item.begin("ranges")
        with tensor_errors(file):
            found = witnessed._verify_file(file, how, trees.tree)
    for each in found.differences:
        for changed in each.ranges or ():
            printer.line(f"{changed.start} {changed.end} {shown(str(each.name))}")
            item.extend([{"tensor": each.name, **range_to_fields(changed)}])
    others = [each for each in found.differences if not each.ranges]
    if others:
        more = f"; and {counted(len(others) - 1, 'more difference')}" if len(others) > 1 else ""
        raise FileError(
            f"{printable(str(others[0]))}: there are no ranges of this{more}: verify names all"
        )
    return not found.differences
