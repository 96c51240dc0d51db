# SPDX-License-Identifier: Apache-2.0
"""What `witness` and `Manifest.generate` say of the manifest that they replace, what they refuse to
replace, and a year of monthly runs."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import atlas12288 as atlas
from atlas12288 import WINDOW_BYTES, MismatchError, WitnessError
from atlas12288._cli import main
from atlas12288._files import FileError
from atlas12288.manifest import Manifest
from atlas12288.manifest import _changes as changes
from atlas12288.manifest import _store as store
from atlas12288.manifest._moves import Moves
from atlas12288.manifest._sources import folder as source
from support.commandline import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, run

OLD_S = 1_600_000_000  # long before the listing, so that times show later changes


class Data:
    """The folder `data`, whose files can be changed as disks and programs do.

    The times of all files are those of this class: a test cannot make damage that the file system
    does not notice.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root / "data"
        self.root.mkdir()
        self._month = 0
        self._ctimes: dict[str, int] = {}
        self._names: dict[int, str] = {}
        monkeypatch.chdir(root)
        monkeypatch.setattr(source, "_identity", self._identity)
        monkeypatch.setattr(source.Folder, "walk", lambda *_: None)

    def _identity(self, status: os.stat_result) -> str:
        return f"{status.st_mtime_ns} {self._ctimes[self._names[status.st_ino]]}"

    def _note(self, name: str, *, mtime: float | None, ctime: bool) -> None:
        path = self.root / name
        when = OLD_S + 100 * self._month
        os.utime(path, (when, when if mtime is None else mtime))
        self._names[path.stat().st_ino] = name
        if ctime:
            self._ctimes[name] = when

    def next_month(self) -> None:
        self._month += 1

    def write(self, name: str, content: str) -> None:
        """Write a file as an editor does."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        self._note(name, mtime=None, ctime=True)

    def rot(self, name: str) -> None:
        """Change a byte without a write."""
        self._flip(name)
        self._note(name, mtime=self._mtime, ctime=False)

    def write_back(self, name: str) -> None:
        """Change a byte, and set the modification time back."""
        self._flip(name)
        self._note(name, mtime=self._mtime, ctime=True)

    def _flip(self, name: str) -> None:
        path = self.root / name
        self._mtime = path.stat().st_mtime
        with path.open("r+b") as file:
            byte = file.read(1)
            file.seek(0)
            file.write(bytes([byte[0] ^ 1]))

    def move(self, name: str, to: str) -> None:
        """Rename a file."""
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).rename(self.root / to)
        self._note(to, mtime=(self.root / to).stat().st_mtime, ctime=True)

    def restore(self, name: str, backup: Path) -> None:
        """Restore a file with its time."""
        shutil.copy2(backup / name, self.root / name)
        self._note(name, mtime=(backup / name).stat().st_mtime, ctime=True)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))
    found = Data(tmp_path, monkeypatch)
    for name in ("a", "b", "sub/c"):
        found.write(name, f"content of {name}")
    return found


Output = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Output:
    """Run the command line in this process, and return the code and the lines of both streams."""

    def call(*arguments: str) -> tuple[int, list[str], list[str]]:
        code = main(list(arguments))
        out, err = capfd.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


WITNESS = ("witness", "data", "-o", "data.atlas.json")


def test_what_differs_from_the_replaced_manifest_is_said(data: Data, command: Output) -> None:
    assert command(*WITNESS) == (HOLDS, ["data.atlas.json: 3 files, 40 B"], [])
    same = "data.atlas.json: 3 files, 40 B; nothing differs from the manifest that it replaces"
    assert command(*WITNESS) == (HOLDS, [same], [])
    data.next_month()
    data.write("a", "changed a")
    data.move("b", "sub/b")
    data.remove("sub/c")
    data.write("new", "new")
    code, lines, notes = command(*WITNESS)
    assert (code, notes) == (HOLDS, [])
    assert lines == [
        "a: changed, has 9 bytes, had 12",
        "b: moved to sub/b",
        "new: added",
        "sub/c: missing",
        "data.atlas.json: 3 files, 24 B; 1 changed, 1 missing, 1 added, 1 moved since the manifest "
        "that it replaces",
    ]


@pytest.mark.parametrize("tree", [(), ("--tree",)], ids=["flat", "tree"])
def test_the_words_are_those_of_diff(data: Data, command: Output, tree: tuple[str, ...]) -> None:
    data.write("big", "x" * 4 * WINDOW_BYTES)
    command(*WITNESS, *tree)
    shutil.copy("data.atlas.json", "old.atlas.json")
    if tree:
        shutil.copy("data.atlas.leaves", "old.atlas.leaves")
    data.next_month()
    data.write("a", "content of A")
    data.write("big", "x" * 2 * WINDOW_BYTES + "y" * 2 * WINDOW_BYTES + "more")
    data.move("b", "sub/b")
    data.write("new", "new")
    _, witness, _ = command(*WITNESS, *tree)
    _, diff, _ = command("diff", "--quiet", "old.atlas.json", "data.atlas.json")
    assert witness[:-1] == diff
    assert ("           bytes [24576, 49156)  windows 2 to 4" in witness) is bool(tree)


def test_windows_are_named_of_what_is_refused(data: Data, command: Output) -> None:
    data.write("big", "x" * 4 * WINDOW_BYTES)
    command(*WITNESS, "--tree")
    data.next_month()
    data.rot("big")
    named = ["  windows  1 of 4 differ:", "           bytes [0, 12288)  window 0"]
    for _ in range(2):
        assert command(*WITNESS, "--tree")[1][1:-1] == named
    shutil.copy("data.atlas.leaves", "kept")
    Path("data.atlas.leaves").unlink()
    assert command(*WITNESS, "--tree")[1][1:-1] == []
    shutil.copy("kept", "data.atlas.leaves")
    assert command(*WITNESS, "--tree", "--accept")[1][1:-1] == named


def test_the_first_lines_of_many_are_shown(data: Data, command: Output) -> None:
    command(*WITNESS)
    for number in range(30):
        data.write(f"new/{number:02}", str(number))
    _, lines, _ = command(*WITNESS)
    assert len(lines) == 22
    assert lines[19:21] == [
        "new/19: added",
        "and 10 more differences; diff names them all, from a copy of the old manifest",
    ]
    assert lines[-1].endswith("; 30 added since the manifest that it replaces")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("rot", "changed without a write: damage, or written through a memory map"),
        ("write_back", "written, and its time set back"),
    ],
)
@pytest.mark.parametrize("tree", [(), ("--tree",)], ids=["flat", "tree"])
def test_a_change_that_is_not_known_to_be_an_edit_replaces_nothing(
    data: Data, command: Output, how: str, reason: str, tree: tuple[str, ...]
) -> None:
    witness = (*WITNESS, *tree)
    command(*witness)
    before = Path("data.atlas.json").read_bytes()
    data.next_month()
    getattr(data, how)("b")
    data.write("a", "changed a")
    for _ in range(2):
        code, lines, _ = command(*witness)
        assert (code, Path("data.atlas.json").read_bytes()) == (DOES_NOT_HOLD, before)
        assert [line for line in lines if line[0] != " "] == [
            f"b: {reason}",
            "data.atlas.json: not replaced; 1 file is not known to have been edited: --accept takes"
            " it; 2 changed since it was made",
        ]
    code, lines, _ = command("verify", "-q", "data.atlas.json")
    assert (code, [line for line in lines if line.startswith("b: ")]) == (
        DOES_NOT_HOLD,
        ["b: changed, differs in residue, sha256" + ", sha256-merkle-12288" * len(tree)],
    )
    code, lines, _ = command(*witness, "--accept")
    assert code == HOLDS
    assert [line for line in lines if line[0] != " "] == [
        "a: changed, has 9 bytes, had 12",
        f"b: changed, {reason}; accepted",
        "data.atlas.json: 3 files, 37 B; 2 changed (1 accepted) since the manifest that it "
        "replaces",
    ]
    assert command("verify", "-q", "data.atlas.json") == (HOLDS, [], [])
    assert sorted(path.name for path in Path().iterdir()) == sorted(
        ["data", "data.atlas.json", "states"] + ["data.atlas.leaves"] * len(tree)
    )


def test_what_was_accepted_is_not_read_again(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    common: dict[str, Any] = {"output": "data.atlas.json", "state": True}
    Manifest.generate("data", **common)
    data.next_month()
    data.rot("b")
    with pytest.raises(MismatchError) as caught:
        Manifest.generate("data", **common)
    assert isinstance(caught.value, WitnessError)
    assert [each.path for each in caught.value.report.differences] == [b"b"]
    assert str(caught.value) == (
        "data.atlas.json is not replaced: 'b': changed without a write: damage, or written through "
        "a memory map"
    )
    read: list[int] = []
    notes: list[str] = []
    made = Manifest.generate("data", **common, accept=["b"], advance=read.append, note=notes.append)
    assert sum(read) == 0
    assert notes[0].startswith("goes on with the state of the run at ")
    assert notes[0].endswith(": 3 files known")
    assert made == Manifest.generate("data")
    assert made == Manifest.from_json(Path("data.atlas.json").read_bytes())


def test_recent_files_are_read_again_where_a_change_is_accepted(data: Data) -> None:
    common: dict[str, Any] = {"output": "data.atlas.json", "state": True}
    Manifest.generate("data", **common)
    data.next_month()
    data.rot("b")
    (data.root / "log").write_text("first")
    soon = time.time() + 1000
    data._note("log", mtime=soon, ctime=True)
    with pytest.raises(MismatchError):
        Manifest.generate("data", **common)
    (data.root / "log").write_text("again")  # within the tick: size and times are the same
    data._note("log", mtime=soon, ctime=True)
    read: list[int] = []
    made = Manifest.generate("data", **common, accept=["b"], advance=read.append)
    assert sum(read) == len("again")
    assert made == Manifest.generate("data")
    assert made.verify("data").holds


NOT_ACCEPTED = "; not accepted, because no run before has refused it as it is now"
UNWRITTEN = "changed without a write: damage, or written through a memory map"
COMMON: dict[str, Any] = {"output": "data.atlas.json", "state": True}


def refused(**options: Any) -> list[str]:
    """Generate the manifest of `data`, and return why which files are refused."""
    before = Path("data.atlas.json").read_bytes()
    with pytest.raises(MismatchError) as caught:
        Manifest.generate("data", **{**COMMON, **options})
    assert Path("data.atlas.json").read_bytes() == before
    return [f"{each.path.decode()}: {each.reason}" for each in caught.value.report.differences]


def accept(*paths: str, **options: Any) -> None:
    """Accept changes; the new manifest is that of the files as they are."""
    made = Manifest.generate("data", **{**COMMON, **options}, accept=list(paths) or True)
    assert made == Manifest.generate("data", tree=options.get("tree", False))


@pytest.mark.parametrize("accepted", [True, ["b"]], ids=["all", "one"])
@pytest.mark.parametrize("again", ["rot", "write_back"])
def test_a_file_that_changes_after_it_was_refused_is_not_accepted(
    data: Data, accepted: Any, again: str
) -> None:
    data.write("b", "content of b")
    Manifest.generate("data", **COMMON)
    data.next_month()
    data.rot("b")
    assert refused() == [f"b: {UNWRITTEN}"]
    data.next_month()
    (data.root / "b").write_text("CONTENT OF B")
    data._note("b", mtime=OLD_S, ctime=True)
    if again == "rot":  # and the ctime of another file that was not refused
        data.rot("a")
        data._ctimes["a"] += 1
    back = "written, and its time set back" + NOT_ACCEPTED
    also = ["a: written, and its time set back" + NOT_ACCEPTED * (accepted is True)]
    assert refused(accept=accepted) == also * (again == "rot") + [f"b: {back}"]
    accept()


def test_the_command_says_what_was_not_accepted(data: Data, command: Output) -> None:
    command(*WITNESS)
    data.next_month()
    data.rot("b")
    data.rot("sub/c")
    assert command(*WITNESS)[0] == DOES_NOT_HOLD
    data.next_month()
    (data.root / "b").write_text("CONTENT OF B")
    data._note("b", mtime=OLD_S, ctime=True)
    code, lines, _ = command(*WITNESS, "--accept")
    assert (code, lines) == (
        DOES_NOT_HOLD,
        [
            f"b: written, and its time set back{NOT_ACCEPTED}",
            "data.atlas.json: not replaced; 1 file is not known to have been edited: --accept "
            "takes it; 1 accepted file must be named again; 2 changed since it was made",
        ],
    )
    assert command(*WITNESS, "--accept")[0] == HOLDS
    assert command("verify", "-q", "data.atlas.json")[0] == HOLDS


@pytest.mark.parametrize("update", [False, True], ids=["all", "update"])
def test_nothing_is_accepted_that_no_run_refused(data: Data, update: bool) -> None:
    Manifest.generate("data", **COMMON)
    data.next_month()
    data.write_back("b")
    reason = "b: written, and its time set back"
    assert refused(accept=True, update=update) == [reason + NOT_ACCEPTED]
    accept(update=update)
    data.next_month()
    data.write_back("b")
    assert refused(update=update) == [reason]
    data.write_back("a")
    assert refused(accept="b", update=update) == [f"a: {reason[3:]}"]
    accept("a", "b", update=update)


def test_what_a_stopped_run_read_was_not_refused(data: Data) -> None:
    """A run that accepts, and is stopped, does not make others accept what it read."""
    Manifest.generate("data", **COMMON)
    data.next_month()
    data.rot("b")
    assert refused() == [f"b: {UNWRITTEN}"]
    data.next_month()
    data.write_back("a")
    data.write("new", "new")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Manifest.generate("data", **COMMON, accept=True, advance=stop, threads=1)
    reason = "written, and its time set back"
    assert refused(accept=True) == [f"a: {reason}{NOT_ACCEPTED}"]
    accept()


def test_a_refused_file_with_a_time_in_the_future_is_accepted_by_what_is_read_again(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its identity shows no later change, so its digests must be those that were refused."""
    future = time.time() + 1000
    data._note("b", mtime=future, ctime=True)
    Manifest.generate("data", **COMMON)
    data.rot("b")
    assert refused() == [f"b: {UNWRITTEN}"]
    (data.root / "b").write_text("CONTENT of b")
    data._note("b", mtime=future, ctime=False)
    assert refused(accept=True) == [f"b: {UNWRITTEN}{NOT_ACCEPTED}"]
    read: list[int] = []
    accept("b", advance=read.append)
    assert sum(read) == len("CONTENT of b")


def test_the_ctime_counts_for_what_was_refused_where_it_is_ignored(data: Data) -> None:
    Manifest.generate("data", **COMMON)
    data.next_month()
    data.rot("b")
    assert refused() == [f"b: {UNWRITTEN}"]
    (data.root / "b").write_text("CONTENT of b")
    data._note("b", mtime=OLD_S, ctime=True)
    back = f"b: written, and its time set back{NOT_ACCEPTED}"
    assert refused(accept=True, update=True, ignore_ctime=True) == [back]


@pytest.mark.parametrize("batches", [True, False], ids=["together", "one by one"])
def test_a_file_whose_time_was_just_set_back_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: bool
) -> None:
    """Its modification time is old, but it may be written again in the tick of its ctime."""
    monkeypatch.setattr(store, "RACY_NS", 10**12)
    monkeypatch.setattr(source.Folder, "batches", batches)
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/a").write_text("a")
    os.utime("data/a", (OLD_S, OLD_S))
    options: dict[str, Any] = {"output": "data.atlas.json", "state": "data.state"}
    Manifest.generate("data", **options)
    for wait_ns, count in ((10**12, 1), (0, 1), (0, 0)):
        monkeypatch.setattr(store, "RACY_NS", wait_ns)
        read: list[int] = []
        Manifest.generate("data", **options, update=True, advance=read.append)
        assert sum(read) == count


def test_a_run_that_accepts_nothing_reads_all_again(data: Data) -> None:
    common: dict[str, Any] = {"output": "data.atlas.json", "state": True}
    Manifest.generate("data", **common)
    data.next_month()
    data.rot("b")
    with pytest.raises(MismatchError):
        Manifest.generate("data", **common)
    data.rot("a")  # since then
    with pytest.raises(MismatchError) as caught:
        Manifest.generate("data", **common)
    assert [each.path for each in caught.value.report.differences] == [b"a", b"b"]


def test_some_of_the_files_may_be_accepted(data: Data, command: Output) -> None:
    command(*WITNESS)
    data.next_month()
    data.rot("a")
    data.write_back("sub/c")
    assert command(*WITNESS)[0] == DOES_NOT_HOLD
    code, lines, _ = command(*WITNESS, "--accept", "sub/c", "--accept=nothing")
    assert code == DOES_NOT_HOLD
    assert lines == [
        "a: changed without a write: damage, or written through a memory map",
        "data.atlas.json: not replaced; 1 file is not known to have been edited: --accept takes "
        "it; 1 accepted file must be named again; 2 changed since it was made",
    ]
    code, lines, notes = command(*WITNESS, "--accept", "a", "--accept", "./sub//c", "--accept=b")
    assert (code, len(lines)) == (HOLDS, 3)
    assert notes[-1].endswith(
        "data.atlas.json: there is nothing to accept at 'b': each path must be of a file that was "
        "refused, relative to the folder"
    )
    code, _, notes = command("witness", "--accept", "data", "-o", "data.atlas.json")
    assert code == COULD_NOT_CHECK
    assert "--accept took data as the file to accept" in notes[-1]
    code, _, notes = command("witness", "data", "--accept")
    assert (code, notes[-1].split(": ")[1][:20]) == (COULD_NOT_CHECK, "--accept needs -o wi")
    assert command(*WITNESS, "--accept=../x")[0] == COULD_NOT_CHECK


def test_up_to_20_names_and_a_count(data: Data, command: Output) -> None:
    for number in range(25):
        data.write(f"many/{number:02}", str(number))
    command(*WITNESS)
    data.next_month()
    for number in range(25):
        data.rot(f"many/{number:02}")
    code, lines, _ = command(*WITNESS)
    assert (code, len(lines)) == (DOES_NOT_HOLD, 22)
    assert lines[-2] == "and 5 more files"
    assert lines[-1] == (
        "data.atlas.json: not replaced; 25 files are not known to have been edited: --accept takes "
        "them, --accept PATH one of them; 25 changed since it was made"
    )


def test_the_json_says_the_same(data: Data, command: Output) -> None:
    _, (line,), _ = command(*WITNESS, "--json")
    made = json.loads(line)
    assert (made["changes"], made["differences"], made["holds"]) == (None, None, None)
    data.next_month()
    data.rot("a")
    data.move("b", "c")
    code, (line,), _ = command(*WITNESS, "--json")
    refused = json.loads(line)
    assert (code, refused["holds"], refused["error"]) == (DOES_NOT_HOLD, False, None)
    counts = {"changed": 1, "missing": 0, "added": 0, "moved": 1, "refused": 1, "accepted": 0}
    assert refused["changes"] == counts
    assert [each["path"] for each in refused["differences"]] == ["a", "b"]
    assert refused["differences"][0]["reason"].startswith("changed without a write")
    assert refused["differences"][1]["moved_to"] == "c"
    code, (line,), _ = command(*WITNESS, "--json", "--accept")
    accepted = json.loads(line)
    assert (code, accepted["holds"]) == (HOLDS, None)
    assert accepted["changes"] == counts | {"refused": 0, "accepted": 1}


def test_an_update_does_not_see_damage_and_says_so(data: Data, command: Output) -> None:
    command(*WITNESS)
    data.next_month()
    data.rot("a")
    code, lines, _ = command(*WITNESS, "--update")
    assert (code, lines) == (
        HOLDS,
        [
            "data.atlas.json: 3 files, 40 B; 0 read, 3 known, in which only a run without --update "
            "sees damage; nothing differs from the manifest that it replaces"
        ],
    )
    assert command(*WITNESS)[0] == DOES_NOT_HOLD
    data.write_back("b")  # the ctime shows it
    code, lines, _ = command(*WITNESS, "--update")
    assert (code, lines[0]) == (DOES_NOT_HOLD, "b: written, and its time set back")


def test_without_the_state_damage_is_taken_as_an_edit_and_that_is_said(
    data: Data, command: Output
) -> None:
    command(*WITNESS)
    data.next_month()
    data.rot("a")
    shutil.rmtree("states")
    code, lines, notes = command(*WITNESS)
    assert (code, lines[0]) == (HOLDS, "a: changed, differs in residue, sha256")
    assert notes == [
        "atlas12288: data.atlas.json: 1 changed file of the same size is taken as edited: the "
        "times that the files had when the old manifest was written are not known here"
    ]


def test_the_state_of_another_manifest_or_folder_says_nothing(data: Data, command: Output) -> None:
    command(*WITNESS)
    text = Path("data.atlas.json").read_text()
    Path("data.atlas.json").write_text(json.dumps(json.loads(text)))  # the same, written otherwise
    data.next_month()
    data.rot("a")
    code, lines, notes = command(*WITNESS)
    assert (code, lines[0], len(notes)) == (HOLDS, "a: changed, differs in residue, sha256", 1)
    shutil.copytree("data", "copy")
    for path in Path("copy").rglob("*"):
        data._names[path.stat().st_ino] = str(path.relative_to("copy"))
    Path("copy/b").write_text("CONTENT of b")
    os.utime("copy/b", (OLD_S, Path("data/b").stat().st_mtime))
    code, lines, notes = command("witness", "copy", "-o", "data.atlas.json")
    assert (code, lines[0], len(notes)) == (HOLDS, "b: changed, differs in residue, sha256", 1)


def test_what_cannot_be_compared_is_replaced_and_that_is_said(data: Data, command: Output) -> None:
    command("witness", "--tree", "--no-flat", "data", "-o", "data.atlas.json")
    Path("data.atlas.leaves").unlink()
    code, lines, notes = command(*WITNESS)
    assert (code, lines) == (HOLDS, ["data.atlas.json: 3 files, 40 B"])
    assert "cannot be compared with what it replaces" in notes[0]
    text = Path("data.atlas.json").read_text()
    Path("data.atlas.json").write_text(text.replace('"size":12', '"size":13'))
    code, lines, notes = command(*WITNESS)
    assert (code, lines) == (HOLDS, ["data.atlas.json: 3 files, 40 B"])
    assert "cannot be compared with what it replaces" in notes[0]
    assert command("witness", "data/a", "-o", "w.json")[0] == HOLDS
    assert command("witness", "data", "-o", "w.json")[:2] == (HOLDS, ["w.json: 3 files, 40 B"])


def test_other_options_than_those_of_the_replaced_manifest_are_said(
    data: Data, command: Output
) -> None:
    command(*WITNESS)
    code, lines, notes = command(*WITNESS, "--exclude", "b")
    assert code == HOLDS
    assert lines[-1].endswith("; nothing differs from the manifest that it replaces")
    assert notes == [
        "atlas12288: data.atlas.json: has other rules than the manifest that it replaces",
        "atlas12288: data.atlas.json: 1 path not compared, because only one of the two manifests "
        "can have them",
    ]


def test_every_run_of_the_command_leaves_the_times(tmp_path: Path) -> None:
    """Also one of 0.1 s over three small files, which the native code lists and reads."""
    (tmp_path / "data").mkdir()
    for name in "abc":
        (tmp_path / "data" / name).write_text(name)
    assert run(*WITNESS, cwd=tmp_path).returncode == HOLDS
    before = (tmp_path / "data/b").stat()
    (tmp_path / "data/b").write_text("B")
    os.utime(tmp_path / "data/b", ns=(before.st_atime_ns, before.st_mtime_ns))
    done = run(*WITNESS, cwd=tmp_path)
    assert done.returncode == DOES_NOT_HOLD
    assert done.stdout.startswith(b"b: written, and its time set back\n")
    done = run(*WITNESS, "--accept", cwd=tmp_path)
    assert done.returncode == HOLDS


def test_windows_are_named_of_files_that_are_read_many_at_once(tmp_path: Path) -> None:
    """The native code lists and reads them, and keeps their leaves for all of a folder."""
    witness = (*WITNESS, "--tree")
    for name in ("one", "two/a", "two/b", "two/\u00e9"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} " * WINDOW_BYTES)
    assert run(*witness, cwd=tmp_path).returncode == HOLDS
    for name in ("one", "two/b", "two/\u00e9"):
        with (tmp_path / "data" / name).open("r+b") as file:
            file.seek(2 * WINDOW_BYTES + 1)
            file.write(b"!")
        os.utime(tmp_path / "data" / name, (OLD_S, OLD_S))
    done = run(*witness, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    windows = {"one": 4, "two/b": 6, "two/\u00e9": 7}
    assert done.stdout.decode().splitlines()[:-1] == [
        line
        for name, count in windows.items()
        for line in (
            f"{name}: changed, differs in residue, sha256, sha256-merkle-12288",
            f"  windows  1 of {count} differ:",
            "           bytes [24576, 36864)  window 2",
        )
    ]
    (tmp_path / "data/one").write_text("ONE " * WINDOW_BYTES)
    os.utime(tmp_path / "data/one", (OLD_S, OLD_S))
    named = b"one: written, and its time set back\n  windows  4 of 4 differ:\n"
    done = run(*witness, cwd=tmp_path)
    assert (done.returncode, done.stdout.startswith(named)) == (DOES_NOT_HOLD, True)
    done = run(*witness, "--accept", "one", cwd=tmp_path)
    assert (done.returncode, b"4 files" in done.stdout) == (HOLDS, True)
    assert run("verify", "data.atlas.json", cwd=tmp_path).returncode == HOLDS


def test_of_many_differences_the_report_keeps_the_first(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CHANGES_MOST", 1)
    common: dict[str, Any] = {"output": "data.atlas.json", "state": "data.state"}
    Manifest.generate("data", **common)
    data.rot("a")
    data.rot("b")
    with pytest.raises(MismatchError, match=r"'a': changed .*; and 1 more file$") as caught:
        Manifest.generate("data", **common)
    assert len(caught.value.report.differences) == 1
    assert Manifest.generate("data", **common, accept=True) == Manifest.generate("data")


def test_a_year_in_a_minute(data: Data, command: Output, tmp_path: Path) -> None:
    """Monthly runs: at each step the report says exactly what was done."""
    backup = tmp_path / "backup"

    def month(*lines: str, last: str, code: int = HOLDS, options: tuple[str, ...] = ()) -> None:
        assert command(*WITNESS, *options) == (code, [*lines, f"data.atlas.json: {last}"], [])
        data.next_month()

    since = "since the manifest that it replaces"
    month(last="3 files, 40 B")
    # February: edits.
    data.write("a", "edited in February")
    month("a: changed, has 18 bytes, had 12", last=f"3 files, 46 B; 1 changed {since}")
    # March: nothing.
    month(last="3 files, 46 B; nothing differs from the manifest that it replaces")
    shutil.copy("data.atlas.json", "march.atlas.json")
    shutil.copytree("data", backup)
    # April: a folder is renamed, and files are added.
    data.move("sub/c", "2026/c")
    data.write("2026/d", "new in April")
    month(
        "2026/d: added",
        "sub/c: moved to 2026/c",
        last=f"4 files, 58 B; 1 added, 1 moved {since}",
    )
    # May: a disk damages a file, while another one is edited.
    data.rot("b")
    data.write("a", "edited in May")
    kept = Path("data.atlas.json").read_bytes()
    month(
        "b: changed without a write: damage, or written through a memory map",
        last="not replaced; 1 file is not known to have been edited: --accept takes it; "
        "2 changed since it was made",
        code=DOES_NOT_HOLD,
    )
    assert Path("data.atlas.json").read_bytes() == kept
    assert command("verify", "-q", "data.atlas.json", "--path", "b") == (
        DOES_NOT_HOLD,
        ["b: changed, differs in residue, sha256"],
        [],
    )
    # June: the file comes back from the backup.
    data.restore("b", backup)
    code, lines, notes = command(*WITNESS)
    assert (code, lines) == (
        HOLDS,
        [
            "a: changed, has 13 bytes, had 18",
            f"data.atlas.json: 4 files, 53 B; 1 changed {since}",
        ],
    )
    assert len(notes) == 1
    assert "was refused, and nothing is accepted now: begins anew" in notes[0]
    data.next_month()
    # July: a program writes, and sets the time back. It is known, and accepted.
    data.write_back("2026/d")
    month(
        "2026/d: written, and its time set back",
        last="not replaced; 1 file is not known to have been edited: --accept takes it; "
        "1 changed since it was made",
        code=DOES_NOT_HOLD,
    )
    code, lines, _ = command(*WITNESS, "--accept", "2026/d")
    assert (code, lines) == (
        HOLDS,
        [
            "2026/d: changed, written, and its time set back; accepted",
            f"data.atlas.json: 4 files, 53 B; 1 changed (1 accepted) {since}",
        ],
    )
    # August: an old version is restored over a newer one.
    data.next_month()
    data.restore("a", backup)
    month("a: changed, has 18 bytes, had 13", last=f"4 files, 58 B; 1 changed {since}")
    # September to November: nothing; and a file is removed.
    month(last="4 files, 58 B; nothing differs from the manifest that it replaces")
    data.remove("b")
    month("b: missing", last=f"3 files, 46 B; 1 missing {since}")
    # December: what changed since March, and is all as it was witnessed?
    assert command("verify", "-q", "data.atlas.json") == (HOLDS, [], [])
    code, lines, _ = command("diff", "march.atlas.json", "data.atlas.json")
    assert (code, lines) == (
        DOES_NOT_HOLD,
        [
            "2026/d: added",
            "b: missing",
            "sub/c: moved to 2026/c",
            "data.atlas.json: differs from march.atlas.json; 3 files compared: 0 changed, "
            "1 missing, 1 added, 1 moved, 0 unreadable",
        ],
    )


def test_generate_says_which_argument_is_wrong(data: Data) -> None:
    with pytest.raises(WitnessError, match=r"path is '\.\./x'"):
        atlas.Manifest.generate("data", output="m.json", state=True, accept="../x")
    with pytest.raises(ValueError, match="accept is True, must be False without output"):
        atlas.Manifest.generate("data", accept=True)


def test_where_the_comparison_fails_nothing_is_replaced(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    common: dict[str, Any] = {"output": "data.atlas.json", "state": True}
    Manifest.generate("data", **common)
    before = Path("data.atlas.json").read_bytes()
    data.write("a", "edited")

    def fail(_: Moves) -> None:
        raise FileError("the temporary database cannot be used: disk is full")

    monkeypatch.setattr(Moves, "find", fail)
    with pytest.raises(FileError, match="disk is full"):
        Manifest.generate("data", **common)
    assert Path("data.atlas.json").read_bytes() == before
