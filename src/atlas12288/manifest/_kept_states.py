# SPDX-License-Identifier: Apache-2.0
"""Open and lock the state of a manifest, list the kept states, and remove old ones."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from .._files import FileError, require_regular, shown
from .._outputs import TEMPORARY
from ._leaves_file import remove_leaves
from ._state_file import NotAStateError, StateFile
from ._state_folder import (
    OPEN_FLAGS,
    STATE_NAME,
    names_in,
    open_folder,
    open_locked,
    state_file,
    unusable,
    user_folder,
)
from ._state_frames import Begun, Context, Finished

# The path of a file, or True for one in the user's state folder.
Place = str | Literal[True]

DAYS_KEPT: Final = 180
_DAY_S: Final = 24 * 60 * 60
# States judged in one run, which must cost less than reading a file. Their names are digests, so a
# random few are a fair choice, and each has its turn.
_JUDGED_AT_ONCE: Final = 8


class Kept(NamedTuple):
    """A state in the user's state folder.

    Attributes:
        file: path of the state.
        output: path of its manifest; None if not known.
        time: when the last run started to keep it or ended, in seconds since 1970.
        kind: "finished", "under way" or "unreadable".
        bytes: size of the file.
    """

    file: str
    output: str | None
    time: int
    kind: str
    bytes: int


def moment(seconds: int) -> str:
    """Return a time in readable form, in UTC; `seconds` are since 1970."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def open_state(place: Place, output: str | None) -> StateFile:
    """Open and lock the state of a manifest; create it if there is none.

    Args:
        place: True for a file in the user's state folder, which is created if needed; else the
            path of the file, in an existing folder.
        output: the path of the manifest.

    Raises:
        InUseError: another run has it open.
        UnusableError: the state cannot be used; the message says why.
        NotAStateError: the file exists and is not a state.
    """
    if place is True:
        assert output is not None
        path = user_folder()
        name = state_file(output)
        folder = open_folder(path, make=True)
        file = str(path / name)
    else:
        file = place
        around, name = os.path.split(place)
        with unusable(f"the state {shown(file)}"):
            if name in ("", ".", ".."):
                raise FileError("it is not the path of a file")
            try:
                folder = os.open(around or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise FileError(f"the folder {shown(around)} does not exist") from error
    try:
        if place is True:
            _remove_old(folder, name)
        with unusable(f"the state {shown(file)}"):
            descriptor = open_locked(folder, name, file)
    except BaseException:
        os.close(folder)
        raise
    return StateFile(descriptor, folder, name, file, locked=True)


def kept_states() -> tuple[Path, list[Kept]]:
    """Return the path of the user's state folder, and the states in it, sorted by manifest.

    Raises:
        UnusableError: the folder cannot be used.
    """
    path = user_folder()
    if not os.path.lexists(path):
        return path, []
    folder = open_folder(path, make=False)
    found = []
    try:
        for name in names_in(folder):
            if STATE_NAME.fullmatch(name):
                with suppress(FileNotFoundError):
                    found.append(_judged(folder, name, str(path / name)))
    finally:
        os.close(folder)
    return path, sorted(found, key=lambda kept: (kept.output or "", kept.file))


def _judged(folder: int, name: str, path: str) -> Kept:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    begun = finished = None
    kind = "unreadable"
    with suppress(OSError, FileError):
        require_regular(status.st_mode)
        descriptor = os.open(name, OPEN_FLAGS, dir_fd=folder)
        with StateFile(descriptor, os.dup(folder), name, path, locked=False) as state:
            begun, finished = state.begun, state.finished
    last: Begun | Finished | None = begun or finished
    if last is not None:
        kind = "finished" if begun is None else "under way"
    context: Context = {} if last is None else last.context
    output = context.get("output")
    when = int(status.st_mtime) if last is None else last.time
    output = output if isinstance(output, str) else None
    return Kept(path, output, when, kind, status.st_size)


def _remove_old(folder: int, own: str) -> None:
    """Remove some states whose manifest is gone or that were not used for a long time."""
    with suppress(OSError):
        names = [name for name in names_in(folder) if name != own]
        # Others each time, in the order that the folder has them in.
        first = int.from_bytes(os.urandom(8), "little") % (len(names) or 1)
        for name in (names[first:] + names[:first])[:_JUDGED_AT_ONCE]:
            with suppress(OSError, FileError, ValueError):
                _remove_if_old(folder, name)


def _remove_if_old(folder: int, name: str) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    days = (time.time() - status.st_mtime) / _DAY_S
    if not stat.S_ISREG(status.st_mode):
        return
    if TEMPORARY.fullmatch(name) and days > 1:  # of a run that was killed
        os.unlink(name, dir_fd=folder)
    if not STATE_NAME.fullmatch(name):
        return
    descriptor = open_locked(folder, name, name)
    try:
        state = StateFile(descriptor, os.dup(folder), name, name, locked=True)
    except NotAStateError:
        if days > DAYS_KEPT:
            os.unlink(name, dir_fd=folder)
        return
    with state:
        begun, finished = state.begun, state.finished
        gone = False
        if finished is not None and begun is None:
            output = finished.context.get("output")
            gone = isinstance(output, str) and not os.path.lexists(output)
        if not gone and days <= DAYS_KEPT:
            return
        if begun is not None and begun.sidecar is not None:
            output = begun.context.get("output")
            if isinstance(output, str):
                remove_leaves(output, begun.sidecar)
        os.unlink(name, dir_fd=folder)
