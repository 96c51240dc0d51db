# SPDX-License-Identifier: Apache-2.0
"""Zarr stores: what is found by Zarr itself, by zarr-checksum, and by a manifest of the store."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec
from zarr_checksum import compute_zarr_checksum
from zarr_checksum.generators import yield_files_local

import atlas12288 as atlas

DOCUMENT = Path(__file__).parents[1] / "docs" / "howto" / "zarr.md"


def _array(folder: Path) -> Path:
    store = folder / "store.zarr"
    array = zarr.create_array(
        store, shape=(200, 200), chunks=(100, 100), dtype="i4", compressors=[Crc32cCodec()]
    )
    array[:] = np.arange(40_000, dtype="i4").reshape(200, 200)
    return store


def _content(store: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(store)[:])


def _nothing(store: Path) -> None:
    assert store.is_dir()


def _flip(store: Path) -> None:
    chunk = store / "c" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)


def _swap(store: Path) -> None:
    one, two = (store / "c" / "0" / name for name in "01")
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


def _put_back(store: Path) -> None:
    chunk = store / "c" / "0" / "0"
    now = chunk.read_bytes()
    zarr.open_array(store)[0, 0] = 7
    assert chunk.read_bytes() != now


def _remove(store: Path) -> None:
    (store / "c" / "0" / "0").unlink()


def _add(store: Path) -> None:
    (store / "c" / "2").mkdir()
    shutil.copy(store / "c" / "0" / "0", store / "c" / "2" / "2")


def _fill(store: Path) -> None:
    metadata = store / "zarr.json"
    text = metadata.read_text()
    metadata.write_text(text.replace('"fill_value": 0', '"fill_value": 1'))
    assert metadata.read_text() != text


EVENTS: dict[str, Callable[[Path], None]] = {
    "nothing": _nothing,
    "a bit of a chunk flipped": _flip,
    "two chunks exchanged": _swap,
    "an old chunk put back": _put_back,
    "a chunk removed": _remove,
    "a chunk added": _add,
    "the fill value changed": _fill,
}


def _checksum(store: Path) -> str:
    return str(compute_zarr_checksum(yield_files_local(store)))


@pytest.mark.parametrize("event", EVENTS)
def test_what_is_found_is_what_the_document_says(event: str, tmp_path: Path) -> None:
    store = _array(tmp_path)
    manifest, checksum = atlas.Manifest.generate(store), _checksum(store)
    EVENTS[event](store)
    try:
        assert _content(store).shape == (200, 200)
        reads = "no error"
    except ValueError:  # a checksum of a chunk that is wrong
        reads = "error"
    others = "same" if _checksum(store) == checksum else "other"
    paths = ", ".join(each.path.decode() for each in manifest.verify(store).differences)
    row = f"| {event} | {reads} | {others} | {f'names {paths}' if paths else 'holds'} |"
    assert row in DOCUMENT.read_text(encoding="utf-8").splitlines()


def test_the_document_has_no_other_event() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## What each finds")[2]
    rows = re.findall(r"^\| ([^|]+) \| (?:no )?error \|", section, re.MULTILINE)
    assert sorted(rows) == sorted(EVENTS)


def test_swapped_chunks_are_read_without_an_error_and_found_by_the_manifest(tmp_path: Path) -> None:
    store = _array(tmp_path)
    manifest = atlas.Manifest.generate(store)
    before = _content(store)
    _swap(store)
    after = _content(store)
    assert not np.array_equal(before, after)
    assert np.array_equal(before[:100, :100], after[:100, 100:])
    report = manifest.verify(store)
    assert report.holds is False
    assert [(each.kind, each.path) for each in report.differences] == [
        ("changed", b"c/0/0"),
        ("changed", b"c/0/1"),
    ]
