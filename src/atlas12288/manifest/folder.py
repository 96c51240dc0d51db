# SPDX-License-Identifier: Apache-2.0
"""A folder of this machine as the source of a manifest."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

from ..files import CHANGED, FileError, file_errors, require_regular
from .paths import check_path, quoted
from .rules import Rules
from .sources import Found, Problem

# O_NONBLOCK: to open what has become a FIFO would hang.
# A few folders with some links to the next are reached in millions of ways.
LINKS_MOST: Final = 1000
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _Way(NamedTuple):
    """How a listing came to where it is.

    Attributes:
        around: the real paths of the folder and of those to which links on the way led.
        links: how many links led to each folder, on all ways so far.
    """

    around: tuple[bytes, ...]
    links: Counter[bytes]


class Folder:
    """A folder. Links are listed or followed as the rules say, and never out of it.

    Args:
        root: its path.
        paths: list these alone, files and folders below the root; all of it where empty.

    Raises:
        FileError: the root is not a folder.
        WitnessError: one of the paths leads out of it.
    """

    def __init__(self, root: str | bytes | os.PathLike[str], paths: Sequence[bytes] = ()) -> None:
        self._root = os.fsencode(root)
        self._paths = tuple(check_path(path, "path") for path in paths)
        with file_errors():
            if not stat.S_ISDIR(os.stat(self._root).st_mode):
                raise FileError("is not a folder")
            self._real_root = os.path.realpath(self._root)

    def __getstate__(self) -> dict[str, object]:
        # The process that gets it may be in another working directory.
        return {**self.__dict__, "_root": os.path.abspath(self._root)}

    @property
    def name(self) -> str:
        """The path of the folder."""
        return os.fsdecode(self._root)

    def list(self, rules: Rules, problem: Problem) -> Iterator[Found]:
        """Its files and symbolic links, in any order. See `Source.list`."""
        way = _Way((self._real_root,), Counter())
        if not self._paths:
            yield from self._list_folder(b"", rules, problem, way)
        for path in self._paths:
            yield from self._list_path(path, rules, problem, way)

    def _list_path(self, path: bytes, rules: Rules, problem: Problem, way: _Way) -> Iterator[Found]:
        parents = path.split(b"/")[:-1]
        for count in range(1, len(parents) + 1):
            if os.path.islink(self._at(b"/".join(parents[:count]))):
                problem(path, "is below a symbolic link, which is not followed")
                return
        try:
            with file_errors():
                status = os.lstat(self._at(path))
        except FileError as error:
            problem(path, str(error))
            return
        if not rules.excludes_named(path, stat.S_ISDIR(status.st_mode)):
            yield from self._list_one(path, status, rules, problem, way)

    def _list_folder(
        self, start: bytes, rules: Rules, problem: Problem, way: _Way
    ) -> Iterator[Found]:
        """What is in a folder."""
        # A stack, not recursion: folders may be nested deeper than Python calls.
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            try:
                with file_errors(), os.scandir(self._at(folder)) as entries:
                    for entry in entries:
                        path = folder + b"/" + entry.name if folder else entry.name
                        is_folder = entry.is_dir(follow_symlinks=False)
                        if rules.excludes(path, is_folder):
                            continue
                        if is_folder:
                            waiting.append(path)
                            continue
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue  # gone since the folder was read: no part of it
                        if stat.S_ISREG(status.st_mode):  # by far the most: at once
                            if not rules.outputs.has_file(path, status):
                                yield _found(path, status)
                            continue
                        yield from self._list_one(path, status, rules, problem, way)
            except FileError as error:
                # One that is gone since it was listed is no part of it, as a file.
                if folder == start or not isinstance(error.__cause__, FileNotFoundError):
                    problem(folder or b".", str(error))

    def _list_one(
        self,
        path: bytes,
        status: os.stat_result,
        rules: Rules,
        problem: Problem,
        way: _Way,
    ) -> Iterator[Found]:
        try:
            if stat.S_ISLNK(status.st_mode):
                yield from self._list_link(path, rules, problem, way)
            elif stat.S_ISDIR(status.st_mode):
                yield from self._list_folder(path, rules, problem, way)
            else:
                require_regular(status.st_mode)
                if not rules.outputs.has_file(path, status):
                    yield _found(path, status)
        except FileError as error:
            problem(path, str(error))

    def _list_link(self, path: bytes, rules: Rules, problem: Problem, way: _Way) -> Iterator[Found]:
        with file_errors():
            target = os.readlink(self._at(path))
        if rules.symlinks == "record":
            yield Found(path, 0, "", target)
            return
        if rules.symlinks == "error":
            raise FileError(f"is a symbolic link to {quoted(target)}, must not be one")
        real = self._inside(path)
        with file_errors():
            status = os.stat(real)
            around = os.path.realpath(os.path.dirname(self._at(path)))
        if not stat.S_ISDIR(status.st_mode):
            yield from self._list_one(path, status, rules, problem, way)
        elif real in way.around or (around + b"/").startswith(real + b"/"):
            raise FileError(f"is a symbolic link to {quoted(target)}, a folder around it")
        elif way.links[real] == LINKS_MOST:
            raise FileError(
                f"is a symbolic link to {quoted(target)}, to which links lead in more than "
                f"{LINKS_MOST:,} ways"
            )
        else:
            way.links[real] += 1
            inside = way._replace(around=(*way.around, real))
            yield from self._list_folder(path, rules, problem, inside)

    def _inside(self, path: bytes) -> bytes:
        """The real path of what a link leads to."""
        with file_errors():
            real = os.path.realpath(self._at(path), strict=True)
        if real != self._real_root and not real.startswith(self._real_root.rstrip(b"/") + b"/"):
            raise FileError(f"is a symbolic link to {quoted(real)}, out of the folder")
        return real

    def open(self, found: Found) -> FolderReader:
        """A file that `list` gave. See `Source.open`."""
        path = self._at(found.path)
        # What was listed was judged then, and is compared after it is opened.
        try:
            descriptor = os.open(path, _OPEN_FLAGS | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise FileError(error.strerror or str(error)) from error
            path = self._inside(found.path)
            with file_errors():
                descriptor = os.open(path, _OPEN_FLAGS)
        return FolderReader(descriptor, found)

    def read_small(self, path: bytes) -> bytes | None:
        """The bytes of a small file; symbolic links are not followed. See `Source.read_small`."""
        try:
            descriptor = os.open(self._at(path), _OPEN_FLAGS | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            link = error.errno == errno.ELOOP
            reason = "is a symbolic link, which is not followed" if link else error.strerror
            raise FileError(reason or str(error)) from error
        with file_errors(), open(descriptor, "rb") as file:
            require_regular(os.fstat(descriptor).st_mode)
            return file.read()

    def _at(self, path: bytes) -> bytes:
        return os.path.join(self._root, path) if path else self._root


class FolderReader:
    """An open file of a folder; see `Reader`. A million small files are opened one after another,
    so it does without what is not needed for each."""

    __slots__ = ("_descriptor", "_found")

    def __init__(self, descriptor: int, found: Found) -> None:
        self._descriptor = descriptor
        self._found = found

    def __enter__(self) -> Self:
        try:
            self.finish()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills the buffer from `offset` on. See `Reader.read_into`."""
        filled = 0
        try:
            while filled < len(buffer):
                count = os.preadv(self._descriptor, (buffer[filled:],), offset + filled)
                if count == 0:
                    break
                filled += count
        except OSError as error:
            raise FileError(error.strerror or str(error)) from error
        return filled

    def finish(self) -> None:
        """Raises FileError where the file is not what was listed. See `Reader.finish`."""
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise FileError(error.strerror or str(error)) from error
        if status.st_size != self._found.size or _identity(status) != self._found.identity:
            require_regular(status.st_mode)
            raise FileError(CHANGED)


def _found(path: bytes, status: os.stat_result) -> Found:
    return Found(path, status.st_size, _identity(status), None, status.st_mtime_ns)


def _identity(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns} {status.st_ino}"
