# SPDX-License-Identifier: Apache-2.0
"""Making manifests: the right digests of all that a folder can hold, whatever happens meanwhile."""

import hashlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import atlas12288 as atlas
from atlas12288 import TreeWitness
from atlas12288._files import FileError
from atlas12288._native import DIGEST_BYTES, WINDOW_BYTES
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest import _keeper as keeper
from atlas12288.manifest import _store as store
from atlas12288.manifest._arguments import hasher
from atlas12288.manifest._beside import paths_in, state_name
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._generate import RunCounts, generate_manifest, read_options
from atlas12288.manifest._hashing import engine
from atlas12288.manifest._hashing.engine import hash_files
from atlas12288.manifest._hashing.file_hash import Checkpoint, Digests
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._sources import folder
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.source import Found, Problem
from atlas12288.manifest._state_frames import MAGIC
from support import manifest_runs
from support.leftovers import nothing_left
from support.manifest_runs import KILLED, Disturbed
from support.manifests import StopError, StoppedRuns
from support.paths import facts
from support.slow import slow_but
from support.strategies import noise

FLAT, TREE = DIGESTS
SIZES = (0, 1, 12287, 12288, 12289, 40_000)
LARGE_SIZES = (
    BLOCK_BYTES - 1,
    BLOCK_BYTES,
    BLOCK_BYTES + 1,
    3 * BLOCK_BYTES,
    5 * BLOCK_BYTES + 12288 + 7,
)


def fill(folder: Path, sizes: tuple[int, ...]) -> dict[bytes, bytes]:
    """Files of these sizes, some in folders; their contents by path."""
    contents = {}
    for index, size in enumerate(sizes):
        path = folder / f"d{index % 3}" / f"{index}" if index % 2 else folder / f"{index}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(noise(size, index))
        contents[os.fsencode(path.relative_to(folder))] = noise(size, index)
    return contents


def founds_of(source: Folder) -> list[Found]:
    return list(source.list(Selection(), fail))


def fail(path: bytes, reason: str) -> None:
    raise AssertionError((path, reason))


def age(folder: Path) -> None:
    """Makes all files old enough to be trusted."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**10))


# --- Digests


@pytest.mark.parametrize("threads", slow_but([1, 5], [1, 2, 5, None]))
@pytest.mark.parametrize("digests", [(FLAT,), (TREE,), DIGESTS], ids=["flat", "tree", "both"])
def test_digests_are_those_of_hashlib_and_of_tree_witnesses(
    tmp_path: Path, digests: tuple[str, ...], threads: int | None
) -> None:
    contents = fill(tmp_path, SIZES * 20 + LARGE_SIZES)
    source = Folder(tmp_path)
    leaves: dict[bytes, bytearray] = {}

    def sink(found: Found) -> Callable[[bytes], object]:
        return leaves.setdefault(found.path, bytearray()).extend

    read: list[int] = []
    results = hash_files(
        source, founds_of(source), digests, threads=threads, leaves=sink, advance=read.append
    )
    found_of = dict(results)
    assert {found.path for found in found_of} == set(contents)
    for found, result in found_of.items():
        content = contents[found.path]
        tree = TreeWitness.generate(content)
        assert isinstance(result, Digests)
        assert result.residue == atlas.residue(content)
        assert result.sha256 == (hashlib.sha256(content).digest() if FLAT in digests else None)
        assert result.root == (tree.root if TREE in digests else None)
        if TREE in digests:
            assert tree.leaves == bytes(leaves[found.path])
    assert (leaves == {}) == (TREE not in digests)
    assert sum(read) == sum(map(len, contents.values()))


def test_the_manifest_is_the_same_from_every_kernel_set(tmp_path: Path, kernel_set: str) -> None:
    fill(tmp_path, SIZES + LARGE_SIZES[:3])
    manifest = atlas.Manifest.generate(tmp_path, tree=True)
    for entry in manifest.entries:
        content = (tmp_path / os.fsdecode(entry.path)).read_bytes()
        assert entry.sha256 == hashlib.sha256(content).digest()
        assert entry.root == TreeWitness.generate(content).root


class Shuffled(Folder):
    """Lists in another order."""

    batches = False
    seed = 0

    def list(self, rules: Selection, problem: Problem) -> Iterator[Found]:
        founds = sorted(super().list(rules, problem))
        random.Random(self.seed).shuffle(founds)
        return iter(founds)


def test_order_of_listing_and_threads_do_not_change_a_byte(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data", SIZES * 5)
    (tmp_path / "data" / "large").write_bytes(noise(2 * BLOCK_BYTES + 1))
    seen = set()
    for seed, threads in ((1, 1), (2, 2), (3, 4)):
        source = Shuffled(tmp_path / "data")
        source.seed = seed
        output, leaves = tmp_path / "m.json", tmp_path / "m.leaves"
        options = read_options(source, tree=True)
        generate_manifest(
            source, options, str(output), leaves=str(leaves), hash_files=hasher(threads)
        )
        seen.add((output.read_bytes(), leaves.read_bytes()))
    assert len(seen) == 1
    ((text, hashes),) = seen
    expected = b"".join(
        TreeWitness.generate((tmp_path / "data" / os.fsdecode(entry.path)).read_bytes()).leaves
        or b""
        for entry in atlas.Manifest.from_json(text).entries
    )
    assert hashes == expected


def test_a_checkpoint_of_any_block_leads_to_the_same_digests(tmp_path: Path) -> None:
    content = noise(4 * BLOCK_BYTES + 5)
    (tmp_path / "a").write_bytes(content)
    source = Folder(tmp_path)
    seen: list[tuple[Checkpoint, bytes]] = []
    leaves = bytearray()

    def progress(_: Found, checkpoint: Checkpoint, root: bytes) -> None:
        seen.append((checkpoint, root))

    ((_, whole),) = hash_files(source, founds_of(source), DIGESTS, progress=progress, threads=3)
    assert [checkpoint.blocks for checkpoint, _ in seen] == [1, 2, 3, 4, 5]
    for blocks, (checkpoint, _) in enumerate(seen, 1):
        roots = b"".join(root for _, root in seen[:blocks])
        leaves.clear()
        ((_, result),) = hash_files(
            source,
            founds_of(source),
            DIGESTS,
            resume=lambda _: (checkpoint, (roots,)),  # noqa: B023 called in this turn
            leaves=lambda _: leaves.extend,
            threads=2,
        )
        assert result == whole
        skipped = blocks * 256 * 32
        assert bytes(leaves) == (TreeWitness.generate(content).leaves or b"")[skipped:]


# --- Threads and callbacks


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_small_and_large_files_mixed(tmp_path: Path, threads: int) -> None:
    """Many tiny files, which the calling thread takes, while others work on large ones."""
    sizes = (20,) * 1500 + LARGE_SIZES
    contents = fill(tmp_path, sizes)
    source = Folder(tmp_path)
    founds = founds_of(source)
    random.Random(threads).shuffle(founds)
    results = list(hash_files(source, founds, DIGESTS, threads=threads))
    assert len(results) == len(sizes)
    for found, result in results:
        assert isinstance(result, Digests)
        assert result.sha256 == hashlib.sha256(contents[found.path]).digest()


def raise_stop(*_: object) -> None:
    raise StopError


@pytest.mark.parametrize("threads", slow_but([3], [1, 3]))
@pytest.mark.parametrize("by", ["leaves", "sink", "advance", "progress", "founds", "close"])
def test_what_a_callback_raises_ends_the_run_and_leaves_nothing_behind(
    tmp_path: Path, by: str, threads: int
) -> None:
    fill(tmp_path, (*LARGE_SIZES, *SIZES * 10))
    source = Folder(tmp_path)
    founds = sorted(founds_of(source), key=lambda found: -found.size)

    def some() -> Iterator[Found]:
        yield from founds[: len(founds) // 2]
        raise StopError

    with nothing_left():
        results = hash_files(
            source,
            some() if by == "founds" else founds,
            DIGESTS,
            threads=threads,
            leaves={"leaves": raise_stop, "sink": lambda _: raise_stop}.get(by),
            advance=raise_stop if by == "advance" else None,
            progress=raise_stop if by == "progress" else None,
        )
        if by == "close":
            next(results)
            results.close()
        else:
            with pytest.raises(StopError):
                list(results)


def test_callbacks_are_called_by_the_thread_that_takes_the_results(tmp_path: Path) -> None:
    fill(tmp_path, (*LARGE_SIZES, *SIZES))
    source = Folder(tmp_path)
    callers = set()

    def called(*_: object) -> None:
        callers.add(threading.get_ident())

    list(
        hash_files(
            source,
            founds_of(source),
            DIGESTS,
            threads=3,
            leaves=lambda _: called,
            advance=called,
            progress=called,
        )
    )
    assert callers == {threading.get_ident()}


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_less_than_one_are_a_value_error(tmp_path: Path, threads: int) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match=f"threads is {threads}, must be at least 1"):
        atlas.Manifest.generate(tmp_path, threads=threads)


def test_an_unreadable_file_does_not_end_the_others(tmp_path: Path) -> None:
    contents = fill(tmp_path, SIZES + LARGE_SIZES)
    source = Folder(tmp_path)
    gone = [Found(b"gone", 5, "0 0"), Found(b"large", 3 * BLOCK_BYTES, "0 0")]
    results = dict(hash_files(source, [*gone, *founds_of(source)], DIGESTS, threads=2))
    errors = {found.path: str(r) for found, r in results.items() if isinstance(r, FileError)}
    assert errors == dict.fromkeys((b"gone", b"large"), "No such file or directory")
    assert len(results) == len(contents) + 2


# --- What a folder holds


def generate(folder: Path, output: Path, **arguments: object) -> tuple[RunCounts, dict[bytes, str]]:
    """A run of the command line's function; outcome and problems."""
    problems: dict[bytes, str] = {}

    def problem(path: bytes, reason: str) -> None:
        problems[path] = reason

    source = arguments.pop("source", None) or Folder(folder)
    chosen = {
        name: arguments.pop(name)
        for name in ("tree", "symlinks", "exclude", "paths")
        if name in arguments
    }
    options = read_options(source, **{"tree": True, **chosen})  # type: ignore[arg-type]
    told = {name: arguments.pop(name, None) for name in ("advance", "note")}
    listener = FunctionListener(problem=problem, **told)  # type: ignore[arg-type]
    if "threads" in arguments:
        arguments["hash_files"] = hasher(arguments.pop("threads"))  # type: ignore[arg-type]
    outcome = generate_manifest(source, options, str(output), listener=listener, **arguments)  # type: ignore[arg-type]
    assert outcome.errors == len(problems)
    assert output.exists() or problems
    return outcome, problems


def paths_of(output: Path) -> list[bytes]:
    return [entry.path for entry in atlas.Manifest.from_json(output.read_bytes()).entries]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.atlas.json"


def test_names_of_any_bytes(data: Path, output: Path) -> None:
    names = [b"a\nb", b"\xff\xfe", b" ", b"\\", b"-", b"\xc3\xa9", b"\xed\xa0\x80", b"*", b'"']
    for name in names:
        with open(os.fsencode(data) + b"/" + name, "wb") as file:  # noqa: PTH123 bytes
            file.write(name)
    generate(data, output)
    manifest = atlas.Manifest.from_json(output.read_bytes())
    assert [entry.path for entry in manifest.entries] == sorted(names)
    for entry in manifest.entries:
        assert entry.sha256 == hashlib.sha256(entry.path).digest()


def test_links_are_recorded_and_not_followed(data: Path, tmp_path: Path, output: Path) -> None:
    (data / "sub").mkdir()
    (data / "sub" / "file").write_bytes(b"1")
    (tmp_path / "outside").write_bytes(b"2")
    targets = {"broken": "nowhere", "loop": "loop", "out": "../outside", "up": "..", "sub2": "sub"}
    for name, target in targets.items():
        (data / name).symlink_to(target)
    outcome, _ = generate(data, output)
    entries = atlas.Manifest.from_json(output.read_bytes()).entries
    assert {e.path.decode(): e.target.decode() for e in entries if e.target} == targets
    assert outcome == RunCounts(1, 5, 1, 1, 0, 0)


def test_links_can_be_an_error(data: Path, output: Path) -> None:
    (data / "file").write_bytes(b"1")
    (data / "link").symlink_to("file")
    _, problems = generate(data, output, symlinks="error")
    assert problems == {b"link": "is a symbolic link to 'file', must not be one"}
    assert not output.exists()


def test_links_are_followed_in_the_folder_only(data: Path, tmp_path: Path, output: Path) -> None:
    (data / "sub").mkdir()
    (data / "sub" / "file").write_bytes(b"1")
    (data / "sub2").symlink_to("sub")
    (data / "direct").symlink_to("sub/file")
    generate(data, output, symlinks="follow")
    assert paths_of(output) == [b"direct", b"sub/file", b"sub2/file"]
    manifest = atlas.Manifest.from_json(output.read_bytes())
    assert {entry.sha256 for entry in manifest.entries} == {hashlib.sha256(b"1").digest()}
    (tmp_path / "outside").write_bytes(b"2")
    (data / "broken").symlink_to("nowhere")
    (data / "loop").symlink_to("loop")
    (data / "out").symlink_to("../outside")
    (data / "sub" / "up").symlink_to("..")
    _, problems = generate(data, output, symlinks="follow")
    assert sorted(problems) == [b"broken", b"loop", b"out", b"sub/up", b"sub2/up"]
    assert problems[b"out"].endswith("out of the folder")
    assert problems[b"sub/up"].endswith("a folder around it")


def test_links_that_lead_to_a_folder_in_too_many_ways_are_an_error(
    data: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are 2^30 ways to the last one."""
    monkeypatch.setattr(folder, "LINKS_MOST", 20)
    for level in range(30):
        (data / f"{level}").mkdir()
        for name in ("a", "b"):
            (data / f"{level}" / name).symlink_to(f"../{level + 1}")
    (data / "30").mkdir()
    (data / "30" / "file").touch()
    _, problems = generate(data, output, symlinks="follow")
    assert set(problems.values()) == {
        f"is a symbolic link to '../{level}', to which links lead in more than 20 ways"
        for level in range(4, 31)
    }
    assert len(problems) <= 30 * 2 * 21


def test_names_in_reasons_are_shown_as_names_are(data: Path, output: Path) -> None:
    (data / "link").symlink_to("bad\udcff\n\\")
    _, problems = generate(data, output, symlinks="error")
    assert problems == {
        b"link": "is a symbolic link to 'bad\\xff\\n\\\\', must not be one",
    }


def test_special_files_are_problems(data: Path, output: Path) -> None:
    os.mkfifo(data / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(data / "socket"))
        _, problems = generate(data, output)
    assert problems[b"fifo"].startswith("is a FIFO")
    assert problems[b"socket"].startswith("is a socket")


def test_a_file_that_has_become_a_fifo_does_not_hang(data: Path, output: Path) -> None:
    (data / "a").write_bytes(b"1")
    (founds,) = [founds_of(Folder(data))]
    (data / "a").unlink()
    os.mkfifo(data / "a")
    ((_, result),) = hash_files(Folder(data), founds, DIGESTS)
    assert isinstance(result, FileError)
    assert str(result).startswith("is a FIFO")


def test_a_file_that_has_become_a_link_is_not_read(data: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"1")
    (data / "a").write_bytes(b"1")
    founds = founds_of(Folder(data))
    (data / "a").unlink()
    (data / "a").symlink_to("../outside")
    ((_, result),) = hash_files(Folder(data), founds, DIGESTS)
    assert isinstance(result, FileError)
    assert str(result) == "changed while it was read: it is a symbolic link now"


def test_rules_of_the_ignore_file_are_before_those_of_exclude(data: Path, output: Path) -> None:
    for name in ("a.log", "b.log", "c.tmp", "keep.log"):
        (data / name).touch()
    (data / ".atlasignore").write_text("# logs\n*.log\n\n!keep.log\n")
    manifest = atlas.Manifest.generate(data, exclude=["*.tmp", "!b.log"])
    assert manifest.options.exclude == ("*.log", "!keep.log", "*.tmp", "!b.log")
    assert [e.path for e in manifest.entries] == [b".atlasignore", b"b.log", b"keep.log"]


def test_an_ignore_file_is_taken_apart_as_by_git(data: Path, tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf*.bom\r\na\x0cb\r\nc\xe2\x80\xa8d\n\n  \n#no\nlast\r"
    names = ("x.bom", "a\x0cb", "a", "b", "c\u2028d", "c", "d", "no", "last")
    (data / ".atlasignore").write_bytes(text)
    for name in names:
        (data / name).touch()
    manifest = atlas.Manifest.generate(data)
    assert manifest.options.exclude == ("*.bom", "a\x0cb", "c\u2028d", "last")
    kept = {os.fsdecode(entry.path) for entry in manifest.entries}
    assert kept == {".atlasignore", "a", "b", "c", "d", "no"}
    (data / ".atlasignore").rename(data / ".gitignore")
    subprocess.run(("git", "init", "-q", data), check=True)
    listing = ("git", "-C", data, "ls-files", "-z", "--others", "--exclude-standard")
    by_git = subprocess.run(listing, capture_output=True, check=True).stdout.split(b"\0")
    assert set(map(os.fsdecode, by_git)) - {"", ".gitignore"} == kept - {".atlasignore"}


@pytest.mark.parametrize(
    "rule", ["[[]x", "[![]x", "[0-9]--x", "[]a]x", "a[b-]c", "?*.a*b*c*", "**/a/**/b/**"]
)
def test_rules_that_need_care_warn_of_nothing(data: Path, rule: str) -> None:
    (data / "[x").touch()
    (data / "kept").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manifest = atlas.Manifest.generate(data, exclude=[rule])
    assert (b"[x" in [entry.path for entry in manifest.entries]) == (rule != "[[]x")


def test_what_a_rule_excludes_is_left_out_where_it_is_named_too(data: Path) -> None:
    (data / "sub/deep").mkdir(parents=True)
    for name in ("a.log", "b.txt", "sub/keep", "sub/deep/x.txt"):
        (data / name).touch()
    notes: list[str] = []
    manifest = atlas.Manifest.generate(
        ["a.log", "b.txt", "sub/keep", "sub/deep"],
        root=data,
        exclude=["*.log", "sub/"],
        note=notes.append,
    )
    assert [entry.path for entry in manifest.entries] == [b"b.txt"]
    assert notes == ["left out, because a rule excludes it: a.log, and 2 more"]
    assert manifest.verify(data)
    (data / "sub/keep").write_text("changed")
    assert manifest.verify(data)


def test_an_ignore_file_that_cannot_be_read_is_an_error(data: Path) -> None:
    (data / "a").touch()
    (data / ".atlasignore").write_bytes(b"\xff")
    with pytest.raises(FileError, match=r"^\.atlasignore: is not a list of rules in UTF-8"):
        atlas.Manifest.generate(data)
    (data / ".atlasignore").unlink()
    (data / ".atlasignore").symlink_to("a")
    with pytest.raises(FileError, match=r"^\.atlasignore: is a symbolic link, which is not"):
        atlas.Manifest.generate(data)


@pytest.mark.parametrize("content", [(), ("folder",)])
def test_a_folder_without_a_file_is_refused(data: Path, content: tuple[str, ...]) -> None:
    for name in content:
        (data / name).mkdir()
    with pytest.raises(FileError, match=f"^paths is '{data}': has no file to witness$"):
        atlas.Manifest.generate(data)


def test_what_is_no_folder_is_refused(data: Path) -> None:
    (data / "a").touch()
    with pytest.raises(FileError, match=f"^paths is '{data}/b': No such file or directory$"):
        atlas.Manifest.generate(data / "b")
    with pytest.raises(FileError, match=f"^paths is '{data}/a': is not a folder$"):
        atlas.Manifest.generate(data / "a")
    with pytest.raises(FileError, match=f"^root is '{data}/b': No such file or directory$"):
        atlas.Manifest.generate("x", root=data / "b")
    manifest = atlas.Manifest.generate(data)
    with pytest.raises(FileError, match=f"^root is '{data}/b': No such file or directory$"):
        manifest.verify(data / "b")
    with pytest.raises(FileError, match=f"^leaves is '{data}/b': No such file or directory$"):
        manifest.verify(data, leaves=data / "b")
    for name in ("output", "state"):
        with pytest.raises(FileError, match=f"{name} .*{data}/b.*: the folder {data}/b does not"):
            atlas.Manifest.generate(data, **{name: data / "b" / "c"})  # type: ignore[arg-type]


def test_some_paths_of_a_folder(data: Path) -> None:
    fill(data, (1, 2, 3, 4, 5, 6))
    manifest = atlas.Manifest.generate(["d1/", "./4", "4"], root=data)
    assert manifest.options.paths == ("4", "d1")
    assert [entry.path for entry in manifest.entries] == [b"4", b"d1/1"]
    with pytest.raises(atlas.WitnessError, match=r"path is '\.\./x', must be relative"):
        atlas.Manifest.generate(["../x"], root=data)
    with pytest.raises(atlas.WitnessError, match="path is '/x', must be relative"):
        atlas.Manifest.generate(["/x"], root=data)
    with pytest.raises(FileError, match="'7' No such file or directory"):
        atlas.Manifest.generate(["4", "7"], root=data)


def test_arguments_that_make_no_sense_are_refused(data: Path) -> None:
    (data / "a").touch()
    generate = atlas.Manifest.generate
    with pytest.raises(ValueError, match="flat and tree are False, must not both be"):
        generate(data, flat=False)
    with pytest.raises(ValueError, match="symlinks is 'x', must be one of record, error, follow"):
        generate(data, symlinks="x")
    with pytest.raises(ValueError, match="update is True, must be False without output"):
        generate(data, update=True, state=data / "s")
    with pytest.raises(ValueError, match="update is True, must be False if no state is kept"):
        generate(data, update=True, output=data / "o")
    with pytest.raises(ValueError, match="state is True, must be a path or None without output"):
        generate(data, state=True)
    with pytest.raises(ValueError, match="leaves is 'x', must be None without output"):
        generate(data, tree=True, leaves="x")
    with pytest.raises(ValueError, match=r"leaves is '.*/x', must be None without tree roots"):
        generate(data, output=data / "o", leaves=data / "x")
    written = {"output": data / "o", "leaves": data / "l", "state": data / "s"}
    for one, other in (("leaves", "output"), ("state", "output"), ("state", "leaves")):
        same = written | {one: data / "sub" / ".." / written[other].name}
        (data / "sub").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=f"^{one} is .*, must be another file than {other}$"):
            generate(data, tree=True, **same)  # type: ignore[arg-type]
        url = written | {one: "memory://x/y"}
        with pytest.raises(ValueError, match=f"^{one} is 'memory://x/y', must be a file of this"):
            generate(data, tree=True, **url)  # type: ignore[arg-type]
    assert sorted(path.name for path in data.iterdir()) == ["a", "sub"]
    with pytest.raises(ValueError, match="paths is empty, must have at least one"):
        generate([], root=data)
    with pytest.raises(TypeError, match="paths is of type int, must be a path or several"):
        generate(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="exclude is of type str, must be a sequence"):
        generate(data, exclude="*")
    with pytest.raises(ValueError, match=r"storage_options is .*, must be None for a folder"):
        generate(data, storage_options={"a": 1})


# --- What changes meanwhile


@pytest.mark.parametrize("size", [100, 3 * BLOCK_BYTES])
@pytest.mark.parametrize("change", ["grow", "shrink", "write", "replace", "vanish"])
def test_a_file_that_changes_while_it_is_read_is_a_problem(
    data: Path, output: Path, change: str, size: int
) -> None:
    fill(data, SIZES)
    path = data / "victim"
    path.write_bytes(noise(size))
    age(data)

    def disturb(found: Found) -> None:
        if found.path != b"victim":
            return
        if change == "grow":
            with path.open("ab") as file:
                file.write(b"x")
        elif change == "shrink":
            os.truncate(path, size // 2)
        elif change == "write":
            with path.open("r+b") as file:
                file.write(b"xx")
        elif change == "replace":
            path.unlink()
            path.write_bytes(noise(size, 1))
        else:
            path.unlink()

    if change in ("replace", "vanish"):  # before it is opened
        source: Folder = _Before(data, disturb)
    else:
        source = Disturbed(data, opened=disturb)
    _, problems = generate(data, output, source=source)
    expected = "No such file or directory" if change == "vanish" else "changed while it was read"
    if change == "grow":
        expected += f": it had {size} bytes, and there are more"
    assert problems == {b"victim": expected}
    assert not output.exists()


class _Before(Folder):
    batches = False

    def __init__(self, root: Path, disturb: Callable[[Found], object]) -> None:
        super().__init__(root)
        self._disturb = disturb

    def open(self, found: Found):  # type: ignore[no-untyped-def]
        self._disturb(found)
        return super().open(found)


def test_a_folder_that_cannot_be_listed_is_a_problem(
    data: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(data, SIZES)
    scandir = os.scandir

    def refuse(descriptor: int) -> object:
        if os.path.samestat(os.fstat(descriptor), (data / "d1").stat()):
            raise PermissionError(13, "Permission denied")
        return scandir(descriptor)

    monkeypatch.setattr(os, "scandir", refuse)
    # What native code cannot list is left to the other way.
    monkeypatch.setattr(folder, "list_folder", lambda *_: None)
    _, problems = generate(data, output)
    assert problems == {b"d1": "Permission denied"}
    assert not output.exists()


def test_what_vanishes_while_it_is_listed_is_no_part_of_it(
    data: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(data, SIZES)
    open_ = os.open

    def vanish(path: Any, flags: int, *mode: int, **options: Any) -> int:
        if path == b"d1":
            (data / "d1").rename(data.parent / "gone")
        return open_(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", vanish)
    _, problems = generate(data, output)
    assert problems == {}
    assert not any(path.startswith(b"d1/") for path in paths_of(output))


def test_python_users_get_the_first_problem_and_the_number_of_others(data: Path) -> None:
    (data / "file").touch()
    for name in ("1", "2", "3"):
        os.mkfifo(data / name)
    with pytest.raises(FileError, match=r"^not all could be read: '\d' is a FIFO.*, and 2 more$"):
        atlas.Manifest.generate(data)


# --- Outputs in the folder


def test_what_is_written_into_the_folder_is_no_part_of_it(data: Path) -> None:
    fill(data, SIZES)
    expected = atlas.Manifest.generate(data, tree=True)
    (data / "sub").mkdir()
    output, leaves = data / "sub" / "x.atlas.json", data / "sub" / "x.atlas.leaves"
    for _ in range(2):
        found = atlas.Manifest.generate(data, tree=True, output=output, leaves=leaves)
        assert found == expected
        assert output.read_text() == expected.to_json()
    assert {path.name for path in (data / "sub").iterdir()} == {"x.atlas.json", "x.atlas.leaves"}


def test_nothing_else_is_left_out_of_a_manifest(data: Path) -> None:
    """Neither what killed runs left, nor what has the name of something that is written."""
    contents = fill(data, SIZES)
    output = data / "x.atlas.json"
    atlas.Manifest.generate(data, output=output)
    (data / "again.json").hardlink_to(output)
    others = (".atlas12288-0123456789abcdef.tmp", "x.atlas.leaves/deep/evil", "x.json")
    for other in others:
        (data / other).parent.mkdir(parents=True, exist_ok=True)
        (data / other).write_text("evil")
    found = atlas.Manifest.generate(data, output=output)
    expected = {*contents, b"again.json", *map(os.fsencode, others)}
    assert {entry.path for entry in found.entries} == expected


def test_outputs_elsewhere_hide_nothing(data: Path, tmp_path: Path) -> None:
    names = [str(tmp_path / "a"), str(tmp_path / "data2" / "b")]
    assert all(paths_in(str(data), name) == set() for name in names)
    (tmp_path / "link").symlink_to(data)
    assert paths_in(str(data), str(tmp_path / "link" / "c")) == {b"c"}
    (data / "d").symlink_to("real/d")
    assert paths_in(str(data), str(data / "d")) == {b"d", b"real/d"}


def test_what_was_written_into_the_folder_is_not_added_where_one_says_what_it_was(
    data: Path,
) -> None:
    fill(data, SIZES)
    written = {"output": data / "m.atlas.json", "leaves": data / "m.leaves"}
    manifest = atlas.Manifest.generate(data, tree=True, **written)  # type: ignore[arg-type]
    report = manifest.verify(data, outputs=list(written.values()))
    assert (report.holds, report.left_out) == (True, (b"m.atlas.json", b"m.leaves"))
    report = manifest.verify(data, leaves=data / "m.leaves")
    assert [each.path for each in report.differences] == [b"m.atlas.json"]
    assert report.left_out == (b"m.leaves",)
    for name in (".atlas12288-0123456789abcdef.tmp", "m.atlas.json.html"):
        (data / name).touch()
    report = manifest.verify(data, outputs=list(written.values()))
    added = [b".atlas12288-0123456789abcdef.tmp", b"m.atlas.json.html"]
    assert [each.path for each in report.differences] == added


# --- What is there already


def refusal(data: Path, **written: Path) -> str:
    """Why nothing is written, when nothing was changed."""
    folder = data.parent
    before = facts(folder.rglob("*"))
    with pytest.raises(FileError) as caught:
        atlas.Manifest.generate(data, tree=True, **written)  # type: ignore[arg-type]
    assert facts(folder.rglob("*")) == before
    return str(caught.value)


def test_what_is_no_manifest_is_not_replaced(data: Path, output: Path) -> None:
    fill(data, SIZES)
    statement = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/x"}
    for content in (b"my novel\n", b"null\n", b"{}", json.dumps(statement).encode(), bytes(64)):
        output.write_bytes(content)
        reason = "is not a manifest or witness file, and is not replaced"
        assert refusal(data, output=output) == f"output is '{output}': {reason}"


def test_leaves_replace_nothing_but_those_of_the_manifest(data: Path, output: Path) -> None:
    fill(data, SIZES)
    leaves = output.with_name("leaves")
    reason = f"is not a file with the leaves of {output} as it is, and is not replaced"
    leaves.write_bytes(random.Random(1).randbytes(64))  # a key, say
    assert reason in refusal(data, output=output, leaves=leaves)
    leaves.unlink()
    for _ in range(2):
        atlas.Manifest.generate(data, tree=True, output=output, leaves=leaves)
    good = leaves.read_bytes()
    for bad in (good[:-1], good[:-32], good + bytes(32), b"\1" + good[1:], good[:-1] + b"\1"):
        leaves.write_bytes(bad)
        assert reason in refusal(data, output=output, leaves=leaves)
    leaves.unlink()
    leaves.symlink_to("real")
    assert "is a symbolic link to real, and is not replaced" in refusal(
        data, output=output, leaves=leaves
    )
    leaves.with_name("real").write_bytes(good)
    assert "is not replaced" in refusal(data, output=output, leaves=leaves)
    leaves.unlink()
    leaves.write_bytes(good)
    atlas.Manifest.generate(data, tree=True, output=output, leaves=leaves)
    assert leaves.read_bytes() == good


# --- Resume and update


def test_state_names_are_beside_the_output() -> None:
    assert state_name("a/b.atlas.json") == "a/b.atlas.state"
    assert state_name("b.json") == "b.json.atlas.state"
    assert state_name("b") == "b.atlas.state"


@pytest.mark.parametrize("flat", slow_but([True], [True, False]))
def test_a_run_that_is_killed_again_and_again_gives_the_same_bytes(
    data: Path, tmp_path: Path, flat: bool
) -> None:
    """Each run is killed after some more reads; all together read little more than once."""
    contents = fill(data, SIZES * 15 + (9 * BLOCK_BYTES + 17, 2 * BLOCK_BYTES, BLOCK_BYTES + 1))
    age(data)
    whole, output = tmp_path / "whole", tmp_path / "killed"
    assert manifest_runs.start(data, whole, reads=0, flat=flat).wait() == 0
    kills = 0
    # Not fewer: a batch of files that is not done is begun anew.
    moments = random.Random(12288)
    while True:
        process = manifest_runs.start(data, output, reads=moments.randint(4, 30), flat=flat)
        out, _ = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == KILLED
        assert not output.exists()
        kills += 1
        assert kills < 60
    assert kills >= 4
    assert int(out) < sum(map(len, contents.values())) / 2
    assert output.read_bytes() == whole.read_bytes()
    assert Path(f"{output}.leaves").read_bytes() == Path(f"{whole}.leaves").read_bytes()


class Stopped(StoppedRuns):
    """Runs with a state, of which the first is stopped after some bytes."""

    def __init__(self, folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        monkeypatch.setattr(keeper, "_COMMIT_S", 0.0)
        self.folder = folder
        self.output = output

    def run(self, stop_after: int | None = None, **arguments: Any) -> RunCounts:
        advance = self.begin(stop_after)
        outcome, problems = generate(
            self.folder,
            self.output,
            **{
                "state": str(self.output.with_suffix(".state")),
                "leaves": str(self.output.with_suffix(".leaves")),
                "advance": advance,
                "note": self.notes.append,
                "threads": 1,
                **arguments,
            },
        )
        assert problems == {}
        return outcome

    def is_told(self, *texts: str) -> bool:
        """Is this all that the run said, each a regular expression?"""
        assert len(self.notes) == len(texts), self.notes
        return all(map(re.fullmatch, texts, self.notes))

    def stop(self, after: int) -> None:
        with pytest.raises(StopError):
            self.run(after)


@pytest.fixture
def stopped(data: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> Stopped:
    fill(data, SIZES)
    (data / "huge").write_bytes(noise(6 * BLOCK_BYTES + 100, 7))
    age(data)
    return Stopped(data, output, monkeypatch)


def test_a_huge_file_goes_on_in_the_middle(stopped: Stopped, data: Path) -> None:
    stopped.stop(4 * BLOCK_BYTES)
    outcome = stopped.run()
    assert stopped.is_told("goes on with the state of the run at .*: 0 files known, 1 in part")
    assert stopped.read == sum(SIZES) + 3 * BLOCK_BYTES + 100
    assert outcome.known == 0
    expected = atlas.Manifest.generate(data, tree=True)
    assert stopped.output.read_text() == expected.to_json()
    report = expected.verify(data, leaves=stopped.output.with_suffix(".leaves"))
    assert report.holds
    assert report.leaves_error is None


@pytest.mark.parametrize("each_s", [0.0, 60.0], ids=["progress is kept", "progress waits"])
@pytest.mark.parametrize("tree", [True, False], ids=["tree", "flat"])
def test_a_huge_file_that_could_not_be_read_is_read_anew(
    stopped: Stopped,
    data: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    tree: bool,
    each_s: float,
) -> None:
    monkeypatch.setattr(keeper, "_COMMIT_S", each_s)
    reads = 0

    def fail_at_last(found: Found) -> None:
        nonlocal reads
        if found.path == b"huge":
            reads += 1
            if reads == 7:
                raise FileError("cannot be read")

    source = Disturbed(data, read=fail_at_last)
    state, leaves = (str(output.with_suffix(f".{name}")) for name in ("state", "leaves"))
    options = {"tree": tree, "state": state, "leaves": leaves if tree else None, "threads": 1}
    _, problems = generate(data, output, source=source, **options)
    assert problems == {b"huge": "cannot be read"}
    stopped.run(**options)
    known = len(SIZES)
    assert stopped.is_told(f"goes on with the state of the run at .*: {known} files known")
    assert stopped.read == 6 * BLOCK_BYTES + 100


def test_a_huge_file_that_changed_meanwhile_is_read_anew(stopped: Stopped, data: Path) -> None:
    stopped.stop(4 * BLOCK_BYTES)
    with (data / "huge").open("r+b") as file:
        file.write(b"changed")
    stopped.run()
    assert stopped.read == sum(SIZES) + 6 * BLOCK_BYTES + 100
    assert stopped.output.read_text() == atlas.Manifest.generate(data, tree=True).to_json()


def test_what_was_modified_just_before_the_listing_is_not_trusted(
    stopped: Stopped, data: Path
) -> None:
    """It could be written again within the same tick of the clock, after it was read."""
    soon = time.time() + 1000
    os.utime(data / "0", (soon, soon))
    os.utime(data / "huge", (soon, soon))
    stopped.stop(4 * BLOCK_BYTES)
    stopped.run()
    assert stopped.read == sum(SIZES) + 6 * BLOCK_BYTES + 100
    (data / "2").write_bytes(noise(SIZES[2], 99))
    os.utime(data / "2", (soon, soon))
    first = stopped.run(update=True)
    assert (first.read, first.known) == (3, len(SIZES) - 2)
    age(data)  # has another modification time
    for name in ("0", "2", "huge"):
        os.utime(data / name, (1e9, 1e9))
    assert stopped.run(update=True).known == 0
    assert stopped.run(update=True).read == 0


def test_the_same_modification_time_and_other_bytes_is_seen_where_it_is_recent(
    stopped: Stopped, data: Path
) -> None:
    """What git calls racy."""
    path = data / "0"
    path.write_bytes(b"1")
    times = path.stat().st_mtime_ns + 10**12
    os.utime(path, ns=(times, times))
    stopped.run()
    path.write_bytes(b"2")
    os.utime(path, ns=(times, times))
    assert stopped.run(update=True).refused == 1
    stopped.run(update=True, accept=True)
    assert stopped.output.read_text() == atlas.Manifest.generate(data, tree=True).to_json()


@pytest.mark.parametrize("change", ["content", "inode", "time", "size"])
def test_an_update_reads_what_changed_alone(stopped: Stopped, data: Path, change: str) -> None:
    first = stopped.run()
    assert first == RunCounts(7, 0, sum(SIZES) + 6 * BLOCK_BYTES + 100, 7, 0, 0)
    assert stopped.run(update=True) == first._replace(read=0, known=7)
    assert stopped.read == 0
    path = data / "4"
    status = path.stat()
    if change == "inode":
        path.rename(data / "old")
        path.write_bytes(noise(status.st_size, 50))
        (data / "old").unlink()
        os.utime(path, ns=(0, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(0, status.st_mtime_ns + 1))
    else:
        path.write_bytes(noise(status.st_size + (change == "size"), 51))
    (data / "new").write_bytes(b"new")
    (data / "0").unlink()
    expected = atlas.Manifest.generate(data, tree=True)
    outcome = stopped.run(update=True)
    assert (outcome.read, outcome.known, outcome.refused) == (2, 5, change == "inode")
    if outcome.refused:  # a time that is set back is no known edit
        assert stopped.run(update=True, accept=True).read == 0
    assert stopped.output.read_text() == expected.to_json()
    report = expected.verify(data, leaves=stopped.output.with_suffix(".leaves"))
    assert report.holds
    assert report.leaves_error is None


def test_an_update_that_is_stopped_goes_on(stopped: Stopped, data: Path) -> None:
    stopped.run()
    (data / "huge").write_bytes(noise(5 * BLOCK_BYTES, 60))
    age(data)
    expected = atlas.Manifest.generate(data, tree=True).to_json()
    with pytest.raises(StopError):
        stopped.run(3 * BLOCK_BYTES, update=True)
    assert stopped.output.read_text() != expected
    stopped.run()
    assert stopped.read == 3 * BLOCK_BYTES + sum(SIZES)
    assert stopped.output.read_text() == expected


def test_without_update_a_finished_state_is_begun_anew(stopped: Stopped) -> None:
    first = stopped.run()
    assert stopped.run() == first
    assert stopped.notes == []


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_files_whose_leaves_are_gone_are_read_again_and_damaged_leaves_are_refused(
    stopped: Stopped, data: Path, damage: str
) -> None:
    stopped.run()
    sidecar = stopped.output.with_suffix(".leaves")
    good = sidecar.read_bytes()
    bad = {"gone": b"", "cut": good[:-1], "flipped": bytes([*good[:-1], good[-1] ^ 1])}[damage]
    if bad:
        sidecar.write_bytes(bad)
        # Nobody knows whether they are ours, so they are neither used nor replaced.
        with pytest.raises(FileError, match="is not a file with the leaves of"):
            stopped.run(update=True)
        assert sidecar.read_bytes() == bad
    sidecar.unlink()
    assert stopped.run(update=True).read == 3
    assert sidecar.read_bytes() == good


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_files_whose_leaves_are_damaged_meanwhile_are_read_again(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    stopped.run()
    sidecar = stopped.output.with_suffix(".leaves")
    good = sidecar.read_bytes()
    bad = {"cut": good[:-1], "flipped": bytes([*good[:-1], good[-1] ^ 1])}[damage]
    real = store.Store.begin

    def begin(*arguments: Any, **options: Any) -> Any:
        sidecar.write_bytes(bad)  # after they were judged
        return real(*arguments, **options)

    monkeypatch.setattr(store.Store, "begin", begin)
    with pytest.raises(FileError, match="is not a file with the leaves of"):
        stopped.run(update=True)
    assert stopped.read > 0
    assert sidecar.read_bytes() == bad


@pytest.mark.parametrize(
    ("other", "keys"),
    [
        ({"leaves": None}, "leaves"),
        ({"source": "subfolder"}, "source"),
    ],
)
def test_a_state_of_other_options_is_discarded_and_that_is_said(
    stopped: Stopped, data: Path, other: dict[str, Any], keys: str
) -> None:
    stopped.stop(4 * BLOCK_BYTES)
    if other == {"source": "subfolder"}:
        other = {"source": Folder(data / "d1")}
    stopped.run(**other)
    state = stopped.output.with_suffix(".state")
    assert stopped.notes == [
        f"the state {state} is of a run with another choice of {keys}: begins anew"
    ]


def test_an_update_with_other_rules_reads_only_what_they_let_in(
    stopped: Stopped, data: Path
) -> None:
    (data / "link").symlink_to("4")
    stopped.run()
    everything = len(SIZES) + 1
    for options, known, read in (
        ({"exclude": ["/0", "/d1/"]}, everything - 2, 0),
        ({}, everything - 2, 2),
        ({"symlinks": "follow"}, everything, 1),
        ({"paths": [b"d1", b"huge"], "source": Folder(data)}, 2, 0),
        ({}, 2, everything - 2),
    ):
        outcome = stopped.run(update=True, **options)
        files = "1 file" if known == 1 else f"{known} files"
        assert stopped.is_told(f"goes by the state of the run at .*: {files} known")
        assert (outcome.known, outcome.read) == (known, read)
        manifest = atlas.Manifest.from_json(stopped.output.read_bytes())
        source = options.pop("source", Folder(data))
        fresh, hashes = stopped.output.with_name("fresh"), stopped.output.with_name("hashes")
        generate(data, fresh, source=source, leaves=str(hashes), **options)
        assert stopped.output.read_bytes() == fresh.read_bytes()
        assert stopped.output.with_suffix(".leaves").read_bytes() == hashes.read_bytes()
        report = manifest.verify(data, leaves=stopped.output.with_suffix(".leaves"))
        assert (report.holds, report.leaves_error) == (True, None)


def test_a_stopped_run_goes_on_with_other_rules(stopped: Stopped, data: Path) -> None:
    stopped.stop(4 * BLOCK_BYTES)
    stopped.run(exclude=["/0"])
    assert stopped.is_told("goes on with the state of the run at .*: 0 files known, 1 in part")
    assert stopped.read == sum(SIZES) - SIZES[0] + 3 * BLOCK_BYTES + 100
    expected = atlas.Manifest.generate(data, tree=True, exclude=["/0"])
    assert stopped.output.read_text() == expected.to_json()
    assert expected.verify(data, leaves=stopped.output.with_suffix(".leaves"))


def test_an_update_without_a_state_reads_all_and_says_so(stopped: Stopped) -> None:
    assert stopped.run(update=True).known == 0
    assert stopped.is_told("there is no state of a run that wrote the manifest: all files are read")


def test_after_a_problem_the_next_run_reads_that_file_alone(
    stopped: Stopped, data: Path, output: Path
) -> None:
    os.mkfifo(data / "fifo")
    state = str(output.with_suffix(".state"))
    leaves = str(output.with_suffix(".leaves"))
    _, problems = generate(data, output, state=state, leaves=leaves)
    assert list(problems) == [b"fifo"]
    assert not output.exists()
    (data / "fifo").unlink()
    (data / "fifo").write_bytes(b"1")
    assert stopped.run().read == 1


def test_leaves_under_way_lie_beside_the_output_until_the_run_ends(
    stopped: Stopped, data: Path
) -> None:
    stopped.stop(5 * BLOCK_BYTES)
    (sidecar,) = stopped.output.parent.glob(".atlas12288-*.tmp")
    assert sidecar.stat().st_mode & 0o777 == 0o600
    assert sidecar.stat().st_size == 4 * BLOCK_BYTES // WINDOW_BYTES * DIGEST_BYTES
    state = stopped.output.with_suffix(".state")
    assert state.stat().st_size < 2000
    stopped.run()
    assert stopped.read < sum(SIZES) + 6 * BLOCK_BYTES
    assert not sidecar.exists()
    assert sorted(path.name for path in data.parent.iterdir()) == [
        "data",
        *(f"out.atlas.{kind}" for kind in ("json", "leaves", "state")),
    ]


# --- States that cannot be used


def test_a_second_run_on_the_same_state_is_refused(data: Path, output: Path) -> None:
    (data / "a").write_bytes(b"1")
    state = str(output.with_suffix(".state"))

    def again(_: Found) -> None:
        with pytest.raises(
            FileError,
            match=f"^the state {state} is in use by another run, must be used by one alone$",
        ):
            generate(data, output, state=state)
        code = (
            "import sys; from atlas12288.manifest._kept_states import open_state;"
            " open_state(sys.argv[1], None)"
        )
        done = subprocess.run((sys.executable, "-c", code, state), capture_output=True, check=False)
        assert done.stderr.decode().endswith(
            f"InUseError: the state {state} is in use by another run, must be used by one alone\n"
        )

    outcome, _ = generate(data, output, state=state, source=Disturbed(data, read=again), threads=1)
    assert outcome.read == 1


@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\0" + bytes(200)])
def test_a_file_that_is_no_state_is_not_replaced(data: Path, output: Path, content: bytes) -> None:
    (data / "a").write_bytes(b"1")
    state = output.with_suffix(".state")
    state.write_bytes(content * 50)
    with pytest.raises(FileError, match=f"^the state {state} is "):
        generate(data, output, state=str(state))
    assert state.read_bytes() == content * 50
    assert not output.exists()


def test_the_database_of_another_program_is_not_replaced(data: Path, output: Path) -> None:
    (data / "a").write_bytes(b"1")
    state = output.with_suffix(".state")
    base = sqlite3.connect(state)
    base.execute("CREATE TABLE mine (x)")
    base.close()
    before = state.read_bytes()
    with pytest.raises(FileError, match="is not the state of a manifest, and is not replaced"):
        generate(data, output, state=str(state))
    assert state.read_bytes() == before


def test_a_state_of_another_version_is_begun_anew(stopped: Stopped) -> None:
    stopped.stop(4 * BLOCK_BYTES)
    state = stopped.output.with_suffix(".state")
    state.write_bytes(state.read_bytes().replace(MAGIC, MAGIC.replace(b"state 2", b"state 9"), 1))
    expected = atlas.Manifest.generate(stopped.folder, tree=True).to_json()
    stopped.run()
    assert stopped.notes == [
        f"the state {state} belongs to another version of atlas12288: begins anew"
    ]
    assert stopped.output.read_text() == expected


def test_a_state_in_a_folder_that_is_not_there_is_an_error(data: Path, output: Path) -> None:
    (data / "a").write_bytes(b"1")
    state = output.parent / "nowhere" / "x.state"
    with pytest.raises(
        FileError, match=f"^the state {state} cannot be used: the folder .* does not exist$"
    ):
        generate(data, output, state=str(state))


def test_a_damaged_state_never_gives_another_manifest(
    stopped: Stopped, data: Path, output: Path
) -> None:
    """One error, or the right bytes, whichever byte of the state is damaged."""
    expected = atlas.Manifest.generate(data, tree=True)
    with pytest.raises(StopError):
        stopped.run(6 * BLOCK_BYTES + sum(SIZES) // 2, leaves=None)
    state = output.with_suffix(".state")
    good = state.read_bytes()
    moments = random.Random(5)
    used = [at for at, byte in enumerate(good) if byte]
    right = went_on = 0
    for _ in range(60):
        at = moments.choice(used)
        state.write_bytes(
            bytes([*good[:at], good[at] ^ 1 << moments.randrange(8), *good[at + 1 :]])
        )
        output.unlink(missing_ok=True)
        try:
            stopped.run(leaves=None)
        except FileError as found:
            error = str(found)
        else:
            assert output.read_text() == expected.to_json()
            right += 1
            went_on += any("goes on" in note for note in stopped.notes)
            continue
        assert error.startswith(f"the state {state} ")
        assert not output.exists()
    assert right > went_on > 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "replaced", "link", "two names"])
def test_leaves_under_way_that_are_not_as_they_were_are_not_used(
    stopped: Stopped, data: Path, output: Path, damage: str
) -> None:
    stopped.stop(5 * BLOCK_BYTES)
    (sidecar,) = output.parent.glob(".atlas12288-*.tmp")
    good = sidecar.read_bytes()
    elsewhere = output.with_name("elsewhere")
    if damage == "cut":
        os.truncate(sidecar, len(good) - 1)
    elif damage == "flipped":
        with sidecar.open("r+b") as file:
            file.write(bytes([good[0] ^ 1]))
    elif damage == "gone":
        sidecar.unlink()
    elif damage == "two names":
        os.link(sidecar, elsewhere)
    else:
        elsewhere.write_bytes(good)
        if damage == "replaced":
            elsewhere.rename(sidecar)
        else:
            sidecar.unlink()
            sidecar.symlink_to(elsewhere)
    stopped.run()
    assert stopped.read == sum(SIZES) + 6 * BLOCK_BYTES + 100
    expected = atlas.Manifest.generate(data, tree=True)
    assert output.read_text() == expected.to_json()
    assert expected.verify(data, leaves=output.with_suffix(".leaves")).leaves_error is None
    if elsewhere.exists():
        assert elsewhere.read_bytes() == good


# --- Ctrl-C and memory

CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import atlas12288 as atlas
from atlas12288.manifest import _store
_store.RACY_NS = 0
left = 10
def advance(count):
    global left
    left -= 1
    if left == 0:
        print("reading", flush=True)
        time.sleep(60)
try:
    atlas.Manifest.generate(sys.argv[2], output=sys.argv[3], state=sys.argv[4], threads=2,
                            advance=advance)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def test_ctrl_c_stops_at_once_and_the_next_run_goes_on(data: Path, output: Path) -> None:
    fill(data, (10 * BLOCK_BYTES,) + (BLOCK_BYTES,) * 10)
    age(data)
    state = output.with_suffix(".state")
    tests = str(Path(__file__).parent)
    process = subprocess.Popen(
        (sys.executable, "-c", CHILD, tests, str(data), str(output), str(state)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert rest == "stopped\n"
    assert process.returncode == 0
    assert not output.exists()
    read: list[int] = []
    found = atlas.Manifest.generate(data, output=output, state=state, advance=read.append)
    assert 0 < sum(read) < 20 * BLOCK_BYTES - 5 * BLOCK_BYTES
    assert found == atlas.Manifest.generate(data)


MEMORY = """
import sys
import atlas12288.manifest._manifest
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._arguments import hasher
from atlas12288.manifest._generate import generate_manifest, read_options
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
before = peak()
source = Folder(sys.argv[1])
generate_manifest(source, read_options(source, tree=True), sys.argv[2], leaves=sys.argv[2] + "l",
                  state=sys.argv[2] + "s", hash_files=hasher(2))
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_files_or_their_sizes(data: Path, output: Path) -> None:
    with (data / "huge").open("wb") as file:
        file.truncate(100 * BLOCK_BYTES)
    for index in range(8000):
        (data / f"{index:030}").write_bytes(b"%d" % index)
    done = subprocess.run(
        (sys.executable, "-c", MEMORY, str(data), str(output)), capture_output=True, check=True
    )
    assert int(done.stdout) < 64 * 1024


def test_a_batch_is_one_file_where_files_take_long(data: Path) -> None:
    """Over a network, so that threads share what there is."""
    fill(data, (1,) * 40)
    all_read = threading.Barrier(20, timeout=60)  # broken where fewer read at once

    def slow(_: Found) -> None:
        all_read.wait()
        time.sleep(engine._BATCH_LONG_S * 1.5)

    source = Disturbed(data, read=slow)
    assert len(list(hash_files(source, founds_of(source), (FLAT,), threads=20))) == 40


def test_the_manifest_is_json_that_any_reader_takes(data: Path, output: Path) -> None:
    fill(data, SIZES)
    generate(data, output)
    document = json.loads(output.read_text())
    assert [entry["size"] for entry in document["predicate"]["files"]]
