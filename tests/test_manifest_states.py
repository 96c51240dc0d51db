# SPDX-License-Identifier: Apache-2.0
"""States of runs: in the user's folder, out of reach of those who write the data. Any bytes in
their place begin anew or are one error, and a run goes on without where none can be kept."""

import errno
import fcntl
import json
import os
import random
import re
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import atlas12288 as atlas
from atlas12288._files import FileError
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest import _generate as generate
from atlas12288.manifest import _keeper as keeper
from atlas12288.manifest import _state_file as state_files
from atlas12288.manifest import _state_folder as state_folder
from atlas12288.manifest._kept_states import DAYS_KEPT, open_state
from atlas12288.manifest._state_file import StateFile
from atlas12288.manifest._state_folder import machine, state_file
from atlas12288.manifest._state_frames import MAGIC, Begun, Finished, frame, run_to_json
from support.commandline import HOLDS, INTERRUPTED, before_read, run
from support.manifests import StopError, StoppedRuns
from support.slow import slow_but
from support.strategies import noise

DAY_S = 24 * 60 * 60


class Runs(StoppedRuns):
    """Runs over one folder that keep their state in the user's folder, from the first second on."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.folder = place / "data"
        self.folder.mkdir()
        for index, size in enumerate((0, 1, 12289, 5 * BLOCK_BYTES)):
            path = self.folder / f"{index}"
            path.write_bytes(noise(size, index))
            os.utime(path, (1e9, 1e9))
        self.size = sum(path.stat().st_size for path in self.folder.iterdir())
        self.output = place / "out.atlas.json"

    def run(self, stop_after: int | None = None, **options: Any) -> None:
        advance = self.begin(stop_after)
        arguments = {"state": True, "note": self.notes.append, "threads": 1, **options}
        atlas.Manifest.generate(self.folder, output=self.output, advance=advance, **arguments)

    def stop(self, **options: Any) -> None:
        with pytest.raises(StopError):
            self.run(4 * BLOCK_BYTES, **options)

    def is_right(self) -> bool:
        return self.output.read_text() == atlas.Manifest.generate(self.folder).to_json()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which the state folder is made."""
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(keeper, "_COMMIT_S", 0.0)
    return tmp_path / "home"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(generate, "KEPT_AFTER_S", 0.0)
    return Runs(tmp_path / "place")


def state_of(home: Path, output: Path) -> Path:
    return home / ".local/state/atlas12288" / state_file(str(output))


# --- The user's folder


def test_the_state_is_in_the_users_folder_and_for_nobody_else(runs: Runs, home: Path) -> None:
    runs.run()
    path = state_of(home, runs.output)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(each.name for each in runs.output.parent.iterdir()) == ["data", "out.atlas.json"]
    assert list(path.parent.iterdir()) == [path]
    runs.run(update=True)
    assert runs.read == 0
    assert len(runs.notes) == 1


def test_xdg_state_home_is_used(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    runs.run()
    (path,) = (tmp_path / "xdg" / "atlas12288").iterdir()
    assert path.name == state_file(str(runs.output))


def test_a_run_of_seconds_keeps_nothing_until_it_ends(
    runs: Runs, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "KEPT_AFTER_S", 3600.0)
    runs.stop()
    assert list((home / ".local/state/atlas12288").iterdir()) == []
    assert sorted(each.name for each in runs.output.parent.iterdir()) == ["data"]
    runs.run()
    assert (runs.read, runs.notes) == (runs.size, [])
    runs.run(update=True)
    assert runs.read == 0


@pytest.mark.parametrize("tree", [False, True])
def test_what_waits_to_be_saved_has_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: bool
) -> None:
    for folder in range(40):
        (tmp_path / f"data/{folder}").mkdir(parents=True)
        for name in range(20):
            (tmp_path / f"data/{folder}/{name}").write_bytes(b"%d" % name)
    waited: list[int] = []
    frames: list[int] = []

    add = StateFile._wait

    def wait(self: StateFile, frame: bytes) -> None:
        add(self, frame)
        frames.append(len(frame))
        waited.append(self._waiting_bytes)

    monkeypatch.setattr(StateFile, "_wait", wait)
    monkeypatch.setattr(state_files, "_WAITING_BYTES", 10_000)
    monkeypatch.setattr(keeper, "_COMMIT_S", 1e9)  # only the bound makes it save
    output = tmp_path / "out.json"
    options = {"tree": tree, "leaves": tmp_path / "out.leaves"} if tree else {}
    atlas.Manifest.generate(
        tmp_path / "data", output=output, state=tmp_path / "state", threads=1, **options
    )
    assert sum(frames) > 50_000
    assert max(waited) < 10_000 + max(frames)
    assert output.read_text() == atlas.Manifest.generate(tmp_path / "data", tree=tree).to_json()


@pytest.mark.parametrize("tree", [False, True])
def test_a_stopped_run_goes_on_in_the_middle_of_a_large_file(runs: Runs, tree: bool) -> None:
    leaves = {"tree": True, "leaves": runs.output.with_suffix(".leaves")} if tree else {}
    runs.stop(**leaves)
    runs.run(**leaves)
    assert runs.read < 3 * BLOCK_BYTES
    (note,) = runs.notes
    assert note.startswith("goes on with the state of the run at ")
    assert note.endswith(", 1 in part")
    assert runs.output.read_text() == atlas.Manifest.generate(runs.folder, tree=tree).to_json()


def test_the_state_of_another_machine_is_none(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "kept"
    runs.stop(state=place)
    name = state_file(str(runs.output))
    monkeypatch.setattr(state_folder, "machine", lambda: "another")
    monkeypatch.setattr(generate, "machine", lambda: "another")
    assert state_file(str(runs.output)) != name
    runs.run(state=place)
    assert runs.notes == [
        f"the state {place} is of a run with another choice of machine: begins anew"
    ]
    assert runs.read == runs.size


def test_one_manifest_has_one_state_by_whatever_path_it_is_named(
    runs: Runs, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(runs.output.parent)
    assert state_file(str(tmp_path / "link" / "out.atlas.json")) == state_file(str(runs.output))


def test_a_state_of_before_beside_the_output_is_named_and_not_touched(runs: Runs) -> None:
    old = runs.output.with_name("out.atlas.state")
    base = sqlite3.connect(old)
    base.executescript(
        "CREATE TABLE run (options TEXT, number INTEGER, finished INTEGER);"
        "CREATE TABLE files (path BLOB PRIMARY KEY, residue INTEGER);"
        "CREATE TRIGGER t AFTER INSERT ON files BEGIN UPDATE files SET residue = 5; END;"
        "PRAGMA application_id = 1096040531; PRAGMA user_version = 2;"
    )
    base.close()
    journal = old.with_name(old.name + "-journal")
    journal.write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(600))
    before = old.read_bytes(), journal.read_bytes()
    runs.run(update=True)
    assert f"{old} is not read: states lie elsewhere now, so that it can be removed" in runs.notes
    assert (old.read_bytes(), journal.read_bytes()) == before
    assert runs.is_right()
    with pytest.raises(FileError, match=f"^the state {old} is not the state of a manifest, and"):
        runs.run(state=old)
    assert (old.read_bytes(), journal.read_bytes()) == before


# --- Where no state can be kept


def _no_home(_: pytest.MonkeyPatch, home: Path) -> None:
    home.rmdir()


def _home_unset(patch: pytest.MonkeyPatch, _: Path) -> None:
    patch.delenv("HOME")


def _relative(patch: pytest.MonkeyPatch, _: Path) -> None:
    patch.setenv("XDG_STATE_HOME", "state")


def _read_only(patch: pytest.MonkeyPatch, _: Path) -> None:
    def mkdir(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    patch.setattr(Path, "mkdir", mkdir)


def _another_user(patch: pytest.MonkeyPatch, _: Path) -> None:
    patch.setattr(os, "geteuid", lambda: os.getuid() + 1)


def _open_to_others(_: pytest.MonkeyPatch, home: Path) -> None:
    folder = home / ".local/state/atlas12288"
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def _a_link(_: pytest.MonkeyPatch, home: Path) -> None:
    (home / ".local/state").mkdir(parents=True)
    (home / "elsewhere").mkdir(mode=0o700)
    (home / ".local/state/atlas12288").symlink_to(home / "elsewhere")


def _a_file(_: pytest.MonkeyPatch, home: Path) -> None:
    (home / ".local/state").mkdir(parents=True)
    (home / ".local/state/atlas12288").write_bytes(b"mine")


def _no_locks(patch: pytest.MonkeyPatch, _: Path) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    patch.setattr(fcntl, "flock", flock)


def _no_room(code: int) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def arrange(patch: pytest.MonkeyPatch, _: Path) -> None:
        def pwrite(*_: object) -> int:
            raise OSError(code, os.strerror(code))

        patch.setattr(os, "pwrite", pwrite)

    return arrange


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (_no_home, "keeps no state: HOME is .*, must be a folder"),
        (_home_unset, "keeps no state: neither XDG_STATE_HOME nor HOME is an absolute path"),
        (_relative, "keeps no state: XDG_STATE_HOME is state, must be an absolute path"),
        (_read_only, "keeps no state: the state folder .*: Read-only file system"),
        (_another_user, "keeps no state: the state folder .*belongs to another user"),
        (_open_to_others, "keeps no state: the state folder .*others than its owner may write"),
        (_a_link, "keeps no state: the state folder .*is a symbolic link, which is not followed"),
        (_a_file, "keeps no state: the state folder .* cannot be used: Not a directory"),
        (_no_locks, "keeps no state: the state .* cannot be used: No locks available"),
        (_no_room(errno.ENOSPC), "nothing more of this run is kept .*: No space left on device"),
        (_no_room(errno.EDQUOT), "nothing more of this run is kept .*: Disk quota exceeded"),
    ],
)
def test_without_a_state_folder_the_run_goes_on_and_says_so_once(
    runs: Runs,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[pytest.MonkeyPatch, Path], None],
    reason: str,
) -> None:
    expected = atlas.Manifest.generate(runs.folder).to_json()
    with monkeypatch.context() as patch:
        arrange(patch, home)
        runs.run()
    (note,) = runs.notes
    assert re.match(reason, note), note
    assert runs.output.read_text() == expected
    assert not list(runs.output.parent.glob(".atlas12288-*"))


@pytest.mark.parametrize("arrange", [_another_user, _no_locks, _no_room(errno.ENOSPC)])
def test_a_state_in_a_place_that_was_named_must_be_kept(
    runs: Runs,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[pytest.MonkeyPatch, Path], None],
) -> None:
    (tmp_path / "kept").write_bytes(b"")
    (tmp_path / "kept").chmod(0o600)
    with monkeypatch.context() as patch:
        arrange(patch, home)
        with pytest.raises(FileError, match=f"^the state {tmp_path}/kept cannot be used: "):
            runs.run(state=tmp_path / "kept")
    assert not runs.output.exists()
    assert not list(runs.output.parent.glob(".atlas12288-*"))


# --- Hostile states


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder", "0666", "0620"])
def test_what_is_no_file_of_the_user_is_no_state(runs: Runs, tmp_path: Path, kind: str) -> None:
    place, other = tmp_path / "kept", tmp_path / "other"
    other.write_bytes(b"")
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind in ("link", "dangling"):
        place.symlink_to(other if kind == "link" else tmp_path / "none")
    else:
        place.write_bytes(b"")
        place.chmod(int(kind, 8))
    before = place.lstat()
    with pytest.raises(FileError, match=f"^the state {place} cannot be used: "):
        runs.run(state=place)
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert other.read_bytes() == b""
    assert not (tmp_path / "none").exists()
    assert not runs.output.exists()


def _made(runs: Runs, tmp_path: Path) -> tuple[Path, list[bytes]]:
    """A place, and states of all kinds that a run leaves there."""
    place = tmp_path / "kept"
    found = []
    runs.stop(state=place)
    found.append(place.read_bytes())
    runs.run(state=place)
    found.append(place.read_bytes())
    os.utime(runs.folder / "3", (1e9, 1e9 + 1))
    runs.stop(state=place, update=True)
    found.append(place.read_bytes())
    runs.output.unlink()
    runs.run(state=tmp_path / "other")
    return place, found


@pytest.mark.parametrize("strangers", slow_but([60], [60, 150]))
def test_bytes_of_a_stranger_begin_anew_or_are_one_error(
    runs: Runs, tmp_path: Path, strangers: int
) -> None:
    place, made = _made(runs, tmp_path)
    expected = atlas.Manifest.generate(runs.folder).to_json()
    output = runs.output.read_bytes()
    rng = random.Random(12288)
    right = 0
    for index in range(strangers):
        state = bytearray(rng.choice(made))
        kind = index % 5
        if kind == 0:
            state = bytearray(rng.randbytes(rng.randrange(1, 3000)))
        elif kind == 1:
            del state[rng.randrange(len(state)) :]
        elif kind == 2:
            state[rng.randrange(len(state))] ^= 1 << rng.randrange(8)
        elif kind == 3:
            at = rng.randrange(len(state))
            state[at:at] = rng.randbytes(rng.randrange(1, 40))
        else:  # the numbers of a frame are those of a stranger too
            state = bytearray(MAGIC + rng.choice(made)[len(MAGIC) :])
            payload = rng.randbytes(rng.randrange(80))
            state[len(MAGIC) : len(MAGIC)] = frame(rng.choice([b"I", b"F", b"B"]), payload)
        place.write_bytes(state)
        runs.output.write_bytes(output)
        reason = None
        try:
            runs.run(state=place, update=bool(index % 2))
        except FileError as error:
            reason = str(error)
        if reason is None:
            assert runs.output.read_text() == expected
            right += 1
        else:
            assert reason.startswith(f"the state {place} ")
            assert place.read_bytes() == state
            assert runs.output.read_bytes() == output
    assert right > strangers // 3


@pytest.mark.parametrize("length", [2**32 - 1, 2**24])
def test_a_length_that_no_frame_has_costs_no_memory(
    runs: Runs, tmp_path: Path, length: int
) -> None:
    place = tmp_path / "kept"
    place.write_bytes(MAGIC + b"F" + length.to_bytes(4, "little") + bytes(4))
    place.chmod(0o600)
    runs.run(state=place)
    assert runs.notes == [f"the state {place} is damaged: begins anew"]
    assert runs.is_right()


def test_a_manifest_that_the_last_run_did_not_write_is_not_believed(
    runs: Runs, tmp_path: Path
) -> None:
    runs.run()
    text = runs.output.read_text()
    digest = json.loads(text)["predicate"]["files"][1]["sha256"]
    runs.output.write_text(text.replace(digest, "ab" * 32))
    runs.run(update=True)
    wrong, damaged = runs.notes
    assert wrong == "the manifest is not the one that the last run wrote: all files are read"
    assert damaged.startswith("cannot be compared with what it replaces: ")
    assert runs.read == runs.size
    assert runs.is_right()


def test_leaves_under_way_are_never_a_file_that_the_state_names(runs: Runs, tmp_path: Path) -> None:
    """Not even by a state that says what only its user can know."""
    victim = runs.output.with_name("victim")
    victim.write_bytes(b"precious")
    status = victim.stat()
    place = tmp_path / "kept"
    leaves = runs.output.with_suffix(".leaves")
    runs.stop(state=place, tree=True, leaves=leaves)
    folder = os.open(tmp_path, os.O_RDONLY)
    with StateFile(os.open(place, os.O_RDWR), folder, "kept", str(place), locked=False) as state:
        begun = state.begun
    assert begun is not None
    for name in ("victim", "../place/victim", str(victim)):
        sidecar = {"name": name, "device": status.st_dev, "inode": status.st_ino}
        fields = json.loads(run_to_json(begun)) | {"sidecar": sidecar}
        place.write_bytes(MAGIC + frame(b"B", json.dumps(fields).encode()))
        runs.run(state=place, tree=True, leaves=leaves)
        assert "cannot be used (is not the name of leaves under way): begins anew" in runs.notes[0]
        assert victim.read_bytes() == b"precious"


# --- Their end


def _kept(home: Path, output: Path, days: float, *, finished: bool = True) -> Path:
    """A state of a manifest that need not be there."""
    path = state_of(home, output)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    context = {"machine": machine(), "output": str(output)}
    run: Finished | Begun = Finished(context, int(time.time()), bytes(32), 0)
    if not finished:
        run = Begun(context, int(time.time()), False, None)
    path.write_bytes(MAGIC + frame(b"F" if finished else b"B", run_to_json(run)))
    path.chmod(0o600)
    os.utime(path, (time.time() - days * DAY_S,) * 2)
    return path


def test_states_of_manifests_that_are_gone_or_of_long_ago_are_removed(
    runs: Runs, home: Path, tmp_path: Path
) -> None:
    for name in ("here", "old"):
        (tmp_path / name).write_bytes(b"")
    stays = [
        _kept(home, tmp_path / "here", DAYS_KEPT - 1),
        _kept(home, tmp_path / "under way", 5, finished=False),
    ]
    goes = [
        _kept(home, tmp_path / "gone", 1),
        _kept(home, tmp_path / "old", DAYS_KEPT + 1),
        _kept(home, tmp_path / "old under way", DAYS_KEPT + 1, finished=False),
        _kept(home, tmp_path / "old unreadable", DAYS_KEPT + 1),
    ]
    goes[-1].write_bytes(b"no state at all" * 10)
    os.utime(goes[-1], (0, 0))
    stranger = goes[0].with_name("notes.txt")
    stranger.write_bytes(b"mine")
    os.utime(stranger, (0, 0))
    runs.run()
    assert all(path.exists() for path in (*stays, stranger))
    assert not any(path.exists() for path in goes)


def test_info_lists_the_states(runs: Runs, home: Path, tmp_path: Path) -> None:
    def info(*options: str) -> str:
        done = run("info", "--states", *options)
        assert done.returncode == HOLDS
        return done.stdout.decode()

    assert info() == f"no states in {home}/.local/state/atlas12288\n"
    runs.run()
    (tmp_path / "b").write_bytes(b"")
    _kept(home, tmp_path / "b", 3, finished=False)
    found = json.loads(info("--json"))
    assert found["folder"] == f"{home}/.local/state/atlas12288"
    assert [(each["output"], each["kind"]) for each in found["states"]] == [
        (str(tmp_path / "b"), "under way"),
        (str(runs.output), "finished"),
    ]
    lines = info().splitlines()
    assert lines[0].startswith(f"{tmp_path / 'b'}: under way, ")
    assert lines[3] == f"  {state_of(home, runs.output)}"


def test_a_state_that_nothing_was_kept_in_is_removed(tmp_path: Path) -> None:
    with open_state(str(tmp_path / "kept"), None):
        assert (tmp_path / "kept").exists()
    assert not (tmp_path / "kept").exists()


# --- Inside of the folder


def test_a_state_folder_inside_of_the_folder_is_no_part_of_it(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(runs.folder / ".state"))
    runs.run()
    runs.run(update=True)
    assert "left out: the states of runs, in your state folder" in runs.notes
    manifest = atlas.Manifest.from_json(runs.output.read_bytes())
    assert [entry.path for entry in manifest.entries] == [b"0", b"1", b"2", b"3"]
    report = manifest.verify(runs.folder)
    assert report.holds
    # Others that lie there are.
    (runs.folder / ".state" / "atlas12288" / "notes").write_bytes(b"1")
    assert not manifest.verify(runs.folder).holds


# --- By hand


def test_ctrl_c_says_that_the_run_is_kept_if_it_is(runs: Runs, tmp_path: Path) -> None:
    # The only large file: of several, no one is done before the others.
    (runs.folder / "3").write_bytes(bytes(4 * BLOCK_BYTES))
    interrupted = f"import signal\n{before_read(3, 'signal.raise_signal(signal.SIGINT)')}"
    for options, said in (
        (("--state", tmp_path / "kept"), True),
        ((), False),
    ):
        done = run(
            *("witness", runs.folder, "-o", runs.output, "--threads", "1", *options),
            before=interrupted,
        )
        assert done.returncode == INTERRUPTED
        kept = b"what was read is kept: the same command goes on from there\n"
        assert (done.stderr.count(kept), b"Traceback" in done.stderr) == (int(said), False)
