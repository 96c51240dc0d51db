# SPDX-License-Identifier: Apache-2.0
"""Siblings, files that are listed and hashed together, beside the same files one by one."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas12288 import WINDOW_BYTES, _native
from atlas12288._files import FileError
from atlas12288._subtree import BLOCK_BYTES, window_count
from atlas12288.manifest import _keeper, _spool
from atlas12288.manifest._arguments import hasher
from atlas12288.manifest._beside import Outputs
from atlas12288.manifest._entries import DIGESTS, Entry, Lines
from atlas12288.manifest._generate import generate_lines, generate_manifest, read_options
from atlas12288.manifest._hashing import siblings as hashing
from atlas12288.manifest._hashing.siblings import hash_siblings
from atlas12288.manifest._leaves_file import LeavesFile
from atlas12288.manifest._listener import FunctionListener, Listener
from atlas12288.manifest._sources import descriptors
from atlas12288.manifest._sources import folder as folders
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.siblings import Siblings
from atlas12288.manifest._sources.source import UNTRUSTED, Found
from atlas12288.manifest._spool import Spool
from atlas12288.manifest._store import Store
from support.leftovers import nothing_left
from support.manifests import OneByOne
from support.slow import slow_but
from support.strategies import noise

FAR = 2**62  # no file is modified as late
# What is wanted of each file, as arguments of `read_options`.
FORMS = {
    "flat": {},
    "tree": {"tree": True, "flat": False},
    "both": {"tree": True},
}
BOUNDS = [n * WINDOW_BYTES + more for n in (1, 2, 4) for more in (-1, 0, 1)]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def made(
    source: Folder,
    output: Path,
    listener: Listener | None = None,
    threads: int | None = None,
    form: str = "flat",
    **options: Any,
) -> bytes:
    """The manifest of a folder and the leaves of its trees; b"" if they were not written."""
    output.unlink(missing_ok=True)
    leaves = output.with_suffix(".leaves")
    leaves.unlink(missing_ok=True)
    generate_manifest(
        source,
        read_options(source, **FORMS[form]),
        str(output),
        leaves=None if form == "flat" else str(leaves),
        hash_files=hasher(threads),
        listener=listener or Listener(),
        **options,
    )
    return b"".join(path.read_bytes() for path in (output, leaves) if path.exists())


def walked(source: Folder, selection: Selection | None = None) -> list[Found | Siblings]:
    found = source.walk(selection or Selection(), pytest.fail)
    assert found is not None
    return list(found)


def one_by_one(items: list[Found | Siblings]) -> Iterator[Found]:
    for item in items:
        if isinstance(item, Siblings):
            yield from item.founds()
        else:
            yield item


def hashed(
    source: Folder, siblings: list[Siblings], threads: int = 1
) -> tuple[list[hashing.Hashed], dict[bytes, str]]:
    problems: dict[bytes, str] = {}
    found = hash_siblings(
        source,
        siblings,
        DIGESTS,
        leaves=True,
        threads=threads,
        since_ns=FAR,
        advance=lambda _: None,
        problem=problems.__setitem__,
    )
    return list(found), problems


# Bytes before and after the slash, of UTF-8 and not, and such as JSON escapes.
PARTS = (b"a", b"b", b"-", b".", b"0", b" ", b'"', b"\\", b"\n", b"\x01", b"\xc3\xa9", b"\xff")
NAMES = (
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3)
    .map(b"".join)
    .filter(lambda name: name not in (b".", b".."))
)
TREES = st.recursive(
    st.one_of(st.integers(0, 200), st.sampled_from(BOUNDS), st.just("link")),
    lambda inside: st.dictionaries(NAMES, inside, max_size=5),
    max_leaves=25,
)


def grow(folder: bytes, tree: object) -> None:
    """Makes folders, files of some sizes, and links."""
    if isinstance(tree, dict):
        os.mkdir(folder)  # noqa: PTH102 - a path of any bytes
        for name, inside in tree.items():
            grow(folder + b"/" + name, inside)
    elif tree == "link":
        os.symlink(b"a", folder)  # noqa: PTH211
    else:
        Path(os.fsdecode(folder)).write_bytes(noise(int(str(tree)), len(folder)))


@settings(deadline=None)
@given(
    tree=st.dictionaries(NAMES, TREES, min_size=1, max_size=5),
    rule=st.sampled_from(PARTS),
    form=st.sampled_from(list(FORMS)),
)
def test_both_ways_give_one_manifest_in_the_order_of_full_paths(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, object], rule: bytes, form: str
) -> None:
    place = tmp_path_factory.mktemp("tree")
    root = place / "root"
    grow(os.fsencode(root), tree)
    (root / ".atlasignore").write_bytes(b"*%b\n!x\n" % rule if rule.isalnum() else b"")
    listing = walked(Folder(root))
    together = [item for item in listing if isinstance(item, Siblings)]
    paths = [found.path for found in one_by_one(list(together))]
    assert paths == sorted(set(paths))
    assert sorted(one_by_one(listing)) == sorted(OneByOne(root).list(Selection(), pytest.fail))
    for first, second in pairwise(together):
        assert first.last < second.first
    output = place / "out.json"
    expected = made(OneByOne(root), output, form=form)
    assert made(Folder(root), output, form=form) == expected != b""
    options = read_options(Folder(root), **FORMS[form])
    texts = [
        b"".join(lines.text for lines in generate_lines(way(root), options)[1])
        for way in (Folder, OneByOne)
    ]
    assert texts[0] == texts[1] != b""


@pytest.mark.parametrize("threads", slow_but([2], [1, 2, 5]))
def test_threads_and_batches_change_no_byte(tmp_path: Path, threads: int, form: str) -> None:
    root = tmp_path / "data"
    for number in range(1500):
        place = root / f"{number % 7}" / ("deep" if number % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        size = BOUNDS[number // 20 % len(BOUNDS)] if number % 20 == 0 else number % 400
        (place / f"{number}").write_bytes(noise(size, number))
    (root / "3.bin").write_bytes(noise(BLOCK_BYTES, 1) + b"x")
    (root / "30").write_bytes(noise(BLOCK_BYTES, 2))
    output = tmp_path / "out.json"
    read: list[int] = []
    listed: list[int] = []
    listener = FunctionListener(advance=read.append, listed=listed.append)
    expected = made(OneByOne(root), output, form=form)
    assert made(Folder(root), output, listener, threads, form) == expected
    assert sum(read) == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert listed[-1] == 1502
    assert listed == sorted(listed)


texts = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
times = st.integers(-(2**63), 2**63 - 1)


@given(
    folder=texts,
    files=st.lists(st.tuples(texts, st.integers(0, 2**53), times, times, st.integers(0, 95))),
    since=times,
    flat=st.booleans(),
    tree=st.booleans(),
)
def test_native_lines_are_the_lines_of_the_entries(
    folder: str, files: list[tuple[str, int, int, int, int]], since: int, flat: bool, tree: bool
) -> None:
    names = b"".join(name.encode() + b"\0" for name, *_ in files)
    numbers = b"".join(
        number.to_bytes(8, "little", signed=True) for _, *three, _ in files for number in three
    )
    digests = [hashlib.sha512(name.encode()).digest() for name, *_ in files]
    results = b"".join(
        bytes((1, residue)) + digest for (*_, residue), digest in zip(files, digests, strict=True)
    )
    text, hashes, identities = _native.entry_lines(
        folder.encode() + b"/", names, numbers, results, since, flat, tree
    )
    entries = [
        Entry(
            f"{folder}/{name}".encode(),
            size,
            residue,
            digest[:32] if flat else None,
            digest[32:] if tree else None,
        )
        for (name, size, _, _, residue), digest in zip(files, digests, strict=True)
    ]
    if not files:
        assert (text, hashes, identities) == (b"", b"", b"")
        return
    assert Lines(text, hashes) == Lines.of([entry.to_json() for entry in entries])
    assert identities.decode().split("\n") == [
        f"{UNTRUSTED if max(modified, changed) >= since else ''}{modified} {changed}"
        for _, _, modified, changed, _ in files
    ]


def test_what_is_no_plain_file_comes_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a", "b", "sub/own", "sub/other", "z"):
        (tmp_path / name).write_bytes(b"data")
    os.link(tmp_path / "sub" / "own", tmp_path / "sub" / "twin")
    (tmp_path / "c").symlink_to("a")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(BLOCK_BYTES + 1)
    os.mkfifo(tmp_path / "sub" / "fifo")
    outputs = Outputs(str(tmp_path))
    outputs.add(str(tmp_path / "sub" / "own"), (tmp_path / "sub" / "own").stat())
    problems: list[bytes] = []
    source = Folder(tmp_path)
    found = source.walk(Selection(outputs=outputs), lambda path, _: problems.append(path))
    assert found is not None
    assert [
        item.names if isinstance(item, Siblings) else (item.path, item.target) for item in found
    ] == [
        b"a\0b\0",
        (b"c", b"a"),
        (b"large", None),
        b"other\0",
        (b"sub/twin", None),
        b"z\0",
    ]
    assert problems == [b"sub/fifo"]
    assert outputs.left_out == {b"sub/own"}


def test_a_folder_beyond_the_bound_is_listed_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "many" / "few").mkdir(parents=True)
    for number in range(10):
        (tmp_path / "many" / f"{number}").write_bytes(b"")
    (tmp_path / "many" / "few" / "x").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "z").write_bytes(b"")
    expected = made(OneByOne(tmp_path), tmp_path.parent / "out.json")
    monkeypatch.setattr(folders, "_ENTRIES_MOST", 10)
    listing = walked(Folder(tmp_path))
    assert [type(item) for item in listing] == [Siblings, *[Found] * 11, Siblings]
    assert made(Folder(tmp_path), tmp_path.parent / "out.json") == expected


def test_a_listing_names_each_entry_once_in_order(tmp_path: Path) -> None:
    for name in ("b", "a-", "a0", "a.b"):
        (tmp_path / name).write_bytes(b"1234")
    (tmp_path / "a").mkdir()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        listed = _native.list_folder(descriptor, 4, 5, [])
        assert listed is not None
        names, numbers, kinds = listed
        assert (names, kinds) == (b"a-\0a.b\0a\0a0\0b\0", b"\0\0\1\0\0")
        assert [numbers[start : start + 8] for start in range(0, 120, 24)] == [
            number.to_bytes(8, "little") for number in (4, 4, 0, 4, 4)
        ]
        listed = _native.list_folder(descriptor, 3, 5, [])
        assert listed is not None
        assert listed[2] == b"\2\2\1\2\2"
        assert _native.list_folder(descriptor, 4, 4, []) is None
        status = (tmp_path / "b").stat()
        watched = [(status.st_dev, status.st_ino), (status.st_dev + 1, status.st_ino)]
        listed = _native.list_folder(descriptor, 4, 5, watched)
        assert listed is not None
        assert listed[2] == b"\0\0\1\0\2"
    finally:
        os.close(descriptor)
    file = os.open(tmp_path / "b", os.O_RDONLY)
    try:
        assert _native.list_folder(file, 4, 4, []) is None
    finally:
        os.close(file)
    assert _native.list_folder(-1, 4, 4, []) is None


def test_wrong_arguments_are_refused() -> None:
    numbers = bytes(24)
    result = bytes(_native.RESULT_BYTES)
    room, flat = (bytearray(1), 1), (True, False, False)
    for function, arguments, error in (
        (_native.list_folder, (0, 1, 1, [(1,)]), ValueError),
        (_native.list_folder, (0, -1, 1, []), OverflowError),
        (_native.list_folder, (0, 1, 1, None), TypeError),
        (_native.witness_files, ([], 0, *room, *flat), ValueError),
        (_native.witness_files, ([(3, b"a\0", numbers)], 1, *room, *flat), ValueError),
        (_native.witness_files, ([(3, b"a", numbers)], 0, *room, *flat), ValueError),
        (_native.witness_files, ([(3, b"a\0b", numbers)], 0, *room, *flat), ValueError),
        (_native.witness_files, ([(3, b"a\0", numbers * 2)], 0, *room, *flat), ValueError),
        (_native.witness_files, ([(3, b"a\0", numbers + b"x")], 0, *room, *flat), ValueError),
        (_native.witness_files, ([(3, "a\0", numbers)], 0, *room, *flat), TypeError),
        (_native.witness_files, ([(3, b"a\0", numbers)], 0, b"x", 1, *flat), BufferError),
        (_native.witness_files, (None, 0, *room, *flat), TypeError),
        (_native.entry_lines, (b"", b"a\0", numbers, result[1:], 0, True, True), ValueError),
        (_native.entry_lines, (b"", b"a\0", b"", result, 0, True, True), ValueError),
        (_native.entry_lines, ("", b"a\0", numbers, result, 0, True, True), TypeError),
    ):
        with pytest.raises(error):
            function(*arguments)  # type: ignore[operator]


def test_a_call_ends_after_its_time_with_some_of_the_files(tmp_path: Path) -> None:
    sizes = [BOUNDS[number % len(BOUNDS)] if number % 3 == 0 else number for number in range(20)]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number:02}").write_bytes(noise(size, number))
    (siblings,) = walked(Folder(tmp_path))
    assert isinstance(siblings, Siblings)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        groups = [(folder, siblings.names, siblings.numbers)]
        room = bytearray(max(sizes))
        whole, leaves = _native.witness_files(groups, 0, room, 10**12, True, True, True)
        assert len(whole) == 20 * _native.RESULT_BYTES
        assert len(leaves) == 32 * siblings.windows
        part, some_leaves = _native.witness_files(groups, 7, room, 0, True, True, True)
        done = len(part) // _native.RESULT_BYTES
        assert 0 < done < 13
        assert whole[7 * _native.RESULT_BYTES :].startswith(part)
        before, windows = (sum(map(window_count, sizes[a:b])) for a, b in ((0, 7), (7, 7 + done)))
        assert leaves[32 * before : 32 * (before + windows)] == some_leaves
        assert _native.witness_files(groups, 0, room, 10**12, True, True, False) == (whole, b"")
        # A file for which there is no room is left, and no byte is written behind the buffer.
        none, _ = _native.witness_files(groups, 0, bytearray(), 0, True, False, True)
        assert none == bytes(_native.RESULT_BYTES)
    finally:
        os.close(folder)


def _gone(path: Path) -> None:
    path.unlink()


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _other(path: Path) -> None:
    path.write_bytes(noise(len(path.read_bytes()), 9))
    os.utime(path, ns=(1, 1))


def _link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = (_gone, _longer, _other, _link, _fifo)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", [Folder, OneByOne])
def test_a_file_that_changed_since_the_listing_is_a_problem_by_name(
    tmp_path: Path, change: Callable[[Path], None], way: type[Folder], form: str
) -> None:
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    for name in ("a", "sub/m", "sub/victim", "z"):
        (root / name).write_bytes(noise(100))
    problems: list[bytes] = []

    def expect(_: int) -> None:
        change(root / "sub" / "victim")

    listener = FunctionListener(
        expect=expect, problem=lambda path, reason: problems.append(path + reason.encode())
    )
    assert made(way(root), tmp_path / "out.json", listener, form=form) == b""
    (problem,) = problems
    assert problem.startswith(b"sub/victim")


def outside_twin(place: Path, names: tuple[str, ...]) -> Path:
    """A folder whose files have the sizes and times of those of `place`, and other contents."""
    twin = place.parent.parent / "outside"
    twin.mkdir()
    for name in names:
        (twin / name).write_bytes(b"stolen")
        os.utime(twin / name, ns=(10**18, 10**18))
        (place / name).write_bytes(b"secret"[::-1])
        os.utime(place / name, ns=(10**18, 10**18))
    return twin


def swap(place: Path, twin: Path) -> None:
    place.rename(place.with_name(f"{place.name}.moved"))
    place.symlink_to(twin)


@pytest.mark.parametrize("way", [Folder, OneByOne])
def test_a_folder_that_became_a_link_after_the_listing_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: type[Folder], form: str
) -> None:
    monkeypatch.setattr(descriptors, "OPEN_MOST", 2)
    root = tmp_path / "data"
    for name in ("0", "1", "2", "3", "4"):
        (root / name).mkdir(parents=True)
        (root / name / "x").write_bytes(b"")
    twin = outside_twin(root / "1", ("x", "y"))
    problems: dict[bytes, str] = {}
    listener = FunctionListener(
        expect=lambda _: swap(root / "1", twin), problem=problems.__setitem__
    )
    assert made(way(root), tmp_path / "out.json", listener, threads=1, form=form) == b""
    assert problems.keys() == {b"1/x", b"1/y"}


@pytest.mark.parametrize("way", [Folder, OneByOne])
def test_a_folder_that_becomes_a_link_during_the_listing_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: type[Folder], form: str
) -> None:
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(b"")
    twin = outside_twin(root / "sub", ("x",))
    real = descriptors.Below.open_folder

    def open_folder(below: descriptors.Below, path: bytes) -> int:
        if path == b"sub":
            swap(root / "sub", twin)
        return real(below, path)

    monkeypatch.setattr(descriptors.Below, "open_folder", open_folder)
    problems: dict[bytes, str] = {}
    listener = FunctionListener(problem=problems.__setitem__)
    assert made(way(root), tmp_path / "out.json", listener, form=form) == b""
    assert problems == {b"sub": "changed while it was listed: it is no longer a folder"}


def test_reasons_are_those_of_the_reader(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b", "z"):
        (tmp_path / name).write_bytes(noise(2 * WINDOW_BYTES))
    source = Folder(tmp_path)
    siblings = [item for item in walked(source) if isinstance(item, Siblings)]
    (tmp_path / "z").unlink()
    for threads in (1, 3):
        found, problems = hashed(source, siblings, threads)
        assert [each.first for each in found] == [b"a", b"sub/b"]
        assert {each.leaves for each in found} == {_native.tree_leaves(noise(2 * WINDOW_BYTES))[0]}
        assert problems == {b"z": "No such file or directory"}


def test_times_that_native_code_has_no_room_for_are_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    found = Found(b"a", 4, f"{2**64} 0", None, 2**64)
    assert Folder(tmp_path).read_files([found], memoryview(bytearray(4))) == b"\0"


@pytest.mark.parametrize("name", [b"00", b'0"', b"0\xff"], ids=repr)
def test_what_was_read_is_kept_for_the_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes, form: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for number in range(600):
        (root / f"{number}").write_bytes(noise(30_000 if number % 100 == 0 else 64, number))
        os.utime(root / f"{number}", ns=(10**18, 10**18))
    (root / "0").rename(root / os.fsdecode(name))
    (root / "00-new").write_bytes(b"")
    os.utime(root / "00-new", ns=(FAR, FAR))
    output = tmp_path / "out.json"
    expected = made(Folder(root), output, form=form)
    output.unlink()
    monkeypatch.setattr(_keeper, "_COMMIT_S", 0.0)
    monkeypatch.setattr("atlas12288.manifest._generate.KEPT_AFTER_S", 0.0)
    monkeypatch.setattr(hashing, "_BATCH_FILES_MOST", 1)
    read = 0

    class StopError(Exception):
        pass

    def advance(size: int) -> None:
        nonlocal read
        read += size
        if read > 200 * 64:
            raise StopError

    def run(listener: Listener) -> bytes:
        return made(Folder(root), output, listener, 1, form, state=True)

    with pytest.raises(StopError):
        run(FunctionListener(advance=advance))
    assert not output.exists()
    notes: list[str] = []
    assert run(FunctionListener(note=notes.append)) == expected
    (note,) = notes
    assert "goes on with the state" in note
    # Siblings come 256 at a time; the file that is new is not trusted.
    assert ": 255 files known" in note


def test_an_update_knows_what_siblings_were_in_the_run_before(tmp_path: Path, form: str) -> None:
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    for name in ("a", "sub/b", os.fsdecode(b"sub/\xff"), "z"):
        (root / name).write_bytes(noise(10 if name == "a" else 30_000))
        os.utime(root / name, ns=(10**18, 10**18))
    (root / "link").symlink_to("a")
    (root / "new").write_bytes(b"now")
    os.utime(root / "new", ns=(FAR, FAR))
    output, leaves = tmp_path / "out.json", tmp_path / "out.leaves"
    counts = []
    for update in (False, True, True):
        source = Folder(root)
        counts.append(
            generate_manifest(
                source,
                read_options(source, **FORMS[form]),
                str(output),
                leaves=None if form == "flat" else str(leaves),
                state=True,
                update=update,
            ).known
        )
    assert counts == [0, 4, 4]
    found = [path.read_bytes() for path in (output, leaves) if path.exists()]
    assert made(OneByOne(root), output, form=form) == b"".join(found)


def test_closing_the_results_ends_the_threads(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number}").write_bytes(b"x")
    source = Folder(tmp_path)
    siblings = [item for item in walked(source) if isinstance(item, Siblings)]
    with nothing_left():
        results = hash_siblings(
            source,
            siblings,
            ("sha256",),
            threads=4,
            since_ns=FAR,
            advance=lambda _: None,
            problem=pytest.fail,
        )
        next(results)
        results.close()


def _pair(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    return one, other


@given(
    records=st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), max_size=30),
    most=st.integers(0, 3000),
)
def test_a_spool_gives_back_its_records_in_order(
    records: list[tuple[bytes, bytes]], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_spool, "_MEMORY_BYTES", most)
        spool = Spool(_pair)
        assert not spool
        for number, record in enumerate(records):
            spool.add(record)
            if number % 7 == 3:
                assert list(spool) == records[: number + 1]
        assert list(spool) == records
        assert bool(spool) == bool(records)
        spool.close()


def test_a_spool_whose_file_is_cut_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spool, "_MEMORY_BYTES", 0)
    spool = Spool(_pair)
    spool.add((b"one", b"two"))
    assert spool._file is not None
    for size in (10, 5, 3):
        spool._file.truncate(size)
        with pytest.raises(FileError, match="temporary file"):
            list(spool)
    spool.close()
    with pytest.raises((FileError, ValueError)):
        list(spool)


def test_siblings_out_of_order_are_no_manifest() -> None:
    with Store(("sha256",)) as store:
        siblings = Siblings(b"", b"a\0", bytes(24))
        store.begin(iter([siblings, siblings]), {}, update=False)
        line = Entry(b"a", 0, 0, bytes(32)).to_json()
        for _ in range(2):
            store.hashed(hashing.Hashed(b"a", b"a", *Lines.of([line]), b"0 0"))
        with pytest.raises(FileError, match="out of order"):
            list(store.lines())


def test_leaves_of_siblings_that_changed_meanwhile_are_no_sidecar(tmp_path: Path) -> None:
    kept = LeavesFile(str(tmp_path / "out.json"))
    line = Entry(b"a", 2 * WINDOW_BYTES, 0, None, bytes(32)).to_json()
    leaves = noise(64)
    with Store(DIGESTS[1:], leaves=kept) as store:
        siblings = Siblings(b"", b"a\0", (2 * WINDOW_BYTES).to_bytes(8, sys.byteorder) + bytes(16))
        store.begin(iter([siblings]), {}, update=False)
        store.hashed(hashing.Hashed(b"a", b"a", *Lines.of([line]), b"0 0", leaves))
        found: list[bytes] = []
        assert [each.text for each in store.lines(found.append)] == [line + b"\n"]
        assert found == [leaves]
        kept.write(1, bytes(32))
        with pytest.raises(FileError, match="leaves are damaged"):
            list(store.lines(found.append))
    kept.close()
