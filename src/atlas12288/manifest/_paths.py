# SPDX-License-Identifier: Apache-2.0
"""The paths of a manifest: relative, of any bytes, always inside the folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import dropwhile
from typing import Final

from .._errors import WitnessError
from .._files import shown
from .._json import Fields

# Of a path. A system call takes 4 KiB at once, and folders within folders may go further.
PATH_MOST_BYTES: Final = 1 << 16
_SEPARATOR: Final = b"/"
# Suffix of the key of a value that is not UTF-8, which JSON cannot hold: path, pathHex.
_HEX: Final = "Hex"


def quoted(path: bytes) -> str:
    """Return a path or link target for a message, in quotes and on one line."""
    return f"'{shown(os.fsdecode(path))}'"


def check_path(path: bytes, name: str) -> bytes:
    """Require a path below a folder in its one form, with parts joined by single slashes.

    Args:
        path: its bytes.
        name: what the message calls it.

    Raises:
        WitnessError: absolute, empty, with a NUL, with a part that is empty, `.` or `..`, or too
            long.
    """
    _require_short(path, name)
    parts = path.split(_SEPARATOR)
    if any(part in (b"", b".", b"..") for part in parts) or b"\0" in path:
        raise WitnessError(
            f"{name} is {quoted(path)}, must be relative, without NUL, "
            "and without parts that are empty, '.' or '..'"
        )
    return path


def check_outside(path: bytes, name: str) -> bytes:
    """Require a path from one folder to another in its one form; it may begin with `..` parts.

    Args:
        path: its bytes.
        name: what the message calls it.

    Raises:
        WitnessError: absolute, empty, with a NUL, with a part that is empty or `.`, or with `..`
            after a name.
    """
    _require_short(path, name)
    parts = list(dropwhile(b"..".__eq__, path.split(_SEPARATOR)))
    if any(part in (b"", b".", b"..") for part in parts) or b"\0" in path:
        raise WitnessError(
            f"{name} is {quoted(path)}, must be relative, without NUL, and without parts that are "
            "empty or '.', or '..' behind a name"
        )
    return path


def _require_short(path: bytes, name: str) -> None:
    if len(path) > PATH_MOST_BYTES:
        most = f"must have at most {PATH_MOST_BYTES:,}"
        raise WitnessError(f"{name} has {len(path):,} bytes, {most}")


def below(paths: Iterable[bytes], name: str) -> tuple[bytes, ...]:
    """Normalise paths below a folder: canonical, sorted, unique. Empty if one of them is the folder
    itself.

    Raises:
        WitnessError: a path leads out of the folder; the message calls it `name`.
    """
    found = set()
    for path in paths:
        leading = b"/" if path.startswith(b"/") else b""
        parts = [part for part in path.split(_SEPARATOR) if part not in (b"", b".")]
        if not parts and not leading:
            return ()
        found.add(check_path(leading + _SEPARATOR.join(parts), name))
    return tuple(sorted(found))


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


def is_text(value: object) -> bool:
    """Return whether a text can be encoded as UTF-8; JSON can contain lone surrogates."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
