# SPDX-License-Identifier: Apache-2.0
"""The paths of a manifest: relative, of any bytes, always inside the folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import dropwhile
from typing import Final

from .._errors import WitnessError
from .._files import shown
from .._names import from_json as from_json
from .._names import is_text as is_text
from .._names import is_utf8 as is_utf8
from .._names import keys as keys
from .._names import to_json as to_json

# Of a path. A system call takes 4 KiB at once, and folders within folders may go further.
PATH_MOST_BYTES: Final = 1 << 16
_SEPARATOR: Final = b"/"


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


def canonical_paths(paths: Iterable[bytes], name: str) -> tuple[bytes, ...]:
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
