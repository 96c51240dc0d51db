# SPDX-License-Identifier: Apache-2.0
"""Any storage that fsspec knows as the source of a manifest: s3://, gs://, memory://, http://.

Files are read in ranges, and retries are those of the library that reads. A reader waits for the
network, not for a core: `RemoteFolder.readers` says how many at once pay off.
"""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from .._parallel import in_order
from .._subtree import BLOCK_BYTES
from ..errors import WitnessError
from ..files import CHANGED, FileError, shown
from .paths import check_path
from .rules import Rules
from .sources import Found, Problem

# Which package reads a kind of URL, where that is not fsspec alone.
_PACKAGES: Final = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
}
# What says by itself that an object is the same, and what says when it was written.
_IDENTITIES: Final = ("ETag", "etag", "generation", "md5Hash", "Content-MD5")
_TIMES: Final = ("mtime", "LastModified", "last_modified", "Last-Modified", "modified", "created")
_NS_PER_S: Final = 10**9
_FORBIDDEN: Final = (401, 403)  # as status of HTTP
_NOT_FOUND: Final = 404
_VERDICTS_MOST: Final = 10_000

_Info = Mapping[str, Any]


class RemoteFolder:
    """A folder of some storage, such as the objects of a bucket that begin with a prefix.

    A URL that ends with a slash is that of a folder. One that does not may be that of a single
    object: it is listed under its name. Symbolic links, where a storage has them, are never
    followed. An object of no bytes whose key ends with a slash is how object stores keep an empty
    folder, and is no file.

    Listing an S3 bucket takes constant memory. What else fsspec lists, it lists folder by folder,
    and the largest folder is in memory.

    Args:
        url: as fsspec takes it; chained ones too.
        paths: list these alone, files and folders below the URL; all of it where empty.
        storage_options: for the file system of fsspec, as its documentation says. They travel with
            the source to other processes.

    Raises:
        FileError: nothing is there, it cannot be reached, or the kind of URL is unknown.
        ImportError: a package is not installed; the message names it.
        WitnessError: one of the paths leads out of the folder.
        TypeError: `url` is not a str.
    """

    # Measured with a server that answers after 50 ms; what more would take is in docs/scale.md.
    readers: Final = 16

    def __init__(self, url: str, paths: Sequence[bytes] = (), **storage_options: Any) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url is of type {type(url).__name__}, must be str")
        self._url = url
        self._options = storage_options
        self._paths = tuple(check_path(path, "path") for path in paths)
        self._base = self._connect()
        if self._is_s3 and not self._base:
            raise FileError("names no bucket")
        names_folder = url.split("::")[0].endswith("/")
        if names_folder and self._is_http:
            return  # a page with links, which the listing asks for
        if self._info(self._base)["type"] == "directory" or names_folder:
            return
        if paths:
            raise FileError("is not a folder")
        self._base, _, name = self._base.rpartition("/")
        self._paths = (self._path_bytes(name),)

    def _connect(self) -> str:
        """Sets the file system, and gives the path of the URL in it."""
        scheme = self._url.split("://")[0].split("::")[-1]
        if importlib.util.find_spec("fsspec") is None:
            raise ImportError("URLs need fsspec: pip install 'atlas12288[remote]'")
        from fsspec.core import url_to_fs

        self._fs: Any  # each file system is a class of its own
        try:
            self._fs, base = url_to_fs(self._url, **self._options)
        except ImportError as error:
            package = _PACKAGES.get(scheme)
            if package is None:
                raise ImportError(f"{scheme}:// cannot be read: {error}") from error
            raise ImportError(
                f"{scheme}:// needs {package}: pip install 'atlas12288[remote]' {package}"
            ) from error
        except Exception as error:
            raise FileError(_reason(error)) from error
        protocols = self._fs.protocol
        protocols = (protocols,) if isinstance(protocols, str) else protocols
        self._is_http = "http" in protocols
        self._is_s3 = "s3" in protocols and hasattr(self._fs, "call_s3")
        return str(base).rstrip("/")

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self._url, self._options, self._base, self._paths)

    @property
    def name(self) -> str:
        """The URL, without a password."""
        try:
            password = urlsplit(self._url).password
        except ValueError:
            password = None
        return self._url if not password else self._url.replace(f":{password}@", ":***@", 1)

    # --- Listing

    def list(self, rules: Rules, problem: Problem) -> Iterator[Found]:
        """Its files, in any order. See `Source.list`."""
        if not self._paths:
            yield from self._list_folder(b"", rules, problem)
        for path in self._paths:
            try:
                info = self._info(self._at(path))
            except FileError as error:
                problem(path, str(error))
                continue
            is_folder = info["type"] == "directory"
            if rules.excludes_named(path, is_folder):
                continue
            if is_folder:
                yield from self._list_folder(path, rules, problem)
            else:
                yield from self._list_one(path, info, rules, problem)

    def _list_folder(self, folder: bytes, rules: Rules, problem: Problem) -> Iterator[Found]:
        if self._is_s3:
            yield from self._list_pages(folder, rules, problem)
            return
        start = folder
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            try:
                infos = self._call(self._fs.ls, self._folder_name(folder), detail=True)
                # What fsspec keeps of it would be the whole bucket in the end.
                self._fs.invalidate_cache()
            except FileError as error:
                if not folder:
                    raise
                # One that is gone since it was listed is no part of it.
                if folder == start or not isinstance(error.__cause__, FileNotFoundError):
                    problem(folder, str(error))
                continue
            files = []
            for info in infos:
                name = str(info["name"])
                path = self._relative(name, problem)
                if path is None or path == folder:
                    continue
                if info["type"] != "directory":
                    if not rules.excludes(path, folder=False):
                        files.append((path, info))
                    continue
                if self._is_http:
                    path = path.removesuffix(b"/")
                if rules.excludes(path, folder=True):
                    continue
                # One with an empty part, such as `a/` in `a`, would be listed without end.
                if _is_path(path, problem):
                    waiting.append(path)
            yield from self._list_files(files, rules, problem)

    def _list_files(
        self, files: Sequence[tuple[bytes, _Info]], rules: Rules, problem: Problem
    ) -> Iterator[Found]:
        def with_size(file: tuple[bytes, _Info]) -> _Info | FileError:
            path, info = file
            if info.get("size") is not None or not _is_path(path, lambda *_: None):
                return info
            try:
                return self._info(self._at(path))
            except FileError as error:
                return error

        infos = in_order(with_size, files, self.readers)
        for (path, _), info in zip(files, infos, strict=True):
            if isinstance(info, FileError):
                problem(path, str(info))
            else:
                yield from self._list_one(path, info, rules, problem)

    def _list_pages(self, folder: bytes, rules: Rules, problem: Problem) -> Iterator[Found]:
        """The objects of a bucket page by page, as S3 gives them."""
        bucket, key, _ = self._fs.split_path(self._at(folder))
        request = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
        excluded = _ExcludedFolders(rules, folder)
        while True:
            page = self._call(self._fs.call_s3, "list_objects_v2", **request)
            for info in page.get("Contents", ()):
                path = self._relative(f"{bucket}/{info['Key']}", problem)
                size = info["Size"]
                if not path or (size == 0 and path.endswith(b"/")):
                    continue
                if not excluded.has(path) and not rules.excludes(path, folder=False):
                    form = {"type": "file", "size": size, "ETag": info.get("ETag")}
                    yield from self._list_one(path, form, rules, problem)
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _list_one(
        self, path: bytes, info: _Info, rules: Rules, problem: Problem
    ) -> Iterator[Found]:
        if not _is_path(path, problem):
            return
        size = info.get("size")
        if info.get("islink") or info["type"] == "link":
            target = info.get("destination")
            if rules.symlinks == "record" and target:
                yield Found(path, 0, "", _bytes(target))
            else:
                problem(path, "is a symbolic link, and those of remote storage are not followed")
        elif info["type"] != "file":
            problem(path, f"is of the kind {info['type']!r}, must be a file")
        elif size is None:
            problem(path, "has no size that the server gives")
        elif info.get("partial") is False and size > BLOCK_BYTES:
            problem(path, f"has {size} bytes, and the server gives no parts of files")
        else:
            identity, modified_ns = _identity(info)
            yield Found(path, size, identity, None, modified_ns)

    def _relative(self, name: str, problem: Problem) -> bytes | None:
        """The path of a name of the storage; None where it is no file below the folder."""
        prefix = self._prefix
        if not name.startswith(prefix):
            if name.rstrip("/") != self._base.rstrip("/"):
                problem(_bytes(name), f"is listed, and not below '{shown(prefix)}'")
            return None
        rest = name[len(prefix) :]
        # Links that sort the page of a web server, or lead into a page.
        if self._is_http and ("?" in rest or "#" in rest):
            return None
        return self._path_bytes(rest)

    def _path_bytes(self, name: str) -> bytes:
        return unquote_to_bytes(name) if self._is_http else _bytes(name)

    @property
    def _prefix(self) -> str:
        return f"{self._base}/" if self._base else str(self._fs.root_marker)

    # --- Reading

    @contextmanager
    def open(self, found: Found) -> Iterator[RemoteReader]:
        """A file that `list` gave. See `Source.open`. Makes no request."""
        yield RemoteReader(self, found)

    def read_small(self, path: bytes) -> bytes | None:
        """The bytes of a small file. See `Source.read_small`."""
        try:
            return bytes(self._call(self._fs.cat_file, self._at(path)))
        except FileError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def read(self, path: bytes, start: int, stop: int) -> bytes:
        """The bytes start..stop-1 of a file.

        Raises:
            FileError: not readable.
        """
        data = self._call(self._fs.cat_file, self._at(path), start=start, end=stop)
        return bytes(data)

    def check(self, found: Found) -> None:
        """Raises FileError where a file is not what was listed."""
        name = self._at(found.path)
        self._fs.invalidate_cache(name)
        info = self._info(name)
        same = info["type"] != "directory" and info.get("size") == found.size
        if not same or _identity(info)[0] != found.identity:
            raise FileError(CHANGED)

    def _at(self, path: bytes) -> str:
        name = quote(path) if self._is_http else path.decode("utf-8", "surrogateescape")
        return self._prefix + name if name else self._base

    def _folder_name(self, folder: bytes) -> str:
        # A web server answers to the name without a slash by one more request.
        name = self._at(folder)
        return f"{name}/" if self._is_http else name or str(self._fs.root_marker)

    def _info(self, name: str) -> _Info:
        info: _Info = self._call(self._fs.info, name)
        return info

    def _call(self, function: Callable[..., Any], *args: object, **options: object) -> Any:
        try:
            return function(*args, **options)
        except MemoryError:
            raise
        # Each library raises errors of its own; what they have in common is Exception.
        except Exception as error:
            raise FileError(_reason(error)) from error


class RemoteReader:
    """An open file of a remote folder; see `Reader`. Nothing is kept open for it."""

    def __init__(self, folder: RemoteFolder, found: Found) -> None:
        self._folder = folder
        self._found = found

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills the buffer from `offset` on, by one request. See `Reader.read_into`."""
        count = min(len(buffer), self._found.size - offset)
        if count <= 0:
            return 0
        try:
            data = self._folder.read(self._found.path, offset, offset + count)
        except FileError:
            self.finish()  # that it changed says more than that a range is not there
            raise
        if len(data) != count:
            self.finish()
            if len(data) > count:
                raise FileError("is not read: the server gives no parts of files")
            raise FileError(f"gave {len(data)} bytes of {count} from byte {offset} on")
        buffer[:count] = data
        return count

    def finish(self) -> None:
        """The file was read to its listed end. See `Reader.finish`."""
        self._folder.check(self._found)


class _ExcludedFolders:
    """Which folders above a path are excluded, for a listing that has no folders."""

    def __init__(self, rules: Rules, folder: bytes) -> None:
        self._rules = rules
        self._least = len(folder)
        self._verdicts: dict[bytes, bool] = {}
        self._has_rules = bool(rules.exclude)

    def has(self, path: bytes) -> bool:
        """Is it in such a folder?"""
        at = path.rfind(b"/")
        if not self._has_rules or at <= self._least:
            return False
        folder = path[:at]
        known = self._verdicts.get(folder)
        if known is None:
            # From above, as a walk goes down: the depth of a key is not bounded by Python's calls.
            known = False
            at = folder.find(b"/", self._least + 1)
            while at >= 0 and not known:
                known = self._rules.excludes(folder[:at], folder=True)
                at = folder.find(b"/", at + 1)
            known = known or self._rules.excludes(folder, folder=True)
            if len(self._verdicts) == _VERDICTS_MOST:
                self._verdicts.clear()
            self._verdicts[folder] = known
        return known


def _restored(
    url: str, options: dict[str, Any], base: str, paths: tuple[bytes, ...]
) -> RemoteFolder:
    """A source in another process: what was found there once is not asked again."""
    folder = RemoteFolder.__new__(RemoteFolder)
    folder._url = url
    folder._options = options
    folder._paths = paths
    folder._connect()
    folder._base = base
    return folder


def _is_path(path: bytes, problem: Problem) -> bool:
    try:
        check_path(path, "path")
    except WitnessError as error:
        problem(path, str(error))
        return False
    return True


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _identity(info: _Info) -> tuple[str, int]:
    """What differs when the file was replaced or changed, and its time in ns where that is it."""
    for key in _IDENTITIES:
        if info.get(key):
            return str(info[key]), 0
    for key in _TIMES:
        if info.get(key) is not None:
            time = _ns(info[key])
            return f"{time} {info.get('ino', 0)}" if time else str(info[key]), time
    return "", 0


def _ns(time: object) -> int:
    """A time as one of the libraries gives it, in ns since 1970; 0 where its form is not known."""
    from email.utils import parsedate_to_datetime

    if isinstance(time, str):
        try:
            time = parsedate_to_datetime(time)
        except ValueError:
            return 0
    if isinstance(time, datetime):
        time = time.timestamp()
    return int(time * _NS_PER_S) if isinstance(time, int | float) else 0


def _reason(error: BaseException) -> str:
    """What an error of a library says, on one line."""
    cause = error.__cause__
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) and cause is not None:
        # fsspec calls each failure of HTTP this.
        status = getattr(cause, "status", None)
        if isinstance(cause, OSError) or status not in (None, _NOT_FOUND):
            return _reason(cause)
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    if isinstance(error, FileNotFoundError) or status == _NOT_FOUND:
        return os.strerror(errno.ENOENT)
    if isinstance(error, PermissionError) or status in _FORBIDDEN:
        return os.strerror(errno.EACCES)
    if isinstance(error, TimeoutError):
        return os.strerror(errno.ETIMEDOUT)
    return " ".join(str(error).split()) or type(error).__name__
