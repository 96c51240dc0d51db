# SPDX-License-Identifier: Apache-2.0
"""How each kind of storage is listed and read: through fsspec in general, and in a specific way for
some kinds.

The bytes of one request belong to one content; the bytes of two requests need not. So a file that
is read in several requests needs something that shows each write: an ETag with every answer (http,
S3), or a version or time that is checked before and after. A file that has none is read as one
stream if the storage has streams, and otherwise only if one request is enough.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from ..._files import CHANGED, FileError
from ..._subtree import BLOCK_BYTES
from .identities import Info, etag_of, identity_of, is_same, tells_writing, written_ns
from .source import Found
from .storage_errors import called, is_gone, is_no_such_part, storage_errors

# Measured with a server that answers after 50 ms; docs/scale.md has the cost of more.
READERS: Final = 16
_OTHER_ETAG: Final = ("PreconditionFailed", "412")  # as code of S3
NO_PARTS: Final = "is not read: the server gives no parts of files"

# Called with a listed path that is not a file, and the reason.
Refuse = Callable[[str, str], object]


class ByteStream(Protocol):
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

    def open_stream(self, name: str, offset: int, found: Found) -> ByteStream:
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


class StreamStorage(Storage):
    """A storage that gives each file as one stream."""

    def is_stream(self, found: Found) -> bool:
        return True

    def require_readable(self, found: Found) -> None:
        return

    def read_empty(self, name: str, found: Found) -> bytes:
        stream = self.open_stream(name, 0, found)
        try:
            return stream.read(1)
        finally:
            stream.close()


class WholeStorage(StreamStorage):
    """A storage whose open file has all its bytes from one moment, such as a blob of git."""

    readers = 1

    def __init__(self, fs: Any, scheme: str) -> None:
        super().__init__(fs, scheme)
        # All open members may share one file object, which has one position.
        self._lock = threading.Lock()

    def _tells_writing(self, found: Found, now: str | None = None) -> bool:
        return True

    def open_stream(self, name: str, offset: int, found: Found) -> ByteStream:
        with self._lock, storage_errors():
            file = self._open(name)
            if offset:
                file.seek(offset)
        return _FileStream(file, self._lock)

    def _open(self, name: str) -> Any:
        return self.fs.open(name, "rb")

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
