# SPDX-License-Identifier: Apache-2.0
"""Any storage that fsspec knows as the source of a manifest: s3://, gs://, memory://, http://.

Files are read in ranges or as one stream, as `storages` says for each kind, and retries are left
to the library that reads. A reader waits for the network, not for a core: `RemoteFolder.readers`
says how many at once pay off.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from ..._errors import WitnessError
from ..._files import FileError, shown
from ..._parallel import parallel_map
from .._paths import check_path
from .archive_storages import TarStorage, ZipStorage
from .ftp_storage import FtpStorage
from .identities import Info
from .remote_readers import RangeReader, StreamReader
from .selection import Selection
from .source import SMALL_MOST_BYTES, Found, NoFileError, Problem, Reader, Source, require_small
from .storage_errors import is_gone, storage_errors
from .storages import S3Storage, Storage, WholeStorage

# The package that reads a kind of URL, if fsspec alone does not.
_PACKAGES: Final = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
}
_STORAGES: Final[dict[str, type[Storage]]] = {
    "ftp": FtpStorage,
    "tar": TarStorage,
    "zip": ZipStorage,
    "git": WholeStorage,
    "github": WholeStorage,
    "gist": WholeStorage,
}
_HTTP: Final = ("http", "https")
# They return a copy on this machine, made at the first read.
_CACHES: Final = ("simplecache", "filecache", "blockcache", "cached")
_NO_CACHE: Final = (
    "reads a copy that is kept on this machine, and not the storage: --allow-cache, or "
    "allow_cache=True, where that is wanted"
)
_VERDICTS_MOST: Final = 10_000
_OF_S3: Final = ("ETag", "LastModified")
# A listing may be made up while it is asked for, and have no end.
PATH_MOST: Final = 4096  # bytes, as in a folder of Linux
FOLDERS_MOST: Final = 1_000_000
_PAGE_BEGINS: Final = (b"<!doctype html", b"<html")


class RemoteFolder(Source):
    """A folder of some storage, such as the objects of a bucket that begin with a prefix.

    A URL that ends with a slash names a folder. One that does not may name a single object, which
    is listed under its name. Symbolic links, where a storage has them, are never
    followed. An object of no bytes whose key ends with a slash is how object stores keep an empty
    folder, and is no file.

    Listing an S3 bucket takes constant memory. What else fsspec lists, it lists folder by folder,
    and the largest folder is in memory.

    Args:
        url: as fsspec takes it; chained ones too.
        allow_cache: read what a file system such as `simplecache` keeps on this machine.
        storage_options: for the file system of fsspec, as its documentation says. They travel with
            the source to other processes.

    Raises:
        FileError: nothing is there, it cannot be reached, or the kind of URL is unknown.
        ImportError: a package is not installed; the message names it.
        TypeError: `url` is not a str.
    """

    def __init__(
        self,
        url: str,
        *,
        allow_cache: bool = False,
        **storage_options: Any,
    ) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url is of type {type(url).__name__}, must be str")
        self._url = url
        self._options = storage_options
        self._allow_cache = allow_cache
        self._only: bytes | None = None  # the one file that a URL names
        # Not an instance that others have listed with.
        self._base = self._connect({"skip_instance_cache": True})
        if isinstance(self._storage, S3Storage) and not self._base:
            raise FileError("names no bucket")
        if self._storage.scheme == "hf":
            self._freeze()
        names_folder = url.split("::")[0].endswith("/")
        if names_folder and self._storage.names_folders:
            return  # a page with links, which the listing asks for
        if self._storage.info(self._base)["type"] == "directory" or names_folder:
            return
        self._base, _, name = self._base.rpartition("/")
        self._only = self._path_bytes(name)

    def _connect(self, choice: Mapping[str, object]) -> str:
        """Set the storage, and return the path of the URL in it."""
        if importlib.util.find_spec("fsspec") is None:
            raise ImportError("URLs need fsspec: pip install 'atlas12288[remote]'")
        from fsspec.core import url_to_fs
        from fsspec.implementations.cached import CachingFileSystem

        schemes = _schemes(self._url)
        if not self._allow_cache:
            for scheme in (*schemes, *_targets(self._options)):
                if scheme in _CACHES:
                    raise FileError(f"{scheme}:: {_NO_CACHE}")
        options = dict(self._options)
        scheme = schemes[0]
        try:
            for each in schemes:
                options[each] = {**choice, **_guards(each), **(options.get(each) or {})}
            fs, base = url_to_fs(self._url, **options)
        except ImportError as error:
            missing = next((each for each in schemes if each in _PACKAGES), None)
            package = _PACKAGES.get(scheme) or _PACKAGES.get(missing or "")
            if package is None:
                raise ImportError(f"{scheme}:// cannot be read: {error}") from error
            named = scheme if scheme in _PACKAGES else missing
            raise ImportError(
                f"{named}:// needs {package}: pip install 'atlas12288[remote]' {package}"
            ) from error
        except Exception as error:
            with storage_errors():
                raise error
        is_cache = isinstance(fs, CachingFileSystem)
        if is_cache and not self._allow_cache:
            raise FileError(f"{scheme}:: {_NO_CACHE}")
        if is_cache and not base.strip("/") and self._url.rpartition("://")[2].strip("/"):
            # So is `cached` by fsspec 2024.6: that would list all of the storage.
            raise FileError(f"{scheme}:: is not given the folder by this fsspec: use blockcache::")
        protocols = fs.protocol
        protocols = (protocols,) if isinstance(protocols, str) else protocols
        self._is_http = not _HTTP_SET.isdisjoint(protocols)
        # The first to open a file makes the copy, and others must not read it meanwhile.
        self._storage = (WholeStorage if is_cache else _kind(fs, protocols))(fs, scheme)
        return str(base).rstrip("/")

    def _freeze(self) -> None:
        """Pin the commit of a repository instead of a branch, which moves."""
        from dataclasses import replace

        fs = self._storage.fs
        with storage_errors():
            place = fs.resolve_path(self._base)
            if getattr(place, "repo_type", None) is None:
                return  # a bucket
            about = fs._api.repo_info(
                place.repo_id, repo_type=place.repo_type, revision=place.revision
            )
            self._base = replace(place, revision=about.sha, _raw_revision=None).unresolve()
            self._storage.is_frozen = True

    def __reduce__(self) -> tuple[object, ...]:
        is_frozen = self._storage.is_frozen
        kept = (self._url, self._options, self._allow_cache, self._base, self._only, is_frozen)
        return _restored, kept

    @property
    def name(self) -> str:
        """URL without a password."""
        try:
            password = urlsplit(self._url).password
        except ValueError:
            password = None
        return self._url if not password else self._url.replace(f":{password}@", ":***@", 1)

    @property
    def readers(self) -> int:
        """Number of concurrent readers that pays off."""
        return self._storage.readers

    # --- Listing

    def list(self, selection: Selection, problem: Problem) -> Iterator[Found]:
        """Yield its files, in any order. See `Source.list`."""
        if selection.paths and self._only is not None:
            raise NoFileError("is not a folder")
        paths = selection.paths if self._only is None else (self._only,)
        if not paths:
            yield from self._list_folder(b"", selection, problem)
        for path in paths:
            try:
                info = self._storage.info(self._url_of(path))
            except FileError as error:
                problem(path, str(error))
                continue
            is_folder = info["type"] == "directory"
            if selection.leave_out_named(path, is_folder):
                continue
            if is_folder:
                yield from self._list_folder(path, selection, problem)
            else:
                yield from self._list_one(path, info, selection, problem)

    def _list_folder(
        self, folder: bytes, selection: Selection, problem: Problem
    ) -> Iterator[Found]:
        if isinstance(self._storage, S3Storage):
            yield from self._list_pages(self._storage, folder, selection, problem)
            return
        excluded = _ExcludedFolders(selection, folder)
        start = folder
        waiting = [folder]
        listed = 0

        def refuse(name: str, reason: str) -> None:
            path = self._relative(name, problem)
            if path is not None and not excluded.has_file(path):
                problem(path, reason)

        while waiting:
            folder = waiting.pop()
            listed += 1
            if listed > FOLDERS_MOST:
                raise FileError(
                    f"has more than {FOLDERS_MOST:,} folders, the last one '{_shown(folder)}': "
                    "a listing may have no end"
                )
            files = []
            try:
                for info in self._storage.list_folder(self._folder_name(folder), refuse):
                    path = self._relative(str(info["name"]), problem)
                    if path is None or path == folder:
                        continue
                    if info["type"] != "directory":
                        if not excluded.has_file(path):
                            files.append((path, info))
                        continue
                    if self._storage.names_folders:
                        path = path.removesuffix(b"/")
                    if selection.excludes(path, folder=True):
                        continue
                    # One with an empty part, such as `a/` in `a`, would be listed without end.
                    if _is_path(path, problem):
                        waiting.append(path)
            except FileError as error:
                if not folder:
                    raise
                # A folder that is gone since it was listed is left out.
                if folder == start or not is_gone(error):
                    problem(folder, str(error))
                continue
            yield from self._list_files(files, selection, problem)

    def _list_files(
        self, files: Sequence[tuple[bytes, Info]], selection: Selection, problem: Problem
    ) -> Iterator[Found]:
        def with_size(file: tuple[bytes, Info]) -> Info | FileError:
            path, info = file
            if info.get("size") is not None or not _is_path(path, lambda *_: None):
                return info
            try:
                return self._storage.info(self._url_of(path))
            except FileError as error:
                return error

        infos = parallel_map(with_size, files, self.readers)
        for (path, _), info in zip(files, infos, strict=True):
            if isinstance(info, FileError):
                problem(path, str(info))
            else:
                yield from self._list_one(path, info, selection, problem)

    def _list_pages(
        self, storage: S3Storage, folder: bytes, selection: Selection, problem: Problem
    ) -> Iterator[Found]:
        """Yield the objects of a bucket page by page, as S3 gives them."""
        bucket = storage.fs.split_path(self._url_of(folder))[0]
        excluded = _ExcludedFolders(selection, folder)
        for page in storage.pages(self._url_of(folder)):
            for info in page.get("Contents", ()):
                path = self._relative(f"{bucket}/{info['Key']}", problem)
                size = info["Size"]
                if not path or (size == 0 and path.endswith(b"/")):
                    continue
                if not excluded.has_file(path):
                    # Each part comes with the ETag: the same bytes written again count as the same.
                    known = next((key for key in _OF_S3 if info.get(key)), "ETag")
                    form = {"type": "file", "size": size, known: info.get(known)}
                    yield from self._list_one(path, form, selection, problem)

    def _list_one(
        self, path: bytes, info: Info, selection: Selection, problem: Problem
    ) -> Iterator[Found]:
        if not _is_path(path, problem):
            return
        size = info.get("size")
        if info.get("islink") or info["type"] == "link":
            target = info.get("destination")
            if selection.symlinks == "record" and target:
                yield Found(path, 0, "", _bytes(target) if isinstance(target, str) else target)
            else:
                problem(path, "is a symbolic link, and links in remote storage are not followed")
        elif info["type"] != "file":
            problem(path, f"is of the kind {info['type']!r}, must be a file")
        elif size is None:
            problem(path, "has no size that the server gives")
        elif not isinstance(size, int) or size < 0:
            problem(path, f"has the size {size!r} by the server, must be 0 or more bytes")
        else:
            identity, written_ns = self._storage.identity(info)
            yield Found(path, size, identity, None, written_ns)

    def _relative(self, name: str, problem: Problem) -> bytes | None:
        """Return the path for a name in the storage; None if it is not a file below the folder."""
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
        return f"{self._base}/" if self._base else self._storage.root

    # --- Reading

    def is_stream(self, found: Found) -> bool:
        """Return whether the file is read from beginning to end by one reader."""
        return self._storage.is_stream(found)

    @contextmanager
    def open(self, found: Found) -> Iterator[Reader]:
        """Open a file that `list` yielded. See `Source.open`. Makes no request.

        Raises:
            FileError: nothing would show a change between the requests that it takes.
        """
        self._storage.require_readable(found)
        name = self._url_of(found.path)
        if not self._storage.is_stream(found):
            yield RangeReader(self._storage, name, found)
            return
        reader = StreamReader(self._storage, name, found)
        try:
            yield reader
        finally:
            reader.close()

    def read_small(self, path: bytes) -> bytes | None:
        """Return the bytes of a small file. See `Source.read_small`. An HTML page does not count:
        many servers send one for each missing name."""
        data = self._storage.read_small(self._url_of(path), SMALL_MOST_BYTES + 1)
        if data is None:
            return None
        begin = require_small(data).removeprefix(b"\xef\xbb\xbf").lstrip()[:20].lower()
        return None if begin.startswith(_PAGE_BEGINS) else data

    def _url_of(self, path: bytes) -> str:
        name = quote(path) if self._is_http else path.decode("utf-8", "surrogateescape")
        return self._prefix + name if name else self._base

    def _folder_name(self, folder: bytes) -> str:
        # A web server answers to the name without a slash by one more request.
        name = self._url_of(folder)
        return f"{name}/" if self._storage.names_folders else name or self._storage.root


class _ExcludedFolders:
    """Find the excluded folders above a path, for a listing that has no folders."""

    def __init__(self, selection: Selection, folder: bytes) -> None:
        self._selection = selection
        self._least = len(folder)
        self._verdicts: dict[bytes, bool] = {}
        self._has_rules = bool(selection.exclude)

    def has_file(self, path: bytes) -> bool:
        """Return whether a file, or one of the folders around it, is excluded."""
        return self.has(path) or self._selection.excludes(path, folder=False)

    def has(self, path: bytes) -> bool:
        """Return whether a path is in an excluded folder."""
        end = path.rfind(b"/")
        if not self._has_rules or end <= self._least:
            return False
        folder = path[:end]
        known = self._verdicts.get(folder)
        if known is None:
            # From above, as a walk goes down: the depth of a key is not bounded by Python's calls.
            known = False
            end = folder.find(b"/", self._least + 1)
            while end >= 0 and not known:
                known = self._selection.excludes(folder[:end], folder=True)
                end = folder.find(b"/", end + 1)
            known = known or self._selection.excludes(folder, folder=True)
            if len(self._verdicts) == _VERDICTS_MOST:
                self._verdicts.clear()
            self._verdicts[folder] = known
        return known


def _restored(
    url: str,
    options: dict[str, Any],
    allow_cache: bool,
    base: str,
    only: bytes | None,
    is_frozen: bool,
) -> RemoteFolder:
    """Return the source in another process, which makes its connection only once."""
    folder = RemoteFolder.__new__(RemoteFolder)
    folder._url = url
    folder._options = options
    folder._allow_cache = allow_cache
    folder._only = only
    # It comes with each task: one connection for all of them.
    folder._connect({})
    folder._base = base
    folder._storage.is_frozen = is_frozen
    return folder


_HTTP_SET: Final = frozenset(_HTTP)


def _kind(fs: Any, protocols: Sequence[str]) -> type[Storage]:
    if not _HTTP_SET.isdisjoint(protocols):
        from .http_storage import HttpStorage

        return HttpStorage
    if "s3" in protocols and hasattr(fs, "call_s3"):
        return S3Storage
    return next((_STORAGES[each] for each in protocols if each in _STORAGES), Storage)


def _schemes(url: str) -> list[str]:
    """Return the schemes of a chained URL for fsspec: `zip` and `s3` of zip::s3://bucket/x.zip."""
    from fsspec.registry import available_protocols

    known = set(available_protocols())
    found = []
    for part in url.split("::"):
        scheme, separator, _ = part.partition("://")
        found.append(scheme if separator or scheme in known else "file")
    return found


def _targets(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the schemes that storage options name."""
    for key, value in options.items():
        if key in ("protocol", "target_protocol", "remote_protocol") and isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _targets(value)


def _guards(scheme: str) -> dict[str, Any]:
    if scheme not in _HTTP or importlib.util.find_spec("aiohttp") is None:
        return {}
    from .http_storage import guarded_client

    return {"get_client": guarded_client}


def _is_path(path: bytes, problem: Problem) -> bool:
    try:
        check_path(path, "path")
    except WitnessError as error:
        problem(path, str(error))
        return False
    if len(path) > PATH_MOST:
        problem(path, f"is a path of {len(path):,} bytes, must have at most {PATH_MOST:,}")
        return False
    return True


def _shown(path: bytes) -> str:
    return shown(path.decode("utf-8", "surrogateescape"))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
