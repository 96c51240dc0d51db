# SPDX-License-Identifier: Apache-2.0
"""Lists of file names that each end with NUL, as `find -print0` writes them."""

import os
import sys
from collections.abc import Iterator
from typing import Final

from ._files import STDIN, FileError, read_chunks
from ._native import WINDOW_BYTES

# Longer than any path that a system takes. Without a limit, a file of other bytes would be one name
# too long for memory.
NAME_MOST_BYTES: Final = 16384

# Small, so that work on a list from a pipe begins with its first names.
_CHUNK_BYTES: Final = 4 * WINDOW_BYTES
_RULE: Final = "each name must end with NUL, as find -print0 writes it"
_TOO_LONG: Final = f"has more than {NAME_MOST_BYTES:,} bytes: {_RULE}"
_STDIN: Final = os.fsencode(STDIN)


def read_names(list_name: str) -> Iterator[str | FileError]:
    """Yield the names in a list, in constant memory.

    Names are what GNU's `--files0-from` takes, but for the last one: without its NUL it is an
    error, since a list that was cut off would name another file.

    Args:
        list_name: a path, or `-` for standard input; it may be a pipe.

    Yields:
        Each name; in the place of an empty one, and of `-` where standard input is the list, an
        error, and the names after it follow. An error that ends the list comes last: the list
        cannot be read, has no name, or one that is too long or does not end. It knows the list.
    """
    number, rest = 0, b""
    statuses: list[os.stat_result] = []
    chunks = read_chunks(list_name, chunk_bytes=_CHUNK_BYTES, or_pipe=True, opened=statuses.append)
    try:
        for chunk in chunks:
            *names, rest = (rest + bytes(chunk)).split(b"\0")
            for name in names:
                number += 1
                if not name:
                    yield FileError(f"name {number} is empty", list_name)
                elif name == _STDIN and _is_standard_input(statuses[0]):
                    rule = "is -, standard input, which is this list itself"
                    yield FileError(f"name {number} {rule}", list_name)
                elif len(name) <= NAME_MOST_BYTES:
                    yield os.fsdecode(name)
                else:
                    yield FileError(f"name {number} {_TOO_LONG}", list_name)
                    return
            if len(rest) > NAME_MOST_BYTES:
                yield FileError(f"name {number + 1} {_TOO_LONG}", list_name)
                return
    except FileError as error:
        yield FileError(error.reason, list_name)
        return
    if rest:
        rule = f"does not end with NUL, and may be cut off: {_RULE}"
        yield FileError(f"name {number + 1} {rule}", list_name)
    elif number == 0:
        yield FileError(f"has no names: {_RULE}", list_name)


def _is_standard_input(status: os.stat_result) -> bool:
    """Return whether a file is standard input, under whatever name it was opened."""
    try:
        return os.path.samestat(os.fstat(sys.stdin.fileno()), status)
    except (OSError, ValueError, AttributeError):  # it is closed, or no file
        return False
