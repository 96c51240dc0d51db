# SPDX-License-Identifier: Apache-2.0
"""Witnesses of either class, told apart by the algorithm that their JSON names."""

from __future__ import annotations

from . import _json
from ._tree import TreeWitness
from ._witness import ALGORITHM, TREE_ALGORITHM, Witness, read_record, record_of


def witness_from_json(text: str | bytes, /) -> Witness | TreeWitness:
    """Return the witness of a JSON text, in the class for its algorithm; bytes are UTF-8.

    Raises:
        WitnessError: not a witness; the message names the key, its value and the rule.
        TypeError: neither str nor bytes.
    """
    return _witness_of(*read_record(text, ALGORITHM, TREE_ALGORITHM))


def witness_of_fields(fields: _json.Fields, /) -> Witness | TreeWitness:
    """Return the witness that the fields of a JSON object are, as `witness_from_json` does.

    Raises:
        WitnessError: as `witness_from_json`.
    """
    return _witness_of(*record_of(fields, ALGORITHM, TREE_ALGORITHM))


def _witness_of(
    algorithm: str, length: int, residue: int, digest: bytes, timestamp_ns: int
) -> Witness | TreeWitness:
    if algorithm == ALGORITHM:
        return Witness._of_fields(length, residue, digest, timestamp_ns)
    return TreeWitness._of_parts(length, residue, digest, timestamp_ns, None)
