# SPDX-License-Identifier: Apache-2.0
"""tar and zip files as sources of manifests: what is in them is what they unpack to."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("fsspec", reason="URLs need fsspec")

import atlas12288 as atlas
from atlas12288._files import CHANGED
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.remote import RemoteFolder
from atlas12288.manifest._sources.selection import Selection
from support.files import write_files
from support.strategies import noise
from test_manifest_remote import FILES, digests, error, listed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with FILES, many more and a link."""
    folder = tmp_path / "data"
    files = FILES | {f"many/{index}": noise(index * 997) for index in range(60)}
    write_files(folder, files)
    return folder


def tar(folder: Path, mode: str = "w") -> str:
    path = folder.parent / f"data.tar{mode.partition(':')[2] and '.gz'}"
    with tarfile.open(path, mode) as file:
        file.add(folder, ".")
    return f"tar://::file://{path}"


def zipped(folder: Path, _: str = "") -> str:
    path = folder.parent / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for member in sorted(folder.rglob("*")):
            file.write(member, member.relative_to(folder))
    return f"zip://::file://{path}"


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(("make", "mode"), [(tar, "w"), (tar, "w:gz"), (zipped, "")])
def test_an_archive_has_the_digests_of_its_folder(
    folder: Path, make: Callable[[Path, str], str], mode: str, threads: int
) -> None:
    """Its members share one file with one position."""
    expected = digests(Folder(folder))
    assert digests(RemoteFolder(make(folder, mode)), threads) == expected


def test_a_part_of_an_archive(folder: Path) -> None:
    url = tar(folder).replace("tar://", "tar://deep/")
    assert set(digests(RemoteFolder(url))) == {"er/b", "large"}
    parts = Selection(paths=(b"many/7", b"deep/er"))
    founds, problems = listed(RemoteFolder(tar(folder)), parts)
    assert problems == {}
    assert {found.path for found in founds.values()} == {b"many/7", b"deep/er/b"}


def members(path: Path, *infos: tarfile.TarInfo) -> str:
    data = b"hello"
    with tarfile.open(path, "w") as file:
        for info in infos:
            info.size = len(data) if info.isreg() else 0
            file.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return f"tar://::file://{path}"


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_links_of_a_tar_file_are_what_they_are_when_it_is_unpacked(tmp_path: Path) -> None:
    url = members(
        tmp_path / "x.tar",
        member("d/f"),
        member("hard", tarfile.LNKTYPE, "d/f"),
        member("again", tarfile.LNKTYPE, "hard"),
        member("soft", tarfile.SYMTYPE, "d/f"),
        member("nowhere", tarfile.SYMTYPE, "none"),
    )
    manifest = atlas.Manifest.generate(url)
    found = {entry.path: (entry.size, entry.target) for entry in manifest.entries}
    assert found == {
        b"d/f": (5, None),
        b"hard": (5, None),
        b"again": (5, None),
        b"soft": (0, b"d/f"),
        b"nowhere": (0, b"none"),
    }
    digest = atlas.Witness.generate(b"hello").digest
    assert {entry.sha256 for entry in manifest.entries if entry.target is None} == {digest}
    with tarfile.open(tmp_path / "x.tar") as file:
        file.extraction_filter = getattr(tarfile, "tar_filter", None)  # from Python 3.11.4 on
        file.extractall(tmp_path / "out")
    assert atlas.Manifest.generate(tmp_path / "out") == manifest


def test_what_a_tar_file_has_and_is_no_file_is_named(tmp_path: Path) -> None:
    url = members(
        tmp_path / "x.tar",
        member("good"),
        member("dangling", tarfile.LNKTYPE, "none"),
        member("around", tarfile.LNKTYPE, "around"),
        member("to-a-link", tarfile.LNKTYPE, "soft"),
        member("soft", tarfile.SYMTYPE, "good"),
        member("fifo", tarfile.FIFOTYPE),
        member("device", tarfile.CHRTYPE),
        member("../out"),
        member("/etc/absolute"),
    )
    founds, problems = listed(RemoteFolder(url))
    assert set(founds) == {"good", "soft"}
    assert set(problems) == {
        "dangling",
        "around",
        "to-a-link",
        "fifo",
        "device",
        "../out",
        "/etc/absolute",
    }
    assert problems["dangling"] == "is a hard link to 'none', which is not a file of the archive"


def test_of_one_name_the_last_member_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for name, data in (("./a", b"old"), ("a", b"newer")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    manifest = atlas.Manifest.generate(f"tar://::file://{tmp_path / 'x.tar'}")
    assert [(e.path, e.sha256) for e in manifest.entries] == [
        (b"a", atlas.Witness.generate(b"newer").digest)
    ]


def test_links_of_a_zip_file(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", b"hello")
        for name, kind, data in (
            ("link", stat.S_IFLNK, b"a"),
            ("empty", stat.S_IFLNK, b""),
            ("long", stat.S_IFLNK, b"a" * 5000),
            ("fifo", stat.S_IFIFO, b""),
        ):
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            file.writestr(info, data)
    founds, problems = listed(RemoteFolder(f"zip://::file://{path}"))
    assert {name: found.target for name, found in founds.items()} == {"a": None, "link": b"a"}
    assert set(problems) == {"empty", "long", "fifo"}


@pytest.mark.parametrize("make", [tar, zipped])
def test_an_archive_that_is_written_meanwhile_is_an_error(
    folder: Path, make: Callable[[Path], str]
) -> None:
    url = make(folder)
    source = RemoteFolder(url)
    founds, _ = listed(source)
    path = Path(url.rpartition("file://")[2])
    with path.open("r+b") as file:
        file.seek(600)
        file.write(b"x")
    assert error(source, founds["a.bin"]) == CHANGED


@pytest.mark.parametrize("make", [tar, zipped])
def test_an_update_reads_an_archive_that_was_made_anew(
    folder: Path, make: Callable[[Path], str], tmp_path: Path
) -> None:
    """Tools that make the same archive twice give all members one time."""
    read: list[int] = []
    for byte in (b"a", b"b"):
        for path in folder.rglob("*"):
            if path.is_file():
                path.write_bytes(byte * 1000)
                os.utime(path, (10**9, 10**9))
        url = make(folder)
        read.clear()
        manifest = atlas.Manifest.generate(
            url,
            output=tmp_path / "m.atlas.json",
            state=tmp_path / "state",
            update=True,
            advance=read.append,
        )
        assert {entry.sha256 for entry in manifest.entries} == {
            atlas.Witness.generate(byte * 1000).digest
        }


def test_a_damaged_member_of_a_zip_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", noise(BLOCK_BYTES + 5))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    source = RemoteFolder(f"zip://::file://{path}")
    assert "Bad CRC-32" in error(source, listed(source)[0]["a"])
