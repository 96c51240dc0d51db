# SPDX-License-Identifier: Apache-2.0
"""What tells that a file of some storage is still the same."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from atlas12288.manifest._sources.identities import (
    KEYS,
    Tells,
    etag_of,
    identity_of,
    is_same,
    tells_writing,
    written_ns,
)

S = 10**9
NOON = 1_764_158_400 * S  # 2025-11-26T12:00:00Z
# For each key: what its file system gives, and what it gives when the file is another.
VALUES: dict[str, tuple[Any, Any]] = {
    "generation": ("1764150000000001", "1764150000000002"),
    "VersionId": ("3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY", "null"),
    "version_id": ("2025-11-26T12:00:00.0000000Z", "2025-11-26T12:00:01.0000000Z"),
    "rev": ("a1c10ce0dd78", "a1c10ce0dd79"),
    "last_commit": (SimpleNamespace(oid="aa"), SimpleNamespace(oid="bb")),
    "ETag": ('"5d41402abc4b2a76b9719d911017c592"', '"7d793037a0760186574b0282f2f435e7"'),
    "etag": ("0x8DE2C1A2B3C4D5E", "0x8DE2C1A2B3C4D5F"),
    "Content-MD5": ("XUFAKrxLKna5cZ2REBfFkg==", "fXkwN6B2AYZXSwKC8vQ15w=="),
    "content-md5": ("XUFAKrxLKna5cZ2REBfFkg==", "fXkwN6B2AYZXSwKC8vQ15w=="),
    "Digest": ("sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", "sha-256=aaaa"),
    "md5Hash": ("XUFAKrxLKna5cZ2REBfFkg==", "fXkwN6B2AYZXSwKC8vQ15w=="),
    "md5Checksum": ("5d41402abc4b2a76b9719d911017c592", "7d793037a0760186574b0282f2f435e7"),
    "content_hash": ("e3b0c44298fc1c14", "2cf24dba5fb0a30e"),
    "checksum": ("5d41402abc4b2a76", "7d793037a0760186"),
    "blob_id": ("b6fc4c620b67d95f", "ce013625030ba8db"),
    "xet_hash": ("fe54a0b9c2d1", "0123456789ab"),
    "lfs": ({"sha256": "aa", "size": 3}, {"sha256": "bb", "size": 3}),
    "sha": ("b6fc4c620b67d95f", "ce013625030ba8db"),
    "hex": ("b6fc4c620b67d95f", "ce013625030ba8db"),
    "sha1": ("aaf4c61ddcc5e8a2", "0beec7b5ea3f0fdb"),
    "CRC": (907060870, 907060871),
    "date_time": ((2025, 11, 26, 12, 0, 0), (2025, 11, 26, 12, 0, 2)),
    "archive": ("512 mtime=1", "512 mtime=2"),
    "mtime": (NOON / S, NOON / S + 1),
    "modify": ("20251126120000", "20251126120001"),
    "modificationTime": (NOON // 10**6, NOON // 10**6 + 1000),
    "modification_time": (NOON // 10**6, NOON // 10**6 + 1000),
    "LastModified": (datetime(2025, 11, 26, 12, tzinfo=UTC), "2025-11-26T12:00:01.000Z"),
    "last_modified": (datetime(2025, 11, 26, 12, tzinfo=UTC), datetime(2025, 11, 26, tzinfo=UTC)),
    "Last-Modified": ("Wed, 26 Nov 2025 12:00:00 GMT", "Wed, 26 Nov 2025 12:00:01 GMT"),
    "modified": ("2025-11-26T12:00:00+00:00", "2025-11-26T12:00:01+00:00"),
    "modified_at": ("2025-11-26T12:00:00+00:00", "2025-11-26T12:00:01+00:00"),
    "modifiedTime": ("2025-11-26T12:00:00.000Z", "2025-11-26T12:00:01.000Z"),
    "timeModified": ("2025-11-26T12:00:00.000Z", "2025-11-26T12:00:01.000Z"),
    "server_modified": (datetime(2025, 11, 26, 12), datetime(2025, 11, 26, 13)),
}


def test_each_key_is_tried() -> None:
    assert set(VALUES) == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_each_key_tells_that_a_file_is_another(key: str) -> None:
    value, other = VALUES[key]
    first, time = identity_of({"name": "x", "size": 3, key: value})
    second, _ = identity_of({"name": "x", "size": 3, key: other})
    assert first
    assert is_same(first, first)
    assert not is_same(first, second)
    if KEYS[key] is Tells.TIME:
        assert (time, written_ns(first)) == (NOON, NOON)
    else:
        assert (time, written_ns(first)) == (0, None)
    assert tells_writing(first) == (KEYS[key] is not Tells.CONTENT)


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"ETag": None, "mtime": None},
        {"ETag": "", "etag": ""},
        {"ETag": 'W/"1"'},
        {"etag": 'W/"1"'},
        {"modify": "Nov 26 11:45"},  # of LIST, to the minute
        {"mtime": "yesterday"},
        {"mtime": float("nan")},
        {"mtime": float("inf")},
        {"mtime": 0},
        {"ino": 7, "uid": 0, "created": NOON / S, "ctime": NOON / S, "mode": 0o644},
    ],
)
def test_what_tells_nothing_is_no_identity(info: dict[str, Any]) -> None:
    assert identity_of({"name": "x", "size": 3, "type": "file", **info}) == ("", 0)


def test_in_memory_each_writing_makes_a_file() -> None:
    identity, time = identity_of({"created": NOON / S}, "memory")
    assert (identity, time) == (f"modified={NOON}", NOON)
    assert identity_of({"created": NOON / S}, "gs") == ("", 0)


def test_identities_are_compared_by_what_both_have() -> None:
    both, _ = identity_of({"etag": "a", "mtime": NOON / S})
    etag, _ = identity_of({"etag": "a"})
    time, _ = identity_of({"mtime": NOON / S})
    other, _ = identity_of({"etag": "b", "mtime": NOON / S})
    assert is_same(both, etag)
    assert is_same(both, time)
    assert not is_same(both, other)
    assert not is_same(etag, time)
    assert not is_same(etag, "")
    assert is_same("", etag)
    # What holds requests together must be in both.
    assert tells_writing(both)
    assert not tells_writing(both, etag)


def test_times_are_compared_as_exactly_as_both_are() -> None:
    exact, _ = identity_of({"mtime": NOON / S + 0.5})
    seconds, _ = identity_of({"mtime": NOON / S})
    later, _ = identity_of({"mtime": NOON / S + 0.75})
    assert is_same(exact, seconds)
    assert is_same(seconds, exact)
    assert not is_same(exact, later)
    text, _ = identity_of({"mtime": "2025-11-26T12:00:00.5Z"})
    assert is_same(exact, text)


def test_an_identity_is_text_of_lines_that_any_value_fits_in() -> None:
    identity, _ = identity_of({"etag": 'a\nmtime=1 \udcff"'})
    assert identity == 'etag=a mtime=1 \\udcff"'
    identity.encode()
    assert etag_of(identity) is None
    assert etag_of(identity_of({"ETag": '"x=y"'})[0]) == '"x=y"'
