# SPDX-License-Identifier: Apache-2.0
"""The format of the state of runs:

    "atlas12288 state 2\\n"
    [identities... finished]
    [begun (known | small | roots | part | failed)...]

Each of these is a frame: a letter, the length of the payload, its CRC-32, and the payload. It has a
format of its own instead of a database, because it may come from a stranger: nothing in it is run,
names another file that is opened unchecked, or is used before its type and bounds are checked.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple
from zlib import crc32

from .. import _json
from .._errors import WitnessError
from .._native import DIGEST_BYTES, MODULUS, WINDOW_BYTES, leaf_places
from .._subtree import BLOCK_BYTES, window_count
from ._entries import SIZE_MOST, Entry
from ._hashing.file_hash import Checkpoint, Digests
from ._known_lines import LINE_END, Piece, plain
from ._paths import is_utf8

# A key in the context of a run whose results are only for a run that accepts them.
REFUSED: Final = "refused"
MAGIC: Final = b"atlas12288 state 2\n"
IDENTITIES, FINISHED, BEGUN, KNOWN, SMALL, ROOTS, PART, FAILED = (
    bytes((letter,)) for letter in b"IFBKSRPX"
)
LOG: Final = (KNOWN, SMALL, ROOTS, PART, FAILED)  # of a run that did not end
_FRAME: Final = struct.Struct("<cII")  # kind, length, CRC-32
# More than the largest frame: the identities of 1,000 files, a path, 8,192 roots.
_FRAME_MOST: Final = 1 << 24
_PATH_MOST: Final = 1 << 16
SMALL_MOST: Final = 1 << 23  # bytes of the lines and identities of a frame
_IDENTITY_MOST: Final = 1 << 11  # characters; a version in S3 has 1,024
_ROOTS_AT_ONCE: Final = 8192
_LEAF_MOST: Final = 1 << 48
_TIME_MOST: Final = 1 << 40
_NO_LEAF: Final = (1 << 64) - 1

_FILE: Final = struct.Struct("<IHQ")  # bytes of path and identity; size
_DIGESTS: Final = struct.Struct("<BBQ")  # residue, which digests, leaf
_CHECKPOINT: Final = struct.Struct("<QBHQ")  # blocks, residue, bytes of the flat state, leaf
_FIRST: Final = struct.Struct("<Q")
_SMALL: Final = struct.Struct("<QI")  # the first leaf; bytes of the lines

Context = dict[str, Any]


class Sidecar(NamedTuple):
    """The file with the leaves of a run under way.

    Attributes:
        name: its name in the folder of the manifest.
        device, inode: its device and inode when it was made.
    """

    name: str
    device: int
    inode: int

    @property
    def file(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode


class Finished(NamedTuple):
    """The last run that wrote its manifest.

    Attributes:
        context: facts that must be equal for its identities to be used.
        time: its end, in seconds since 1970.
        sha256: SHA-256 of the bytes of the manifest.
        entries: number of entries in it.
    """

    context: Context
    time: int
    sha256: bytes
    entries: int


class Begun(NamedTuple):
    """A run that did not end.

    Attributes:
        context: facts that must be equal in the run that resumes; with `REFUSED` where it read all
            files and wrote nothing, because a change was not accepted.
        time: in seconds since 1970.
        update: whether it also uses the results of the finished run.
        sidecar: the file of its leaves; None if it keeps none.
    """

    context: Context
    time: int
    update: bool
    sidecar: Sidecar | None


class Known(NamedTuple):
    """A file that was read. `leaf` is the position of its first leaf in the sidecar of the run."""

    path: bytes
    size: int
    identity: str
    digests: Digests
    leaf: int | None

    @classmethod
    def of(cls, entry: Entry, identity: str, leaf: int | None) -> Known:
        """Return a file by its entry.

        Args:
            entry: the entry.
            identity: of the file.
            leaf: the position of its first leaf, if it has leaves: of one window it has none, whose
                leaf is the root. None if leaves are not wanted.
        """
        digests = Digests(entry.residue, entry.sha256, entry.root)
        position = leaf if entry.size > WINDOW_BYTES else None
        return cls(entry.path, entry.size, identity, digests, position)


class Roots(NamedTuple):
    """Roots of blocks of a file, joined, from block `first` on."""

    path: bytes
    first: int
    roots: bytes


class Part(NamedTuple):
    """The progress of reading a file; the roots of its blocks come before it."""

    path: bytes
    size: int
    identity: str
    checkpoint: Checkpoint
    leaf: int | None


class Failed(NamedTuple):
    """A file whose earlier records no longer count."""

    path: bytes


StateRecord = Known | Piece | Roots | Part | Failed


class DamagedError(Exception):
    """A frame is damaged."""


# --- Frames


def frame(kind: bytes, payload: bytes) -> bytes:
    return _FRAME.pack(kind, len(payload), crc32(payload)) + payload


def read_head(file: BinaryIO) -> tuple[bytes, int, int]:
    """Read kind, length and checksum of the next frame; an empty kind if there is none."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return b"", 0, 0
    kind, length, checksum = _FRAME.unpack(head)
    return kind, length, checksum


def read_payload(file: BinaryIO, length: int, checksum: int) -> bytes:
    if length > _FRAME_MOST:
        raise DamagedError
    payload = file.read(length)
    if len(payload) < length or crc32(payload) != checksum:
        raise DamagedError
    return payload


def is_bounded(identity: str) -> bool:
    """Return whether an identity is one line within the bound; others are not kept."""
    return len(identity) <= _IDENTITY_MOST and "\n" not in identity


def _file(path: bytes, size: int, identity: str) -> bytes | None:
    """Return how a record begins; None for a file whose path or identity exceeds the bounds."""
    if len(path) > _PATH_MOST or not is_bounded(identity):
        return None
    text = identity.encode("utf-8", "surrogatepass")
    return b"%b%b%b" % (_FILE.pack(len(path), len(text), size), path, text)


def known_payload(known: Known) -> bytes:
    """Return what a file adds to the payload of a frame; b"" if its path or identity exceeds the
    bounds."""
    head = _file(known.path, known.size, known.identity)
    if head is None:
        return b""
    residue, sha256, root = known.digests
    which = (sha256 is not None) | (root is not None) << 1
    leaf = _NO_LEAF if known.leaf is None else known.leaf
    return b"%b%b%b%b" % (
        head,
        _DIGESTS.pack(residue, which, leaf),
        sha256 or b"",
        root or b"",
    )


def small_frame(piece: Piece) -> bytes:
    """Return the frame of small files that were read."""
    head = _SMALL.pack(piece.first_leaf, len(piece.text))
    return frame(SMALL, b"%b%b%b" % (head, piece.text, piece.identities))


def frames_of(record: Roots | Part | Failed) -> Iterator[bytes]:
    """Yield the frames of a record of one file; none if its path or identity exceeds the bounds."""
    if isinstance(record, Failed):
        yield frame(FAILED, record.path)
    elif isinstance(record, Roots):
        head = _file(record.path, 0, "")
        if head is None:
            return
        step = _ROOTS_AT_ONCE * DIGEST_BYTES
        for offset in range(0, len(record.roots), step):
            first = _FIRST.pack(record.first + offset // DIGEST_BYTES)
            roots = record.roots[offset : offset + step]
            yield frame(ROOTS, b"%b%b%b" % (head, first, roots))
    else:
        head = _file(record.path, record.size, record.identity)
        blocks, residue, flat = record.checkpoint
        leaf = _NO_LEAF if record.leaf is None else record.leaf
        tail = _CHECKPOINT.pack(blocks, residue, len(flat or b""), leaf)
        if head is not None:
            yield frame(PART, b"%b%b%b" % (head, tail, flat or b""))


class _Fields:
    """Parse the fields of a payload."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._position = 0

    @property
    def is_over(self) -> bool:
        return self._position == len(self._payload)

    def take(self, count: int) -> bytes:
        stop = self._position + count
        if stop > len(self._payload):
            raise DamagedError
        found = self._payload[self._position : stop]
        self._position = stop
        return found

    def rest(self) -> bytes:
        return self.take(len(self._payload) - self._position)

    def numbers(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self.take(form.size))

    def file(self) -> tuple[bytes, int, str]:
        path, identity, size = self.numbers(_FILE)
        _require(size <= SIZE_MOST and path > 0)
        found = self.take(path)
        try:
            return found, size, self.take(identity).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise DamagedError from None


def _require(holds: bool) -> None:
    if not holds:
        raise DamagedError


def read_records(kind: bytes, payload: bytes, digests: tuple[bool, bool]) -> list[StateRecord]:
    fields = _Fields(payload)
    if kind == FAILED:
        return [Failed(payload)]
    if kind == KNOWN:
        records: list[StateRecord] = []
        while not fields.is_over:
            records.append(_read_known(fields, digests))
        return records
    if kind == SMALL:
        return [_read_small(fields, digests)]
    path, size, identity = fields.file()
    if kind == ROOTS:
        (first,) = fields.numbers(_FIRST)
        roots = fields.rest()
        _require(first <= _LEAF_MOST and len(roots) % DIGEST_BYTES == 0)
        return [Roots(path, first, roots)]
    blocks, residue, count, leaf = fields.numbers(_CHECKPOINT)
    flat = fields.take(count)
    _require(fields.is_over and 0 < blocks * BLOCK_BYTES < size + BLOCK_BYTES)
    _require(residue < MODULUS and bool(flat) == digests[0])
    checkpoint = Checkpoint(blocks, residue, flat or None)
    return [Part(path, size, identity, checkpoint, _read_leaf(leaf, size, digests))]


def _read_small(fields: _Fields, digests: tuple[bool, bool]) -> Piece:
    first, length = fields.numbers(_SMALL)
    text, identities = fields.take(length), fields.rest()
    stop, lines, sizes = plain(text, 0, digests)
    _require(stop == length > 0 and lines == text and identities.isascii())
    _require(is_utf8(text))
    _require(identities.count(LINE_END) == len(sizes) - 1)
    _require(first + array("q", leaf_places(sizes))[-1] <= _LEAF_MOST)
    return Piece.of(text, identities, first)


def _read_known(fields: _Fields, digests: tuple[bool, bool]) -> Known:
    path, size, identity = fields.file()
    residue, which, leaf = fields.numbers(_DIGESTS)
    _require(residue < MODULUS and which == digests[0] | digests[1] << 1)
    _require(size > 0 or residue == 0)
    sha256, root = (fields.take(DIGEST_BYTES) if wanted else None for wanted in digests)
    found = Digests(residue, sha256, root)
    return Known(path, size, identity, found, _read_leaf(leaf, size, digests))


def _read_leaf(leaf: int, size: int, digests: tuple[bool, bool]) -> int | None:
    if leaf == _NO_LEAF:
        return None
    _require(digests[1] and size > WINDOW_BYTES and leaf + window_count(size) <= _LEAF_MOST)
    return leaf


# --- Runs


def run_to_json(run: Finished | Begun) -> bytes:
    fields: dict[str, Any] = run._asdict()
    if isinstance(run, Finished):
        fields["sha256"] = run.sha256.hex()
    else:
        fields["sidecar"] = None if run.sidecar is None else run.sidecar._asdict()
    return json.dumps(fields).encode()


def _read_run(payload: bytes, make: Callable[[_json.Fields], Any], keys: tuple[str, ...]) -> Any:
    try:
        fields = _json.Fields(payload, keys)
        _require(isinstance(fields.value("context"), dict))
        return make(fields)
    except (WitnessError, UnicodeDecodeError):
        raise DamagedError from None


def read_finished(payload: bytes) -> Finished:
    def make(fields: _json.Fields) -> Finished:
        return Finished(
            fields.value("context"),
            fields.integer("time", _TIME_MOST),
            fields.digest("sha256"),
            fields.integer("entries", SIZE_MOST),
        )

    found: Finished = _read_run(payload, make, Finished._fields)
    return found


def read_begun(payload: bytes) -> Begun:
    def make(fields: _json.Fields) -> Begun:
        sidecar = fields.value("sidecar")
        if sidecar is not None:
            inside = _json.Fields.of(sidecar, "sidecar", Sidecar._fields)
            name = inside.value("name")
            inside.check("name", isinstance(name, str), "a name")
            numbers = (inside.integer(key, 2**64 - 1) for key in ("device", "inode"))
            sidecar = Sidecar(name, *numbers)
        update = fields.value("update")
        fields.check("update", isinstance(update, bool), "true or false")
        return Begun(fields.value("context"), fields.integer("time", _TIME_MOST), update, sidecar)

    found: Begun = _read_run(payload, make, Begun._fields)
    return found
