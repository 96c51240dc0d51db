# SPDX-License-Identifier: Apache-2.0
"""Which files are known as manifests, witness files and their leaves."""

import json
import re
from pathlib import Path

import pytest

import atlas12288 as atlas
from atlas12288._files import RegularFile
from atlas12288.manifest import _entries as entries
from atlas12288.manifest._entries import trees_in
from atlas12288.manifest._kinds import WITNESSES, leaves_of
from support.strategies import noise

WINDOW = atlas.WINDOW_BYTES
WITNESS = atlas.Witness.generate(b"abc").to_json().encode()
TREE = atlas.TreeWitness.generate(noise(3 * WINDOW))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest with trees, beside its leaves."""
    (tmp_path / "data").mkdir()
    for index, size in enumerate((0, 1, WINDOW, 3 * WINDOW + 1, 0, 5)):
        (tmp_path / "data" / f"{index}").write_bytes(noise(size, index))
    # Text that looks like the end of an entry.
    (tmp_path / "data" / f'"sha256-merkle-12288":"{64 * "0"}","size":7}}').write_bytes(b"x")
    (tmp_path / "data" / "link").symlink_to(f'"sha256-merkle-12288":"{64 * "1"}","size":7}}')
    output = tmp_path / "m.json"
    atlas.Manifest.generate(
        tmp_path / "data", tree=True, output=output, leaves=tmp_path / "m.leaves"
    )
    return output


def is_ours(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    with RegularFile(str(path)) as file:
        return WITNESSES.is_one(file)


@pytest.mark.parametrize(
    "content",
    [
        WITNESS,
        WITNESS + b"\n",
        WITNESS + b"\r\n",
        b"null\n" + WITNESS + b"\n",
        TREE.to_json().encode() + b"\n" + WITNESS + b"\n",
        (WITNESS + b"\n") * 5000,
    ],
)
def test_witness_files(tmp_path: Path, content: bytes) -> None:
    assert is_ours(tmp_path / "it", content)


@pytest.mark.parametrize(
    "content",
    [
        b"null\n",
        b"\n\n",
        WITNESS + b"\nand my notes\n",
        b"my notes\n" + WITNESS,
        WITNESS[:-1],
        WITNESS.replace(b'"residue": ', b'"residue": 9'),
        bytes(10**6),
        b"x" * 10**6,
        b"\xff\n",
        b"{}",
    ],
)
def test_what_is_no_witness_file(tmp_path: Path, content: bytes) -> None:
    assert not is_ours(tmp_path / "it", content)


def test_manifests_in_any_form(manifest: Path, tmp_path: Path) -> None:
    text = manifest.read_bytes()
    assert is_ours(tmp_path / "it", text)
    assert is_ours(tmp_path / "it", b"\n" + json.dumps(json.loads(text), indent=2).encode())
    for other in (
        text.replace(b"https://atlas12288/manifest/v1", b"https://slsa.dev/provenance/v1"),
        text.replace(b"https://in-toto.io/Statement/v1", b"https://example.org"),
        b"> " + text,
    ):
        assert not is_ours(tmp_path / "it", other)


@pytest.mark.parametrize("step", [1, 3, 130, 10**6])
def test_the_trees_of_a_manifest_are_those_of_its_entries(manifest: Path, step: int) -> None:
    text = manifest.read_bytes()
    chunks = (text[at : at + step] for at in range(0, len(text), step))
    expected = [
        (each.size, each.root)
        for each in atlas.Manifest.from_json(text).entries
        if each.root is not None
    ]
    assert list(trees_in(chunks)) == expected


def test_the_end_of_the_longest_entry_fits() -> None:
    entry = entries.Entry(b"x", entries.SIZE_MOST, 95, bytes(32), bytes(32)).to_json()
    assert list(trees_in([entry])) == [(entries.SIZE_MOST, bytes(32))]
    match = re.search(entries._TREE, entry)
    assert match is not None
    assert len(match[0]) < entries._TREE_MOST_BYTES


def test_leaves_are_held_against_what_they_are_of(manifest: Path, tmp_path: Path) -> None:
    leaves = tmp_path / "m.leaves"
    good = leaves.read_bytes()
    kind = leaves_of(str(manifest))
    flipped = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good), 31)]
    for content in (good, *flipped, good[:-1], good[32:], good + bytes(32), good + b"x"):
        leaves.write_bytes(content)
        with RegularFile(str(leaves)) as file:
            assert kind.is_one(file) == (content == good)
    leaves.write_bytes(good)
    for other in (WITNESS, TREE.to_json().encode(), b"", b"text"):
        manifest.write_bytes(other)
        with RegularFile(str(leaves)) as file:
            assert not kind.is_one(file)
    manifest.unlink()
    with RegularFile(str(leaves)) as file:
        assert not kind.is_one(file)


def test_leaves_of_witness_files(tmp_path: Path) -> None:
    lines = (TREE.to_json().encode(), WITNESS, b"null", TREE.to_json().encode())
    (tmp_path / "w").write_bytes(b"\n".join(lines))
    leaves = TREE.leaves or b""
    for content, holds in ((leaves * 2, True), (leaves, False), (leaves * 3, False)):
        (tmp_path / "l").write_bytes(content)
        with RegularFile(str(tmp_path / "l")) as file:
            assert leaves_of(str(tmp_path / "w")).is_one(file) == holds


def test_sizes_that_lie_cost_nothing(tmp_path: Path) -> None:
    """A tree of 2^53 bytes has 733 thousand million leaves, which are not there."""
    entry = entries.Entry(b"x", entries.SIZE_MOST, 0, None, bytes(32))
    (tmp_path / "m").write_bytes(
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"files":[\n'
        + entry.to_json()
        + b'\n]},"predicateType":"https://atlas12288/manifest/v1"}\n'
    )
    (tmp_path / "l").write_bytes(bytes(64))
    with RegularFile(str(tmp_path / "l")) as file:
        assert not leaves_of(str(tmp_path / "m")).is_one(file)
