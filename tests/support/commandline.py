# SPDX-License-Identifier: Apache-2.0
"""Runs the installed command line in processes of its own, as a user does."""

import atexit
import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

PROGRAM = (sys.executable, "-m", "atlas12288")
HOLDS, DOES_NOT_HOLD, COULD_NOT_CHECK, INTERRUPTED = 0, 1, 2, 130
TIMEOUT_S = 180  # a hang, also on a machine with other work


# Gets four descriptors for each command: its standard streams, and a socket that brings the rest
# and takes the answers, its process and its exit code. The command runs in a fork, with streams as
# the interpreter opens them, after the lines of Python that `run` gets.
_FORKS = """
import atexit, gc, json, os, socket, sys, threading
from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules
from atlas12288._cli import main

# What commands import when they need it: here it is imported once. Some need other packages.
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a thread of NumPy would not be there in a fork
for name in (
    "_cli.commands", "_cli", "manifest", "manifest._hashing", "manifest._sources", "tensors"
):
    package = import_module(f"atlas12288.{name}")
    for module in iter_modules(package.__path__):
        with suppress(ImportError):
            import_module(f"{package.__name__}.{module.name}")
for name in (
    "atlas12288.signing._certificates", "difflib", "encodings.ascii", "numpy", "queue", "sqlite3"
):
    with suppress(ImportError):
        import_module(name)
exec(sys.argv[2])

from atlas12288.manifest import _store
_store.RACY_NS = 0  # as the fixture no_recent_files says

gc.collect()
gc.freeze()  # or each fork would copy all pages with objects when it collects garbage
control = socket.socket(fileno=int(sys.argv[1]))
while True:
    byte, descriptors, _, _ = socket.recv_fds(control, 1, 4)
    if not byte:
        sys.exit()
    answers = socket.socket(fileno=descriptors.pop())
    words, folder, umask, environment, code_before = json.load(answers.makefile("rb"))
    child = os.fork()
    if child == 0:
        break
    for descriptor in descriptors:
        os.close(descriptor)
    answers.sendall(b"%d\\n" % child)
    answers.sendall(b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    answers.close()

control.close()
answers.close()
for number, descriptor in enumerate(descriptors):
    os.dup2(descriptor, number)
    os.close(descriptor)
for number, name in enumerate(("stdin", "stdout", "stderr")):
    before = getattr(sys, name)
    how = {"encoding": before.encoding, "errors": before.errors, "newline": "\\n"}
    stream = open(number, "w" if number else "r", 1 if number == 2 else -1, closefd=False, **how)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
os.environ.clear()
os.environ.update(environment)
os.chdir(os.fsdecode(bytes.fromhex(folder)))
if umask >= 0:
    os.umask(umask)
sys.argv[1:] = [os.fsdecode(bytes.fromhex(word)) for word in words]
exec(code_before, {"__name__": "__main__"})
code = main()
# As the interpreter ends, but for freeing all objects, which takes longer than a short command.
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""
# Stands for the command in a line of a shell: it lets a fork run it, with its own streams.
_CLIENT = """
import json, os, socket, sys
control = socket.socket(fileno=int(os.environ.pop("FORKS")))
ours, answers = socket.socketpair()
socket.send_fds(control, [b"."], [0, 1, 2, answers.fileno()])
answers.close()
words = [os.fsencode(word).hex() for word in sys.argv[1:]]
folder = os.fsencode(os.getcwd()).hex()
ours.sendall(json.dumps((words, folder, -1, dict(os.environ), "")).encode())
ours.shutdown(socket.SHUT_WR)
_, code = ours.makefile("rb").readlines()
sys.exit(int(code))
"""
# What draws takes longer to import than all other modules of a command, and makes forks slower too.
_DRAWINGS = """
import io
from atlas12288._cli.drawings.residue_map import ResidueMap, draw
for image_format in ("png", "svg", "pdf"):
    draw([ResidueMap("")], io.BytesIO(), image_format)
"""
# What a command reads, and neither the interpreter at its start nor an import.
_READ_LATE = re.compile("PYTEST_CURRENT_TEST|XDG_STATE_HOME|NO_COLOR|COLUMNS|TERM|FAKECUDA_.*")


def _early(environment: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(item for item in environment.items() if not _READ_LATE.fullmatch(item[0]))


_ENVIRONMENT = _early(os.environ)


class _Forks:
    """Runs commands in forks of one process, which has imported all of them.

    An interpreter's start and its imports are nearly all the time of a short command.
    """

    def __init__(self, environment: Mapping[str, str], imports: str) -> None:
        self.lock = threading.Lock()  # the process waits for a command before it takes the next
        self.control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-c", _FORKS, str(theirs.fileno()), imports),
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
            )

    def close(self) -> None:
        self.control.close()
        self._process.wait(TIMEOUT_S)

    def run(
        self,
        command: Sequence[str | bytes | Path],
        *,
        input: bytes | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        env: Mapping[str, str],
        cwd: Path | None = None,
        umask: int = -1,
        before: str = "",
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end and keep what it prints; the options are those of `run`."""
        with ExitStack() as stack, ThreadPoolExecutor(3) as threads:

            def pipe() -> list[IO[bytes]]:
                modes = zip(os.pipe(), ("rb", "wb"), strict=True)
                return [stack.enter_context(os.fdopen(end, mode)) for end, mode in modes]

            def feed(text: bytes) -> None:
                with suppress(BrokenPipeError), sink:
                    sink.write(text)

            ours, answers = (stack.enter_context(each) for each in socket.socketpair())
            (source, sink), (printed, output), (complaints, error) = pipe(), pipe(), pipe()
            if input is not None:
                threads.submit(feed, input)
                stdin = source
            elif stdin == subprocess.DEVNULL:
                stdin = stack.enter_context(Path(os.devnull).open("rb"))
            streams = stdin, output, error
            theirs = [each if isinstance(each, int) else each.fileno() for each in streams]
            socket.send_fds(self.control, [b"."], [*theirs, answers.fileno()])
            for end in (source, output, error):
                end.close()
            answers.close()
            texts = threads.submit(printed.read), threads.submit(complaints.read)
            words = [os.fsencode(word).hex() for word in command]
            folder = os.fsencode(cwd or Path.cwd()).hex()
            ours.settimeout(TIMEOUT_S)
            ours.sendall(json.dumps((words, folder, umask, dict(env), before)).encode())
            ours.shutdown(socket.SHUT_WR)
            lines = stack.enter_context(ours.makefile("rb"))
            process = int(lines.readline())
            try:
                code = int(lines.readline())
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise
            return subprocess.CompletedProcess(command, code, *(text.result() for text in texts))


@cache
def _forks(early: frozenset[tuple[str, str]], imports: str = "") -> _Forks:
    """Return what runs the commands with an environment, until this process ends.

    Args:
        imports: lines of Python that import more than all commands need.
    """
    forks = _Forks(dict(early), imports)
    atexit.register(forks.close)
    return forks


def run(
    *command: str | bytes | Path,
    input: bytes | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    umask: int = -1,
    before: str = "",
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, in a fork where it can; the other options are subprocess.run's.

    Args:
        before: lines of Python that its process runs before the command.
    """
    environment = os.environ if env is None else env
    options: dict[str, Any] = {"cwd": cwd, "umask": umask, "env": environment}
    options |= {"stdin": stdin} if input is None else {"input": input}
    # What becomes of a file at the exit is for a process of its own to show.
    early = _early(environment) if stdout == subprocess.PIPE else None
    imports = _DRAWINGS if "--plot" in command else ""
    if early == _ENVIRONMENT and (forks := _forks(early, imports)).lock.acquire(blocking=False):
        try:
            return forks.run(command, before=before, **options)
        finally:
            forks.lock.release()
    return in_a_process(*command, stdout=stdout, before=before, **options)


def in_a_process(
    *command: str | bytes | Path, before: str = "", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end in a process of its own; the options are those of `run`."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    done: subprocess.CompletedProcess[Any] = subprocess.run(
        (*_program(before), *command), timeout=TIMEOUT_S, check=False, **options
    )
    return done


def _program(before: str) -> tuple[str, ...]:
    code = f"{before}\nimport sys\nfrom atlas12288._cli import main\nsys.exit(main())"
    return (sys.executable, "-c", code) if before else PROGRAM


BAR_AT_ONCE = "from atlas12288._cli import console\nconsole.PROGRESS_AFTER_S = 0.0"


def before_read(number: int, code: str) -> str:
    """Return lines of Python that run a line before a read of a file: see `run`.

    So something happens at one moment of a command, which no other process can be sure to meet.
    """
    return f"""
import os
from itertools import count
from atlas12288 import _files

def disturbed(read, reads=count(1)):
    def read_then(*arguments):
        if next(reads) == {number}:
            {code}
        return read(*arguments)
    return read_then

_files._fill, os.preadv = disturbed(_files._fill), disturbed(os.preadv)
"""


def run_each(
    commands: Sequence[Sequence[str | bytes]], env: Mapping[str, str]
) -> list[subprocess.CompletedProcess[bytes]]:
    """Run commands to their ends with one environment."""
    forks = _forks(_early(env))
    with forks.lock:
        return [forks.run(command, env=env) for command in commands]


def run_code(
    code: str, *, env: Mapping[str, str], imports: str
) -> subprocess.CompletedProcess[bytes]:
    """Run lines of Python in a fork; without an error it ends there, and nothing is taken down.

    Args:
        imports: lines of Python that the process has run from which it is forked.
    """
    end = "\nimport os, sys\nsys.stdout.flush()\nsys.stderr.flush()\nos._exit(0)\n"
    forks = _forks(_early(env), imports)
    with forks.lock:
        return forks.run((), env=env, before=code + end)


def run_line(line: str, *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a line for bash, in which `atlas12288` runs in a fork, one at a time."""
    command = f'atlas12288() {{ "{sys.executable}" -ISc "$CLIENT" "$@"; }}\n{line}'
    forks = _forks(_ENVIRONMENT)
    with forks.lock:
        return subprocess.run(
            ("bash", "-c", command),
            cwd=cwd,
            env=dict(env) | {"CLIENT": _CLIENT, "FORKS": str(forks.control.fileno())},
            pass_fds=(forks.control.fileno(),),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
        )


def bash(script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script of bash, in which a command may stand for a file; see `needs`."""
    return subprocess.run(
        ("bash", "-c", script), capture_output=True, timeout=TIMEOUT_S, check=False
    )


def file_in(item: Mapping[str, Any]) -> bytes:
    """The bytes of the name of a file in JSON."""
    return bytes.fromhex(item["fileHex"]) if "fileHex" in item else item["file"].encode()


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
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen((*PROGRAM, *arguments), **(pipes | options))


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


def interrupt_as_it_waits(process: subprocess.Popen[bytes], given: bytes) -> None:
    """Give a process bytes on standard input and, once it waits for more, Ctrl-C; it ends as it
    must."""
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.flush()
    _wait_until_taken(process)
    time.sleep(0.1)  # until it waits in read() again
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in err


def _wait_until_taken(process: subprocess.Popen[bytes]) -> None:
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
    before: str = "",
) -> tuple[int, str, subprocess.CompletedProcess[bytes]]:
    """Runs a command with some of its streams on a terminal.

    Args:
        before: lines of Python that its process runs before the command, as `BAR_AT_ONCE`.

    Returns:
        Exit code, what the terminal got, and what the other streams got.
    """
    master, slave = pty.openpty()
    pipes = {name: slave if name in streams else subprocess.PIPE for name in ("stdout", "stderr")}
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        (*_program(before), *arguments),
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
    """The most memory that a run of the command line had; without arguments, Python alone."""
    code = (
        "import sys\n"
        "if sys.argv[1:]:\n"
        "    import atlas12288._cli\n"
        "    atlas12288._cli.main(sys.argv[1:])"
    )
    return peak_kib_of(code, *arguments)


def peak_kib_of(code: str, *arguments: object) -> int:
    """The most memory that some lines of Python had."""
    # VmHWM, not ru_maxrss, which begins with the memory of the parent.
    code += """
import sys
status = open('/proc/self/status').read()
sys.stderr.write(status.split('VmHWM:')[1].split()[0])
"""
    done = subprocess.run(
        (sys.executable, "-c", code, *map(str, arguments)),
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
        "import os, atlas12288._cli\n"
        f"atlas12288._cli.main({list(warm_up)!r})\n"
        "if os.getuid() == 0:\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    )
    return run(*arguments, cwd=folder, before=code)
