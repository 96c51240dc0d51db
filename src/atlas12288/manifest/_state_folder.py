# SPDX-License-Identifier: Apache-2.0
"""The user's state folder, which keeps the states of manifests away from those who write the data.

Listing a folder needs it too: states inside that folder are not part of a manifest.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .._files import FileError, require_regular, shown
from .._outputs import TEMPORARY
from .._witness import Witness
from ._beside import Outputs, is_url

STATE_NAME: Final = re.compile(r"[0-9a-f]{64}\.state")
_ROTATION_NAME: Final = re.compile(r"[0-9a-f]{64}\.rotation")
_FOLDER: Final = "atlas12288"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_TRIES: Final = 10
# How a state is opened for reading and writing.
OPEN_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MACHINE_FILES: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")


class UnusableError(FileError):
    """The state folder cannot be used; a run can do without a state."""


class InUseError(FileError):
    """Another run is using the state."""


def machine() -> str:
    """Return an identifier of this machine, in hex.

    It is a digest, because the machine's own identifier must not be disclosed (machine-id(5)).
    """
    name = ""
    for file in _MACHINE_FILES:
        with suppress(OSError, ValueError):
            name = Path(file).read_text().strip()
        if name:
            break
    else:
        import socket  # here: hardly any machine needs it, and it takes 3 ms

        name = socket.gethostname()
    return Witness.generate(b"atlas12288 machine " + name.encode()).hexdigest()


def real_path(output: str) -> str:
    """Return the path that identifies a manifest in states."""
    return os.path.realpath(output)


def state_file(output: str) -> str:
    """Return the name of a manifest's state in the user's state folder."""
    name = os.fsencode(f"{machine()}\0{real_path(output)}")
    return Witness.generate(name).hexdigest() + ".state"


def rotation_name(key: str) -> str:
    """Return the name in the user's state folder of what is kept of a rotation."""
    return Witness.generate(os.fsencode(key)).hexdigest() + ".rotation"


def user_folder() -> Path:
    """Return the path of the user's state folder, which need not exist.

    Raises:
        UnusableError: the environment does not name one.
    """
    state = os.environ.get("XDG_STATE_HOME")
    if state:
        if not Path(state).is_absolute():
            raise UnusableError(f"XDG_STATE_HOME is {shown(state)}, must be an absolute path")
        return Path(state, _FOLDER)
    home = os.environ.get("HOME")
    if not home or not Path(home).is_absolute():
        raise UnusableError("neither XDG_STATE_HOME nor HOME is an absolute path")
    if not Path(home).is_dir():  # of a user without a home
        raise UnusableError(f"HOME is {shown(home)}, must be a folder")
    return Path(home, ".local", "state", _FOLDER)


@contextmanager
def unusable(what: str) -> Iterator[None]:
    """Turn errors of the system or of a check into an UnusableError that names `what`."""
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


def require_own(status: os.stat_result) -> None:
    """Raise FileError unless the file is this user's, and nobody else may write to it."""
    if status.st_uid != os.geteuid():
        raise FileError("it belongs to another user")
    if status.st_mode & _OTHERS_WRITE:
        raise FileError("others than its owner may write to it")


def open_folder(path: Path, *, make: bool) -> int:
    """Open the user's state folder and return its descriptor."""
    with unusable(f"the state folder {shown(str(path))}"):
        if make:
            _make_folder(path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        if path.is_symlink():
            raise FileError("it is a symbolic link, which is not followed")
        descriptor = os.open(path, flags)
        try:
            require_own(os.fstat(descriptor))
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
        # Make nothing in another user's folder, as sudo would with an unchanged HOME. Folders of
        # root, such as /tmp, are fine.
        if path.stat().st_uid not in (os.geteuid(), 0):
            raise FileError(f"{shown(str(path))} belongs to another user")
        for each in reversed(missing):
            with suppress(FileExistsError):  # of another run that begins
                each.mkdir(0o700)


def open_locked(folder: int, name: str, path: str) -> int:
    """Open a file, lock it until it is closed, and return its descriptor."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                raise FileError("it is a symbolic link, which is not followed")
            require_regular(status.st_mode)
        descriptor = os.open(name, OPEN_FLAGS | os.O_CREAT, 0o600, dir_fd=folder)
        try:
            found = os.fstat(descriptor)
            require_regular(found.st_mode)
            require_own(found)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUseError(
                    f"the state {shown(path)} is in use by another run, must be used by one alone"
                ) from None
            # The run that held the lock may have put another file in its place.
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
    """Leave out the states in the user's state folder if it is inside `root`.

    They change with every run.

    Returns:
        Whether any were left out.
    """
    if is_url(root):
        return False
    found = False
    with suppress(OSError, ValueError, FileError):
        path = user_folder()
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            return False
        folder = open_folder(path, make=False)
        try:
            for name in names_in(folder):
                if any(form.fullmatch(name) for form in (STATE_NAME, _ROTATION_NAME, TEMPORARY)):
                    with suppress(OSError):
                        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            outputs.add(str(path / name), status)
                            found = True
        finally:
            os.close(folder)
    return found


def names_in(folder: int) -> list[str]:
    """Return the names in an open folder."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]
