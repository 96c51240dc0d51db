# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 prove`."""

from contextlib import ExitStack
from typing import Final

import click

from ..._errors import WitnessError
from ..._file_witnesses import prove_in_file, prove_in_leaves, require_window
from ..._files import STDIN, FileError, RegularFile
from ..._native import WINDOW_BYTES
from ..._outputs import OutputKind, atomic_write_all
from ..._proofs import PROOF_MOST_BYTES, InclusionProof
from ..console import Printer, bytes_to_read, file_name, json_option, threads_option
from ..witness_files import find_sidecar, leaves_option, open_only_leaves, output_at, output_file


def _is_proof(file: RegularFile) -> bool:
    try:
        InclusionProof.from_json(file.read(0, PROOF_MOST_BYTES))
    except WitnessError:
        return False
    return file.size <= PROOF_MOST_BYTES


_PROOF: Final = OutputKind("proof", _is_proof)


@click.command(
    "prove",
    short_help="Print a proof that a window belongs to a file.",
    epilog="""\b
Examples:
  atlas12288 prove --window 7 model.bin -o model.atlas-proof.json
  atlas12288 prove --offset 86016 --witness model.witness.json
  atlas12288 prove --tensor embed --window 0 model.safetensors

Exit codes: 0 the proof is made; 2 a file could not be read, or the window or the leaves do not
exist.""",
)
@click.argument("file", type=file_name, required=False)
@click.option(
    "--window", metavar="N", type=click.IntRange(min=0), help="Prove the window with this index."
)
@click.option(
    "--offset",
    metavar="BYTE",
    type=click.IntRange(min=0),
    help="Prove the window with this byte, counted from 0.",
)
@click.option(
    "--witness",
    metavar="WITNESS",
    type=file_name,
    help="Use the leaves of this tree witness instead of reading FILE.",
)
@click.option(
    "--tensor",
    metavar="NAME",
    help="Prove a window of this tensor: FILE or WITNESS is of tensors.",
)
@leaves_option
@threads_option
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=file_name,
    help="Write the proof to this file, completely or not at all; - is standard output.",
)
@json_option
def command(
    file: str | None,
    window: int | None,
    offset: int | None,
    witness: str | None,
    tensor: str | None,
    sidecar: str | None,
    threads: int | None,
    output: str | None,
    as_json: bool,
) -> int:
    """Print a proof that a window of 12,288 bytes belongs to FILE, as one line of JSON.

    With the proof and a trusted root, verify-proof checks the window without the rest of FILE. The
    proof has the index of the window, the size, a path and the root of the tree. It proves nothing
    about other windows. With --tensor the window, the size and the root are those of the bytes of
    the tensor, wherever they lie in FILE.
    """
    if (file is None) == (witness is None):
        raise click.UsageError("either FILE or --witness WITNESS is needed")
    if (window is None) == (offset is None):
        raise click.UsageError("either --window N or --offset BYTE is needed")
    if sidecar is not None and witness is None:
        raise click.UsageError("--leaves needs --witness: FILE is read itself")
    if file == STDIN:
        raise click.UsageError("FILE cannot be standard input (-): its size must be known first")
    output = output_file(output, as_json)
    index = window if window is not None else (offset or 0) // WINDOW_BYTES
    found_sidecar = None if witness is None else find_sidecar(witness)
    inputs = [name for name in (file, witness, sidecar or found_sidecar) if name is not None]

    def prove(printer: Printer) -> InclusionProof:
        if tensor is not None:
            return _prove_in_tensor(tensor, index, file, witness, sidecar, threads, printer)
        if file is not None:
            return prove_in_file(file, index, threads=threads, advance=printer.advance)
        with open_only_leaves(str(witness), sidecar) as leaves:
            return prove_in_leaves(leaves, index)

    subject = str(file or witness)
    with ExitStack() as stack:
        target = None if output is None else output_at(output, _PROOF, inputs, stack)
        printer = stack.enter_context(
            Printer("prove", as_json, None if file is None else bytes_to_read([file]))
        )
        fields: dict[str, object] = {"file": subject, "proof": None, "error": None}
        try:
            proof = prove(printer)
            fields["proof"] = proof.to_fields()
            if target is None:
                printer.line(proof.to_json())
            else:
                subject = target.name
                with atomic_write_all(target) as (written,):
                    written.write(f"{proof.to_json()}\n".encode())
        except FileError as error:
            name = error.name or subject
            printer.error(name, error.reason)
            fields["error"] = f"{name}: {error.reason}"
        printer.document(fields)
    return printer.code


def _prove_in_tensor(
    tensor: str,
    index: int,
    file: str | None,
    witness: str | None,
    sidecar: str | None,
    threads: int | None,
    printer: Printer,
) -> InclusionProof:
    """Return the proof that a window is in the tree of a tensor; arguments as of the command."""
    from ..tensor_files import open_leaves_of, tree_in

    if file is None:
        with open_leaves_of(str(witness), sidecar, tensor) as leaves:
            return prove_in_leaves(leaves, index)
    tree = tree_in(file, tensor, threads, printer)
    require_window(index, tree.windows)
    return tree.prove(index)
