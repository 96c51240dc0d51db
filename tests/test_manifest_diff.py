# SPDX-License-Identifier: Apache-2.0
"""Two manifests compared: every difference is named, and what limits the comparison is said."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atlas12288 import WINDOW_BYTES, TreeWitness, Witness
from atlas12288._files import FileError, RegularFile
from atlas12288.manifest import Manifest, ManifestReport, Options
from atlas12288.manifest import _manifest_file as manifest_file
from atlas12288.manifest._diff import NothingCommonError, comparison_of
from atlas12288.manifest._entries import DIGESTS, Entry
from atlas12288.manifest._moves import Moves
from atlas12288.manifest._statement import write_statement
from support.commandline import peak_kib
from support.manifests import kinds
from support.strategies import noise

Tree = dict[bytes, bytes | str]  # a text is the target of a link
NAMES = (b"a", b"b", b"d/a", b"d/e/f", b"\xff\n", b'd"', b"d-", "ü".encode())


def manifest_of(tree: Tree, options: Options | None = None) -> Manifest:
    options = Options() if options is None else options
    entries = []
    for path, content in sorted(tree.items()):
        if isinstance(content, str):
            entries.append(Entry(path, target=content.encode()))
            continue
        flat, root = Witness.generate(content), TreeWitness.generate(content).root
        values = [
            value if name in options.digests else None
            for name, value in zip(DIGESTS, (flat.digest, root), strict=True)
        ]
        entries.append(Entry(path, len(content), flat.residue, *values))
    return Manifest.from_entries(options, entries)


def expected(before: Tree, after: Tree) -> list[tuple[bytes, str, bytes | None]]:
    gone, come = before.keys() - after.keys(), after.keys() - before.keys()
    moves = {}
    for path in gone:
        content = before[path]
        sides = (
            [p for p in side if tree[p] == content]
            for side, tree in ((gone, before), (come, after))
        )
        starts, stops = sides
        if isinstance(content, bytes) and content and len(starts) == len(stops) == 1:
            moves[path] = stops[0]
    found: list[tuple[bytes, str, bytes | None]] = []
    for path in before.keys() | after.keys():
        if path in moves:
            found.append((path, "moved", moves[path]))
        elif path in gone:
            found.append((path, "missing", None))
        elif path in come and path not in moves.values():
            found.append((path, "added", None))
        elif path in before and path in after and before[path] != after[path]:
            found.append((path, "changed", None))
    return sorted(found)


contents = st.one_of(st.sampled_from((b"", b"x", b"y", b"z" * 20)), st.sampled_from(("a", "..")))
trees = st.dictionaries(st.sampled_from(NAMES), contents, min_size=1)


@settings(deadline=None)
@given(before=trees, after=trees, options=st.sampled_from([Options(), Options(DIGESTS[1:])]))
def test_any_two_manifests_differ_in_what_differs(
    tmp_path_factory: pytest.TempPathFactory, before: Tree, after: Tree, options: Options
) -> None:
    one, other = manifest_of(before, options), manifest_of(after, options)
    wanted = expected(before, after)
    has_moves = any(kind == "moved" for _, kind, _ in wanted)
    if before.keys().isdisjoint(after) and not has_moves:
        with pytest.raises(NothingCommonError):
            one.diff(other)
        return
    seen: list[bytes] = []
    report = one.diff(other, on_difference=lambda each: seen.append(each.path))
    assert kinds(report) == wanted
    assert seen == [path for path, _, _ in wanted]
    assert (report.holds, report.bytes) == (not wanted, 0)
    links = sum(isinstance(content, str) for content in before.values())
    assert (report.files, report.links) == (len(before) - links, links)
    assert kinds(report_of_files(tmp_path_factory.mktemp("files"), one, other)) == wanted


def report_of_files(
    folder: Path, before: Manifest | bytes, after: Manifest | bytes
) -> ManifestReport:
    """The same comparison of files."""
    names = []
    for name, manifest in (("before", before), ("after", after)):
        text = manifest if isinstance(manifest, bytes) else manifest.to_json().encode()
        (folder / name).write_bytes(text)
        names.append(str(folder / name))
    with (
        RegularFile(names[0]) as one,
        RegularFile(names[1]) as other,
        comparison_of(one, other) as comparison,
    ):
        return comparison.report(comparison.differences())


def test_a_manifest_is_the_same_as_itself() -> None:
    manifest = manifest_of({b"a": b"1", b"l": "a"})
    report = manifest.diff(Manifest.from_json(manifest.to_json()))
    assert (report.holds, report.differences, report.files, report.links) == (True, (), 1, 1)


def test_the_reason_says_what_is_and_what_was() -> None:
    before = manifest_of({b"a": b"12", b"b": b"12", b"c": "x", b"d": "x"})
    after = manifest_of({b"a": b"123", b"b": b"21", b"c": "y", b"d": b"file"})
    assert [each.reason for each in before.diff(after).differences] == [
        "has 3 bytes, had 2",
        "differs in sha256",
        "is a symbolic link to 'y', was a symbolic link to 'x'",
        "is a file, was a symbolic link to 'x'",
    ]


# --- manifests that were made in other ways ---


def test_other_digests_are_compared_by_those_that_both_have() -> None:
    tree: Tree = {b"a": b"1", b"b": b"2", b"c": b"moved"}
    both = manifest_of(tree, Options(DIGESTS))
    flat = manifest_of({b"a": b"1", b"b": b"!", b"new": b"moved"})
    for one, other in ((both, flat), (flat, both)):
        report = one.diff(other)
        assert report.count("moved") == 1
        (changed,) = report.changed
        assert (changed.path, changed.what) == (b"b", ("residue", "sha256"))
        ((name, before, after),) = report.other_options
        assert (name, before, after) == ("digests", one.options.digests, other.options.digests)
    trees = manifest_of(tree, Options(DIGESTS[1:]))
    assert both.diff(trees).holds
    with pytest.raises(NothingCommonError, match="no digest in common"):
        flat.diff(trees)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Options(), Options(exclude=("*.log",))),
        (Options(exclude=("logs/",)), Options()),
        (Options(exclude=("*.log", "!kept.log")), Options(exclude=("logs",))),
        (Options(), Options(paths=("a", "data"))),
        (Options(paths=("a", "b", "logs")), Options(paths=("a", "data"))),
    ],
)
def test_what_only_one_of_them_can_have_is_not_compared(before: Options, after: Options) -> None:
    tree: Tree = {b"a": b"1", b"data/x": b"2", b"logs/y.log": b"3"}

    def selected(options: Options, tree: Tree) -> Tree:
        found = dict(tree)
        if options.exclude:
            del found[b"logs/y.log"]
        if options.paths:
            names = [path.encode() for path in options.paths]
            found = {path: found[path] for path in found if path.split(b"/")[0] in names}
        return found

    sides = selected(before, tree), selected(after, tree)
    one, other = manifest_of(sides[0], before), manifest_of(sides[1], after)
    report = one.diff(other)
    assert (report.holds, report.differences) == (True, ())
    assert report.not_compared == len(sides[0].keys() ^ sides[1].keys())
    assert report.files == len(sides[0].keys() & sides[1].keys())
    new = manifest_of(sides[1] | {b"a": b"!"}, after)
    assert kinds(one.diff(new)) == [(b"a", "changed", None)]
    assert {name for name, _, _ in report.other_options} <= {"exclude", "paths"}


def test_rules_that_cannot_be_used_are_an_error() -> None:
    one = manifest_of({b"a": b"1"})
    other = Manifest.from_entries(Options(exclude=("a\0b",)), one.entries)
    with pytest.raises(FileError, match="a rule of one of the manifests cannot be used"):
        one.diff(other)


def test_links_that_one_of_them_follows_are_not_compared() -> None:
    recorded = manifest_of(
        {b"a": b"1", b"d": "real", b"d-": b"2", b"e": "a", b"real/x": b"3", b"z": "gone"}
    )
    tree: Tree = {b"a": b"1", b"d-": b"2", b"d/x": b"3", b"e": b"1", b"real/x": b"3"}
    followed = manifest_of(tree, Options(symlinks="follow"))
    for one, other in ((recorded, followed), (followed, recorded)):
        report = one.diff(other)
        assert (report.holds, report.not_compared) == (True, 4)
        assert (report.files, report.links) == (3, 0)
    changed = manifest_of(tree | {b"d-": b"!", b"d/x": b"!"}, Options(symlinks="follow"))
    assert kinds(recorded.diff(changed)) == [(b"d-", "changed", None)]


def test_the_json_of_a_report_says_how_the_manifests_were_made() -> None:
    one = manifest_of({b"a": b"1", b"b": b"2"})
    other = manifest_of({b"a": b"1"}, Options(exclude=("b",)))
    fields = json.loads(one.diff(other).to_json())
    assert fields["other_options"] == [{"option": "exclude", "before": [], "after": ["b"]}]
    assert (fields["not_compared"], fields["holds"]) == (1, True)


# --- leaves ---


@pytest.fixture
def sidecars(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "before", tmp_path / "after"


def test_where_both_have_leaves_the_windows_are_named(sidecars: tuple[Path, Path]) -> None:
    big = noise(5 * WINDOW_BYTES + 7)
    before: Tree = {b"a": noise(WINDOW_BYTES, 1), b"b": b"gone", b"c": big, b"e": b""}
    damaged = bytearray(big)
    damaged[WINDOW_BYTES] ^= 1
    damaged[-1] ^= 1
    after: Tree = {b"a": before[b"a"], b"b2": noise(2 * WINDOW_BYTES, 2), b"c": bytes(damaged)}
    after[b"e"] = b"!"
    for path, tree in zip(sidecars, (before, after), strict=True):
        each = [TreeWitness.generate(tree[name]).leaves or b"" for name in sorted(tree)]
        path.write_bytes(b"".join(each))
    one, other = (manifest_of(tree, Options(DIGESTS)) for tree in (before, after))
    report = one.diff(other, leaves=sidecars[0], other_leaves=sidecars[1])
    ranges = {each.path: each.ranges for each in report.changed}
    assert [(each.first, each.stop) for each in ranges[b"c"] or ()] == [(1, 2), (5, 6)]
    assert [(each.start, each.end) for each in ranges[b"e"] or ()] == [(0, 1)]
    assert report.leaves_error is None
    spoiled = bytearray(sidecars[1].read_bytes())
    spoiled[32 * 4] ^= 1
    sidecars[1].write_bytes(spoiled)
    report = one.diff(other, leaves=sidecars[0], other_leaves=sidecars[1])
    assert {each.path for each in report.changed} == {b"c", b"e"}
    assert report.changed[0].ranges is None
    assert "damaged" in (report.leaves_error or "")
    sidecars[0].write_bytes(b"")
    report = one.diff(other, leaves=sidecars[0], other_leaves=sidecars[1])
    assert [each.ranges for each in report.changed] == [None, None]
    assert "must have" in (report.leaves_error or "")


# --- files ---


def test_a_file_in_another_form_is_read_as_a_whole(tmp_path: Path) -> None:
    one, other = manifest_of({b"a": b"1", b"b": b"2"}), manifest_of({b"a": b"1", b"b": b"3"})
    text = other.to_json()
    loose = json.dumps(json.loads(text), indent=1)
    begins_alike = text.replace('"size":1},\n', '"size":1} ,\n')
    for form in (loose, begins_alike):
        assert form != text
        for pair in ((one, form.encode()), (form.encode(), one)):
            assert kinds(report_of_files(tmp_path, *pair)) == [(b"b", "changed", None)]


@pytest.mark.parametrize(
    ("old", "new"),
    [('"residue":49', '"residue":50'), ('"root":"', '"root":"0'), ('{"path":"b"', '{"path":"a"')],
)
def test_nothing_is_told_of_a_manifest_that_is_not_what_it_claims(
    tmp_path: Path, old: str, new: str
) -> None:
    manifest = manifest_of({b"a": b"1", b"b": b"2"})
    text = manifest.to_json()
    assert old in text
    for pair in ((manifest, text.replace(old, new).encode()), (text[:-3].encode(), manifest)):
        with pytest.raises(FileError) as caught:
            report_of_files(tmp_path, *pair)
        assert str(tmp_path) in str(caught.value)


def test_a_manifest_of_many_chunks_is_compared_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_file, "_CHUNK_BYTES", 100)
    before: Tree = {f"{number:03}".encode(): str(number).encode() for number in range(200)}
    after = before | {b"150": b"changed", b"0\xff": b"added"}
    del after[b"007"]
    found = report_of_files(tmp_path, manifest_of(before), manifest_of(after))
    assert kinds(found) == expected(before, after)


# --- moves ---


def test_moves_are_found_in_files_as_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas12288.manifest._moves._ROWS_AT_ONCE", 2)
    moves = Moves()
    for number in range(9):
        moves.missing(b"a%d" % number, b"digest %d" % number)
        moves.added(b"b%d" % (9 - number), b"digest %d" % number)
    moves.added(b"c", b"digest 4")
    moves.missing(b"d", b"digest 5")
    moves.missing(b"e", b"alone")
    moves.find()
    found = dict(moves.by_start())
    assert found == {b"a%d" % n: b"b%d" % (9 - n) for n in range(9) if n not in (4, 5)}
    assert list(found) == sorted(found)
    assert list(moves.stops()) == sorted(found.values())
    moves.close()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_entries(tmp_path: Path) -> None:
    """All entries in memory, of both, would take ten times as much."""
    count = 200_000
    names = []
    for name, gone in (("before", 7), ("after", 8)):
        entries = (
            Entry(
                b"folder/%07d" % number, 5, 7, (number + (number == 9) * gone).to_bytes(32, "big")
            )
            for number in range(count)
            if number % 1000 != gone
        )
        with (tmp_path / name).open("wb") as file:
            file.writelines(write_statement(Options(), entries))
        names.append(str(tmp_path / name))
    size = (tmp_path / "before").stat().st_size
    assert size > 20 << 20
    assert peak_kib("diff", *names) - peak_kib("diff", "--help") < (size >> 10)


# --- any options, against plain Python ---

_ANY_NAMES = (
    *(b"a", b"a!", b"a-", b"a/b", b"a/b-", b"a/b/c", b"a0", b"a.log", b"b/a.log", b"b\n", b"b\\"),
    *(b"\xff", b"\xff/a", b"c:1:2", b" ", "ü".encode(), b"*.log", b"!a", b"#", b'"', b"\x7f/\x01"),
)
_RULES = {
    "*.log": lambda path: any(part.endswith(b".log") for part in path.split(b"/")),
    "/a": lambda path: path.split(b"/")[0] == b"a",
    "b/": lambda path: b"b" in path.split(b"/")[:-1],
    "b": lambda path: b"b" in path.split(b"/"),
}
_PATHS = ("a", "b", "ü", "c:1:2")
any_options = st.builds(
    Options,
    digests=st.sampled_from([DIGESTS, DIGESTS[:1], DIGESTS[1:]]),
    symlinks=st.sampled_from(["record", "follow"]),
    exclude=st.lists(st.sampled_from(sorted(_RULES)), unique=True, max_size=2).map(tuple),
    paths=st.lists(st.sampled_from(_PATHS), unique=True, max_size=2).map(sorted).map(tuple),
    links_below=st.just(()),
)


def allowed(path: bytes, options: Options) -> bool:
    """Whether a manifest with these options can have a path."""
    tops = [top.encode() for top in options.paths]
    is_covered = not tops or any(path == top or path.startswith(top + b"/") for top in tops)
    return is_covered and not any(_RULES[rule](path) for rule in options.exclude)


def without_clashes(tree: Tree, options: Options) -> Tree:
    """What of a tree a manifest with these options can have: no file is a folder too."""
    found = {
        path: content
        for path, content in tree.items()
        if allowed(path, options) and not any(other.startswith(path + b"/") for other in tree)
    }
    if options.symlinks == "follow":
        return {path: each for path, each in found.items() if isinstance(each, bytes)}
    return found


def oracle(before: Tree, one: Options, after: Tree, other: Options) -> tuple[Any, ...] | None:
    """Differences, counts of compared files and links, and the count of paths that are not
    compared; None where nothing is in common."""
    if set(one.digests).isdisjoint(other.digests):
        return None
    links = {path for tree in (before, after) for path in tree if isinstance(tree[path], str)}
    if (one.symlinks == "follow") == (other.symlinks == "follow"):
        links = set()

    def compared(path: bytes) -> bool:
        parts = path.split(b"/")
        if any(b"/".join(parts[: count + 1]) in links for count in range(len(parts))):
            return False
        if path in before and path in after:
            return True
        return allowed(path, other if path in before else one)

    everything = before.keys() | after.keys()
    left, right = (
        {path: content for path, content in tree.items() if compared(path)}
        for tree in (before, after)
    )
    wanted = expected(left, right) if left or right else []
    if left.keys().isdisjoint(right) and not any(kind == "moved" for _, kind, _ in wanted):
        return None
    count = sum(isinstance(content, str) for content in left.values())
    ignored = sum(not compared(path) for path in everything)
    return wanted, len(left) - count, count, ignored


@settings(deadline=None)
@given(
    before=st.dictionaries(st.sampled_from(_ANY_NAMES), contents, min_size=1),
    after=st.dictionaries(st.sampled_from(_ANY_NAMES), contents, min_size=1),
    one=any_options,
    other=any_options,
    common=st.booleans(),
)
def test_manifests_of_any_options_differ_as_plain_python_says(
    tmp_path_factory: pytest.TempPathFactory,
    before: Tree,
    after: Tree,
    one: Options,
    other: Options,
    common: bool,
) -> None:
    if common:
        after = before | after
    before, after = without_clashes(before, one), without_clashes(after, other)
    assume(before and after)
    sides = manifest_of(before, one), manifest_of(after, other)
    wanted = oracle(before, one, after, other)
    folder = tmp_path_factory.getbasetemp()
    if wanted is None:
        with pytest.raises(NothingCommonError):
            sides[0].diff(sides[1])
        with pytest.raises(NothingCommonError):
            report_of_files(folder, *sides)
        return
    for report in (sides[0].diff(sides[1]), report_of_files(folder, *sides)):
        found = kinds(report), report.files, report.links, report.not_compared
        assert found == wanted
        assert report.holds is (False if wanted[0] else True if wanted[1] + wanted[2] else None)
        names = [name for name in Options._fields if getattr(one, name) != getattr(other, name)]
        assert [name for name, _, _ in report.other_options] == names
