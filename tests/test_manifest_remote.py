# SPDX-License-Identifier: Apache-2.0
"""URLs as sources of manifests, where no network is needed. `make check-remote` has S3 and HTTP."""

import hashlib
import importlib.util
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fsspec", reason="URLs need fsspec")

from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

import atlas12288 as atlas
from atlas12288 import WitnessError
from atlas12288._files import CHANGED, FileError
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._generate import generate_manifest, read_options
from atlas12288.manifest._hashing.engine import hash_files
from atlas12288.manifest._hashing.file_hash import Digests
from atlas12288.manifest._sources import remote, storages
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.remote import RemoteFolder
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.source import Found, Source
from atlas12288.manifest._sources.storages import Storage
from support.files import write_files
from support.strategies import noise

FILES = {
    "a.bin": noise(100),
    "empty": b"",
    "deep/er/b": noise(3 * 12288 + 5),
    "deep/large": noise(2 * BLOCK_BYTES + 77),
    "with space?#%41é": noise(9),
}


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """A storage in memory, with FILES in its folder /data."""
    storage = MemoryFileSystem()
    for name, data in FILES.items():
        storage.pipe_file(f"/data/{name}", data)
    yield storage
    storage.store.clear()
    storage.pseudo_dirs[:] = [""]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of this machine with FILES."""
    write_files(tmp_path / "data", FILES)
    return tmp_path / "data"


def listed(
    source: Source, rules: Selection | None = None
) -> tuple[dict[str, Found], dict[str, str]]:
    problems: dict[str, str] = {}
    founds = source.list(
        rules or Selection(), lambda path, reason: problems.update({path.decode(): reason})
    )
    return {found.path.decode(): found for found in founds}, problems


def digests(source: Source, threads: int = 3) -> dict[str, Digests | FileError]:
    founds, problems = listed(source)
    assert problems == {}
    results = hash_files(source, founds.values(), DIGESTS, threads=threads)
    return {found.path.decode(): result for found, result in results}


def error(source: Source, found: Found) -> str:
    ((_, result),) = hash_files(source, [found], DIGESTS, threads=1)
    assert isinstance(result, FileError)
    return str(result)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("url", ["memory://data", "memory://data/", "memory:///data"])
def test_a_url_has_the_digests_of_a_folder(
    memory: MemoryFileSystem, folder: Path, url: str, threads: int
) -> None:
    assert digests(RemoteFolder(url), threads) == digests(Folder(folder))


@pytest.mark.parametrize("end", ["", "/"])
def test_file_urls_are_folders(folder: Path, end: str) -> None:
    source = RemoteFolder(folder.as_uri() + end)
    assert digests(source) == digests(Folder(folder))


def test_the_whole_of_a_storage(memory: MemoryFileSystem) -> None:
    assert set(listed(RemoteFolder("memory://"))[0]) == {f"data/{name}" for name in FILES}


def test_the_manifest_of_a_url_is_that_of_a_folder(
    memory: MemoryFileSystem, folder: Path, tmp_path: Path
) -> None:
    manifests = []
    for source in (Folder(folder), RemoteFolder("memory://data")):
        options = read_options(source, tree=True)
        output, leaves = tmp_path / "out.atlas.json", tmp_path / "out.atlas.leaves"
        generate_manifest(source, options, str(output), leaves=str(leaves))
        manifests.append((output.read_bytes(), leaves.read_bytes()))
    assert manifests[0] == manifests[1]


def test_a_url_of_one_object_lists_it_alone(memory: MemoryFileSystem) -> None:
    founds, problems = listed(RemoteFolder("memory://data/deep/large"))
    assert (set(founds), problems) == ({"large"}, {})
    assert founds["large"].size == len(FILES["deep/large"])
    assert set(digests(RemoteFolder("memory://data/a.bin"))) == {"a.bin"}


def test_paths_are_listed_alone(memory: MemoryFileSystem) -> None:
    source = RemoteFolder("memory://data")
    founds, problems = listed(source, Selection(paths=(b"deep", b"a.bin", b"none")))
    assert set(founds) == {"deep/er/b", "deep/large", "a.bin"}
    assert problems == {"none": "No such file or directory"}
    with pytest.raises(WitnessError, match=r"path is '\.\./x', must be relative"):
        Selection(paths=(b"../x",))
    with pytest.raises(FileError, match="is not a folder"):
        listed(RemoteFolder("memory://data/a.bin"), Selection(paths=(b"x",)))


@pytest.mark.parametrize("name", ["a//b", "../x", "./x", "b/../c", "nul\0", "deep/er/../../x"])
def test_keys_that_are_no_paths_are_problems(memory: MemoryFileSystem, name: str) -> None:
    memory.store[f"/data/{name}"] = memory.store["/data/a.bin"]
    founds, problems = listed(RemoteFolder("memory://data"))
    assert set(founds) == set(FILES)
    ((path, reason),) = problems.items()
    assert name.startswith(path.rstrip("/"))
    assert "must be relative, without NUL" in reason


def test_rules_leave_out_files_and_folders(memory: MemoryFileSystem) -> None:
    for rules, expected in (
        (Selection(exclude=["deep/er/"]), set(FILES) - {"deep/er/b"}),
        (Selection(exclude=["/deep"]), {"a.bin", "empty", "with space?#%41é"}),
        (Selection(exclude=["*.bin"]), set(FILES) - {"a.bin"}),
    ):
        assert set(listed(RemoteFolder("memory://data"), rules)[0]) == expected


def test_rules_leave_out_paths_that_are_named_too(memory: MemoryFileSystem) -> None:
    source = RemoteFolder("memory://data")
    paths = (b"deep/er", b"deep/large", b"a.bin", b"empty")
    rules = Selection(exclude=["/deep/", "*.bin"], paths=paths)
    assert (set(listed(source, rules)[0]), rules.left_out) == (
        {"empty"},
        [b"deep/er", b"deep/large", b"a.bin"],
    )


def test_links_are_recorded_and_never_followed(folder: Path) -> None:
    (folder / "link").symlink_to("deep")
    source = RemoteFolder(folder.as_uri())
    founds, problems = listed(source)
    assert problems == {}
    assert founds["link"].target == b"deep"
    for policy in ("error", "follow"):
        founds, problems = listed(source, Selection(symlinks=policy))
        assert set(founds) == set(FILES)
        assert problems == {
            "link": "is a symbolic link, and links in remote storage are not followed"
        }


def change(memory: MemoryFileSystem, name: str) -> None:
    memory.pipe_file(name, bytes(len(memory.store[name].getvalue())))


def shorten(memory: MemoryFileSystem, name: str) -> None:
    memory.pipe_file(name, memory.store[name].getvalue()[:-1])


def lengthen(memory: MemoryFileSystem, name: str) -> None:
    memory.pipe_file(name, memory.store[name].getvalue() + b"x")


@pytest.mark.parametrize("name", ["a.bin", "deep/large"])
@pytest.mark.parametrize("act", [change, shorten, lengthen])
def test_what_changes_after_it_was_listed_is_an_error(
    memory: MemoryFileSystem, act: Callable[[MemoryFileSystem, str], None], name: str
) -> None:
    source = RemoteFolder("memory://data")
    found = listed(source)[0][name]
    act(memory, f"/data/{name}")
    assert error(source, found) == CHANGED


def test_what_vanishes_is_an_error(memory: MemoryFileSystem) -> None:
    source = RemoteFolder("memory://data")
    founds, _ = listed(source)
    for name in FILES:
        memory.rm_file(f"/data/{name}")
        assert error(source, founds[name]) == "No such file or directory"


def test_what_becomes_a_folder_is_an_error(memory: MemoryFileSystem) -> None:
    source = RemoteFolder("memory://data")
    founds, _ = listed(source)
    memory.rm_file("/data/empty")
    memory.pipe_file("/data/empty/now", b"x")
    assert error(source, founds["empty"]) == CHANGED


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda data: data[:-1], "gave 99 bytes of 100 from byte 0 on"),
        (lambda data: data + b"x", f"{CHANGED}: it had 100 bytes, and there are more"),
        (lambda data: data + b"xy", "is not read: the server gives no parts of files"),
    ],
)
def test_answers_of_another_length_are_errors(
    memory: MemoryFileSystem,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[bytes], bytes],
    reason: str,
) -> None:
    source = RemoteFolder("memory://data")
    found = listed(source)[0]["a.bin"]
    read = MemoryFileSystem.cat_file

    def answers(*args: Any, **kwargs: Any) -> bytes:
        return answer(read(*args, **kwargs))

    monkeypatch.setattr(MemoryFileSystem, "cat_file", answers)
    assert error(source, found) == reason


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (PermissionError("bucket/key"), "Permission denied"),
        (TimeoutError(), "Connection timed out"),
        (RuntimeError("two\nlines"), "two lines"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_what_a_library_raises_is_one_clear_error(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, raised: Exception, reason: str
) -> None:
    source = RemoteFolder("memory://data")
    founds, _ = listed(source)

    def fails(*args: object, **kwargs: object) -> None:
        raise raised

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fails)
    assert error(source, founds["a.bin"]) == reason
    with pytest.raises(FileError, match=f"^{reason}$"):
        source.read_small(b"a.bin")
    monkeypatch.setattr(MemoryFileSystem, "ls", fails)
    with pytest.raises(FileError, match=f"^{reason}$"):
        listed(source)
    monkeypatch.setattr(MemoryFileSystem, "info", fails)
    with pytest.raises(FileError, match=f"^{reason}$"):
        RemoteFolder("memory://data")


def test_a_folder_that_cannot_be_listed_is_a_problem_and_the_others_are_listed(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MemoryFileSystem.ls

    def ls(storage: MemoryFileSystem, path: str, **kwargs: Any) -> Any:
        if path.endswith("/er"):
            raise PermissionError(path)
        return real(storage, path, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "ls", ls)
    founds, problems = listed(RemoteFolder("memory://data"))
    assert set(founds) == set(FILES) - {"deep/er/b"}
    assert problems == {"deep/er": "Permission denied"}


def test_small_files_are_read_whole_and_may_be_missing(memory: MemoryFileSystem) -> None:
    source = RemoteFolder("memory://data")
    assert source.read_small(b"a.bin") == FILES["a.bin"]
    assert source.read_small(b"deep/none") is None
    assert source.read_small(b"deep") is None


@pytest.mark.parametrize("url", ["memory://none", "memory://none/", "memory://data/a.bin/x"])
def test_a_url_where_nothing_is(memory: MemoryFileSystem, url: str) -> None:
    with pytest.raises(FileError, match=r"^No such file or directory$"):
        RemoteFolder(url)


def test_a_file_url_is_the_folder_itself(folder: Path) -> None:
    made = {name: folder / f"m.atlas.{name}" for name in ("json", "state")}
    for url in (folder.as_uri(), f"local://{folder}", f"file://{folder}/"):
        for _ in range(2):  # with what the run before wrote
            manifest = atlas.Manifest.generate(url, output=made["json"], state=made["state"])
            assert {entry.path.decode() for entry in manifest.entries} == set(FILES)
        assert manifest.verify(url, outputs=list(made.values())).holds
    one = atlas.Manifest.generate(f"file://{folder}/deep/large")
    assert [entry.path for entry in one.entries] == [b"large"]
    with pytest.raises(FileError, match="No such file"):
        atlas.Manifest.generate(f"file://{folder}/none")


@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache", "cached"])
def test_what_reads_a_copy_is_refused_unless_it_is_wanted(folder: Path, cache: str) -> None:
    url = f"{cache}::{folder.as_uri()}"
    with pytest.raises(FileError, match=f"^{cache}:: reads a copy that is kept on this machine"):
        RemoteFolder(url)
    with pytest.raises(FileError, match="--allow-cache"):
        RemoteFolder(f"dir::{folder.as_uri()}", dir={"target_protocol": cache})
    with pytest.raises(FileError, match=f"{cache}:: reads a copy"):
        atlas.Manifest.generate(url)
    if not url_to_fs(url)[1].strip("/"):  # by the oldest fsspec, `cached`
        with pytest.raises(FileError, match="cached:: is not given the folder by this fsspec"):
            atlas.Manifest.generate(url, allow_cache=True)
        return
    manifest = atlas.Manifest.generate(url, allow_cache=True)
    assert set(FILES) == {entry.path.decode() for entry in manifest.entries}
    with pytest.raises(ValueError, match="allow_cache is True, must be False for a folder"):
        atlas.Manifest.generate(folder, allow_cache=True)


def test_a_listing_is_not_what_others_listed_before(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the file systems of object stores do: an instance is shared, and keeps what it listed."""
    kept: dict[str, Any] = {}
    real = MemoryFileSystem.ls

    def ls(storage: MemoryFileSystem, path: str, **kwargs: Any) -> Any:
        if path not in kept:
            kept[path] = real(storage, path, **kwargs)
        return kept[path]

    monkeypatch.setattr(MemoryFileSystem, "ls", ls)
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda *_: kept.clear())
    source = RemoteFolder("memory://data")
    for folder in ("/data", "/data/deep"):
        memory.ls(folder, detail=True)
    memory.pipe_file("/data/new", b"new")
    memory.pipe_file("/data/deep/new", b"new")
    assert set(listed(source)[0]) == {*FILES, "new", "deep/new"}


@dataclass
class _Place:
    """As much of a resolved path of the Hugging Face Hub as is used."""

    repo_type: str
    repo_id: str
    revision: str
    _raw_revision: str | None

    def unresolve(self) -> str:
        return f"{self.repo_id}@{self._raw_revision or self.revision}"


class _Hub(MemoryFileSystem):
    """Repositories: a branch that moves, and commits that stay."""

    protocol = "hf"
    head = "aaaa"
    _api = SimpleNamespace(repo_info=lambda *_, **__: SimpleNamespace(sha=_Hub.head))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        name = path.removeprefix("hf://").strip("/")
        return f"/{name.replace('/m/', '/m@main/').replace('@main', '@' + cls.head)}"

    def resolve_path(self, path: str) -> _Place:
        return _Place("model", "/org/m", "main", "main")


@pytest.mark.parametrize("moves", [False, True])
def test_a_repository_is_read_as_it_was_at_one_commit(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    """What its listing says are digests, which come back with an old content."""
    # Not fsspec.registry, which is a mapping that is only read.
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "hf", _Hub)
    monkeypatch.setattr(storages, "identity_of", lambda *_: ("blob_id=1", 0))
    old, new = noise(2 * BLOCK_BYTES), bytes(2 * BLOCK_BYTES)
    for commit, data in (("aaaa", old), ("bbbb", new)):
        memory.pipe_file(f"/org/m@{commit}/large", data)
    source = RemoteFolder("hf://org/m/")
    copy = pickle.loads(pickle.dumps(source))
    founds, _ = listed(source)
    monkeypatch.setattr(_Hub, "head", "bbbb" if moves else "aaaa")
    for each in source, copy:
        ((_, result),) = hash_files(each, founds.values(), DIGESTS)
        assert isinstance(result, Digests)
        assert result.sha256 == hashlib.sha256(old).digest()


def test_a_page_of_html_is_no_file_of_rules(memory: MemoryFileSystem) -> None:
    source = RemoteFolder("memory://data")
    for page in (b"<!DOCTYPE html>\n*", b"\xef\xbb\xbf\n <html lang=en>\n*", b"<HTML>"):
        memory.pipe_file("/data/.atlasignore", page)
        assert read_options(source).exclude == ()
    memory.pipe_file("/data/.atlasignore", b"# <html>\n*.html\n")
    assert read_options(source).exclude == ("*.html",)
    memory.pipe_file("/data/.atlasignore", bytes(remote.SMALL_MOST_BYTES + 1))
    with pytest.raises(FileError, match=r"^\.atlasignore: has more than 1,048,576 bytes$"):
        read_options(source)


def test_a_listing_without_end_ends(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def ls(storage: MemoryFileSystem, path: str, **_: Any) -> Any:
        nonlocal count
        count += 1
        return [{"name": f"{path}/{at}", "size": 0, "type": "directory"} for at in "abc"]

    source = RemoteFolder("memory://data")
    monkeypatch.setattr(MemoryFileSystem, "ls", ls)
    monkeypatch.setattr(remote, "FOLDERS_MOST", 500)
    monkeypatch.setattr(remote, "PATH_MOST", 20)
    problems = Counter[str]()
    with pytest.raises(FileError, match=r"^has more than 500 folders, the last one '"):
        list(source.list(Selection(), lambda path, reason: problems.update([reason])))
    assert count == 500
    assert set(problems) == {"is a path of 21 bytes, must have at most 20"}


def test_a_size_that_is_none_is_a_problem(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"a": -1, "b": "12", "c": 1.5}

    def ls(*_: Any, **__: Any) -> Any:
        return [{"name": f"/data/{n}", "size": size, "type": "file"} for n, size in sizes.items()]

    source = RemoteFolder("memory://data")
    monkeypatch.setattr(MemoryFileSystem, "ls", ls)
    founds, problems = listed(source)
    assert (founds, set(problems)) == ({}, set(sizes))


def test_what_has_no_identity_is_read_again(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storages, "identity_of", lambda *_: ("", 0))
    memory.rm("/data/deep", recursive=True)
    size = sum(len(data) for name, data in FILES.items() if "deep" not in name)
    read: list[int] = []
    for _ in range(3):
        read.clear()
        atlas.Manifest.generate(
            "memory://data",
            output=tmp_path / "m.atlas.json",
            state=tmp_path / "state",
            update=True,
            advance=read.append,
        )
        assert sum(read) == size


def test_a_kind_of_url_that_nobody_knows() -> None:
    with pytest.raises(FileError, match="Protocol not known: nothing"):
        RemoteFolder("nothing://x")
    with pytest.raises(TypeError, match="url is of type bytes, must be str"):
        RemoteFolder(b"memory://x")  # type: ignore[arg-type]


def test_a_source_can_be_pickled_and_asks_nothing_when_it_comes_back(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = RemoteFolder("memory://data")
    found = listed(source)[0]["deep/large"]
    form = pickle.dumps(source)
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_: pytest.fail("asked"))
    copy = pickle.loads(form)
    monkeypatch.undo()
    assert copy.name == source.name == "memory://data"
    assert listed(copy) == listed(source)
    with copy.open(found) as reader:
        buffer = memoryview(bytearray(10))
        assert reader.read_into(found.size - 4, buffer) == 4
        assert bytes(buffer[:4]) == FILES["deep/large"][-4:]
        assert reader.read_into(found.size, buffer) == 0


def test_the_name_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(folder: RemoteFolder, _: object) -> str:
        folder._storage = Storage(MemoryFileSystem(), "sftp")
        return "/"

    monkeypatch.setattr(RemoteFolder, "_connect", connect)
    assert RemoteFolder("sftp://me:secret@host:22/").name == "sftp://me:***@host:22/"


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fsspec" else real(name)
    )
    with pytest.raises(ImportError, match=r"pip install 'atlas12288\[remote\]'"):
        RemoteFolder("memory://x")


def test_without_s3fs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)  # where it was used before
    with pytest.raises(
        ImportError, match=r"^s3:// needs s3fs: pip install 'atlas12288\[remote\]' s3fs$"
    ):
        RemoteFolder("s3://bucket/x")
