# SPDX-License-Identifier: Apache-2.0
"""Lists of SHA-256 sums, as GNU coreutils write and read them.

A line of `sha256sum` is `HEX  NAME`, one of `sha256sum --tag` is `SHA256 (NAME) = HEX`. A name is
any bytes but NUL. Where it holds a backslash, a newline or a carriage return, these are escaped as
`\\\\`, `\\n` and `\\r`, and a backslash begins the line.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ._native import DIGEST_BYTES

# Twice what a system takes as a path, where each byte may be escaped, and more. Without a bound a
# file of zeros would be one line that no memory holds.
LINE_MOST_BYTES: Final = 16384

_HEX: Final = rb"([0-9A-Fa-f]{%d})" % (2 * DIGEST_BYTES)
_PLAIN: Final = re.compile(rb"[ \t]*(\\?)" + _HEX + rb"[ \t](.+)", re.DOTALL)
_TAGGED: Final = re.compile(rb"[ \t]*(\\?)SHA256 ?\((.*)\)[ \t]*=[ \t]*" + _HEX, re.DOTALL)

_ESCAPES: Final = ((b"\\", rb"\\"), (b"\n", rb"\n"), (b"\r", rb"\r"))
_UNESCAPED: Final = {escape: byte for byte, escape in _ESCAPES}
_ESCAPE: Final = re.compile(rb"\\.?", re.DOTALL)


class Sum(NamedTuple):
    """A file, and the SHA-256 digest that a list says it has.

    Attributes:
        digest: 32 bytes.
        path: the name as it stands in the list, unescaped; `-` is standard input.
    """

    digest: bytes
    path: bytes


def sums_line(digest: bytes, path: bytes) -> bytes:
    """Return the line that `sha256sum` prints for a file, without its end.

    Args:
        digest: SHA-256 of the file, 32 bytes.
        path: the name of the file: any bytes but NUL.

    Raises:
        ValueError: the digest has another length, or no file has such a name.
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

    It takes what `sha256sum -c` takes: both forms above, one space or tab or more before
    them, `*` for the second space, digits of either case, and lines that end with CR LF. Lines that
    are empty or begin with `#` say nothing. `HEX NAME`, with one space, is taken as well where no
    line before had two; from then on a second space, or `*`, belongs to the name.

    GNU takes two kinds of lines that are refused here. In a line with a NUL it would drop the rest
    (all files but the first in a list by `sha256sum --zero`). A line of more than 16 KiB has a name
    that no system opens.

    Args:
        chunks: the bytes of the list, cut anywhere; each is needed only until the next is taken.

    Yields:
        The number of the line, from 1, and its sum; None for a line that is improperly formatted.
    """
    one_space: bool | None = None  # not known before the first line without a tag
    for number, whole_line in enumerate(_lines(chunks), 1):
        line = whole_line.removesuffix(b"\r")
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


def _lines(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the lines, without their newlines; of a line that is too long only the beginning."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + bytes(chunk)).split(b"\n")
        yield from lines
        rest = rest[: LINE_MOST_BYTES + 2]  # and a carriage return
    if rest:
        yield rest


def _sum(digits: bytes, name: bytes, mark: bytes) -> Sum | None:
    if mark:
        # Only what is written by `_escaped` is read: anything else may mean something else one day.
        if not all(escape in _UNESCAPED for escape in _ESCAPE.findall(name)):
            return None
        name = _ESCAPE.sub(lambda escape: _UNESCAPED[escape[0]], name)
    return Sum(bytes.fromhex(digits.decode("ascii")), name)


def _escaped(path: bytes) -> tuple[bytes, bytes]:
    """Return the mark that begins a line with this name, and the name as the line has it."""
    name = path
    for byte, escape in _ESCAPES:
        name = name.replace(byte, escape)
    return b"\\" if name != path else b"", name
