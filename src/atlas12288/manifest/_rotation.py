# SPDX-License-Identifier: Apache-2.0
"""What is kept of a folder that is verified again and again: how far the present pass is, and what
was told.

It lies in the user's state folder, away from those who write the data. A file of it is one JSON
object, and behind it a line for each difference that the pass saw and for each step forward, so
that a step costs the same however much was told. Each of these begins with a line feed: a line that
was not written to its end spoils no other, and is of no use itself.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from .._files import FileError, open_regular
from .._outputs import temporary_name
from ._differences import Difference
from ._state_folder import (
    InUseError,
    machine,
    open_folder,
    open_locked,
    real_path,
    require_own,
    rotation_name,
    unusable,
    user_folder,
)

TYPE: Final = "atlas12288/rotation/v1"
_MOST_BYTES: Final = 1 << 28
# Kinds that the listing of a folder tells: also a pass that goes on sees them all again.
_LISTED: Final = ("missing", "added", "moved")


class Told(NamedTuple):
    """A difference that was told.

    Attributes:
        form: digest of what was told.
        kind: its kind.
        number: of the last pass that saw it.
    """

    form: str
    kind: str
    number: int


class Rotation:
    """The passes over a folder; kept in a file, if there is a state folder.

    The file is locked until `close`, so that of several runs one makes the pass.

    Args:
        manifest: the name of the manifest, or of a signature.
        digest: SHA-256 of its bytes, in hex: of another manifest nothing is known.
        root: the folder or URL.
        parts: the paths of the part that is verified, in their canonical form; empty for the whole.

    Attributes:
        number: of the present pass.
        began: when it began, in seconds since 1970; None if it did not yet.
        ended: when it ended; None if it did not yet.
        done: all files up to this path were compared in it; None for none.
        told: what was told, by path, and is still so as far as is known.
        problem: why nothing can be kept, or why what was kept is of no use; None if it is.
        in_use: whether another run has it; then this one must not make a pass.
    """

    def __init__(
        self, manifest: str, digest: str, root: str, parts: tuple[bytes, ...] = ()
    ) -> None:
        self.number = 1
        self.began: float | None = None
        self.ended: float | None = None
        self.done: bytes | None = None
        self.told: dict[bytes, Told] = {}
        self.problem: str | None = None
        self.in_use = False
        self._digest = digest
        place = root if "://" in root else real_path(root)
        names = (machine(), real_path(manifest), place, *map(os.fsdecode, parts))
        self._name = rotation_name("\0".join(names))
        self._path: Path | None = None
        self._file: int | None = None  # locked
        self._has_pass = False  # whether it is of the present pass, so that lines may follow
        try:
            self._path = user_folder() / self._name
            self._open()
        except FileError as error:
            self.problem = str(error)

    @contextmanager
    def _folder(self) -> Iterator[int]:
        """Give the descriptor of the state folder; raise UnusableError if it cannot be used."""
        assert self._path is not None
        folder = open_folder(self._path.parent, make=True)
        try:
            with unusable(f"the state {self._path}"):
                yield folder
        finally:
            os.close(folder)

    def _open(self) -> None:
        with self._folder() as folder:
            try:
                self._file = open_locked(folder, self._name, str(self._path))
            except InUseError:
                self.in_use = True
            with open_regular(self._name, folder=folder, follow=False) as file:
                require_own(os.fstat(file.fileno()))
                text = file.read(_MOST_BYTES)
            if text:
                self._take(text)

    def _take(self, text: bytes) -> None:
        first, *lines = text.split(b"\n")
        try:
            kept = json.loads(first)
            if kept["type"] != TYPE:
                raise FileError(f"type is {kept['type']!r}, must be {TYPE!r}")
            if kept["manifest"] != self._digest:
                return
            number, done = kept["number"], _path_of(kept["done"])
            if not (type(number) is int and number > 0):
                raise ValueError(number)
            told = _told_of(kept["told"])
            began, ended = _time_of(kept["began"]), _time_of(kept["ended"])
        except _DAMAGE as error:
            raise FileError("it is damaged") from error
        for line in lines:
            with suppress(*_DAMAGE):
                step = json.loads(line)
                told |= _told_of(step.get("told", {}))
                done = _path_of(step.get("done")) or done
        self.number, self.began, self.ended = number, began, ended
        self.done, self.told = done, told

    def save(self) -> None:
        """Write it down, completely or not at all; note a problem instead of raising it."""
        text = json.dumps(
            {
                "type": TYPE,
                "manifest": self._digest,
                "number": self.number,
                "began": self.began,
                "ended": self.ended,
                "done": None if self.done is None else self.done.hex(),
                "told": {path.hex(): each for path, each in self.told.items()},
            }
        )
        if self._path is None or self.in_use:
            return
        try:
            with self._folder() as folder:
                self._replace(folder, text.encode())
        except FileError as error:
            self.problem = str(error)
            self._has_pass = False

    def _replace(self, folder: int, text: bytes) -> None:
        temporary = temporary_name()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before it has its name
            _write(file, text)
            os.replace(temporary, self._name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.close(file)
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        self.close()
        self._file, self._has_pass = file, True

    def _step(self, fields: dict[str, object]) -> None:
        """Write down one step more of the pass that was begun."""
        if self._file is None or not self._has_pass:
            return
        try:
            with unusable(f"the state {self._path}"):
                _write(self._file, b"\n" + json.dumps(fields).encode())
        except FileError as error:
            self.problem = str(error)

    def close(self) -> None:
        """Let other runs have it. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def begin(self) -> None:
        """Begin a pass, unless one was interrupted, which goes on, and write that down."""
        now = time.time()
        if self.began is None or self.ended is not None:
            self.number += self.began is not None
            self.began, self.ended, self.done = now, None, None
        else:
            self.began = min(self.began, now)  # the clock may have been set back
            # What it will see again, if it is still so.
            for path, each in self.told.items():
                if each.number == self.number and (
                    self.done is None or path > self.done or each.kind in _LISTED
                ):
                    self.told[path] = each._replace(number=self.number - 1)
        self.save()

    def step(self) -> None:
        """Write down how far the pass is."""
        if self.done is not None:
            self._step({"done": self.done.hex()})

    def end(self) -> None:
        """End the pass, forget the differences that it did not see, and write that down."""
        self.ended, self.done = time.time(), None
        self.told = {path: each for path, each in self.told.items() if each.number == self.number}
        self.save()

    def is_new(self, difference: Difference) -> bool:
        """Return whether a difference that the pass sees was not told before."""
        before = self.told.get(difference.path)
        return before is None or before.form != _form(difference)

    def note(self, difference: Difference) -> None:
        """Write down that a difference was seen and told."""
        told = Told(_form(difference), difference.kind, self.number)
        self.told[difference.path] = told
        self._step({"told": {difference.path.hex(): told}})


# What JSON that is not ours raises when it is taken for ours.
_DAMAGE: Final = (AttributeError, KeyError, TypeError, ValueError, RecursionError)


def _form(difference: Difference) -> str:
    return sha256(json.dumps(difference.to_fields()).encode()).hexdigest()


def _write(file: int, text: bytes) -> None:
    while text:
        text = text[os.write(file, text) :]


def _path_of(value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(value)
    return bytes.fromhex(value)


def _time_of(value: object) -> float | None:
    if value is None:
        return None
    if type(value) is not float or not 0 <= value < math.inf:
        raise ValueError(value)
    return value


def _told_of(fields: dict[str, list[object]]) -> dict[bytes, Told]:
    told = {}
    for path, (form, kind, number) in fields.items():
        if not (isinstance(form, str) and isinstance(kind, str) and type(number) is int):
            raise TypeError(form, kind, number)
        told[bytes.fromhex(path)] = Told(form, kind, number)
    return told
