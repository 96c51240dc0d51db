# SPDX-License-Identifier: Apache-2.0
"""Names of files in JSON: a text where they are UTF-8, else hex under a key of its own."""

from __future__ import annotations

from typing import Final

from ._errors import WitnessError
from ._json import Fields

# Suffix of the key of a value that is not UTF-8, which JSON cannot hold: path, pathHex.
_HEX: Final = "Hex"


def to_json(key: str, value: bytes) -> tuple[str, str]:
    """Return key and value of bytes in JSON: text if they are UTF-8, else lowercase hex."""
    try:
        return key, value.decode()
    except UnicodeDecodeError:
        return key + _HEX, value.hex()


def keys(key: str) -> tuple[str, str]:
    """Return the keys that `to_json` may use for a name."""
    return key, key + _HEX


def from_json(fields: Fields, key: str) -> bytes | None:
    """Return the bytes that `to_json` wrote; None if neither key is there.

    Raises:
        WitnessError: both keys are there, or the value is not in the form of `to_json`.
    """
    text_key, hex_key = keys(key)
    if text_key not in fields:
        if hex_key not in fields:
            return None
        digits = fields.value(hex_key)
        try:
            found = bytes.fromhex(digits)
        except (TypeError, ValueError):
            found = b""
        holds = to_json(key, found) == (hex_key, digits)
        fields.check(hex_key, holds, "lowercase hex of bytes that are not UTF-8")
        return found
    if hex_key in fields:
        raise WitnessError(f"key {hex_key!r} is beside {text_key!r}, must be alone")
    fields.check(text_key, is_text(fields.value(text_key)), "a text of whole characters")
    return str(fields.value(text_key)).encode()


def is_utf8(value: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_text(value: object) -> bool:
    """Return whether a text can be encoded as UTF-8; JSON can contain lone surrogates."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
