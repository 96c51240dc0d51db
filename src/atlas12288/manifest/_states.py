# SPDX-License-Identifier: Apache-2.0
"""Where states of runs lie, and whose they are: in the user's own state folder, where nobody who
writes the data writes, or in a file that the user names."""

from __future__ import annotations

import fcntl
import os
import random
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple

from .._files import FileError, require_regular, shown
from .._outputs import TEMPORARY
from ._beside import Outputs, is_url
from ._leaves_file import remove_leaves
from ._state import Begun, Context, Finished, NotAStateError, State

# A path of its own, or the user's state folder.
Place = str | Literal[True]

DAYS_KEPT: Final = 180
_FOLDER: Final = "atlas12288"
_NAME: Final = re.compile(r"[0-9a-f]{64}\.state")
_DAY_S: Final = 24 * 60 * 60
# Judged in one run, so that it costs less than a file to read. Their names are digests, so that
# any few are a fair choice, and all have their turn.
_JUDGED_AT_ONCE: Final = 16
_TRIES: Final = 10
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MACHINE_FILES: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")


class UnusableError(FileError):
    """A state cannot be kept there. A run can do without."""


class InUseError(FileError):
    """Another run keeps its state there."""


class Kept(NamedTuple):
    """A state of the user's folder.

    Attributes:
        file: its path.
        output: the manifest that it is of; None where that is not known.
        time: when its last run began to keep it, or ended, in seconds since 1970.
        kind: "finished", "under way" or "unreadable".
        bytes: of its file.
    """

    file: str
    output: str | None
    time: int
    kind: str
    bytes: int


def machine() -> str:
    """What tells this machine from others, in hex. The machine's own name for itself is not to be
    passed on (machine-id(5))."""
    name = ""
    for file in _MACHINE_FILES:
        with suppress(OSError, ValueError):
            name = Path(file).read_text().strip()
        if name:
            break
    return sha256(b"atlas12288 machine " + (name or socket.gethostname()).encode()).hexdigest()


def real(output: str) -> str:
    """The path of a manifest, as states have it."""
    return os.path.realpath(output)


def moment(seconds: int) -> str:
    """A time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def state_file(output: str) -> str:
    """The name of a manifest's state in the user's folder."""
    return sha256(os.fsencode(f"{machine()}\0{real(output)}")).hexdigest() + ".state"


def user_folder() -> Path:
    """The user's state folder, which need not be there.

    Raises:
        UnusableError: the environment names none.
    """
    state = os.environ.get("XDG_STATE_HOME")
    if state:
        if not Path(state).is_absolute():
            raise UnusableError(f"XDG_STATE_HOME is {shown(state)}, must be an absolute path")
        return Path(state, _FOLDER)
    home = os.environ.get("HOME")
    if not home or not Path(home).is_absolute():
        raise UnusableError("neither XDG_STATE_HOME nor HOME is an absolute path")
    if not Path(home).is_dir():  # that of a user who has none
        raise UnusableError(f"HOME is {shown(home)}, must be a folder")
    return Path(home, ".local", "state", _FOLDER)


def open_state(place: Place, output: str | None) -> State:
    """The state of a manifest, open and locked, made where there is none.

    Args:
        place: True for the user's folder, which is made too; a path for that file, in a folder
            that is there.
        output: the manifest.

    Raises:
        InUseError: another run has it.
        UnusableError: it cannot be used; the message says why.
        NotAStateError: the file is there and is no state.
    """
    if place is True:
        assert output is not None
        path = user_folder()
        name = state_file(output)
        folder = _open_folder(path, make=True)
        file = str(path / name)
    else:
        file = place
        around, name = os.path.split(place)
        with _unusable(f"the state {shown(file)}"):
            if name in ("", ".", ".."):
                raise FileError("it is not the path of a file")
            try:
                folder = os.open(around or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise FileError(f"the folder {shown(around)} does not exist") from error
    try:
        if place is True:
            _remove_old(folder, name)
        with _unusable(f"the state {shown(file)}"):
            descriptor = _open_file(folder, name, file)
    except BaseException:
        os.close(folder)
        raise
    return State(descriptor, folder, name, file, locked=True)


@contextmanager
def _unusable(what: str) -> Iterator[None]:
    """Names what the system says no to."""
    try:
        yield
    except OSError as error:
        raise UnusableError(f"{what} cannot be used: {error.strerror or error}") from error
    except ValueError as error:  # a NUL
        raise UnusableError(f"{what} cannot be used: {error}") from error
    except (InUseError, UnusableError):
        raise
    except FileError as error:
        raise UnusableError(f"{what} cannot be used: {error}") from error


def _require_own(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise FileError("it belongs to another user")
    if status.st_mode & _OTHERS_WRITE:
        raise FileError("others than its owner may write to it")


def _open_folder(path: Path, *, make: bool) -> int:
    """The descriptor of the user's state folder."""
    with _unusable(f"the state folder {shown(str(path))}"):
        if make:
            _make_folder(path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        if path.is_symlink():
            raise FileError("it is a symbolic link, which is not followed")
        descriptor = os.open(path, flags)
        try:
            _require_own(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _make_folder(path: Path) -> None:
    missing: list[Path] = []
    while not os.path.lexists(path):
        missing.append(path)
        path = path.parent
    if missing:
        # Nothing is made in what is another user's, as where sudo leaves HOME as it was. What is
        # root's is so in every way: /tmp, for one.
        if path.stat().st_uid not in (os.geteuid(), 0):
            raise FileError(f"{shown(str(path))} belongs to another user")
        for each in reversed(missing):
            with suppress(FileExistsError):  # of another run that begins
                each.mkdir(0o700)


def _open_file(folder: int, name: str, path: str) -> int:
    """The descriptor of a file that is locked until it is closed."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                raise FileError("it is a symbolic link, which is not followed")
            require_regular(status.st_mode)
        descriptor = os.open(name, _FLAGS | os.O_CREAT, 0o600, dir_fd=folder)
        try:
            found = os.fstat(descriptor)
            require_regular(found.st_mode)
            _require_own(found)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUseError(
                    f"the state {shown(path)} is in use by another run, must be used by one alone"
                ) from None
            # The run that had the lock may have put another file in its place.
            with suppress(FileNotFoundError):
                now = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise FileError("it is replaced again and again")


def leave_out_states(outputs: Outputs, root: str) -> bool:
    """Leaves out the states in the user's folder, where that is inside of `root`: they change with
    every run. Returns whether there is one."""
    if is_url(root):
        return False
    found = False
    with suppress(OSError, ValueError, FileError):
        path = user_folder()
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            return False
        folder = _open_folder(path, make=False)
        try:
            for name in _names(folder):
                if _NAME.fullmatch(name) or TEMPORARY.fullmatch(name):
                    with suppress(OSError):
                        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            outputs.add(str(path / name), status)
                            found = True
        finally:
            os.close(folder)
    return found


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


# --- All of them


def kept_states() -> tuple[Path, list[Kept]]:
    """The user's state folder, and the states in it, by manifest.

    Raises:
        UnusableError: there is no folder that can be used.
    """
    path = user_folder()
    if not os.path.lexists(path):
        return path, []
    folder = _open_folder(path, make=False)
    found = []
    try:
        for name in _names(folder):
            if _NAME.fullmatch(name):
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
        descriptor = os.open(name, _FLAGS, dir_fd=folder)
        with State(descriptor, os.dup(folder), name, path, locked=False) as state:
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
    """Removes states of manifests that are gone, or that nobody used for long: some of them."""
    with suppress(OSError):
        names = [name for name in _names(folder) if name != own]
        for name in random.sample(names, min(len(names), _JUDGED_AT_ONCE)):
            with suppress(OSError, FileError, ValueError):
                _remove_if_old(folder, name)


def _remove_if_old(folder: int, name: str) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    days = (time.time() - status.st_mtime) / _DAY_S
    if not stat.S_ISREG(status.st_mode):
        return
    if TEMPORARY.fullmatch(name) and days > 1:  # of a run that was killed
        os.unlink(name, dir_fd=folder)
    if not _NAME.fullmatch(name):
        return
    descriptor = _open_file(folder, name, name)
    try:
        state = State(descriptor, os.dup(folder), name, name, locked=True)
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
