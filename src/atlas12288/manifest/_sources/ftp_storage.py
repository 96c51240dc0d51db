# SPDX-License-Identifier: Apache-2.0
"""FTP servers as storage."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from ..._files import CHANGED, FileError
from .identities import identity_of, is_same
from .source import Found
from .storage_errors import is_gone, storage_errors
from .storages import ByteStream, StreamStorage

# Each stream is a connection, and many servers take few of one client.
_READERS: Final = 2


class FtpStorage(StreamStorage):
    """FTP: each reader has a connection of its own, because a connection does one thing at a time.

    A file is one stream. Connections that are idle are used again.
    """

    readers = _READERS

    def __init__(self, fs: Any, scheme: str) -> None:
        super().__init__(fs, scheme)
        self._idle: list[Any] = []

    def open_stream(self, name: str, offset: int, found: Found) -> ByteStream:
        with storage_errors():
            connection = self._connection()
            try:
                connection.ftp.voidcmd("TYPE I")
                data = connection.ftp.transfercmd(f"RETR {name}", rest=offset or None)
            except BaseException as error:
                _close(connection)
                if str(error).startswith("550"):
                    raise FileNotFoundError(name) from error
                raise
        return _FtpStream(connection, data, self._idle)

    def read_small(self, name: str, most: int) -> bytes | None:
        try:
            stream = self.open_stream(name, 0, Found(b"", most, ""))
        except FileError as error:
            if not is_gone(error):
                raise
            # The answer is the same where it may not be read.
            folder = name.rpartition("/")[0]
            names = {info["name"] for info in self.list_folder(folder, lambda *_: None)}
            if name in names and self.info(name)["type"] != "directory":
                raise FileError("is there, and is not given") from error
            return None
        try:
            return stream.read(most)
        finally:
            stream.close()

    def check(self, name: str, found: Found) -> None:
        """Compare by commands about one file, if the server has them: listing its folder for each
        file would take quadratic time. The file was read as one stream, so as one content."""
        with storage_errors():
            connection = self._connection()
            try:
                connection.ftp.voidcmd("TYPE I")
                size = _answer(connection.ftp, f"SIZE {name}")
                time = _answer(connection.ftp, f"MDTM {name}")
            except BaseException as error:
                _close(connection)
                if str(error).startswith("550"):
                    raise FileNotFoundError(name) from error
                raise
        self._idle.append(connection)
        identity, _ = identity_of({"modify": time})
        if (size is not None and size != str(found.size)) or (
            identity and not is_same(found.identity, identity)
        ):
            raise FileError(CHANGED)

    def _connection(self) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._new()
        try:
            connection.ftp.voidcmd("NOOP")
        except Exception:  # the server has closed it
            _close(connection)
            return self._new()
        return connection

    def _new(self) -> Any:
        return type(self.fs)(*self.fs.storage_args, **self.fs.storage_options)


def _answer(ftp: Any, command: str) -> str | None:
    """Return the server's answer to a command about a file; None if it lacks the command."""
    from ftplib import error_perm

    try:
        answer = str(ftp.sendcmd(command))
    except error_perm as error:
        if str(error).startswith("50"):
            return None
        raise
    return answer[3:].strip() if answer.startswith("213") else None


def _close(connection: Any) -> None:
    with suppress(Exception):  # nothing of it is wanted any more
        connection.ftp.close()


class _FtpStream:
    def __init__(self, connection: Any, data: Any, idle: list[Any]) -> None:
        self._connection = connection
        self._data = data
        self._idle = idle
        self._ended = False

    def read(self, count: int) -> bytes:
        data = bytearray()
        with storage_errors():
            while len(data) < count and not self._ended:
                some = self._data.recv(count - len(data))
                if not some:
                    self._end()
                data += some
        return bytes(data)

    def _end(self) -> None:
        """Ask the server whether the data is complete or broke off."""
        self._ended = True
        if hasattr(self._data, "unwrap"):
            with suppress(OSError):  # many servers just close it
                self._data.unwrap()
        self._data.close()
        self._connection.ftp.voidresp()
        self._idle.append(self._connection)

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            with suppress(OSError):
                self._data.close()
            _close(self._connection)
