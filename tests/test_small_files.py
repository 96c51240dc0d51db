# SPDX-License-Identifier: Apache-2.0
"""Small files that are read many at once, beside the same files read one by one."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas12288 import WINDOW_BYTES, _native
from atlas12288.manifest._hashing.file_hash import Digests
from atlas12288.manifest._sources.folder import Folder
from support.manifests import OneByOne, Results, founds_in, results
from support.slow import slow_but
from support.strategies import noise

SUPPORT = Path(__file__).parent / "support"
SIZES = (0, 1, 55, 56, 63, 64, 65, 900, WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 1, 40_000)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_at_once_have_the_digests_of_one_by_one(tmp_path: Path, threads: int) -> None:
    for number in range(40):
        folder = tmp_path / f"{number % 3}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        for size in SIZES:
            (folder / f"{number}-{size}").write_bytes(noise(size, number))
    founds = founds_in(tmp_path)
    found = results(Folder(tmp_path), founds, threads=threads)
    assert found == results(OneByOne(tmp_path), founds)
    for path, digests in found.items():
        assert isinstance(digests, Digests)
        data = (tmp_path / os.fsdecode(path)).read_bytes()
        assert (digests.sha256, digests.residue) == (hashlib.sha256(data).digest(), sum(data) % 96)


@given(sizes=st.lists(st.integers(0, 300), max_size=40), wrong=st.sets(st.integers(0, 39)))
def test_what_is_not_as_listed_is_left_to_the_reader(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], wrong: set[int]
) -> None:
    root = tmp_path_factory.mktemp("files")
    for number, size in enumerate(sizes):
        (root / f"{number:02}").write_bytes(noise(size, number))
    founds = founds_in(root)
    listed = [
        found._replace(size=found.size + 1) if number in wrong else found
        for number, found in enumerate(founds)
    ]
    buffer = memoryview(bytearray(sum(found.size for found in listed)))
    read = Folder(root).read_files(listed, buffer)
    assert list(read) == [number not in wrong for number in range(len(sizes))]
    end = 0
    for found, flag, size in zip(listed, read, sizes, strict=True):
        start, end = end, end + found.size
        assert not flag or buffer[start:end] == noise(size, int(found.path))
    assert results(Folder(root), listed) == results(OneByOne(root), listed)


def test_only_regular_files_in_the_folder_itself_are_read(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"data")
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    times = [(tmp_path / "file").stat().st_mtime_ns] * 6
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        os.utime(tmp_path / "sub" / "file", ns=(times[0], times[0]))
        names = [b"file", b"link", b"fifo", b"sub", b"sub/file", b"none"]
        read = _native.read_files([folder] * 6, names, [4] * 6, times, bytearray(24))
    finally:
        os.close(folder)
    assert list(read) == [1, 0, 0, 0, 0, 0]
    assert list(_native.read_files([-1], [b"file"], [4], times[:1], bytearray(4))) == [0]


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    for arguments, error in (
        (([3], [], [], [], bytearray()), ValueError),
        (([3], [b"a"], [5], [0], bytearray(4)), ValueError),
        (([3, 3], [b"a", b"b"], [3, 2**63], [0, 0], bytearray(4)), ValueError),
        (([3], [b"a"], [-1], [0], bytearray(4)), OverflowError),
        (([3], [b"a\0b"], [1], [0], bytearray(4)), ValueError),
        (([3], ["a"], [1], [0], bytearray(4)), ValueError),
        (([3], [b"a"], [1], [0], bytes(4)), BufferError),
        ((None, [b"a"], [1], [0], bytearray(4)), TypeError),
        (([None], [b"a"], [1], [0], bytearray(4)), TypeError),
    ):
        with pytest.raises(error):
            _native.read_files(*arguments)  # type: ignore[arg-type]


def test_reading_lets_other_threads_run(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number}").write_bytes(noise(4096, number))
    founds = founds_in(tmp_path)
    expected = results(OneByOne(tmp_path), founds)
    found: list[Results] = []

    def work() -> None:
        found.append(results(Folder(tmp_path), founds))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


PROGRAM = """
import json, os, sys
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._hashing.engine import hash_files
from atlas12288.manifest._hashing.siblings import hash_siblings
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.selection import Selection
way = sys.argv[2]
Folder.batches = way != "one"
source = Folder(sys.argv[1])
founds = sorted(source.list(Selection(), print))
siblings = list(source.walk(Selection(), print) or ())
os.environ["STEP_NAME"] = os.path.join(sys.argv[1], "victim")
if way == "siblings":
    found = {}
    for hashed in hash_siblings(
        source, siblings, DIGESTS, threads=1, since_ns=0, advance=lambda _: None,
        problem=lambda path, reason: found.__setitem__(path.decode(), reason),
    ):
        for line in hashed.text.splitlines():
            entry = json.loads(line)
            found[entry["path"]] = entry["sha256"] + entry["sha256-merkle-12288"]
else:
    results = hash_files(source, founds, DIGESTS, threads=1)
    found = {found.path.decode(): getattr(result, "root", None) and
             (result.sha256 + result.root).hex() or str(result) for found, result in results}
print(json.dumps(found))
"""
ACTIONS = ("replace",)
MORE_ACTIONS = ("grow", "write", "vanish", "shrink", "chmod", "link", "fifo")


@pytest.fixture(scope="session")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the library that disturbs is for glibc")
    library = tmp_path_factory.mktemp("stepping") / "stepping.so"
    source = SUPPORT / "stepping.c"
    subprocess.run(("cc", "-shared", "-fPIC", "-o", library, source, "-ldl"), check=True)
    return library


def disturbed(
    program: str, root: Path, way: str, before: bytes, other: bytes, environment: dict[str, str]
) -> str:
    """What a program prints that reads three files, of which one is changed at a step."""
    root.mkdir()
    for name in ("a", "victim", "z"):
        (root / name).write_bytes(before)
        os.utime(root / name, ns=(10**18, 10**18))
    (root / "victim.other").write_bytes(other)
    done = subprocess.run(
        (sys.executable, "-c", program, root, way),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("action", slow_but(ACTIONS, (*ACTIONS, *MORE_ACTIONS)))
def test_a_file_that_changes_at_any_step_is_seen_or_was_as_it_was(
    tmp_path: Path, stepping: Path, action: str
) -> None:
    """The steps of one file: it is opened, asked, read, asked for one byte more, asked again. Read
    many at once it is left to the reader then, which begins anew."""
    before, other = noise(1000), noise(1000, 1)
    whole = hashlib.sha256(before).hexdigest() + hashlib.sha256(b"\0" + before).hexdigest()
    seen = []
    for step in range(1, 8):
        for way in ("siblings", "many", "one"):
            root = tmp_path / f"{way}{step}"
            environment = {"STEP_AT": str(step), "STEP_ACTION": action, "LD_PRELOAD": str(stepping)}
            printed = disturbed(PROGRAM, root, way, before, other, environment)
            found = json.loads(printed)
            # Others are not touched, and the content of the file is the one that was listed, or
            # there is an error: never another content under the listed time.
            assert found["a"] == found["z"] == whole
            victim = found["victim"]
            reasons = ("changed while it was read", "No such file", "is a FIFO")
            assert victim == whole or any(reason in victim for reason in reasons)
            seen.append(victim != whole)
    assert any(seen)
    assert not all(seen)


SUMS_PROGRAM = """
import os, sys
from atlas12288 import _make_sums
from atlas12288._files import FileError
if sys.argv[2] == "one":
    class Nothing:
        def __init__(self, names): self.count = len(names)
        def __len__(self): return self.count
        def measure(self, stop_ns): return [-1] * self.count
        def take(self, size_most, buffer, stop_ns): return self.count
        def taken(self): return bytes(self.count)
    _make_sums.FileSums = Nothing
names = [os.path.join(sys.argv[1], name) for name in ("a", "victim", "z")]
os.environ["STEP_NAME"] = names[1]
for found in _make_sums.sum_lines(names):
    if isinstance(found, bytes):
        sys.stdout.write(found.decode())
    else:
        name, outcome = found
        text = str(outcome) if isinstance(outcome, FileError) else outcome.hexdigest()
        print(text, name, sep="  ")
"""


@pytest.mark.parametrize(
    "action", slow_but(["grow"], ["grow", "replace", "write", "vanish", "shrink", "fifo"])
)
def test_a_file_that_changes_at_any_step_has_the_sum_of_one_of_its_contents(
    tmp_path: Path, stepping: Path, action: str
) -> None:
    before, other = noise(1000), noise(1000, 1)
    contents = {
        "grow": before + b"x",
        "write": b"xyz" + before[3:],
        "shrink": before[:10],
        "replace": other,
    }
    sums = {hashlib.sha256(each).hexdigest() for each in (before, contents.get(action, before))}
    whole = hashlib.sha256(before).hexdigest()
    seen = set()
    for step in range(1, 8):
        for way in ("many", "one"):
            root = tmp_path / f"{way}{step}"
            environment = {"STEP_AT": str(step), "STEP_ACTION": action, "LD_PRELOAD": str(stepping)}
            printed = disturbed(SUMS_PROGRAM, root, way, before, other, environment)
            found = [line.split("  ") for line in printed.splitlines()]
            assert [name for _, name in found] == [
                str(root / name) for name in ("a", "victim", "z")
            ]
            (first, _), (victim, _), (last, _) = found
            assert first == last == whole
            reasons = ("changed while it was read", "No such file", "is a FIFO")
            assert victim in sums or any(reason in victim for reason in reasons)
            seen.add((way, victim))
    for way in ("many", "one"):
        assert len({victim for each, victim in seen if each == way}) > 1
