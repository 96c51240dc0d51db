# SPDX-License-Identifier: Apache-2.0
"""tar and zip files as storage."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from posixpath import normpath
from typing import Any, Final

from ..._files import CHANGED, FileError, shown
from .identities import Info, identity_of
from .source import Found
from .storage_errors import called, storage_errors
from .storages import Refuse, WholeStorage

_LINK_MOST: Final = 4096  # bytes that a link in a zip file may hold: PATH_MAX


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
