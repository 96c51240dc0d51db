# SPDX-License-Identifier: Apache-2.0
"""Runs that make a manifest are killed at random moments, and meet full disks and a million files:
the result is the same as without interruption, or there is none and one error says why."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest import _store as store
from support import manifest_runs
from support.manifest_runs import KILLED

MOMENTS = 60
DISK_BYTES = 256 * 1024


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some thousand files of all sizes, old enough to be trusted."""
    folder = tmp_path_factory.mktemp("data")
    sizes = random.Random(1)
    for index in range(4000):
        (folder / f"{index % 50}").mkdir(exist_ok=True)
        size = int(2 ** sizes.uniform(0, 18))
        path = folder / f"{index % 50}" / f"{index}"
        path.write_bytes(random.Random(index).randbytes(size))
    for index in range(2):
        (folder / f"huge{index}").write_bytes(os.urandom(100 * BLOCK_BYTES + index))
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10 * store.RACY_NS))
    return folder


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "no-flat"])
def test_runs_killed_at_random_moments_end_with_the_same_bytes(
    data: Path, tmp_path: Path, flat: bool
) -> None:
    """Also while the outputs are written, and in the cleaning up after that."""
    whole = tmp_path / "whole"
    begin = time.monotonic()
    assert manifest_runs.start(data, whole, reads=0, flat=flat).wait() == 0
    usual = time.monotonic() - begin
    expected = whole.read_bytes()
    leaves = Path(f"{whole}.leaves").read_bytes()
    moments = random.Random(flat)
    kills = chains = 0
    output = tmp_path / "killed"
    while kills < MOMENTS:
        process = manifest_runs.start(data, output, reads=0, flat=flat)
        time.sleep(moments.uniform(0.1, 0.6) * usual)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == KILLED:
            kills += 1
            if output.exists():  # of the run before, or of this one
                assert output.read_bytes() == expected
        else:
            assert process.returncode == 0
            chains += 1
            assert output.read_bytes() == expected
            assert Path(f"{output}.leaves").read_bytes() == leaves
    assert manifest_runs.start(data, output, reads=0, flat=flat).wait() == 0
    assert output.read_bytes() == expected
    assert Path(f"{output}.leaves").read_bytes() == leaves
    print(f"{kills} kills, {chains} runs that ended")
    assert chains > 0


RUN = """
import sys
from atlas12288._files import FileError
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._generate import generate_manifest, read_options
source = Folder(sys.argv[1])
output, state = sys.argv[2:]
try:
    if state:
        generate_manifest(source, read_options(source, tree=True), output, state=state,
                          leaves=output + ".leaves")
    else:
        generate_manifest(source, read_options(source), output, state=True)
except FileError as error:
    print(error)
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


def run(folder: Path, output: Path, state: Path | None) -> tuple[str, int]:
    """What it prints, and the most memory that it had in KiB. With a state of that name it makes
    trees and leaves, and keeps files in the database; without one, siblings in order."""
    done = subprocess.run(
        (sys.executable, "-c", RUN, str(folder), str(output), str(state or "")),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, int(done.stderr)


@pytest.mark.parametrize("full", ["state", "output", "both"])
def test_a_full_disk_is_one_error_and_no_manifest(
    data: Path, disk: Path, tmp_path: Path, full: str
) -> None:
    output = (tmp_path if full == "state" else disk) / "out.json"
    state = (tmp_path if full == "output" else disk) / "out.state"
    if full == "state":
        (disk / "more").write_bytes(bytes(DISK_BYTES - 2**12))
    said, _ = run(data, output, state)
    reason = "No space left on device\n"
    assert said in (reason, f"the state {state} cannot be used: {reason}")
    if full != "both":
        assert said.startswith("the state") == (full == "state")
    assert not output.exists()
    # The leaves under way, with which the next run goes on.
    left = list(output.parent.glob(".atlas12288-*"))
    assert len(left) == (state.exists() and b"sidecar" in state.read_bytes())


def test_a_million_files_take_little_memory(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for index in range(1_000_000):
        if index % 1000 == 0:
            (folder / f"{index // 1000}").mkdir(parents=True)
        path = os.fsencode(folder / f"{index // 1000}" / f"{index % 1000}")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"%d" % index)
        os.close(descriptor)
    few = tmp_path / "few"
    few.mkdir()
    (few / "a").write_bytes(b"1")
    for state in (tmp_path / "out.state", None):
        _, alone = run(few, tmp_path / "few.json", state and tmp_path / "few.state")
        said, peak = run(folder, tmp_path / "out.json", state)
        assert said == ""
        assert peak - alone < 64 * 1024
        lines = [sum(1 for _ in (tmp_path / name).open("rb")) for name in ("few.json", "out.json")]
        assert lines[1] - lines[0] == 999_999
        (tmp_path / "few.json").unlink()
        (tmp_path / "out.json").unlink()
