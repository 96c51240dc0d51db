# SPDX-License-Identifier: Apache-2.0
"""A folder as a source: whatever is swapped, refused or lied about meanwhile, only what is below it
is read, to its end, and no digest is of two contents."""

import ctypes
import errno
import hashlib
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas12288 as atlas
from atlas12288._files import FileError
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._generate import RunCounts, generate_manifest, read_options
from atlas12288.manifest._hashing import cluster_tasks
from atlas12288.manifest._hashing.engine import hash_files
from atlas12288.manifest._hashing.file_hash import Digests
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._sources import descriptors, folder
from atlas12288.manifest._sources.descriptors import OPEN_MOST, Below
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.links import Links, leads_out
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.source import Found, Reader
from support.leftovers import open_files
from support.strategies import noise

FLAT = DIGESTS[:1]
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def read_all(
    source: Folder, symlinks: str = "record", paths: Sequence[bytes] = ()
) -> dict[bytes, bytes | str]:
    """The digest of each file, or why there is none."""
    found: dict[bytes, bytes | str] = {}

    def problem(path: bytes, reason: str) -> None:
        found[path] = reason

    selection = Selection(symlinks=symlinks, paths=paths)
    founds = [each for each in source.list(selection, problem) if not each.target]
    for each, result in hash_files(source, founds, FLAT, threads=1):
        if isinstance(result, Digests):
            assert result.sha256 is not None
            found[each.path] = result.sha256
        else:
            found[each.path] = str(result)
    return found


# --- What is swapped


class Prey:
    """A folder, one beside it that must not be read, and links from the one to the other that can
    be put in the place of a folder and of a file."""

    def __init__(self, around: Path) -> None:
        self.folder = around / "upload"
        secret = around / "secret"
        for root, content in ((self.folder / "dir", b"mine"), (secret, b"hide")):
            (root / "sub").mkdir(parents=True)
            for name in ("a", "sub/b"):
                (root / name).write_bytes(content)
                os.utime(root / name, (1e9, 1e9))
        (secret / "shadow").write_bytes(b"root")
        self.put_aside = self.folder / "aside"
        self.put_aside.mkdir()
        (self.put_aside / "dir").symlink_to(secret)
        for name in ("a", "top"):
            (self.put_aside / name).symlink_to(secret / "a")
        (self.folder / "top").write_bytes(b"mine")
        os.utime(self.folder / "top", (1e9, 1e9))
        (self.folder / "into").symlink_to("dir/sub")
        self.mine = hashlib.sha256(b"mine").digest()

    def check(self, found: dict[bytes, bytes | str]) -> int:
        """Nothing of the folder beside it is in it; gives how many files were read."""
        digests = [each for each in found.values() if isinstance(each, bytes)]
        assert set(digests) <= {self.mine}, found
        assert not any(b"shadow" in path for path in found), found
        return len(digests)


@pytest.fixture
def prey(tmp_path: Path) -> Prey:
    return Prey(tmp_path)


WHAT = [
    ("record", ()),
    ("follow", ()),
    ("record", (b"dir/a", b"dir/sub", b"dir/sub/b", b"top")),
    ("follow", (b"dir/a", b"dir/sub", b"into", b"top")),
]
_CALLS = ("open", "scandir", "stat", "readlink", "fstat", "preadv", "pread")


class Hooked:
    """The calls of the system that a walk makes; one of them is preceded by something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.before: Callable[[str], None] = lambda _: None
        for name in _CALLS:
            monkeypatch.setattr(os, name, self._hooked(name, getattr(os, name)))

    def _hooked(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*args: Any, **options: Any) -> Any:
            self.count += 1
            self.before(name)
            return call(*args, **options)

        return hooked


@pytest.mark.parametrize(("symlinks", "paths"), WHAT)
@pytest.mark.parametrize("name", ["dir", "a"])
def test_a_link_put_in_the_place_of_anything_at_any_moment_is_not_followed(
    prey: Prey,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    symlinks: str,
    paths: tuple[bytes, ...],
) -> None:
    """The swap comes before each system call in turn, and is undone two calls later or never."""
    monkeypatch.setattr(Folder, "batches", False)
    place = prey.folder / name if name == "dir" else prey.folder / "dir" / name
    hooked = Hooked(monkeypatch)
    rename = os.rename

    def swap() -> None:
        rename(place, place.with_name("third"))
        rename(prey.put_aside / name, place)
        rename(place.with_name("third"), prey.put_aside / name)

    read_all(Folder(prey.folder), symlinks, paths)
    calls, read = hooked.count, 0
    assert calls > 20
    for undone in (2, 10**6):
        for at in range(1, calls + 10):
            hooked.count, swapped = 0, [0]

            def before(_: str, at: int = at, undone: int = undone, swapped: Any = swapped) -> None:
                if hooked.count in (at, at + undone):
                    swap()
                    swapped[0] += 1

            hooked.before = before
            source = Folder(prey.folder)
            found = read_all(source, symlinks, paths)
            hooked.before = lambda _: None
            if swapped[0] % 2:
                swap()
            read += prey.check(found)
    assert read > calls


@pytest.fixture
def swapping(prey: Prey) -> Iterator[None]:
    """Another process swaps a folder with a link, and a file with another, all the time."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        pytest.skip("this system has no renameat2")
    program = (
        "import ctypes, sys\n"
        "swap = ctypes.CDLL(None).renameat2\n"
        "names = [name.encode() for name in sys.argv[1:]]\n"
        "first = True\n"
        "while True:\n"
        "    for one, other in zip(names[::2], names[1::2]):\n"
        f"        if swap({_AT_FDCWD}, one, {_AT_FDCWD}, other, {_RENAME_EXCHANGE}) and first:\n"
        "            sys.exit('none')\n"
        "    if first:\n"
        "        print('begun', flush=True)\n"
        "    first = False\n"
    )
    names = (
        prey.folder / "dir",
        prey.put_aside / "dir",
        prey.folder / "top",
        prey.put_aside / "top",
    )
    command = (sys.executable, "-c", program, *map(str, names))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        if not begun:
            pytest.skip("this file system cannot exchange two names")
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(("symlinks", "paths"), WHAT)
@pytest.mark.usefixtures("swapping")
def test_a_race_is_never_won(prey: Prey, symlinks: str, paths: tuple[bytes, ...]) -> None:
    """50 tries, and more only while the other process leaves nothing in its place."""
    read = tries = 0
    while tries < 50 or (read == 0 and tries < 20_000):
        read += prey.check(read_all(Folder(prey.folder), symlinks, paths))
        tries += 1
    assert read > 0


@pytest.mark.parametrize("error", ["EPERM", "EACCES", "ELOOP", "EMFILE", "ENOSYS", "EIO", "ENOMEM"])
@pytest.mark.parametrize(("symlinks", "paths"), WHAT)
def test_a_refused_call_is_a_problem_and_no_reason_to_go_by_names(
    prey: Prey,
    monkeypatch: pytest.MonkeyPatch,
    symlinks: str,
    paths: tuple[bytes, ...],
    error: str,
) -> None:
    right = read_all(Folder(prey.folder), symlinks, paths)
    number = getattr(errno, error)
    hooked = Hooked(monkeypatch)
    read_all(Folder(prey.folder), symlinks, paths)
    for at in range(1, hooked.count + 1):
        for lasts in (1, 10**6):
            hooked.count = 0

            def before(_: str, at: int = at, lasts: int = lasts) -> None:
                if at <= hooked.count < at + lasts:
                    raise OSError(number, os.strerror(number))

            hooked.before = before
            try:
                found = read_all(Folder(prey.folder), symlinks, paths)
            except FileError:
                continue
            finally:
                hooked.before = lambda _: None
            if found != right:
                # What was read is right, and what was not is said.
                read = {path: each for path, each in found.items() if isinstance(each, bytes)}
                assert read.items() <= right.items()
                assert any(isinstance(each, str) for each in found.values())


def test_where_too_many_files_are_open_those_of_the_walk_go_first(
    prey: Prey, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Folder(prey.folder)
    right = read_all(source)
    hooked = Hooked(monkeypatch)

    def before(name: str) -> None:
        if name == "open" and source._below._open:
            raise OSError(errno.EMFILE, "Too many open files")

    hooked.before = before
    assert read_all(source) == right


# --- How deep, and how many


_DEEP = """
import os, resource, sys
import atlas12288 as atlas
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
root, levels = sys.argv[1], int(sys.argv[2])
os.mkdir(root)
at = os.open(root, os.O_RDONLY)
for level in range(levels):
    if level % 100 == 99:
        with open("file", "wb", opener=lambda name, flags: os.open(name, flags, dir_fd=at)) as file:
            file.write(b"%d" % level)
    os.mkdir("down", dir_fd=at)
    below = os.open("down", os.O_RDONLY, dir_fd=at)
    os.close(at)
    at = below
os.close(at)
for symlinks in ("record", "follow"):
    manifest = atlas.Manifest.generate(root, symlinks=symlinks, threads=8)
    print(len(manifest.entries), sum(entry.size for entry in manifest.entries), end=" ")
part = "/".join(["down"] * (levels - 1))
print(len(atlas.Manifest.generate([part[: -5 * 50]], root=root).entries))
assert manifest.verify(root).holds
"""


@pytest.mark.slow
def test_a_tree_of_3000_levels_with_256_descriptors(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    try:
        done = subprocess.run(
            (sys.executable, "-c", _DEEP, str(root), "3000"),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        # rmtree() calls itself for each level.
        subprocess.run(("rm", "-rf", str(root)), check=True)
    size = sum(len(str(level)) for level in range(99, 3000, 100))
    assert done.stdout.split() == [*("30", str(size)) * 2, "1"], done.stderr[-2000:]


def test_a_path_that_is_too_long_is_a_problem_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PATH_MOST_BYTES", 5)
    (tmp_path / "ab" / "cd").mkdir(parents=True)
    (tmp_path / "ab" / "cd" / "x").write_bytes(b"1")
    assert read_all(Folder(tmp_path)) == {b"ab/cd": "has paths of more than 5 bytes"}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("symlinks", ["record", "follow"])
def test_few_folders_are_open_and_none_when_the_source_is_gone(
    tmp_path: Path, symlinks: str
) -> None:
    for index in range(3 * OPEN_MOST):
        (tmp_path / f"{index}").mkdir()
        (tmp_path / f"{index}" / "file").write_bytes(b"1")
    source = Folder(tmp_path)
    assert len(read_all(source, symlinks)) == 3 * OPEN_MOST
    assert 1 < len(open_files(tmp_path)) <= OPEN_MOST + 2
    del source
    assert len(open_files(tmp_path)) == 0


def test_a_path_that_is_none_of_a_listing_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "in" / "d").mkdir(parents=True)
    (tmp_path / "out").write_bytes(b"1")
    source = Folder(tmp_path / "in")
    for path in (b"../out", b"d/../../out", b"d/./../../out", b"//out", os.fsencode(tmp_path)):
        with pytest.raises(FileError):
            source.open(Found(path, 1, ""))


# --- Sizes and identities


def lying(monkeypatch: pytest.MonkeyPatch, change: Callable[[os.stat_result], Any]) -> None:
    """Makes fstat say something else of files."""
    fstat = os.fstat

    def lies(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        names = [name for name in dir(status) if name.startswith("st_")]
        values = {name: getattr(status, name) for name in names}
        values |= change(status)
        return os.stat_result([values[name] for name in _FIELDS], values)

    monkeypatch.setattr(os, "fstat", lies)


_FIELDS = (
    *("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"),
    *("st_atime", "st_mtime", "st_ctime"),
)


@pytest.mark.parametrize("size", [0, 5, 12288, BLOCK_BYTES, 2 * BLOCK_BYTES])
@pytest.mark.parametrize("digests", [DIGESTS[:1], DIGESTS[1:]])
def test_a_file_that_holds_more_than_its_size_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, digests: tuple[str, ...]
) -> None:
    """As those of /proc do, and files of mounts whose storage does not say their size."""
    (tmp_path / "file").write_bytes(noise(size + 1))
    source = Folder(tmp_path)
    (found,) = source.list(Selection(), pytest.fail)
    found = found._replace(size=size)
    lying(monkeypatch, lambda status: {"st_size": size})
    reason = f"changed while it was read: it had {size} bytes, and there are more"
    ((_, result),) = hash_files(source, [found], digests)
    assert str(result) == reason
    run = cluster_tasks.Stretch(
        source, digests, False, found, 0, max(1, -(-size // BLOCK_BYTES)), None, False, 1
    )
    done = cluster_tasks.do_task(run)
    assert isinstance(done, cluster_tasks.StretchResult)
    assert str(done.error) == reason


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs /proc")
def test_a_file_of_proc_is_refused_by_the_command_for_folders() -> None:
    with pytest.raises(FileError, match="it had 0 bytes, and there are more"):
        atlas.Manifest.generate(["version"], root="/proc")


def test_inodes_that_come_and_go_are_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems in user space give another number to what the kernel has forgotten."""
    for index in range(10):
        (tmp_path / f"{index}").write_bytes(noise(100 * index, index))
    (tmp_path / "large").write_bytes(noise(2 * BLOCK_BYTES))
    right = read_all(Folder(tmp_path))
    numbers = iter(range(10**6, 10**7))
    lying(monkeypatch, lambda status: {"st_ino": next(numbers), "st_dev": next(numbers)})
    source = Folder(tmp_path)
    found = read_all(source)
    assert found == right
    assert all(isinstance(each, bytes) for each in found.values())


def touch_content(path: Path) -> None:
    """Other bytes of the same size, and the modification time set back."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


class Between(Folder):
    """Does something before a file is opened, and something else when it was."""

    batches = False

    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    @contextmanager
    def open(self, found: Found) -> Iterator[Reader]:  # type: ignore[override]
        self.before()
        with super().open(found) as reader:
            yield reader
            # Too late for what the reader says at the end: so it is asked again.
            self.after()
            reader.finish()


@pytest.mark.parametrize("size", [100, 2 * BLOCK_BYTES])
def test_the_ctime_counts_from_the_opening_to_the_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(noise(size))
    source = Between(tmp_path)
    # Between listing and opening it says nothing of what is read.
    source.before = lambda: os.link(path, tmp_path.parent / f"{tmp_path.name}-link")
    assert read_all(source) == {b"file": hashlib.sha256(noise(size)).digest()}
    source.before = lambda: touch_content(path)
    changed = b"other" + noise(size)[5:]
    assert read_all(source) == {b"file": hashlib.sha256(changed).digest()}
    source.before, source.after = lambda: None, lambda: touch_content(path)
    reason = "changed while it was read: its ctime did, by a link to it, its mode or its content"
    assert read_all(source) == {b"file": reason}


def test_the_parts_of_a_file_are_of_one_content(tmp_path: Path) -> None:
    """Where a file is opened several times, for its parts, the ctime counts from the listing on."""
    path = tmp_path / "file"
    path.write_bytes(noise(3 * BLOCK_BYTES))
    source = Folder(tmp_path)
    (found,) = source.list(Selection(), pytest.fail)
    checkpoints: list[Any] = []
    for _ in hash_files(source, [found], FLAT, progress=lambda *each: checkpoints.append(each[1])):
        pass
    touch_content(path)
    resumed = hash_files(source, [found], FLAT, resume=lambda _: (checkpoints[0], ()))
    ((_, result),) = resumed
    assert str(result) == "changed while it was read"
    run = cluster_tasks.Stretch(source, FLAT, False, found, 1, 2, checkpoints[0].flat, False, 1)
    done = cluster_tasks.do_task(run)
    assert isinstance(done, cluster_tasks.StretchResult)
    assert str(done.error) == "changed while it was read"


# --- Between runs


class Runs:
    """Runs that keep a state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.output = folder.parent / "out.atlas.json"

    def age(self) -> None:
        for path in self.folder.rglob("*"):
            if not path.is_dir():
                os.utime(path, (1e9, 1e9), follow_symlinks=False)

    def run(self, **options: Any) -> RunCounts:
        source = Folder(self.folder)
        choices = {key: options.pop(key) for key in ("symlinks",) if key in options}
        return generate_manifest(
            source,
            read_options(source, **choices),
            str(self.output),
            state=str(self.output.with_suffix(".state")),
            listener=FunctionListener(problem=lambda *problem: pytest.fail(str(problem))),
            **options,
        )

    def digests(self) -> dict[bytes, bytes | None]:
        manifest = atlas.Manifest.from_json(self.output.read_bytes())
        return {entry.path: entry.sha256 for entry in manifest.entries}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "data")


def test_an_update_sees_a_modification_time_that_was_set_back(runs: Runs) -> None:
    (runs.folder / "a").write_bytes(b"before")
    (runs.folder / "b").write_bytes(b"before")
    runs.age()
    runs.run()
    (runs.folder / "a").write_bytes(b"behind")
    os.utime(runs.folder / "a", (1e9, 1e9))
    outcome = runs.run(update=True)
    assert (outcome.read, outcome.known, outcome.by_ctime, outcome.refused) == (1, 1, 1, 1)
    assert runs.digests()[b"a"] == hashlib.sha256(b"before").digest()
    outcome = runs.run(update=True, accept=(b"a",))
    assert outcome.refused == 0
    assert runs.digests()[b"a"] == hashlib.sha256(b"behind").digest()


def test_an_update_may_ignore_the_ctime(runs: Runs, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (runs.folder / name).write_bytes(name.encode())
    runs.age()
    runs.run()
    os.link(runs.folder / "a", tmp_path / "backup")
    (runs.folder / "b").write_bytes(b"changed")
    outcome = runs.run(update=True, ignore_ctime=True)
    assert (outcome.read, outcome.known, outcome.by_ctime) == (1, 2, 0)
    # What was ignored once is not taken for known where it is not ignored.
    outcome = runs.run(update=True)
    assert outcome.by_ctime == 1
    assert runs.digests()[b"b"] == hashlib.sha256(b"changed").digest()


def test_an_update_counts_no_inode(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs.folder / "a").write_bytes(b"1")
    runs.age()
    runs.run()
    scandir = os.scandir

    class Forgetful:
        def __init__(self, entry: Any) -> None:
            self._entry = entry
            self.name, self.is_dir = entry.name, entry.is_dir

        def stat(self, follow_symlinks: bool = True) -> os.stat_result:
            status = self._entry.stat(follow_symlinks=follow_symlinks)
            values = {name: getattr(status, name) for name in dir(status) if name[:3] == "st_"}
            values["st_ino"] += 1000
            return os.stat_result([values[name] for name in _FIELDS], values)

    class Scan:
        def __init__(self, descriptor: int) -> None:
            self._entries = scandir(descriptor)

        def __enter__(self) -> Iterator[Forgetful]:
            return map(Forgetful, self._entries)

        def __exit__(self, *exc_info: object) -> None:
            self._entries.close()

    monkeypatch.setattr(os, "scandir", Scan)
    outcome = runs.run(update=True)
    assert (outcome.read, outcome.known) == (0, 1)


def test_an_update_sees_that_a_link_leads_to_another_file_of_the_same_times(runs: Runs) -> None:
    for version in ("v1", "v2"):
        (runs.folder / version).mkdir()
        (runs.folder / version / "file").write_bytes(version.encode())
    (runs.folder / "now").symlink_to("v1")
    (runs.folder / "one").symlink_to("v1/file")
    runs.age()
    # Made within one tick of the clock.
    stat_of = {path: path.stat() for path in runs.folder.rglob("file")}
    assert len({status.st_mtime_ns for status in stat_of.values()}) == 1
    runs.run(symlinks="follow")
    for link, target in (("now", "v2"), ("one", "v2/file")):
        (runs.folder / link).unlink()
        (runs.folder / link).symlink_to(target)
    runs.run(symlinks="follow", update=True, ignore_ctime=True)
    digest = hashlib.sha256(b"v2").digest()
    assert runs.digests()[b"one"] == runs.digests()[b"now/file"] == digest


# --- Where links lead


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[str, str | None]]:
    """Folders, files and links, by name; None for a file, "" for a folder."""
    names = st.sampled_from(["a", "b", "c", "a/a", "a/b", "b/a", "b/c", "a/a/b", "c/d"])
    part = st.sampled_from([".", "..", "a", "b", "c", "d", "", "..", "../.."])
    target = st.lists(part, min_size=1, max_size=4).map("/".join).filter(bool)
    absolute = target.map(lambda text: f"//ROOT/{text}")
    kind = st.one_of(st.none(), st.just(""), target, absolute)
    return draw(st.lists(st.tuples(names, kind), max_size=9))


@given(trees())
@settings(max_examples=30)
def test_links_lead_where_the_system_says(
    tmp_path_factory: pytest.TempPathFactory, tree: list[tuple[str, str | None]]
) -> None:
    around = Path(os.path.realpath(tmp_path_factory.mktemp("links")))
    root = around / "root"
    (root / "a" / "a").mkdir(parents=True)
    (around / "b").mkdir()
    (around / "b" / "back").symlink_to("../root/a")
    for name, target in tree:
        path = root / name
        if os.path.lexists(path) or not path.parent.is_dir():
            continue
        if target is None:
            path.write_bytes(name.encode())
        elif target == "":
            path.mkdir()
        else:
            path.symlink_to(target.replace("//ROOT", str(root)))
    below = Below(os.fsencode(root))
    links = Links(below)
    for path in sorted(root.rglob("*")):
        name = os.fsencode(path.name)
        try:
            path.stat()  # realpath() overlooks what is behind a file
            expected = os.path.realpath(path, strict=True)
        except OSError:
            expected = ""
        try:
            folder = links.real_folder(os.fsencode(path.parent.relative_to(root)).strip(b"."))
            found = os.fsdecode(links.follow(folder, name))
        except FileError:
            found = ""
        inside = expected == str(root) or expected.startswith(f"{root}/")
        assert found == (expected if inside else "")
    shutil.rmtree(around)


def test_a_link_over_very_many_parts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "file").write_bytes(b"1")
    way = "d/../" * 800
    previous = "file"
    for level in range(4):
        (tmp_path / f"l{level}").symlink_to(way + previous)
        previous = f"l{level}"
    found = read_all(Folder(tmp_path), "follow")
    assert found[b"l0"] == found[b"l1"] == hashlib.sha256(b"1").digest()
    assert found[b"l3"] == "is a symbolic link over more than 4,096 parts"


def test_links_to_links_to_folders_may_be_deeper_than_python_calls(tmp_path: Path) -> None:
    levels = 2000
    for level in range(levels):
        (tmp_path / f"{level}").mkdir()
        (tmp_path / f"{level}" / "n").symlink_to(f"../{level + 1}")
    (tmp_path / f"{levels}").mkdir()
    (tmp_path / f"{levels}" / "file").write_bytes(b"1")
    selection = Selection(symlinks="follow", paths=[b"0"])
    (found,) = Folder(tmp_path).list(selection, pytest.fail)
    assert found.path == b"0/" + b"n/" * levels + b"file"


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        (b"l", b"a", False),
        (b"l", b"../root/a", False),
        (b"l", b"../roots", True),
        (b"l", b"..", True),
        (b"l", b".", False),
        (b"d/l", b"..", False),
        (b"d/l", b"../..", True),
        (b"d/l", b"/root/a", False),
        (b"d/l", b"/etc/passwd", True),
    ],
)
def test_which_links_lead_out(path: bytes, target: bytes, out: bool) -> None:
    assert leads_out(path, target, b"/root") == out


class Cache:
    """A folder whose files are links to where many versions share them."""

    def __init__(self, around: Path) -> None:
        self.around = around / "models"
        self.blobs = self.around / "blobs"
        self.folder = self.around / "snapshots" / "rev"
        (self.folder / "sub").mkdir(parents=True)
        self.blobs.mkdir()
        (self.blobs / "1").write_bytes(b"one")
        (self.folder / "model").symlink_to("../../blobs/1")
        (self.folder / "sub" / "model").symlink_to("../../../blobs/1")
        (self.folder / "absolute").symlink_to(self.blobs / "1")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_links_may_lead_below_folders_that_are_named(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="out of the folder"):
        atlas.Manifest.generate(cache.folder, symlinks="follow")
    manifest = atlas.Manifest.generate(
        cache.folder, symlinks="follow", links_below=[cache.blobs, f"{cache.blobs}/"]
    )
    assert manifest.options.links_below == ("../../blobs",)
    digest = hashlib.sha256(b"one").digest()
    assert {entry.path: entry.sha256 for entry in manifest.entries} == dict.fromkeys(
        (b"absolute", b"model", b"sub/model"), digest
    )
    assert atlas.Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.verify(cache.folder).holds
    # As a whole it may move; but a link with a whole path leads to where it was.
    (cache.folder / "absolute").unlink()
    manifest = atlas.Manifest.generate(cache.folder, symlinks="follow", links_below=[cache.blobs])
    cache.around.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert manifest.verify(moved / "snapshots/rev").holds
    (moved / "blobs/1").write_bytes(b"two")
    report = manifest.verify(moved / "snapshots/rev")
    assert [each.kind for each in report.differences] == ["changed", "changed"]


def test_links_below_another_folder_lead_no_further(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (cache.blobs / "2").symlink_to("../../secret")
    (cache.folder / "out").symlink_to("../../blobs/2")
    (cache.folder / "beside").symlink_to("../../blobs/../../secret")
    source = Folder(cache.folder)
    problems: dict[bytes, str] = {}
    rules = Selection(symlinks="follow", links_below=("../../blobs",))
    found = {each.path for each in source.list(rules, problems.__setitem__)}
    assert found == {b"absolute", b"model", b"sub/model"}
    assert all(reason.endswith("out of the folder") for reason in problems.values())
    assert set(problems) == {b"out", b"beside"}


def test_folders_for_links_that_make_no_sense_are_refused(cache: Cache) -> None:
    def generate(**options: Any) -> None:
        atlas.Manifest.generate(cache.folder, **options)

    with pytest.raises(ValueError, match=r"links_below has '../../blobs', must be empty without"):
        generate(links_below=[cache.blobs])
    with pytest.raises(FileError, match=r"links_below has '.*/none': No such file or directory"):
        generate(symlinks="follow", links_below=[cache.around / "none"])
    with pytest.raises(FileError, match=r"links_below has '.*/1': is not a folder"):
        generate(symlinks="follow", links_below=[cache.blobs / "1"])
    with pytest.raises(ValueError, match=r"links_below has '.*/sub', must not be in the folder"):
        generate(symlinks="follow", links_below=[cache.folder / "sub"])
    with pytest.raises(ValueError, match=r"links_below has '.*/rev', must not be in the folder"):
        generate(symlinks="follow", links_below=[cache.folder])
    with pytest.raises(TypeError, match=r"links_below is of type str, must be a sequence"):
        generate(symlinks="follow", links_below=str(cache.blobs))
    with pytest.raises(ValueError, match=r"links_below has 'memory://b', must be empty for a URL"):
        generate(symlinks="follow", links_below=["memory://b"])
    manifest = atlas.Manifest.generate(cache.folder, symlinks="follow", links_below=[cache.blobs])
    cache.blobs.rename(cache.around / "other")
    with pytest.raises(FileError, match=r"links may lead below '../../blobs': No such file"):
        manifest.verify(cache.folder)


def test_links_that_lead_out_are_said_where_they_are_not_followed(cache: Cache) -> None:
    notes: list[str] = []
    manifest = atlas.Manifest.generate(cache.folder, note=notes.append)
    assert notes == ["3 symbolic links lead out of the folder; what is there is not read"]
    assert all(entry.target for entry in manifest.entries)
    report = manifest.verify(cache.folder)
    assert (report.holds, report.files, report.links, report.bytes) == (True, 0, 3, 0)


# --- Other processes


@pytest.mark.parametrize("symlinks", ["record", "follow"])
def test_another_process_reads_the_same_folder(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, symlinks: str
) -> None:
    (cache.folder / "file").write_bytes(b"1")
    monkeypatch.chdir(cache.folder)
    source = Folder(".")
    rules = Selection(symlinks=symlinks, links_below=("../../blobs",))
    founds = [each for each in source.list(rules, pytest.fail) if not each.target]
    assert len(founds) == (1 if symlinks == "record" else 4)
    form = pickle.dumps(source)
    monkeypatch.chdir("/")
    source = pickle.loads(form)
    assert source.name == str(cache.folder)
    for _, result in hash_files(source, founds, FLAT):
        assert isinstance(result, Digests)
        assert result.sha256 in {hashlib.sha256(each).digest() for each in (b"1", b"one")}


def test_another_process_reads_no_other_folder(prey: Prey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor through a link in its place, nor another folder of the same machine."""
    source = Folder(prey.folder)
    founds = [each for each in source.list(Selection(), pytest.fail) if not each.target]
    form = pickle.dumps(source)
    prey.folder.rename(prey.folder.with_name("aside"))
    shutil.copytree(prey.folder.with_name("aside"), prey.folder, symlinks=True)

    def reasons() -> set[str]:
        results = hash_files(pickle.loads(form), founds, FLAT)
        return {str(result) if isinstance(result, FileError) else "read" for _, result in results}

    assert reasons() == {"is below another folder than the one that was listed"}
    monkeypatch.setattr(descriptors, "_machine", lambda: "another one")
    assert reasons() == {"read"}
    shutil.rmtree(prey.folder)
    assert reasons() == {"No such file or directory"}
    prey.folder.symlink_to("aside")
    assert reasons() == {"changed while it was read: a folder around it is no longer a folder"}


def test_many_threads_open_files_of_many_folders_rightly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is held while a file of it is opened: with places for two, they come and go."""
    monkeypatch.setattr(descriptors, "OPEN_MOST", 2)
    expected = {}
    for index in range(400):
        path = tmp_path / f"{index % 20}" / f"{index % 7}" / f"{index}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(40_000, index))
        expected[os.fsencode(path.relative_to(tmp_path))] = hashlib.sha256(
            noise(40_000, index)
        ).digest()
    source = Folder(tmp_path)
    founds = list(source.list(Selection(), pytest.fail))
    random.Random(1).shuffle(founds)
    results = hash_files(source, founds, FLAT, threads=8)
    found = {each.path: result.sha256 for each, result in results if isinstance(result, Digests)}
    assert found == expected
