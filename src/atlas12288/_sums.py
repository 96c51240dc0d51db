# SPDX-License-Identifier: Apache-2.0
"""Lists of SHA-256 sums, as GNU coreutils write and read them.

A line of `sha256sum` is `HEX  NAME`, a line of `sha256sum --tag` is `SHA256 (NAME) = HEX`. A name
is any bytes but NUL. If it contains a backslash, a newline or a carriage return, these are escaped
as `\\\\`, `\\n` and `\\r`, and the line begins with a backslash.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from ._files import STDIN
from ._many_files import FILES_AT_ONCE
from ._native import DIGEST_BYTES, SumLines

# More than twice the longest path of a system, since each byte may be escaped. Without a limit, a
# file of zeros would be one line too long for memory.
LINE_MOST_BYTES: Final = 16384

_DIGITS: Final = 2 * DIGEST_BYTES
_NAME_AT: Final = _DIGITS + 2
_HEX: Final = rb"([0-9A-Fa-f]{%d})" % _DIGITS
_PLAIN: Final = re.compile(rb"[ \t]*(\\?)" + _HEX + rb"[ \t](.+)", re.DOTALL)
_TAGGED: Final = re.compile(rb"[ \t]*(\\?)SHA256 ?\((.*)\)[ \t]*=[ \t]*" + _HEX, re.DOTALL)

_ESCAPES: Final = ((b"\\", rb"\\"), (b"\n", rb"\n"), (b"\r", rb"\r"))
_TO_ESCAPE: Final = re.compile(rb"[\\\n\r]")
_UNESCAPED: Final = {escape: byte for byte, escape in _ESCAPES}
_ESCAPE: Final = re.compile(rb"\\.?", re.DOTALL)


class Sum(NamedTuple):
    """A file and its SHA-256 digest, as listed.

    Attributes:
        digest: 32 bytes.
        path: the name in the list, unescaped; `-` is standard input.
    """

    digest: bytes
    path: bytes


# What a line or some usual lines say; None for a malformed line.
_Found: TypeAlias = Sum | SumLines | None
# Reads the lines of a list: its name, and its bytes in chunks; yields as `_read_lines`.
ReadLines: TypeAlias = Callable[
    [str, Iterable[bytes | memoryview]], Iterator[tuple[int, Sum | SumLines | None]]
]


def sums_line(digest: bytes, path: bytes) -> bytes:
    """Return the line that `sha256sum` prints for a file, without its end.

    Args:
        digest: SHA-256 of the file, 32 bytes.
        path: the name of the file: any bytes but NUL.

    Raises:
        ValueError: the digest has another length, or the path cannot be a file name.
    """
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"digest has {len(digest)} bytes, must have {DIGEST_BYTES}")
    if not path or b"\0" in path:
        raise ValueError(f"path is {path!r}, must hold at least one byte, and no NUL")
    mark, name = _escaped(path)
    return mark + digest.hex().encode("ascii") + b"  " + name


def verdict_line(path: bytes, verdict: str) -> bytes:
    """Return the verdict of `sha256sum -c` on a file as a line, without its end.

    It is as in coreutils 9.2 to 9.10. Older ones escape only names that hold a newline, and
    newer ones put names that a shell would take apart in quotes.
    """
    mark, name = _escaped(path)
    return mark + name + b": " + verdict.encode("ascii")


def read_sums(chunks: Iterable[bytes | memoryview]) -> Iterator[tuple[int, Sum | None]]:
    """Yield the sums of one list.

    It accepts what `sha256sum -c` accepts: both forms above, spaces and tabs before them, `*` for
    the second space, digits of either case, and lines that end with CR LF. Empty lines and lines
    that begin with `#` are ignored. `HEX NAME`, with one space, is accepted too if no earlier line
    had two; from then on a second space, or `*`, belongs to the name.

    Two kinds of lines that GNU accepts are refused here: lines with a NUL, where GNU drops the
    rest (all files but the first in a list by `sha256sum --zero`), and lines of more than 16 KiB,
    whose names no system can open.

    Args:
        chunks: the bytes of the list, split anywhere; each is only used until the next is taken.

    Yields:
        The number of the line, from 1, and its sum; None for a line that is improperly formatted.
    """
    return each_sum(_read_lines(chunks))


def each_sum(found_lines: Iterable[tuple[int, _Found]]) -> Iterator[tuple[int, Sum | None]]:
    """Yield usual lines one by one."""
    for first, found in found_lines:
        if isinstance(found, SumLines):
            for number, (digest, path) in enumerate(found.pairs(), first):
                yield number, Sum(digest, path)
        else:
            yield first, found


def _read_lines(chunks: Iterable[bytes | memoryview]) -> Iterator[tuple[int, _Found]]:
    """Yield as `read_sums` does, but usual lines that follow one another together.

    Their number is that of the first one.
    """
    one_space: bool | None = None  # not known before the first line without a tag
    number = 0
    for text in lines_in(chunks):
        stop = 0
        while stop < len(text):
            start, number = stop, number + 1
            if one_space is False and text[start + _DIGITS : start + _NAME_AT] == b"  ":
                lines = SumLines(text, start, FILES_AT_ONCE, LINE_MOST_BYTES - _NAME_AT)
                if len(lines) > 0:
                    yield number, lines
                    number += len(lines) - 1
                    stop = lines.stop
                    continue
            end = text.find(b"\n", start)
            end = len(text) if end < 0 else end
            stop = end + 1
            line = text[start:end].removesuffix(b"\r")
            if not line or line.startswith(b"#"):
                continue
            if len(line) > LINE_MOST_BYTES or b"\0" in line:
                yield number, None
            elif match := _PLAIN.fullmatch(line):
                mark, digits, name = match.groups()
                if len(name) == 1 or name[:1] not in (b" ", b"*"):
                    if one_space is False:
                        yield number, None
                        continue
                    one_space = True
                elif not one_space:
                    one_space = False
                    name = name[1:]
                yield number, _sum(digits, name, mark)
            elif match := _TAGGED.fullmatch(line):
                mark, name, digits = match.groups()
                yield number, _sum(digits, name, mark)
            else:
                yield number, None


def read_lines(
    list_name: str, chunks: Iterable[bytes | memoryview]
) -> Iterator[tuple[int, _Found]]:
    """Yield the lines of a list of `sha256sum`.

    A list on standard input cannot hold its own sum: the rest of it would be taken for a file.
    """
    for number, found in _read_lines(chunks):
        itself = isinstance(found, Sum) and list_name == STDIN == os.fsdecode(found.path)
        yield number, None if itself else found


def lines_in(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield whole lines, joined, each with its newline but the last one of all.

    A line that is too long is cut.
    """
    rest = b""
    for chunk in chunks:
        text = rest + bytes(chunk)
        end = text.rfind(b"\n") + 1
        if end > 0:
            yield text[:end]
        rest = text[end : end + LINE_MOST_BYTES + 2]  # and a carriage return
    if rest:
        yield rest


def _sum(digits: bytes, name: bytes, mark: bytes) -> Sum | None:
    if mark:
        # Only escapes that `_escaped` writes are read: others may mean something one day.
        if not all(escape in _UNESCAPED for escape in _ESCAPE.findall(name)):
            return None
        name = _ESCAPE.sub(lambda escape: _UNESCAPED[escape[0]], name)
    return Sum(bytes.fromhex(digits.decode("ascii")), name)


def _escaped(path: bytes) -> tuple[bytes, bytes]:
    """Return the mark that begins a line with this name, and the name as the line has it."""
    if _TO_ESCAPE.search(path) is None:
        return b"", path
    name = path
    for byte, escape in _ESCAPES:
        name = name.replace(byte, escape)
    return b"\\", name
