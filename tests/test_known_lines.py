# SPDX-License-Identifier: Apache-2.0
"""What earlier runs left of small files, beside the same runs file by file."""

import hashlib
import os
import shutil
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas12288 import _native
from atlas12288._files import FileError
from atlas12288._native import RESULT_BYTES, WINDOW_BYTES
from atlas12288._subtree import BLOCK_BYTES, window_count
from atlas12288.manifest import _file_table, _keeper, _known_lines
from atlas12288.manifest._entries import DIGESTS, Entry, read_line
from atlas12288.manifest._generate import RunCounts, generate_manifest, read_options
from atlas12288.manifest._hashing import siblings as hashing
from atlas12288.manifest._kept_states import open_state
from atlas12288.manifest._known_lines import (
    EarlierLines,
    Judged,
    KnownLines,
    Piece,
    ReadLeaves,
    Single,
    forget_without_leaves,
    parted,
)
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._sources import folder as folders
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.siblings import Siblings
from atlas12288.manifest._sources.source import UNTRUSTED
from atlas12288.manifest._state_frames import MAGIC, SMALL, frame
from support.manifests import OneByOne, StopError
from support.strategies import noise

WAYS = (Folder, OneByOne)
FORMS = ({}, {"tree": True, "flat": False}, {"tree": True})
NAMES = ("a", "a.b", "a-", "b/a", "b/b", 'b/"', "b/\udcff", "b.c", "c/d/e", "c/d/f", "c/g", "z")
EDITS = ("content", "size", "gone", "link", "folder", "large", "new", "now", "mode", "damage")
OLD_NS = 10**18
# Bytes after which a run is stopped; the large file comes first.
AFTER = (BLOCK_BYTES + 30_000, 20_000, 1)


def write(path: Path, content: bytes, age: int = 0) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(OLD_NS + age, OLD_NS + age))


def edit(path: Path, how: str, step: int) -> None:
    """Changes a file, or makes it again if it is gone."""
    if not path.parent.is_dir() or path.is_symlink() or not path.is_file():
        write(path, noise(40 + step, step), step)
        return
    size = path.stat().st_size
    if how in ("content", "size"):
        write(path, noise(size + (how == "size"), 100 + step), step)
    elif how == "damage":
        kept = path.stat().st_mtime_ns
        path.write_bytes(noise(size, 200 + step))
        os.utime(path, ns=(kept, kept))
    elif how == "now":
        path.write_bytes(noise(size, 300 + step))
    elif how == "mode":
        path.chmod(0o600 if path.stat().st_mode & 0o77 else 0o644)
    elif how == "new":
        write(path.with_name(f"{path.name}-{step}"), noise(30_000, step))
    elif how == "large":
        write(path, bytes(BLOCK_BYTES) + noise(step + 1))
    else:
        path.unlink()
        if how == "link":
            path.symlink_to("a")
        elif how == "folder":
            write(path / "inside", b"inside")


class World:
    """Runs of one way over a folder, with a manifest and a state of their own."""

    def __init__(self, root: Path, place: Path, form: dict[str, bool]) -> None:
        place.mkdir()
        self.root, self.form = root, form
        self.exclude: tuple[str, ...] = ()
        self.output, self.state = place / "out.json", place / "state"
        self.leaves = place / "out.leaves" if form.get("tree") else None

    def run(
        self, way: type[Folder], stop_after: int | None = None, **options: Any
    ) -> tuple[RunCounts, list[str]]:
        read = 0
        notes: list[str] = []

        def advance(count: int) -> None:
            nonlocal read
            read += count
            if stop_after is not None and read >= stop_after:
                raise StopError

        source = way(self.root)
        counts = generate_manifest(
            source,
            read_options(source, exclude=self.exclude, **self.form),
            str(self.output),
            leaves=None if self.leaves is None else str(self.leaves),
            state=str(self.state),
            listener=FunctionListener(advance=advance, note=notes.append),
            **options,
        )
        # The time is that of another run.
        return counts, [note.replace(str(self.output.parent), "") for note in notes]

    def made(self) -> tuple[bytes, bytes, list[bytes], Any]:
        """The manifest, its leaves, and what the state knows of its files."""
        leaves = b"" if self.leaves is None else self.leaves.read_bytes()
        with open_state(str(self.state), str(self.output)) as state:
            kept = [each for some in state.identity_lists() for each in some]
            finished = state.finished
        assert finished is not None
        return self.output.read_bytes(), leaves, kept, finished.entries


def without_times(outcome: tuple[RunCounts, list[str]]) -> tuple[RunCounts, list[str]]:
    counts, notes = outcome
    return counts, [note.partition(" run at ")[0] + note.partition("UTC")[2] for note in notes]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read is kept at once, in batches of one folder's files."""
    monkeypatch.setattr(_keeper, "_COMMIT_S", 0.0)
    monkeypatch.setattr(hashing, "_BATCH_FILES_MOST", 1)


steps = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(EDITS)), max_size=4),
        st.sampled_from(("update", "update", "ignore_ctime", "plain", "stopped", "stopped twice")),
    ),
    min_size=1,
    max_size=4,
)


def grown(place: Path) -> Path:
    root = place / "root"
    for number, name in enumerate(NAMES):
        write(root / name, noise(number * 4000, number))
    (root / "c/link").symlink_to("g")
    write(root / "c/large", bytes(BLOCK_BYTES + 1))
    return root


def both_ways(
    place: Path,
    form: dict[str, bool],
    steps: list[tuple[list[tuple[str, str]], str]],
    chosen: list[bool],
    most: int,
) -> None:
    """Runs steps one after another, both ways and now one, now the other. Folders of more entries
    than `most` are listed one by one."""
    root = grown(place)
    worlds = [World(root, place / way.__name__, form) for way in WAYS]
    mixed = World(root, place / "mixed", form)
    fresh = World(root, place / "fresh", form)
    turns = iter(chosen)
    damaged = False
    for number, (edits, kind) in enumerate([([], "plain"), *steps]):
        for name, how in edits:
            edit(root / name, how, number)
            damaged |= how == "damage"
        options: dict[str, Any] = {"update": kind != "plain", "accept": True}
        if kind == "ignore_ctime":
            options["ignore_ctime"] = damaged = True
        for accept in ((), True):
            options["accept"] = accept
            outcomes = [
                without_times(world.run(way, **options))
                for way, world in zip(WAYS, worlds, strict=True)
            ]
            assert outcomes[0] == outcomes[1]
            made = worlds[0].made()
            assert made == worlds[1].made()
            if outcomes[0][0].refused == 0:
                break
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folders, "_ENTRIES_MOST", most)
            if kind.startswith("stopped"):
                for _ in range(1 + kind.endswith("twice")):
                    after = AFTER[number % len(AFTER)]
                    with suppress(StopError):
                        mixed.run(WAYS[next(turns, 0)], after, **options)
            for accept in ((), True):  # what a run refused, the next one takes
                options["accept"] = accept
                mixed.run(WAYS[next(turns, 1)], **options)
        assert mixed.made() == made
        if not damaged:
            fresh.run(OneByOne, accept=True)
            assert made[:2] == fresh.made()[:2]
    shutil.rmtree(place)


anything = given(
    form=st.sampled_from(FORMS),
    steps=steps,
    chosen=st.lists(st.booleans(), min_size=12),
    most=st.sampled_from((folders._ENTRIES_MOST, 4)),
)


@pytest.mark.usefixtures("at_once")
@settings(deadline=None, max_examples=3)
@anything
def test_updates_and_runs_that_go_on_give_the_same_both_ways(
    tmp_path_factory: pytest.TempPathFactory, **options: Any
) -> None:
    both_ways(tmp_path_factory.mktemp("known"), **options)


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
@settings(deadline=None)
@anything
def test_many_updates_and_runs_that_go_on_give_the_same_both_ways(
    tmp_path_factory: pytest.TempPathFactory, **options: Any
) -> None:
    both_ways(tmp_path_factory.mktemp("known"), **options)


@pytest.mark.parametrize("form", FORMS, ids=["flat", "tree", "both"])
@pytest.mark.usefixtures("at_once")
def test_what_is_refused_file_by_file_after_a_stop_can_be_accepted(
    tmp_path: Path, form: dict[str, bool]
) -> None:
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", form)
    world.run(Folder)
    edit(root / "a.b", "damage", 1)
    edit(root / "c/d/e", "content", 1)
    with pytest.raises(StopError):
        world.run(Folder, 1, update=True)
    counts, _ = world.run(OneByOne, update=True)
    assert counts.refused == 1
    counts, _ = world.run(OneByOne, update=True, accept=True)
    assert (counts.refused, counts.read) == (0, 0)


@pytest.mark.usefixtures("at_once")
def test_a_run_goes_on_after_any_number_of_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_known_lines, "RUNS_MOST", 2)
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", {"tree": True})
    for number in range(5):
        write(root / f"0-{number}", noise(30_000, number))
        with pytest.raises(StopError):
            world.run(Folder, AFTER[0] if number == 0 else 1)
    counts, _ = world.run(Folder)
    assert counts.read < counts.files - 3
    fresh = World(root, tmp_path / "fresh", {"tree": True})
    fresh.run(OneByOne)
    assert world.made() == fresh.made()


def test_files_whose_leaves_are_missing_are_read_again(tmp_path: Path) -> None:
    root = grown(tmp_path)
    worlds = [World(root, tmp_path / way.__name__, {"tree": True}) for way in WAYS]
    counts = []
    for way, world in zip(WAYS, worlds, strict=True):
        world.run(way)
        assert world.leaves is not None
        world.leaves.unlink()
        counts.append(world.run(way, update=True)[0])
    assert counts[0] == counts[1]
    assert 0 < counts[0].known < counts[0].files
    assert worlds[0].made() == worlds[1].made()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("way", WAYS)
def test_damaged_leaves_of_a_stopped_run_are_made_again(tmp_path: Path, way: type[Folder]) -> None:
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", {"tree": True})
    with pytest.raises(StopError):
        world.run(Folder, AFTER[0])
    (under_way,) = (
        path for path in world.output.parent.iterdir() if path not in (world.state, world.output)
    )
    under_way.write_bytes(bytes(len(under_way.read_bytes())))
    world.run(way)
    fresh = World(root, tmp_path / "fresh", {"tree": True})
    fresh.run(OneByOne)
    assert world.made() == fresh.made()


@pytest.mark.usefixtures("at_once")
def test_a_refused_run_keeps_what_the_run_had_read_that_it_went_on_with(tmp_path: Path) -> None:
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", {})
    world.run(Folder)
    edit(root / "z", "damage", 1)
    with pytest.raises(StopError):
        world.run(Folder, AFTER[0])
    counts, _ = world.run(Folder)
    assert 0 < counts.known < counts.files
    assert counts.refused == 1
    counts, _ = world.run(Folder, accept=True)
    assert counts.known == counts.files


@pytest.mark.parametrize("at_once", [1, 100])
def test_small_files_that_come_one_by_one_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", {"tree": True})
    world.run(Folder)
    made = world.made()
    write(root / "b.c", noise(BLOCK_BYTES + 9))
    monkeypatch.setattr(folders, "_ENTRIES_MOST", 4)
    monkeypatch.setattr(_file_table, "_LISTED_AT_ONCE", at_once)
    counts, _ = world.run(Folder, update=True)
    assert (counts.known, counts.read) == (counts.files - 1, 1)
    write(root / "b.c", noise(NAMES.index("b.c") * 4000, NAMES.index("b.c")))
    world.run(Folder, update=True)
    assert world.made()[:2] == made[:2]


# --- Runs that kept what they read, and went on: a FIFO is read by none, and nothing is written


class Sabotaged(Folder):
    """A folder one of whose files shrinks when it is read."""

    victim = "b/b"

    def witness_siblings(self, *arguments: Any) -> tuple[bytes, bytes]:
        os.truncate(Path(self.name, self.victim), 1)
        return super().witness_siblings(*arguments)


def keep(world: World, way: type[Folder], **options: Any) -> None:
    """Runs, and keeps all that can be read for the run that goes on."""
    os.mkfifo(world.root / "fifo")
    counts, _ = world.run(way, **options)
    assert counts.errors > 0
    (world.root / "fifo").unlink()


def assert_as_fresh(world: World) -> None:
    fresh = World(world.root, world.state.with_name("fresh"), world.form)
    fresh.run(OneByOne)
    assert world.made()[:2] == fresh.made()[:2]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("ways", "most", "one_by_one"),
    [
        ((Folder, Folder), 8, False),
        ((Folder, Folder), 1, True),
        ((Folder, OneByOne), 8, True),
        ((OneByOne, Folder), 8, True),
        ((Folder, Folder, OneByOne, Folder), 2, False),
        ((Folder, Folder, Folder, Folder), 2, True),
    ],
    ids=lambda each: "-".join(way.__name__ for way in each) if isinstance(each, tuple) else None,
)
def test_the_run_that_read_a_file_last_is_asked_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ways: tuple[type[Folder], ...],
    most: int,
    one_by_one: bool,
) -> None:
    monkeypatch.setattr(_known_lines, "RUNS_MOST", most)
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", {"tree": True})
    for number, way in enumerate(ways):
        edit(root / "a.b", "damage", number)
        edit(root / "c/g", "damage", number)
        keep(world, way)
    if one_by_one:
        monkeypatch.setattr(folders, "_ENTRIES_MOST", 4)
    # By the ctime alone, an older run would be as good.
    counts, _ = world.run(Folder, ignore_ctime=True)
    assert counts.read == 0
    assert_as_fresh(world)


@pytest.mark.usefixtures("at_once")
def test_leaves_of_a_run_stay_where_the_next_ones_go_on(tmp_path: Path) -> None:
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", {"tree": True})
    for number in range(3):
        keep(world, Folder)
        write(root / f"b/0-{number}", noise(30_000, number))
    keep(world, Folder)
    counts, _ = world.run(Folder)
    assert counts.read == 0
    assert_as_fresh(world)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("form", FORMS, ids=["flat", "tree", "both"])
def test_a_file_that_fails_takes_nothing_from_its_siblings(
    tmp_path: Path, form: dict[str, bool]
) -> None:
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", form)
    counts, _ = world.run(Sabotaged)
    assert (counts.errors, counts.read) == (1, counts.files)
    write(root / "b/b", noise(7, 7))
    counts, _ = world.run(Folder)
    assert counts.read == 1
    assert_as_fresh(world)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("left_out", ["/a", "a-"])
def test_a_refused_run_keeps_siblings_that_two_runs_know(tmp_path: Path, left_out: str) -> None:
    root = grown(tmp_path)
    world = World(root, tmp_path / "world", {"tree": True})
    world.run(Folder)
    edit(root / "a.b", "content", 1)
    edit(root / "z", "damage", 1)
    world.exclude = (left_out,)
    keep(world, Folder, update=True)
    world.exclude = ()
    counts, _ = world.run(Folder, update=True)
    assert (counts.refused, counts.read) == (1, 0)
    counts, _ = world.run(Folder, update=True, accept=True)
    assert (counts.refused, counts.read) == (0, 0)
    assert_as_fresh(world)


# --- Which run tells what of a file

# Files and folders of one name, and names that begin as others do.
PLACES = ("a", "a-", "a/b", "a/b-", "a/b.x", "a/b/c", "a/bc", "a0", "ab", "b", "b/\xe9")
LISTED = (b"", ("a-",)), (b"a", ("b", "b-", "b.x", "bc")), (b"", ("a0", "ab")), (b"b", ("\xe9",))
KINDS = st.sampled_from(("same", "same", "ctime", "mtime", "size", "untrusted"))
SIZES = (0, 1, 12289, 30_000)
SIZE_OF = {path: SIZES[number % len(SIZES)] for number, path in enumerate(PLACES)}


def piece_of(run: int, kinds: dict[str, str], place: int) -> Piece:
    """The lines of a run: the digests are its number, and so are the times that are others."""
    lines, identities = [], []
    for path in sorted(kinds, key=str.encode):
        kind, size = kinds[path], SIZE_OF[path]
        digest = bytes((run,)) * 32
        size += kind == "size"
        entry = Entry(path.encode(), size, min(run, size), digest, digest)
        lines.append(entry.to_json() + b"\n")
        times = f"{20 + run if kind == 'mtime' else 10} {20 + run if kind == 'ctime' else 10}"
        identities.append(f"{UNTRUSTED if kind == 'untrusted' else ''}{times}".encode())
    return Piece.of(b"".join(lines), b"\n".join(identities), place)


def parts_of(run: int, kinds: dict[str, str], cuts: set[int]) -> Iterator[Piece]:
    """The lines of a run in pieces, whose leaves lie at the number of the run."""
    paths = sorted(kinds, key=str.encode)
    place = run * 1000
    for start, stop in pairwise(
        sorted({0, len(paths)} | {cut for cut in cuts if cut < len(paths)})
    ):
        some = {path: kinds[path] for path in paths[start:stop]}
        yield piece_of(run, some, place)
        place += sum(window_count(SIZE_OF[path] + (kinds[path] == "size")) for path in some)


def place_in(run: int, kinds: dict[str, str], wanted: str) -> int:
    before = [path for path in kinds if path.encode() < wanted.encode()]
    return run * 1000 + sum(
        window_count(SIZE_OF[path] + (kinds[path] == "size")) for path in before
    )


@settings(max_examples=60)
@given(
    runs=st.lists(
        st.dictionaries(st.sampled_from(PLACES), KINDS, min_size=1), min_size=2, max_size=5
    ),
    cuts=st.sets(st.integers(1, len(PLACES)), max_size=4),
    has_last=st.booleans(),
    replace=st.booleans(),
)
def test_the_newest_run_that_has_a_file_tells_what_is_known_of_it(
    runs: list[dict[str, str]], cuts: set[int], has_last: bool, replace: bool
) -> None:
    earlier = EarlierLines((True, True))
    added: list[tuple[Piece, bool]] = []
    for run, kinds in enumerate(runs):
        is_last = has_last and run == 0
        lines = KnownLines((True, True))
        for piece in parts_of(run, kinds, cuts):
            added.append((piece, not is_last))
            if is_last:
                lines.add(piece)
            else:
                assert earlier.add(piece)
        if is_last:
            earlier.set_last(lines)
    assert list(earlier.pieces()) == added
    for folder, names in LISTED:
        paths = [f"{folder.decode()}/{name}".lstrip("/") for name in names]
        numbers = array("q", [each for path in paths for each in (SIZE_OF[path], 10, 10)])
        encoded = b"".join(name.encode() + b"\0" for name in names)
        judged, of_log = earlier.judge(Siblings(folder, encoded, numbers.tobytes()), replace)
        for index, path in enumerate(paths):
            # The newest one that can tell anything.
            telling = [
                run for run, kinds in enumerate(runs) if kinds.get(path, "untrusted") != "untrusted"
            ]
            run = telling[-1] if telling else None
            kind = None if run is None else runs[run][path]
            is_known = kind == "same" or (kind == "ctime" and replace)
            result = judged.results[index * RESULT_BYTES : (index + 1) * RESULT_BYTES]
            told = b"\1%c%b" % (min(run or 0, SIZE_OF[path]), bytes((run or 0,)) * 64)
            assert result == (told if is_known else bytes(RESULT_BYTES))
            assert of_log[index] == (is_known and not (has_last and run == 0))
            if is_known and run is not None:
                place, ctime = array("q", judged.places)[index], array("q", judged.numbers)
                assert place == place_in(run, runs[run], path)
                assert ctime[3 * index + 2] == (20 + run if kind == "ctime" else 10)
    earlier.close()


def test_a_path_that_a_run_read_again_begins_the_lines_of_a_newer_run() -> None:
    for paths in ((("a",), ("a",)), (("a-", "a/b"), ("a/b", "ab")), (("a-", "ab"), ("a0",))):
        earlier = EarlierLines((True, True))
        for run, each in enumerate(paths):
            assert earlier.add(
                piece_of(run, dict.fromkeys(each, "mtime" if run == 0 else "same"), 0)
            )
        path = paths[1][0]
        folder, _, name = path.rpartition("/")
        numbers = array("q", (SIZE_OF[path], 10, 10)).tobytes()
        siblings = Siblings(folder.encode(), name.encode() + b"\0", numbers)
        assert earlier.judge(siblings, False)[0].known == 1
        earlier.close()


@pytest.mark.parametrize(
    "identity",
    ["1 1", "", "1", "1 ", "1-1", "101", "1 01", "1 +1", "01 1", "1 1 ", "1 1 1", "1  1"],
)
def test_times_in_another_form_are_other_times(identity: str) -> None:
    line = Entry(b"a", 1, 1, bytes(32), bytes(32)).to_json() + b"\n"
    earlier = EarlierLines((True, True))
    assert earlier.add(Piece.of(line, identity.encode(), 0))
    siblings = Siblings(b"", b"a\0", array("q", (1, 1, 1)).tobytes())
    judged, _ = earlier.judge(siblings, True)
    assert (judged.known, judged.by_ctime) == (identity == "1 1", 0)


@given(
    files=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.booleans(),
            st.sampled_from(("good", "good", "unknown", "wrong", "short", "gone")),
        ),
        max_size=6,
    )
)
def test_leaves_are_taken_where_they_are_and_kept_there_if_they_are_right(
    files: list[tuple[int, bool, str]],
) -> None:
    count = len(files)
    names = b"".join(b"%d\0" % index for index in range(count))
    numbers = array(
        "q", [number for windows, *_ in files for number in (windows * WINDOW_BYTES, 1, 1)]
    )
    judged = Judged(Siblings(b"", names, numbers.tobytes()))
    of_log = bytes(is_of_log for _, is_of_log, _ in files)
    places = [(count - index) * 10 for index in range(count)]  # in another order than the files
    stored: dict[tuple[bool, int], bytes] = {}
    taken: list[tuple[int, int]] = []
    expected: list[tuple[bool, bytes]] = []
    for index, (windows, is_of_log, how) in enumerate(files):
        hashes = [hashlib.sha256(b"%d %d" % (index, number)).digest() for number in range(windows)]
        root = _native.tree_root(b"".join(hashes)) if windows else bytes(32)
        has_leaves = windows > 1  # of one window, the leaf is the root
        is_good = how == "good" or (how != "unknown" and not has_leaves)
        if how != "unknown":
            judged.results[index * RESULT_BYTES] = 1
            judged.results[(index + 1) * RESULT_BYTES - 32 : (index + 1) * RESULT_BYTES] = root
        leaves = b"".join(hashes)
        kept = {"wrong": leaves[:-1] + b"?", "short": leaves[:-32]}.get(how, leaves)
        if how not in ("unknown", "gone"):
            stored[is_of_log, places[index]] = kept
        expected.append((is_good, leaves if is_good else bytes(len(leaves))))
        if is_good and has_leaves and is_of_log:
            taken.append((windows, places[index]))
    judged.places[:] = array("q", places).tobytes()

    def reads(is_of_log: bool) -> ReadLeaves:
        def read(place: int, count: int) -> bytes:
            if (is_of_log, place) not in stored:
                raise FileError("is gone")
            return stored[is_of_log, place][: count * 32]

        return read

    used: list[tuple[int, int]] = []
    found = forget_without_leaves(
        judged, of_log, (reads(False), reads(True)), lambda *each: used.append(each)
    )
    assert found == b"".join(leaves for _, leaves in expected)
    assert list(judged.results[::RESULT_BYTES]) == [is_good for is_good, _ in expected]
    assert used == taken


# --- The native code

PARTS = ("a", "b", "-", ".x", "/", "0", "\xe9", '"', "\udcff")
PATHS = (
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=5)
    .map("".join)
    .filter(lambda path: all(part not in ("", ".", "..") for part in path.split("/")))
)
NUMBERS = st.sampled_from((0, 1, 2, 10, -1, 2**63 - 1, -(2**63)))
IDENTITIES = st.one_of(
    st.tuples(NUMBERS, NUMBERS).map(lambda times: f"{times[0]} {times[1]}"),
    st.sampled_from(
        ("", "1", "1 ", " 1", "1 01", "1 +1", "1 9223372036854775808", "1 1 1", "1  1")
    ),
).flatmap(lambda text: st.sampled_from((text, f"\0{text}")))


def entries_of(paths: dict[str, int]) -> list[Entry]:
    return [
        Entry(
            os.fsencode(path),
            size,
            size % 96,
            hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest(),
            hashlib.sha512(path.encode("utf-8", "surrogatepass")).digest()[:32],
        )
        for path, size in sorted(paths.items(), key=lambda each: os.fsencode(each[0]))
    ]


@given(
    paths=st.dictionaries(PATHS, st.sampled_from((0, 1, 12289, BLOCK_BYTES, BLOCK_BYTES + 1))),
    comma=st.booleans(),
    links=st.sets(st.sampled_from(("a-link", "b-link"))),
)
def test_lines_are_parted_in_order_with_the_places_of_their_leaves(
    paths: dict[str, int], comma: bool, links: set[str]
) -> None:
    entries = entries_of(paths)
    entries += [Entry(os.fsencode(link), target=b"to") for link in sorted(links - paths.keys())]
    entries.sort()
    end = b",\n" if comma else b"\n"
    text = b"".join(entry.to_json() + end for entry in entries)
    identities = [b"%d" % number for number in range(len(entries))]
    found: list[tuple[Entry, str, int]] = []
    for some in parted(text, identities, 7, (True, True)):
        if isinstance(some, Single):
            assert (
                '"' in os.fsdecode(some.entry.path)
                or some.entry.target
                or not (
                    some.entry.size <= BLOCK_BYTES and os.fsdecode(some.entry.path).isprintable()
                )
            )
            found.append(some)
        else:
            plain = list(some.entries((True, True)))
            assert all(entry.size <= BLOCK_BYTES for entry, _, _ in plain)
            found.extend(plain)
    expected = []
    leaf = 7
    for number, entry in enumerate(entries):
        expected.append((entry, f"{number}", leaf))
        leaf += window_count(entry.size)
    assert found == expected


@given(
    before=st.dictionaries(PATHS, st.tuples(st.sampled_from((0, 1, 30_000)), IDENTITIES)),
    now=st.dictionaries(
        st.sampled_from(PARTS[:4]), st.tuples(st.sampled_from((0, 1, 30_000)), NUMBERS, NUMBERS)
    ),
    parent=st.sampled_from(("", "a/", "b/-/")),
    cut=st.integers(0, 5),
    replace=st.booleans(),
)
def test_files_are_known_by_path_size_and_times(
    before: dict[str, tuple[int, str]],
    now: dict[str, tuple[int, int, int]],
    parent: str,
    cut: int,
    replace: bool,
) -> None:
    for number, name in enumerate(now):  # that some are the same is likely
        if number % 2 == 0:
            size, modified, changed = now[name]
            before[parent + name] = size, f"{modified} {changed + number // 2 % 2}"
    entries = entries_of({path: size for path, (size, _) in before.items()})
    identities = [before[os.fsdecode(entry.path)][1] for entry in entries]
    earlier = EarlierLines((True, True))
    lines = b"".join(entry.to_json() + b"\n" for entry in entries)
    leaves = {}
    for some in parted(lines, [each.encode() for each in identities], 0, (True, True)):
        if isinstance(some, Piece):
            leaves.update({entry.path: leaf for entry, _, leaf in some.entries((True, True))})
            start = min(cut, len(some.identities.split(b"\n")))
            texts, each = some.text.splitlines(keepends=True), some.identities.split(b"\n")
            first = array(
                "q",
                _native.leaf_places(
                    array(
                        "q",
                        [read_line(text[:-1], DIGESTS).size for text in texts],
                    )
                ),
            )
            for begin, end in ((0, start), (start, len(texts))):
                if begin < end:
                    earlier.add(
                        Piece.of(
                            b"".join(texts[begin:end]),
                            b"\n".join(each[begin:end]),
                            some.first_leaf + first[begin],
                        )
                    )
    names = sorted(now)
    numbers = array("q", [number for name in names for number in now[name]])
    if not names:
        return
    siblings = Siblings(
        parent.rstrip("/").encode(),
        b"".join(name.encode() + b"\0" for name in names),
        numbers.tobytes(),
    )
    judged, of_log = earlier.judge(siblings, replace)
    results = bytes(judged.results)
    size = _native.RESULT_BYTES
    for index, name in enumerate(names):
        path = os.fsencode(parent + name)
        result = results[index * size : (index + 1) * size]
        listed, modified, changed = now[name]
        length, identity = before.get(parent + name, (-1, ""))
        same = length == listed and identity == f"{modified} {changed}"
        ctime = identity.partition(" ")[2]
        by_ctime = (
            not same
            and length == listed
            and identity == f"{modified} {ctime}"
            and ctime.lstrip("-").isdigit()
            and f"{int(ctime)}" == ctime
            and -(2**63) <= int(ctime) < 2**63
        )
        assert judged.marks[index] == (
            0 if length < 0 or identity.startswith("\0") else 2 if same else 3 if by_ctime else 1
        )
        known = same or (by_ctime and replace)
        assert (result[0], of_log[index]) == (known, known)
        if not known:
            assert result == bytes(size)
            continue
        (entry,) = (entry for entry in entries if entry.path == path)
        assert result[1:] == b"%c%b%b" % (entry.residue, entry.sha256, entry.root)
        assert array("q", bytes(judged.places))[index] == leaves[path]
        assert array("q", bytes(judged.numbers))[3 * index + 2] == int(ctime or changed)
    assert judged.known == results[::size].count(1)


def test_wrong_arguments_are_refused() -> None:
    line = Entry(b"a", 1, 1, bytes(32)).to_json() + b"\n"

    def known(**changed: Any) -> object:
        arguments = {
            "parent": b"",
            "names": b"a\0",
            "numbers": bytearray(24),
            "results": bytearray(_native.RESULT_BYTES),
            "marks": bytearray(1),
            "leaves": bytearray(8),
            "first": 0,
            "known": (line, b"0 0", 0, 0, 0),
        }
        return _native.known_files(*{**arguments, **changed}.values(), True, False, False)

    assert known() == (1, len(line), 4, 1)
    for changed, error in (
        ({"names": b"a"}, ValueError),
        ({"names": b"a\0b\0"}, ValueError),
        ({"numbers": bytearray(23)}, ValueError),
        ({"numbers": bytes(24)}, BufferError),
        ({"results": bytearray(1)}, ValueError),
        ({"marks": bytearray(2)}, ValueError),
        ({"leaves": bytearray(9)}, ValueError),
        ({"first": 2}, ValueError),
        ({"first": -1}, OverflowError),
        ({"parent": None}, TypeError),
        ({"known": (line, b"0 0", len(line) + 1, 0, 0)}, ValueError),
        ({"known": (line, b"0 0", 0, 5, 0)}, ValueError),
        ({"known": (None, b"0 0", 0, 0, 0)}, TypeError),
        ({"known": (line, "0 0", 0, 0, 0)}, TypeError),
        ({"known": (line, b"0 0")}, ValueError),
    ):
        with pytest.raises(error):
            known(**changed)
    with pytest.raises(ValueError, match="first"):
        _native.plain_lines(line, len(line) + 1, True, False, 9, 9)
    for text in (b"", b"x", line[:-1], line[:-1] + b",", line[:-1] + b", \n"):
        assert _native.plain_lines(text, 0, True, False, 9, 9) == (0, b"", b"")


# --- Hostile states


@pytest.mark.usefixtures("at_once")
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_frames_of_small_files_with_other_bytes_begin_anew_or_are_taken(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("hostile")
    world = World(grown(place), place / "world", {"tree": True})
    with pytest.raises(StopError):
        world.run(Folder, AFTER[0])
    state = world.state.read_bytes()
    frames = list(frames_in(state))
    index = data.draw(
        st.sampled_from([number for number, (kind, _) in enumerate(frames) if kind == SMALL])
    )
    payload = bytearray(frames[index][1])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    frames[index] = SMALL, bytes(payload)
    again = data.draw(st.integers(0, len(frames) - 1))
    frames.append(frames[again])
    world.state.write_bytes(MAGIC + b"".join(frame(*each) for each in frames))
    world.run(Folder)  # the digests of the state are believed
    world.run(Folder, accept=True)
    fresh = World(world.root, place / "fresh", {"tree": True})
    fresh.run(OneByOne)
    assert world.made()[:2] == fresh.made()[:2]
    shutil.rmtree(place)


def frames_in(state: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(MAGIC)
    while at < len(state):
        kind, length, _ = struct.unpack_from("<cII", state, at)
        at += 9 + length
        yield kind, state[at - length : at]
