# SPDX-License-Identifier: Apache-2.0
"""What a file is, by its first bytes, and which command takes it."""

import re
from codecs import getincrementaldecoder
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple

from .._errors import WitnessError
from .._files import FileError, shown
from .._witness import WITNESS_MOST_BYTES
from .._witness_lists import read_line
from ..manifest._beside import LEAVES_SUFFIX

_SUMS_LOOKED_AT: Final = 10  # lines: a list may begin with comments and lines that are none


class Kind(NamedTuple):
    """A kind of file that one of the commands writes or reads.

    Attributes:
        words: a file of this kind, in words.
        way: what does something with it; `{}` stands for its name; "" for nothing.
    """

    words: str
    way: str


MANIFEST: Final = Kind("a manifest", "atlas12288 verify {} compares it with its folder")
WITNESSES: Final = Kind("a witness file", "atlas12288 verify {} FILE compares it with a file")
TENSORS: Final = Kind(
    "a witness of tensors",
    "atlas12288 verify {} FILE names the tensors and windows that differ, and --tensor NAME takes "
    "one of them for a proof",
)
DATASET: Final = Kind(
    "a witness of a dataset",
    "what atlas12288.tensors or atlas12288.tables made verifies it in Python",
)
SIGNATURE: Final = Kind(
    "a signature", "atlas12288 verify {} ROOT --public-key KEY verifies it, and what it signs"
)
PROOF: Final = Kind("a proof", "atlas12288 verify-proof {} WINDOW checks it")
SUMS: Final = Kind("a list of SHA-256 sums", "atlas12288 check-sums {} checks its files")
HASHDEEP: Final = Kind(
    "a list of hashdeep", "atlas12288 check-sums --format hashdeep {} checks its files"
)
LEAVES: Final = Kind("a file of leaves", "name the manifest or witness file that has them")
BINARY: Final = Kind("no text", "")

# The first key of a manifest and of a Sigstore bundle; nothing else has one of them.
_BY_FIRST_KEY: Final = (
    (rb"_type|predicate|predicateType|subject", MANIFEST),
    (rb"mediaType|verificationMaterial|dsseEnvelope", SIGNATURE),
)
# The types of what else is an object, anywhere at its beginning.
_BY_TYPE: Final = (
    (rb"tensors/v1", TENSORS),
    (rb"(?:array|table)/v1", DATASET),
    (rb"inclusion-proof/v1", PROOF),
)


def kind_of(name: str, head: bytes) -> Kind | None:
    """Return the kind of a file; None if it is not one of ours.

    Args:
        name: its name, which alone tells leaves.
        head: its first bytes.
    """
    for keys, kind in _BY_FIRST_KEY:
        if re.match(rb'\s*\{\s*"(?:%b)"\s*:' % keys, head) is not None:
            return kind
    start = head[:WITNESS_MOST_BYTES]
    for type_, kind in _BY_TYPE if start.lstrip().startswith(b"{") else ():
        if re.search(rb'"type"\s*:\s*"atlas12288/%b"' % type_, start) is not None:
            return kind
    with suppress(WitnessError):
        first, *_ = head.splitlines() or [b""]
        read_line(first)
        return WITNESSES
    from .._list_forms import HASHDEEP_BEGIN  # here: most files are known by now
    from .._sums import read_sums

    if head.startswith(HASHDEEP_BEGIN):
        return HASHDEEP
    sums = islice(read_sums((head,)), _SUMS_LOOKED_AT)
    if any(found is not None for _, found in sums):
        return SUMS
    if name.endswith(LEAVES_SUFFIX):
        return LEAVES
    # Not by a wrong byte alone: a list with a damaged line still has the others.
    return BINARY if b"\0" in head and not _is_utf8(head) else None


def _is_utf8(head: bytes) -> bool:
    """Return whether a file begins with UTF-8; its first bytes may end within a character."""
    try:
        getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def wrong_kind(kind: Kind, name: str, must: str = "") -> str:
    """Return what a file is and what takes it, in words; `must` is what it should be instead."""
    way = kind.way.format(shown(name))
    return f"is {kind.words}" + (f", and {must}" if must else "") + (f": {way}" if way else "")


def require_kind(kind: Kind | None, name: str, argument: str, wanted: Kind) -> None:
    """Raise FileError if a file is of another kind than an argument takes.

    A file of no kind is left to its reader, which says what is wrong with it.

    Args:
        kind: of the file, from `kind_of`.
        name: its name.
        argument: the argument that it was given for, such as "OLD".
        wanted: the kind that the argument takes.
    """
    if kind is not None and kind != wanted:
        raise FileError(wrong_kind(kind, name, f"{argument} must be {wanted.words}"), name)
