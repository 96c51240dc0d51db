# SPDX-License-Identifier: Apache-2.0
"""Runs the installed command line in processes of its own, as a user does."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PROGRAM = (sys.executable, "-m", "atlas12288")
HOLDS, DOES_NOT_HOLD, COULD_NOT_CHECK, INTERRUPTED = 0, 1, 2, 130
TIMEOUT_S = 180  # a hang, also on a machine with other work


def run(
    *arguments: str | bytes | Path,
    input: bytes | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    umask: int = -1,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end; the options are those of subprocess.run."""
    return subprocess.run(
        (*PROGRAM, *arguments),
        input=input,
        stdin=None if input is not None else stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        umask=umask,
        timeout=TIMEOUT_S,
        check=False,
    )


# Its arguments: a folder for what the commands print, then the commands, each after its length.
_FORKS = """
import os, sys
from atlas12288._cli import main
folder, *words = sys.argv[1:]
index = 0
while words:
    count = int(words[0])
    command, words = words[1 : count + 1], words[count + 1 :]
    child = os.fork()
    if child == 0:
        for descriptor in (1, 2):
            file = os.open(f"{folder}/{index}.{descriptor}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.dup2(file, descriptor)
        sys.exit(main(command))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    index += 1
"""


def run_each(
    commands: Sequence[Sequence[str | bytes]], env: Mapping[str, str] | None = None
) -> list[subprocess.CompletedProcess[bytes]]:
    """Run commands to their ends, each in a fork of one process that imported the package once.

    An interpreter's start is nearly all the time of a short command.
    """
    words = [word for command in commands for word in (str(len(command)), *command)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            (sys.executable, "-c", _FORKS, folder, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=env,
            timeout=TIMEOUT_S,
            check=True,
        )
        codes = [int(line) for line in done.stdout.splitlines()]
        assert len(codes) == len(commands)
        printed = [
            [Path(folder, f"{index}.{descriptor}").read_bytes() for descriptor in (1, 2)]
            for index in range(len(commands))
        ]
    return [
        subprocess.CompletedProcess(command, code, *texts)
        for command, code, texts in zip(commands, codes, printed, strict=True)
    ]


def bash(script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script of bash, in which a command may stand for a file; see `needs`."""
    return subprocess.run(
        ("bash", "-c", script), capture_output=True, timeout=TIMEOUT_S, check=False
    )


def name_in(item: Mapping[str, Any], key: str) -> bytes:
    """The bytes of a name in JSON."""
    return bytes.fromhex(item[f"{key}Hex"]) if f"{key}Hex" in item else item[key].encode()


def files_in(output: bytes | str) -> list[dict[str, Any]]:
    """The list `files` of the report that a command printed as JSON."""
    report = json.loads(output)
    assert report["type"] == "atlas12288/report/v1"
    files: list[dict[str, Any]] = report["files"]
    verdicts = [each.get("holds") for each in files]
    expected = False if False in verdicts else None if None in verdicts else True
    assert report["holds"] is expected
    assert report["counts"]["files"] == len(files)
    return files


def ranges(*found: Iterable[int]) -> list[dict[str, int]]:
    """Ranges of bytes as they are in JSON."""
    return [dict(zip(("start", "end"), each, strict=True)) for each in found]


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a command that a test disturbs while it runs."""
    # SIGINT is ignored in what a shell runs in the background, and that is inherited.
    return subprocess.Popen(
        (*PROGRAM, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 no threads
        **options,
    )


def _wait_until(process: subprocess.Popen[bytes], done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be disturbed"
        if done():
            return
        time.sleep(0.001)
    raise AssertionError(f"{what} not read in {TIMEOUT_S} s")


def wait_until_read(process: subprocess.Popen[bytes], count: int) -> None:
    """Waits until the process has read `count` bytes: then it is at work on its file."""

    def done() -> bool:
        match = re.search(r"rchar: (\d+)", Path(f"/proc/{process.pid}/io").read_text())
        assert match is not None
        return int(match[1]) >= count

    _wait_until(process, done, f"{count} bytes were")


def wait_until_taken(process: subprocess.Popen[bytes]) -> None:
    """Waits until the process has read all that was written to its standard input."""
    pipe = process.stdin
    assert pipe is not None

    def done() -> bool:
        count = bytearray(4)
        fcntl.ioctl(pipe, termios.FIONREAD, count)
        return count == bytes(4)

    _wait_until(process, done, "standard input was")


def run_on_terminal(
    *arguments: str | Path,
    streams: tuple[str, ...] = ("stdout", "stderr"),
    feed: Callable[[subprocess.Popen[bytes]], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str, subprocess.CompletedProcess[bytes]]:
    """Runs a command with some of its streams on a terminal.

    Returns:
        Exit code, what the terminal got, and what the other streams got.
    """
    master, slave = pty.openpty()
    pipes = {name: slave if name in streams else subprocess.PIPE for name in ("stdout", "stderr")}
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        (*PROGRAM, *arguments),
        stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
        env=clean | {"TERM": "xterm-256color", "COLUMNS": "80"} | dict(environment or {}),
        **pipes,  # type: ignore[call-overload]
    )
    os.close(slave)
    if feed is not None:
        feed(process)
    text = bytearray()
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # EIO: the last user of the terminal has gone
            break
        if not part:
            break
        text += part
    os.close(master)
    out, err = process.communicate(timeout=TIMEOUT_S)
    done = subprocess.CompletedProcess(arguments, process.returncode, out, err)
    return process.returncode, text.decode().replace("\r\n", "\n"), done


def without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def sparse_file(path: Path, size: int) -> Path:
    """A file of zeros that needs no disk."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def peak_kib(*arguments: str) -> int:
    """The most memory that a run of the command line had, or that of Python alone without one."""
    # VmHWM, not ru_maxrss: that one begins with the memory of the parent.
    code = (
        "import sys\n"
        "if sys.argv[1:]:\n"
        "    import atlas12288._cli\n"
        "    atlas12288._cli.main(sys.argv[1:])\n"
        "status = open('/proc/self/status').read()\n"
        "sys.stderr.write(status.split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", code, *arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )
    return int(done.stderr.split()[-1])  # after what the command says


def run_without_rights(
    folder: Path, warm_up: tuple[str, ...], *arguments: str
) -> "subprocess.CompletedProcess[bytes]":
    """Runs the command line in a folder as a user who may read only what everybody may.

    Root may read everything: then the process gives up its rights, after `warm_up`, another run of
    the command line, has imported all that it needs.
    """
    code = (
        "import os, sys, atlas12288._cli\n"
        f"os.chdir({str(folder)!r})\n"
        f"atlas12288._cli.main({list(warm_up)!r})\n"
        "if os.getuid() == 0:\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"sys.exit(atlas12288._cli.main({list(arguments)!r}))\n"
    )
    return subprocess.run((sys.executable, "-c", code), capture_output=True, check=False)
