# SPDX-License-Identifier: Apache-2.0
"""Disks that are full, that fail, and that hold a million files."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.c_fixtures import run as run_tool
from support.commandline import COULD_NOT_CHECK, HOLDS, PROGRAM, run

DISK_BYTES = 64 * 1024
WINDOWS = 3000  # their leaves have 96,000 bytes
CHUNK_BYTES = 64 * 12288

KILLED_WITH_A_DISK = """
import os, signal, sys
from pathlib import Path
from support.mounts import keep_mounts_private, mount_disk
keep_mounts_private()
folder = Path(sys.argv[1])
mount_disk(folder, 4096)
assert folder.is_mount()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_tests_leave_no_disk_behind(private_mounts: None, tmp_path: Path) -> None:
    """The next run of pytest deletes their folders, and cannot delete one that is mounted on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    tests = Path(__file__).parents[1]
    killed = (sys.executable, "-c", KILLED_WITH_A_DISK, str(folder))
    done = subprocess.run(killed, cwd=tests, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not folder.is_mount()
    folder.rmdir()


def test_a_full_disk_leaves_the_old_files(disk: Path, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"a")
    large.write_bytes(bytes(WINDOWS * 12288))
    output = disk / "out.json"
    assert run("witness", "--tree", small, "-o", output).returncode == HOLDS
    before = {path: path.read_bytes() for path in disk.iterdir()}
    assert len(before) == 2
    done = run("witness", "--tree", large, "-o", output)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode() == f"atlas12288: {output}: No space left on device\n"
    assert {path: path.read_bytes() for path in disk.iterdir()} == before


@pytest.mark.parametrize("free", range(0, 4096 * 4, 4096))
def test_a_disk_that_has_little_left(disk: Path, tmp_path: Path, free: int) -> None:
    """The old file or the new one, and exit code 0 for the new one only."""
    inputs = tmp_path / "a"
    inputs.write_bytes(b"a")
    output = disk / "out.json"
    assert run("witness", inputs, "-o", output).returncode == HOLDS
    before = output.read_text()
    (disk / "filler").write_bytes(bytes(DISK_BYTES - 4096 - free))
    done = run("witness", *[inputs] * 20, "-o", output)
    assert done.returncode in (HOLDS, COULD_NOT_CHECK)
    assert (output.read_text() == before) == (done.returncode == COULD_NOT_CHECK)
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "out.json"]


@pytest.fixture(scope="module")
def failing_read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("failing_read") / "failing_read.so"
    source = Path(__file__).with_name("failing_read.c")
    run_tool("cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl")
    return library


@pytest.mark.parametrize("bad_from", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
@pytest.mark.parametrize(
    "command",
    [("check",), ("check", "--windows"), ("sum",), ("witness",), ("witness", "--tree")],
    ids=" ".join,
)
def test_a_read_that_fails_is_no_verdict(
    tmp_path: Path, failing_read: Path, command: tuple[str, ...], bad_from: int
) -> None:
    bad, good, output = tmp_path / "bad", tmp_path / "good", tmp_path / "out"
    bad.write_bytes(bytes(3 * CHUNK_BYTES))
    good.write_bytes(bytes(96))
    environment = os.environ | {
        "LD_PRELOAD": str(failing_read),
        "FAILING_FILE": str(bad),
        "FAILING_FROM": str(bad_from),
    }
    done = run(*command, bad, good, env=environment)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode() == f"atlas12288: {bad}: Input/output error\n"
    lines = done.stdout.decode().splitlines()
    assert str(good) in lines[-1]
    if command[0] == "witness":
        found = [json.loads(line) for line in lines]
        assert [line["file"] for line in found] == [str(bad), str(good)]
        assert [line["witness"] is None for line in found] == [True, False]
        done = run(*command, bad, good, "-o", output, env=environment)
        assert done.returncode == COULD_NOT_CHECK
        assert sorted(tmp_path.iterdir()) == [bad, good]
    else:
        assert str(bad) not in done.stdout.decode() or command == ("check", "--windows")


def test_leaves_that_cannot_be_read_are_an_error(tmp_path: Path, failing_read: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "out.json"
    data.write_bytes(bytes(WINDOWS * 12288))
    assert run("witness", "--tree", data, "-o", output).returncode == HOLDS
    leaves = tmp_path / "out.json.atlas.leaves"
    environment = os.environ | {
        "LD_PRELOAD": str(failing_read),
        "FAILING_FILE": str(leaves),
        "FAILING_FROM": "1000",
    }
    done = run("locate", output, data, env=environment)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == b""
    assert done.stderr.decode() == f"atlas12288: {leaves}: Input/output error\n"


def test_a_file_that_nobody_can_read() -> None:
    """Of a regular file, by the system itself."""
    done = run("sum", "/proc/self/mem")
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: /proc/self/mem: Input/output error\n"


def test_a_million_files(tmp_path: Path) -> None:
    for folder in range(1000):
        (tmp_path / f"{folder}").mkdir()
        for file in range(1000):
            descriptor = os.open(tmp_path / f"{folder}/{file}", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, b"%d" % (1000 * folder + file))
            os.close(descriptor)

    def sums(*command: str) -> bytes:
        find = subprocess.Popen(
            ("find", ".", "-type", "f", "-print0"), cwd=tmp_path, stdout=subprocess.PIPE
        )
        # As many names at once as the system takes.
        xargs = ("xargs", "-0", "-s", "2000000", *command)
        done = subprocess.run(
            xargs, cwd=tmp_path, stdin=find.stdout, stdout=subprocess.PIPE, check=True
        )
        assert find.wait() == 0
        return done.stdout

    ours = sums(*PROGRAM, "sum")
    assert ours.count(b"\n") == 1_000_000
    assert ours == sums("sha256sum")
