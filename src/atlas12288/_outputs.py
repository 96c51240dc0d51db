# SPDX-License-Identifier: Apache-2.0
"""Files that are written completely or not at all, and never replace a file that is not ours.

The user did not type some of their names, and somebody else may have filled the folder. So each
name is looked up in its folder, which is held open, and an existing file is judged by its content.
"""

import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Final, NamedTuple, Self

from ._files import FileError, RegularFile, file_errors, require_writable, shown

# The folder is never listed, so that permission to search it is enough.
_FOLDER_FLAGS: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_MODE: Final = 0o666  # the umask applies as to any new file


class OutputKind(NamedTuple):
    """A kind of file that is written and may only replace a file of the same kind.

    Attributes:
        words: the name of the kind in messages about a file of another kind.
        is_one: returns whether an open file with at least one byte is of this kind; may raise
            FileError.
        through_links: whether the name may be a symbolic link to such a file; only for names that a
            user typed.
        way_out: what to do with a file of another kind, for the message.
    """

    words: str
    is_one: Callable[[RegularFile], bool]
    through_links: bool = False
    way_out: str = ""


# The names that `temporary_name` gives.
TEMPORARY: Final = re.compile(r"\.atlas12288-[0-9a-f]{16}\.tmp")


def temporary_name() -> str:
    """Return a unique, unpredictable name in the folder of an output."""
    return f".atlas12288-{os.urandom(8).hex()}.tmp"


class Target:
    """The name of an output and the file there now; a context manager that closes the folder.

    Args:
        name: of the file to write or replace.
        kind: the kind of file that it may replace, besides an empty file that is not a link.
        inputs: files that are read; none of them may be replaced.

    Attributes:
        name: as above.

    Raises:
        FileError: the folder cannot be written to, or the existing file is not ours, such as a
            link.
    """

    def __init__(self, name: str, kind: OutputKind, inputs: Sequence[str] = ()) -> None:
        from pathlib import Path  # here: many runs write no file

        self.name = name
        self._kind = kind
        self._part: str | None = None  # the temporary file with the new content
        with file_errors():
            leads_to = _read_link(name)
            self._is_link = leads_to is not None
            if leads_to is not None:
                self._require_leads_to_one(leads_to)
            require_writable(name, list(inputs))
            place = Path(os.path.realpath(name) if self._is_link else name)
            self._name = place.name
            self._folder = os.open(place.parent, _FOLDER_FLAGS)
        try:
            self._before = self._judge()
        except BaseException:
            self.close()
            raise

    def _require_leads_to_one(self, leads_to: str) -> None:
        link = f"is a symbolic link to {shown(leads_to)}"
        if not self._kind.through_links:
            raise FileError(f"{link}, and is not replaced")
        try:
            with RegularFile(self.name) as file:
                if file.size > 0 and self._kind.is_one(file):
                    return
        except FileError as error:
            raise FileError(f"{link}, and is not followed: {error}") from error
        raise FileError(f"{link}, which is not a {self._kind.words}, and is not followed")

    def _judge(self, known: os.stat_result | None = None) -> os.stat_result | None:
        """Return the status of the file at the name; None if there is none.

        Args:
            known: the status that was judged before.

        Raises:
            FileError: it is not ours.
        """
        try:
            file = RegularFile(self._name, folder=self._folder, follow=False)
        except FileError as error:
            if isinstance(error.__cause__, FileNotFoundError) and not self._is_link:
                return None
            raise FileError(f"{error}, and is not replaced") from error
        with file:
            if known is not None and _identity(known) == _identity(file.status):
                return known
            is_new = file.size == 0 and not self._is_link
            if not is_new and not self._kind.is_one(file):
                kind = self._kind
                raise FileError(f"is not a {kind.words}, and is not replaced{kind.way_out}")
            return file.status

    @property
    def has_content(self) -> bool:
        """Whether a file with at least a byte has the name already."""
        return self._before is not None and self._before.st_size > 0

    def open(self) -> BinaryIO:
        """Create a new file for the content, under a temporary name in the same folder.

        Raises:
            OSError: it cannot be made.
        """
        before, part = self._before, temporary_name()
        # A file that replaces a private file is private from its first byte.
        mode = _NEW_MODE if before is None else stat.S_IRUSR | stat.S_IWUSR
        descriptor = os.open(part, _NEW_FLAGS, mode, dir_fd=self._folder)
        self._part = part
        file = io.BufferedWriter(io.FileIO(descriptor, "wb"))
        try:
            if before is not None:
                _keep_access(descriptor, before)
        except BaseException:
            file.close()
            raise
        return file

    def check(self) -> None:
        """Judge the file at the name once more.

        Raises:
            FileError: it is not ours.
        """
        self._before = self._judge(self._before)

    def replace(self) -> None:
        """Give the name to the new file."""
        assert self._part is not None
        self._rename(self._part, self._name)
        self._part = None

    def put_aside(self) -> str | None:
        """Move the file at the name aside; return its new name."""
        if self._before is None:
            return None
        aside = temporary_name()
        self._rename(self._name, aside)
        return aside

    def put_back(self, aside: str) -> None:
        """Rename a file that was put aside back to the name."""
        self._rename(aside, self._name)

    def remove(self, temporary: str | None) -> None:
        """Remove a temporary file of the folder; errors are ignored."""
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._folder)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def close(self) -> None:
        """Close the folder, and remove a new file that did not get the name."""
        self.remove(self._part)
        os.close(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_link(name: str) -> str | None:
    """Return the target of a symbolic link; None if the name is not a link."""
    try:
        return os.readlink(name)  # noqa: PTH115 - Path("") would mean the folder
    except OSError:  # not a link, or not there; other errors show when it is used
        return None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return values that stay the same until a file is replaced or written."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _keep_access(descriptor: int, before: os.stat_result) -> None:
    """Give a new file the owner, group and mode of the file that it replaces, where permitted."""
    mode = stat.S_IMODE(before.st_mode) & 0o777
    now = os.fstat(descriptor)
    if before.st_uid != now.st_uid:
        with suppress(OSError):  # only root may
            os.fchown(descriptor, before.st_uid, -1)
    if before.st_gid != now.st_gid:
        try:
            os.fchown(descriptor, -1, before.st_gid)
        except OSError:
            # Another group gets no more than all others.
            mode = mode & 0o707 | (mode & 0o007) << 3
    os.fchmod(descriptor, mode)


@contextmanager
def atomic_write(name: str, kind: OutputKind) -> Iterator[BinaryIO]:
    """Yield a file to write, which gets its name only when it is complete and on the disk.

    Until then, and after any failure or Ctrl-C, the old file stays. The new file keeps the mode of
    the old one and, if permitted, its owner and group.

    Args:
        name: the file to write or replace.
        kind: what it may replace.

    Raises:
        FileError: the file cannot be written, or what is there is not ours.
    """
    with Target(name, kind) as target, atomic_write_all(target) as (file,):
        yield file


def open_outdated(name: str, kind: OutputKind) -> Target | None:
    """Return the target of a file that belongs to an output as it is and gets no successor.

    Args:
        name: of the file.
        kind: what it must be.

    Returns:
        The target, or None if there is no such file, or it is empty or not ours: then it stays.
    """
    try:
        target = Target(name, kind)
    except FileError:
        return None
    if target.has_content:
        return target
    target.close()
    return None


@contextmanager
def atomic_write_all(
    first: Target, *others: Target, outdated: Target | None = None
) -> Iterator[tuple[BinaryIO, ...]]:
    """Yield files to write as with `atomic_write`; none gets its name before all are on disk.

    Args:
        first: the target of the first file.
        others: the targets of the files that belong to it. Old ones are removed before the first
            file gets its name, and new ones get theirs after it. So even after a crash, no file
            lies beside a first file that it does not belong to.
        outdated: the target of a file that belongs to the old first file, and is removed with it.

    Raises:
        FileError: as for `atomic_write`.
    """
    targets = (first, *others)
    try:
        with ExitStack() as stack:
            files = tuple(stack.enter_context(target.open()) for target in targets)
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        removed = () if outdated is None else (outdated,)
        for target in (*targets, *removed):
            target.check()
        _rename_all(first, others, removed)
    except OSError as error:
        # A regular file is not a pipe: a broken pipe is the caller's, such as standard output.
        if isinstance(error, BrokenPipeError):
            raise
        raise FileError(error.strerror or os.strerror(errno.EIO)) from error


def _rename_all(first: Target, others: Sequence[Target], removed: Sequence[Target]) -> None:
    aside: list[tuple[Target, str | None]] = []
    try:
        aside += ((target, target.put_aside()) for target in (*others, *removed))
        first.replace()
    except BaseException:
        for target, name in aside:
            if name is not None:
                target.put_back(name)
        raise
    try:
        for target in others:
            target.replace()
    finally:
        for target, name in aside:
            target.remove(name)
