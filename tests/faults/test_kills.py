# SPDX-License-Identifier: Apache-2.0
"""The command line is killed, or stopped by Ctrl-C, at random moments while it writes: an output
file is the old one or the new one, never a part, and what is left beside it does no harm."""

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from support.commandline import HOLDS, INTERRUPTED, TIMEOUT_S, run, start

MOMENTS = 100
INPUTS = 300
BYTES = 2 * 12288 + 1


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "inputs"
    folder.mkdir()
    paths = [folder / f"{index}" for index in range(INPUTS)]
    for index, path in enumerate(paths):
        path.write_bytes(random.Random(index).randbytes(BYTES))
    return paths


def without_times(witnesses: bytes) -> list[object]:
    lines = witnesses.decode().splitlines()
    found = [json.loads(line) for line in lines]
    for line in found:
        del line["witness"]["timestamp"]
    return found


def stopped_at_random(
    with_signal: signal.Signals, command: list[str | Path], output: Path
) -> Counter[str]:
    """Runs the command until it was stopped `MOMENTS` times, at moments from its start to its end;
    how many of these runs left the old output and how many the new one."""
    random_moments = random.Random(with_signal)
    found: Counter[str] = Counter()
    begin = time.monotonic()
    assert run(*command).returncode == HOLDS
    usual = time.monotonic() - begin
    whole = output.read_bytes()
    while found.total() < MOMENTS:
        old = output.read_bytes()
        process = start(*command)
        time.sleep(usual * random_moments.uniform(0, 1.2))
        process.send_signal(with_signal)
        _, error = process.communicate(timeout=TIMEOUT_S)
        new = output.read_bytes()
        assert without_times(new) == without_times(whole)
        if process.returncode == HOLDS:
            continue  # it ended before
        found["old" if new == old else "new"] += 1
        if with_signal == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        elif process.returncode == INTERRUPTED:
            assert b"Traceback" not in error, error.decode()
        else:
            # While Python imports us, and when it is about to end, it does so in its own two ways.
            assert process.returncode in (-signal.SIGINT, 1), error.decode()
    return found


@pytest.mark.parametrize("tree", [False, True], ids=["witness", "tree"])
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_an_output_is_the_old_or_the_new_one(
    tmp_path: Path, inputs: list[Path], with_signal: signal.Signals, tree: bool
) -> None:
    output = tmp_path / "out" / "files.json"
    output.parent.mkdir()
    option = ["--tree"] if tree else []
    found = stopped_at_random(with_signal, ["witness", *option, *inputs, "-o", output], output)
    print(dict(found))
    assert found["old"] > 0
    leaves = output.with_name("files.json.atlas.leaves")
    stale = set(output.parent.iterdir()) - {output, leaves}
    print(f"{len(stale)} temporary files left")
    assert all(path.name.startswith(".atlas12288-") for path in stale)
    if with_signal == signal.SIGINT:
        assert stale == set()
    # They are no obstacle to the next run, and it does not touch them: another may be at work.
    assert run("witness", *option, *inputs, "-o", output).returncode == HOLDS
    assert stale <= set(output.parent.iterdir())
    assert run("verify", output, *inputs).returncode == HOLDS
