# SPDX-License-Identifier: Apache-2.0
"""The command line when the outside world misbehaves."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from atlas12288._files import CHUNK_BYTES
from support.commandline import (
    COULD_NOT_CHECK,
    HOLDS,
    INTERRUPTED,
    TIMEOUT_S,
    before_read,
    interrupt_as_it_waits,
    peak_kib,
    run,
    run_on_terminal,
    run_without_rights,
    sparse_file,
    start,
    wait_until_read,
)
from support.files import REFUSED

GIB = 2**30
READERS = (  # verify, delta: see below
    *(("check",), ("check", "--windows"), ("witness",), ("witness", "--tree"), ("sum",)),
)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good"
    path.write_bytes(b"\0" * 96)
    return path


@pytest.mark.parametrize(
    ("command", "kind", "reason"),
    [
        (command, kind, reason)
        for command in READERS
        for kind, (_, reason) in REFUSED.items()
        if (command[0], kind) != ("witness", "directory")  # that makes a manifest
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_bad_files_are_named_and_the_others_done(
    tmp_path: Path, good: Path, command: tuple[str, ...], kind: str, reason: str
) -> None:
    bad = tmp_path / "bad"
    make, _ = REFUSED[kind]
    make(bad)
    done = run(*command, bad, good)
    assert done.returncode == COULD_NOT_CHECK
    errors = done.stderr.decode().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(f"atlas12288: {bad}: {reason}")
    alone = run(*command, good)
    assert alone.returncode == HOLDS
    alone_text, text = (
        re.sub(r'"timestamp": "[^"]*"', "", each.stdout.decode()) for each in (alone, done)
    )
    # In a list of witnesses the line also has the name of its file.
    assert (
        alone_text.strip() in text.splitlines()[-1]
        if command[0] == "witness"
        else (text.endswith(alone_text))
    )


def test_bad_files_in_verify_and_delta(tmp_path: Path, good: Path) -> None:
    witness = run("witness", good).stdout
    done = run("verify", "-", tmp_path, good, "/dev/zero", input=witness * 3)
    assert done.returncode == COULD_NOT_CHECK
    note, *errors = done.stderr.decode().splitlines()
    assert note.startswith("atlas12288: -: has no names of files")
    assert len(errors) == 2
    assert done.stdout.decode() == (
        f"{good}: matches its witness\n"
        "-: its files could not be checked; 3 files: 0 changed, 2 unreadable\n"
    )
    assert run("verify", tmp_path, good).returncode == COULD_NOT_CHECK
    done = run("delta", "/dev/zero", tmp_path)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.count(b"\n") == 2
    assert done.stdout == b""


def test_an_unreadable_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    (folder / "secret").write_bytes(b"secret")
    (folder / "secret").chmod(0)
    (folder / "open").write_bytes(b"\0")
    (folder / "open").chmod(0o644)
    done = run_without_rights(folder, ("check", "open"), "check", "secret", "open")
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: secret: Permission denied\n"
    assert done.stdout == 2 * b"open: 1 byte, residue 0, conserved\n"


@pytest.mark.parametrize("change", ["shrinks", "grows"])
def test_a_file_that_changes_size_under_a_running_read(
    tmp_path: Path, good: Path, change: str
) -> None:
    big = sparse_file(tmp_path / "big", 4 * CHUNK_BYTES)
    size = CHUNK_BYTES if change == "shrinks" else 4 * CHUNK_BYTES + 1
    disturbed = before_read(2, f"os.truncate({str(big)!r}, {size})")
    done = run("witness", big, good, before=disturbed)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode().startswith(f"atlas12288: {big}: changed while it was read")
    first, second = done.stdout.decode().splitlines()
    assert json.loads(first) == {"file": str(big), "witness": None}
    assert '"length":96' in second.replace(" ", "")


@pytest.mark.slow
@pytest.mark.parametrize("command", [("sum",), ("check", "--windows")], ids=" ".join)
def test_memory_is_constant(tmp_path: Path, command: tuple[str, ...]) -> None:
    big = sparse_file(tmp_path / "big", GIB // 4)

    assert peak_kib(*command, str(big)) - peak_kib() <= 64 * 1024


def test_ctrl_c_leaves_nothing(tmp_path: Path, good: Path) -> None:
    big = sparse_file(tmp_path / "big", 64 * GIB)
    output = tmp_path / "out"
    assert run("witness", good, "-o", output).returncode == HOLDS
    before = output.read_text()
    process = start("witness", good, big, "-o", output)
    wait_until_read(process, 2**26)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == INTERRUPTED
    assert out == b""
    assert b"Traceback" not in err
    assert output.read_text() == before
    assert sorted(tmp_path.iterdir()) == sorted([good, big, output])


@pytest.mark.parametrize("command", ["check", "sum"])
def test_ctrl_c_while_waiting_for_input(command: str) -> None:
    process = start(command, "-", stdin=subprocess.PIPE)
    interrupt_as_it_waits(process, b"some")


@pytest.mark.parametrize("delay_ms", [0, 1, 3, 10, 30])
def test_ctrl_c_in_the_middle_of_the_output(good: Path, delay_ms: int) -> None:
    process = start("sum", *[good] * 20_000)
    assert process.stdout is not None
    assert process.stdout.readline().endswith(b"good\n")
    time.sleep(delay_ms / 1000)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in err


def test_a_kill_leaves_the_old_file_and_no_obstacle(tmp_path: Path, good: Path) -> None:
    """tests/faults does it at many moments."""
    big = sparse_file(tmp_path / "big", 64 * GIB)
    output = tmp_path / "out"
    assert run("witness", good, "-o", output).returncode == HOLDS
    before = output.read_text()
    process = start("witness", good, big, "-o", output)
    wait_until_read(process, 2**26)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    assert output.read_text() == before
    (left,) = set(tmp_path.iterdir()) - {good, big, output}
    assert re.fullmatch(r"\.atlas12288-[0-9a-f]{16}\.tmp", left.name)
    assert run("witness", good, "-o", output).returncode == HOLDS
    assert run("verify", output, good).returncode == HOLDS
    assert left.exists()


def test_a_read_that_fails_is_an_error(good: Path) -> None:
    # A regular file whose first byte nobody can read; tests/faults has failures at other places.
    done = run("sum", "/proc/self/mem", good)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: /proc/self/mem: Input/output error\n"
    assert done.stdout.count(b"\n") == 1


@pytest.mark.parametrize("name", [b"new\nline", b"bad\xffutf8", b"a\\b", b" "], ids=repr)
def test_an_output_with_a_name_of_any_bytes(tmp_path: Path, good: Path, name: bytes) -> None:
    output = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    assert run("witness", "--tree", good, "-o", output).returncode == HOLDS
    assert run("locate", output, good).returncode == HOLDS
    leaves = os.fsencode(output) + b".atlas.leaves"
    assert set(tmp_path.iterdir()) == {good, output, Path(os.fsdecode(leaves))}


def test_an_output_in_a_loop_of_links_is_refused(tmp_path: Path, good: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for output in loop, loop / "out":
        done = run("witness", good, "-o", output)
        assert done.returncode == COULD_NOT_CHECK
        assert b"Traceback" not in done.stderr
    assert loop.is_symlink()
    assert sorted(tmp_path.iterdir()) == [good, loop]


def test_thousands_of_files(tmp_path: Path) -> None:
    """More than a process may have open; tests/faults has a million."""
    names = [f"{index}" for index in range(1500)]
    for name in names:
        (tmp_path / name).write_text(name)
    done = run("witness", *names, "-o", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    done = run("verify", "out", *names, cwd=tmp_path)
    assert done.returncode == HOLDS
    *lines, totals = done.stdout.decode().splitlines()
    assert lines == [f"{name}: matches its witness" for name in names]
    assert totals == "out: its files match; 1,500 files: 0 changed, 0 unreadable"


# --- Progress ---


def feed_slowly(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    for _ in range(3):
        process.stdin.write(bytes([1]) * 2**21)
        process.stdin.flush()
        time.sleep(0.7)
    process.stdin.close()
    process.stdin = None  # communicate() would flush it


@pytest.mark.slow
def test_work_over_a_second_shows_a_bar_on_a_terminal_and_nowhere_else() -> None:
    code, terminal, done = run_on_terminal("check", "-", streams=("stderr",), feed=feed_slowly)
    assert code == HOLDS
    assert "/s" in terminal  # bytes per second
    assert terminal.rindex("\x1b[?25h") > terminal.rindex("\x1b[?25l")  # the cursor is back
    assert done.stdout == b"-: 6291456 bytes, residue 0, conserved\n"
    code, terminal, done = run_on_terminal("check", "-", streams=("stdout",), feed=feed_slowly)
    assert done.stderr == b""
    code, terminal, done = run_on_terminal("check", "-", feed=feed_slowly)
    assert terminal.endswith("-: 6291456 bytes, residue 0, \x1b[32mconserved\x1b[0m\n")


def test_quick_work_shows_no_bar(good: Path) -> None:
    code, terminal, _ = run_on_terminal("check", good, streams=("stderr",))
    assert (code, terminal) == (HOLDS, "")
