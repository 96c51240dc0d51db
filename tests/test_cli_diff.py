# SPDX-License-Identifier: Apache-2.0
"""The commands `diff` and `show`, and `verify --path`."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from atlas12288 import WINDOW_BYTES
from support.commandline import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, bash, run, run_each
from support.files import write_files
from support.strategies import noise

BIG = noise(5 * WINDOW_BYTES)
FILES = {"big": BIG, "raw/a": b"first", "raw/b": b"second", "notes": b"text", "bad\udcff\n": b"z"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with manifests of January and March of the folder `data`."""
    monkeypatch.chdir(tmp_path)
    write_files(Path("data"), FILES)
    shutil.copytree("data", "march")
    Path("march/big").write_bytes(BIG[:WINDOW_BYTES] + b"!" + BIG[WINDOW_BYTES + 1 :])
    Path("march/raw/b").rename("march/raw/c")
    Path("march/notes").unlink()
    Path("march/new").write_bytes(b"new")
    made = run_each(
        [
            ["witness", "--tree", "data", "-o", "jan.atlas.json"],
            ["witness", "--tree", "march", "-o", "mar.atlas.json"],
        ],
        os.environ,
    )
    assert [each.returncode for each in made] == [HOLDS, HOLDS]
    return tmp_path


LINES = [
    "big: changed, differs in residue, sha256, sha256-merkle-12288",
    "  windows  1 of 5 differ:",
    "           bytes [12288, 24576)  window 1",
    "new: added",
    "notes: missing",
    "raw/b: moved to raw/c",
]


def test_what_changed_between_two_manifests(folder: Path) -> None:
    done, quiet, same, back = run_each(
        [
            ["diff", "jan.atlas.json", "mar.atlas.json"],
            ["diff", "-q", "jan.atlas.json", "mar.atlas.json"],
            ["diff", "jan.atlas.json", "jan.atlas.json"],
            ["diff", "--quiet", "jan.atlas.json", "jan.atlas.json"],
        ],
        os.environ,
    )
    last = (
        "mar.atlas.json: differs from jan.atlas.json; 5 files compared: 1 changed, 1 missing, "
        "1 added, 1 moved, 0 unreadable"
    )
    assert (done.returncode, done.stderr) == (DOES_NOT_HOLD, b"")
    assert done.stdout.decode().splitlines() == [*LINES, last]
    assert quiet.stdout.decode().splitlines() == LINES
    assert (same.returncode, same.stdout) == (
        HOLDS,
        b"jan.atlas.json: is the same as jan.atlas.json; 5 files compared: 0 changed, 0 missing, "
        b"0 added, 0 unreadable\n",
    )
    assert (back.returncode, back.stdout) == (HOLDS, b"")


def test_a_folder_is_compared_as_verify_does(folder: Path) -> None:
    diff, verify, as_json = run_each(
        [
            ["diff", "jan.atlas.json", "march"],
            ["verify", "jan.atlas.json", "march"],
            ["diff", "--json", "jan.atlas.json", "march"],
        ],
        os.environ,
    )
    assert (diff.returncode, diff.stdout) == (verify.returncode, verify.stdout)
    assert diff.stdout.decode().splitlines()[:-1] == LINES
    report = json.loads(as_json.stdout)
    assert (report["command"], report["root"], report["other"]) == ("diff", "march", None)


def test_the_json_of_diff_is_the_one_of_verify(folder: Path) -> None:
    diff, verify = run_each(
        [
            ["diff", "--json", "jan.atlas.json", "mar.atlas.json"],
            ["verify", "--json", "jan.atlas.json", "march"],
        ],
        os.environ,
    )
    found, beside = json.loads(diff.stdout), json.loads(verify.stdout)
    assert (found["type"], found["command"], found["holds"]) == (beside["type"], "diff", False)
    assert (found["manifest"], found["other"]) == ("jan.atlas.json", "mar.atlas.json")
    assert found["counts"] == beside["counts"] | {"bytes": 0}
    assert found["counts"]["moved"] == 1
    without = [{**each, "reason": None} for each in beside["differences"]]
    assert [{**each, "reason": None} for each in found["differences"]] == without
    assert beside.keys() - found.keys() == {"exclude", "paths", "symlinks", "links_below"}


def test_how_manifests_were_made_otherwise_is_said(folder: Path) -> None:
    shutil.copytree("data", "same")
    made, diff, *others = run_each(
        [
            ["witness", "same", "--exclude", "notes", "-o", "rules.atlas.json"],
            ["diff", "jan.atlas.json", "rules.atlas.json"],
            ["witness", "--tree", "--no-flat", "same", "-o", "trees.atlas.json"],
            ["diff", "rules.atlas.json", "trees.atlas.json"],
            ["diff", "--json", "rules.atlas.json", "trees.atlas.json"],
            ["witness", "data/raw", "-o", "raw.atlas.json"],
            ["diff", "mar.atlas.json", "raw.atlas.json"],
        ],
        os.environ,
    )
    assert (made.returncode, diff.returncode) == (HOLDS, HOLDS)
    assert diff.stderr.decode().splitlines() == [
        "atlas12288: rules.atlas.json: has the digests sha256, and jan.atlas.json has sha256, "
        "sha256-merkle-12288: compared by sha256",
        "atlas12288: rules.atlas.json: has other rules than jan.atlas.json",
        "atlas12288: rules.atlas.json: 1 path not compared, because only one of the two manifests "
        "can have them",
    ]
    _, digests, as_json, _, paths = others
    assert (digests.returncode, digests.stdout) == (COULD_NOT_CHECK, b"")
    assert b"trees.atlas.json: has the digest sha256-merkle-12288 alone" in digests.stderr
    report = json.loads(as_json.stdout)
    assert (report["holds"], report["differences"], report["counts"]) == (None, None, None)
    assert "no digest in common" in report["error"]
    assert paths.returncode == DOES_NOT_HOLD  # its file a was moved


def test_what_cannot_be_compared(folder: Path) -> None:
    Path("w.json").write_text("{}")
    Path("damaged.atlas.json").write_text(
        Path("jan.atlas.json").read_text().replace('"size":4}', '"size":5}')
    )
    Path("other").mkdir()
    Path("other/x").write_text("x")
    assert run("witness", "other", "-o", "other.atlas.json").returncode == HOLDS
    for old, new, reason in (
        ("jan.atlas.json", "none", "none: No such file or directory"),
        ("none", "jan.atlas.json", "none: No such file or directory"),
        ("jan.atlas.json", "w.json", "w.json: key '_type' is missing"),
        ("data", "jan.atlas.json", "data: is a folder, must be a manifest"),
        ("jan.atlas.json", "damaged.atlas.json", "damaged.atlas.json: root is "),
        ("jan.atlas.json", "other.atlas.json", "other.atlas.json: has no path in common with it"),
        ("none", "data", "none: No such file or directory"),
    ):
        done = run("diff", old, new)
        assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b""), (old, new)
        assert done.stderr.decode().startswith(f"atlas12288: {reason}"), done.stderr
        assert done.stderr.count(b"\n") == 1


def test_manifests_from_pipes_are_compared(folder: Path) -> None:
    text = Path("jan.atlas.json").read_bytes()
    done = run("diff", "-", "mar.atlas.json", input=text)
    assert done.stdout.endswith(
        b"mar.atlas.json: differs from -; 5 files compared: 1 changed, 1 missing, 1 added, "
        b"1 moved, 0 unreadable\n"
    )
    done = bash(
        f"{sys.executable} -m atlas12288 diff -q <(cat jan.atlas.json) <(cat jan.atlas.json)"
    )
    assert (done.returncode, done.stdout) == (HOLDS, b"")


# --- show ---


def test_show_says_what_is_in_a_manifest(folder: Path) -> None:
    Path("data/raw/link").symlink_to("a")
    Path("data.sig").write_text("not read")
    made, show, entries, as_json, none = run_each(
        [
            ["witness", "data", "--exclude", "new*", "-o", "data.atlas.json"],
            ["show", "data.atlas.json"],
            ["show", "--entries", "data.atlas.json"],
            ["show", "--json", "data.atlas.json"],
            ["show", "data"],
        ],
        os.environ,
    )
    assert (made.returncode, show.returncode) == (HOLDS, HOLDS)
    root = json.loads(Path("data.atlas.json").read_text())["predicate"]["root"]
    assert show.stdout.decode().splitlines() == [
        "data.atlas.json: 5 files, 1 link, 61.5 kB",
        "  digests    sha256",
        f"  root       {root}",
        "  rules      new*",
        "  symlinks   record",
        "  signature  data.sig, which is not checked here",
    ]
    lines = entries.stdout.decode().splitlines()
    assert len(lines) == 6
    assert lines[0].split()[1:] == ["1", "bad\\xff\\n"]
    assert lines[-1].split()[-3:] == ["raw/link", "->", "a"]
    report = json.loads(as_json.stdout)
    assert report["counts"] == {"files": 5, "links": 1, "bytes": sum(map(len, FILES.values()))}
    assert (report["root"], report["signatures"]) == (root, [{"file": "data.sig"}])
    assert "entries" not in report
    listed = json.loads(run("show", "--json", "--entries", "data.atlas.json").stdout)["entries"]
    assert listed == json.loads(Path("data.atlas.json").read_text())["predicate"]["files"]
    assert (none.returncode, none.stdout) == (COULD_NOT_CHECK, b"")
    assert none.stderr == b"atlas12288: data: is a folder, must be a manifest\n"


def test_show_shows_nothing_of_a_damaged_manifest(folder: Path) -> None:
    text = Path("jan.atlas.json").read_text().replace('"size":4}', '"size":5}')
    Path("jan.atlas.json").write_text(text)
    for option in ("--entries", "--json"):
        done = run("show", option, "jan.atlas.json")
        assert done.returncode == COULD_NOT_CHECK
        assert b"second" not in done.stdout
        assert b"jan.atlas.json: root is " in done.stderr
    assert "root is" in json.loads(done.stdout)["error"]


# --- verify --path ---


def test_a_part_is_verified_and_does_not_read_as_the_whole(folder: Path) -> None:
    done, changed, json_part, gone, not_manifest = run_each(
        [
            ["verify", "jan.atlas.json", "data", "--path", "raw", "--path", "notes"],
            ["verify", "jan.atlas.json", "march", "--path", "raw/", "--path", "big"],
            ["verify", "--json", "jan.atlas.json", "march", "--path", "notes"],
            ["verify", "jan.atlas.json", "data", "--path", "raw", "--path", "data/raw"],
            ["verify", "--path", "x", "none.json", "data/big"],
        ],
        os.environ,
    )
    assert (done.returncode, done.stdout) == (
        HOLDS,
        b"data: the part matches its manifest; 3 of 5 files checked, 15 B: 0 changed, 0 missing, "
        b"0 added, 0 unreadable\n",
    )
    lines = changed.stdout.decode().splitlines()
    assert (changed.returncode, lines[:-1]) == (DOES_NOT_HOLD, [*LINES[:3], LINES[-1]])
    assert lines[-1].startswith("march: the part does not match its manifest; 3 of 5 files checked")
    report = json.loads(json_part.stdout)
    assert (report["holds"], report["counts"]["missing"], report["counts"]["files"]) == (
        False,
        1,
        1,
    )
    assert report["part"]["paths"] == [{"path": "notes"}]
    assert (gone.returncode, gone.stdout) == (COULD_NOT_CHECK, b"")
    assert b"the manifest has nothing at or below 'data/raw'" in gone.stderr
    assert not_manifest.returncode == COULD_NOT_CHECK
