# SPDX-License-Identifier: Apache-2.0
"""Lists of witnesses with the names of their files: how FILEs and lines are paired."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas12288 import TreeWitness, Witness, WitnessError
from atlas12288._cli import witness_files
from atlas12288._cli.pairing import pair
from atlas12288._cli.witness_files import parse_lines
from atlas12288._files import FileError
from atlas12288._witness_lists import LINE_MOST_BYTES, line_of, lines_of, read_line
from support.commandline import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, files_in, ranges, run

WITNESS = Witness.generate(b"abc")
LINE = line_of(b"a", WITNESS).encode()
NAMES = st.binary(min_size=1, max_size=8).filter(lambda name: b"\0" not in name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two files of one name, one of another, and their witnesses `w`."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "new"):
        Path(name).mkdir()
    for name in ("a/x", "b/x", "y"):
        Path(name).write_text(name)
    assert run("witness", "a/x", "b/x", "y", "-o", "w").returncode == HOLDS
    return tmp_path


def errors(*arguments: str, input: bytes | None = None) -> list[str]:
    """What a run that could not check says on standard error, line by line."""
    done = run("verify", *arguments, input=input)
    assert done.returncode == COULD_NOT_CHECK
    return done.stderr.decode().replace("atlas12288: ", "").splitlines()


# --- Lines ---


@given(NAMES, st.booleans(), st.booleans())
def test_a_line_gives_name_and_witness_back(name: bytes, tree: bool, unread: bool) -> None:
    made: Witness | TreeWitness = TreeWitness.generate(name) if tree else Witness.generate(name)
    witness = None if unread else made
    text = line_of(name, witness)
    assert text.isascii()
    assert "\n" not in text
    assert read_line(text.encode()) == (name, witness)


def test_a_witness_in_a_line_is_the_object_that_it_is_alone() -> None:
    assert line_of(b"a b", WITNESS) == f'{{"file": "a b", "witness": {WITNESS.to_json()}}}'
    assert line_of(b"\xff", None) == '{"fileHex": "ff", "witness": null}'


@given(st.lists(st.binary(max_size=5)), st.integers(1, 4))
def test_lines_are_the_same_in_chunks_of_any_size(parts: list[bytes], size: int) -> None:
    text = b"\n".join(parts)
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(lines_of(chunks)) == text.removesuffix(b"\n").split(b"\n") * bool(text)


OWN = LINE.partition(b'"witness": ')[2][:-1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"file": "a", "file": "b", "witness": null}', "key 'file' occurs twice"),
        (b'{"file": "a"}', "key 'witness' is missing"),
        (b'{"witness": null}', "key 'file' is missing"),
        (b'{"file": "a", "fileHex": "ff", "witness": null}', "is beside 'file'"),
        (b'{"fileHex": "61", "witness": null}', "lowercase hex of bytes that are not UTF-8"),
        (b'{"fileHex": "FF", "witness": null}', "lowercase hex"),
        (b'{"fileHex": [1], "witness": null}', "lowercase hex"),
        (b'{"file": 1, "witness": null}', "file is 1, must be a text"),
        (b'{"file": "\\ud800", "witness": null}', "a text of whole characters"),
        (b'{"file": "", "witness": null}', "must be a name"),
        (b'{"file": "a\\u0000b", "witness": null}', "must be a name, without NUL"),
        (b'{"file": "a", "witness": 1}', "witness is 1, must be a JSON object"),
        (b'{"file": "a", "witness": {}}', "key 'type' is missing"),
        (b'{"file": "a", "more": 1, "witness": null}', "key 'more' is unknown"),
        (b'{"file": "a", "witness": ' + OWN.replace(b"v1", b"v2") + b"}", "type is"),
        (b'{"file": "a", "witness": ' + OWN.replace(b": 3", b": 1e1") + b"}", "length is 10.0"),
        (b'{"file": "a", "witness": ' + OWN[:-1] + b', "x": 1}}', "key 'x' is unknown"),
        (b'{"file": "a", "witness": ' * 5 + b"null" + b"}" * 5, "key 'file' is unknown"),
        (b"[" * 20_000, "must be JSON|nested too deeply"),
        (b'{"file": ' * 3000 + b"1" + b"}" * 3000, "nested too deeply|key 'witness' is missing"),
        (b"", "must be JSON"),
        (b"\xff", "must be JSON"),
        (b" " * 1500 + WITNESS.to_json().encode(), "must have at most 1,024"),
    ],
    ids=lambda value: repr(value[:50]),
)
def test_a_line_in_another_form_is_refused_and_the_others_are_not(line: bytes, reason: str) -> None:
    with pytest.raises(WitnessError, match=reason):
        read_line(line)
    found = parse_lines([line + b"\n", LINE])
    assert found.has_names
    assert found.names == [None, b"a"]
    first, second = found.witnesses
    assert str(first).startswith("line 1: ")
    assert second == WITNESS


def test_lists_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileError, match=f"line 2 is too long, .* {LINE_MOST_BYTES:,} bytes"):
        parse_lines([LINE + b"\n", b" " * LINE_MOST_BYTES, b" ", b"\n"])
    longest = line_of(b"\1" * 4095, WITNESS)  # PATH_MAX, and six characters for a byte
    assert parse_lines([longest.encode()]).names == [b"\1" * 4095]
    monkeypatch.setattr(witness_files, "LINES_MOST", 3)
    assert len(parse_lines([b"null\n" * 3]).names) == 3
    with pytest.raises(FileError, match="at most 3 lines"):
        parse_lines([b"null\n" * 4])
    monkeypatch.setattr(witness_files, "LIST_MOST_BYTES", 12)
    with pytest.raises(FileError, match="at most 12 bytes: too long"):
        parse_lines([b"null\n"] * 3)


# --- Pairs ---


@pytest.mark.parametrize(
    ("names", "files", "lines", "others"),
    [
        ("a b", "b a", [1, 0], []),
        ("d/a d/b", "e/b a", [1, 0], []),
        ("a d/a", "a", [0], [1]),
        ("a d/a", "./a", ["and 2 by its base name"], [0, 1]),
        ("d/a", "a e/a", ["another FILE has its base name"] * 2, [0]),
        ("d/a a", "e/a a", ["and 2 by its base name", 1], [0]),
        ("a", "b", ["has no witness by its name"], [0]),
        ("a a", "a a", [0, 1], []),
        ("a a", "a", ["once among FILE and has 2 witnesses"], []),
        ("a", "a a", ["2 times among FILE and has 1 witness"] * 2, []),
        ("- a", "a -", [1, 0], []),
        ("- -", "- -", [0, 1], []),
        ("a b", "b -", [1, 0], []),
        ("a -", "b a", [1, 0], []),
        ("a b c", "b -", [1, "has no witness"], [0, 2]),
        ("a - -", "a b", [0, "has no witness"], [1, 2]),
        ("d/-", "e/-", [0], []),
        ("- x", "d/- x", [0, 1], []),
        ("d/ e/", "d/ f/", [0, "has no witness"], [1]),
    ],
    ids=str,
)
def test_names_are_paired(
    names: str, files: str, lines: Sequence[int | str], others: list[int]
) -> None:
    found = pair(names.encode().split(), files.encode().split())
    for line, expected in zip(found.lines, lines, strict=True):
        assert line == expected or (isinstance(expected, str) and expected in str(line))
    assert found.others == others


def test_what_is_left_is_no_pair_where_a_line_cannot_be_read() -> None:
    assert pair([b"a", None], [b"-"]) == (["has no witness by its name"], [0])


@given(st.lists(NAMES.map(lambda name: b"/" + name), unique=True), st.randoms())
def test_every_order_gives_the_same_pairs(names: list[bytes], random: object) -> None:
    files = list(names)
    random.shuffle(files)  # type: ignore[attr-defined]
    assert pair(names, files) == ([names.index(name) for name in files], [])


# --- The commands ---


def test_files_are_verified_in_any_order_and_from_elsewhere(folder: Path) -> None:
    done = run("verify", "w", "y", "b/x", "a/x")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert done.stdout.decode().splitlines() == [
        *(f"{name}: matches its witness" for name in ("y", "b/x", "a/x")),
        "w: its files match; 3 files: 0 changed, 0 unreadable",
    ]
    Path("y").rename("new/y")
    done = run("verify", "w", "new/y", "b/x", "a/x")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert done.stdout.decode().splitlines()[0] == "new/y: matches its witness, that of y"
    Path("new/y").write_text("z")
    done = run("verify", "w", "new/y", "b/x", "a/x")
    assert done.returncode == DOES_NOT_HOLD
    assert done.stdout.decode().splitlines()[0] == "new/y: does not match its witness, that of y"


def test_a_file_without_witness_and_a_witness_without_file_are_named(folder: Path) -> None:
    Path("more").write_text("more")
    done = run("verify", "--json", "w", "y", "more")
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode().splitlines() == [
        "atlas12288: more: has no witness by its name",
        "atlas12288: a/x: has a witness in w, and is not among the FILEs",
        "atlas12288: b/x: has a witness in w, and is not among the FILEs",
    ]
    items = files_in(done.stdout)
    assert [item["file"] for item in items] == ["y", "more", "a/x", "b/x"]
    assert [item["holds"] for item in items] == [True, None, None, None]
    assert items[2]["witness"]["length"] == 3
    assert items[2]["error"] == "has a witness in w, and is not among the FILEs"


def test_of_many_witnesses_without_a_file_the_first_are_named(folder: Path) -> None:
    lines = [line_of(f"{index}".encode(), WITNESS) for index in range(2000)]
    text = "\n".join([line_of(b"y", Witness.generate(b"y")), *lines]).encode()
    found = errors("-", "y", input=text)
    assert len(found) == 21
    assert found[-1] == "-: has witnesses of 1,980 more files that are not among the FILEs"


def test_names_that_are_not_utf8_and_names_that_look_like_json(folder: Path) -> None:
    names = ["bad\udcff", "é", "\\", '"', "new\nline", '{"file": "y"}', "null"]
    for name in names:
        Path(name).write_text(f"{len(name)}")
    assert run("witness", *names, "-o", "odd").returncode == HOLDS
    keys = [next(iter(json.loads(line))) for line in Path("odd").read_text().splitlines()]
    assert keys == ["fileHex", *["file"] * 6]
    done = run("verify", "odd", *reversed(names))
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert run("verify", "odd", *[f"./{name}" for name in names]).returncode == HOLDS
    Path(os.fsdecode(b"bad\xff")).unlink()
    assert "bad\\xff: No such file or directory" in errors("odd", *names)


def test_leaves_follow_the_names(folder: Path) -> None:
    data = {f"f{index}": bytes([index]) * (index * 12288 + 1) for index in range(4)}
    for name, content in data.items():
        Path(name).write_bytes(content)
    assert run("witness", "--tree", *data, "-o", "t").returncode == HOLDS
    Path("f2").write_bytes(b"\7" + data["f2"][1:])
    done = run("verify", "--json", "t", *reversed(data))
    assert done.returncode == DOES_NOT_HOLD
    found = {item["file"]: item["ranges"] for item in files_in(done.stdout)}
    assert found == {"f0": [], "f1": [], "f2": ranges((0, 12288)), "f3": []}


def test_a_list_without_names_is_taken_in_order_and_says_so(folder: Path) -> None:
    text = b"".join(run("witness", name).stdout for name in ("a/x", "y"))
    done = run("verify", "-", "a/x", "y", input=text)
    assert done.returncode == HOLDS
    note = "atlas12288: -: has no names of files: FILEs are taken in its order\n"
    assert done.stderr.decode() == note
    assert run("verify", "-", "y", "a/x", input=text).returncode == DOES_NOT_HOLD
    one = run("verify", "-", "a/x", input=run("witness", "a/x").stdout)
    assert (one.returncode, one.stderr) == (HOLDS, b"")


def test_each_wrong_line_is_named_and_the_others_are_compared(folder: Path) -> None:
    text = Path("w").read_bytes().splitlines()
    text[1:2] = [b"null", b'{"file": "b/x", "file": "y", "witness": null}', b"[" * 10_000]
    done = run("verify", "-", "a/x", "y", "b/x", input=b"\n".join(text))
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout.decode() == (
        "a/x: matches its witness\ny: matches its witness\n"
        "-: its files could not be checked; 3 files: 0 changed, 1 unreadable\n"
    )
    found = done.stderr.decode().splitlines()
    assert [line.split(": ", 2)[1] for line in found] == ["-", "-", "-", "b/x"]
    for number, line in enumerate(found[:3], 2):
        assert f"line {number}: " in line


def test_one_line_of_a_list_serves_every_command(folder: Path) -> None:
    assert run("witness", "--tree", "y", "a/x", "-o", "t").returncode == HOLDS
    Path("one").write_bytes(Path("t").read_bytes().splitlines()[0])
    assert run("verify", "one", "y").returncode == HOLDS
    assert errors("one", "a/x") == [
        "a/x: has no witness by its name",
        "y: has a witness in one, and is not among the FILEs",
    ]
    Path("one.atlas.leaves").write_bytes(Path("t.atlas.leaves").read_bytes()[:32])
    assert run("locate", "one", "y").returncode == HOLDS


def test_an_output_replaces_a_list_with_names_and_its_leaves(folder: Path) -> None:
    for _ in range(2):
        assert run("witness", "--tree", "y", "a/x", "-o", "t").returncode == HOLDS
    assert run("witness", "y", "-o", "w").returncode == HOLDS


def test_swapped_arguments_are_told_from_a_list_with_names_too(folder: Path) -> None:
    assert errors("y", "w") == ["y: is not a witness, but w is a witness file: name WITNESS first"]
