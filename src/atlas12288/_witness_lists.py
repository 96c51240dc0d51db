# SPDX-License-Identifier: Apache-2.0
"""Lists of the witnesses of files, one JSON object a line.

    {"file": "model.bin", "witness": {"type": "atlas12288/witness/v1", ...}}

The key is `fileHex`, with lowercase hex, where the name is not UTF-8. The witness is null where the
file could not be read. A line without a name is a witness alone, or null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from . import _json
from ._any_witness import witness_of_fields
from ._errors import WitnessError
from ._names import from_json, keys, to_json
from ._tree import TreeWitness
from ._witness import WITNESS_MOST_BYTES, Witness, fields_of

# Of a line. No system takes the name of a file that would need so many bytes in JSON.
LINE_MOST_BYTES: Final = 1 << 15
NO_WITNESS: Final = b"null"  # the line of a file that could not be read, in a list without names
_WITNESS: Final = "witness"
_FILE: Final = "file"
_NAMED_KEYS: Final = frozenset((*keys(_FILE), _WITNESS))


class ListedWitness(NamedTuple):
    """A line of a list.

    Attributes:
        name: name of the file; None if the line has none.
        witness: witness of the file; None if the file could not be read.
    """

    name: bytes | None
    witness: Witness | TreeWitness | None


class NamedLineError(WitnessError):
    """A line is the object of a name and a witness, and something is wrong with it."""


def lines_of(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the lines of a list, without their ends.

    Raises:
        WitnessError: a line has more than `LINE_MOST_BYTES`; what `chunks` raises.
    """
    rest = b""
    number = 1
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _require_short(line, number)
            yield line
            number += 1
        _require_short(rest, number)
    if rest:
        yield rest


def _require_short(line: bytes, number: int) -> None:
    if len(line) > LINE_MOST_BYTES:
        most = f"must have at most {LINE_MOST_BYTES:,} bytes"
        raise WitnessError(f"line {number} is too long, {most}")


def read_line(line: bytes) -> ListedWitness:
    """Return what a line of a list says.

    Raises:
        NamedLineError: the line has a name or the key `witness`, and not its form.
        WitnessError: not a witness; the message names the key, its value and the rule.
    """
    if line.strip() == NO_WITNESS:
        return ListedWitness(None, None)
    value = _json.read(line, LINE_MOST_BYTES)
    if isinstance(value, dict) and not _NAMED_KEYS.isdisjoint(value):
        try:
            return _named(value)
        except WitnessError as error:
            raise NamedLineError(str(error)) from None
    if len(line) > WITNESS_MOST_BYTES:
        _json.read(line, WITNESS_MOST_BYTES)
    return ListedWitness(None, witness_of_fields(fields_of(value, "text")))


def _named(value: object) -> ListedWitness:
    fields = _json.Fields.of(value, "line", (_WITNESS,), *keys(_FILE))
    name = from_json(fields, _FILE)
    if name is None:
        raise WitnessError(f"key {_FILE!r} is missing, must be there")
    if not name or b"\0" in name:
        raise WitnessError(f"{_FILE} is {name!r}, must be a name, without NUL")
    own = fields.value(_WITNESS)
    if own is None:
        return ListedWitness(name, None)
    return ListedWitness(name, witness_of_fields(fields_of(own, _WITNESS)))


def line_of(name: bytes, witness: Witness | TreeWitness | None) -> str:
    """Return the line of a file in a list of several, without a line break."""
    fields = None if witness is None else witness.to_fields()
    return _json.write(dict([to_json(_FILE, name), (_WITNESS, fields)]))
