# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 verify-proof`."""

import re

import click

from ..._errors import WitnessError
from ..._files import STDIN, FileError, RegularFile, read_chunks
from ..._native import DIGEST_BYTES, WINDOW_BYTES
from ..._proofs import PROOF_MOST_BYTES, InclusionProof
from ..._tree import TreeWitness
from ..console import Printer, file_name, json_option, shown
from ..file_kinds import PROOF, require_kind
from ..witness_files import errors_about, open_witnesses, read_text, read_tree_witness


def _parse_root(ctx: click.Context, param: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    digits = 2 * DIGEST_BYTES
    if re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value) is None:
        raise click.BadParameter(f"{value!r} must be {digits} hex digits")
    return bytes.fromhex(value)


@click.command(
    "verify-proof",
    short_help="Check a proof that a window belongs to a file.",
    epilog="""\b
Examples:
  atlas12288 verify-proof model.atlas-proof.json --from model.bin \\
    --witness model.witness.json
  tail -c +86017 model.bin | head -c 12288 |
    atlas12288 verify-proof model.atlas-proof.json - --root 3b1f...

Exit codes: 0 the proof holds; 1 it does not; 2 a file could not be read, or the proof is consistent
but no trusted root was given.""",
)
@click.argument("proof", type=file_name)
@click.argument("window", type=file_name, required=False)
@click.option(
    "--from",
    "whole",
    metavar="FILE",
    type=file_name,
    help="Read the window from this whole file, at the proof's index.",
)
@click.option("--root", metavar="HEX", callback=_parse_root, help="Trust this root of the tree.")
@click.option(
    "--witness",
    metavar="WITNESS",
    type=file_name,
    help="Trust the root and length of this tree witness; needs no leaves.",
)
@click.option(
    "--tensor",
    metavar="NAME",
    help="Trust what WITNESS, a witness of tensors, says of this one.",
)
@json_option
def command(
    proof: str,
    window: str | None,
    whole: str | None,
    root: bytes | None,
    witness: str | None,
    tensor: str | None,
    as_json: bool,
) -> int:
    """Check whether PROOF holds for a window: the file WINDOW, or with --from a part of FILE.

    A proof is only as good as its root, so give the root that you trust with --root or --witness.
    Without one, a proof can fail but never hold, because its maker could choose the root in it.
    """
    if (window is None) == (whole is None):
        raise click.UsageError("either WINDOW or --from FILE is needed")
    if root is not None and witness is not None:
        raise click.UsageError("--root and --witness exclude each other")
    if tensor is not None and witness is None:
        raise click.UsageError("--tensor needs --witness, which is of tensors")
    if tensor is not None and whole is not None:
        raise click.UsageError(
            "--from takes a window out of a file: with --tensor, name a WINDOW with the bytes of "
            "the tensor"
        )
    if [proof, window, witness].count(STDIN) > 1:
        raise click.UsageError("only one of the files can be standard input (-)")
    if whole == STDIN:
        raise click.UsageError("--from needs a file that can be read from any place, not -")
    with Printer("verify-proof", as_json, None) as printer:
        fields: dict[str, object]
        fields = {"proof": proof, "file": window or whole, "holds": None, "reason": None}
        fields |= {"window": None, "root": None, "root_from": None, "error": None}
        try:
            stated = _read_proof(proof)
            trusted = None if witness is None else _read_witness(witness, tensor)
            content = _read_window(window, whole, stated.index)
        except FileError as error:
            printer.error(str(error.name), error.reason)
            fields["error"] = f"{error.name}: {error.reason}"
        else:
            reason = _why_not(stated, content, root, trusted)
            origin = "option" if root else "witness" if trusted else "proof"
            holds: bool | None = reason is None
            if holds and origin == "proof":
                holds, reason = None, "the root came with the proof"
            fields |= {"holds": holds, "reason": reason, "window": stated.index}
            fields |= {"root": stated.root.hex(), "root_from": origin}
            about = f"{shown(proof)}: window {stated.index} of {stated.size}, "
            trust = f"  under the root {stated.root.hex()}"
            if holds is None:
                printer.undecided()
                printer.line(f"{about}consistent, under a root that came with the proof")
                printer.line(
                    f"{trust}\n  which whoever made the proof could choose: it says nothing about "
                    "the origin of the window.\n"
                    "  Demand one that you trust with --root or --witness."
                )
            else:
                printer.verdict(holds)
                verdict = "proven" if holds else "not proven"
                printer.line(
                    about, good=holds, verdict=verdict, more=f": {reason}" if reason else ""
                )
                if holds:
                    printer.line(trust)
        printer.document(fields)
    return printer.code


def _read_proof(name: str) -> InclusionProof:
    with errors_about(name):
        kind, chunks = open_witnesses(name)
        require_kind(kind, name, "PROOF", PROOF)
        text = read_text(chunks, PROOF_MOST_BYTES, "a proof")
        try:
            return InclusionProof.from_json(text)
        except WitnessError as error:
            raise FileError(str(error)) from error


def _read_witness(name: str, tensor: str | None) -> TreeWitness:
    if tensor is None:
        return read_tree_witness(name)
    from ..tensor_files import read_tree_of

    return read_tree_of(name, tensor)


def _read_window(window: str | None, whole: str | None, index: int) -> bytes:
    """Return the bytes of the window, from its own file or from a whole file."""
    name = str(window or whole)
    with errors_about(name):
        if whole is not None:
            with RegularFile(whole) as file:
                return file.read(index * WINDOW_BYTES, WINDOW_BYTES)
        data = bytearray()
        for chunk in read_chunks(name):
            data += chunk
            if len(data) > WINDOW_BYTES:
                raise FileError(
                    f"has more than {WINDOW_BYTES} bytes, must be one window; "
                    "--from takes a window out of a whole file"
                )
        return bytes(data)


def _why_not(
    proof: InclusionProof, window: bytes, root: bytes | None, witness: TreeWitness | None
) -> str | None:
    """Return why the proof does not hold; None if it does."""
    if root is None:
        root = proof.root if witness is None else witness.root
    if proof.root != root:
        return f"the root of the proof is {proof.root.hex()}, must be {root.hex()}"
    if witness is not None and proof.size != witness.windows:
        return f"the proof is for {proof.size} windows, the witness has {witness.windows}"
    if not window:
        return "the window has no bytes"
    holds = proof.verify(window, root) if witness is None else witness.verify_window(window, proof)
    return None if holds else "these are not the bytes that were proven"
