# SPDX-License-Identifier: Apache-2.0
"""A folder of this machine as the source of a manifest."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

from ..._files import CHANGED, FileError, file_errors, grown, read_at, require_regular
from ..._native import list_folder, read_files, witness_files
from ..._subtree import BLOCK_BYTES
from ..._witness import Witness
from .._paths import PATH_MOST_BYTES, quoted
from .descriptors import IS_LINK, Below
from .links import Links
from .selection import Selection
from .siblings import SIBLINGS_MOST, Siblings, Wanted
from .source import SMALL_MOST_BYTES, Found, Problem, Reader, Source, require_small

# A few folders with some links to the next are reached in millions of ways.
LINKS_MOST: Final = 1000
# Folders can be nested without end, and the cost of each step grows with the path.
# O_NONBLOCK: opening a file that has become a FIFO would hang.
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_ENCODING: Final = sys.getfilesystemencoding()  # os.fsencode, for a million names
_CHANGED_LISTED: Final = "changed while it was listed"
# A folder with more entries is listed one by one, in constant memory.
_ENTRIES_MOST: Final = 200_000
# Outputs below the folder that a walk looks for, by device and inode.
_WATCHED_MOST: Final = 16
# A year after 2262 is more than native code has room for.
_TIME_MOST_NS: Final = 2**63 - 1
# More than a name has on any system.
_NAME_MOST_BYTES: Final = 4096
# Native work on siblings ends after this time, so that Ctrl-C is heard.
_STOP_NS: Final = 50 * 10**6
# What `list_folder` says of an entry.
_FILE, _FOLDER, _ = range(3)
_RUNS: Final = re.compile(rb"\0{1,%d}|[^\0]" % SIBLINGS_MOST)


class _Way(NamedTuple):
    """The path of a listing to the current folder.

    Attributes:
        folders: real paths of the folder and of the folders that links on the way led to.
        links: how many links led to each folder, on all ways so far.
    """

    folders: tuple[bytes, ...]
    links: Counter[bytes]


class _Waiting(NamedTuple):
    """A folder that is to be listed.

    Attributes:
        path: as in the manifest.
        way: how the listing came there.
        must: whether it is a problem if the folder is gone; one that was only listed is left out.
    """

    path: bytes
    way: _Way
    must: bool = False


_Stack = list[_Waiting]
# In the order of paths. Bytes: the path of what is neither a plain file nor a folder.
_Content = list[Siblings | _Waiting | bytes]
_Watched = list[tuple[int, int]]  # device and inode


class Folder(Source):
    """A folder of this machine.

    Links are listed or followed as the selection says; never out of the folder, except to where the
    selection lets them lead.

    All in it is opened by descriptors: see `descriptors`. It can be pickled: another process opens
    it again by its real path.

    Args:
        root: its path.
        only: the name of the one file that this is about, for a URL of a file; None for a folder.

    Raises:
        FileError: the root is not a folder.
    """

    # Whether small files are listed and read many at once, and large ones in turns. A test sets it
    # to False, to list and read the same files one by one.
    batches = True

    def __init__(self, root: str | bytes | os.PathLike[str], *, only: bytes | None = None) -> None:
        self._root = os.fsencode(root)
        self._only = only
        self._below = _below(self._root)
        self._links: Links | None = None  # where they are followed

    def __getstate__(self) -> dict[str, object]:
        # The process that gets it may be in another working directory.
        return {**self.__dict__, "_root": os.path.abspath(self._root)}

    @property
    def name(self) -> str:
        """Path of the folder."""
        return os.fsdecode(self._root)

    def list(self, selection: Selection, problem: Problem) -> Iterator[Found]:
        """Yield its files and symbolic links, in any order. See `Source.list`.

        The rules of the selection for links also apply to `open`.
        """
        self._links = None
        if selection.symlinks == "follow":
            self._links = Links(
                self._below, [self._outside(name) for name in selection.links_below]
            )
        return self._list(selection, problem)

    def _outside(self, name: str) -> Below:
        """Return a folder outside this one that links may lead to."""
        try:
            return _below(os.path.join(self._below.real, os.fsencode(name)))
        except FileError as error:
            raise FileError(f"links may lead below {quoted(os.fsencode(name))}: {error}") from error

    def _list(self, selection: Selection, problem: Problem) -> Iterator[Found]:
        way = _Way((self._below.real,), Counter())
        paths = selection.paths if self._only is None else (self._only,)
        if not paths:
            yield from self._walk([_Waiting(b"", way, must=True)], selection, problem)
        for path in paths:
            yield from self._list_path(path, selection, problem, way)

    def _list_path(
        self, path: bytes, selection: Selection, problem: Problem, way: _Way
    ) -> Iterator[Found]:
        waiting: _Stack = []
        try:
            with file_errors():
                end = path.find(b"/")
                while end >= 0:
                    if stat.S_ISLNK(self._below.status(path[:end]).st_mode):
                        raise FileError("is below a symbolic link, which is not followed")
                    end = path.find(b"/", end + 1)
                status = self._below.status(path)
        except FileError as error:
            problem(path, str(error))
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if selection.leave_out_named(path, is_folder):
            return
        if is_folder:
            waiting.append(_Waiting(path, way, must=True))
        else:
            yield from self._list_one(path, status, selection, problem, way, waiting)
        yield from self._walk(waiting, selection, problem)

    def walk(self, selection: Selection, problem: Problem) -> Iterator[Found | Siblings] | None:
        """List whole folders at once. See `Source.walk`."""
        watched = selection.outputs.files
        if (
            not self.batches
            or self._only is not None
            or selection.paths
            or selection.symlinks == "follow"
            or len(watched) > _WATCHED_MOST
        ):
            return None
        self._links = None
        return self._walk_in_order(selection, problem, watched)

    def _walk_in_order(
        self, selection: Selection, problem: Problem, watched: _Watched
    ) -> Iterator[Found | Siblings]:
        way = _Way((self._below.real,), Counter())
        # The next one is the last.
        waiting: _Content = [_Waiting(b"", way, must=True)]
        while waiting:
            item = waiting.pop()
            if isinstance(item, Siblings):
                yield item
            elif isinstance(item, _Waiting):
                try:
                    with file_errors():
                        found = self._content(item, selection, watched)
                except FileError as error:
                    _cannot_list(item, error, problem)
                    continue
                if found is None:
                    yield from self._walk([item], selection, problem)
                else:
                    waiting += reversed(found)
            else:
                try:
                    with file_errors():
                        status = self._below.status(item)
                except FileError as error:
                    if not isinstance(error.__cause__, FileNotFoundError):
                        problem(item, str(error))
                    continue
                yield from self._list_one(item, status, selection, problem, way, [])

    def _content(
        self, waiting: _Waiting, selection: Selection, watched: _Watched
    ) -> _Content | None:
        """Return what is in a folder, in the order of paths; None if it must be listed one by one,
        as `_walk` does."""
        folder, way, _ = waiting
        parent = folder + b"/" if folder else b""
        if len(parent) + _NAME_MOST_BYTES > PATH_MOST_BYTES:
            return None
        descriptor = self._below.open_folder(folder)
        try:
            listed = list_folder(descriptor, BLOCK_BYTES, _ENTRIES_MOST, watched)
        finally:
            os.close(descriptor)
        if listed is None:
            return None
        names, numbers, kinds = listed
        each = names.split(b"\0")
        if selection.exclude:
            kept = selection.kept(parent, each[:-1], [kind == _FOLDER for kind in kinds])
            each = [each[number] for number in kept] + [b""]
            kinds = bytes([kinds[number] for number in kept])
            numbers = b"".join([numbers[24 * number : 24 * number + 24] for number in kept])
        found: _Content = []
        for run in _RUNS.finditer(kinds):
            start, end = run.span()
            if kinds[start] == _FOLDER:
                found.append(_Waiting(parent + each[start], way))
            elif kinds[start] == _FILE:
                names = b"\0".join([*each[start:end], b""])
                found.append(Siblings(folder, names, numbers[24 * start : 24 * end]))
            else:
                found.append(parent + each[start])
        return found

    def _walk(self, waiting: _Stack, selection: Selection, problem: Problem) -> Iterator[Found]:
        """Yield the content of folders. Uses a stack: folders and links may be nested deeper than
        Python calls."""
        while waiting:
            item = waiting.pop()
            folder, way, _ = item
            parent = folder + b"/" if folder else b""
            try:
                with file_errors(), self._scan(folder) as entries:
                    for entry in entries:
                        path = parent + entry.name.encode(_ENCODING, "surrogateescape")
                        if len(path) > PATH_MOST_BYTES:
                            raise FileError(f"has paths of more than {PATH_MOST_BYTES:,} bytes")
                        is_folder = entry.is_dir(follow_symlinks=False)
                        if selection.excludes(path, is_folder):
                            continue
                        if is_folder:
                            waiting.append(_Waiting(path, way))
                            continue
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue  # gone since the folder was read: no part of it
                        if self._links is None and stat.S_ISREG(status.st_mode):
                            # By far the most common case, so tested first.
                            if not selection.outputs.has_file(path, status):
                                yield Found(
                                    path,
                                    status.st_size,
                                    _identity(status),
                                    None,
                                    max(status.st_mtime_ns, status.st_ctime_ns),
                                )
                            continue
                        yield from self._list_one(path, status, selection, problem, way, waiting)
            except FileError as error:
                _cannot_list(item, error, problem)

    @contextmanager
    def _scan(self, folder: bytes) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Yield the entries of a folder; its descriptor stays open while they are in use."""
        below, path = self._below, folder
        if self._links is not None:
            below, path = self._links.inside(self._links.real_folder(folder))
        descriptor = below.open_folder(path)
        try:
            with os.scandir(descriptor) as entries:
                yield entries
        finally:
            os.close(descriptor)

    def _list_one(
        self,
        path: bytes,
        status: os.stat_result,
        selection: Selection,
        problem: Problem,
        way: _Way,
        waiting: _Stack,
    ) -> Iterator[Found]:
        """Yield a file or link, which is not a folder."""
        try:
            with file_errors():
                if not stat.S_ISLNK(status.st_mode):
                    found = self._file(path, status, selection)
                elif self._links is None:
                    found = self._link(path, selection)
                else:
                    found = self._follow(self._links, path, selection, way, waiting)
        except FileError as error:
            problem(path, str(error))
            return
        if found is not None:
            yield found

    def _file(
        self, path: bytes, status: os.stat_result, selection: Selection, real: bytes = b""
    ) -> Found | None:
        require_regular(status.st_mode)
        if selection.outputs.has_file(path, status):
            return None
        identity = _identity(status)
        if self._links is not None:
            folder, name = os.path.split(path)
            real = real or os.path.join(self._links.real_folder(folder), name)
            if real != os.path.join(self._below.real, path):
                # A link that now leads to another file with the same times must not look unchanged.
                identity += f" {Witness.generate(real).hexdigest()}"
        written_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        return Found(path, status.st_size, identity, None, written_ns)

    def _link(self, path: bytes, selection: Selection) -> Found:
        try:
            target = self._below.readlink(path)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise FileError(f"{_CHANGED_LISTED}: it is no longer a symbolic link") from error
            raise
        if selection.symlinks == "error":
            raise FileError(f"is a symbolic link to {quoted(target)}, must not be one")
        return Found(path, 0, "", target)

    def _follow(
        self, links: Links, path: bytes, selection: Selection, way: _Way, waiting: _Stack
    ) -> Found | None:
        folder, _, name = path.rpartition(b"/")
        parent = links.real_folder(folder)
        real = links.follow(parent, name)
        below, rest = links.inside(real)
        status = below.status(rest) if rest else os.stat(below.folder(b"").number)
        if not stat.S_ISDIR(status.st_mode):
            return self._file(path, status, selection, real)
        if real in way.folders or (parent + b"/").startswith(real.rstrip(b"/") + b"/"):
            target = links.target(parent, name)
            raise FileError(f"is a symbolic link to {quoted(target)}, a folder around it")
        if way.links[real] == LINKS_MOST:
            target = links.target(parent, name)
            raise FileError(
                f"is a symbolic link to {quoted(target)}, to which links lead in more than "
                f"{LINKS_MOST:,} ways"
            )
        way.links[real] += 1
        waiting.append(_Waiting(path, way._replace(folders=(*way.folders, real)), must=True))
        return None

    def open(self, found: Found) -> FolderReader:
        """Open a file that `list` yielded. See `Source.open`."""
        try:
            # The file was checked when it was listed, and is compared after it is opened.
            descriptor = (self._links or self._below).open(found.path, _OPEN_FLAGS)
        except OSError as error:
            raise FileError(_words(error)) from error
        return FolderReader(descriptor, found)

    @property
    def in_turns(self) -> bool:
        """Whether one thread reads several large files in turns. See `Source.in_turns`."""
        return self.batches

    def read_files(self, founds: Sequence[Found], buffer: memoryview) -> bytes:
        """Read small files without the interpreter's lock. See `Source.read_files`."""
        folders, names, times = [], [], []
        try:
            for found in founds:
                parent, _, name = found.path.rpartition(b"/")
                modified, _, _ = found.identity.partition(" ")
                # Where links are followed, each path is judged part by part.
                if self._links is not None or found.exact or not self.batches or not modified:
                    return super().read_files(founds, buffer)
                folders.append(self._below.folder(parent))
                names.append(name)
                times.append(int(modified))
        except (FileError, OSError):
            return super().read_files(founds, buffer)
        if max(map(abs, times), default=0) > _TIME_MOST_NS:
            return super().read_files(founds, buffer)
        sizes = [found.size for found in founds]
        return read_files([folder.number for folder in folders], names, sizes, times, buffer)

    def witness_siblings(
        self, groups: Sequence[Siblings], first: int, buffer: memoryview, wanted: Wanted
    ) -> tuple[bytes, bytes]:
        """Read and hash without the interpreter's lock. See `Source.witness_siblings`."""
        try:
            folders = [self._below.folder(group.folder) for group in groups]
        except (FileError, OSError):
            return super().witness_siblings(groups, first, buffer, wanted)
        files = [
            (folder.number, group.names, group.numbers)
            for folder, group in zip(folders, groups, strict=True)
        ]
        return witness_files(files, first, buffer, _STOP_NS, *wanted)

    def read_small(self, path: bytes) -> bytes | None:
        """Return the bytes of a small file, without following links. See `Source.read_small`."""
        try:
            descriptor = self._below.open(path, _OPEN_FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            link = error.errno in IS_LINK
            reason = "is a symbolic link, which is not followed" if link else error.strerror
            raise FileError(reason or str(error)) from error
        with file_errors(), open(descriptor, "rb") as file:
            require_regular(os.fstat(descriptor).st_mode)
            return require_small(file.read(SMALL_MOST_BYTES + 1))


def _cannot_list(waiting: _Waiting, error: FileError, problem: Problem) -> None:
    """Tell that a folder cannot be listed, unless it was only listed itself and is gone."""
    folder, _, must = waiting
    if must or not isinstance(error.__cause__, FileNotFoundError):
        replaced = not must and isinstance(error.__cause__, NotADirectoryError)
        reason = f"{_CHANGED_LISTED}: it is no longer a folder" if replaced else str(error)
        problem(folder or b".", reason)


def _below(name: bytes) -> Below:
    with file_errors():
        try:
            return Below(name)
        except NotADirectoryError as error:
            raise FileError("is not a folder") from error


class FolderReader(Reader):
    """An open file of a folder; see `Reader`. A million small files are opened one after another,
    so it does no more for each than it must."""

    __slots__ = ("_descriptor", "_found", "_times")

    def __init__(self, descriptor: int, found: Found) -> None:
        self._descriptor = descriptor
        self._found = found
        self._times = (0, 0)

    def __enter__(self) -> Self:
        try:
            found = self._found
            status = os.fstat(self._descriptor)
            require_regular(status.st_mode)
            # Not the ctime: a hard link or a mode that came since the listing changes no byte of
            # what is read now. But if a part was read before, the content must still be the same.
            now = _identity(status) if found.exact else f"{status.st_mtime_ns}"
            if status.st_size != found.size or not f"{found.identity} ".startswith(f"{now} "):
                raise FileError(CHANGED)
            self._times = status.st_mtime_ns, status.st_ctime_ns
        except BaseException as error:
            os.close(self._descriptor)
            if isinstance(error, OSError):
                raise FileError(error.strerror or str(error)) from error
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from `offset` on. See `Reader.read_into`."""
        try:
            return read_at(self._descriptor, offset, buffer)
        except OSError as error:
            raise FileError(error.strerror or str(error)) from error

    def finish(self) -> None:
        """Raise FileError if the file is not the one that was opened. See `Reader.finish`."""
        size = self._found.size
        try:
            more = os.pread(self._descriptor, 1, size)
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise FileError(error.strerror or str(error)) from error
        if more:
            raise grown(size)
        if status.st_size != size or status.st_mtime_ns != self._times[0]:
            raise FileError(CHANGED)
        if status.st_ctime_ns != self._times[1]:
            raise FileError(f"{CHANGED}: its ctime did, by a link to it, its mode or its content")


def _identity(status: os.stat_result) -> str:
    """Return a text that differs when a file was changed. It leaves out the inode: file systems in
    user space forget it and assign another one."""
    return f"{status.st_mtime_ns} {status.st_ctime_ns}"


def _words(error: OSError) -> str:
    """Return why a file that was listed cannot be opened."""
    if error.errno in IS_LINK:
        return f"{CHANGED}: it is a symbolic link now"
    if error.errno == errno.ENOTDIR:
        return f"{CHANGED}: a folder around it is no longer a folder"
    return error.strerror or str(error)
