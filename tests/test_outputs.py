# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all, and never over what is not ours."""

import os
import resource
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from atlas12288._files import FileError, RegularFile
from atlas12288._outputs import (
    OutputKind,
    Target,
    atomic_write,
    atomic_write_all,
    open_outdated,
)
from support.files import make_socket
from support.leftovers import nothing_left
from support.paths import facts

MINE = b"mine: "
DATA = bytes(i % 251 for i in range(300_000))


def _is_mine(file: RegularFile) -> bool:
    return file.read(0, len(MINE)) == MINE


KIND = OutputKind("file of mine", _is_mine)
LINKS = OutputKind("file of mine", _is_mine, through_links=True)


def write(path: Path, content: bytes = MINE + b"new", kind: OutputKind = KIND) -> None:
    with atomic_write(str(path), kind) as file:
        file.write(content)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- whole or not at all ---


def test_a_name_appears_with_the_whole_content(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_write(str(target), KIND) as file:
        file.write(b"first")
        file.flush()
        assert not target.exists()
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError, SystemExit])
def test_nothing_is_left_after_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out"
    target.write_bytes(MINE)

    def fail() -> None:
        with atomic_write(str(target), KIND) as file:
            file.write(b"part")
            raise error

    with pytest.raises(FileError if error is OSError else error):
        fail()
    assert target.read_bytes() == MINE
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(MINE)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old_limit[1]))
    try:
        with pytest.raises(FileError, match="File too large"):
            write(target, DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert target.read_bytes() == MINE
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["", "missing/out", ".", "/dev/null", "a\0b"])
def test_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError), atomic_write(name, KIND):
        raise AssertionError("not reached")
    assert list(tmp_path.iterdir()) == []


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not mine")
    with nothing_left():
        write(tmp_path / "out")
        with pytest.raises(FileError):
            write(tmp_path / "text")


# --- never over what is not ours ---


def make_text(path: Path) -> None:
    path.write_bytes(b"my only copy")


def make_hard_link(path: Path) -> None:
    path.with_name("elsewhere").write_bytes(b"my only copy")
    path.hardlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("make", [make_text, make_hard_link, Path.mkdir, os.mkfifo, make_socket])
def test_what_is_not_ours_is_not_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    target = tmp_path / "out"
    make(target)
    before = facts([target])
    for kind in (KIND, LINKS):
        with pytest.raises(FileError, match="is not replaced"):
            write(target, kind=kind)
    assert facts([target]) == before


def test_what_is_ours_or_empty_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for content in (MINE + b"old", b""):
        target.write_bytes(content)
        write(target, MINE + b"new")
        assert target.read_bytes() == MINE + b"new"


def test_what_cannot_be_judged_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(MINE)

    def fails(file: RegularFile) -> bool:
        raise FileError("Input/output error")

    with pytest.raises(FileError, match="Input/output error"):
        write(target, kind=OutputKind("file", fails))
    assert target.read_bytes() == MINE


@pytest.mark.parametrize(
    ("leads_to", "reason"),
    [
        ("text", "which is not a file of mine, and is not followed"),
        ("empty", "which is not a file of mine, and is not followed"),
        ("nothing", "and is not followed: No such file or directory"),
        ("missing/nothing", "and is not followed: No such file or directory"),
        (".", "and is not followed: is a directory"),
        ("fifo", "and is not followed: is a FIFO"),
        ("/dev/zero", "and is not followed: is a character device"),
        ("out", "and is not followed: Too many levels of symbolic links"),
    ],
)
def test_a_link_to_anything_but_ours_is_refused_and_its_target_named(
    tmp_path: Path, leads_to: str, reason: str
) -> None:
    (tmp_path / "text").write_text("my only copy")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "out").symlink_to(leads_to)
    before = facts(tmp_path.iterdir())
    with pytest.raises(FileError) as caught:
        write(tmp_path / "out", kind=LINKS)
    assert str(caught.value).startswith(f"is a symbolic link to {leads_to}")
    assert reason in str(caught.value)
    with pytest.raises(FileError, match=r"is a symbolic link to .*, and is not replaced"):
        write(tmp_path / "out")
    assert facts(tmp_path.iterdir()) == before


def test_a_link_to_one_of_ours_is_followed_where_a_user_typed_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(MINE)
    (tmp_path / "by").symlink_to("real/file")
    (tmp_path / "out").symlink_to("by")
    write(tmp_path / "out", MINE + b"2", LINKS)
    assert (tmp_path / "out").readlink() == Path("by")
    assert (tmp_path / "by").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == MINE + b"2"
    assert names(tmp_path / "real") == {"file"}
    with pytest.raises(FileError, match="is a symbolic link to by, and is not replaced"):
        write(tmp_path / "out")


def write_while_it_is_swapped(target: Path, thesis: Path, is_link: bool) -> None:
    with atomic_write(str(target), LINKS) as file:
        file.write(MINE + b"new")
        target.unlink(missing_ok=True)
        if is_link:
            target.symlink_to(thesis.name)
        else:
            thesis.rename(target)


@pytest.mark.parametrize("is_link", [False, True])
def test_what_comes_there_meanwhile_is_judged_too(tmp_path: Path, is_link: bool) -> None:
    thesis = tmp_path / "thesis"
    thesis.write_bytes(b"my only copy")
    target = tmp_path / "out"
    for before in (None, MINE):
        if before is not None:
            target.write_bytes(before)
        with pytest.raises(FileError, match="and is not replaced"):
            write_while_it_is_swapped(target, thesis, is_link)
        left = target.read_bytes()
        assert left == b"my only copy"
        target.unlink()
        thesis.write_bytes(left)
    assert names(tmp_path) == {"thesis"}


def test_the_same_run_twice_at_once_is_no_harm(tmp_path: Path) -> None:
    with atomic_write(str(tmp_path / "out"), KIND) as one:
        write(tmp_path / "out", MINE + b"2")
        one.write(MINE + b"1")
    assert (tmp_path / "out").read_bytes() == MINE + b"1"
    assert names(tmp_path) == {"out"}


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    (tmp_path / "home").mkdir()
    with atomic_write(str(tmp_path / "upload" / "out"), KIND) as file:
        file.write(MINE)
        (tmp_path / "upload").rename(tmp_path / "moved")
        (tmp_path / "upload").symlink_to("home")
    assert names(tmp_path / "home") == set()
    assert (tmp_path / "moved" / "out").read_bytes() == MINE


def test_a_link_of_which_the_target_is_swapped_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(MINE)
    (tmp_path / "thesis").write_bytes(b"my only copy")
    (tmp_path / "out").symlink_to("real")
    with atomic_write(str(tmp_path / "out"), LINKS) as file:
        file.write(MINE + b"new")
        (tmp_path / "out").unlink()
        (tmp_path / "out").symlink_to("thesis")
    assert (tmp_path / "thesis").read_bytes() == b"my only copy"
    assert (tmp_path / "real").read_bytes() == MINE + b"new"


def test_inputs_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(MINE)
    (tmp_path / "out").hardlink_to(tmp_path / "in")
    for name in ("in", "out"):
        with pytest.raises(FileError, match="is also read"):
            Target(str(tmp_path / name), KIND, [str(tmp_path / "in")])


# --- who may read it ---


def test_the_mode_of_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o037)
    try:
        write(tmp_path / "out")
    finally:
        os.umask(before)
    assert mode(tmp_path / "out") == 0o640


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o444, 0o666, 0o751])
def test_the_mode_of_what_is_replaced_is_kept(tmp_path: Path, bits: int) -> None:
    (tmp_path / "out").write_bytes(MINE)
    (tmp_path / "out").chmod(bits)
    with atomic_write(str(tmp_path / "out"), KIND) as file:
        file.write(MINE)
        (part,) = names(tmp_path) - {"out"}
        assert mode(tmp_path / part) == bits  # before it has a byte
    assert mode(tmp_path / "out") == bits


def test_bits_that_give_rights_to_who_runs_it_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(MINE)
    (tmp_path / "out").chmod(0o6755)
    write(tmp_path / "out")
    assert mode(tmp_path / "out") == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_root_keeps_owner_and_group(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(MINE)
    os.chown(tmp_path / "out", 1234, 2345)
    write(tmp_path / "out")
    status = (tmp_path / "out").stat()
    assert (status.st_uid, status.st_gid) == (1234, 2345)


def test_a_group_that_cannot_be_kept_has_the_rights_of_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_bytes(MINE)
    (tmp_path / "out").chmod(0o664)

    def refuse(descriptor: int, uid: int, gid: int) -> None:
        raise PermissionError

    real = os.fstat
    monkeypatch.setattr(os, "fchown", refuse)
    with Target(str(tmp_path / "out"), KIND) as target:
        # As where the file that is replaced is of a group that this user is not in.
        monkeypatch.setattr(
            os, "fstat", lambda number: os.stat_result([*real(number)[:5], 999, *real(number)[6:]])
        )
        with target.open() as file:
            monkeypatch.undo()
            assert stat.S_IMODE(real(file.fileno()).st_mode) == 0o644


# --- several at once ---


def pair(folder: Path) -> tuple[Target, Target]:
    return Target(str(folder / "first"), KIND), Target(str(folder / "beside"), KIND)


def write_pair(folder: Path, content: bytes) -> None:
    first, beside = pair(folder)
    with first, beside, atomic_write_all(first, beside) as files:
        for file in files:
            file.write(MINE + content)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes().removeprefix(MINE) for path in folder.iterdir()}


def test_both_get_their_names_or_none(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        write_pair(tmp_path, content)
        assert contents(tmp_path) == {"first": content, "beside": content}
    first, beside = pair(tmp_path)

    def fail() -> None:
        with first, beside, atomic_write_all(first, beside) as files:
            files[0].write(MINE)
            raise OSError

    with pytest.raises(FileError):
        fail()
    assert contents(tmp_path) == {"first": b"new", "beside": b"new"}


@pytest.mark.parametrize("fails", range(4))
def test_after_a_crash_no_file_stands_beside_one_that_it_is_not_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """Each change of a name is the last that the machine makes."""
    write_pair(tmp_path, b"old")
    changes = 0

    def crash(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*names: str, **folders: int) -> None:
            nonlocal changes
            if changes >= fails:
                raise SystemExit
            changes += 1
            change(*names, **folders)

        return changed

    monkeypatch.setattr(os, "rename", crash(os.rename))
    monkeypatch.setattr(os, "unlink", crash(os.unlink))
    with pytest.raises(SystemExit):
        write_pair(tmp_path, b"new")
    found = contents(tmp_path)
    assert found["first"] == (b"old" if fails < 2 else b"new")
    assert found.get("beside", found["first"]) == found["first"]


@pytest.mark.parametrize("fails", range(3))
def test_a_name_that_cannot_be_given_leaves_a_pair_that_belongs_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    write_pair(tmp_path, b"old")
    rename, calls = os.rename, iter(range(10))

    def fail_once(*names: str, **folders: int) -> None:
        if next(calls) == fails:
            raise OSError(28, "No space left on device")
        rename(*names, **folders)

    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(FileError, match="No space left"):
        write_pair(tmp_path, b"new")
    monkeypatch.undo()
    expected = {"first": b"old", "beside": b"old"} if fails < 2 else {"first": b"new"}
    assert contents(tmp_path) == expected


def test_what_is_outdated_goes_when_the_first_file_is_there(tmp_path: Path) -> None:
    first, beside = tmp_path / "out", tmp_path / "beside"
    for path in (first, beside):
        path.write_bytes(MINE)
    for fails in (True, False):
        outdated = open_outdated(str(beside), KIND)
        assert outdated is not None
        with (
            suppress(KeyError),
            outdated,
            Target(str(first), KIND) as target,
            atomic_write_all(target, outdated=outdated) as (file,),
        ):
            file.write(MINE + b"new")
            assert beside.read_bytes() == MINE
            if fails:
                raise KeyError
        assert names(tmp_path) == ({"out", "beside"} if fails else {"out"})
    assert first.read_bytes() == MINE + b"new"


def test_only_what_is_ours_is_outdated(tmp_path: Path) -> None:
    assert open_outdated(str(tmp_path / "none"), KIND) is None
    for content in (b"", b"theirs"):
        (tmp_path / "other").write_bytes(content)
        assert open_outdated(str(tmp_path / "other"), KIND) is None
    (tmp_path / "mine").write_bytes(MINE)
    (tmp_path / "link").symlink_to("mine")
    assert open_outdated(str(tmp_path / "link"), KIND) is None
