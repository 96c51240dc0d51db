# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 sum`: names from a list, many threads, and the order of what is printed."""

import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from atlas12288._chains import CHAINS_MOST
from atlas12288._files import CHUNK_BYTES, FileError
from atlas12288._make_sums import sum_lines
from atlas12288._many_files import SMALL_MOST, STOP_NS, witness_in_order
from atlas12288._sums import sums_line
from support import gnu
from support.commandline import (
    COULD_NOT_CHECK,
    HOLDS,
    INTERRUPTED,
    TIMEOUT_S,
    interrupt_as_it_waits,
    peak_kib,
    run,
    sparse_file,
    start,
    wait_until_read,
)
from support.leftovers import nothing_left
from support.strategies import noise

GIB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    gnu.make_files(folder)
    return folder


def listed(names: Sequence[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)


# --- --files0-from ---


def test_names_of_a_list_are_summed_as_those_of_the_command_line(folder: Path) -> None:
    names = (*gnu.NAMES, b"missing", b"plain", b"plain")
    named = run("sum", "--", *names, cwd=folder)
    assert named.returncode == COULD_NOT_CHECK
    from_pipe = run("sum", "--files0-from", "-", cwd=folder, input=listed(names))
    assert (from_pipe.stdout, from_pipe.stderr) == (named.stdout, named.stderr)
    assert from_pipe.returncode == COULD_NOT_CHECK
    (folder / "NAMES").write_bytes(listed(names))
    from_file = run("sum", "--files0-from=NAMES", cwd=folder)
    assert (from_file.stdout, from_file.stderr) == (named.stdout, named.stderr)
    assert run("sum", "--files0-from", "NAMES", "--json", cwd=folder).stdout == (
        run("sum", "--json", "--", *names, cwd=folder).stdout
    )


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_cannot_be_the_list_and_a_file_of_it(folder: Path, name: str) -> None:
    done = run("sum", "--files0-from", name, cwd=folder, input=b"plain\0-\0\x001\0")
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout.decode() == "".join(
        f"{gnu.digest_of(each.encode())}  {each}\n" for each in ("plain", "1")
    )
    assert done.stderr.decode().splitlines() == [
        f"atlas12288: {name}: name 2 is -, standard input, which is this list itself",
        f"atlas12288: {name}: name 3 is empty",
    ]


def test_standard_input_may_be_a_file_of_another_list(folder: Path) -> None:
    (folder / "NAMES").write_bytes(b"plain\0-\0")
    done = run("sum", "--files0-from", "NAMES", cwd=folder, input=b"data")
    assert done.returncode == HOLDS
    assert done.stdout.endswith(f"{gnu.digest_of(b'data')}  -\n".encode())


@pytest.mark.parametrize(
    ("data", "count", "words"),
    [
        (b"", 0, b"has no names"),
        (b"plain\0" + b"1", 1, b"name 2 does not end with NUL"),
        (b"plain\n1\n", 0, b"name 1 does not end with NUL"),
        (b"plain\0" + b"x" * 2**20, 1, b"name 2 has more than 16,384 bytes"),
    ],
    ids=["empty", "cut off", "lines", "endless"],
)
def test_a_list_that_is_none_is_one_error_after_the_names_before_it(
    folder: Path, data: bytes, count: int, words: bytes
) -> None:
    done = run("sum", "--files0-from", "-", cwd=folder, input=data)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == f"{gnu.digest_of(b'plain')}  plain\n".encode() * count
    assert done.stderr.startswith(b"atlas12288: -: " + words)
    assert done.stderr.count(b"\n") == 1
    report = json.loads(run("sum", "--files0-from", "-", "--json", cwd=folder, input=data).stdout)
    assert report["files"][-1]["file"] is None
    assert words.decode() in report["files"][-1]["error"]
    assert report["counts"] == {"files": count + 1, "failed": 0, "unreadable": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), b"FILE is needed, or --files0-from"),
        (("--files0-from", "-", "plain"), b"--files0-from names all files: not with FILE"),
        (("plain", "--files0-from=none"), b"--files0-from names all files: not with FILE"),
    ],
)
def test_files_are_named_in_one_way(folder: Path, arguments: tuple[str, ...], words: bytes) -> None:
    done = run("sum", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")
    assert words in done.stderr


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["lines", "json"])
def test_ctrl_c_ends_a_long_list_at_once(folder: Path, more: tuple[str, ...]) -> None:
    # Neither the list ends nor the files: it waits for names.
    with Path(os.devnull).open("wb") as nowhere:
        process = start(
            *("sum", "--files0-from", "-", *more),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=nowhere,
        )
    interrupt_as_it_waits(process, b"plain\0" * 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "missing"])
def test_memory_is_constant_for_a_long_list(folder: Path, tmp_path: Path, name: str) -> None:
    def peak_of(count: int, threads: int) -> int:
        (tmp_path / "NAMES").write_bytes(listed([os.fsencode(folder / name)]) * count)
        return peak_kib("sum", f"--threads={threads}", "--files0-from", str(tmp_path / "NAMES"))

    # One thread, because of several some may be 16 MiB ahead or not.
    growth = peak_of(160_000, 1) - peak_of(40_000, 1)
    assert growth <= 8 * 1024  # 70 bytes a name: less than its string
    assert peak_of(160_000, 8) - peak_kib() <= 64 * 1024


# --- many threads ---


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_lines_are_in_the_order_of_the_names_for_any_number_of_threads(
    tmp_path: Path, threads: int
) -> None:
    # More large files than all threads read in turns, among small, missing and known ones.
    names: list[str | FileError] = []
    expected: list[tuple[str | None, str]] = []
    for number in range(CHAINS_MOST * 5 + 600):
        path = tmp_path / f"{number}"
        is_large = number % 3 == 0 and number < CHAINS_MOST * 15 + 5
        data = noise(SMALL_MOST + number if is_large else number % 7 * 11, number)
        names.append(str(path))
        if number % 50 == 1:
            names[-1] = FileError("is odd", "list")
            expected.append((None, "list: is odd"))
        elif number % 50 == 2:
            expected.append((str(path), "No such file or directory"))
        else:
            path.write_bytes(data)
            expected.append((str(path), hashlib.sha256(data).hexdigest()))
    counts: list[int] = []
    with nothing_left():
        witnessed = [
            (name, str(found) if isinstance(found, FileError) else found.hexdigest())
            for name, found in witness_in_order(names, threads=threads, advance=counts.append)
        ]
    assert witnessed == expected
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert sum(counts) == total
    counts.clear()
    printed: list[tuple[str | None, str]] = []
    with nothing_left():
        for each in sum_lines(names, threads=threads, advance=counts.append):
            if isinstance(each, bytes):
                for line in each.decode().splitlines():
                    digest, _, name = line.partition("  ")
                    printed.append((name, digest))
            else:
                name, found = each
                text = str(found) if isinstance(found, FileError) else found.hexdigest()
                printed.append((name, text))
    assert printed == expected
    assert sum(counts) == total


@pytest.mark.parametrize("make", [witness_in_order, sum_lines])
def test_several_large_files_are_read_by_several_threads(tmp_path: Path, make: object) -> None:
    readers = set()
    names = []
    for number in range(4):
        (tmp_path / f"{number}").write_bytes(bytes(2 * CHUNK_BYTES))
        names.append(str(tmp_path / f"{number}"))
    barrier = threading.Barrier(2)

    def advance(count: int) -> None:
        if count and threading.get_ident() not in readers:
            readers.add(threading.get_ident())
            barrier.wait(TIMEOUT_S)  # until another thread reads too

    assert callable(make)
    assert len(list(make(names, threads=2, advance=advance))) == 4
    assert len(readers) == 2
    assert threading.get_ident() not in readers


@pytest.mark.parametrize("make", [witness_in_order, sum_lines])
def test_what_is_not_taken_ends_when_it_is_closed(tmp_path: Path, make: object) -> None:
    names = []
    for number in range(3):
        names.append(str(sparse_file(tmp_path / f"{number}", 1024 * GIB)))
    (tmp_path / "small").write_bytes(b"data")
    assert callable(make)
    with nothing_left():
        results = make([str(tmp_path / "small")] * 1024 + names, threads=3)
        next(results)
        results.close()


# --- Ctrl-C ---


def interrupted_as_it_reads(process: subprocess.Popen[bytes]) -> bytes | None:
    """Give a process Ctrl-C while it reads files that it would read for long; return what it
    printed to a pipe. It ends as it must."""
    # So that no import is under way: Ctrl-C in one that runs a text of Python, as dataclasses do,
    # ends an interpreter by the signal, whatever code it returns.
    wait_until_read(process, 2**28)
    process.send_signal(signal.SIGINT)
    out: bytes | None
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in err
    return out


@pytest.mark.parametrize(
    "command",
    [
        ("sum", "--threads", "2", "0", "1", "2"),
        ("sum", "--threads", "1", "--files0-from", "NAMES"),
        ("sum", "--json", "0"),
        ("witness", "--threads", "2", "0", "1", "2"),
    ],
    ids=" ".join,
)
def test_ctrl_c_ends_the_reading_of_large_files(tmp_path: Path, command: tuple[str, ...]) -> None:
    for name in ("0", "1", "2"):
        sparse_file(tmp_path / name, 1024 * GIB)
    (tmp_path / "NAMES").write_bytes(listed([b"0", b"1", b"2"]))
    assert interrupted_as_it_reads(start(*command, cwd=tmp_path)) == b""


@pytest.mark.parametrize(
    "options",
    [
        ("--threads", "1"),
        ("--threads", "3", "--files0-from", "NAMES"),
        ("--threads", "3", "--json"),
        ("--threads", "1", "--json", "--files0-from", "NAMES"),
    ],
    ids=" ".join,
)
def test_ctrl_c_ends_the_reading_of_small_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    sparse_file(tmp_path / "a", SMALL_MOST)
    # It ends by nothing else: its last name is standard input, which has no end.
    names = ["a"] * 20_000 + ["-"]
    (tmp_path / "NAMES").write_bytes(listed(list(map(os.fsencode, names))))
    files = [] if "NAMES" in options else names
    with (tmp_path / "out").open("wb") as out:
        process = start("sum", *options, *files, cwd=tmp_path, stdin=subprocess.PIPE, stdout=out)
    interrupted_as_it_reads(process)
    if "--json" not in options:
        line = sums_line(hashlib.sha256(bytes(SMALL_MOST)).digest(), b"a")
        # None where the first ones still waited to be written.
        assert set((tmp_path / "out").read_bytes().split(b"\n")[:-1]) <= {line}


# Each native call takes one file. One of them gives Ctrl-C; those of other threads that have begun
# wait until that is heard. What begins later, or is never heard, is said at the end.
_WATCHED_CALLS = """
import atexit, os, signal, sys
from itertools import count
from threading import Event, current_thread, main_thread
from atlas12288 import _make_sums, _many_files

stopping, given, late, numbers = [], [], [], count(1)

def event():
    stopping.append(Event())
    return stopping[-1]

def watched(call, name):
    def watched_call(*arguments):
        is_main = current_thread() is main_thread()
        if stopping[0].is_set() or (given and is_main):
            late.append(name)
        found = call(*arguments)
        if name == "{name}" and next(numbers) == 40:
            os.kill(os.getpid(), signal.SIGINT)
            given.append(True)
        if given and not is_main and not stopping[0].wait({timeout}):
            late.append("Ctrl-C")
        return found
    return watched_call

class Files(list):
    def __init__(self, names):
        super().__init__(names)
        files = FileSums(names)
        self.taken, self.lines = files.taken, files.lines
        self.take, self.measure = watched(files.take, "take"), watched(files.measure, "measure")

FileSums, _make_sums.FileSums, _many_files.Event = _make_sums.FileSums, Files, event
_make_sums.STOP_NS = _many_files.STOP_NS = 0
for each in ("file_sizes", "witness_named_files"):
    setattr(_many_files, each, watched(getattr(_many_files, each), each))
atexit.register(lambda: print(late, file=sys.stderr))
"""


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["measure", "take", "file_sizes", "witness_named_files"])
def test_after_ctrl_c_no_thread_takes_more_files(folder: Path, name: str, threads: int) -> None:
    assert STOP_NS <= 10**8  # what has begun ends by then
    more = () if name in ("measure", "take") else ("--json",)
    done = run(
        *("sum", "--threads", str(threads), *more, *["plain"] * 3_000),
        cwd=folder,
        before=_WATCHED_CALLS.format(name=name, timeout=TIMEOUT_S),
    )
    assert (done.returncode, done.stderr) == (INTERRUPTED, b"\n[]\n")
