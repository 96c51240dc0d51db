# SPDX-License-Identifier: Apache-2.0
"""Identities: the facts from a file system of fsspec that tell whether a file is still the same.

Each file system has its own keys, and its listing may differ from a look at one file. So an
identity is a text with a line for each key that is known, and two of them are compared by the keys
that both have. A key that is not in the table is not used: a file about which nothing is known has
the empty one, which never equals the identity of a file that was read before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from math import isfinite
from typing import Any, Final

Info = Mapping[str, Any]


class Tells(Enum):
    """The kind of fact that a key gives."""

    VERSION = "another one after each writing, and never the same again"
    TIME = "when it was written, as exactly as the clock of the storage is"
    CONTENT = "another one for another content, and the same again where the content comes back"


_VERSION, _TIME, _CONTENT = Tells.VERSION, Tells.TIME, Tells.CONTENT
# Not here: inodes and owners, which change while the bytes stay; and when a name was made
# (`created`, `ctime`, `timeCreated`, `creation_time`), which stays when the bytes change.
KEYS: Final = {
    "generation": _VERSION,  # Google's storage
    "VersionId": _VERSION,  # S3 with versions
    "version_id": _VERSION,  # Azure's storage with versions
    "rev": _VERSION,  # Dropbox
    "last_commit": _VERSION,  # Hugging Face, where it was asked for
    "ETag": _CONTENT,  # http, S3, Alibaba's and Tencent's storage: of some it is the MD5
    "etag": _CONTENT,  # Azure's and Oracle's storage, WebDAV, Box
    "Content-MD5": _CONTENT,  # http
    "content-md5": _CONTENT,  # Alibaba's storage
    "Digest": _CONTENT,  # http
    "md5Hash": _CONTENT,  # Google's storage
    "md5Checksum": _CONTENT,  # Google's drive
    "content_hash": _CONTENT,  # Dropbox
    "checksum": _CONTENT,  # lakeFS
    "blob_id": _CONTENT,  # Hugging Face
    "xet_hash": _CONTENT,  # Hugging Face
    "lfs": _CONTENT,  # Hugging Face
    "sha": _CONTENT,  # GitHub
    "hex": _CONTENT,  # git
    "sha1": _CONTENT,  # Box
    "CRC": _CONTENT,  # zip
    "date_time": _CONTENT,  # zip: local time of a place that is not known, so no time
    "archive": _CONTENT,  # ours: what identifies the file that a member is in
    "mtime": _TIME,  # SFTP, SMB, tar, libarchive, Hadoop, Google's storage, Hugging Face's buckets
    "modify": _TIME,  # FTP
    "modificationTime": _TIME,  # WebHDFS
    "modification_time": _TIME,  # DBFS
    "LastModified": _TIME,  # S3, Alibaba's storage
    "last_modified": _TIME,  # Azure's storage, Jupyter
    "Last-Modified": _TIME,  # http
    "modified": _TIME,  # WebDAV
    "modified_at": _TIME,  # Box
    "modifiedTime": _TIME,  # Google's drive
    "timeModified": _TIME,  # Oracle's storage
    "server_modified": _TIME,  # Dropbox
}
# In memory each write creates the file again; elsewhere `created` belongs to the name.
_CREATED_IS_WRITTEN: Final = "memory"
_NS_PER_S: Final = 10**9
_NS_PER_MS: Final = 10**6
_NS_PER_US: Final = 1000
_US_PER_S: Final = 10**6
# A number above is of milliseconds: in seconds it would be after the year 5000.
_MS_LEAST: Final = 10**11
_DIGITS: Final = re.compile(r"(\d{14})(\.\d+)?$")


def identity_of(info: Info, scheme: str = "") -> tuple[str, int]:
    """Return a text that differs when a file was replaced or changed.

    Args:
        info: as fsspec gives it.
        scheme: of the URL.

    Returns:
        The identity, empty if nothing is known; and the time in ns since 1970 if the identity is
        only a time, because a write soon after may leave the same one.
    """
    lines = {}
    for key, tells in KEYS.items():
        value = info.get(key)
        if value is None or value == "":
            continue
        text = str(_ns(value) or "") if tells is _TIME else _line(value)
        # A weak one says that the meaning is the same, not the bytes.
        if text and not (key in ("ETag", "etag") and text.startswith("W/")):
            lines[key] = text
    if not lines and scheme == _CREATED_IS_WRITTEN and info.get("created"):
        lines["modified"] = str(_ns(info["created"]))
    text = "\n".join(f"{key}={value}" for key, value in lines.items())
    only_times = all(KEYS[key] is _TIME for key in lines)
    return text, (written_ns(text) or 0) if only_times else 0


def is_same(listed: str, now: str) -> bool:
    """Return whether two identities are of the same file, by the keys that both have. If they have
    none in common they are not, unless nothing was listed."""
    before, after = _lines(listed), _lines(now)
    if not before:
        return True
    both = before.keys() & after.keys()
    return bool(both) and all(_is_equal(key, before[key], after[key]) for key in both)


def tells_writing(listed: str, now: str | None = None) -> bool:
    """Return whether each write would show, even one that restores the old content.

    Args:
        listed: an identity.
        now: the one that it was compared with, which must have that key too.
    """
    keys = set(_lines(listed))
    if now is not None:
        keys &= _lines(now).keys()
    return any(KEYS[key] is not _CONTENT for key in keys)


def written_ns(identity: str) -> int | None:
    """Return when the file was written, in ns since 1970, if its identity is a time; None if it is
    a version or empty."""
    lines = _lines(identity)
    if any(KEYS[key] is _VERSION for key in lines):
        return None
    times = [int(value) for key, value in lines.items() if KEYS[key] is _TIME]
    return max(times, default=None)


def etag_of(identity: str) -> str | None:
    """Return the strong ETag in an identity."""
    return _lines(identity).get("ETag")


def _line(value: object) -> str:
    return " ".join(str(value).split()).encode("utf-8", "backslashreplace").decode()


def _lines(identity: str) -> dict[str, str]:
    lines = (line.partition("=") for line in identity.split("\n") if line)
    return {key: value for key, _, value in lines if key in KEYS}


def _is_equal(key: str, listed: str, now: str) -> bool:
    if listed == now:
        return True
    if KEYS[key] is not _TIME:
        return False
    # A listing may have fractions of a second where a look at one file has none.
    before, after = int(listed), int(now)
    in_seconds = before % _NS_PER_S == 0 or after % _NS_PER_S == 0
    return in_seconds and before // _NS_PER_S == after // _NS_PER_S


def _ns(time: object) -> int:
    """Return the time of one of the libraries in ns since 1970; 0 if its form is not known."""
    if isinstance(time, str):
        time = _parsed(time)
    if isinstance(time, datetime):
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        whole = int(time.replace(microsecond=0).timestamp())
        return whole * _NS_PER_S + time.microsecond * _NS_PER_US
    if isinstance(time, bool) or not isinstance(time, int | float) or not isfinite(time):
        return 0
    if abs(time) >= _MS_LEAST:
        return int(time) * _NS_PER_MS
    # A float has no more: the same time may come as one here and as text there.
    return round(time * _US_PER_S) * _NS_PER_US


def _parsed(time: str) -> datetime | None:
    from email.utils import parsedate_to_datetime

    if digits := _DIGITS.match(time):  # FTP: 20261126114500.123
        time = f"{digits[1][:8]}T{digits[1][8:]}{(digits[2] or '')[:7]}"
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(time)
        except (ValueError, TypeError):
            continue
    return None
