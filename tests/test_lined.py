# SPDX-License-Identifier: Apache-2.0
"""Manifests that are read and verified as lines, beside the same entry by entry."""

import hashlib
import os
import shutil
from contextlib import ExitStack
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas12288 import WINDOW_BYTES, _json, _native, _sidecars
from atlas12288._errors import WitnessError
from atlas12288._files import RegularFile
from atlas12288._sidecars import WindowRange
from atlas12288._subtree import window_count
from atlas12288.manifest import Manifest
from atlas12288.manifest._differences import Difference
from atlas12288.manifest._entries import Entry, read_line, read_text
from atlas12288.manifest._generate import generate_manifest, read_options
from atlas12288.manifest._lined import Lined
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._paths import PATH_MOST_BYTES
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._statement import Options, read_statement, write_statement
from atlas12288.manifest._verify import verify_manifest
from support import rfc9162
from support.manifests import OneByOne
from support.strategies import noise

DIGESTS = ("sha256", "sha256-merkle-12288")


def _is_path(path: bytes) -> bool:
    return not any(part in (b"", b".", b"..") for part in path.split(b"/"))


ASCII = st.lists(
    st.sampled_from((b"a", b"b", b".", b"/", b" ", b"!", b"\x7f", b"\xc3\xa9")), min_size=1
).map(b"".join)
ANY = st.binary(min_size=1, max_size=8).filter(lambda name: b"\0" not in name)


@st.composite
def entries_of(draw: st.DrawFn, names: st.SearchStrategy[bytes]) -> tuple[Options, list[Entry]]:
    digests = draw(st.sampled_from((DIGESTS[:1], DIGESTS[1:], DIGESTS)))
    paths = draw(st.sets(names.filter(_is_path), min_size=1, max_size=8))
    entries = []
    for path in sorted(paths):
        if draw(st.booleans()):
            entries.append(Entry(path, target=draw(names)))
            continue
        size = draw(st.sampled_from((0, 1, 9, 10**14, 10**15 - 1)))
        residue = draw(st.integers(0, 95)) if size else 0
        values = (hashlib.sha256(path).digest() if name in digests else None for name in DIGESTS)
        entries.append(Entry(path, size, residue, *values))
    return Options(digests, exclude=tuple(draw(st.lists(st.text(max_size=3))))), entries


@given(made=entries_of(ANY))
def test_entries_are_read_many_at_once_as_one_by_one(made: tuple[Options, list[Entry]]) -> None:
    options, entries = made
    lines = [entry.to_json() for entry in entries]
    text = b"".join(line + b"\n" for line in lines)
    assert list(read_text(text, options.digests)) == entries
    assert [read_line(line, options.digests) for line in lines] == entries


def alone(text: bytes, digests: tuple[str, ...]) -> list[Entry] | None:
    """The entries of lines, each read by the reader for what others wrote; None if one is none."""
    try:
        return [Entry.of_json(_json.read(line), digests) for line in text.split(b"\n")[:-1]]
    except WitnessError:
        return None


@given(
    made=entries_of(st.one_of(ASCII, ANY)),
    place=st.integers(0, 10**6),
    byte=st.sampled_from(b' \n\t",./019:[]af{}\\\x00\xff\xc3'),
    insert=st.booleans(),
)
def test_no_line_is_read_among_others_that_is_refused_alone(
    made: tuple[Options, list[Entry]], place: int, byte: int, insert: bool
) -> None:
    options, entries = made
    text = b"".join(entry.to_json() + b"\n" for entry in entries)
    place %= len(text) - 1  # the last line feed stays
    changed = text[:place] + bytes((byte,)) + text[place + (not insert) :]
    expected = alone(changed, options.digests)
    if expected is None:
        with pytest.raises(WitnessError):
            read_text(changed, options.digests)
    else:
        assert read_text(changed, options.digests) == expected


def test_paths_that_are_too_long_or_lead_elsewhere_are_refused_among_others() -> None:
    for path in (b"a" * (PATH_MOST_BYTES + 1), b"../a", b"/a", b"a//b", b".", b"a/.."):
        with pytest.raises(WitnessError):
            read_text(Entry(path, 1, 1, bytes(32)).to_json() + b"\n", DIGESTS[:1])
    longest = Entry(b"a" * PATH_MOST_BYTES, 1, 1, bytes(32))
    assert read_text(longest.to_json() + b"\n", DIGESTS[:1]) == [longest]


def test_wrong_arguments_are_refused() -> None:
    arguments = (True, False, 9, Entry, Entry)
    with pytest.raises(ValueError, match="no line feed"):
        _native.read_entries(b"a", *arguments)
    with pytest.raises(ValueError, match="no line feed"):
        _native.read_entries(Entry(b"a", 1, 1, bytes(32)).to_json(), *arguments)
    with pytest.raises(ValueError, match="no line feed"):
        _native.read_roots(b"\na")
    with pytest.raises(ValueError, match="sizes has 9 bytes"):
        _native.leaf_places(bytes(9))
    for roots, first in ((bytes(32), 0), (bytes(96), 0), (bytes(64), 3)):
        with pytest.raises(ValueError, match="must be for 2 sizes"):
            _native.match_leaves(bytes(16), roots, first, b"")
    with pytest.raises(ValueError, match="roots has 9 bytes"):
        _native.match_leaves(bytes(16), bytes(9), 0, b"")
    with pytest.raises(OverflowError):
        _native.match_leaves(bytes(16), bytes(64), -1, b"")
    for function, arguments_ in (
        (_native.read_entries, (None, *arguments)),
        (_native.read_entries, (bytearray(b"a\n"), *arguments)),
        (_native.read_roots, (None,)),
        (_native.leaf_places, (None,)),
        (_native.match_leaves, (bytes(16), bytes(64), 0, None)),
    ):
        with pytest.raises(TypeError):
            function(*arguments_)  # type: ignore[operator]


@given(made=entries_of(st.one_of(ASCII, ANY)))
def test_trees_are_those_of_the_entries(made: tuple[Options, list[Entry]]) -> None:
    options, entries = made
    text = b"".join(write_statement(options, entries))
    expected = [(entry.size, entry.root) for entry in entries if entry.root is not None]
    for lined in (Lined.read(text), Lined.of(Manifest.from_entries(options, entries))):
        if lined is not None and DIGESTS[1] in options.digests:
            trees = list(lined.trees())
            sizes = [size for each in trees for size in each.sizes]
            roots = b"".join(each.roots for each in trees)
            assert sizes == [size for size, _ in expected]
            assert roots == b"".join(root for _, root in expected if root is not None)
        if lined is not None:
            windows = [window_count(entry.size) for entry in entries]
            assert lined.leaf_places().tolist() == list(accumulate(windows, initial=0))


def test_what_looks_like_a_root_is_none_in_a_line_of_a_link() -> None:
    end = b'","sha256-merkle-12288":"%b","size":7}' % (b"0" * 64)
    entries = [Entry(end, target=b"a"), Entry(b"x", target=end), Entry(end[2:-1], target=b"9}")]
    assert _native.read_roots(b"".join(entry.to_json() + b"\n" for entry in entries)) == b""


def tree_of(leaves: bytes) -> bytes:
    count = len(leaves) // 32
    if count < 2:
        return leaves if leaves else hashlib.sha256().digest()
    middle = 32 * rfc9162.split(count)
    both = tree_of(leaves[:middle]) + tree_of(leaves[middle:])
    return hashlib.sha256(b"\1" + both).digest()


@settings(deadline=None)
@given(
    sizes=st.lists(
        st.sampled_from((0, 1, WINDOW_BYTES, WINDOW_BYTES + 1, 3 * WINDOW_BYTES, 7 * WINDOW_BYTES)),
        max_size=12,
    ),
    spoil=st.sampled_from(("nothing", "flip", "cut", "more", "swap", "root", "cut meanwhile")),
    place=st.integers(0, 10**6),
    at_once=st.sampled_from((1, 2, 3, 5, 1000)),
    trees_at_once=st.sampled_from((1, 2, 1000)),
)
def test_the_first_tree_without_its_leaves_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    spoil: str,
    place: int,
    at_once: int,
    trees_at_once: int,
) -> None:
    counts = [window_count(size) for size in sizes]
    places = list(accumulate(counts, initial=0))
    data = noise(32 * places[-1], len(sizes))
    roots = [tree_of(data[32 * start : 32 * stop]) for start, stop in pairwise(places)]
    found = data
    if spoil == "flip" and data:
        at = place % len(data)
        found = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
    elif spoil in ("cut", "cut meanwhile"):
        found = data[: place % (len(data) + 1)]
    elif spoil == "more":
        found = data + bytes(1 + place % 100)
    elif spoil == "swap":
        found = data[32:] + data[:32]
    elif spoil == "root" and roots:
        roots[place % len(roots)] = bytes(32)
    good = [
        32 * stop <= len(found) and tree_of(found[32 * start : 32 * stop]) == root
        for (start, stop), root in zip(pairwise(places), roots, strict=True)
    ]
    expected = good.index(False) if False in good else None if found == data else len(sizes)
    path = tmp_path_factory.mktemp("leaves") / "leaves"
    path.write_bytes(data if spoil == "cut meanwhile" else found)
    with pytest.MonkeyPatch.context() as patch, RegularFile(str(path)) as sidecar:
        patch.setattr(_sidecars, "_LEAVES_OF_MANY", at_once)
        patch.setattr(_sidecars, "_TREES_AT_ONCE", trees_at_once)
        if spoil == "cut meanwhile":
            os.truncate(path, len(found))
            expected = good.index(False) if False in good else None
        trees = _sidecars.Trees.of(zip(sizes, roots, strict=True))
        assert _sidecars.first_without_leaves(sidecar, trees) == expected


def test_a_tree_larger_than_any_file_has_no_leaves(tmp_path: Path) -> None:
    (tmp_path / "leaves").write_bytes(bytes(32))
    with RegularFile(str(tmp_path / "leaves")) as sidecar:
        for size in (2**63, 2**64 - 1):
            trees = _sidecars.Trees.of([(1, bytes(32)), (size, bytes(32))])
            assert _sidecars.first_without_leaves(sidecar, trees) == 1


@pytest.mark.parametrize("line", [b"", b"{}", b'{"path":"a","residue":1,"size":1}', b"x"])
def test_a_line_that_is_no_entry_is_refused_among_others(line: bytes) -> None:
    good = Entry(b"a", 1, 1, bytes(32)).to_json()
    with pytest.raises(WitnessError):
        list(read_text(b"%b\n%b\n%b\n" % (good, line, good), DIGESTS[:1]))


@given(made=entries_of(ASCII))
def test_what_we_write_is_read_as_lines(made: tuple[Options, list[Entry]]) -> None:
    options, entries = made
    text = b"".join(write_statement(options, entries))
    found = Lined.read(text)
    assert found is not None
    assert (found.options, found.entries) == (options, tuple(entries))
    assert found.paths == [entry.path for entry in entries]
    assert [found.entry(index) for index in range(len(entries))] == entries
    whole = b"".join(entry.to_json() + b"\n" for entry in entries)
    assert found.text(0, len(entries)) == whole == Lined.of(found).text(0, len(entries))


@given(
    made=entries_of(st.one_of(ASCII, ANY)),
    place=st.integers(0, 10**6),
    byte=st.sampled_from(b' \n\t",./019:[]af{}\\\x00\xff'),
    insert=st.booleans(),
)
def test_no_text_is_read_as_lines_that_the_other_reader_refuses(
    made: tuple[Options, list[Entry]], place: int, byte: int, insert: bool
) -> None:
    text = b"".join(write_statement(*made))
    place %= len(text)
    for each in (text, text[:place] + bytes((byte,)) + text[place + (not insert) :], text[:place]):
        found = Lined.read(each)
        try:
            options, entries, _ = read_statement(each)
        except (WitnessError, UnicodeDecodeError):
            assert found is None
        else:
            assert found is None or (found.options, found.entries) == (options, entries)


LINE = b'{"path":"%b","residue":%b,"sha256":"' + b"0a" * 32 + b'","size":%b}'


@pytest.mark.parametrize(
    "entry",
    [
        *(LINE % (path, b"1", b"1") for path in (b"a", b".a", b"a/..b", b"...", b"\xff", b"a b")),
        *(LINE % (b"a", b"0", size) for size in (b"0", b"1", b"9" * 15)),
        LINE % (b"a", b"95", b"1"),
        b'{"path":"a","symlink":"/.."}',
    ],
)
def test_entries_are_read(entry: bytes) -> None:
    found = _native.read_lines(entry, True, False, 6)
    assert found is not None
    text, paths, _ = found
    assert text == entry + b"\n"
    assert entry.startswith(b'{"path":"' + paths[:-1] + b'"')
    assert paths.endswith(b"\0")


@pytest.mark.parametrize(
    "entries",
    [
        *(
            LINE % (path, b"1", b"1")
            for path in (b"", b".", b"..", b"/a", b"a/", b"a//b", b"a/./b", b"../a", b"a/..")
        ),
        *(LINE % (path, b"1", b"1") for path in (b"\\n", b"a\x1f", b"a\0", b"1234567", b'a"')),
        *(LINE % (b"a", residue, b"1") for residue in (b"", b"96", b"01", b"100", b"-1", b"1.")),
        *(LINE % (b"a", b"1", size) for size in (b"", b"0", b"01", b"1" * 16, b"1e1", b"1 ")),
        (LINE % (b"a", b"1", b"1")).replace(b"0a0a", b"0A0a"),
        (LINE % (b"a", b"1", b"1")).replace(b"0a0a", b"0a0"),
        (LINE % (b"a", b"1", b"1")).replace(b"0a0a", b"0a0a0"),
        (LINE % (b"a", b"1", b"1")).replace(b"sha256", b"sha257"),
        *(b'{"path":"a","symlink":"%b"}' % target for target in (b"", b"\\n", b"\0", b'"')),
        b'{"path":"a"}',
        b'{"path":"a",}',
        b"",
        b"{",
        (LINE % (b"a", b"1", b"1")) + b"\n",
        (LINE % (b"a", b"1", b"1")) + b",\n",
        b"\n".join((LINE % (b"a", b"1", b"1"), LINE % (b"b", b"1", b"1"))),
        b",".join((LINE % (b"a", b"1", b"1"), LINE % (b"b", b"1", b"1"))),
        b",\n".join((LINE % (b"a", b"1", b"1"), LINE % (b"a", b"1", b"1"))),
        b",\n".join((LINE % (b"b", b"1", b"1"), LINE % (b"a", b"1", b"1"))),
        b",\n".join((LINE % (b"ab", b"1", b"1"), LINE % (b"a", b"1", b"1"))),
        b",\n".join((LINE % (b"\xff", b"1", b"1"), LINE % (b"a", b"1", b"1"))),
    ],
)
def test_other_entries_are_left_to_the_other_reader(entries: bytes) -> None:
    assert _native.read_lines(entries, True, False, 6) is None


def test_entries_have_the_digests_that_are_wanted() -> None:
    flat = LINE % (b"a", b"1", b"1")
    both = flat.replace(b',"size"', b',"sha256-merkle-12288":"%b","size"' % (b"1" * 64))
    tree = both.replace(b'"sha256":"%b",' % (b"0a" * 32), b"")
    for entry, digests in ((flat, (True, False)), (both, (True, True)), (tree, (False, True))):
        for asked in ((True, False), (True, True), (False, True), (False, False)):
            assert (_native.read_lines(entry, *asked, 9) is not None) == (asked == digests)
    for end in range(len(both)):
        assert _native.read_lines(both[:end], True, True, 9) is None


@given(lines=st.lists(st.binary(max_size=200).filter(lambda line: b"\n" not in line)))
def test_leaf_hashes_are_those_of_the_standard(lines: list[bytes]) -> None:
    joined = b"".join(line + b"\n" for line in lines)
    expected = b"".join(hashlib.sha256(b"\0" + line).digest() for line in lines)
    assert _native.leaf_hashes(joined) == expected
    with pytest.raises(ValueError, match="line feed"):
        _native.leaf_hashes(joined + b"x")


# --- Verifying

NAMES = ("a", "a.b", "a-", "b/a", "b/b", "b.c", "c/d/e", "c/d/f", "c/g", "z")
CHANGES = ("", "", "", "content", "size", "gone", "link", "folder", "fifo", "new")


def change(path: Path, how: str) -> None:
    if how == "content":
        path.write_bytes(noise(path.stat().st_size, 9))
    elif how == "size":
        path.write_bytes(noise(path.stat().st_size + 1))
    elif how == "new":
        (path.parent / f"{path.name}-new").write_bytes(b"new")
    elif how:
        path.unlink()
        if how == "link":
            path.symlink_to("a")
        elif how == "folder":
            path.mkdir()
            (path / "inside").write_bytes(b"")
        elif how == "fifo":
            os.mkfifo(path)


def verified(
    source: Folder, manifest: Any, leaves: Path | None = None, **options: Any
) -> tuple[Any, ...]:
    seen: list[Difference] = []
    listed: list[int] = []
    read: list[int] = []
    expected: list[int] = []
    runs: set[tuple[bytes, WindowRange]] = set()
    listener = FunctionListener(
        difference=seen.append,
        listed=listed.append,
        advance=read.append,
        expect=expected.append,
        differing=lambda path, run: runs.add((path, run)),
    )
    with ExitStack() as stack:
        if leaves is not None:
            options["leaves"] = stack.enter_context(RegularFile(leaves))
        report = verify_manifest(manifest, source, listener=listener, **options)
    assert report.differences == tuple(seen)
    assert report.leaves_error is None
    return report, listed[-1:], expected, sum(read) if report.holds else None, runs


# Digests, and whether the leaves of the manifest are there.
KINDS = ((DIGESTS[:1], False), (DIGESTS[1:], False), (DIGESTS, False), (DIGESTS, True))


@given(
    hows=st.lists(st.sampled_from(CHANGES), min_size=len(NAMES), max_size=len(NAMES)),
    kind=st.sampled_from(KINDS),
    large=st.booleans(),
)
def test_both_ways_give_one_report(
    tmp_path_factory: pytest.TempPathFactory,
    hows: list[str],
    kind: tuple[tuple[str, ...], bool],
    large: bool,
) -> None:
    digests, has_leaves = kind
    place = tmp_path_factory.mktemp("place")
    root = place / "root"
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(noise(number * (4500 if has_leaves else 10), number))
    (root / "c/link").symlink_to("g")
    if large:
        (root / "b/large").write_bytes(bytes((3 << 20) + 1))
    source, leaves = Folder(root), place / "leaves" if has_leaves else None
    chosen = read_options(source, flat=digests[0] == DIGESTS[0], tree=digests[-1] == DIGESTS[1])
    assert chosen.digests == digests
    generate_manifest(
        source, chosen, str(place / "out.json"), leaves=None if leaves is None else str(leaves)
    )
    text = (place / "out.json").read_bytes()
    manifest = Manifest.from_json(text)
    lined = Lined.read(text)
    assert lined is not None
    for name, how in zip(NAMES, hows, strict=True):
        change(root / name, how)
    if large and "size" in hows:
        (root / "b/large").write_bytes(bytes(3 << 20) + b"x")
    for options in ({}, {"allow_extra": True}, {"threads": 3}):
        expected = verified(OneByOne(root), manifest, leaves, **options)
        assert verified(Folder(root), manifest, leaves, **options) == expected
        assert verified(Folder(root), lined, leaves, **options) == expected
    first, *_ = verified(Folder(root), lined, leaves, fail_fast=True)
    whole, *_ = verified(OneByOne(root), lined, leaves)
    # Of a large file that differs, not all is compared.
    assert {(each.path, each.kind) for each in first.differences} <= {
        (each.path, each.kind) for each in whole.differences
    }
    assert large or set(first.differences) <= set(whole.differences)
    assert len(first.differences) == min(1, len(whole.differences))
    assert first.complete == (not whole.differences)
    shutil.rmtree(place)


def test_files_that_vanish_while_others_are_read_are_unreadable_in_order(tmp_path: Path) -> None:
    for name in ("a", "b/c", "b/d", "c", "d/e", "f"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    manifest = Manifest.generate(tmp_path)
    reports = []
    for way in (Folder, OneByOne):
        seen: list[Difference] = []

        def vanish(_: int) -> None:
            for name in ("b/c", "b/d", "f"):
                (tmp_path / name).rename(tmp_path / f"{name}.away")
            (tmp_path / "c").write_bytes(b"C")

        listener = FunctionListener(expect=vanish, difference=seen.append)
        report = verify_manifest(manifest, way(tmp_path), listener=listener)
        assert [(each.path, each.kind) for each in seen] == [
            (b"b/c", "unreadable"),
            (b"b/d", "unreadable"),
            (b"c", "unreadable"),
            (b"f", "unreadable"),
        ]
        reports.append(report)
        for name in ("b/c", "b/d", "f"):
            (tmp_path / f"{name}.away").rename(tmp_path / name)
        (tmp_path / "c").write_bytes(b"c")
    assert reports[0] == reports[1]
