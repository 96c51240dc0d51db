# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 witness`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from typing import Any, BinaryIO, TypeAlias

import click

from ..._files import FileError
from ..._outputs import Target, atomic_write_all
from ..._tree import TreeWitness
from ..._witness import Witness
from ...manifest._beside import leaves_name
from .. import manifests
from ..console import (
    COULD_NOT_CHECK,
    Printer,
    bytes_to_read,
    file_name,
    json_option,
    threads_option,
)
from ..manifests import AcceptCommand, manifest_options
from ..witness_files import output_at, output_file, witness_line
from ..witness_outputs import write_without_leaves

# The witness of a file, or why there is none.
_Outcome: TypeAlias = Witness | TreeWitness | FileError


@click.command(
    "witness",
    cls=AcceptCommand,
    short_help="Witness files, or make the manifest of a folder.",
    epilog="""\b
Examples:
  atlas12288 witness model.bin -o model.witness.json
  atlas12288 witness --tree model.bin -o model.witness.json
  atlas12288 witness --tensors --tree model.safetensors -o model.witness.json
  atlas12288 witness *.parquet > tables.witnesses
  tar c folder | atlas12288 witness -
  atlas12288 witness --tree data -o data.atlas.json
  atlas12288 witness --update --tree data -o data.atlas.json
  atlas12288 witness --tree data -o data.atlas.json --accept raw/scan.tif
  atlas12288 witness --exclude '*.log' data -o data.atlas.json
  atlas12288 witness s3://bucket/data -o data.atlas.json
  atlas12288 witness --format sha256sum data > SHA256SUMS

Exit codes: 0 all files are witnessed; 1 a manifest was not replaced, because a file changed that is
not known to have been edited; 2 a file could not be read.""",
)
@click.argument("files", metavar="PATH...", nargs=-1, required=True, type=file_name)
@click.option(
    "--tree",
    is_flag=True,
    help="Make tree witnesses; with -o OUT, write their leaves to OUT.atlas.leaves.",
)
@click.option(
    "--tensors",
    is_flag=True,
    help="Witness each tensor of a .safetensors or .npz file, or of the shards of an index.",
)
@threads_option
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=file_name,
    help="Write to this file, completely or not at all; - is standard output.",
)
@manifest_options
@json_option
def command(
    files: tuple[str, ...],
    tree: bool,
    tensors: bool,
    threads: int | None,
    output: str | None,
    as_json: bool,
    **of_manifests: Any,
) -> int:
    """Print the witness of each file, or make the manifest of a folder.

    A witness is one line of JSON with length, residue, SHA-256 digest and time. With --tree the
    digest is the root of a Merkle tree over windows of 12,288 bytes. With the leaves of the tree
    beside the witness, verify and locate find the bytes that changed, and prove proves a window.
    For several files each line has the name of its file too. If a file cannot be read, its witness
    is null; with -o nothing is written then.

    With --tensors the witness has an entry for each tensor of PATH: a .safetensors or .npz file, an
    index such as model.safetensors.index.json, or the folder with it. Later, verify names the
    tensors that changed.

    If a PATH is a folder or a URL, or if OUT ends in .atlas.json, all files go into one manifest.
    Later, verify names the files that changed, are missing, or were added. A manifest contains no
    time, so the same files give the same manifest. Its paths are relative to the folder, or to the
    current folder if there are several PATHs. An .atlasignore in the folder lists what is left out,
    in gitignore syntax. A run that was interrupted after a few seconds resumes and says so.

    If OUT is a manifest already, what differs from it is printed. A file whose content changed
    while its size and modification time did not may be damaged: then OUT stays as it is, until the
    same command with --accept takes the change, as it was refused.
    """
    output = output_file(output, as_json)
    if tensors:
        from . import witness_tensors

        manifests.require_none(of_manifests, "not with --tensors")
        return witness_tensors.witness(files, tree, threads, output, as_json)
    if manifests.is_wanted(files, output, of_manifests):
        from . import witness_manifest

        return witness_manifest.witness(
            witness_manifest.WitnessOptions(
                paths=files,
                tree=tree,
                threads=threads,
                output=output,
                as_json=as_json,
                **of_manifests,
            )
        )
    return _witness_files(files, tree, threads, output, as_json)


def _witness_files(
    files: tuple[str, ...], tree: bool, threads: int | None, output: str | None, as_json: bool
) -> int:
    """Witness each file; return the exit code."""
    from ..._file_witnesses import tree_witness_file
    from ..._many_files import witness_in_order

    def trees(leaves: Callable[[bytes], object] | None) -> Iterator[_Outcome]:
        for name in files:
            try:
                yield tree_witness_file(
                    name, threads=threads, leaves=leaves, advance=printer.advance
                )
            except FileError as error:
                yield error

    def witnesses() -> Iterator[_Outcome]:
        flat = witness_in_order(files, threads=threads, advance=printer.advance)
        with closing(flat):
            for known in flat:
                yield known.outcome

    found: Iterator[_Outcome]
    with ExitStack() as stack:
        outputs = [] if output is None else _outputs(files, output, tree, stack)
        printer = stack.enter_context(Printer("witness", as_json, bytes_to_read(files)))
        if output is None:
            found = trees(None) if tree else witnesses()
            _print_all(files, found, printer.line, printer)
            return printer.code
        try:
            with _writing(outputs, printer) as written:
                found = trees(written[-1].write) if tree else witnesses()
                write = written[0].write
                _print_all(files, found, lambda line: write(f"{line}\n".encode()), printer)
                if printer.code == COULD_NOT_CHECK:
                    raise FileError("not written, because a file could not be read")
        except FileError as error:
            printer.error(output, str(error))
    return printer.code


def _outputs(files: tuple[str, ...], output: str, tree: bool, stack: ExitStack) -> list[Target]:
    """Return the witness file and, for trees, the sidecar beside it.

    Raises:
        click.UsageError: one of them cannot be written, or the existing file is not ours.
    """
    from ...manifest._kinds import WITNESSES, leaves_of

    kinds = {output: WITNESSES}
    if tree:
        kinds[leaves_name(output)] = leaves_of(output)
    return [output_at(name, kind, files, stack) for name, kind in kinds.items()]


def _writing(
    outputs: list[Target], printer: Printer
) -> AbstractContextManager[tuple[BinaryIO, ...]]:
    """Return the open outputs: the witness file and, for trees, its sidecar."""
    from ...manifest._kinds import leaves_of

    if len(outputs) > 1:
        return atomic_write_all(*outputs)
    (output,) = outputs
    return write_without_leaves(output, leaves_of(output.name), printer)


def _print_all(
    files: tuple[str, ...],
    found: Iterable[_Outcome],
    write_line: Callable[[str], object],
    printer: Printer,
) -> None:
    """Print the witness of each file, or why there is none, as soon as it is known."""
    for name, outcome in zip(files, found, strict=True):
        witness, error = None, None
        if isinstance(outcome, FileError):
            error = str(outcome)
            printer.error(name, error)
        else:
            witness = outcome
        write_line(witness_line(name if len(files) > 1 else None, witness))
        if printer.as_json:
            fields = None if witness is None else witness.to_fields()
            with printer.item(name, {"witness": fields, "error": error}):
                pass
