# SPDX-License-Identifier: Apache-2.0
"""An FTP server as the source of a manifest."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

import atlas12288 as atlas
from atlas12288._files import CHANGED, FileError
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.remote import RemoteFolder
from support.files import write_files
from support.strategies import noise
from test_manifest_remote import FILES, digests, error, listed


class Ftp:
    """A server of a folder.

    Attributes:
        commands: what it was asked, without arguments.
        most: how many clients it had at one time.
        unknown: commands that it says it does not know.
    """

    def __init__(self, folder: Path) -> None:
        outer = self
        self.commands: list[str] = []
        self.most = self._now = 0
        self.unknown: set[str] = set()

        class Handler(FTPHandler):  # type: ignore[misc]
            authorizer = DummyAuthorizer()

            def on_connect(self) -> None:
                outer._now += 1
                outer.most = max(outer.most, outer._now)

            def on_disconnect(self) -> None:
                outer._now -= 1

            def process_command(self, command: str, *args: object, **kwargs: object) -> None:
                outer.commands.append(command)
                if command in outer.unknown:
                    self.respond(f"502 {command} is not known.")
                else:
                    super().process_command(command, *args, **kwargs)

        Handler.authorizer.add_anonymous(str(folder))
        self.server = ThreadedFTPServer(("127.0.0.1", 0), Handler)
        self.url = f"ftp://127.0.0.1:{self.server.socket.getsockname()[1]}"


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[Ftp]:
    write_files(tmp_path / "data", FILES)
    for index in range(40):
        (tmp_path / "data" / f"{index}.bin").write_bytes(noise(index * 300))
    ftp = Ftp(tmp_path)
    thread = threading.Thread(target=ftp.server.serve_forever, kwargs={"timeout": 0.05})
    thread.start()
    yield ftp
    ftp.server.close_all()
    thread.join()


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_it_has_the_digests_of_the_folder(ftp: Ftp, tmp_path: Path, threads: int) -> None:
    source = RemoteFolder(f"{ftp.url}/data/")
    assert digests(source, threads) == digests(Folder(tmp_path / "data"))


def test_by_default_it_has_few_connections(ftp: Ftp, tmp_path: Path) -> None:
    manifest = atlas.Manifest.generate(f"{ftp.url}/data")
    assert manifest == atlas.Manifest.generate(tmp_path / "data")
    assert ftp.most <= 6
    assert manifest.verify(f"{ftp.url}/data").holds


def test_a_file_is_one_request_and_its_folder_is_not_listed_again(ftp: Ftp, tmp_path: Path) -> None:
    source = RemoteFolder(f"{ftp.url}/data/")
    founds, _ = listed(source)
    ftp.commands.clear()
    with source.open(founds["deep/large"]) as reader:
        for offset in range(0, founds["deep/large"].size, BLOCK_BYTES):
            reader.read_into(offset, memoryview(bytearray(BLOCK_BYTES)))
        reader.finish()
    assert ftp.commands.count("RETR") == 1
    assert not {"LIST", "MLSD", "NLST"} & set(ftp.commands)
    assert {"SIZE", "MDTM"} <= set(ftp.commands)


@pytest.mark.parametrize("name", ["a.bin", "deep/large"])
@pytest.mark.parametrize("unknown", [(), ("SIZE", "MDTM"), ("MLSD",)])
def test_what_changes_after_it_was_listed_is_an_error(
    ftp: Ftp, tmp_path: Path, name: str, unknown: tuple[str, ...]
) -> None:
    ftp.unknown = set(unknown)
    source = RemoteFolder(f"{ftp.url}/data/")
    founds, _ = listed(source)
    path = tmp_path / "data" / name
    path.write_bytes(path.read_bytes() + b"x")
    assert error(source, founds[name]).startswith(CHANGED)
    path.write_bytes(path.read_bytes()[:-3])
    assert error(source, founds[name]).startswith(CHANGED)
    path.unlink()
    assert error(source, founds[name]) == "No such file or directory"


def test_rules_are_read_where_there_are_some(ftp: Ftp, tmp_path: Path) -> None:
    source = RemoteFolder(f"{ftp.url}/data/")
    assert source.read_small(b".atlasignore") is None
    (tmp_path / "data" / ".atlasignore").write_bytes(b"*.bin\n")
    assert source.read_small(b".atlasignore") == b"*.bin\n"


def test_a_name_is_no_command(ftp: Ftp, tmp_path: Path) -> None:
    source = RemoteFolder(f"{ftp.url}/data/")
    found = listed(source)[0]["a.bin"]._replace(path=b"a.bin\r\nDELE a.bin")
    assert "illegal newline" in error(source, found)
    assert "DELE" not in ftp.commands


def test_no_server() -> None:
    with pytest.raises(FileError, match="Connection refused"):
        RemoteFolder("ftp://127.0.0.1:9/x")
