# SPDX-License-Identifier: Apache-2.0
"""What is kept of a folder that is verified again and again: how far the present pass is, and what
was told.

It lies in the user's state folder, away from those who write the data.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from .._files import FileError, open_regular
from .._outputs import temporary_name
from ._differences import Difference
from ._state_folder import (
    machine,
    open_folder,
    real_path,
    require_own,
    rotation_name,
    unusable,
    user_folder,
)

TYPE: Final = "atlas12288/rotation/v1"
_MOST_BYTES: Final = 1 << 28


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

    Args:
        manifest: the name of the manifest.
        digest: SHA-256 of its bytes, in hex: of another manifest nothing is known.
        root: the folder or URL.

    Attributes:
        number: of the present pass.
        began: when it began, in seconds since 1970; None if it did not yet.
        ended: when it ended; None if it did not yet.
        done: all files up to this path were compared in it; None for none.
        told: what was told, by path, and is still so as far as is known.
        problem: why nothing can be kept, or why what was kept is of no use; None if it is.

    Raises:
        UnusableError: the state folder cannot be used.
    """

    def __init__(self, manifest: str, digest: str, root: str) -> None:
        self.number = 1
        self.began: float | None = None
        self.ended: float | None = None
        self.done: bytes | None = None
        self.told: dict[bytes, Told] = {}
        self.problem: str | None = None
        self._digest = digest
        place = root if "://" in root else real_path(root)
        self._name = rotation_name(f"{machine()}\0{real_path(manifest)}\0{place}")
        self._folder: Path | None = None
        try:
            self._folder = user_folder()
            self._read()
        except FileError as error:
            self.problem = str(error)

    def _read(self) -> None:
        assert self._folder is not None
        folder = open_folder(self._folder, make=True)
        try:
            what = f"the state {self._folder / self._name}"
            with (
                unusable(what),
                suppress(FileNotFoundError),
                open_regular(self._name, folder=folder, follow=False) as file,
            ):
                require_own(os.fstat(file.fileno()))
                self._take(file.read(_MOST_BYTES))
        finally:
            os.close(folder)

    def _take(self, text: bytes) -> None:
        try:
            kept = json.loads(text)
            if kept["type"] != TYPE:
                raise FileError(f"type is {kept['type']!r}, must be {TYPE!r}")
            if kept["manifest"] != self._digest:
                return
            told = {bytes.fromhex(path): Told(*each) for path, each in kept["told"].items()}
            done = None if kept["done"] is None else bytes.fromhex(kept["done"])
            times = [None if kept[key] is None else float(kept[key]) for key in ("began", "ended")]
            self.number, (self.began, self.ended) = int(kept["number"]), times
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise FileError("it is damaged") from error
        self.done, self.told = done, told

    def save(self) -> None:
        """Write it down, completely or not at all; note a problem instead of raising it."""
        if self._folder is None:
            return
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
        ).encode()
        try:
            folder = open_folder(self._folder, make=True)
            try:
                with unusable(f"the state {self._folder / self._name}"):
                    self._write(folder, text)
            finally:
                os.close(folder)
        except FileError as error:
            self.problem = str(error)

    def _write(self, folder: int, text: bytes) -> None:
        temporary = temporary_name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
            os.replace(temporary, self._name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise

    def begin(self) -> None:
        """Begin a pass, unless one was interrupted, which goes on."""
        if self.began is None or self.ended is not None:
            self.number += self.began is not None
            self.began, self.ended, self.done = time.time(), None, None

    def end(self) -> None:
        """End the pass, and forget the differences that it did not see."""
        self.ended, self.done = time.time(), None
        self.told = {path: each for path, each in self.told.items() if each.number == self.number}

    def is_new(self, difference: Difference) -> bool:
        """Note a difference that the pass sees; return whether it was not told before."""
        form = sha256(json.dumps(difference.to_fields()).encode()).hexdigest()
        before = self.told.get(difference.path)
        self.told[difference.path] = Told(form, difference.kind, self.number)
        return before is None or before.form != form
