# SPDX-License-Identifier: Apache-2.0
"""Manifests of storage that cannot be relied on. `make check-remote` has 2,000 of them.

Wrong is a digest, in a manifest that was made without an error, of bytes that were at no moment of
the run the whole content of their file: a mixture of two contents, the begin of one, what an
earlier run read. Not wrong is an error, and which of the contents that a file had it is of.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fsspec", reason="URLs need fsspec")

import atlas12288 as atlas
from atlas12288._files import FileError
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._hashing import engine, file_hash
from atlas12288.manifest._hashing.engine import hash_files
from atlas12288.manifest._sources import remote_readers, storages
from atlas12288.manifest._sources.remote import RemoteFolder
from atlas12288.manifest._sources.selection import Selection
from support import unreliable
from support.unreliable import BLOCK, IDENTITIES, World

SEEDS = 50


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    unreliable.register()
    for module in engine, file_hash, storages:
        monkeypatch.setattr(module, "BLOCK_BYTES", BLOCK)
    yield
    unreliable.UnreliableFileSystem.clear_instance_cache()
    unreliable.OpeningFileSystem.clear_instance_cache()


def with_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting passes time in the world and none here."""

    def sleep(seconds: float) -> None:
        world.now_ns += int(seconds * 10**9)

    monkeypatch.setattr(remote_readers, "time_ns", lambda: world.now_ns)
    monkeypatch.setattr(remote_readers, "sleep", sleep)


def witnessed(world: World, tmp_path: Path, *, update: bool = False) -> atlas.Manifest | None:
    """The manifest of a world now; None where there was an error."""
    world.forget()
    made = {"output": tmp_path / "m.atlas.json", "state": tmp_path / "state"} if update else {}
    try:
        return atlas.Manifest.generate(
            unreliable.url(world),
            tree=world.seed % 2 == 0,
            threads=1 + world.seed % 3,
            storage_options={"world": world},
            update=update,
            **made,
        )
    except FileError:
        return None


def check(world: World, path: bytes, size: int, sha256: bytes | None, root: bytes | None) -> None:
    """A digest must be of what the file was as a whole, at some moment of the run."""
    right = {hashlib.sha256(data).digest(): data for data in world.was_whole(path.decode())}
    assert sha256 in right, f"{world}: {path!r} never was that"
    data = right[sha256]
    assert size == len(data)
    assert root is None or root == atlas.TreeWitness.generate(data).root


def check_all(world: World, manifest: atlas.Manifest) -> int:
    """How many files there are; all of them must be right."""
    for entry in manifest.entries:
        check(world, entry.path, entry.size, entry.sha256, entry.root)
    return len(manifest.entries)


def run(seeds: range, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Reads all files of the worlds of some seeds.

    Returns:
        How many files were right for each identity, and of several requests; and other counts.
    """
    seen: Counter[str] = Counter()
    for seed in seeds:
        world = World(seed)
        with_clock(world, monkeypatch)
        world.forget()
        try:
            source = RemoteFolder(unreliable.url(world), world=world)
            # Not a whole manifest: one file that cannot be read would hide what became of others.
            founds = list(source.list(Selection(), lambda *_: seen.update(["errors"])))
        except FileError:
            seen["errors"] += 1
            continue
        for found, result in hash_files(source, founds, DIGESTS, threads=1 + seed % 3):
            if isinstance(result, FileError):
                seen["errors"] += 1
                continue
            check(world, found.path, found.size, result.sha256, result.root)
            seen[world.identity] += 1
            seen["of several requests"] += found.size > BLOCK
        seen["changes"] += world.changes
    return seen


def test_no_digest_is_of_what_a_file_never_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = run(range(SEEDS), monkeypatch)
    # It is not that nothing was read, nor that nothing happened.
    assert seen["of several requests"] >= 3
    assert seen["errors"] >= 10
    assert seen["changes"] >= 10


@pytest.mark.parametrize("identity", IDENTITIES)
def test_an_update_takes_nothing_for_known_that_changed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, identity: str
) -> None:
    world = World(7, identity=identity, shown="everywhere", lie="none", way="ranges")
    world.rate = world.failures = 0.0
    world.files = {"small": b"a" * 100, "large": b"a" * (2 * BLOCK)}
    world.now_ns += 10**10
    for name, data in world.files.items():
        world.write(name, data)
    world.now_ns += 10**10
    with_clock(world, monkeypatch)
    held = identity in ("version", "fine", "coarse", "both")
    if not held:  # a large file would be refused
        del world.files["large"]
    first = witnessed(world, tmp_path, update=True)
    assert first is not None
    check_all(world, first)
    for name, data in world.files.items():
        world.write(name, b"b" * len(data))
    again = witnessed(world, tmp_path, update=True)
    assert again is not None
    assert check_all(world, again) == len(world.files)


@pytest.mark.parametrize("identity", ["none", "weak", "content", "created"])
def test_a_file_of_several_requests_that_nothing_holds_together_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, identity: str
) -> None:
    world = World(1, identity=identity, shown="everywhere", lie="none", way="ranges")
    world.rate = world.failures = 0.0
    world.files = {"small": b"a" * BLOCK}
    world.versions = {"small": 1, "large": 1}
    world.written_ns = dict.fromkeys(("small", "large"), world.now_ns)
    assert witnessed(world, tmp_path) is not None
    world.files["large"] = b"a" * (BLOCK + 1)
    with pytest.raises(
        FileError,
        match=r"'large' is not read: its 24,577 bytes take 2 requests, and nothing that the "
        "storage says of it would show a change between two of them",
    ):
        atlas.Manifest.generate(unreliable.url(world), storage_options={"world": world})
