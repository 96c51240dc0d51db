# SPDX-License-Identifier: Apache-2.0
"""The state of runs for one manifest, as a file: the identity of each file when the last run wrote
the manifest, and the progress of a run that did not end.

    "atlas12288 state 1\\n"
    [identities... finished]
    [begun (known | roots | part | failed)...]

Each of these is a frame: a letter, the length of the payload, its CRC-32, and the payload. It has a
format of its own instead of a database, because it may come from a stranger: nothing in it is run,
names another file that is opened unchecked, or is used before its type and bounds are checked. It
is only appended to, so that a killed run or a full disk loses only the last frames: everything
after the first cut or damaged frame is ignored.

It is not authenticated, like the files that it describes. Digests of a finished run are not in it:
they are in the manifest, which is used if it is the one that was written.
"""

from __future__ import annotations

import errno
import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self
from zlib import crc32

from .. import _json
from .._errors import WitnessError
from .._files import FileError, shown
from .._native import DIGEST_BYTES, MODULUS, WINDOW_BYTES
from .._outputs import temporary_name
from .._subtree import BLOCK_BYTES, window_count
from ._entries import SIZE_MOST
from ._hashing.file_hash import Checkpoint, Digests
from ._sources.source import UNTRUSTED

_MAGIC: Final = b"atlas12288 state 1\n"
_ANY_MAGIC: Final = rb"atlas12288 state [0-9]+\n"
_FRAME: Final = struct.Struct("<cII")  # kind, length, CRC-32
_IDENTITIES, _FINISHED, _BEGUN, _KNOWN, _ROOTS, _PART, _FAILED = (
    bytes((letter,)) for letter in b"IFBKRPX"
)
_LOG: Final = (_KNOWN, _ROOTS, _PART, _FAILED)
_FULL_BYTES: Final = 1 << 18  # a frame that has more is written
# More than the largest frame: the identities of 1,000 files, a path, 8,192 roots.
_FRAME_MOST: Final = 1 << 24
_PATH_MOST: Final = 1 << 16
_IDENTITY_MOST: Final = 1 << 11  # characters; a version in S3 has 1,024
_ROOTS_AT_ONCE: Final = 8192
_LEAF_MOST: Final = 1 << 48
_TIME_MOST: Final = 1 << 40
_LINE_END: Final = "\n"
_NO_LEAF: Final = (1 << 64) - 1

_FILE: Final = struct.Struct("<IHQ")  # bytes of path and identity; size
_DIGESTS: Final = struct.Struct("<BBQ")  # residue, which digests, leaf
_CHECKPOINT: Final = struct.Struct("<QBHQ")  # blocks, residue, bytes of the flat state, leaf
_FIRST: Final = struct.Struct("<Q")

Context = dict[str, Any]


class NotAStateError(FileError):
    """The file exists but is not a state, so it is not replaced."""


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
        context: facts that must be equal in the run that resumes.
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


Record = Known | Roots | Part | Failed


class _DamagedError(Exception):
    """A frame is damaged."""


class State:
    """The state in an open file; a context manager that closes it. Used by one thread.

    Args:
        descriptor: descriptor of the file, for reading and writing; closed by this object.
        folder: descriptor of the folder of the file; closed by this object.
        name: name of the file in that folder.
        path: path of the file, for messages.
        locked: whether only this run uses it. Then the file is removed if nothing was kept in it.

    Attributes:
        finished: the last run that ended; None if there is none or it is no longer known.
        begun: a run that did not end; None if there is none.
        fault: why nothing in it is used; None if it is used. Damage in the records of a run is no
            fault: the records before it count.

    Raises:
        NotAStateError: the file is not empty and no state.
        FileError: it cannot be read; also from all methods.
    """

    def __init__(self, descriptor: int, folder: int, name: str, path: str, *, locked: bool) -> None:
        self._descriptor = descriptor
        self._folder = folder
        self._name = name
        self._locked = locked
        self.path = path
        self.finished: Finished | None = None
        self.begun: Begun | None = None
        self.fault: str | None = None
        self._end = 0  # of the valid part
        self._finished_end = 0
        self._log_start = 0
        self._appended = bytearray()  # of the frame of files that are known
        self._waiting: list[bytes] = []  # frames
        self._next: _Next | None = None
        try:
            with _errors(path):
                self._scan()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._next is not None:
            self._next.discard()
        with suppress(OSError):
            if self._locked and self.status.st_size <= len(_MAGIC) and self._is_linked():
                os.unlink(self._name, dir_fd=self._folder)  # it was made for its lock
        self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        os.close(self._folder)

    def _is_linked(self) -> bool:
        """Return whether the name still refers to this file."""
        status = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        return os.path.samestat(status, self.status)

    @property
    def status(self) -> os.stat_result:
        """Return the status of the file."""
        return os.fstat(self._descriptor)

    # --- Reading

    def _scan(self) -> None:
        """Find the runs, without reading the records of the files."""
        size = os.fstat(self._descriptor).st_size
        if size == 0:
            return
        with self._reader(0) as file:
            if (magic := file.read(len(_MAGIC))) != _MAGIC:
                if re.match(_ANY_MAGIC, magic):
                    self.fault = "belongs to another version of atlas12288"
                    return
                raise NotAStateError(
                    f"the state {shown(self.path)} is not the state of a manifest, and is not "
                    "replaced"
                )
            self._end = self._finished_end = len(_MAGIC)
            kind, length, checksum = _head(file)
            try:
                while kind == _IDENTITIES:
                    if file.seek(length, os.SEEK_CUR) > size:
                        raise _DamagedError
                    kind, length, checksum = _head(file)
                if kind == _FINISHED:
                    self.finished = _finished(_payload(file, length, checksum))
                    self._end = self._finished_end = file.tell()
                    kind, length, checksum = _head(file)
                if kind == _BEGUN:
                    self.begun = _begun(_payload(file, length, checksum))
                    self._log_start = self._end = file.tell()
                elif kind:
                    raise _DamagedError
            except _DamagedError:
                self.fault = "is damaged"

    def _reader(self, offset: int) -> BinaryIO:
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        return open(self._descriptor, "rb", closefd=False)

    def identities(self) -> Iterator[tuple[str, bool]]:
        """Yield the identities of the entries of the finished manifest, in order, each with whether
        it shows later changes.

        Raises:
            FileError: it is damaged.
        """
        with _errors(self.path), self._reader(len(_MAGIC)) as file:
            while True:
                kind, length, checksum = _head(file)
                if kind != _IDENTITIES:
                    return
                try:
                    text = _payload(file, length, checksum).decode("utf-8", "surrogatepass")
                except (_DamagedError, UnicodeDecodeError):
                    raise FileError(f"the state {shown(self.path)} is damaged") from None
                for line in text.split(_LINE_END):
                    yield line.removeprefix(UNTRUSTED), not line.startswith(UNTRUSTED)

    def log(self, digests: tuple[bool, bool]) -> Iterator[Record]:
        """Yield the records of the run that did not end, in order. The next records are appended
        where this ends, so exhaust it.

        Args:
            digests: the digests of the files, flat or tree or both.
        """
        with _errors(self.path), self._reader(self._log_start) as file:
            while True:
                kind, length, checksum = _head(file)
                if kind not in _LOG:
                    return
                try:
                    records = _records(kind, _payload(file, length, checksum), digests)
                except _DamagedError:
                    return
                self._end = file.tell()
                yield from records

    # --- Writing

    def begin(self, begun: Begun) -> None:
        """Start the records of a run. Drop the records of another unfinished run; keep the
        identities of the finished run."""
        with _errors(self.path):
            os.ftruncate(self._descriptor, self._finished_end)
            self._end = self._finished_end
            if self._end == 0:
                self._append(_MAGIC)
                self._finished_end = self._end
            self._append(_frame(_BEGUN, _to_json(begun)))
        self._log_start = self._end
        self.begun = begun

    def known(self, known: Known) -> None:
        """Add a file that was read; `commit` writes it."""
        head = _file(known.path, known.size, known.identity)
        if head is None:
            return
        residue, sha256, root = known.digests
        which = (sha256 is not None) | (root is not None) << 1
        leaf = _NO_LEAF if known.leaf is None else known.leaf
        self._appended += b"%b%b%b%b" % (
            head,
            _DIGESTS.pack(residue, which, leaf),
            sha256 or b"",
            root or b"",
        )
        if len(self._appended) >= _FULL_BYTES:
            self._fill()

    def known_small(
        self,
        flat: bool,
        tree: bool,
        files: Iterable[tuple[bytes, int, bytes, int, bytes, int | None]],
    ) -> None:
        """Add small files that were read; `commit` writes them.

        Args:
            flat, tree: the digests of each.
            files: path, size, identity, residue, joined digests and leaf of each, as `Known` has
                them; the identity is that of a file of this machine.
        """
        file, numbers = _FILE.pack, _DIGESTS.pack
        which = flat | tree << 1
        for path, size, identity, residue, digests, leaf in files:
            self._appended += file(len(path), len(identity), size)
            self._appended += path + identity
            self._appended += numbers(residue, which, _NO_LEAF if leaf is None else leaf) + digests
            if len(self._appended) >= _FULL_BYTES:
                self._fill()

    def add(self, record: Roots | Part | Failed) -> None:
        """Add a record of one file; `commit` writes it."""
        self._fill()
        if isinstance(record, Failed):
            self._waiting.append(_frame(_FAILED, record.path))
        elif isinstance(record, Roots):
            head = _file(record.path, 0, "")
            if head is None:
                return
            step = _ROOTS_AT_ONCE * DIGEST_BYTES
            for offset in range(0, len(record.roots), step):
                first = _FIRST.pack(record.first + offset // DIGEST_BYTES)
                roots = record.roots[offset : offset + step]
                self._waiting.append(_frame(_ROOTS, b"%b%b%b" % (head, first, roots)))
        else:
            head = _file(record.path, record.size, record.identity)
            blocks, residue, flat = record.checkpoint
            leaf = _NO_LEAF if record.leaf is None else record.leaf
            tail = _CHECKPOINT.pack(blocks, residue, len(flat or b""), leaf)
            if head is not None:
                self._waiting.append(_frame(_PART, b"%b%b%b" % (head, tail, flat or b"")))

    def _fill(self) -> None:
        if self._appended:
            self._waiting.append(_frame(_KNOWN, bytes(self._appended)))
            self._appended.clear()

    @property
    def is_full(self) -> bool:
        """Return whether enough records are waiting to write them now."""
        return len(self._waiting) >= 16

    def commit(self) -> None:
        """Write the records that were added."""
        self._fill()
        waiting, self._waiting = self._waiting, []
        if waiting:
            with _errors(self.path):
                self._append(b"".join(waiting))

    def _append(self, data: bytes) -> None:
        try:
            _write(self._descriptor, data, self._end)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(data)

    def end(self) -> None:
        """End the run that was begun, or give it up."""
        self.begun = None
        self._waiting.clear()
        self._appended.clear()
        with _errors(self.path):
            os.ftruncate(self._descriptor, self._finished_end)
        self._end = self._finished_end

    def keep(self, identities: list[str]) -> None:
        """Keep the identities of the next entries of the manifest that is being written, some at a
        time; with `UNTRUSTED` before an identity that does not show later changes."""
        with _errors(self.path):
            if self._next is None:
                self._next = _Next(self._folder, self._name)
            self._next.keep(identities)

    def finish(self, finished: Finished) -> None:
        """Record that the manifest was written, with an entry for each identity given to `keep`."""
        assert self._next is not None
        with _errors(self.path):
            self._next.finish(finished)
        self._next = None


class _Next:
    """The file that replaces the state when a run has ended."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self._name = name
        self._part = temporary_name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._part, flags, 0o600, dir_fd=folder)
        self._position = 0
        self._texts: list[str] = []
        self._bytes = 0
        try:
            self._write(_MAGIC)
        except BaseException:
            self.discard()
            raise

    def _write(self, data: bytes) -> None:
        _write(self._descriptor, data, self._position)
        self._position += len(data)

    def keep(self, identities: list[str]) -> None:
        text = _LINE_END.join(identities)
        if text.count(_LINE_END) != len(identities) - 1 or len(text) > _FULL_BYTES:
            text = _LINE_END.join(each if _is_bounded(each) else "" for each in identities)
        self._texts.append(text)
        self._bytes += len(text)
        if self._bytes >= _FULL_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._texts:
            text = _LINE_END.join(self._texts)
            self._write(_frame(_IDENTITIES, text.encode("utf-8", "surrogatepass")))
            self._texts.clear()
            self._bytes = 0

    def finish(self, finished: Finished) -> None:
        self._flush()
        self._write(_frame(_FINISHED, _to_json(finished)))
        os.rename(self._part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.close(self._descriptor)

    def discard(self) -> None:
        os.close(self._descriptor)
        with suppress(OSError):
            os.unlink(self._part, dir_fd=self._folder)


class _errors:  # noqa: N801 - used as `suppress`
    """Turn errors of the system into errors that name the state."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise FileError(f"the state {shown(self._path)} cannot be used: {reason}") from error


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        if count == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        view, offset = view[count:], offset + count


# --- Frames


def _frame(kind: bytes, payload: bytes) -> bytes:
    return _FRAME.pack(kind, len(payload), crc32(payload)) + payload


def _head(file: BinaryIO) -> tuple[bytes, int, int]:
    """Read kind, length and checksum of the next frame; an empty kind if there is none."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return b"", 0, 0
    kind, length, checksum = _FRAME.unpack(head)
    return kind, length, checksum


def _payload(file: BinaryIO, length: int, checksum: int) -> bytes:
    if length > _FRAME_MOST:
        raise _DamagedError
    payload = file.read(length)
    if len(payload) < length or crc32(payload) != checksum:
        raise _DamagedError
    return payload


def _is_bounded(identity: str) -> bool:
    """Return whether an identity is one line within the bound; others are not kept."""
    return len(identity) <= _IDENTITY_MOST and _LINE_END not in identity


def _file(path: bytes, size: int, identity: str) -> bytes | None:
    """Return how a record begins; None for a file whose path or identity exceeds the bounds."""
    if len(path) > _PATH_MOST or not _is_bounded(identity):
        return None
    text = identity.encode("utf-8", "surrogatepass")
    return b"%b%b%b" % (_FILE.pack(len(path), len(text), size), path, text)


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
            raise _DamagedError
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
            raise _DamagedError from None


def _require(holds: bool) -> None:
    if not holds:
        raise _DamagedError


def _records(kind: bytes, payload: bytes, digests: tuple[bool, bool]) -> list[Record]:
    fields = _Fields(payload)
    if kind == _FAILED:
        return [Failed(payload)]
    if kind == _KNOWN:
        records: list[Record] = []
        while not fields.is_over:
            records.append(_known(fields, digests))
        return records
    path, size, identity = fields.file()
    if kind == _ROOTS:
        (first,) = fields.numbers(_FIRST)
        roots = fields.rest()
        _require(first <= _LEAF_MOST and len(roots) % DIGEST_BYTES == 0)
        return [Roots(path, first, roots)]
    blocks, residue, count, leaf = fields.numbers(_CHECKPOINT)
    flat = fields.take(count)
    _require(fields.is_over and 0 < blocks * BLOCK_BYTES < size + BLOCK_BYTES)
    _require(residue < MODULUS and bool(flat) == digests[0])
    checkpoint = Checkpoint(blocks, residue, flat or None)
    return [Part(path, size, identity, checkpoint, _leaf(leaf, size, digests))]


def _known(fields: _Fields, digests: tuple[bool, bool]) -> Known:
    path, size, identity = fields.file()
    residue, which, leaf = fields.numbers(_DIGESTS)
    _require(residue < MODULUS and which == digests[0] | digests[1] << 1)
    _require(size > 0 or residue == 0)
    sha256, root = (fields.take(DIGEST_BYTES) if wanted else None for wanted in digests)
    found = Digests(residue, sha256, root)
    return Known(path, size, identity, found, _leaf(leaf, size, digests))


def _leaf(leaf: int, size: int, digests: tuple[bool, bool]) -> int | None:
    if leaf == _NO_LEAF:
        return None
    _require(digests[1] and size > WINDOW_BYTES and leaf + window_count(size) <= _LEAF_MOST)
    return leaf


# --- Runs


def _to_json(run: Finished | Begun) -> bytes:
    fields: dict[str, Any] = run._asdict()
    if isinstance(run, Finished):
        fields["sha256"] = run.sha256.hex()
    else:
        fields["sidecar"] = None if run.sidecar is None else run.sidecar._asdict()
    return json.dumps(fields).encode()


def _read(payload: bytes, make: Callable[[_json.Fields], Any], keys: tuple[str, ...]) -> Any:
    try:
        fields = _json.Fields(payload, keys)
        _require(isinstance(fields.value("context"), dict))
        return make(fields)
    except (WitnessError, UnicodeDecodeError):
        raise _DamagedError from None


def _finished(payload: bytes) -> Finished:
    def make(fields: _json.Fields) -> Finished:
        return Finished(
            fields.value("context"),
            fields.integer("time", _TIME_MOST),
            fields.digest("sha256"),
            fields.integer("entries", SIZE_MOST),
        )

    found: Finished = _read(payload, make, Finished._fields)
    return found


def _begun(payload: bytes) -> Begun:
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

    found: Begun = _read(payload, make, Begun._fields)
    return found
