# SPDX-License-Identifier: Apache-2.0
"""The content of a folder, opened by descriptors: part by part, and never through a link.

A user who can write in a folder can replace a folder or file by a link between any two accesses to
its name. So no name is checked first and opened later: each folder is opened relative to the one
around it with O_NOFOLLOW, and what is in it relative to its own descriptor. Even if
names are swapped meanwhile, everything that was opened lies below the folder.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from threading import Lock
from typing import Final

from ..._files import FileError

# A folder that is only traversed need not be readable, if the system has a flag for this.
_THROUGH: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TO_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Folders that stay open. A process may have 256 descriptors on some systems, and each thread that
# reads needs some.
OPEN_MOST: Final = 64
_NO_FOLDERS: Final = (b"", b".", b"..")
# What the systems say of a link that O_NOFOLLOW refuses; with O_DIRECTORY also ENOTDIR.
IS_LINK: Final = (errno.ELOOP, errno.EMLINK)
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class Descriptor:
    """An open folder, closed with its last reference: a thread that opens a file in it has one, so
    that its number cannot be reused for another folder meanwhile."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self, close=os.close) -> None:  # type: ignore[no-untyped-def]
        close(self.number)


class Below:
    """A folder and its content. Several threads may use it.

    It can be pickled. Another process opens the folder again by its real path; on the same machine
    it must still be the same folder.

    Args:
        name: its path. Links in it are followed: a caller who names a folder trusts its name.

    Attributes:
        real: its real path.

    Raises:
        OSError: not a folder, or cannot be opened; also from all methods.
    """

    def __init__(self, name: bytes) -> None:
        self.real = os.path.realpath(name)
        self._root: Descriptor | None = Descriptor(os.open(name, _THROUGH & ~os.O_NOFOLLOW))
        status = os.fstat(self._root.number)
        self._identity = _machine(), status.st_dev, status.st_ino
        self._begin()

    def _begin(self) -> None:
        self._lock = Lock()
        self._open: OrderedDict[bytes, Descriptor] = OrderedDict()  # the last used one is last
        # Files of one folder mostly come one after another.
        self._last: tuple[bytes, Descriptor | None] = b"", None

    def __getstate__(self) -> tuple[bytes, tuple[str, int, int]]:
        return self.real, self._identity

    def __setstate__(self, state: tuple[bytes, tuple[str, int, int]]) -> None:
        self.real, self._identity = state
        # Not opened here: a missing folder is an error of its files, not of unpickling.
        self._root = None
        self._begin()

    def _open_again(self) -> Descriptor:
        root = Descriptor(os.open(self.real, _THROUGH))
        status = os.fstat(root.number)
        machine, *before = self._identity
        # On another machine neither number means anything.
        if machine == _machine() and before != [status.st_dev, status.st_ino]:
            raise FileError("is below another folder than the one that was listed")
        self._root = root
        return root

    def folder(self, path: bytes) -> Descriptor:
        """Return a folder, open to go through it: b"" for itself, else a path below it.

        Raises:
            OSError: not there, or a part of the path is not a folder, such as a link.
            FileError: the path has parts that lead elsewhere.
        """
        last, descriptor = self._last
        if last != path or descriptor is None:
            descriptor = self._folder(path)
            self._last = path, descriptor
        return descriptor

    def _folder(self, path: bytes) -> Descriptor:
        with self._lock:
            found = self._open.get(path)
            if found is not None:
                self._open.move_to_end(path)
                return found
        if not path:
            return self._root or self._open_again()
        parent, begin = self._nearest(path)
        while begin < len(path):
            end = path.find(b"/", begin)
            end = len(path) if end < 0 else end
            name = path[begin:end]
            if name in _NO_FOLDERS:
                raise FileError("has a path with parts that are empty, '.' or '..'")
            parent = Descriptor(self._open_in(parent, name, _THROUGH))
            self._keep(path[:end], parent)
            begin = end + 1
        return parent

    def _nearest(self, path: bytes) -> tuple[Descriptor, int]:
        """Return the nearest folder around a path that is open, and where the rest begins."""
        parent = path[: max(0, path.rfind(b"/"))]
        with self._lock:
            # In a walk it is nearly always the one around it.
            if parent and parent not in self._open:
                on_the_way = (key for key in self._open if path.startswith(key + b"/"))
                parent = max(on_the_way, key=len, default=b"")
            if parent:
                return self._open[parent], len(parent) + 1
        return self._root or self._open_again(), 0

    def _keep(self, path: bytes, folder: Descriptor) -> None:
        with self._lock:
            self._open[path] = folder
            if len(self._open) > OPEN_MOST:
                self._open.popitem(last=False)

    def _open_in(self, parent: Descriptor, name: bytes, flags: int) -> int:
        try:
            return os.open(name, flags, dir_fd=parent.number)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._open:
                raise
        with self._lock:  # too many are open: close those that only might be reused
            self._open.clear()
        return os.open(name, flags, dir_fd=parent.number)

    def open(self, path: bytes, flags: int) -> int:
        """Open a file, and return the descriptor, which the caller closes.

        Raises:
            OSError: not readable; ELOOP for a link.
        """
        parent, _, name = path.rpartition(b"/")
        return self._open_in(self.folder(parent), name, flags | os.O_NOFOLLOW | os.O_CLOEXEC)

    def open_folder(self, path: bytes) -> int:
        """Open a folder to list it, and return the descriptor, which the caller closes."""
        return self._open_in(self.folder(path), b".", _TO_LIST)

    def status(self, path: bytes) -> os.stat_result:
        """Return the status of a file, folder or link."""
        parent, _, name = path.rpartition(b"/")
        folder = self.folder(parent)
        return os.stat(name, dir_fd=folder.number, follow_symlinks=False)

    def readlink(self, path: bytes) -> bytes:
        """Return the target of a link.

        Raises:
            OSError: EINVAL if it is not a link.
        """
        parent, _, name = path.rpartition(b"/")
        folder = self.folder(parent)
        return os.readlink(name, dir_fd=folder.number)


def _machine() -> str:
    """Return an id of the machine and its boot; "" if the system has none."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read()
    except OSError:
        return os.uname().nodename
