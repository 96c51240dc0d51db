# SPDX-License-Identifier: Apache-2.0
"""Folders compared with their manifests: every difference is named, and nothing else."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas12288 import WINDOW_BYTES, TreeWitness, WitnessError
from atlas12288 import _sidecars as sidecars
from atlas12288._files import FileError, RegularFile
from atlas12288._sidecars import WindowRange
from atlas12288.manifest._beside import outputs_in
from atlas12288.manifest._differences import Difference
from atlas12288.manifest._entries import DIGESTS, Entry
from atlas12288.manifest._lined import Lined
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._manifest import Manifest
from atlas12288.manifest._ranges import RANGES_MOST
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.source import Found, Problem, Reader, Source
from atlas12288.manifest._statement import Options
from atlas12288.manifest._verify import WrongRootError, verify_manifest
from support.leftovers import nothing_left
from support.manifests import kinds
from support.strategies import noise
from support.threads import in_threads

FLAT, TREE = DIGESTS[:1], DIGESTS[1:]
BLOCK = 256 * WINDOW_BYTES


class Link(NamedTuple):
    """A symbolic link of a modelled folder."""

    target: bytes


# A folder as the tests think of it: no empty folders.
Tree = dict[bytes, bytes | Link]


def make(root: Path, tree: Tree) -> None:
    for path, content in tree.items():
        place = root / os.fsdecode(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            place.symlink_to(os.fsdecode(content.target))
        else:
            place.write_bytes(content)


def entry_of(path: bytes, content: bytes | Link, digests: tuple[str, ...]) -> Entry:
    """By hashlib, and by tree witnesses of bytes in memory."""
    if isinstance(content, Link):
        return Entry(path, target=content.target)
    return Entry(
        path,
        len(content),
        sum(content) % 96,
        hashlib.sha256(content).digest() if DIGESTS[0] in digests else None,
        TreeWitness.generate(content).root if DIGESTS[1] in digests else None,
    )


def manifest_of(tree: Tree, digests: tuple[str, ...] = DIGESTS, **options: Any) -> Any:
    """What verification takes of a manifest: its options and entries."""
    entries = tuple(entry_of(path, tree[path], digests) for path in sorted(tree))
    return SimpleNamespace(options=Options(digests=digests, **options), entries=entries)


def leaves_of(tree: Tree) -> bytes:
    files = (tree[path] for path in sorted(tree))
    return b"".join(
        TreeWitness.generate(data).leaves or b"" for data in files if isinstance(data, bytes)
    )


def windows_that_differ(before: bytes, after: bytes) -> list[int]:
    starts = range(0, max(len(before), len(after)), WINDOW_BYTES)
    pairs = ((before[at : at + WINDOW_BYTES], after[at : at + WINDOW_BYTES]) for at in starts)
    return [window for window, (one, two) in enumerate(pairs) if one != two]


def runs_of(windows: list[int], length: int) -> tuple[WindowRange, ...]:
    runs: list[tuple[int, int]] = []
    for window in windows:
        if runs and runs[-1][1] == window:
            runs[-1] = runs[-1][0], window + 1
        else:
            runs.append((window, window + 1))
    return tuple(
        WindowRange(first, stop, first * WINDOW_BYTES, min(stop * WINDOW_BYTES, length))
        for first, stop in runs
    )


def expected(
    before: Tree, after: Tree, digests: tuple[str, ...], with_leaves: bool
) -> list[Difference]:
    """The differences, without their reasons."""
    found = []
    for path in sorted(before | after):
        was, now = before.get(path), after.get(path)
        sizes = size_of(was), size_of(now)
        if now is None:
            found.append(Difference(path, "missing", (), "", *sizes))
        elif was is None:
            found.append(Difference(path, "added", (), "", *sizes))
        elif isinstance(was, Link) or isinstance(now, Link):
            if was != now:
                found.append(Difference(path, "changed", ("symlink",), "", *sizes))
        elif was != now:
            what = ["size"] * (len(was) != len(now))
            if what and not with_leaves:
                found.append(Difference(path, "changed", ("size",), "", *sizes))
                continue
            what += ["residue"] * (sum(was) % 96 != sum(now) % 96)
            difference = Difference(path, "changed", (*what, *digests), "", *sizes)
            if with_leaves:
                windows = windows_that_differ(was, now)
                runs = runs_of(windows, max(len(was), len(now)))
                difference = replace(
                    difference, ranges=runs, range_count=len(runs), windows=len(windows)
                )
            found.append(difference)
    return with_moves(found, before, after)


def with_moves(found: list[Difference], before: Tree, after: Tree) -> list[Difference]:
    """The differences, where a content that is missing once and was added once was moved."""
    places: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for each in found:
        if each.kind in ("missing", "added"):
            content = (before if each.kind == "missing" else after)[each.path]
            if isinstance(content, bytes) and content:
                sides = places.setdefault(content, ([], []))
                sides[each.kind == "added"].append(each.path)
    moves = {gone[0]: come[0] for gone, come in places.values() if (len(gone), len(come)) == (1, 1)}
    return [
        replace(each, kind="moved", moved_to=moves[each.path], found_size=each.size)
        if each.path in moves and each.kind == "missing"
        else each
        for each in found
        if each.kind != "added" or each.path not in moves.values()
    ]


def size_of(content: bytes | Link | None) -> int | None:
    return len(content) if isinstance(content, bytes) else None


def without_reasons(differences: tuple[Difference, ...]) -> list[Difference]:
    return [replace(each, reason="") for each in differences]


@contextlib.contextmanager
def sidecar(folder: Path, data: bytes) -> Iterator[RegularFile]:
    (folder / "sidecar").write_bytes(data)
    with RegularFile(str(folder / "sidecar")) as file:
        yield file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


SMALL: Tree = {b"a": b"first", b"b/c": b"second", b"b/d": b"", b"z": Link(b"a")}


# --- what a report says ---


def test_a_folder_that_is_what_its_manifest_says(root: Path) -> None:
    make(root, SMALL)
    report = verify_manifest(manifest_of(SMALL), Folder(root))
    assert report.holds
    assert report.differences == ()
    assert (report.files, report.links, report.bytes, report.complete) == (3, 1, 11, True)
    report.raise_unless_holds()


def test_every_kind_of_difference_by_name_in_order_of_path(root: Path) -> None:
    make(root, SMALL | {b"b/added": b"new", b"0": b"also new"})
    (root / "a").write_bytes(b"First")
    (root / "b/c").unlink()
    os.mkfifo(root / "b/c")
    (root / "b/d").unlink()
    (root / "z").unlink()
    (root / "z").symlink_to("b")
    seen: list[Difference] = []
    listener = FunctionListener(difference=seen.append)
    report = verify_manifest(manifest_of(SMALL), Folder(root), listener=listener)
    assert not report.holds
    assert [(each.path, each.kind) for each in report.differences] == [
        (b"0", "added"),
        (b"a", "changed"),
        (b"b/added", "added"),
        (b"b/c", "unreadable"),
        (b"b/d", "missing"),
        (b"z", "changed"),
    ]
    counts = {"changed": 2, "missing": 1, "added": 2, "unreadable": 1, "moved": 0}
    assert report.counts() == counts
    assert tuple(seen) == report.differences
    assert (report.files, report.links) == (3, 1)


def test_the_reason_says_what_is_and_what_must_be(root: Path) -> None:
    tree: Tree = {b"file": b"12345", b"link": Link(b"file"), b"other": b"same"}
    make(root, {b"file": Link(b"x"), b"link": Link(b"elsewhere"), b"other": b"longer"})
    reasons = [each.reason for each in verify_manifest(manifest_of(tree), Folder(root)).differences]
    assert reasons == [
        "is a symbolic link to 'x', must be a file",
        "is a symbolic link to 'elsewhere', must be a symbolic link to 'file'",
        "has 6 bytes, must have 4",
    ]
    make(root / "2", {b"file": b"12354", b"link": b"file", b"other": b"same"})
    report = verify_manifest(manifest_of(tree, FLAT), Folder(root / "2"))
    assert [each.reason for each in report.differences] == [
        "differs in sha256",
        "is a file, must be a symbolic link to 'file'",
    ]


def test_raise_unless_holds_names_the_first_and_counts_the_others(root: Path) -> None:
    make(root, SMALL)
    (root / "a").unlink()
    with pytest.raises(WitnessError, match=r"^a is missing$"):
        verify_manifest(manifest_of(SMALL), Folder(root)).raise_unless_holds()
    (root / "0").write_text("")
    with pytest.raises(WitnessError, match=r"^0 is added; and 1 more difference$"):
        verify_manifest(manifest_of(SMALL), Folder(root)).raise_unless_holds()
    (root / "b/d").write_text("more")
    with pytest.raises(WitnessError, match=r"^0 is added; and 2 more differences$"):
        verify_manifest(manifest_of(SMALL), Folder(root)).raise_unless_holds()


def test_a_difference_is_one_line_whatever_its_name(root: Path) -> None:
    tree: Tree = {b"bad\xff\n": b"1"}
    make(root, {b"x": b"2"})
    with pytest.raises(WitnessError) as caught:
        verify_manifest(manifest_of(tree), Folder(root)).raise_unless_holds()
    assert str(caught.value) == "bad\\xff\\n is missing; and 1 more difference"


def test_a_report_of_nothing_does_not_hold(root: Path) -> None:
    report = verify_manifest(manifest_of({}), Folder(root))
    assert (report.holds, bool(report), report.files) == (None, False, 0)
    with pytest.raises(FileError, match="no file was compared"):
        report.raise_unless_holds()


def test_the_json_of_a_report(root: Path) -> None:
    tree: Tree = {b"a": noise(3 * WINDOW_BYTES), b"\xff": b"x"}
    make(root, {b"a": noise(WINDOW_BYTES) + noise(2 * WINDOW_BYTES, 1)})
    with sidecar(root.parent, leaves_of(tree)) as leaves:
        report = verify_manifest(manifest_of(tree, TREE), Folder(root), leaves=leaves)
    text = report.to_json()
    assert "\n" not in text
    found = json.loads(text)
    first, second = found.pop("differences")
    assert found == {
        "type": "atlas12288/report/v1",
        "holds": False,
        "counts": {
            "files": 2,
            "links": 0,
            "bytes": 3 * WINDOW_BYTES,
            "changed": 1,
            "missing": 1,
            "added": 0,
            "unreadable": 0,
            "moved": 0,
        },
        "complete": True,
        "leaves_error": None,
        "left_out": [],
        "excluded": [],
        "part": None,
        "not_compared": 0,
        "other_options": [],
    }
    assert first["path"] == "a"
    assert first["ranges"] == [{"start": WINDOW_BYTES, "end": 3 * WINDOW_BYTES}]
    assert first["counts"] == {"ranges": 1, "windows": 2}
    assert second == {
        "pathHex": "ff",
        "kind": "missing",
        "what": [],
        "reason": None,
        "size": 1,
        "found_size": None,
        "ranges": None,
        "counts": None,
        "moved_to": None,
    }


def test_allowed_extra_files_are_counted_and_no_difference(root: Path) -> None:
    make(root, SMALL | {b"new": b"1", b"more/new": b"2"})
    report = verify_manifest(manifest_of(SMALL), Folder(root), allow_extra=True)
    assert report.holds
    assert (report.count("added"), report.differences) == (2, ())


def test_a_report_is_true_only_where_it_holds(root: Path) -> None:
    make(root, SMALL)
    assert verify_manifest(manifest_of(SMALL), Folder(root))
    (root / "a").write_text("damage")
    assert not verify_manifest(manifest_of(SMALL), Folder(root))


def test_a_folder_of_which_nothing_differs_and_not_all_is_known_has_no_verdict(root: Path) -> None:
    make(root, SMALL)
    (root / "a").unlink()
    os.mkfifo(root / "a")
    report = verify_manifest(manifest_of(SMALL), Folder(root))
    assert (report.holds, bool(report), report.count("unreadable")) == (None, False, 1)
    assert json.loads(report.to_json())["holds"] is None
    with pytest.raises(FileError, match=r"^a is unreadable: is a FIFO"):
        report.raise_unless_holds()
    (root / "z").unlink()
    report = verify_manifest(manifest_of(SMALL), Folder(root))
    assert report.holds is False
    with pytest.raises(WitnessError, match=r"^z is missing; and 1 more difference$"):
        report.raise_unless_holds()


def test_where_extra_ones_are_allowed_they_need_not_be_files(root: Path) -> None:
    make(root, SMALL)
    os.mkfifo(root / "b/fifo")
    assert verify_manifest(manifest_of(SMALL), Folder(root)).holds is None
    report = verify_manifest(manifest_of(SMALL), Folder(root), allow_extra=True)
    assert report.holds
    assert (report.count("added"), report.count("unreadable"), report.differences) == (1, 0, ())


# --- what was moved ---


@pytest.mark.parametrize("digests", [FLAT, TREE, DIGESTS])
def test_a_file_that_was_renamed_is_one_difference(root: Path, digests: tuple[str, ...]) -> None:
    make(root, {b"a": b"first", b"new/c": b"second", b"new/d": b""})
    seen: list[Difference] = []
    report = verify_manifest(
        manifest_of({b"a": b"first", b"old/c": b"second", b"old/d": b""}, digests),
        Folder(root),
        listener=FunctionListener(difference=seen.append),
    )
    assert kinds(report) == [
        (b"new/d", "added", None),
        (b"old/c", "moved", b"new/c"),
        (b"old/d", "missing", None),  # nothing in it says which file it was
    ]
    assert tuple(seen) == report.differences
    assert (report.holds, report.count("moved"), len(report.moved)) == (False, 1, 1)
    assert report.bytes == len(b"first" + b"second")
    with pytest.raises(WitnessError, match=r"^new/d is added; and 2 more differences$"):
        report.raise_unless_holds()
    assert str(report.moved[0]) == "old/c is moved to new/c"
    (moved,) = [each for each in json.loads(report.to_json())["differences"] if each["moved_to"]]
    assert (moved["path"], moved["kind"], moved["moved_to"]) == ("old/c", "moved", "new/c")


def test_where_a_content_is_at_two_paths_nobody_can_tell_what_was_moved(root: Path) -> None:
    make(root, {b"a": b"kept", b"c": b"same", b"d": b"once", b"e": b"once"})
    report = verify_manifest(
        manifest_of({b"a": b"kept", b"x": b"same", b"y": b"same", b"z": b"once"}), Folder(root)
    )
    assert report.count("moved") == 0
    assert (report.count("missing"), report.count("added")) == (3, 3)


def test_a_copy_that_cannot_be_read_may_be_what_was_moved(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, {b"a": b"kept", b"c": b"same", b"d": b"same"})
    opened = Folder.open

    def refuse(self: Folder, found: Found) -> Any:
        if found.path == b"d":
            raise FileError("cannot be read")
        return opened(self, found)

    monkeypatch.setattr(Folder, "open", refuse)
    monkeypatch.setattr(Folder, "read_files", lambda *arguments: bytes(len(arguments[1])))
    report = verify_manifest(manifest_of({b"a": b"kept", b"x": b"same"}), Folder(root))
    assert kinds(report) == [(b"c", "added", None), (b"d", "added", None), (b"x", "missing", None)]


def test_a_file_that_was_moved_is_one_where_extra_ones_are_allowed(root: Path) -> None:
    make(root, {b"a": b"kept", b"c": b"same", b"d": b"other"})
    manifest = manifest_of({b"a": b"kept", b"x": b"same"})
    report = verify_manifest(manifest, Folder(root), allow_extra=True)
    assert kinds(report) == [(b"x", "moved", b"c")]
    assert (report.holds, report.count("added")) == (False, 1)


# --- a part ---


def test_a_part_is_compared_alone(root: Path) -> None:
    tree: Tree = {
        **{b"a": b"1", b"d": Link(b"a"), b"d-x": b"2", b"e/f": b"3", b"e/g": b"4"},
        b"e/h": noise(BLOCK + 1),
    }
    make(root, tree | {b"e/f": b"!", b"a": b"?", b"e/new": b"5", b"other": b"6"})
    manifest = Manifest.from_entries(Options(DIGESTS), manifest_of(tree, DIGESTS).entries)
    for lined in (manifest, Lined.read(manifest.to_json().encode())):
        assert lined is not None
        report = verify_manifest(lined, Folder(root), paths=[b"d", b"e"])
        assert kinds(report) == [(b"e/f", "changed", None), (b"e/new", "added", None)]
        assert (report.files, report.links) == (3, 1)
        assert (report.part, report.manifest_files, report.manifest_links) == ((b"d", b"e"), 5, 1)
        with pytest.raises(WitnessError, match="nothing at or below 'new'"):
            verify_manifest(lined, Folder(root), paths=[b"e", b"new"])
    report = verify_manifest(manifest, Folder(root), paths=[b"d-x"])
    assert (report.holds, report.files) == (True, 1)
    fields = json.loads(report.to_json())["part"]
    assert fields == {"paths": [{"path": "d-x"}], "manifest_files": 5, "manifest_links": 1}


def test_the_leaves_of_a_part_are_at_their_places(root: Path) -> None:
    tree: Tree = {b"a": noise(2 * WINDOW_BYTES), b"b": noise(3 * WINDOW_BYTES, 1)}
    make(root, tree | {b"b": noise(WINDOW_BYTES, 1) + noise(2 * WINDOW_BYTES, 2)})
    with sidecar(root.parent, leaves_of(tree)) as leaves:
        report = verify_manifest(manifest_of(tree, TREE), Folder(root), paths=[b"b"], leaves=leaves)
    (difference,) = report.differences
    assert difference.ranges == (WindowRange(1, 3, WINDOW_BYTES, 3 * WINDOW_BYTES),)


def test_a_part_is_within_what_the_manifest_covers(root: Path) -> None:
    tree: Tree = {b"a/b/c": b"1", b"a/d": b"2", b"e": b"3"}
    make(root, tree | {b"a/b/new": b"4", b"a/other": b"5"})
    options = Options(DIGESTS[:1], paths=("a/b", "a/d", "e"))
    manifest = Manifest.from_entries(options, manifest_of(tree, FLAT).entries)
    report = verify_manifest(manifest, Folder(root), paths=[b"a"])
    assert kinds(report) == [(b"a/b/new", "added", None)]
    assert verify_manifest(manifest, Folder(root), paths=[b"a/b/c"]).holds


@pytest.mark.parametrize("paths", [(), (b"b",)])
def test_a_folder_without_any_path_of_the_manifest_is_refused(
    root: Path, paths: tuple[bytes, ...]
) -> None:
    make(root, {b"c": b"1", b"d": b"3"})
    manifest = manifest_of({b"a": b"1", b"b": b"2"})
    with pytest.raises(WrongRootError, match="none of its 2 paths is in "):
        verify_manifest(manifest, Folder(root), paths=paths, refuse_other=True)
    (root / "a").write_text("1")
    report = verify_manifest(manifest, Folder(root), paths=paths, refuse_other=True)
    assert report.count("missing") == 1


# --- any folder and any damage ---

NAMES = (b"a", b"b", b"d/a", b"d/e/f", b"\xff\n", b"d-", "ü".encode())


def contents() -> st.SearchStrategy[bytes | Link]:
    lengths = st.sampled_from((0, 1, 50, WINDOW_BYTES, 3 * WINDOW_BYTES + 5, BLOCK + 7))
    files = st.builds(noise, lengths, st.integers(0, 2))
    return st.one_of(files, st.builds(Link, st.sampled_from((b"a", b"nowhere", b"..", b"\xfe"))))


def trees() -> st.SearchStrategy[Tree]:
    return st.dictionaries(st.sampled_from(NAMES), contents(), min_size=1)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :] if data else b"x"


@st.composite
def damaged(draw: st.DrawFn, before: Tree) -> Tree:
    """The folder after any number of damages."""
    after = dict(before)
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(NAMES))
        damage = draw(st.sampled_from(("flip", "cut", "grow", "remove", "put", "swap", "windows")))
        content = after.get(name)
        if damage == "put":
            after[name] = draw(contents())
        elif damage == "remove":
            after.pop(name, None)
        elif damage == "swap" and content is not None:
            other = draw(st.sampled_from(sorted(after)))
            after[name], after[other] = after[other], content
        elif isinstance(content, bytes):
            at = draw(st.integers(0, max(len(content) - 1, 0)))
            if damage == "flip":
                after[name] = flip(content, at)
            elif damage == "cut":
                after[name] = content[:at]
            elif damage == "grow":
                after[name] = content + noise(at + 1)
            elif damage == "windows":
                second = content[WINDOW_BYTES : 2 * WINDOW_BYTES]
                after[name] = second + content[:WINDOW_BYTES] + content[2 * WINDOW_BYTES :]
    return after


@settings(deadline=None)
@given(data=st.data(), digests=st.sampled_from((FLAT, TREE, DIGESTS)), leaves=st.booleans())
def test_any_damage_of_any_folder_is_reported_exactly(
    data: st.DataObject, digests: tuple[str, ...], leaves: bool
) -> None:
    before = data.draw(trees())
    after = data.draw(damaged(before))
    leaves = leaves and digests != FLAT
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = Path(name, "root")
        root.mkdir()
        make(root, after)
        side = stack.enter_context(sidecar(Path(name), leaves_of(before))) if leaves else None
        runs: dict[bytes, list[WindowRange]] = {}
        report = verify_manifest(
            manifest_of(before, digests),
            Folder(root),
            leaves=side,
            threads=data.draw(st.integers(1, 3)),
            listener=FunctionListener(
                differing=lambda path, run: runs.setdefault(path, []).append(run)
            ),
        )
        assert without_reasons(report.differences) == expected(before, after, digests, leaves)
        assert (report.leaves_error, report.complete) == (None, True)
        links = sum(isinstance(content, Link) for content in before.values())
        assert (report.files, report.links) == (len(before) - links, links)
        assert report.holds == (before == after)
        assert runs == {
            each.path: list(each.ranges) for each in report.differences if each.ranges is not None
        }
        fast = verify_manifest(
            manifest_of(before, digests), Folder(root), leaves=side, fail_fast=True
        )
        assert fast.holds == report.holds
        assert len(fast.differences) == min(1, len(report.differences))
        for each in fast.differences:
            kinds = {other.path: other.kind for other in report.differences}
            assert kinds[each.path] == each.kind


# --- cases that other tools miss ---


def test_swapped_files_are_caught(root: Path) -> None:
    make(root, {b"a": b"two", b"b": b"one"})
    report = verify_manifest(manifest_of({b"a": b"one", b"b": b"two"}), Folder(root))
    assert [each.path for each in report.differences] == [b"a", b"b"]


@pytest.mark.parametrize("digests", [FLAT, TREE])
def test_swapped_windows_are_caught(root: Path, digests: tuple[str, ...]) -> None:
    data = noise(4 * WINDOW_BYTES)
    swapped = data[WINDOW_BYTES : 2 * WINDOW_BYTES] + data[:WINDOW_BYTES] + data[2 * WINDOW_BYTES :]
    make(root, {b"a": swapped})
    tree: Tree = {b"a": data}
    with sidecar(root.parent, leaves_of(tree)) as leaves:
        report = verify_manifest(
            manifest_of(tree, digests), Folder(root), leaves=leaves if digests == TREE else None
        )
    (difference,) = report.differences
    assert difference.what == digests  # the residue is the same
    if digests == TREE:
        assert difference.ranges == (WindowRange(0, 2, 0, 2 * WINDOW_BYTES),)


def test_an_ignore_file_of_the_folder_hides_nothing(root: Path) -> None:
    make(root, SMALL | {b".atlasignore": b"*\n", b"hidden": b"new"})
    report = verify_manifest(manifest_of(SMALL), Folder(root))
    assert [(each.path, each.kind) for each in report.differences] == [
        (b".atlasignore", "added"),
        (b"hidden", "added"),
    ]


def test_the_rules_of_the_manifest_hold(root: Path) -> None:
    make(root, SMALL | {b"x.log": b"1", b"keep.log": b"2", b"sub/y.log": b"3"})
    manifest = manifest_of(SMALL, exclude=("*.log", "!keep.log"))
    report = verify_manifest(manifest, Folder(root))
    assert [each.path for each in report.differences] == [b"keep.log"]


def test_broken_links_are_entries_as_others(root: Path) -> None:
    tree = SMALL | {b"broken": Link(b"nowhere"), b"out": Link(b"/etc/hostname")}
    make(root, tree)
    assert verify_manifest(manifest_of(tree), Folder(root)).holds


def test_broken_links_that_are_followed_name_themselves(root: Path) -> None:
    make(root, {b"a": b"1", b"link": Link(b"a"), b"new": Link(b"nowhere")})
    manifest = manifest_of({b"a": b"1", b"link": b"1"}, symlinks="follow")
    report = verify_manifest(manifest, Folder(root))
    assert [(each.path, each.kind) for each in report.differences] == [(b"new", "unreadable")]


def test_links_that_must_not_be_are_unreadable(root: Path) -> None:
    make(root, SMALL)
    manifest = manifest_of({b"a": b"first", b"b/c": b"second", b"b/d": b""}, symlinks="error")
    (difference,) = verify_manifest(manifest, Folder(root)).differences
    assert (difference.path, difference.kind) == (b"z", "unreadable")
    assert "symbolic link" in difference.reason


def test_a_folder_replaced_by_a_link_is_not_followed(root: Path) -> None:
    make(root, {b"d": Link(b"real"), b"real/f": b"1"})
    report = verify_manifest(manifest_of({b"d/f": b"1", b"real/f": b"1"}), Folder(root))
    assert [(each.path, each.kind) for each in report.differences] == [
        (b"d", "added"),
        (b"d/f", "missing"),
    ]


def test_a_file_in_place_of_a_folder_and_a_folder_in_place_of_a_file(root: Path) -> None:
    make(root, {b"a/b": b"3", b"c": b"4"})
    report = verify_manifest(manifest_of({b"a": b"1", b"c/d": b"2"}), Folder(root))
    assert [(each.path, each.kind) for each in report.differences] == [
        (b"a", "missing"),
        (b"a/b", "added"),
        (b"c", "added"),
        (b"c/d", "missing"),
    ]


def test_it_works_in_a_thread(root: Path) -> None:
    make(root, {name.encode(): noise(BLOCK + 1, i) for i, name in enumerate("abcdef")})
    tree: Tree = {path.encode(): (root / path).read_bytes() for path in "abcdef"}
    (root / "c").write_bytes(b"c")
    results: list[bool | None] = []
    done: list[list[bytes]] = []

    def work(_: int) -> None:
        report = verify_manifest(manifest_of(tree), Folder(root), threads=4)
        results.append(report.holds)
        done.append([each.path for each in report.differences])

    in_threads(3, work)
    assert results == [False] * 3
    assert done == [[b"c"]] * 3


def test_outputs_are_not_added_unless_the_manifest_has_them(root: Path) -> None:
    make(root, SMALL | {b"m.atlas.json": b"{}", b"sub/list": b"", b"\xff.png": b"x"})
    names = [str(root / name) for name in ("m.atlas.json", "sub/list", "not there", "\udcff.png")]
    report = verify_manifest(manifest_of(SMALL), Folder(root), outputs=outputs_in(str(root), names))
    assert report.holds
    assert report.left_out == (b"m.atlas.json", b"sub/list", b"\xff.png")
    assert json.loads(report.to_json())["left_out"] == [
        {"path": "m.atlas.json"},
        {"path": "sub/list"},
        {"pathHex": b"\xff.png".hex()},
    ]
    manifest = manifest_of(SMALL | {b"m.atlas.json": b"[]"})
    report = verify_manifest(manifest, Folder(root), outputs=outputs_in(str(root), names))
    (difference,) = report.differences
    assert (difference.path, difference.kind) == (b"m.atlas.json", "changed")
    assert b"m.atlas.json" not in report.left_out


def make_folder(path: Path) -> None:
    (path / "below").mkdir(parents=True)
    (path / "below" / "evil").touch()


def make_link(path: Path) -> None:
    path.symlink_to("b/c")


def make_other(path: Path) -> None:
    path.write_bytes(b"another file of this name")


@pytest.mark.parametrize(
    ("make_it", "found"),
    [
        (make_folder, ("out/below/evil", "added")),
        (make_link, ("out", "added")),
        (os.mkfifo, ("out", "unreadable")),
        (make_other, ("out", "added")),
    ],
)
def test_nothing_is_left_out_for_its_name(
    root: Path, make_it: Callable[[Path], None], found: tuple[str, str]
) -> None:
    """Only the very file that was opened is, and only where it was."""
    make(root, SMALL | {b"output": b"{}"})
    (root / "output").rename(root / "out")
    outputs = outputs_in(str(root), [str(root / "out")])
    (root / "out").rename(root / "output")
    make_it(root / "out")
    report = verify_manifest(manifest_of(SMALL), Folder(root), outputs=outputs)
    path, kind = found
    expected = {(os.fsencode(path), kind), (b"output", "added")}
    assert {(each.path, each.kind) for each in report.differences} == expected
    assert report.left_out == ()


def test_another_name_of_an_output_is_not_left_out(root: Path) -> None:
    make(root, SMALL | {b"out": b"{}"})
    (root / "b" / "evil.py").hardlink_to(root / "out")
    outputs = outputs_in(str(root), [str(root / "out")])
    report = verify_manifest(manifest_of(SMALL), Folder(root), outputs=outputs)
    assert [each.path for each in report.differences] == [b"b/evil.py"]
    assert report.left_out == (b"out",)


def test_leaves_are_left_out_where_they_are_those_of_the_manifest(root: Path) -> None:
    make(root, SMALL)
    manifest = manifest_of(SMALL)
    with sidecar(root, leaves_of(SMALL)) as leaves:
        report = verify_manifest(manifest, Folder(root), leaves=leaves)
    assert (report.holds, report.left_out) == (True, (b"sidecar",))
    with sidecar(root, flip(leaves_of(SMALL), 3)) as leaves:
        report = verify_manifest(manifest, Folder(root), leaves=leaves)
    assert [each.path for each in report.differences] == [b"sidecar"]
    assert report.left_out == ()


# --- manifests of some paths ---


def test_only_the_paths_of_the_manifest_are_listed(root: Path) -> None:
    make(root, {b"a": b"1", b"d/e": b"2", b"other": b"3", b"d/new": b"4"})
    manifest = manifest_of({b"a": b"1", b"d/e": b"2"}, paths=("a", "d"))
    report = verify_manifest(manifest, Folder(root))
    assert [(each.path, each.kind) for each in report.differences] == [(b"d/new", "added")]


@pytest.mark.parametrize("there", [b"elsewhere", b"d"])
def test_a_path_of_the_manifest_that_is_gone_is_missing(root: Path, there: bytes) -> None:
    make(root, {there: b"x"})
    manifest = manifest_of({b"a": b"1", b"d/e": b"2"}, paths=("a", "d/e"))
    report = verify_manifest(manifest, Folder(root))
    assert [(each.path, each.kind) for each in report.differences] == [
        (b"a", "missing"),
        (b"d/e", "missing"),
    ]


# --- ranges ---


def test_large_files_give_their_first_ranges_and_count_the_others(root: Path) -> None:
    windows = 2 * RANGES_MOST + 200
    data = bytearray(noise(WINDOW_BYTES) * windows)
    tree: Tree = {b"a": bytes(data)}
    data[:: 2 * WINDOW_BYTES] = bytes(byte ^ 1 for byte in data[:: 2 * WINDOW_BYTES])
    make(root, {b"a": bytes(data)})
    runs: list[WindowRange] = []
    with sidecar(root.parent, leaves_of(tree)) as leaves:
        report = verify_manifest(
            manifest_of(tree, TREE),
            Folder(root),
            leaves=leaves,
            listener=FunctionListener(differing=lambda _, run: runs.append(run)),
        )
    (difference,) = report.differences
    assert difference.ranges is not None
    assert len(difference.ranges) == RANGES_MOST
    assert difference.ranges == tuple(runs[:RANGES_MOST])
    assert difference.range_count == difference.windows == len(runs) == windows // 2
    assert [run.first for run in runs] == list(range(0, windows, 2))


@pytest.mark.parametrize("spoil", ["cut", "flip", "swap"])
def test_leaves_that_do_not_fit_are_not_used(root: Path, spoil: str) -> None:
    tree: Tree = {b"a": noise(3 * WINDOW_BYTES), b"b": noise(3 * WINDOW_BYTES, 1)}
    data = leaves_of(tree)
    bad = {"cut": data[:-1], "flip": flip(data, 70), "swap": data[96:] + data[:96]}[spoil]
    make(root, {b"a": flip(noise(3 * WINDOW_BYTES), 5), b"b": noise(3 * WINDOW_BYTES, 1)})
    with sidecar(root.parent, bad) as leaves:
        report = verify_manifest(manifest_of(tree), Folder(root), leaves=leaves)
    assert report.leaves_error is not None
    assert "damaged" in report.leaves_error
    (difference,) = report.differences  # the digests still say it
    assert (difference.path, difference.ranges) == (b"a", None)


@pytest.mark.parametrize("at_once", [1, 2, 4, 1000])
@pytest.mark.parametrize("window", range(9))
def test_damaged_leaves_of_files_that_are_as_they_were_are_found_too(
    root: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, window: int
) -> None:
    monkeypatch.setattr(sidecars, "_LEAVES_OF_MANY", at_once)
    lengths = {b"a": 3, b"b": 0, b"c": 1, b"d": 4, b"e": 1}
    tree: Tree = {path: noise(count * WINDOW_BYTES) for path, count in lengths.items()}
    make(root, tree)
    data = leaves_of(tree)
    for spoiled, error in ((data, False), (flip(data, 32 * window + 5), True)):
        with sidecar(root.parent, spoiled) as leaves:
            report = verify_manifest(manifest_of(tree), Folder(root), leaves=leaves)
        assert (report.leaves_error is not None) == error
        assert report.holds


def test_leaves_of_a_manifest_without_tree_roots_are_of_no_use(root: Path) -> None:
    make(root, SMALL | {b"a": b"other"})
    for data in b"", leaves_of(SMALL):
        with sidecar(root.parent, data) as leaves:
            report = verify_manifest(manifest_of(SMALL, FLAT), Folder(root), leaves=leaves)
        assert report.leaves_error == "is of no use: the manifest has no tree roots"
        assert [each.what for each in report.differences] == [("residue", "sha256")]


# --- reading ---


class Stage(Source):
    """A source whose reading the test commands: `reading` is called before each read."""

    def __init__(self, folder: Folder, reading: Callable[[Found], None]) -> None:
        self._folder = folder
        self._reading = reading

    @property
    def name(self) -> str:
        return self._folder.name

    def list(self, rules: Selection, problem: Problem) -> Iterator[Found]:
        # The other way round: no order is promised.
        return iter(sorted(self._folder.list(rules, problem), reverse=True))

    @contextlib.contextmanager
    def open(self, found: Found) -> Iterator[Reader]:
        with self._folder.open(found) as reader:
            stage = self

            class Staged(Reader):
                def read_into(self, offset: int, buffer: memoryview) -> int:
                    stage._reading(found)
                    return reader.read_into(offset, buffer)

                def finish(self) -> None:
                    reader.finish()

            yield Staged()


def test_files_that_cannot_be_read_are_named_and_the_others_done(root: Path) -> None:
    make(root, SMALL)
    (root / "b/d").write_bytes(b"")

    def reading(found: Found) -> None:
        if found.path == b"a":
            raise FileError(os.strerror(errno.EIO))

    report = verify_manifest(manifest_of(SMALL), Stage(Folder(root), reading))
    (difference,) = report.differences
    assert difference == Difference(b"a", "unreadable", (), "Input/output error", 5, 5)
    assert not report.holds


def test_a_file_cut_while_it_is_read_is_unreadable(root: Path) -> None:
    tree: Tree = {b"big": noise(2 * BLOCK), b"small": b"x"}
    make(root, tree)

    def reading(found: Found) -> None:
        if found.path == b"big":
            os.truncate(root / "big", BLOCK // 2)

    report = verify_manifest(manifest_of(tree), Stage(Folder(root), reading))
    assert [(each.path, each.kind) for each in report.differences] == [(b"big", "unreadable")]
    assert "changed while it was read" in report.differences[0].reason


@pytest.mark.parametrize("size", [3 * WINDOW_BYTES, 2 * BLOCK])
def test_leaves_that_change_meanwhile_are_an_error(root: Path, size: int) -> None:
    tree: Tree = {b"a": noise(size)}
    make(root, {b"a": flip(noise(size), 5)})
    data = leaves_of(tree)

    def reading(found: Found) -> None:
        # In its place: a writing that first empties the file could be met half done.
        with (root.parent / "sidecar").open("r+b") as file:
            file.write(flip(data, 40))

    with sidecar(root.parent, data) as leaves:
        source = Stage(Folder(root), reading)
        report = verify_manifest(manifest_of(tree), source, leaves=leaves)
    assert "damaged" in str(report.leaves_error)
    (difference,) = report.differences
    assert (difference.path, difference.kind, difference.ranges) == (b"a", "changed", None)


@pytest.mark.parametrize("size", [3 * WINDOW_BYTES, 2 * BLOCK])
def test_leaves_cut_meanwhile_are_an_error_that_says_where_they_end(root: Path, size: int) -> None:
    tree: Tree = {b"a": noise(size)}
    make(root, {b"a": flip(noise(size), 5)})

    def reading(found: Found) -> None:
        os.truncate(root.parent / "sidecar", 40)

    with sidecar(root.parent, leaves_of(tree)) as leaves:
        source = Stage(Folder(root), reading)
        report = verify_manifest(manifest_of(tree), source, leaves=leaves)
    windows = size // WINDOW_BYTES
    assert report.leaves_error == f"ended after 40 bytes, must have {windows} leaves"
    (difference,) = report.differences
    assert (difference.path, difference.kind, difference.ranges) == (b"a", "changed", None)


def test_a_folder_that_cannot_be_listed_makes_its_files_unreadable(root: Path) -> None:
    tree: Tree = {b"a": b"1", b"d/b": b"2", b"d/e/c": b"3"}
    make(root, tree)

    class Closed(Folder):
        batches = False

        def list(self, rules: Selection, problem: Problem) -> Iterator[Found]:
            problem(b"d", "Permission denied")
            return (found for found in super().list(rules, problem) if found.path == b"a")

    report = verify_manifest(manifest_of(tree), Closed(root))
    assert [(each.path, each.kind) for each in report.differences] == [
        (b"d/b", "unreadable"),
        (b"d/e/c", "unreadable"),
    ]
    reason = "the folder 'd' could not be listed: Permission denied"
    assert [each.reason for each in report.differences] == [reason] * 2
    assert report.count("unreadable") == 2  # files of the manifest, not the folder besides


def test_a_difference_is_told_as_soon_as_all_before_it_are_known(root: Path) -> None:
    """What is read first waits until the test has seen what comes before it."""
    tree: Tree = {b"a": b"1", b"b": noise(2 * BLOCK), b"c": b"3"}
    make(root, tree | {b"0": b"new", b"aa": b"new", b"d": b"new"})
    (root / "a").write_bytes(b"2")
    (root / "c").write_bytes(b"4")
    told: list[bytes] = []
    early: list[list[bytes]] = []

    def reading(found: Found) -> None:
        if found.path == b"b":
            deadline = time.monotonic() + 30
            while len(told) < 3 and time.monotonic() < deadline:
                time.sleep(0.001)
            early.append(list(told))

    verify_manifest(
        manifest_of(tree),
        Stage(Folder(root), reading),
        threads=4,  # two of them wait
        listener=FunctionListener(difference=lambda difference: told.append(difference.path)),
    )
    assert early[0] == [b"0", b"a", b"aa"]
    assert told == [b"0", b"a", b"aa", b"c", b"d"]


def test_fail_fast_reads_nothing_where_the_listing_says_enough(root: Path) -> None:
    make(root, SMALL | {b"zz": b"new"})
    read: list[Found] = []
    report = verify_manifest(manifest_of(SMALL), Stage(Folder(root), read.append), fail_fast=True)
    assert (read, report.complete) == ([], False)
    assert [each.path for each in report.differences] == [b"zz"]


def test_fail_fast_tells_one_of_several_files_that_changed(root: Path) -> None:
    tree: Tree = {name.encode(): noise(1000, index) for index, name in enumerate("abcdef")}
    make(root, {path: noise(1000, 9) for path in tree})
    for threads in 1, 3:
        report = verify_manifest(manifest_of(tree), Folder(root), fail_fast=True, threads=threads)
        assert (len(report.differences), report.count("changed"), report.complete) == (1, 1, False)


def test_fail_fast_ends_within_a_large_file(root: Path) -> None:
    data = bytearray(noise(BLOCK) * 20)
    tree: Tree = {b"big": bytes(data)}
    data[WINDOW_BYTES + 1] ^= 1
    make(root, {b"big": bytes(data)})
    counts: list[int] = []
    with sidecar(root.parent, leaves_of(tree)) as leaves:
        report = verify_manifest(
            manifest_of(tree, TREE),
            Folder(root),
            leaves=leaves,
            fail_fast=True,
            threads=2,
            listener=FunctionListener(advance=counts.append),
        )
    (difference,) = report.differences
    assert difference.ranges is not None
    assert difference.ranges[0].first == 1
    assert difference.reason == f"differs from byte {WINDOW_BYTES} on; the rest was not compared"
    assert not report.complete
    assert sum(counts) < len(data) / 2


def test_the_bytes_that_will_be_read_are_told_and_read(root: Path) -> None:
    make(root, SMALL | {b"new": b"123"})
    (root / "a").write_bytes(b"longer than before")  # not read: without leaves the size says it
    will: list[int] = []
    counts: list[int] = []
    listener = FunctionListener(expect=will.append, advance=counts.append)
    verify_manifest(manifest_of(SMALL), Folder(root), listener=listener)
    assert will == [6]
    assert sum(counts) == 6


def test_no_thread_and_no_descriptor_is_left(root: Path) -> None:
    make(root, {name.encode(): noise(BLOCK + 1, i) for i, name in enumerate("abcdef")})
    tree: Tree = {path.encode(): (root / path).read_bytes() for path in "abcdef"}
    for name in "af":
        (root / name).write_bytes(noise(BLOCK + 1, 9))

    class CrashError(Exception):
        pass

    def crash(difference: Difference) -> None:
        raise CrashError

    crashing: dict[str, Any] = {"listener": FunctionListener(difference=crash)}
    for options in ({"fail_fast": True}, crashing, {}):
        expectation: AbstractContextManager[object] = contextlib.nullcontext()
        if options is crashing:
            expectation = pytest.raises(CrashError)
        with nothing_left():
            with expectation:
                verify_manifest(manifest_of(tree), Folder(root), threads=3, **options)
            del expectation  # it holds the error, whose frames hold the folder, which is open


@pytest.mark.parametrize("threads", [0, -1])
def test_bad_numbers_of_threads(root: Path, threads: int) -> None:
    make(root, SMALL)
    with pytest.raises(ValueError, match="threads"):
        verify_manifest(manifest_of(SMALL), Folder(root), threads=threads)


def test_a_root_that_is_not_there(root: Path) -> None:
    shutil.rmtree(root)
    with pytest.raises(FileError, match="No such file"):
        Folder(root)
