# SPDX-License-Identifier: Apache-2.0
"""The state of runs for one manifest, as a file: the identity of each file when the last run wrote
the manifest, and the progress of a run that did not end.

_state_frames.py has its format. The file is only appended to, so that a killed run or a full disk
loses only the last frames: everything after the first cut or damaged frame is ignored.

It is not authenticated, like the files that it describes. Digests of a finished run are not in it:
they are in the manifest, which is used if it is the one that was written.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final, Self

from .._files import FileError, shown
from .._outputs import temporary_name
from ._known_lines import LINE_END, Piece
from ._state_frames import (
    BEGUN,
    FINISHED,
    IDENTITIES,
    KNOWN,
    LOG,
    MAGIC,
    SMALL_MOST,
    Begun,
    DamagedError,
    Failed,
    Finished,
    Known,
    Part,
    Roots,
    StateRecord,
    frame,
    frames_of,
    is_bounded,
    known_payload,
    read_begun,
    read_finished,
    read_head,
    read_payload,
    read_records,
    run_to_json,
    small_frame,
)

_ANY_MAGIC: Final = rb"atlas12288 state [0-9]+\n"
_FULL_BYTES: Final = 1 << 18  # a frame that has more is written
_WAITING_BYTES: Final = 1 << 22  # of frames; more are written at once


class NotAStateError(FileError):
    """The file exists but is not a state, so it is not replaced."""


class StateFile:
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
        self._waiting_bytes = 0
        self._next: _Next | None = None
        try:
            with _errors(path):
                self._scan()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._next is not None:
            self._next.discard()
        with suppress(OSError):
            if self._locked and self.status.st_size <= len(MAGIC) and self._is_linked():
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
            if (magic := file.read(len(MAGIC))) != MAGIC:
                if re.match(_ANY_MAGIC, magic):
                    self.fault = "belongs to another version of atlas12288"
                    return
                raise NotAStateError(
                    f"the state {shown(self.path)} is not the state of a manifest, and is not "
                    "replaced"
                )
            self._end = self._finished_end = len(MAGIC)
            kind, length, checksum = read_head(file)
            try:
                while kind == IDENTITIES:
                    if file.seek(length, os.SEEK_CUR) > size:
                        raise DamagedError
                    kind, length, checksum = read_head(file)
                if kind == FINISHED:
                    self.finished = read_finished(read_payload(file, length, checksum))
                    self._end = self._finished_end = file.tell()
                    kind, length, checksum = read_head(file)
                if kind == BEGUN:
                    self.begun = read_begun(read_payload(file, length, checksum))
                    self._log_start = self._end = file.tell()
                elif kind:
                    raise DamagedError
            except DamagedError:
                self.fault = "is damaged"

    def _reader(self, offset: int) -> BinaryIO:
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        return open(self._descriptor, "rb", closefd=False)

    def identity_lists(self) -> Iterator[list[bytes]]:
        """Yield the identities of the entries of the finished manifest, in order, some at a time,
        with `UNTRUSTED` before one that does not show later changes.

        Raises:
            FileError: it is damaged.
        """
        with _errors(self.path), self._reader(len(MAGIC)) as file:
            while True:
                kind, length, checksum = read_head(file)
                if kind != IDENTITIES:
                    return
                try:
                    text = read_payload(file, length, checksum)
                    text.decode("utf-8", "surrogatepass")
                except (DamagedError, UnicodeDecodeError):
                    raise FileError(f"the state {shown(self.path)} is damaged") from None
                yield text.split(LINE_END)

    def log(self, digests: tuple[bool, bool]) -> Iterator[StateRecord]:
        """Yield the records of the run that did not end, in order. The next records are appended
        where this ends, so exhaust it.

        Args:
            digests: the digests of the files, flat or tree or both.
        """
        with _errors(self.path), self._reader(self._log_start) as file:
            while True:
                kind, length, checksum = read_head(file)
                if kind not in LOG:
                    return
                try:
                    records = read_records(kind, read_payload(file, length, checksum), digests)
                except DamagedError:
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
                self._append(MAGIC)
                self._finished_end = self._end
            self._append(frame(BEGUN, run_to_json(begun)))
        self._log_start = self._end
        self.begun = begun

    def known(self, known: Known) -> None:
        """Add a file that was read; `commit` writes it."""
        self._appended += known_payload(known)
        if len(self._appended) >= _FULL_BYTES:
            self._fill()

    def known_small(self, piece: Piece) -> None:
        """Add small files that were read; `commit` writes them. Nothing is kept of some whose paths
        have many megabytes."""
        if len(piece.text) + len(piece.identities) <= SMALL_MOST:
            self._fill()
            self._wait(small_frame(piece))

    def add(self, record: Roots | Part | Failed) -> None:
        """Add a record of one file; `commit` writes it."""
        self._fill()
        for each in frames_of(record):
            self._wait(each)

    def _fill(self) -> None:
        if self._appended:
            self._wait(frame(KNOWN, bytes(self._appended)))
            self._appended.clear()

    def _wait(self, frame: bytes) -> None:
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)

    @property
    def is_full(self) -> bool:
        """Return whether enough records are waiting to write them now."""
        return self._waiting_bytes >= _WAITING_BYTES

    def commit(self) -> None:
        """Write the records that were added."""
        self._fill()
        waiting = self._take_waiting()
        if waiting:
            with _errors(self.path):
                self._append(b"".join(waiting))

    def _take_waiting(self) -> list[bytes]:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return waiting

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
        self._take_waiting()
        self._appended.clear()
        with _errors(self.path):
            os.ftruncate(self._descriptor, self._finished_end)
        self._end = self._finished_end

    def keep(self, identities: list[bytes]) -> None:
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
        self._texts: list[bytes] = []
        self._bytes = 0
        try:
            self._write(MAGIC)
        except BaseException:
            self.discard()
            raise

    def _write(self, data: bytes) -> None:
        _write(self._descriptor, data, self._position)
        self._position += len(data)

    def keep(self, identities: list[bytes]) -> None:
        text = LINE_END.join(identities)
        if text.count(LINE_END) != len(identities) - 1 or len(text) > _FULL_BYTES:
            text = LINE_END.join(
                each if is_bounded(each.decode("utf-8", "surrogatepass")) else b""
                for each in identities
            )
        self._texts.append(text)
        self._bytes += len(text)
        if self._bytes >= _FULL_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._texts:
            self._write(frame(IDENTITIES, LINE_END.join(self._texts)))
            self._texts.clear()
            self._bytes = 0

    def finish(self, finished: Finished) -> None:
        self._flush()
        self._write(frame(FINISHED, run_to_json(finished)))
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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
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
