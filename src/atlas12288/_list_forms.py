# SPDX-License-Identifier: Apache-2.0
"""Lists of names and SHA-256 digests in the forms of BagIt, hashdeep and rclone.

- `bagit`: `manifest-sha256.txt` of a bag (RFC 8493), lines of `HEX NAME`. Names begin with `data/`,
  are relative to the bag, and have `%0A`, `%0D` and `%25` for a line feed, a carriage return and a
  percent sign.
- `hashdeep`: lines of `SIZE,...,NAME` below a header that names the columns. A name may have
  commas, because it is the last column. Nothing is escaped.
- `rclone`: what `rclone hashsum sha256` prints, lines of `HEX  NAME`. Control characters are
  their pictures (U+2400 and following), and a picture that is part of a name has U+201B before it.

A name that a form cannot say is refused: a reader would take it for another name, or for several.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final

from ._files import FileError, shown
from ._native import DIGEST_BYTES
from ._sums import LINE_MOST_BYTES, ReadLines, Sum, lines_in, read_lines, read_sums, sums_line

SHA256SUM: Final = "sha256sum"

_DIGITS: Final = rb"[0-9A-Fa-f]{%d}" % (2 * DIGEST_BYTES)
_BAGIT: Final = re.compile(rb"(%b)[ \t]+\*?(.+)" % _DIGITS, re.DOTALL)
_RCLONE: Final = re.compile(rb"(%b) [ *](.+)" % _DIGITS, re.DOTALL)

HASHDEEP_BEGIN: Final = b"%%%% HASHDEEP-1.0"
_COLUMNS_BEGIN: Final = b"%%%% "
_SIZE: Final = re.compile(rb"[0-9]{1,20}")

_PAYLOAD: Final = b"data/"
_TO_ENCODE: Final = {b"\n": b"%0A", b"\r": b"%0D", b"%": b"%25"}
_ENCODED: Final = re.compile(rb"%(?:0[AaDd]|25)")

# rclone's own form of names, whatever the storage: 0x00 to 0x1f and 0x7f are pictures.
_QUOTE: Final = "\u201b".encode()
_PICTURE_BYTES: Final = {
    bytes((0x7F if at == 0x21 else at,)): chr(0x2400 + at).encode() for at in (*range(0x20), 0x21)
}
_PICTURES: Final = {picture: byte for byte, picture in _PICTURE_BYTES.items()}
_PICTURE: Final = b"|".join(_PICTURES)
_TO_PICTURE: Final = re.compile(rb"[\x00-\x1f\x7f]|%b|%b" % (_QUOTE, _PICTURE))
_FROM_PICTURE: Final = re.compile(rb"%b(%b|%b)|(%b)" % (_QUOTE, _QUOTE, _PICTURE, _PICTURE))


def reader(form: str) -> ReadLines:
    """Return what reads the lines of a list in a form; see `_sums.check`."""
    return {
        SHA256SUM: read_lines,
        "bagit": _read_bagit,
        "hashdeep": _read_hashdeep,
        "rclone": _read_rclone,
    }[form]


def is_list(form: str, chunks: Iterable[bytes | memoryview]) -> bool:
    """Return whether each line of a text is a sum, and there is one."""
    lines = read_sums(chunks) if form == SHA256SUM else reader(form)("", chunks)
    found = False
    try:
        for _, one in lines:
            if one is None:
                return False
            found = True
    except FileError:
        return False
    return found


def list_header(form: str) -> bytes:
    """Return what begins a list."""
    if form == "hashdeep":
        return HASHDEEP_BEGIN + b"\n%%%% size,sha256,filename\n"
    return b""


def list_line(form: str, digest: bytes, path: bytes, size: int) -> bytes:
    """Return the line of a file in a list, with its line feed.

    Args:
        form: its form.
        digest: SHA-256 of the file, 32 bytes.
        path: its name: relative to the folder, for `bagit` to the payload folder.
        size: its size in bytes.

    Raises:
        FileError: the form cannot say the name.
    """
    if form == SHA256SUM:
        return sums_line(digest, path) + b"\n"
    hexdigest = digest.hex().encode("ascii")
    if form == "bagit":
        return hexdigest + b"  " + _PAYLOAD + _bagit_name(path) + b"\n"
    if form == "rclone":
        return hexdigest + b"  " + _rclone_name(path) + b"\n"
    if b"\n" in path or b"\r" in path:
        raise _refusal(form, path, "has a line break, and nothing is escaped there")
    return b"%d,%b,./%b\n" % (size, hexdigest, path)


def _bagit_name(path: bytes) -> bytes:
    try:
        text = path.decode()
    except UnicodeDecodeError:
        raise _refusal("bagit", path, "is not UTF-8, as the names of a bag are") from None
    if text != text.rstrip():
        raise _refusal("bagit", path, "ends with white space, which readers of bags drop")
    return re.sub(rb"[\n\r%]", lambda byte: _TO_ENCODE[byte[0]], path)


def _rclone_name(path: bytes) -> bytes:
    return _TO_PICTURE.sub(lambda found: _PICTURE_BYTES.get(found[0], _QUOTE + found[0]), path)


def _name_of_rclone(name: bytes) -> bytes:
    return _FROM_PICTURE.sub(lambda found: found[1] or _PICTURES[found[2]], name)


def _refusal(form: str, path: bytes, reason: str) -> FileError:
    return FileError(
        f"a list of {form} cannot have the name '{shown(os.fsdecode(path))}': {reason}"
    )


_Lines = Iterator[tuple[int, Sum | None]]


def _numbered(chunks: Iterable[bytes | memoryview]) -> Iterator[tuple[int, bytes]]:
    """Yield number and text of each line, without its line break."""
    number = 0
    for text in lines_in(chunks):
        for line in text.removesuffix(b"\n").split(b"\n"):
            number += 1
            yield number, line.removesuffix(b"\r")


def _sum(digits: bytes, name: bytes, line: bytes) -> Sum | None:
    if len(line) > LINE_MOST_BYTES or b"\0" in line or b"\0" in name:
        return None
    path = b"./-" if name == b"-" else name  # a file, not standard input
    return Sum(bytes.fromhex(digits.decode("ascii")), path)


def _read_bagit(list_name: str, chunks: Iterable[bytes | memoryview]) -> _Lines:
    """Yield the sums of a bag's manifest, with names that are relative to the current folder.

    A name that leads out of the bag is improperly formatted. A percent sign before anything but the
    three codes is taken as it is: bagit-python writes it so.
    """
    folder, slash, _ = os.fsencode(list_name).rpartition(b"/")
    bag = folder + slash
    for number, line in _numbered(chunks):
        if not line:
            continue
        match = _BAGIT.fullmatch(line)
        if match is None:
            yield number, None
            continue
        encoded = match[2]
        name = _ENCODED.sub(lambda code: bytes.fromhex(code[0][1:].decode("ascii")), encoded)
        if b"\r" in encoded or not _is_inside(name):
            yield number, None
        else:
            yield number, _sum(match[1], bag + name, line)


def _is_inside(name: bytes) -> bool:
    parts = name.split(b"/")
    return not name.startswith(b"/") and b".." not in parts and parts[-1] not in (b"", b".")


def _read_hashdeep(_: str, chunks: Iterable[bytes | memoryview]) -> _Lines:
    """Yield the sums of a list of hashdeep.

    Raises:
        FileError: the header is missing, or names no SHA-256.
    """
    columns: list[bytes] = []
    for number, line in _numbered(chunks):
        if number == 1:
            if line != HASHDEEP_BEGIN:
                begin = HASHDEEP_BEGIN.decode()
                raise FileError(f"begins with another line, must begin with '{begin}'")
        elif number == 2:
            columns = line.removeprefix(_COLUMNS_BEGIN).split(b",")
            if not line.startswith(_COLUMNS_BEGIN) or columns[-1] != b"filename":
                raise FileError(
                    "names no columns in line 2, must name them, the last one 'filename'"
                )
            if columns.count(b"sha256") != 1 or columns[0] != b"size":
                raise FileError("must have the column 'size' first and one column 'sha256'")
        elif line and not line.startswith(b"#"):
            cells = line.split(b",", len(columns) - 1)
            fields = dict(zip(columns, cells, strict=False))
            digits = fields.get(b"sha256", b"")
            name = fields.get(b"filename", b"")
            is_sum = _SIZE.fullmatch(cells[0]) and re.fullmatch(_DIGITS, digits) and name
            yield number, _sum(digits, name, line) if is_sum else None


def _read_rclone(_: str, chunks: Iterable[bytes | memoryview]) -> _Lines:
    """Yield the sums of what `rclone hashsum sha256` printed.

    It prints spaces or a word for a file that has no digest: these lines are improperly formatted.
    """
    for number, line in _numbered(chunks):
        if not line:
            continue
        match = _RCLONE.fullmatch(line)
        yield number, None if match is None else _sum(match[1], _name_of_rclone(match[2]), line)
