# SPDX-License-Identifier: Apache-2.0
"""Where symbolic links lead, and where they may lead: below the folder, and below other named
folders."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Final

from ..._files import FileError, file_errors
from .._beside import is_url
from .._paths import is_text, quoted
from .descriptors import IS_LINK, Below

# As many as Linux follows on the way to a file. What these links hold can have 80,000 parts, and a
# folder can have many such links; those that people make have some dozens.
LINKS_MOST: Final = 40
PARTS_MOST: Final = 4096
_PLACES_MOST: Final = 256  # each may have thousands of bytes
_STAY: Final = (b"", b".")


class Links:
    """Follow the links in the paths of a folder. Several threads may use it.

    A link is followed by reading it, part by part; its target is then opened like every file below
    the folder, without following anything. So a link that changes meanwhile can at most lead to
    another file of these folders.

    Args:
        root: the folder.
        others: other folders that links may lead to.
    """

    def __init__(self, root: Below, others: Sequence[Below] = ()) -> None:
        self._bases = (root, *others)
        self._begin()

    def _begin(self) -> None:
        self._lock = Lock()
        self._places: OrderedDict[bytes, bytes] = OrderedDict()  # real paths of folders

    def __getstate__(self) -> tuple[Below, ...]:
        return self._bases

    def __setstate__(self, state: tuple[Below, ...]) -> None:
        self._bases = state
        self._begin()

    def real_folder(self, path: bytes) -> bytes:
        """Return the real path of a folder, b"" for the root, when all links on the way are
        followed.

        Raises:
            FileError: the folder does not exist, or a link on the way leads out.
        """
        real = self._bases[0].real
        if not path:
            return real
        # The nearest folder around it that is known; for the next file mostly its own.
        end = len(path)
        with self._lock:
            while end > 0:
                known = self._places.get(path[:end])
                if known is not None:
                    self._places.move_to_end(path[:end])
                    real = known
                    break
                end = max(0, path.rfind(b"/", 0, end))
        begin = end + 1 if end else 0
        while begin < len(path):
            end = path.find(b"/", begin)
            end = len(path) if end < 0 else end
            real = self.follow(real, path[begin:end])
            begin = end + 1
            with self._lock:
                self._places[path[:end]] = real
                if len(self._places) > _PLACES_MOST:
                    self._places.popitem(last=False)
        return real

    def follow(self, real: bytes, name: bytes) -> bytes:
        """Return the real path of what a name leads to, which is a link or not.

        Args:
            real: the real path of the folder that it is in.
            name: one part.

        Raises:
            FileError: it leads to nothing, or out of the folders.
        """
        left = [name]  # parts of the way, the next one last
        links = parts = 0
        while left:
            part = left.pop()
            parts += 1
            if parts > PARTS_MOST:
                raise FileError(f"is a symbolic link over more than {PARTS_MOST:,} parts")
            if part in _STAY or part == b"..":
                self._require_folder(real)
                real = real if part in _STAY else os.path.dirname(real)
                continue
            there = os.path.join(real, part)
            target = self._readlink(there)
            if target is None:
                real = there
                continue
            links += 1
            if links > LINKS_MOST:
                raise FileError(os.strerror(errno.ELOOP))
            if target.startswith(b"/"):
                real = b"/"
            left += reversed(target.split(b"/"))
        self.inside(real)
        return real

    def _readlink(self, real: bytes) -> bytes | None:
        """Return the target of a link; None if it is not a link.

        Outside the folders, links are only read by name to find where the path goes on: it must
        come back into a folder, or nothing is opened.
        """
        base, path = self._base(real)
        try:
            return os.readlink(real) if base is None else base.readlink(path) if path else None
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise FileError(error.strerror or str(error)) from error

    def target(self, real: bytes, name: bytes) -> bytes:
        """Return the target text of a link, for messages; the arguments are as for `follow`."""
        return self._readlink(os.path.join(real, name)) or b""

    def _require_folder(self, real: bytes) -> None:
        base, path = self._base(real)
        with file_errors():
            if base is not None:
                base.folder(path)
            elif not os.path.isdir(real):
                raise FileError(os.strerror(errno.ENOTDIR))

    def _base(self, real: bytes) -> tuple[Below | None, bytes]:
        for base in self._bases:
            if real == base.real:
                return base, b""
            prefix = base.real.rstrip(b"/") + b"/"
            if real.startswith(prefix):
                return base, real[len(prefix) :]
        return None, b""

    def inside(self, real: bytes) -> tuple[Below, bytes]:
        """Return which of the folders that links may lead to contains a real path, and the rest of
        the path.

        Raises:
            FileError: it is below none.
        """
        base, path = self._base(real)
        if base is None:
            raise FileError(f"is a symbolic link to {quoted(real)}, out of the folder")
        return base, path

    def open(self, path: bytes, flags: int) -> int:
        """Open a file of the folder, and return the descriptor, which the caller closes.

        Raises:
            OSError: not readable.
            FileError: it leads to nothing, or out of the folders.
        """
        folder, _, name = path.rpartition(b"/")
        parent = self.real_folder(folder)
        base, below = self.inside(os.path.join(parent, name))
        try:
            return base.open(below, flags)
        except OSError as error:
            if error.errno not in IS_LINK:
                raise
        base, below = self.inside(self.follow(parent, name))
        return base.open(below, flags)


def leads_out(path: bytes, target: bytes, root: bytes) -> bool:
    """Return whether a link of a folder leads out of it, by what it holds. Other links on its way
    are not looked at.

    Args:
        path: of the link, in the folder.
        target: what it holds.
        root: the real path of the folder.
    """
    there = os.path.normpath(os.path.join(root, os.path.dirname(path), target))
    return there != root and not there.startswith(root.rstrip(b"/") + b"/")


def folders_outside(
    root: str, folders: Sequence[str | os.PathLike[str]], what: str
) -> tuple[str, ...]:
    """Return the paths of folders as `Options.links_below` has them: relative to a folder.

    Args:
        root: the folder, by the path that a user gave.
        folders: folders outside it that links may also lead into.
        what: what messages call them.

    Raises:
        FileError: one of them is not a folder.
        ValueError: one of them is the folder or in it, or has no text; or the folder is a URL.
        TypeError: `folders` is one path.
    """
    if isinstance(folders, str | bytes | os.PathLike):
        raise TypeError(f"{what} is of type {type(folders).__name__}, must be a sequence of paths")
    found = set()
    for each in folders:
        name = os.fspath(each)
        shown = quoted(os.fsencode(name))
        if is_url(root) or is_url(name):
            raise ValueError(f"{what} has {shown}, must be empty for a URL, and have none")
        try:
            with file_errors():
                real = os.path.realpath(name, strict=True)
                if not os.path.isdir(real):
                    raise FileError("is not a folder")
        except FileError as error:
            raise FileError(f"{what} has {shown}: {error}") from error
        path = os.path.relpath(real, os.path.realpath(root))
        if not is_text(path):
            raise ValueError(f"{what} has {shown}, must be UTF-8 as seen from the folder")
        if path.split(os.sep)[0] != os.pardir:
            raise ValueError(f"{what} has {shown}, must not be in the folder, where links may lead")
        found.add(path)
    return tuple(sorted(found))
