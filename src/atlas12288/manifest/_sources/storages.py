# SPDX-License-Identifier: Apache-2.0
"""How each kind of storage is listed and read: through fsspec in general, and in a specific way for
some kinds.

The bytes of one request belong to one content; the bytes of two requests need not. So a file that
is read in several requests needs something that shows each write: an ETag with every answer (http,
S3), or a version or time that is checked before and after. A file that has none is read as one
stream if the storage has streams, and otherwise only if one request is enough.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from posixpath import normpath
from typing import Any, Final, Protocol

from ..._files import CHANGED, FileError, shown
from ..._subtree import BLOCK_BYTES
from .identities import Info, etag_of, identity_of, is_same, tells_writing, written_ns
from .source import Found
from .storage_errors import called, is_gone, is_no_such_part, storage_errors

# Measured with a server that answers after 50 ms; docs/scale.md has the cost of more.
READERS: Final = 16
# Each stream of FTP is a connection, and many servers take few of one client.
_FTP_READERS: Final = 2
_LINK_MOST: Final = 4096  # bytes that a link in a zip file may hold: PATH_MAX
_OTHER_ETAG: Final = ("PreconditionFailed", "412")  # as code of S3
NO_PARTS: Final = "is not read: the server gives no parts of files"

# Called with a listed path that is not a file, and the reason.
Refuse = Callable[[str, str], object]


class Stream(Protocol):
    """The bytes of one file, in order, by one request."""

    def read(self, count: int) -> bytes:
        """Return the next bytes: as many as asked for, fewer only at the end.

        Raises:
            FileError: not readable.
        """

    def close(self) -> None:
        """Close the stream; bytes that were not read are dropped."""


class Storage:
    """A file system of fsspec, as one kind of storage. Names are as in the file system.

    Args:
        fs: the file system.
        scheme: of the URL.

    Attributes:
        readers: how many readers at once pay off.
        names_folders: whether the name of a folder ends with a slash.
        is_frozen: whether the content of a name never changes.
    """

    readers = READERS
    names_folders = False
    is_frozen = False

    def __init__(self, fs: Any, scheme: str) -> None:
        self.fs = fs
        self.scheme = scheme

    @property
    def root(self) -> str:
        """Return the name of the folder that contains all others."""
        return str(self.fs.root_marker)

    def list_folder(self, name: str, refuse: Refuse) -> Iterator[Info]:
        """Yield the current content of a folder, not an earlier listing that fsspec kept.

        Args:
            name: of the folder.
            refuse: called for each name that cannot be part of a manifest.

        Raises:
            FileError: it cannot be listed.
        """
        # Before, to drop what others listed; after, to keep nothing of this listing.
        self._forget()
        infos = called(self.fs.ls, name, detail=True)
        self._forget()
        yield from infos

    def info(self, name: str) -> Info:
        """Return what the storage says about a file or folder now.

        Raises:
            FileError: nothing is there, or it cannot be reached.
        """
        if not self.is_frozen:
            self._forget(name)
        info: Info = called(self.fs.info, name)
        return info

    def identity(self, info: Info) -> tuple[str, int]:
        """Return what `identity_of` returns."""
        return identity_of(info, self.scheme)

    def _forget(self, name: str | None = None) -> None:
        called(self.fs.invalidate_cache, name)

    # --- Reading

    def is_stream(self, found: Found) -> bool:
        """Return whether a file is read from beginning to end by one reader."""
        return False

    def require_readable(self, found: Found) -> None:
        """Refuse a file that needs several requests if nothing shows that it changed between them.

        Raises:
            FileError: it is such a file.
        """
        if not (found.size <= BLOCK_BYTES or self.is_frozen or self._tells_writing(found)):
            raise FileError(unheld(found))

    def _tells_writing(self, found: Found, now: str | None = None) -> bool:
        return tells_writing(found.identity, now)

    def written_ns(self, found: Found) -> int | None:
        """Return the time of a file if only that shows a change between requests; else None."""
        return None if found.size <= BLOCK_BYTES or self.is_frozen else written_ns(found.identity)

    def read(self, name: str, start: int, stop: int, found: Found) -> bytes:
        """Return the bytes start..stop-1 of a file, by one request; fewer at its end.

        Raises:
            FileError: not readable, or no longer what was listed.
        """
        from fsspec import AbstractFileSystem
        from fsspec.spec import AbstractBufferedFile

        with storage_errors():
            if type(self.fs).cat_file is not AbstractFileSystem.cat_file:
                return bytes(self.fs.cat_file(name, start=start, end=stop))
            with self.fs.open(name, "rb") as file:
                # Not read(): it never asks for a byte beyond the listed size, and it asks for
                # many bytes before they are wanted.
                if isinstance(file, AbstractBufferedFile):
                    return bytes(file._fetch_range(start, stop))
                file.seek(start)
                return bytes(file.read(stop - start))

    def read_empty(self, name: str, found: Found) -> bytes:
        """Return the first byte of a file that should be empty; b"" if it is.

        Raises:
            FileError: not readable.
        """
        try:
            return self.read(name, 0, 1, found)
        except FileError as error:
            # An empty file has no parts: if the server has no first byte, the file is empty.
            if is_no_such_part(error):
                return b""
            raise

    def open_stream(self, name: str, offset: int, found: Found) -> Stream:
        """Open the bytes of a file from `offset` on, by one request.

        Raises:
            FileError: not readable, or no longer what was listed.
        """
        raise NotImplementedError(type(self).__name__)

    def read_small(self, name: str, most: int) -> bytes | None:
        """Return at most `most` bytes of a file; None if there is no file.

        Raises:
            FileError: not readable.
        """
        try:
            return self.read(name, 0, most, Found(b"", most, ""))
        except FileError as error:
            if is_gone(error):
                return None
            if is_no_such_part(error):
                return b""
            raise

    def check(self, name: str, found: Found) -> None:
        """Compare a file that was read with its listing.

        Raises:
            FileError: it is a different file, or nothing shows whether it is.
        """
        info = self.info(name)
        identity, _ = self.identity(info)
        if info["type"] != "directory" and info.get("size") is None:
            raise FileError("is not compared with what was listed: the server gives no size now")
        same = info["type"] != "directory" and info.get("size") == found.size
        if not same or not is_same(found.identity, identity):
            raise FileError(CHANGED)
        several = found.size > BLOCK_BYTES and not self.is_frozen
        if several and not self._tells_writing(found, identity):
            raise FileError(unheld(found))


def unheld(found: Found) -> str:
    """Return why a file is not read in several requests."""
    count = -(-found.size // BLOCK_BYTES)
    return (
        f"is not read: its {found.size:,} bytes take {count:,} requests, and nothing that the "
        "storage says of it would show a change between two of them"
    )


class ConditionalStorage(Storage):
    """A storage that sends the ETag with each answer: several requests see the same content if all
    answers have the listed ETag."""

    def _tells_writing(self, found: Found, now: str | None = None) -> bool:
        return etag_of(found.identity) is not None or super()._tells_writing(found, now)

    def written_ns(self, found: Found) -> int | None:
        return super().written_ns(found) if etag_of(found.identity) is None else None


class S3Storage(ConditionalStorage):
    """Buckets, by s3fs."""

    def pages(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield the pages of a listing of all objects below a name, 1,000 objects on each."""
        bucket, key, _ = self.fs.split_path(name)
        request = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
        while True:
            page = called(self.fs.call_s3, "list_objects_v2", **request)
            yield page
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, name: str, start: int, stop: int, found: Found) -> bytes:
        return self._read(name, f"bytes={start}-{stop - 1}", stop - start, etag_of(found.identity))

    def read_empty(self, name: str, found: Found) -> bytes:
        return self._read(name, None, 1, etag_of(found.identity))

    def read_small(self, name: str, most: int) -> bytes | None:
        try:
            return self._read(name, None, most, None)
        except FileError as error:
            if is_gone(error):
                return None
            raise

    def _read(self, name: str, part: str | None, most: int, etag: str | None) -> bytes:
        from fsspec.asyn import sync
        from s3fs.core import _error_wrapper

        bucket, key, version = self.fs.split_path(name)
        request = {"Bucket": bucket, "Key": key}
        if version:
            request["VersionId"] = version
        if part is not None:
            request["Range"] = part
        if etag is not None:
            request["IfMatch"] = etag

        async def read() -> bytes:
            answer = await self.fs._call_s3("get_object", **request)
            body = answer["Body"]
            try:
                if etag is not None and answer.get("ETag") != etag:
                    raise _ChangedError(CHANGED)
                data = bytearray()
                while len(data) < most:
                    some = await body.read(most - len(data))
                    if not some:
                        break
                    data += some
                return bytes(data)
            finally:
                body.close()

        async def read_again() -> bytes:  # if the body broke off, as in s3fs
            return bytes(await _error_wrapper(read, retries=self.fs.retries))

        with storage_errors():
            try:
                return bytes(sync(self.fs.loop, read_again))
            except _ChangedError as error:
                raise FileError(CHANGED) from error
            except Exception as error:
                answer = getattr(error.__cause__, "response", None) or {}
                if answer.get("Error", {}).get("Code") in _OTHER_ETAG:
                    raise FileError(CHANGED) from error
                raise


class _ChangedError(Exception):
    """An answer is for different content than was listed."""


class WholeStorage(Storage):
    """A storage whose open file has all its bytes from one moment, such as a blob of git."""

    readers = 1

    def __init__(self, fs: Any, scheme: str) -> None:
        super().__init__(fs, scheme)
        # All open members may share one file object, which has one position.
        self._lock = threading.Lock()

    def is_stream(self, found: Found) -> bool:
        return True

    def require_readable(self, found: Found) -> None:
        return

    def _tells_writing(self, found: Found, now: str | None = None) -> bool:
        return True

    def open_stream(self, name: str, offset: int, found: Found) -> Stream:
        with self._lock, storage_errors():
            file = self._open(name)
            if offset:
                file.seek(offset)
        return _FileStream(file, self._lock)

    def _open(self, name: str) -> Any:
        return self.fs.open(name, "rb")

    def read_empty(self, name: str, found: Found) -> bytes:
        stream = self.open_stream(name, 0, found)
        try:
            return stream.read(1)
        finally:
            stream.close()

    def read_small(self, name: str, most: int) -> bytes | None:
        try:
            if self.info(name)["type"] == "directory":
                return None
        except FileError as error:
            if is_gone(error):
                return None
            raise
        found = Found(b"", most, "")
        stream = self.open_stream(name, 0, found)
        try:
            return stream.read(most)
        finally:
            stream.close()


class _FileStream:
    """A file object as a stream."""

    def __init__(self, file: Any, lock: threading.Lock) -> None:
        self._file = file
        self._lock = lock

    def read(self, count: int) -> bytes:
        data = bytearray()
        with self._lock, storage_errors():
            while len(data) < count:
                some = self._file.read(count - len(data))
                if not some:
                    break
                data += some
        return bytes(data)

    def close(self) -> None:
        with self._lock, suppress(Exception):  # nothing of it is wanted any more
            self._file.close()


class ArchiveStorage(WholeStorage):
    """The members of an archive, whose index was read when it was opened.

    A member changes with its archive, so its identity contains the identity of the archive.
    """

    def __init__(self, fs: Any, scheme: str) -> None:
        super().__init__(fs, scheme)
        self._archive = self._archive_identity()
        self._members: dict[str, dict[str, Any]] | None = None

    def _archive_identity(self) -> str | None:
        """Return the identity of the archive file; None if it was given as an open file."""
        file: Any = getattr(self.fs, "of", None)
        if not hasattr(file, "fs") or not hasattr(file, "path"):
            return None
        called(file.fs.invalidate_cache)
        info = called(file.fs.info, file.path)
        identity, _ = identity_of(info, getattr(file.fs, "protocol", "") or "")
        size = info.get("size")
        if not identity:
            raise FileError(
                "is not read: nothing that the storage says of the archive would show a change"
            )
        return f"{size} {identity}"

    def identity(self, info: Info) -> tuple[str, int]:
        return identity_of({**info, "archive": self._archive})

    def check(self, name: str, found: Found) -> None:
        if self._archive_identity() != self._archive:
            raise FileError(CHANGED)

    def info(self, name: str) -> Info:
        name = name.strip("/")
        info = self._all().get(name)
        if info is not None:
            return info
        if not name or any(other.startswith(f"{name}/") for other in self._all()):
            return {"name": name, "size": 0, "type": "directory"}
        error = FileError("No such file or directory")
        raise error from FileNotFoundError(name)

    def list_folder(self, name: str, refuse: Refuse) -> Iterator[Info]:
        """Yield everything below a folder, at any depth."""
        start = f"{name.strip('/')}/" if name.strip("/") else ""
        for member, info in self._all().items():
            if not member.startswith(start) or info["type"] == "directory":
                continue
            if (reason := info.get("reason")) is not None:
                refuse(member, reason)
            else:
                yield info

    def _all(self) -> Mapping[str, dict[str, Any]]:
        """Return the member for each name; as in unpacking, the last one of a name counts."""
        if self._members is None:
            with self._lock, storage_errors():
                self._members = dict(self._infos())
        return self._members

    def _infos(self) -> Iterator[tuple[str, dict[str, Any]]]:
        raise NotImplementedError(type(self).__name__)


class TarStorage(ArchiveStorage):
    """tar files: hard links are what they lead to, symbolic ones are links."""

    def _infos(self) -> Iterator[tuple[str, dict[str, Any]]]:
        tar = self.fs.tar
        for member in tar.getmembers():
            name = _member_name(member.name)
            info = {"name": name, "size": member.size, "type": "file", "mtime": member.mtime}
            if member.isdir():
                info["type"] = "directory"
            elif member.issym():
                info |= {"type": "link", "islink": True, "destination": member.linkname}
            elif member.islnk():
                target = _link_target(tar, member)
                if target is None:
                    where = shown(member.linkname)
                    info["reason"] = (
                        f"is a hard link to '{where}', which is not a file of the archive"
                    )
                else:
                    info["size"] = target.size
                    info["member"] = target
            elif not member.isreg():
                info["reason"] = "is a device, a FIFO or of an unknown kind, must be a file"
            info.setdefault("member", member)
            yield name, info

    def _open(self, name: str) -> Any:
        info = self._members.get(name) if self._members is not None else None
        if info is None:
            raise FileNotFoundError(name)
        return self.fs.tar.extractfile(info["member"])


def _link_target(tar: Any, member: Any) -> Any:
    """Return the file that a hard link leads to; None if there is none."""
    seen = set()
    while member.islnk() and member not in seen:
        seen.add(member)
        try:
            member = tar._find_link_target(member)
        except KeyError:
            return None
    return member if member.isreg() else None


class ZipStorage(ArchiveStorage):
    """zip files; Info-ZIP and others put links into them too."""

    def _infos(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for member in self.fs.zip.infolist():
            name = _member_name(member.filename)
            kind = "directory" if member.is_dir() else "file"
            info = {"name": name, "size": member.file_size, "type": kind, "CRC": member.CRC}
            info |= {"date_time": member.date_time, "member": member}
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                with self.fs.zip.open(member) as file:
                    target = file.read(_LINK_MOST + 1)
                if 0 < len(target) <= _LINK_MOST:
                    info |= {"islink": True, "destination": target}
                else:
                    info["reason"] = f"is a symbolic link of {member.file_size:,} bytes"
            elif stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or member.is_dir()):
                info["reason"] = "is a device, a FIFO or of an unknown kind, must be a file"
            yield name, info

    def _open(self, name: str) -> Any:
        info = self._members.get(name) if self._members is not None else None
        if info is None:
            raise FileNotFoundError(name)
        return self.fs.zip.open(info["member"])


def _member_name(name: str) -> str:
    """Return a name as it is unpacked, if that is below the folder: `./a//b/` is `a/b`."""
    if name.startswith("/") or ".." in name.split("/"):
        return name.rstrip("/")  # it is refused, under the name that it has
    name = normpath(name)
    return "" if name == "." else name


class FtpStorage(Storage):
    """FTP: each reader has a connection of its own, because a connection does one thing at a time.

    A file is one stream. Connections that are idle are used again.
    """

    readers = _FTP_READERS

    def __init__(self, fs: Any, scheme: str) -> None:
        super().__init__(fs, scheme)
        self._idle: list[Any] = []

    def is_stream(self, found: Found) -> bool:
        return True

    def require_readable(self, found: Found) -> None:
        return

    def open_stream(self, name: str, offset: int, found: Found) -> Stream:
        with storage_errors():
            connection = self._connection()
            try:
                connection.ftp.voidcmd("TYPE I")
                data = connection.ftp.transfercmd(f"RETR {name}", rest=offset or None)
            except BaseException as error:
                _close(connection)
                if str(error).startswith("550"):
                    raise FileNotFoundError(name) from error
                raise
        return _FtpStream(connection, data, self._idle)

    def read_empty(self, name: str, found: Found) -> bytes:
        stream = self.open_stream(name, 0, found)
        try:
            return stream.read(1)
        finally:
            stream.close()

    def read_small(self, name: str, most: int) -> bytes | None:
        try:
            stream = self.open_stream(name, 0, Found(b"", most, ""))
        except FileError as error:
            if not is_gone(error):
                raise
            # The answer is the same where it may not be read.
            folder = name.rpartition("/")[0]
            names = {info["name"] for info in self.list_folder(folder, lambda *_: None)}
            if name in names and self.info(name)["type"] != "directory":
                raise FileError("is there, and is not given") from error
            return None
        try:
            return stream.read(most)
        finally:
            stream.close()

    def check(self, name: str, found: Found) -> None:
        """Compare by commands about one file, if the server has them: listing its folder for each
        file would take quadratic time. The file was read as one stream, so as one content."""
        with storage_errors():
            connection = self._connection()
            try:
                connection.ftp.voidcmd("TYPE I")
                size = _answer(connection.ftp, f"SIZE {name}")
                time = _answer(connection.ftp, f"MDTM {name}")
            except BaseException as error:
                _close(connection)
                if str(error).startswith("550"):
                    raise FileNotFoundError(name) from error
                raise
        self._idle.append(connection)
        identity, _ = identity_of({"modify": time})
        if (size is not None and size != str(found.size)) or (
            identity and not is_same(found.identity, identity)
        ):
            raise FileError(CHANGED)

    def _connection(self) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._new()
        try:
            connection.ftp.voidcmd("NOOP")
        except Exception:  # the server has closed it
            _close(connection)
            return self._new()
        return connection

    def _new(self) -> Any:
        return type(self.fs)(*self.fs.storage_args, **self.fs.storage_options)


def _answer(ftp: Any, command: str) -> str | None:
    """Return the server's answer to a command about a file; None if it lacks the command."""
    from ftplib import error_perm

    try:
        answer = str(ftp.sendcmd(command))
    except error_perm as error:
        if str(error).startswith("50"):
            return None
        raise
    return answer[3:].strip() if answer.startswith("213") else None


def _close(connection: Any) -> None:
    with suppress(Exception):  # nothing of it is wanted any more
        connection.ftp.close()


class _FtpStream:
    def __init__(self, connection: Any, data: Any, idle: list[Any]) -> None:
        self._connection = connection
        self._data = data
        self._idle = idle
        self._ended = False

    def read(self, count: int) -> bytes:
        data = bytearray()
        with storage_errors():
            while len(data) < count and not self._ended:
                some = self._data.recv(count - len(data))
                if not some:
                    self._end()
                data += some
        return bytes(data)

    def _end(self) -> None:
        """Ask the server whether the data is complete or broke off."""
        self._ended = True
        if hasattr(self._data, "unwrap"):
            with suppress(OSError):  # many servers just close it
                self._data.unwrap()
        self._data.close()
        self._connection.ftp.voidresp()
        self._idle.append(self._connection)

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            with suppress(OSError):
                self._data.close()
            _close(self._connection)
