# SPDX-License-Identifier: Apache-2.0
"""Witnesses and their JSON form.

    {"type": "atlas12288/witness/v1", "algorithm": "sha256", "length": 12288, "residue": 0,
     "digest": "<64 lowercase hex digits>", "timestamp": "2025-01-31T12:00:00.000000000Z"}

on one line, with the keys in this order, so that equal witnesses give equal text. Other order and
white space are read; unknown, missing and repeated keys and all other forms of a value are refused.
"""

from __future__ import annotations

import time

from . import _native
from .errors import WitnessError

TYPE_CHECKING = False  # `typing` costs as much as the rest of the import
if TYPE_CHECKING:
    from typing import Any, Self

JSON_TYPE = "atlas12288/witness/v1"
ALGORITHM = "sha256"
_KEYS = ("type", "algorithm", "length", "residue", "digest", "timestamp")
_HEX_DIGITS = frozenset("0123456789abcdef")
_NS_PER_S = 10**9
_UINT64_MAX = 2**64 - 1  # the C type of a length and of a time


class Witness(_native.Witness):
    """Immutable record of a region: algorithm, length, residue, digest, time.

    Made by `Witness.generate(buf)`, `from_bytes`, `from_json` and `Domain.commit()`. bytes() gives
    its byte form. Two are equal when all fields are, the time included. It can be pickled.

    Contract: Witness Operations. JSON: see the module.
    """

    __slots__ = ()

    @property
    def timestamp(self) -> str:
        """When the witness was made: RFC 3339, UTC, nanoseconds."""
        return _format_timestamp(self.timestamp_ns)

    def differences(self, other: _native.Witness) -> tuple[str, ...]:
        """Which of "length", "residue" and "digest" differ from those of `other`.

        No difference says that both witness the same bytes; the time does not count.
        """
        fields = ("length", "residue", "digest")
        return tuple(name for name in fields if getattr(self, name) != getattr(other, name))

    def to_json(self) -> str:
        """The witness as JSON, on one line without its end; equal witnesses give equal text."""
        import json  # here, so that `import atlas12288` stays light

        values = (
            JSON_TYPE,
            self.algorithm,
            self.length,
            self.residue,
            self.hexdigest(),
            self.timestamp,
        )
        return json.dumps(dict(zip(_KEYS, values, strict=True)))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The witness of a JSON text, as `to_json` gives it; bytes are UTF-8.

        Raises:
            WitnessError: not such a text; the message names the key, its value and the rule.
            TypeError: neither str nor bytes.
        """
        if not isinstance(text, str | bytes):
            raise TypeError(f"text is of type {type(text).__name__}, must be str or bytes")
        try:
            return cls.from_bytes(_byte_form(_read_object(text)))
        except RecursionError:
            raise WitnessError("text is nested too deeply, must be one JSON object") from None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.algorithm} {self.hexdigest()} length {self.length} "
            f"residue {self.residue} at {self.timestamp}>"
        )


class WitnessStream(_native.WitnessStream):
    """The witness of data that comes in chunks of any size, in constant memory.

    `update(chunk)` takes the next bytes. One stream is used by one thread at a time; StateError for
    the second one. Header: Witnesses.
    """

    __slots__ = ()

    def witness(self) -> Witness:
        """The witness of all bytes so far, with the present time; more may follow."""
        return Witness.from_bytes(self._witness_bytes())


def _format_timestamp(timestamp_ns: int) -> str:
    seconds, nanoseconds = divmod(timestamp_ns, _NS_PER_S)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"


def _parse_timestamp(text: str) -> int:
    """Nanoseconds since 1970, -1 for all that `_format_timestamp` does not give."""
    from datetime import UTC, datetime, timedelta

    try:
        since = datetime.fromisoformat(text[:19] + "Z") - datetime(1970, 1, 1, tzinfo=UTC)
        timestamp_ns = since // timedelta(seconds=1) * _NS_PER_S + int(text[20:29])
    except ValueError:
        return -1
    if not 0 <= timestamp_ns <= _UINT64_MAX or _format_timestamp(timestamp_ns) != text:
        return -1
    return timestamp_ns


def _read_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object of a text, with the keys of a witness and no others, each once."""
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise WitnessError(f"key {_shown(key)} occurs twice, must occur once")
            found[key] = value
        return found

    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode(), object_pairs_hook=unique
        )
    except WitnessError:
        raise
    except ValueError as error:  # not UTF-8, not JSON, or a number of too many digits
        raise WitnessError(f"text must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise WitnessError(f"text is {_shown(value)}, must be a JSON object")
    for key in value:
        if key not in _KEYS:
            raise WitnessError(f"key {_shown(key)} is unknown, must be one of {', '.join(_KEYS)}")
    for key in _KEYS:
        if key not in value:
            raise WitnessError(f"key {key!r} is missing, must be there")
    return value


def _byte_form(fields: dict[str, Any]) -> bytes:
    """The byte form (conservation.h, atlas_witness_to_bytes) of fields, each checked."""

    def check(key: str, holds: bool, rule: str) -> None:
        if not holds:
            raise WitnessError(f"{key} is {_shown(fields[key])}, must be {rule}")

    def integer(key: str, most: int) -> int:
        value = fields[key]
        # By type, not isinstance: true is no number.
        check(key, type(value) is int and 0 <= value <= most, f"an integer in 0..{most}")
        return int(value)

    check("type", fields["type"] == JSON_TYPE, repr(JSON_TYPE))
    check("algorithm", fields["algorithm"] == ALGORITHM, repr(ALGORITHM))
    length = integer("length", _UINT64_MAX)
    residue = integer("residue", _native.MODULUS - 1)
    check("residue", residue == 0 or length > 0, "0 where length is 0")
    digest = fields["digest"]
    digits = 2 * _native.DIGEST_BYTES
    check(
        "digest",
        isinstance(digest, str) and len(digest) == digits and _HEX_DIGITS.issuperset(digest),
        f"{digits} lowercase hex digits",
    )
    timestamp = fields["timestamp"]
    timestamp_ns = _parse_timestamp(timestamp) if isinstance(timestamp, str) else -1
    check("timestamp", timestamp_ns >= 0, "like 2025-01-31T12:00:00.000000000Z, from 1970 to 2554")
    return b"".join(
        (
            b"ATLW\x01\x01",
            bytes((residue, 0)),
            length.to_bytes(8, "little"),
            timestamp_ns.to_bytes(8, "little"),
            bytes.fromhex(digest),
        )
    )


def _shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
