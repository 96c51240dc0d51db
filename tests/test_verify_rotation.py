# SPDX-License-Identifier: Apache-2.0
"""`verify --every`: passes go on where they were, tell a difference once, and keep to a rate."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from atlas12288 import Manifest
from atlas12288._cli import quantities
from atlas12288._cli.commands import verify_rotation
from atlas12288._cli.commands.verify_manifest import VerifyOptions
from atlas12288.manifest import _rotation
from atlas12288.manifest._arguments import open_source
from atlas12288.manifest._differences import Difference
from atlas12288.manifest._lined import Lined
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._sources import rated
from atlas12288.manifest._verify import verify_manifest
from support.commandline import (
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    INTERRUPTED,
    TIMEOUT_S,
    run,
    start,
)
from support.files import write_files
from support.leftovers import nothing_left
from support.strategies import noise

FILES = {"a": noise(1000), "aa": b"aa", "b/large": noise(7_000_000), "b/x": b"x", "c": b"c" * 9000}
CONTEXT: Any = None  # the callbacks of options do not look at it


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the folder `data`, its manifest, and an empty state folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_files(Path("data"), FILES)
    assert run("witness", "data", "-o", "data.atlas.json").returncode == HOLDS
    return tmp_path


def once(*options: str) -> tuple[int, str]:
    done = run("verify", "data.atlas.json", "--every", "0.001s", "--once", *options)
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


def events(*options: str) -> tuple[int, list[dict[str, Any]]]:
    code, text = once("--json", *options)
    return code, [json.loads(line) for line in text.splitlines()]


def flip(name: str) -> None:
    content = bytearray(Path("data", name).read_bytes())
    content[0] ^= 1
    Path("data", name).write_bytes(content)


# --- durations and rates ---


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("12h", 43200), ("1d", 86400), ("1.5h", 5400)]
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert quantities.duration(CONTEXT, CONTEXT, text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("50MB/s", 50e6), ("1GiB/s", 2**30), ("1.5KiB/s", 1536), ("7B/s", 7), ("2kB/s", 2000)],
)
def test_a_rate_is_a_number_with_a_unit(text: str, size: float) -> None:
    assert quantities.rate(CONTEXT, CONTEXT, text) == size


@pytest.mark.parametrize(
    "text",
    ["", "5", "d", "0s", "-1s", "1w", "1 d", "1e3s", "nans", "1d2h", "36501d", "9" * 400 + "d"],
)
def test_other_durations_are_refused_with_the_rule(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"number above 0 and s, m, h or d"):
        quantities.duration(CONTEXT, CONTEXT, text)


@pytest.mark.parametrize(
    "text",
    ["", "5", "5MB", "0MB/s", "0.9B/s", "5mB/s", "5KB/s", "-5MB/s", "MB/s", "9" * 400 + "B/s"],
)
def test_other_rates_are_refused_with_the_rule(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"number above 0 and one of B/s, kB/s"):
        quantities.rate(CONTEXT, CONTEXT, text)


def test_a_pace_sleeps_in_small_steps_until_the_bytes_are_within_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = {"now": 100.0}
    steps: list[float] = []

    def sleep(seconds: float) -> None:
        steps.append(seconds)
        clock["now"] += seconds

    monkeypatch.setattr(rated, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(rated, "sleep", sleep)
    pace = rated.Pace(1000)
    for size in (500, 1, 0, 2000):
        pace.read(size)
    assert clock["now"] == pytest.approx(102.501)
    assert max(steps) <= 0.1
    clock["now"] += 50  # time in which nothing was read is not made up for
    pace.read(1000)
    assert clock["now"] == pytest.approx(153.501)


def test_a_rated_source_gives_the_same_report(folder: Path) -> None:
    flip("b/large")
    Path("data/c").unlink()
    manifest = Manifest.from_json(Path("data.atlas.json").read_bytes())
    source = open_source("data")
    plain = verify_manifest(manifest, source)
    assert [each.path for each in plain.differences] == [b"b/large", b"c"]
    assert verify_manifest(manifest, rated.RatedSource(source, 1e12)) == plain


def test_files_that_are_done_are_listed_and_not_read(folder: Path) -> None:
    manifest = Lined.of(Manifest.from_json(Path("data.atlas.json").read_bytes()))
    compared: list[bytes] = []
    flip("a")
    Path("data/b/x").unlink()
    report = verify_manifest(
        manifest,
        rated.RatedSource(open_source("data"), 1e12),
        done=b"b/large",
        listener=FunctionListener(compared=compared.append),
    )
    assert [each.path for each in report.differences] == [b"b/x"]
    assert report.bytes == len(FILES["c"])
    assert report.files == len(FILES)
    assert compared == [b"c"]


# --- passes ---


def test_a_difference_is_told_once_while_it_stays(folder: Path) -> None:
    assert once()[0] == HOLDS
    flip("a")
    code, text = once()
    assert code == DOES_NOT_HOLD
    assert "a: changed, differs in residue, sha256\n" in text
    code, text = once()
    assert code == DOES_NOT_HOLD
    assert "a: changed" not in text
    assert "1 changed, 0 missing, 0 added, 0 unreadable; 1 difference told before" in text
    Path("data/a").unlink()
    assert "a: missing\n" in once()[1]
    Path("data/a").write_bytes(FILES["a"])
    assert once()[0] == HOLDS
    Path("data/a").unlink()
    assert "a: missing\n" in once()[1]


def test_json_has_a_line_for_each_event(folder: Path) -> None:
    flip("c")
    code, (difference, whole) = events()
    assert code == DOES_NOT_HOLD
    assert (difference["event"], difference["holds"]) == ("difference", False)
    assert [each["path"] for each in difference["differences"]] == ["c"]
    assert (whole["event"], whole["holds"], whole["differences"]) == ("pass", False, None)
    assert whole["counts"]["changed"] == 1
    assert whole["next"].endswith("Z")
    code, (whole,) = events()
    assert (code, whole["event"], whole["counts"]["changed"]) == (DOES_NOT_HOLD, "pass", 1)
    assert whole["type"] == "atlas12288/report/v1"


def test_once_waits_for_its_time(folder: Path) -> None:
    flip("c")
    assert once()[0] == DOES_NOT_HOLD
    Path("data/c").write_bytes(FILES["c"])
    command = ("verify", "data.atlas.json", "--every", "30d", "--once")
    done = run(*command)
    assert done.returncode == DOES_NOT_HOLD  # as far as is known
    assert b"data: next pass 20" in done.stdout
    assert b"1 difference told before" in done.stdout
    waits = json.loads(run(*command, "--json").stdout)
    assert (waits["event"], waits["counts"]["changed"]) == ("wait", 1)


def test_a_pass_that_is_interrupted_goes_on_after_the_last_file(folder: Path) -> None:
    flip("a")
    state = folder / "state" / "atlas12288"
    options = ("--every", "1d", "--rate", "200kB/s")  # half a minute
    with start("verify", "data.atlas.json", *options) as process:
        while not any('"done": "61"' in each.read_text() for each in state.glob("*.rotation")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == INTERRUPTED
        assert process.stdout is not None
        assert b"a: changed" in process.stdout.read()
    code, (whole,) = events()
    assert code == DOES_NOT_HOLD
    assert whole["counts"]["changed"] == 1  # as was told
    assert whole["counts"]["bytes"] == sum(map(len, FILES.values())) - len(FILES["a"])
    code, text = once()
    assert "1 changed" in text


def test_without_once_passes_follow_until_ctrl_c(folder: Path) -> None:
    with start("verify", "data.atlas.json", "--every", "0.2s") as process:
        assert process.stdout is not None
        while b"matches its manifest" not in process.stdout.readline():
            assert process.poll() is None
        flip("a")
        while process.stdout.readline() != b"a: changed, differs in residue, sha256\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == INTERRUPTED


def test_what_cannot_be_read_is_no_verdict_and_told_once(folder: Path) -> None:
    Path("data/a").unlink()
    os.mkfifo("data/a")
    command = ("verify", "data.atlas.json", "--every", "0.001s", "--once")
    done = run(*command)
    assert done.returncode == COULD_NOT_CHECK
    assert b"a: is a FIFO" in done.stderr
    done = run(*command)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b""


def test_of_another_manifest_nothing_is_known(folder: Path) -> None:
    flip("a")
    assert once()[0] == DOES_NOT_HOLD
    assert run("witness", "data", "-o", "data.atlas.json").returncode == HOLDS
    code, text = once()
    assert code == HOLDS
    assert "told before" not in text


def test_a_pass_reads_no_file_to_find_out_that_another_was_moved(folder: Path) -> None:
    Path("data/c").rename("data/moved")
    code, (missing, added, whole) = events()
    assert code == DOES_NOT_HOLD
    kinds = [each["differences"][0]["kind"] for each in (missing, added)]
    assert kinds == ["missing", "added"]
    assert (whole["counts"]["missing"], whole["counts"]["added"]) == (1, 1)
    assert whole["counts"]["moved"] == 0
    assert whole["counts"]["bytes"] == sum(map(len, FILES.values())) - len(FILES["c"])
    code, (whole,) = events()  # both are told once
    assert (code, whole["counts"]["added"]) == (DOES_NOT_HOLD, 1)


def test_passes_over_a_part_have_a_state_of_their_own(folder: Path) -> None:
    flip("a")
    assert once()[0] == DOES_NOT_HOLD
    code, text = once("--path", "b")
    assert code == HOLDS
    assert "data: the part matches its manifest; 2 of 5 files checked: 0 changed" in text
    assert "told before" not in text
    code, (whole,) = events("--path", "b")
    assert (code, whole["counts"]["files"]) == (HOLDS, 2)
    assert whole["part"]["manifest_files"] == 5
    assert "told before" in once()[1]
    done = run("verify", "data.atlas.json", "--every", "1d", "--once", "--path", "nowhere")
    assert done.returncode == COULD_NOT_CHECK
    assert b"nowhere" in done.stderr


def test_a_folder_without_any_file_of_the_manifest_is_no_difference(folder: Path) -> None:
    Path("data").rename("elsewhere")
    Path("data").mkdir()  # such as a disk that is not mounted
    command = ("verify", "data.atlas.json", "data", "--every", "1d", "--once")
    done = run(*command)
    assert (done.returncode, b"missing" in done.stdout) == (COULD_NOT_CHECK, False)
    assert b"data.atlas.json: none of its 5 paths is in data" in done.stderr
    Path("data").rmdir()
    Path("elsewhere").rename("data")
    assert run(*command).returncode == HOLDS


def test_the_state_is_no_part_of_the_folder_and_a_damaged_one_is_of_no_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "data"))
    (folder / "data" / "atlas12288").mkdir(mode=0o700)
    assert once()[0] == HOLDS
    (state,) = Path("data/atlas12288").glob("*.rotation")
    assert state.stat().st_mode & 0o777 == 0o600
    for text in (b"{", b"[]", b'{"type": "other"}', b'{"type": "atlas12288/rotation/v1"}'):
        state.write_bytes(text)
        done = run("verify", "data.atlas.json", "--every", "1d", "--once")
        assert done.returncode == HOLDS
        assert b"goes on without a state" in done.stderr
        assert b"damaged" in done.stderr or b"type is 'other'" in done.stderr


def test_options_that_do_not_fit_are_refused(folder: Path) -> None:
    assert run("witness", "data/a", "-o", "a.json").returncode == HOLDS
    for arguments, text in (
        (("data.atlas.json", "--once"), b"--once makes one of the passes of --every"),
        (("data.atlas.json", "--rate", "1MB/s", "--threads", "2"), b"not with --threads"),
        (("data.atlas.json", "--every", "1d", "--fail-fast"), b"not with --every"),
        (("-", "data", "--every", "1d"), b"not standard input"),
        (("a.json", "data/a", "--every", "1d"), b"--every is for manifests and signatures"),
        (("a.json", "data/a", "--every", "1d"), b"is a witness file: make a manifest of a folder"),
        (("a.json", "data/a", "--rate", "1MB/s"), b"--rate is for manifests"),
        (("data.atlas.json", "--every", "day"), b"a number above 0"),
    ):
        done = run("verify", *arguments, input=Path("data.atlas.json").read_bytes())
        assert done.returncode == COULD_NOT_CHECK
        assert text in b" ".join(done.stderr.split()), done.stderr
    done = run("verify", "missing.atlas.json", "--every", "1d")
    assert done.returncode == COULD_NOT_CHECK


def test_ctrl_c_in_a_sleep_ends_a_comparison_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rated, "sleep", interrupted)
    manifest = Manifest.from_json(Path("data.atlas.json").read_bytes())
    with nothing_left(), pytest.raises(KeyboardInterrupt):
        verify_manifest(manifest, rated.RatedSource(open_source("data"), 1))


def test_a_plain_comparison_takes_a_rate_too(folder: Path) -> None:
    assert run("verify", "data.atlas.json", "--rate", "1TB/s").returncode == HOLDS


# --- what goes wrong between passes and in them ---

PASS = ("verify", "data.atlas.json", "data", "--every")


def state_of(folder: Path) -> Path:
    (state,) = (folder / "state" / "atlas12288").glob("*.rotation")
    return state


@pytest.mark.parametrize("empty", [False, True])
def test_a_root_that_vanishes_is_said_once_until_it_is_back(folder: Path, empty: bool) -> None:
    with start(*PASS, "0.05s") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while b"matches" not in process.stdout.readline():
            assert process.poll() is None
        Path("data").rename("elsewhere")
        if empty:  # a disk that is not mounted
            Path("data").mkdir()
        said = process.stderr.readline()
        for _ in range(2):  # each is a pass that was written down as begun again
            before = state_of(folder).stat().st_ino
            while state_of(folder).stat().st_ino == before:
                assert process.poll() is None
        if empty:
            Path("data").rmdir()
        Path("elsewhere").rename("data")
        flip("a")
        while b"a: changed" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == INTERRUPTED
        assert (b"none of its 5 paths" if empty else b"data: No such file") in said
        assert said not in process.stderr.read()


def test_after_a_pass_that_could_not_be_made_the_next_try_is_not_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def wait_until(due: float) -> None:
        waits.append(due - time.time())
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(verify_rotation, "_wait_until", wait_until)
    Path("data").rename("elsewhere")
    wanted = options_of("data.atlas.json", "data", every=86400.0)
    with pytest.raises(KeyboardInterrupt):
        verify_rotation.verify(wanted)
    assert all(50 < wait <= 60 for wait in waits), waits


def options_of(manifest: str, root: str | None, **options: Any) -> VerifyOptions:
    given = dict.fromkeys(VerifyOptions._fields[:10], None) | VerifyOptions._field_defaults
    given |= {"manifest": manifest, "root": root, "quiet": False, "as_json": False}
    return VerifyOptions(**(given | options))


def test_of_two_runs_at_once_one_makes_the_pass(folder: Path) -> None:
    flip("a")
    with start(*PASS, "1d", "--once", "--rate", "200kB/s") as first:  # half a minute
        assert first.stdout is not None
        while b"a: changed" not in first.stdout.readline():
            assert first.poll() is None
        while b'"told"' not in state_of(folder).read_bytes().partition(b"\n")[2]:
            assert first.poll() is None
        second = run(*PASS, "1d", "--once", "--json")
        assert second.returncode == DOES_NOT_HOLD  # as far as is known
        waits = json.loads(second.stdout)
        assert (waits["event"], waits["next"], waits["holds"]) == ("wait", None, False)
        assert b"data: another run makes a pass; 1 difference" in run(*PASS, "1d", "--once").stdout
        first.kill()
    done = run(*PASS, "1d", "--once")
    assert (done.returncode, b"goes on with the pass" in done.stdout) == (DOES_NOT_HOLD, True)
    assert b"a: changed" not in done.stdout


def test_while_the_first_pass_of_all_runs_nothing_is_known_to_hold(folder: Path) -> None:
    with start(*PASS, "1d", "--once", "--rate", "200kB/s") as first:
        state = folder / "state" / "atlas12288"
        while not any(each.stat().st_size for each in state.glob("*.rotation")):
            assert first.poll() is None
        done = run(*PASS, "1d", "--once", "--json")
        assert done.returncode == COULD_NOT_CHECK
        assert json.loads(done.stdout)["holds"] is None
        first.kill()


DAMAGES = {
    "a time that is infinite": {"began": float("inf")},
    "a time that is none": {"began": float("nan")},
    "a time before all times": {"began": -1e300},
    "a number that is infinite": {"number": float("inf")},
    "a number of no pass": {"number": 0},
    "a number that is a bool": {"number": True},
    "a list of what was told": {"told": []},
    "too little of what was told": {"told": {"61": ["a", "changed"]}},
    "a kind that is none": {"told": {"61": ["a", ["changed"], 1]}},
    "a path that is no hex": {"done": "a"},
    "a path that is no text": {"done": 97},
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_state_that_was_tampered_with_is_of_no_use_and_the_pass_is_made(
    folder: Path, name: str
) -> None:
    assert run(*PASS, "1d", "--once").returncode == HOLDS
    flip("a")
    state = state_of(folder)
    state.write_text(json.dumps(json.loads(state.read_text()) | DAMAGES[name]))
    done = run(*PASS, "1d", "--once")
    assert done.returncode == DOES_NOT_HOLD
    assert b"a: changed" in done.stdout
    assert b"it is damaged" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("ended", [4e9, None])
def test_a_pass_of_a_clock_that_was_ahead_does_not_put_off_the_next_one(
    folder: Path, ended: float | None
) -> None:
    assert run(*PASS, "1d", "--once").returncode == HOLDS
    flip("a")
    state = state_of(folder)
    kept = json.loads(state.read_text()) | {"began": 4e9, "ended": ended}
    state.write_text(json.dumps(kept))
    done = run(*PASS, "1d", "--once")
    assert (done.returncode, b"a: changed" in done.stdout) == (DOES_NOT_HOLD, True)
    assert json.loads(state.read_text())["began"] < 4e9


def test_what_a_pass_told_before_it_was_interrupted_is_told_no_more_once_it_is_mended(
    folder: Path,
) -> None:
    Path("data/added").write_bytes(b"1")
    Path("data/aa").rename("elsewhere")
    assert once()[0] == DOES_NOT_HOLD
    state = state_of(folder)
    kept = json.loads(state.read_text())
    state.write_text(json.dumps(kept | {"ended": None, "done": b"c".hex()}))  # all was read
    Path("data/added").unlink()
    Path("elsewhere").rename("data/aa")
    code, (whole,) = events()
    assert (code, whole["counts"]["missing"], whole["counts"]["added"]) == (HOLDS, 0, 0)


def test_a_step_of_a_pass_writes_no_more_the_more_was_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = _rotation._write
    monkeypatch.setattr(
        _rotation, "_write", lambda file, text: (sizes.append(len(text)), write(file, text))
    )
    rotation = _rotation.Rotation("data.atlas.json", "0", "data")
    rotation.begin()
    differences = [Difference(b"%04d" % number, "missing") for number in range(1000)]
    for each in differences:
        assert rotation.is_new(each)
        rotation.note(each)
    rotation.done = b"0500"
    rotation.step()
    rotation.close()
    assert len(sizes) == 1002
    assert max(sizes) < 300
    again = _rotation.Rotation("data.atlas.json", "0", "data")
    assert (again.told, again.done) == (rotation.told, b"0500")
    assert not any(map(again.is_new, differences))
    again.close()


@pytest.mark.parametrize(
    "torn", [b'\n{"told": {"61', b"\n{}", b"\n[]", b"\n\xff", b'\n{"done": 3}']
)
def test_a_line_that_was_not_written_to_its_end_spoils_no_other(folder: Path, torn: bytes) -> None:
    rotation = _rotation.Rotation("data.atlas.json", "0", "data")
    rotation.begin()
    rotation.note(Difference(b"a", "missing"))
    with state_of(folder).open("ab") as file:
        file.write(torn)
    rotation.close()
    again = _rotation.Rotation("data.atlas.json", "0", "data")
    assert (again.problem, again.told) == (None, rotation.told)
    again.close()


def test_a_disk_that_becomes_full_is_said_and_the_pass_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write = _rotation._write
    calls = 0

    def full(file: int, text: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, text)

    monkeypatch.setattr(_rotation, "_write", full)
    flip("a")
    flip("c")
    wanted = options_of("data.atlas.json", "data", every=86400.0, once=True, quiet=True)
    assert verify_rotation.verify(wanted) == DOES_NOT_HOLD
    said = capfd.readouterr().err
    assert said.count("goes on without a state") == 1
    assert "No space left on device" in said
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.chdir(folder)
    done = run(*PASS, "1d", "--once")  # the pass is not known to have ended
    assert (done.returncode, b"2 changed" in done.stdout) == (DOES_NOT_HOLD, True)


KILLED = """
import os, signal, sys
from atlas12288._cli.commands import verify, verify_rotation
from atlas12288._cli.program import run
from atlas12288.manifest import _arguments, _rotation, _verify
from atlas12288.manifest._sources import folder

left = 0

def killed_at_its_turn(call):
    def step(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return step

_rotation._write = killed_at_its_turn(_rotation._write)
os.replace = killed_at_its_turn(os.replace)
for turn in sys.stdin:
    output, left = turn.split()
    left = int(left)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
        code = run(sys.argv[1:])
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_pass_that_is_killed_at_any_step_misses_nothing_and_tells_hardly_anything_twice(
    folder: Path,
) -> None:
    for name in ("a", "c"):
        flip(name)
    Path("data/b/x").unlink()
    command = (sys.executable, "-c", KILLED, *PASS, "1d", "--once", "--json")
    steps = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None
        code = -signal.SIGKILL
        while code < 0:
            events = []
            for turn, left in enumerate((steps, 1000, 1000)):  # killed, to its end, not due
                output = folder / f"{steps}.{turn}"
                forks.stdin.write(f"{output} {left}\n".encode())
                forks.stdin.flush()
                code = int(forks.stdout.readline()) if turn == 0 else code
                assert turn == 0 or int(forks.stdout.readline()) == DOES_NOT_HOLD
                events += list(map(json.loads, output.read_text().splitlines()))
            told = [each["differences"][0]["path"] for each in events if "time" in each]
            assert set(told) == {"a", "b/x", "c"}
            # One that was told and not yet written down is told again.
            assert len(told) <= 4
            assert events[-1]["event"] == "wait"
            assert (events[-1]["counts"]["changed"], events[-1]["counts"]["missing"]) == (2, 1)
            state_of(folder).unlink()
            steps += 1
    assert steps >= 9  # begin, 3 differences, their places, end
