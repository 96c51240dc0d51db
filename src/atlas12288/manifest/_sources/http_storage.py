# SPDX-License-Identifier: Apache-2.0
"""Web servers as storage. Their answers are not trusted: bodies are read up to a bound, nothing is
decompressed, and no redirect to another server is followed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from aiohttp import ClientResponse, ClientSession, ClientTimeout, TraceConfig
from fsspec.asyn import sync

from ..._files import CHANGED, FileError
from ..._subtree import BLOCK_BYTES
from .identities import Info, etag_of
from .source import PAGE_MOST_BYTES, Found
from .storage_errors import is_gone, storage_errors
from .storages import NO_PARTS, ByteStream, ConditionalStorage, Refuse

_OK, _PART, _NOT_FOUND = 200, 206, 404
_PLAIN: Final = {"Accept-Encoding": "identity"}
_PLAIN_ENCODINGS: Final = ("", "identity")
_STREAM_TIMEOUT: Final = ClientTimeout(total=None, sock_connect=60, sock_read=300)
# Kept in an identity in addition to the keys that are compared.
_WITHOUT_PARTS: Final = "\nparts=none"
_HEADERS: Final = ("ETag", "Content-MD5", "Digest", "Last-Modified")
_DIGITS: Final = re.compile(r"[0-9]{1,16}")
_PORTS: Final = {"http": 80, "https": 443}
# Both take linear time in the size of the page: a tag is matched to its end before its content is
# searched.
_TAG: Final = re.compile(r"<a\s[^>]*", re.IGNORECASE)
_HREF: Final = re.compile(r"\shref\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE)
_BARE: Final = re.compile(r"https?://[-a-zA-Z0-9@:%_+.~#?&/=]+")


class ElsewhereError(OSError):
    """A server redirects its client to another one."""


async def guarded_client(**options: Any) -> ClientSession:
    """Return a session for fsspec that follows no redirect to another server."""
    guard = TraceConfig()
    guard.on_request_redirect.append(_refuse_elsewhere)
    return ClientSession(
        **{**options, "trace_configs": [*(options.get("trace_configs") or ()), guard]}
    )


async def _refuse_elsewhere(_: ClientSession, __: SimpleNamespace, what: Any) -> None:
    target = what.response.headers.get("Location") or what.response.headers.get("URI") or ""
    here, there = str(what.url), urljoin(str(what.url), target)
    if _server(there) not in (_server(here), _secured(_server(here))):
        raise ElsewhereError(
            f"is redirected to {there!r}, another server, which is not followed: "
            "to use that server, name it"
        )


def _server(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)


def _secured(server: tuple[str, str, int | None]) -> tuple[str, str, int | None]:
    """Return the same server by https, to which http may redirect."""
    return ("https", server[1], 443) if server[::2] == ("http", 80) else server


class HttpStorage(ConditionalStorage):
    """Web servers: folders are pages with links; each part of a file comes with its ETag.

    A file without a strong ETag, or from a server without range requests, is read as one stream.
    """

    names_folders = True

    def list_folder(self, name: str, refuse: Refuse) -> Iterator[Info]:
        page = self._get(name, None, PAGE_MOST_BYTES + 1, self._page)
        if page is None:
            return
        if len(page) > PAGE_MOST_BYTES:
            raise FileError(f"has a page of more than {PAGE_MOST_BYTES:,} bytes")
        for link in sorted(_links(page.decode("utf-8", "ignore"), name, self.fs.simple_links)):
            yield {"name": link, "size": None, "type": "directory" if link[-1] == "/" else "file"}

    @staticmethod
    def _page(answer: ClientResponse) -> None:
        kind = answer.headers.get("Content-Type", "text/html").partition(";")[0].strip().lower()
        if kind != "text/html":
            raise _NothingError

    def info(self, name: str) -> Info:
        """Return what the headers say; see `Storage.info`. Does not use fsspec's own method, which
        reads more headers from release to release."""

        async def headers(method: str) -> Info:
            answer = await self._answer(name, None, None, method)
            try:
                return _info(name, answer)
            finally:
                answer.release()

        try:
            with storage_errors():
                info: Info = sync(self.fs.loop, headers, "HEAD")
            if info["size"] is not None:
                return info
        except FileError as error:
            if isinstance(error.__cause__, ElsewhereError):
                raise
        with storage_errors():  # some do not support HEAD, or send no size with it
            found: Info = sync(self.fs.loop, headers, "GET")
        return found

    def is_stream(self, found: Found) -> bool:
        return found.size > BLOCK_BYTES and (
            etag_of(found.identity) is None or _WITHOUT_PARTS in found.identity
        )

    def identity(self, info: Info) -> tuple[str, int]:
        text, written_ns = super().identity(info)
        if text and info.get("partial") is False:
            text += _WITHOUT_PARTS
        return text, written_ns

    def require_readable(self, found: Found) -> None:
        return  # a file without a strong ETag is read as one stream

    def _tells_writing(self, found: Found, now: str | None = None) -> bool:
        return True

    def read(self, name: str, start: int, stop: int, found: Found) -> bytes:
        size, etag = found.size, etag_of(found.identity)

        def check(answer: ClientResponse) -> None:
            _check_etag(answer, etag)
            if answer.status != _PART:
                # It sends the whole file: its beginning is wanted, or the size has changed.
                if start > 0:
                    raise FileError(NO_PARTS)
            elif not _is_part(answer.headers.get("Content-Range", ""), start, size):
                raise FileError(CHANGED)

        data = self._get(name, f"bytes={start}-{stop - 1}", stop - start, check)
        assert data is not None
        return data

    def read_empty(self, name: str, found: Found) -> bytes:
        etag = etag_of(found.identity)
        return self._get(name, None, 1, lambda answer: _check_etag(answer, etag)) or b""

    def read_small(self, name: str, most: int) -> bytes | None:
        try:
            return self._get(name, None, most, self._no_page)
        except FileError as error:
            if is_gone(error):
                return None
            raise

    @staticmethod
    def _no_page(answer: ClientResponse) -> None:
        """Refuse a page: many servers answer with one, with status 200, for each missing name."""
        if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise _NothingError

    def open_stream(self, name: str, offset: int, found: Found) -> ByteStream:
        part = f"bytes={offset}-" if offset else None
        with storage_errors():
            answer = sync(self.fs.loop, self._answer, name, part, _STREAM_TIMEOUT)
        stream = _HttpStream(self.fs.loop, answer)
        try:
            _check_etag(answer, etag_of(found.identity))
            if offset and answer.status == _OK:
                left = offset
                while left:
                    some = len(stream.read(min(left, BLOCK_BYTES)))
                    if not some:
                        raise FileError(CHANGED)
                    left -= some
            elif offset and not _is_part(
                answer.headers.get("Content-Range", ""), offset, found.size
            ):
                raise FileError(CHANGED)
        except BaseException:
            stream.close()
            raise
        return stream

    def _get(self, name: str, part: str | None, most: int, check: Any) -> bytes | None:
        """Return at most `most` bytes of the body of an answer; None if `check` rejects it."""

        async def get() -> bytes | None:
            answer = await self._answer(name, part, None)
            try:
                check(answer)
                return await _read(answer, most)
            except _NothingError:
                return None
            finally:
                answer.release()  # closes the connection if bytes are left

        with storage_errors():
            data: bytes | None = sync(self.fs.loop, get)
        return data

    async def _answer(
        self, name: str, part: str | None, timeout: ClientTimeout | None, method: str = "GET"
    ) -> ClientResponse:
        session = await self.fs.set_session()
        options = dict(self.fs.kwargs)
        headers = {**(options.pop("headers", None) or {}), **_PLAIN}
        if part is not None:
            headers["Range"] = part
        if timeout is not None:
            options.setdefault("timeout", timeout)
        options.setdefault("allow_redirects", True)
        answer: ClientResponse = await session.request(
            method, self.fs.encode_url(name), headers=headers, auto_decompress=False, **options
        )
        try:
            if answer.status == _NOT_FOUND:
                raise FileNotFoundError(name)
            answer.raise_for_status()
            encoding = answer.headers.get("Content-Encoding", "").lower()
            if encoding not in _PLAIN_ENCODINGS:
                raise FileError(f"is sent in the encoding {encoding!r}, which was not asked for")
        except BaseException:
            answer.close()
            raise
        return answer


class _NothingError(Exception):
    """An answer is not the requested file."""


class _HttpStream:
    def __init__(self, loop: Any, answer: ClientResponse) -> None:
        self._loop = loop
        self._answer = answer

    def read(self, count: int) -> bytes:
        with storage_errors():
            return bytes(sync(self._loop, _read, self._answer, count))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._answer.release)


def _info(name: str, answer: ClientResponse) -> Info:
    headers = answer.headers
    size = headers.get("Content-Length", "")
    return {
        "name": name,
        "type": "file",
        "size": int(size) if _DIGITS.fullmatch(size) else None,
        "partial": headers.get("Accept-Ranges", "").strip().lower() != "none",
        **{key: headers[key] for key in _HEADERS if key in headers},
    }


async def _read(answer: ClientResponse, most: int) -> bytes:
    data = bytearray()
    while len(data) < most:
        some = await answer.content.read(most - len(data))
        if not some:
            break
        data += some
    return bytes(data)


def _check_etag(answer: ClientResponse, etag: str | None) -> None:
    """Compare the listed ETag with the ETag of an answer."""
    if etag is not None and answer.headers.get("ETag") != etag:
        raise FileError(CHANGED)


def _is_part(content_range: str, start: int, size: int) -> bool:
    """Return whether it is the part from `start` of a file of this size, which may be unknown."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range.strip())
    return found is not None and int(found[1]) == start and found[2] in (str(size), "*")


def _links(page: str, url: str, bare: bool) -> set[str]:
    """Return the targets of the links of a page that lie below its own URL."""
    links = list(_BARE.findall(page)) if bare else []
    for tag in _TAG.findall(page):
        if (href := _HREF.search(tag)) is not None:
            links.append(html.unescape(next(filter(None, href.groups()), "")))
    base = f"{url.rstrip('/')}/"
    rest = base.partition("://")[2]
    found = set()
    for link in links:
        try:
            target = urljoin(base, link.strip())
        except ValueError:  # such as an invalid port
            continue
        scheme, _, place = target.partition("://")
        # A link may lead from http to https; it is requested like the page.
        if scheme in _PORTS and place.startswith(rest) and place != rest:
            found.add(base + place[len(rest) :])
    return found
