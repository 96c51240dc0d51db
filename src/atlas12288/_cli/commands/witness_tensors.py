# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 witness --tensors`: the witness of a file of tensors, or of a model in shards."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from ..._files import FileError
from ..._outputs import Target, atomic_write_all
from ..._parallel import thread_count
from ...manifest._beside import SUFFIX, leaves_name
from ..console import Printer
from ..tensor_files import TENSORS_WITNESS, leaves_of_tensors, tensor_bytes, tensor_errors
from ..witness_files import output_at
from ..witness_outputs import write_without_leaves

if TYPE_CHECKING:
    from ...tensors import TensorsWitness


def witness(
    files: tuple[str, ...], tree: bool, threads: int | None, output: str | None, as_json: bool
) -> int:
    """Witness a file of tensors; return the exit code. Arguments as of the command."""
    if len(files) != 1:
        raise click.UsageError(f"--tensors takes one PATH, the file or folder, not {len(files)}")
    if output is not None and output.endswith(SUFFIX):
        raise click.UsageError(f"--tensors makes no manifest: -o must not end in {SUFFIX}")
    (name,) = files
    with ExitStack() as stack:
        targets = [] if output is None else _targets(name, output, tree, stack)
        printer = stack.enter_context(Printer("witness", as_json, tensor_bytes(name)))
        try:
            if output is None:
                found = _made(name, tree, threads, printer, None)
                printer.line(found.to_json())
            else:
                with (
                    atomic_write_all(*targets)
                    if tree
                    else write_without_leaves(targets[0], leaves_of_tensors(output), printer)
                ) as written:
                    write = written[-1].write if tree else None
                    found = _made(name, tree, threads, printer, write)
                    written[0].write(f"{found.to_json()}\n".encode())
        except FileError as error:
            printer.error(output if error.name is None and output else name, error.reason)
            _print(printer, name, None, error.reason)
        else:
            _print(printer, name, found, None)
    return printer.code


def _made(
    name: str,
    tree: bool,
    threads: int | None,
    printer: Printer,
    write_leaves: Callable[[bytes], object] | None,
) -> "TensorsWitness":
    """Return the witness.

    Raises:
        FileError: the tensors cannot be read; it knows the file.
    """
    from ...tensors import TensorsWitness
    from ...tensors._content import How

    keeps = write_leaves is not None
    how = How(tree, keeps, thread_count(threads), time.time_ns(), advance=printer.advance)
    try:
        with tensor_errors(name):
            return TensorsWitness._of_file(name, how, write_leaves)
    except FileError as error:
        raise FileError(error.reason, name) from error


def _print(printer: Printer, name: str, found: "TensorsWitness | None", error: str | None) -> None:
    """Add the file to what --json prints."""
    if printer.as_json:
        fields = None if found is None else found.to_fields()
        with printer.item(name, {"witness": fields, "error": error}):
            pass


def _targets(name: str, output: str, tree: bool, stack: ExitStack) -> list[Target]:
    """Return the witness file and, for trees, the sidecar beside it; see `witness._outputs`."""
    from ...tensors._set import files_of

    try:
        inputs = [name, *files_of(name)]
    except (OSError, ValueError):  # reading it will report it
        inputs = [name]
    kinds = {output: TENSORS_WITNESS}
    if tree:
        kinds[leaves_name(output)] = leaves_of_tensors(output)
    return [output_at(each, kind, inputs, stack) for each, kind in kinds.items()]
