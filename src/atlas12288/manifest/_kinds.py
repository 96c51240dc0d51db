# SPDX-License-Identifier: Apache-2.0
"""Recognise manifests, witness files and their leaves, which outputs may replace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .._errors import WitnessError
from .._files import FileError, RegularFile, shown
from .._outputs import OutputKind
from .._sidecars import Trees, first_without_leaves
from .._tree import TreeWitness
from .._witness import Witness
from .._witness_lists import lines_of, read_line
from ._entries import trees_in
from ._statement import PREDICATE_TYPE, STATEMENT_TYPE

# The type of a manifest is at its end in the canonical form, and may be before in others.
_ENDS_BYTES: Final = 4096


def is_manifest(file: RegularFile) -> bool:
    """Return whether a file begins and ends like a manifest."""
    head = file.read(0, _ENDS_BYTES)
    if not head.lstrip().startswith(b"{") or STATEMENT_TYPE.encode() not in head:
        return False
    return PREDICATE_TYPE.encode() in head + file.read(max(0, file.size - _ENDS_BYTES), _ENDS_BYTES)


def _witnesses(file: RegularFile) -> Iterator[Witness | TreeWitness]:
    """Return the witnesses of a witness file.

    Raises:
        WitnessError: not a witness file.
        FileError: not readable.
    """
    for line in filter(bytes.strip, lines_of(file.chunks())):
        witness = read_line(line).witness
        if witness is not None:
            yield witness


def _is_witness_file(file: RegularFile) -> bool:
    try:
        return sum(1 for _ in _witnesses(file)) > 0
    except WitnessError:
        return False


WITNESSES: Final = OutputKind(
    "manifest or witness file",
    lambda file: is_manifest(file) or _is_witness_file(file),
    through_links=True,
)


LEAVES_WAY_OUT: Final = ": remove it if it has old leaves"


def leaves_of(witnesses: str) -> OutputKind:
    """Return the kind of file that holds the leaves of the present manifest or witness file.

    Links are not followed to it, because the user did not type its name: it is derived from the
    name of the file.
    """

    def are_its_leaves(file: RegularFile) -> bool:
        try:
            with RegularFile(witnesses) as its:
                return first_without_leaves(file, Trees.of(_trees(its))) is None
        except (FileError, WitnessError):
            return False

    words = f"file with the leaves of {shown(witnesses)} as it is"
    return OutputKind(words, are_its_leaves, way_out=LEAVES_WAY_OUT)


def _trees(file: RegularFile) -> Iterator[tuple[int, bytes]]:
    if is_manifest(file):
        yield from trees_in(file.chunks())
        return
    for witness in _witnesses(file):
        if isinstance(witness, TreeWitness):
            yield witness.length, witness.root
